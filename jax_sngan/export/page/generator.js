// A generator of models.json as the page sees it: its facts, and images for latents.

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

  // latents: arrays [latent_size]; labels: as many numbers -> an ImageData for each.
  async images(latents, labels) {
    const { latent_size: size, image_size: side, num_classes: classes } = this.model;
    const flat = new Float32Array(latents.length * size);
    latents.forEach((z, i) => flat.set(z, i * size));
    const chosen = classes ? Int32Array.from(labels, (label) => label % classes) : null;
    const pixels = await this.ask("draw", { latents: flat, labels: chosen }, [flat.buffer]);
    const bytes = side * side * 4;
    return latents.map((_, i) => new ImageData(pixels.slice(i * bytes, (i + 1) * bytes), side, side));
  }
}
