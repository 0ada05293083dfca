// The generators' measured numbers, one column each.

const shown = (value) => (typeof value === "number" ? Number(value.toPrecision(4)).toLocaleString("en") : "–");

export function numbers(models, table, origin) {
  const rows = [
    ...names(models, "scores").map((name) => [name, models.map((m) => shown(m.scores[name]))]),
    ...names(models, "metrics").map((name) => [`${name}, last in training`, models.map((m) => shown(m.metrics[name]))]),
    ["training steps", models.map((m) => shown(m.step))],
    ["file, MB", models.map((m) => shown(m.bytes / 1e6))],
    [
      `largest difference to JAX, ${models[0].check.latents} images`,
      models.map((m) => m.check.max_abs_error.toExponential(1)),
    ],
  ];
  const head = table.createTHead().insertRow();
  head.append(document.createElement("th"));
  for (const model of models) head.append(cell("td", model.name));
  const body = table.createTBody();
  for (const [name, values] of rows) body.insertRow().append(cell("th", name), ...values.map((v) => cell("td", v)));
  const scored = models.some((m) => Object.keys(m.scores).length);
  origin.textContent =
    (scored ? "Scores are evaluate.py's, of the very checkpoints. " : "") +
    "Losses of different GANs can't be compared with each other.";
}

const names = (models, kind) => [...new Set(models.flatMap((m) => Object.keys(m[kind])))];

function cell(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (kind === "th") made.scope = "row";
  return made;
}
