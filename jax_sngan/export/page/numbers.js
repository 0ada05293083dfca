// The generators' measured numbers, one column each.

// What a score's name begins with -> what it is; the longest that fits counts.
const MEANINGS = {
  fcd: "Fréchet distance in a classifier's features; lower is better",
  fid: "Fréchet distance in Inception's features; lower is better",
  fd: "Fréchet distance; lower is better",
  kcd: "kernel distance in a classifier's features; lower is better",
  kid: "kernel distance in Inception's features; lower is better",
  cs: "the Inception Score's formula on a classifier; higher is better",
  is: "Inception Score; higher is better",
  intra: "Fréchet distance within classes, their mean; lower is better",
  precision: "share of images that look real; higher is better",
  recall: "share of real images that are within reach; higher is better",
  density: "how thick images lie around real ones; higher is better",
  coverage: "share of real images with one nearby; higher is better",
  classes: "classes that have 2 % of the images; higher is better",
  smallest_share: "of the images, for the rarest class; higher is better",
  nearest: "distance to the nearest real image; near 0 for copies",
};

const shown = (value) => (typeof value === "number" ? Number(value.toPrecision(4)).toLocaleString("en") : "–");

export function numbers(models, table, origin) {
  const rows = [
    ...names(models, "scores").map((name) => [name, models.map((m) => shown(m.scores[name])), meaning(name)]),
    ...names(models, "metrics").map((name) => [name, models.map((m) => shown(m.metrics[name])), "last in training"]),
    ["training steps", models.map((m) => shown(m.step))],
    ["file, MB", models.map((m) => shown(m.bytes / 1e6))],
    ["against JAX", models.map((m) => m.check.max_abs_error.toExponential(1)), `largest difference of ${models[0].check.latents} images in [−1, 1]`],
  ];
  const head = table.createTHead().insertRow();
  head.append(document.createElement("th"));
  for (const model of models) head.append(cell("td", model.gan, model.name));
  const body = table.createTBody();
  for (const [name, values, note] of rows) body.insertRow().append(cell("th", name, note), ...values.map((v) => cell("td", v)));
  const scored = models.some((m) => Object.keys(m.scores).length);
  origin.textContent =
    (scored ? "Scores were measured on these very checkpoints, by the run itself or by evaluate.py. " : "") +
    "Losses of different GANs can't be compared with each other.";
}

const names = (models, kind) => [...new Set(models.flatMap((m) => Object.keys(m[kind])))];

function meaning(name) {
  const fitting = Object.keys(MEANINGS).filter((start) => name === start || name.startsWith(`${start}_`));
  return MEANINGS[fitting.sort((a, b) => b.length - a.length)[0]];
}

function cell(kind, text, note) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (note) made.append(Object.assign(document.createElement("small"), { textContent: note }));
  if (kind === "th") made.scope = "row";
  return made;
}
