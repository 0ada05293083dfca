// Latents from a seed: the same in every browser, each coordinate from (seed, cell, coordinate) alone.

// A mixer of 32 bits (the finaliser of MurmurHash3).
function mix(x) {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

// Uniform in (0, 1), never an end of it.
function uniform(seed, cell, coordinate) {
  const key = mix(mix(seed + 0x9e3779b9) ^ mix(cell + 0x7f4a7c15));
  return (mix(key + Math.imul(coordinate + 1, 0x9e3779b9)) + 0.5) / 2 ** 32;
}

const A = [-3.969683028665376e1, 2.209460984245205e2, -2.759285104469687e2, 1.38357751867269e2, -3.066479806614716e1, 2.506628277459239];
const B = [-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1, 1];
const C = [-7.784894002430293e-3, -3.223964580411365e-1, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783];
const D = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1];
const polynomial = (coefficients, x) => coefficients.reduce((sum, c) => sum * x + c, 0);

// The normal distribution's quantile: Acklam's rational approximation, off by less than 1.2e-9 of its value.
export function quantile(p) {
  if (p > 0.5) return -quantile(1 - p);
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p));
    return polynomial(C, q) / polynomial(D, q);
  }
  const q = p - 0.5;
  return (q * polynomial(A, q * q)) / polynomial(B, q * q);
}

// The share of N(0, 1) below x <= 0, by halving.
function below(x) {
  let [low, high] = [1e-12, 0.5];
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    if (quantile(middle) < x) low = middle;
    else high = middle;
  }
  return low;
}

export const UNTRUNCATED = 3; // the slider's end: from there on nothing is cut off

// Float64Array [size] from N(0, 1) cut off at +-truncation (Brock et al. 2019, the truncation trick).
export function latent(seed, cell, size, truncation) {
  const cut = truncation >= UNTRUNCATED ? 0 : below(-truncation);
  return Float64Array.from({ length: size }, (_, i) => quantile(cut + (1 - 2 * cut) * uniform(seed, cell, i)));
}

// z moved by amounts[i] along directions[i].
export function moved(z, directions, amounts) {
  const out = Float64Array.from(z);
  directions.forEach((direction, k) => {
    if (amounts[k]) for (let i = 0; i < out.length; i++) out[i] += amounts[k] * direction[i];
  });
  return out;
}

// A share of the way from a to b along the great circle (Shoemake 1985), as sample.py walks.
export function greatCircle(a, b, share) {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  const angle = Math.acos(Math.min(1, Math.max(-1, ab / Math.sqrt(aa * bb))));
  if (!(angle > 1e-6)) return Float64Array.from(a); // the same image twice
  const [p, q] = [Math.sin((1 - share) * angle) / Math.sin(angle), Math.sin(share * angle) / Math.sin(angle)];
  return a.map((x, i) => p * x + q * b[i]);
}
