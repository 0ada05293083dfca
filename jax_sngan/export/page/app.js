// The page: loads the generators, and redraws the newest state whenever something changed, one redraw at a time.

import { controls } from "./controls.js";
import { Gallery } from "./gallery.js";
import { Generator } from "./generator.js";
import { greatCircle, latent, moved } from "./latents.js";
import { numbers } from "./numbers.js";
import { readAddress, state, writeAddress } from "./state.js";

const $ = (id) => document.getElementById(id);
const FRAMES = 9; // of a walk's strip
const BUDGET = 45; // milliseconds for a grid: a change waits for the one that is being drawn, and is then drawn itself
const SIDES = [6, 5, 4]; // of the grid
// A WebAssembly module of one function: it takes nothing and returns 16 bytes of zeros as a v128.
const RETURNS_A_VECTOR = Uint8Array.from([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 22, 1, 20, 0, 253, 12, ...Array(16).fill(0), 11,
]);

function fail(text) {
  $("message").className = "problem";
  $("message").textContent = text;
  $("message").hidden = false;
}

async function start() {
  if (typeof WebAssembly !== "object") {
    fail("This browser has no WebAssembly, or it is switched off (some do so in a strict or lockdown mode). The generators need it to run here.");
    return;
  }
  if (!WebAssembly.validate(RETURNS_A_VECTOR)) {
    fail("This browser's WebAssembly is too old: it lacks the vector instructions (SIMD, in all browsers since 2023) that the generators need to run here.");
    return;
  }
  const models = await (await fetch("models.json")).json();
  const generators = models.map((model) => new Generator(model));
  const slow = setTimeout(() => {
    $("message").textContent = "Still loading. If nothing follows, this browser may not run WebAssembly in workers.";
  }, 15_000);
  await Promise.all(generators.map((g) => g.load())).finally(() => clearTimeout(slow));

  const directions = Math.min(...models.map((m) => m.directions.length));
  const classes = Math.max(...models.map((m) => m.num_classes));
  readAddress(directions, classes);
  const alone = models.length === 1;
  const galleries = models.map((model) => new Gallery(model, alone, changed));
  if (alone) $("title").textContent = `${models[0].name}: a generator in your browser`;
  document.title = $("title").textContent;
  $("stage").classList.toggle("one", alone);
  $("stage").append(...galleries.map((g) => g.card));
  $("strips").append(...galleries.map((g) => g.strip));
  numbers(models, $("table"), $("origin"));
  $("origin").append(` The generators run here by ${models[0].runtime}.`);
  const show = controls(models, changed);

  const zOf = (model, cell) => moved(latent(state.seed, cell, model.latent_size, state.truncation), model.directions, state.amounts);
  const labelOf = (cell) => state.label ?? cell;

  // As many images as a redraw has time for, by the slowest generator. The first run of each prepares it and is not counted.
  const four = (g) => g.images([0, 1, 2, 3].map((cell) => zOf(g.model, cell)), [0, 1, 2, 3]);
  await Promise.all(generators.map(four));
  let each = Infinity;
  for (let i = 0; i < 3; i++) {
    const before = performance.now();
    await Promise.all(generators.map(four));
    each = Math.min(each, (performance.now() - before) / 4);
  }
  let side = SIDES.find((s) => s * s * each < BUDGET) ?? SIDES.at(-1);

  // A grid that is too slow three times, or nearly so, becomes smaller: the machine has other work, or it was misjudged.
  let excess = 0;
  function adapt(took) {
    excess = Math.max(0, excess + (took > BUDGET ? 1 : -2));
    if (excess < 3 || side === SIDES.at(-1)) return;
    excess = 0;
    side = SIDES[SIDES.indexOf(side) + 1];
  }

  async function drawGrids() {
    const began = performance.now();
    const shown = side;
    const cells = Array.from({ length: shown * shown }, (_, i) => i);
    if (state.cell >= cells.length) cells.push(state.cell);
    await Promise.all(
      generators.map(async (g, k) => {
        const images = await g.images(cells.map((c) => zOf(g.model, c)), cells.map(labelOf));
        galleries[k].drawGrid(images.slice(0, shown * shown), shown, images[Math.min(state.cell, images.length - 1)]);
      }),
    );
    adapt(performance.now() - began);
    return shown * shown;
  }

  async function drawWalk(whole) {
    const [from, to] = state.walk;
    const shares = whole ? Array.from({ length: FRAMES }, (_, i) => i / (FRAMES - 1)) : [];
    shares.push(state.position);
    const label = labelOf(from); // one class all the way
    await Promise.all(
      generators.map(async (g, k) => {
        const [a, b] = [zOf(g.model, from), zOf(g.model, to)];
        const images = await g.images(shares.map((s) => greatCircle(a, b, s)), shares.map(() => label));
        galleries[k].drawWalk(whole ? images.slice(0, FRAMES) : null, images.at(-1));
      }),
    );
  }

  let changedAt = 0; // when the oldest change that is not drawn yet was made
  let walkOnly = true;
  let drawing = false;
  let settle;

  function changed(onlyWalk = false) {
    changedAt ||= performance.now();
    walkOnly &&= onlyWalk === true;
    show();
    showWalk();
    writeAddress();
    if (!drawing) draw().catch((error) => fail(`The generator stopped: ${error.message}`));
  }

  async function draw() {
    drawing = true;
    while (changedAt) {
      const [began, onlyWalk] = [changedAt, walkOnly];
      [changedAt, walkOnly] = [0, true];
      if (onlyWalk) await drawWalk(false);
      else {
        const cells = await drawGrids();
        performance.clearMeasures("redraw");
        const { duration } = performance.measure("redraw", { start: began });
        $("status").textContent = `${cells * models.length} images in ${Math.round(duration)} ms`;
        clearTimeout(settle);
        settle = setTimeout(() => drawWalk(true).catch((error) => fail(error.message)), 120); // once the hand rests
      }
      await new Promise(requestAnimationFrame);
    }
    drawing = false;
  }

  function showWalk() {
    const place = (cell) => `row ${Math.floor(cell / side) + 1}, column ${(cell % side) + 1}`;
    $("walk-ends").textContent = `now from ${place(state.walk[0])} to ${place(state.walk[1])}`;
    $("walk-position").value = state.position;
    $("walk-value").value = `${Math.round(100 * state.position)} %`;
  }

  for (const [id, end] of [["walk-start", 0], ["walk-end", 1]])
    $(id).onclick = () => {
      state.walk[end] = state.cell;
      changed();
    };
  $("walk-position").oninput = () => {
    play(false);
    state.position = Number($("walk-position").value);
    changed(true);
  };

  // To the end and back, four seconds each way.
  let playing = null;
  function play(on) {
    $("walk-play").setAttribute("aria-pressed", String(on));
    $("walk-play").textContent = on ? "Pause" : "Play";
    playing = on ? { since: performance.now() - 4000 * state.position } : null;
    if (on) requestAnimationFrame(tick);
  }
  function tick(now) {
    if (!playing) return;
    const phase = ((now - playing.since) / 4000) % 2;
    state.position = Number((phase < 1 ? phase : 2 - phase).toFixed(3));
    changed(true);
    requestAnimationFrame(tick);
  }
  $("walk-play").onclick = () => play(!playing);

  addEventListener("hashchange", () => {
    readAddress(directions, classes);
    changed();
  });

  $("message").hidden = true;
  $("main").hidden = false;
  changed();
}

start().catch((error) => fail(`The generators could not be loaded: ${error.message}`));
