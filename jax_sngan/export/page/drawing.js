// Redraws the newest state whenever something changed, one redraw at a time: what is overtaken is never computed.

import { $ } from "./dom.js";
import { labelOf } from "./generator.js";
import { state } from "./state.js";

const BUDGET = 45; // milliseconds for a grid: a change waits for the one that is being drawn, and is then drawn itself
const SIDES = [6, 5, 4]; // of the grid
const REST = 120; // milliseconds without a change: then thumbnails or the whole walk follow

// As many images as a redraw has time for, by the slowest generator. The first run prepares it and is not counted.
async function fitting(runs) {
  const four = [0, 1, 2, 3];
  const once = ({ generator }) =>
    generator.outputs(
      four.map((cell) => generator.latent(cell)),
      four,
    );
  await Promise.all(runs.map(once));
  let each = Infinity;
  for (let i = 0; i < 3; i++) {
    const before = performance.now();
    await Promise.all(runs.map(once));
    each = Math.min(each, (performance.now() - before) / 4);
  }
  return SIDES.find((side) => side * side * each < BUDGET) ?? SIDES.at(-1);
}

export class Drawing {
  // runs: {generator, view} each; fail(error): tells it.
  constructor(runs, directions, walk, fail) {
    Object.assign(this, { runs, directions, walk, fail });
    this.changedAt = 0; // when the oldest change that is not drawn yet was made
    this.onlyWalk = true;
    this.drawing = false;
    this.excess = 0;
  }

  async measure() {
    this.side = await fitting(this.runs);
  }

  changed(onlyWalk = false) {
    this.changedAt ||= performance.now();
    this.onlyWalk &&= onlyWalk;
    if (!this.drawing) this.draw().catch(this.fail);
  }

  async draw() {
    this.drawing = true;
    $("stage").ariaBusy = "true";
    while (this.changedAt) {
      const [began, onlyWalk] = [this.changedAt, this.onlyWalk];
      [this.changedAt, this.onlyWalk] = [0, true];
      if (onlyWalk) await this.walk.here();
      else {
        const drawn = await this.grids();
        performance.clearMeasures("redraw");
        const { duration } = performance.measure("redraw", { start: began });
        $("speed").textContent = `${drawn.toLocaleString("en")} drawn in ${Math.round(duration)} ms`;
        this.rest();
      }
      await new Promise(requestAnimationFrame);
    }
    this.drawing = false;
    $("stage").ariaBusy = "false";
  }

  async grids() {
    const [began, side] = [performance.now(), this.side];
    const drawn = await Promise.all(
      this.runs.map(async ({ generator, view }, k) => {
        const cells = view.cells(side);
        const latents = cells.map((cell) => generator.latent(cell));
        const outputs = await generator.outputs(latents, cells.map(labelOf));
        view.draw(outputs, side, latents);
        if (k === state.run) view.drawLarge($("large"), outputs);
        return cells.length;
      }),
    );
    this.adapt(performance.now() - began);
    return drawn.reduce((a, b) => a + b);
  }

  // A grid that is too slow three times, or nearly so, becomes smaller: the machine has other work, or it was misjudged.
  adapt(took) {
    this.excess = Math.max(0, this.excess + (took > BUDGET ? 1 : -2));
    if (this.excess < 3 || this.side === SIDES.at(-1)) return;
    this.excess = 0;
    this.side = SIDES[SIDES.indexOf(this.side) + 1];
  }

  // What belongs to the open tab and need not follow every move.
  rest() {
    clearTimeout(this.settle);
    this.settle = setTimeout(() => {
      if (state.view === "explore") this.directions.thumbnails(this.runs[state.run]).catch(this.fail);
      if (state.view === "walk") this.walk.whole().catch(this.fail);
    }, REST);
  }
}
