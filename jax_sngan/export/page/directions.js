// The pad and a slider for each direction, with a thumbnail at each end of what the chosen image becomes there.

import { $, element } from "./dom.js";
import { labelOf } from "./generator.js";
import { REACH, settings, state } from "./state.js";

const signed = (x) => (x > 0 ? "+" : x < 0 ? "−" : "") + Math.abs(x).toFixed(1);
const clamp = (x) => Math.min(REACH, Math.max(-REACH, x));
const amounts = () => settings(state.cell).amounts;

export class Directions {
  constructor(count, changed) {
    this.changed = changed;
    this.rows = Array.from({ length: count }, (_, i) => this.row(i));
    this.listen(count > 1);
    $("centre").onclick = () => {
      amounts().fill(0);
      changed();
    };
  }

  row(i) {
    const input = element("input", { type: "range", min: -REACH, max: REACH, step: 0.05 });
    input.setAttribute("aria-label", `Direction ${i + 1}`);
    const set = (value) => {
      amounts()[i] = value;
      this.changed();
    };
    input.oninput = () => set(Number(input.value));
    input.ondblclick = () => set(0);
    // A thumbnail leads to its end, as the keys Home and End do on the slider.
    const ends = [-REACH, REACH].map((end) => element("canvas", { className: "thumbnail", onclick: () => set(end) }));
    for (const end of ends) end.setAttribute("aria-hidden", "true");
    $("sliders").append(element("div", { className: "direction" }, ends[0], input, ends[1]));
    return { input, ends };
  }

  // Across is the first direction, up the second.
  listen(two) {
    const set = (x, y) => {
      amounts()[0] = clamp(x);
      if (two) amounts()[1] = clamp(y);
      this.changed();
    };
    const pad = $("pad");
    const follow = (event) => {
      const box = pad.getBoundingClientRect();
      set(
        ((event.clientX - box.left) / box.width - 0.5) * 2 * REACH,
        (0.5 - (event.clientY - box.top) / box.height) * 2 * REACH,
      );
    };
    pad.onpointerdown = (event) => {
      pad.setPointerCapture(event.pointerId);
      follow(event);
    };
    pad.onpointermove = (event) => {
      if (pad.hasPointerCapture(event.pointerId)) follow(event);
    };
    pad.onkeydown = (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
      const [x, y = 0] = amounts();
      const step = event.shiftKey ? 1 : 0.25;
      if (event.key === "Home") set(0, 0);
      else if (event.key in steps) set(x + step * steps[event.key][0], y + step * steps[event.key][1]);
      else return;
      event.preventDefault(); // the panel would scroll
    };
  }

  show() {
    this.rows.forEach(({ input }, i) => {
      input.value = amounts()[i];
      input.setAttribute("aria-valuetext", signed(amounts()[i]));
    });
    const [x, y = 0] = amounts();
    $("dot").style.left = `${(100 * (x + REACH)) / (2 * REACH)}%`;
    $("dot").style.top = `${(100 * (REACH - y)) / (2 * REACH)}%`;
    $("pad").setAttribute("aria-valuenow", x.toFixed(1));
    $("pad").setAttribute("aria-valuetext", `across ${signed(x)}, up ${signed(y)}`);
    $("centre").disabled = !amounts().some(Boolean);
  }

  async thumbnails({ generator, view }) {
    const cells = view.sample();
    const own = settings(state.cell);
    const ends = this.rows.flatMap((row, i) =>
      row.ends.map((canvas, k) => ({ canvas, own: { ...own, amounts: own.amounts.with(i, k ? REACH : -REACH) } })),
    );
    const latents = ends.flatMap((end) => cells.map((cell) => generator.latent(cell, end.own)));
    const outputs = await generator.outputs(
      latents,
      ends.flatMap(() => cells.map(labelOf)),
    );
    ends.forEach(({ canvas }, k) => {
      const part = [k * cells.length, (k + 1) * cells.length];
      view.drawSmall(canvas, outputs.slice(...part), latents.slice(...part));
    });
  }
}
