// A generator of models.json as the page sees it: its facts, and what it makes of latents.

import { latent, moved } from "./latents.js";
import { settings } from "./state.js";

export class Generator {
  constructor(model) {
    this.model = model;
    this.waiting = new Map();
    this.calls = 0;
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if (data.error) reject(new Error(data.error));
      else resolve(data.result);
    };
    this.worker.onerror = (event) => {
      for (const { reject } of this.waiting.values())
        reject(new Error(event.message || "its program could not be loaded"));
      this.waiting.clear();
    };
  }

  ask(kind, rest, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = this.calls++;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, kind, ...rest }, transfer);
    });
  }

  load() {
    return this.ask("load", { model: this.model });
  }

  // The latent [latent_size] of an image of the grid, under settings as state.js has them.
  latent(cell, { seed, truncation, amounts } = settings(cell)) {
    return moved(latent(seed, cell, this.model.latent_size, truncation), this.model.directions, amounts);
  }

  // latents: arrays [latent_size]; labels: as many numbers -> an ImageData for each, or of points [x, y] for each.
  async outputs(latents, labels) {
    const { latent_size: size, image_size: side, num_classes: classes, channels } = this.model;
    const flat = new Float32Array(latents.length * size);
    latents.forEach((z, i) => flat.set(z, i * size));
    const chosen = classes ? Int32Array.from(labels, (label) => label % classes) : null;
    const values = await this.ask("draw", { latents: flat, labels: chosen }, [flat.buffer]);
    if (channels === 2) return latents.map((_, i) => [values[2 * i], values[2 * i + 1]]);
    const bytes = side * side * 4;
    return latents.map((_, i) => new ImageData(values.slice(i * bytes, (i + 1) * bytes), side, side));
  }
}

export const isOfPoints = ({ model }) => model.channels === 2; // a generator, or a run that has one

// The class of an image: its own, or classes in turn.
export const labelOf = (cell) => settings(cell).label ?? cell;
