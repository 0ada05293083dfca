// A generator's images: their grid with its marks, the large image, and a strip of the walk.

import { listen } from "./choosing.js";
import { element, picture, resize } from "./dom.js";
import { state } from "./state.js";

const GAP = 1; // pixels between two images of a grid or a strip

export class Gallery {
  frames = 9; // of a walk

  // choose: as choosing.js.
  constructor(model, heading, choose) {
    this.model = model;
    this.side = 6;
    this.canvas = picture(`${model.name}: a grid of images; arrow keys choose one`, {
      tabIndex: 0,
      className: "images",
    });
    this.marks = element("div", { className: "marks" });
    this.card = element(
      "article",
      { className: "card" },
      ...heading(),
      element("div", { className: "grid" }, this.canvas, this.marks),
    );
    this.here = picture(`${model.name}: the image at this position of the walk`, { className: "here" });
    this.row = picture(`${model.name}: the walk, image by image`, { className: "frames" });
    this.strip = element("div", { className: "strip" }, ...heading(), this.here, this.row);
    const place = (share) => Math.min(this.side - 1, Math.max(0, Math.floor(share * this.side)));
    const step = (right, down) => {
      const cell = state.cell + right + down * this.side;
      return cell >= 0 && cell < this.side ** 2 ? cell : undefined;
    };
    listen(this.canvas, choose, (across, down) => place(down) * this.side + place(across), step);
  }

  // The cells to compute for a grid of side x side; the chosen one may lie outside, in a link from a faster machine.
  cells(side) {
    const inside = Array.from({ length: side * side }, (_, i) => i);
    return state.cell < inside.length ? inside : [...inside, state.cell];
  }

  // What stands for an image in a thumbnail.
  sample() {
    return [state.cell];
  }

  draw(images, side) {
    this.side = side;
    tile(this.canvas, images.slice(0, side * side), side);
    this.mark();
  }

  // The chosen image as the pad's; `images` are those of cells().
  drawLarge(canvas, images) {
    this.drawSmall(canvas, [images[Math.min(state.cell, images.length - 1)]]);
  }

  drawSmall(canvas, [image]) {
    resize(canvas, image.width, image.height).putImageData(image, 0, 0);
  }

  // frames: null while only the position changes.
  drawWalk(frames, here) {
    if (frames) tile(this.row, frames, frames.length);
    this.drawSmall(this.here, [here]);
  }

  mark() {
    const { image_size: size } = this.model;
    const whole = this.side * (size + GAP) - GAP;
    const percent = (pixels) => `${(100 * pixels) / whole}%`;
    const at = (cell, className, word = "") => {
      const made = element("span", { className }, word && element("b", { textContent: word }));
      const [row, column] = [Math.floor(cell / this.side), cell % this.side];
      Object.assign(made.style, {
        left: percent(column * (size + GAP)),
        top: percent(row * (size + GAP)),
        width: percent(size),
        height: percent(size),
      });
      return made;
    };
    const walking = state.view === "walk";
    const made = [...state.pins.keys()].map((cell) => [cell, "pinned"]);
    if (walking) state.walk.forEach((cell, end) => made.push([cell, "walked", end ? "end" : "start"]));
    made.push([state.cell, walking ? "cursor" : "chosen"]);
    this.marks.replaceChildren(...made.filter(([cell]) => cell < this.side ** 2).map((mark) => at(...mark)));
  }
}

// Images side by side on a canvas, `columns` in a row.
function tile(canvas, images, columns) {
  const size = images[0].width + GAP;
  const context = resize(canvas, columns * size - GAP, Math.ceil(images.length / columns) * size - GAP);
  images.forEach((image, i) => context.putImageData(image, (i % columns) * size, Math.floor(i / columns) * size));
}
