// Pad, sliders, truncation, class and seed: each changes the state and asks for a redraw.

import { UNTRUNCATED } from "./latents.js";
import { REACH, address, state, validSeed } from "./state.js";

const $ = (id) => document.getElementById(id);
const signed = (x) => (x > 0 ? "+" : x < 0 ? "−" : "") + Math.abs(x).toFixed(1);
const clamp = (x) => Math.min(REACH, Math.max(-REACH, x));
const axes = [0, 1]; // the pad's two directions

export function controls(models, redraw) {
  const count = state.amounts.length;
  const sliders = Array.from({ length: count }, (_, i) => addSlider(i, redraw));
  pad(redraw);

  for (const [k, id] of ["axis-x", "axis-y"].entries()) {
    $(id).append(...sliders.map((_, i) => new Option(i + 1, i)));
    axes[k] = Math.min(k, count - 1);
    $(id).value = axes[k];
    $(id).onchange = () => {
      axes[k] = Number($(id).value);
      show();
    };
  }
  $("centre").onclick = () => {
    state.amounts.fill(0);
    redraw();
  };
  $("truncation").oninput = () => {
    state.truncation = Number($("truncation").value);
    redraw();
  };
  const classes = Math.max(...models.map((m) => m.num_classes));
  if (classes) {
    const names = models.find((m) => m.num_classes === classes).class_names;
    $("class").append(new Option("all, in turn", ""));
    for (let k = 0; k < classes; k++) $("class").append(new Option(names ? names[k].replaceAll("_", " ") : `class ${k}`, k));
    $("class-row").hidden = false;
    $("class").onchange = () => {
      state.label = $("class").value === "" ? null : Number($("class").value);
      redraw();
    };
  }
  $("seed").onchange = () => {
    state.seed = validSeed($("seed").value, state.seed);
    redraw();
  };
  $("new-seed").onclick = () => {
    state.seed = Math.floor(Math.random() * 1e6);
    redraw();
  };
  $("panel").onsubmit = (event) => event.preventDefault(); // Enter in the seed's field
  $("share").onclick = share;

  function show() {
    sliders.forEach(({ input, output }, i) => {
      input.value = state.amounts[i];
      output.value = signed(state.amounts[i]);
    });
    const [x, y] = axes.map((i) => state.amounts[i]);
    $("dot").style.left = `${(100 * (x + REACH)) / (2 * REACH)}%`;
    $("dot").style.top = `${(100 * (REACH - y)) / (2 * REACH)}%`;
    $("pad").setAttribute("aria-valuenow", x.toFixed(1));
    $("pad").setAttribute("aria-valuetext", `across ${signed(x)}, up ${signed(y)}`);
    $("truncation").value = state.truncation;
    $("truncation-value").value = state.truncation < UNTRUNCATED ? `±${state.truncation.toFixed(2)}` : "off";
    $("class").value = state.label ?? "";
    if (document.activeElement !== $("seed") || $("seed").value === "") $("seed").value = state.seed;
    else if (validSeed($("seed").value, -1) !== state.seed) $("seed").value = state.seed;
  }
  return show;
}

function addSlider(i, redraw) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "range", min: -REACH, max: REACH, step: 0.05 });
  const output = document.createElement("output");
  input.setAttribute("aria-label", `Direction ${i + 1}`);
  label.append(String(i + 1), input, output);
  $("sliders").append(label);
  input.oninput = () => {
    state.amounts[i] = Number(input.value);
    redraw();
  };
  return { input, output };
}

function pad(redraw) {
  const set = (x, y) => {
    state.amounts[axes[0]] = clamp(x);
    state.amounts[axes[1]] = clamp(y);
    redraw();
  };
  const follow = (event) => {
    const box = $("pad").getBoundingClientRect();
    set(((event.clientX - box.left) / box.width - 0.5) * 2 * REACH, (0.5 - (event.clientY - box.top) / box.height) * 2 * REACH);
  };
  $("pad").onpointerdown = (event) => {
    $("pad").setPointerCapture(event.pointerId);
    follow(event);
  };
  $("pad").onpointermove = (event) => {
    if ($("pad").hasPointerCapture(event.pointerId)) follow(event);
  };
  $("pad").onkeydown = (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    const [x, y] = axes.map((i) => state.amounts[i]);
    const step = event.shiftKey ? 1 : 0.25;
    if (event.key === "Home") set(0, 0);
    else if (event.key in steps) set(x + step * steps[event.key][0], y + step * steps[event.key][1]);
    else return;
    event.preventDefault(); // the page would scroll
  };
}

async function share() {
  history.replaceState(null, "", address());
  try {
    await navigator.clipboard.writeText(location.href);
    $("status").textContent = "The link is copied: it shows these very images.";
  } catch {
    $("status").textContent = "Copy the address of this page: it shows these very images."; // no clipboard without https
  }
}
