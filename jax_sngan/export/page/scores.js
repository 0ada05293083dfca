// The generators' scores, one column each, by what they are and not by their names in files.

import { $, element } from "./dom.js";
import { inWords } from "./controls.js";

// What a score's name begins with -> what it is called, what it is; the longest that fits counts.
const LOWER = "lower is better";
const HIGHER = "higher is better";
const MEANINGS = {
  fcd: ["Fréchet distance", "in a classifier's features", LOWER],
  fcd_inf: ["Fréchet distance at infinitely many images", "in a classifier's features", LOWER],
  fid: ["Fréchet Inception Distance (FID)", "", LOWER],
  fid_inf: ["FID at infinitely many images", "", LOWER],
  fd: ["Fréchet distance", "in the features of {}", LOWER],
  fd_inf: ["Fréchet distance at infinitely many images", "in the features of {}", LOWER],
  kcd: ["Kernel distance", "in a classifier's features", LOWER],
  kid: ["Kernel Inception Distance (KID)", "", LOWER],
  kd: ["Kernel distance", "in the features of {}", LOWER],
  cs: ["Classifier score", "the Inception Score's formula on a classifier", HIGHER],
  is: ["Inception Score", "", HIGHER],
  score: ["Score", "the Inception Score's formula on {}", HIGHER],
  intra_fcd: ["Fréchet distance within classes", "their mean, in a classifier's features", LOWER],
  intra_fid: ["FID within classes", "their mean", LOWER],
  intra_fd: ["Fréchet distance within classes", "their mean, in the features of {}", LOWER],
  precision: ["Precision", "share of images that look real", HIGHER],
  recall: ["Recall", "share of real images that are within reach", HIGHER],
  density: ["Density", "how thick images lie around real ones", HIGHER],
  coverage: ["Coverage", "share of real images with one nearby", HIGHER],
  classes: ["Classes covered", "those that have 2 % of the images", HIGHER],
  smallest_share: ["Share of the rarest class", "", HIGHER],
  nearest: ["Distance to the nearest real image", "near 0 for copies", ""],
  path_length: ["Path length", "how far features move along the latent space", LOWER],
  modes: ["Modes covered", "", HIGHER],
  high_quality: ["Share of good points", "near enough to a mode", HIGHER],
};
const REAL = { test: "test images", train: "training images" };

const shown = (value) => (typeof value === "number" ? Number(value.toPrecision(4)).toLocaleString("en") : "–");
const count = (text) => Number(text.replace("k", "000")).toLocaleString("en");

// "fcd_5k_test" -> ["Fréchet distance", "in a classifier's features; 5,000 against test images; lower is better"]
function meaning(name) {
  const [, metric, generated, real, standing] = /^(.+?)(?:_\d+k?)??_(\d+k?)_(.+?)(?:_standing(\d+))?$/.exec(name) ?? [
    null,
    name,
  ];
  const fitting = Object.keys(MEANINGS).filter((key) => `${metric}_`.startsWith(`${key}_`));
  const start = fitting.sort((a, b) => b.length - a.length)[0];
  const extractor = start && inWords(metric.slice(start.length + 1));
  const [title, what, better] = MEANINGS[start] ?? [inWords(metric), "", ""];
  const notes = [what.includes("{}") || !extractor ? what.replace("{}", extractor) : `${what}, by ${extractor}`];
  if (generated) notes.push(`${count(generated)} against ${REAL[real] ?? inWords(real)}`);
  if (standing) notes.push(`batch statistics of ${count(standing)} latents`);
  return [title, [...notes, better].filter(Boolean).join("; ")];
}

export function scores(runs) {
  const models = runs.map(({ model }) => model);
  const names = [...new Set(models.flatMap((m) => Object.keys(m.scores)))];
  const rows = [
    ...names.map((name) => [...meaning(name), models.map((m) => shown(m.scores[name]))]),
    ["Training steps", "", models.map((m) => shown(m.step))],
    ["Loss", "", models.map((m) => inWords(m.loss))],
    ["Size of the file", "megabytes", models.map((m) => shown(m.bytes / 1e6))],
    [
      "Difference from JAX",
      `the largest of ${models[0].check.latents} outputs`,
      models.map((m) => m.check.max_abs_error.toExponential(1)),
    ],
  ];
  const head = $("table").createTHead().insertRow();
  const alone = models.length === 1;
  head.append(...(alone ? [element("td")] : []), ...models.map((m) => cell("th", m.gan, m.name, "col")));
  const body = $("table").createTBody();
  for (const [title, note, values] of rows) {
    const name = cell("th", title, note, alone ? "row" : "rowgroup");
    const cells = values.map((value) => cell("td", value));
    // Of several the name stands above its values: a phone is as wide as four numbers.
    if (alone) body.insertRow().append(name, ...cells);
    else {
      name.colSpan = models.length;
      body.insertRow().append(name);
      body.insertRow().append(...cells);
    }
  }
  $("origin").textContent =
    (names.length
      ? "The scores are of these very checkpoints."
      : "No scores of these checkpoints came with the page; sngan evaluate measures them.") +
    ` Everything is computed on this device by ${models[0].runtime}; nothing is sent anywhere.`;
}

function cell(kind, text, note, scope) {
  const made = element(kind, { textContent: text });
  if (note) made.append(element("small", { textContent: note }));
  if (scope) made.scope = scope;
  return made;
}
