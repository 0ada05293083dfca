// What the page shows, as plain values; the address after # holds it, so that a link shows the same images.

import { UNTRUNCATED } from "./latents.js";

export const REACH = 3; // of a direction, each way: where N(0, 1) reaches along it
export const VIEWS = ["explore", "walk", "scores"];

export const state = {
  shared: { seed: 0, truncation: UNTRUNCATED, label: null, amounts: [] }, // of every image that is not pinned
  pins: new Map(), // cell -> settings of its own, like `shared`
  cell: 0, // the chosen image
  run: 0, // the generator whose image is drawn large
  view: "explore",
  walk: [0, 1], // cells
  position: 0, // on the walk, 0 to 1
};
// label: a class, or null: classes in turn. amounts: moved along each direction.

export const settings = (cell) => state.pins.get(cell) ?? state.shared;
export const pin = (cell) => state.pins.set(cell, structuredClone(state.shared));

const number = (text, low, high, otherwise) => {
  const value = Number(text);
  return text && value >= low && value <= high ? value : otherwise;
};
const whole = (text, low, high, otherwise) => {
  const value = number(text, low, high, otherwise);
  return value === otherwise ? value : Math.floor(value);
};

export const validSeed = (text, otherwise) => whole(text, 0, 2 ** 32 - 1, otherwise);

// limits: how many directions, classes (0 where unconditional), cells and runs there are.
export function readAddress({ directions, classes, cells, runs }) {
  const given = new URLSearchParams(location.hash.slice(1));
  const read = (seed, truncation, label, amounts) => ({
    seed: validSeed(seed, 0),
    truncation: number(truncation, 0.2, UNTRUNCATED, UNTRUNCATED),
    label: whole(label, 0, classes - 1, null),
    amounts: Array.from({ length: directions }, (_, i) => number(amounts[i], -REACH, REACH, 0)),
  });
  const cell = (text, otherwise) => whole(text, 0, cells - 1, otherwise);
  const pins = given
    .getAll("pin")
    .map((text) => text.split(","))
    .filter(([at]) => cell(at, -1) >= 0);
  const walk = (given.get("walk") ?? "").split(",");
  Object.assign(state, {
    shared: read(given.get("seed"), given.get("truncation"), given.get("class"), (given.get("d") ?? "").split(",")),
    pins: new Map(pins.map(([at, ...own]) => [cell(at), read(...own.slice(0, 3), own.slice(3))])),
    cell: cell(given.get("image"), 0),
    run: whole(given.get("run"), 0, runs - 1, 0),
    view: VIEWS.includes(given.get("view")) ? given.get("view") : VIEWS[0],
    walk: [cell(walk[0], 0), cell(walk[1], 1)],
    position: number(given.get("position"), 0, 1, 0),
  });
}

const listed = (amounts) => amounts.map((a) => Number(a.toFixed(3))).join(",");

export function address() {
  const { shared, pins, cell, run, view, walk, position } = state;
  const parts = [`seed=${shared.seed}`];
  if (shared.truncation < UNTRUNCATED) parts.push(`truncation=${shared.truncation}`);
  if (shared.label !== null) parts.push(`class=${shared.label}`);
  if (shared.amounts.some(Boolean)) parts.push(`d=${listed(shared.amounts)}`);
  for (const [at, own] of pins)
    parts.push(`pin=${[at, own.seed, own.truncation, own.label ?? "", listed(own.amounts)]}`);
  if (cell) parts.push(`image=${cell}`);
  if (run) parts.push(`run=${run}`);
  if (view !== VIEWS[0]) parts.push(`view=${view}`);
  parts.push(`walk=${walk}`);
  if (position) parts.push(`position=${position}`);
  return `#${parts.join("&")}`;
}

let timer;
export function writeAddress() {
  clearTimeout(timer);
  timer = setTimeout(() => history.replaceState(null, "", address()), 250); // browsers refuse hundreds a minute
}
