// A walk along the great circle between two images: its ends, its position, and each generator's strip.

import { $ } from "./dom.js";
import { isOfPoints, labelOf } from "./generator.js";
import { greatCircle } from "./latents.js";
import { state } from "./state.js";

const SECONDS = 4; // of a walk that is played, each way
const ENDS = ["walk-start", "walk-end"];

export class Walk {
  constructor(runs, changed) {
    [this.runs, this.changed] = [runs, changed];
    this.end = 0; // which end the next chosen image becomes
    this.playing = null;
    $("strips").append(...runs.map(({ view }) => view.strip));
    ENDS.forEach((id, end) => {
      $(id).onclick = () => {
        this.end = end;
        this.show();
      };
    });
    $("walk-position").oninput = () => {
      this.play(false);
      state.position = Number($("walk-position").value);
      changed(true);
    };
    $("walk-play").onclick = () => this.play(!this.playing);
  }

  choose(cell) {
    state.walk[this.end] = cell;
    this.end = 1 - this.end;
    this.changed();
  }

  show() {
    if (state.view !== "walk" && this.playing) this.play(false);
    ENDS.forEach((id, end) => $(id).setAttribute("aria-pressed", String(end === this.end)));
    $("walk-position").value = state.position;
    $("walk-position").setAttribute("aria-valuetext", `${Math.round(100 * state.position)} %`);
    const [a, b] = state.walk.map(labelOf);
    const classes = this.runs.some(({ model: { num_classes: n } }) => n && a % n !== b % n);
    const thing = this.runs.every(isOfPoints) ? "a point" : "an image";
    $("walk-hint").textContent =
      `Choose ${thing} for the ${this.end ? "end" : "start"} of the walk.` +
      (classes ? " The class changes half-way." : "");
  }

  // The images at shares of the way; the class is that of the nearer end.
  async at({ generator }, shares) {
    const [a, b] = state.walk.map((cell) => generator.latent(cell));
    const latents = shares.map((share) => greatCircle(a, b, share));
    const labels = shares.map((share) => labelOf(state.walk[share > 0.5 ? 1 : 0]));
    return [latents, await generator.outputs(latents, labels)];
  }

  async here() {
    await Promise.all(
      this.runs.map(async (run) => {
        const [latents, [image]] = await this.at(run, [state.position]);
        run.view.drawWalk(null, image, latents);
      }),
    );
  }

  async whole() {
    await Promise.all(
      this.runs.map(async (run, k) => {
        const count = run.view.frames;
        const shares = Array.from({ length: count }, (_, i) => i / (count - 1));
        const [latents, images] = await this.at(run, [...shares, state.position]);
        run.view.drawWalk(images.slice(0, count), images[count], latents);
        if (k !== state.run) return;
        for (const [end, i] of [0, count - 1].entries())
          run.view.drawSmall($(ENDS[end]).querySelector("canvas"), [images[i]], [latents[i]]);
      }),
    );
  }

  // To the end and back.
  play(on) {
    $("walk-play").setAttribute("aria-pressed", String(on));
    $("walk-play").textContent = on ? "Pause" : "Play";
    this.playing = on ? { since: performance.now() - 1000 * SECONDS * state.position } : null;
    if (on) requestAnimationFrame((now) => this.tick(now));
  }

  tick(now) {
    if (!this.playing) return;
    const phase = ((now - this.playing.since) / (1000 * SECONDS)) % 2;
    state.position = Number((phase < 1 ? Math.max(0, phase) : 2 - phase).toFixed(3));
    this.changed(true);
    requestAnimationFrame((later) => this.tick(later));
  }
}
