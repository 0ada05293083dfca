// Choosing an image of a grid or a point of a plane: by mouse, finger and keys.

import { state } from "./state.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// choose(cell, meant): meant by a click, a tap, Enter or Space, and not only passed with an arrow key.
// at(across, down): the cell at shares of the canvas. step(right, down): the cell that an arrow leads to, if any.
export function listen(canvas, choose, at, step) {
  canvas.onclick = (event) => {
    const box = canvas.getBoundingClientRect();
    choose(at((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height), true);
  };
  canvas.onkeydown = (event) => {
    if (event.key === "Enter" || event.key === " ") choose(state.cell, true);
    else if (event.key in ARROWS) {
      const cell = step(...ARROWS[event.key]);
      if (cell !== undefined) choose(cell, false);
    } else return;
    event.preventDefault(); // the panel would scroll
  };
}
