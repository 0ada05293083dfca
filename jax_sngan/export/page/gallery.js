// A generator's card: its grid, the chosen image, its facts; and its strip of the walk.

import { state } from "./state.js";

const GAP = 2; // pixels between two images of a grid or a strip

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

export class Gallery {
  constructor(model, alone, onchange) {
    this.model = model;
    this.side = 6;
    this.onchange = onchange;
    this.grid = element("canvas", { tabIndex: 0, className: "images" });
    this.grid.setAttribute("role", "img");
    this.grid.setAttribute("aria-label", `${model.name}: grid of images; arrow keys choose one`);
    this.chosen = element("span", { className: "chosen" });
    this.large = element("canvas", { width: model.image_size, height: model.image_size });
    this.large.setAttribute("role", "img");
    this.large.setAttribute("aria-label", `${model.name}: the chosen image`);
    const button = (text, canvas, what) =>
      element("button", { type: "button", textContent: text, onclick: () => download(canvas, model.name, what) });
    const heading = () => (alone ? [] : [element("h3", { textContent: model.gan }, element("small", { textContent: model.name }))]);
    const facts = [model.gan, `preset ${model.preset}`, `step ${model.step.toLocaleString("en")}`, `loss ${model.loss.replaceAll("_", " ")}`];
    this.card = element(
      "article",
      { className: "card" },
      element("div", {}, ...heading(), element("div", { className: "grid" }, this.grid, this.chosen)),
      element(
        "div",
        { className: "side" },
        this.large,
        element(
          "div",
          { className: "words" },
          element("p", { className: "soft", textContent: facts.join(", ") }),
          button("Image as PNG", this.large, "image"),
          button("Grid as PNG", this.grid, "grid"),
        ),
      ),
    );
    this.here = element("canvas", { width: model.image_size, height: model.image_size, className: "here" });
    this.frames = element("canvas", { className: "frames" });
    for (const [canvas, what] of [[this.here, "the image at this position of the walk"], [this.frames, "the walk, image by image"]]) {
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${model.name}: ${what}`);
    }
    this.strip = element("div", { className: "strip" }, ...heading(), this.here, this.frames);
    this.grid.onclick = (event) => this.pick(event);
    this.grid.onkeydown = (event) => this.step(event);
  }

  pick(event) {
    const box = this.grid.getBoundingClientRect();
    const place = (at, length) => Math.min(this.side - 1, Math.max(0, Math.floor((at / length) * this.side)));
    state.cell = place(event.clientY - box.top, box.height) * this.side + place(event.clientX - box.left, box.width);
    this.onchange();
  }

  step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.side, ArrowDown: this.side }[event.key];
    if (by === undefined) return;
    event.preventDefault(); // the page would scroll
    const cell = state.cell + by;
    if (cell >= 0 && cell < this.side ** 2) {
      state.cell = cell;
      this.onchange();
    }
  }

  drawGrid(images, side, large) {
    this.side = side;
    tile(this.grid, images, side);
    this.large.getContext("2d").putImageData(large, 0, 0);
    const size = this.model.image_size;
    const whole = side * (size + GAP) - GAP;
    const percent = (cells) => `${(100 * cells * (size + GAP)) / whole}%`;
    const extent = `${(100 * size) / whole}%`;
    this.chosen.hidden = state.cell >= side ** 2;
    Object.assign(this.chosen.style, {
      left: percent(state.cell % side), top: percent(Math.floor(state.cell / side)), width: extent, height: extent,
    });
  }

  drawWalk(frames, here) {
    if (frames) tile(this.frames, frames, frames.length);
    if (here) this.here.getContext("2d").putImageData(here, 0, 0);
  }
}

// Images side by side on a canvas, `columns` in a row.
function tile(canvas, images, columns) {
  const size = images[0].width + GAP;
  const [width, height] = [columns * size - GAP, Math.ceil(images.length / columns) * size - GAP];
  if (canvas.width !== width) canvas.width = width; // setting it clears
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  images.forEach((image, i) => context.putImageData(image, (i % columns) * size, Math.floor(i / columns) * size));
}

// The canvas as a PNG, each pixel as a square of whole pixels, at least 512 a side.
function download(canvas, name, what) {
  const scale = Math.max(1, Math.ceil(512 / canvas.width));
  const large = element("canvas", { width: canvas.width * scale, height: canvas.height * scale });
  const context = large.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, large.width, large.height);
  large.toBlob((blob) => {
    const address = URL.createObjectURL(blob);
    element("a", { href: address, download: `${name}_seed${state.seed}_${what}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
}
