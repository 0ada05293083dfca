// A generator of points of the plane: the points where they lie, in the colours of the latents that they come from.

import { listen } from "./choosing.js";
import { element, picture, resize } from "./dom.js";
import { REACH, state } from "./state.js";

const EXTENT = 2.2; // the plane is shown from -this to +this
const POINTS = 900;
const FEW = 150; // of a thumbnail
const hue = ([x, y]) => `hsl(${Math.round((180 / Math.PI) * Math.atan2(y, x))} 62% 52%)`;

export class Plane {
  frames = 65; // of a walk

  // choose: as choosing.js.
  constructor(model, heading, choose) {
    this.model = model;
    this.canvas = picture(`${model.name}: points of the plane; arrow keys choose one`, {
      tabIndex: 0,
      className: "images plane",
    });
    this.card = element(
      "article",
      { className: "card" },
      ...heading(),
      element("div", { className: "grid" }, this.canvas),
    );
    this.way = picture(`${model.name}: the walk among the latents`, { className: "here smooth" });
    this.strip = element("div", { className: "strip" }, ...heading(), this.way);
    this.points = [];
    this.path = [];
    const nearest = (across, down) => {
      const [x, y] = [(2 * across - 1) * EXTENT, (1 - 2 * down) * EXTENT];
      const away = this.points.map(([a, b]) => (a - x) ** 2 + (b - y) ** 2);
      return away.indexOf(Math.min(...away));
    };
    listen(this.canvas, choose, nearest, (right, down) => (state.cell + right - down + POINTS) % POINTS);
  }

  cells() {
    return Array.from({ length: POINTS }, (_, i) => i);
  }

  sample() {
    return this.cells().slice(0, FEW);
  }

  draw(points, side, latents) {
    [this.points, this.latents] = [points, latents];
    this.mark();
  }

  // The pad of a plane shows where the latents lie, along its two directions.
  drawLarge(canvas) {
    this.drawLatents(resize(canvas, 400, 400), this.latents, 2.4);
  }

  drawLatents(context, latents, radius, alpha, clear) {
    const along = (z, k) => z.reduce((sum, value, i) => sum + value * (this.model.directions[k]?.[i] ?? 0), 0);
    scatter(
      context,
      latents.map((z) => [along(z, 0), along(z, 1)]),
      latents,
      REACH * 1.5,
      radius,
      alpha,
      clear,
    );
  }

  drawSmall(canvas, points, latents) {
    scatter(resize(canvas, 88, 88), points, latents, EXTENT, points.length > 1 ? 2 : 7);
  }

  // latents: of the frames and, last, of `here`.
  drawWalk(frames, here, latents) {
    if (frames) [this.path, this.ways] = [frames, latents.slice(0, -1)];
    this.here = here;
    this.mark();
    const context = resize(this.way, 600, 600);
    this.drawLatents(context, this.latents, 3.5, 0.25);
    this.drawLatents(context, this.ways ?? [], 4, 0.9, false);
    this.drawLatents(context, latents.slice(-1), 10, 1, false);
  }

  mark() {
    const context = resize(this.canvas, 1000, 1000);
    const walking = state.view === "walk" && this.here;
    scatter(context, this.points, this.latents, EXTENT, 4.5, walking ? 0.25 : 0.9);
    const ring = ([x, y], radius, width, colour = getComputedStyle(this.canvas).color) => {
      context.beginPath();
      context.arc((x / EXTENT + 1) * 500, (1 - y / EXTENT) * 500, radius, 0, 2 * Math.PI);
      Object.assign(context, { lineWidth: width, strokeStyle: colour });
      context.stroke();
    };
    for (const centre of this.model.centres ?? []) ring(centre, 16, 1.5);
    for (const cell of state.pins.keys()) if (this.points[cell]) ring(this.points[cell], 9, 3);
    if (walking) {
      scatter(context, this.path, this.ways, EXTENT, 5, 0.9, false);
      ring(this.here, 14, 5);
    }
    if (this.points[state.cell]) ring(this.points[state.cell], 14, walking ? 2 : 5);
  }
}

// Dots of a colour by latent; places [x, y] within +-extent.
function scatter(context, places, latents, extent, radius, alpha = 0.9, clear = true) {
  const { width, height } = context.canvas;
  if (clear) context.clearRect(0, 0, width, height);
  context.globalAlpha = alpha;
  places.forEach(([x, y], i) => {
    context.beginPath();
    context.arc((x / extent + 1) * (width / 2), (1 - y / extent) * (height / 2), radius, 0, 2 * Math.PI);
    context.fillStyle = hue(latents[i]);
    context.fill();
  });
  context.globalAlpha = 1;
}
