// What the page shows, as plain values; the address after # holds it, so that a link shows the same images.

import { UNTRUNCATED } from "./latents.js";

export const REACH = 3; // of a slider and of the pad, each way: where N(0, 1) reaches along one direction

export const state = {
  seed: 0,
  truncation: UNTRUNCATED,
  label: null, // a class, or null: classes in turn
  amounts: [], // moved along each direction
  cell: 0, // the chosen image of the grid
  walk: [0, 1], // cells
  position: 0, // on the walk, 0 to 1
};

const number = (text, low, high, otherwise) => {
  const value = Number(text);
  return text !== null && text !== "" && value >= low && value <= high ? value : otherwise;
};
const whole = (...given) => Math.floor(number(...given));

export const validSeed = (text, otherwise) => whole(text, 0, 2 ** 32 - 1, otherwise);

// directions: how many; classes: how many, 0 where unconditional.
export function readAddress(directions, classes) {
  const given = new URLSearchParams(location.hash.slice(1));
  const amounts = (given.get("d") ?? "").split(",");
  const walk = (given.get("walk") ?? "").split(",");
  const label = whole(given.get("class"), 0, classes - 1, -1);
  Object.assign(state, {
    seed: validSeed(given.get("seed"), 0),
    truncation: number(given.get("truncation"), 0.2, UNTRUNCATED, UNTRUNCATED),
    label: label < 0 ? null : label,
    amounts: Array.from({ length: directions }, (_, i) => number(amounts[i] ?? "", -REACH, REACH, 0)),
    cell: whole(given.get("image"), 0, 35, 0),
    walk: [whole(walk[0] ?? "", 0, 35, 0), whole(walk[1] ?? "", 0, 35, 1)],
    position: number(given.get("position"), 0, 1, 0),
  });
}

export function address() {
  const { seed, truncation, label, amounts, cell, walk, position } = state;
  const parts = [`seed=${seed}`];
  if (truncation < UNTRUNCATED) parts.push(`truncation=${truncation}`);
  if (label !== null) parts.push(`class=${label}`);
  if (amounts.some(Boolean)) parts.push(`d=${amounts.map((a) => Number(a.toFixed(3))).join(",")}`);
  if (cell) parts.push(`image=${cell}`);
  parts.push(`walk=${walk.join(",")}`);
  if (position) parts.push(`position=${position}`);
  return `#${parts.join("&")}`;
}

let timer;
export function writeAddress() {
  clearTimeout(timer);
  timer = setTimeout(() => history.replaceState(null, "", address()), 250); // browsers refuse hundreds a minute
}
