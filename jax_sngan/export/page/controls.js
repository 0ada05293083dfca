// Tabs, and what is not a direction: class, truncation, seed, pins, saved pictures, the link.

import { $, save } from "./dom.js";
import { isOfPoints, labelOf } from "./generator.js";
import { UNTRUNCATED } from "./latents.js";
import { VIEWS, address, pin, settings, state, validSeed } from "./state.js";

export const inWords = (name) => name.replaceAll("_", " ");
const own = () => settings(state.cell); // of the chosen image: those of all, unless it is pinned

export class Controls {
  constructor(runs, changed) {
    this.runs = runs;
    tabs(changed);
    this.classes(changed);
    $("pin").onclick = () => {
      if (!state.pins.delete(state.cell)) pin(state.cell);
      changed();
    };
    $("truncation").oninput = () => {
      own().truncation = Number($("truncation").value);
      changed();
    };
    $("seed").onchange = () => {
      own().seed = validSeed($("seed").value, own().seed);
      changed();
    };
    $("new-images").onclick = () => {
      state.shared.seed = Math.floor(Math.random() * 1e6);
      changed();
    };
    if (runs.every(isOfPoints)) $("new-images").textContent = "New points";
    const name = (what) => `${this.run.model.name}_seed${own().seed}_${what}.png`;
    $("save-image").onclick = () => save($("large"), name("image"));
    $("save-grid").onclick = () => save(this.run.view.canvas, name("grid"));
    $("panel").onsubmit = (event) => event.preventDefault(); // Enter in the seed's field
    $("share").onclick = share;
  }

  get run() {
    return this.runs[state.run];
  }

  // The names are those of the run with the most classes.
  classes(changed) {
    const most = this.runs.map(({ model }) => model).reduce((a, b) => (b.num_classes > a.num_classes ? b : a));
    for (const part of document.querySelectorAll(".of-class")) part.hidden = !most.num_classes;
    $("class").append(new Option("all, in turn", ""));
    for (let k = 0; k < most.num_classes; k++) $("class").append(new Option(className(most, k), k));
    $("class").onchange = () => {
      own().label = $("class").value === "" ? null : Number($("class").value);
      changed();
    };
  }

  show() {
    for (const view of VIEWS) {
      $(view).hidden = view !== state.view;
      $(`tab-${view}`).setAttribute("aria-selected", String(view === state.view));
      $(`tab-${view}`).tabIndex = view === state.view ? 0 : -1;
    }
    const { model } = this.run;
    const [points, pinned] = [isOfPoints(this.run), state.pins.has(state.cell)];
    const things = points ? "points" : "images";
    const parts = [`${points ? "Point" : "Image"} ${state.cell + 1}`];
    if (model.num_classes) parts.push(className(model, labelOf(state.cell) % model.num_classes));
    if (this.runs.length > 1) parts.unshift(model.gan);
    $("caption").textContent = parts.join(" · ");
    $("mode").textContent = pinned
      ? `Pinned: it changes alone, and keeps still while the others change.`
      : `Drag ${points ? "the latents" : "it"}, or a slider: all ${things} change. Pinned, ${points ? "this point" : "it"} changes alone.`;
    $("save-image").hidden = points;
    $("pin").textContent = pinned ? "Put back" : "Pin it";
    $("pin").setAttribute("aria-pressed", String(pinned));
    $("truncation").value = own().truncation;
    $("truncation-value").value = own().truncation < UNTRUNCATED ? `±${own().truncation.toFixed(2)}` : "off";
    $("class").value = own().label ?? "";
    if (document.activeElement !== $("seed") || validSeed($("seed").value, -1) !== own().seed)
      $("seed").value = own().seed;
  }
}

const className = ({ class_names: names }, k) => (names ? inWords(names[k]) : `class ${k}`);

function tabs(changed) {
  const open = (view, focus) => {
    state.view = view;
    changed();
    if (focus) $(`tab-${view}`).focus();
  };
  for (const view of VIEWS) $(`tab-${view}`).onclick = () => open(view, false);
  $("tabs").onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) open(VIEWS.at((VIEWS.indexOf(state.view) + by) % VIEWS.length), true);
  };
}

async function share() {
  history.replaceState(null, "", address());
  const told = await navigator.clipboard?.writeText(location.href).then(
    () => "Link copied",
    () => null,
  );
  // Without https there is no clipboard.
  $("status").textContent = told
    ? "The link is copied: it shows these very images."
    : "Copy the address of this page: it shows these very images.";
  if (!told) return;
  $("share").textContent = told;
  setTimeout(() => ($("share").textContent = "Copy link"), 2000);
}
