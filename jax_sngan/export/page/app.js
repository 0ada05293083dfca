// The page: loads the generators, puts the parts together, and starts.

import { Controls, inWords } from "./controls.js";
import { Directions } from "./directions.js";
import { $, element } from "./dom.js";
import { Drawing } from "./drawing.js";
import { Gallery } from "./gallery.js";
import { Generator, isOfPoints } from "./generator.js";
import { Plane } from "./plane.js";
import { scores } from "./scores.js";
import { readAddress, state, writeAddress } from "./state.js";
import { Walk } from "./walk.js";

// A WebAssembly module of one function: it takes nothing and returns 16 bytes of zeros as a v128.
const RETURNS_A_VECTOR = Uint8Array.from([
  0,
  97,
  115,
  109,
  1,
  0,
  0,
  0,
  1,
  5,
  1,
  96,
  0,
  1,
  123,
  3,
  2,
  1,
  0,
  10,
  22,
  1,
  20,
  0,
  253,
  12,
  ...Array(16).fill(0),
  11,
]);

function fail(text) {
  $("message").className = "problem";
  $("message").textContent = text;
  $("message").hidden = false;
}

async function loaded() {
  const models = await (await fetch("models.json")).json();
  const generators = models.map((model) => new Generator(model));
  const slow = setTimeout(() => {
    $("message").textContent = "Still loading. If nothing follows, this browser may not run WebAssembly in workers.";
  }, 15_000);
  await Promise.all(generators.map((g) => g.load())).finally(() => clearTimeout(slow));
  return generators;
}

function title(models) {
  const alone = models.length === 1;
  const steps = ({ step }) => `${step.toLocaleString("en")} training steps`;
  $("title").textContent = alone ? inWords(models[0].name) : `${models.length} generators`;
  const what = alone ? `${models[0].gan}, ${steps(models[0])}` : "Side by side, from the same latents";
  $("subtitle").textContent = `${what}. Computed on your device, as you drag.`;
  document.title = $("title").textContent;
}

async function start() {
  if (typeof WebAssembly !== "object") {
    fail(
      "This browser has no WebAssembly, or it is switched off (some do so in a strict or lockdown mode). The generators need it to run here.",
    );
    return;
  }
  if (!WebAssembly.validate(RETURNS_A_VECTOR)) {
    fail(
      "This browser's WebAssembly is too old: it lacks the vector instructions (SIMD, in all browsers since 2023) that the generators need to run here.",
    );
    return;
  }
  const generators = await loaded();
  const models = generators.map(({ model }) => model);
  title(models);
  const runs = generators.map((generator, k) => {
    const { model } = generator;
    const heading = () =>
      models.length === 1 ? [] : [element("h3", {}, model.gan, element("small", { textContent: model.name }))];
    const View = isOfPoints(generator) ? Plane : Gallery;
    return { model, generator, view: new View(model, heading, (cell, meant) => choose(k, cell, meant)) };
  });
  const limits = {
    directions: Math.min(...models.map((m) => m.directions.length)),
    classes: Math.max(...models.map((m) => m.num_classes)),
    cells: Math.max(...runs.map(({ view }) => view.cells(6).length)),
    runs: runs.length,
  };
  readAddress(limits);

  const directions = new Directions(limits.directions, changed);
  const walk = new Walk(runs, changed);
  const controls = new Controls(runs, changed);
  const drawing = new Drawing(runs, directions, walk, (error) => fail(`The generator stopped: ${error.message}`));

  function changed(onlyWalk = false) {
    for (const part of [directions, walk, controls]) part.show();
    writeAddress();
    drawing.changed(onlyWalk);
  }

  function choose(run, cell, meant) {
    Object.assign(state, { run, cell });
    if (state.view === "walk" && meant) walk.choose(cell);
    else changed();
  }

  const columns = Math.ceil(Math.sqrt(runs.length));
  $("stage").style.setProperty("--columns", columns);
  $("stage").style.setProperty("--rows", Math.ceil(runs.length / columns));
  $("main").classList.toggle("several", runs.length > 1);
  $("main").classList.toggle(
    "fine",
    models.some((m) => m.image_size > 48),
  ); // then drawn smaller than it is
  $("stage").append(...runs.map(({ view }) => view.card));
  scores(runs);
  await drawing.measure();
  addEventListener("hashchange", () => {
    readAddress(limits);
    changed();
  });
  $("message").hidden = true;
  for (const part of ["main", "new-images", "share"]) $(part).hidden = false;
  changed();
}

start().catch((error) => fail(`The generators could not be loaded: ${error.message}`));
