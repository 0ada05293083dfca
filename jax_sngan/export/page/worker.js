// One generator, off the page's own thread: latents in, pixels or points out.

import * as ort from "./ort/ort.js";

ort.env.wasm.numThreads = 1; // threads would need headers that a plain static server does not send
ort.env.wasm.wasmPaths = { wasm: new URL("./ort/ort.wasm", import.meta.url).href };

let session;
let model;

const answers = {
  async load(message) {
    model = message.model;
    session = await ort.InferenceSession.create(new URL(`./models/${model.file}`, import.meta.url).href, {
      executionProviders: ["wasm"],
    });
  },

  // latents Float32Array [n * latent_size], labels Int32Array [n] or null -> RGBA bytes [n, h, w, 4], or of points
  // Float32Array [n, 2].
  async draw({ latents, labels }) {
    const n = latents.length / model.latent_size;
    const feeds = { latents: new ort.Tensor("float32", latents, [n, model.latent_size]) };
    if (labels) feeds.labels = new ort.Tensor("int32", labels, [n]);
    const { images } = await session.run(feeds);
    return model.channels === 2 ? Float32Array.from(images.data) : rgba(images.data, model.channels);
  },
};

// As images.to_uint8 has it: [-1, 1] -> 0 to 255, to the nearest; what lies outside is clipped.
function rgba(values, channels) {
  const pixels = new Uint8ClampedArray((values.length / channels) * 4);
  for (let from = 0, to = 0; from < values.length; from += channels, to += 4) {
    for (let c = 0; c < 3; c++) {
      const value = values[from + (channels === 3 ? c : 0)];
      pixels[to + c] = Math.round((Math.min(1, Math.max(-1, value)) + 1) * 127.5);
    }
    pixels[to + 3] = 255;
  }
  return pixels;
}

self.onmessage = async ({ data }) => {
  try {
    const result = await answers[data.kind](data);
    self.postMessage({ id: data.id, result }, result ? [result.buffer] : []);
  } catch (error) {
    self.postMessage({ id: data.id, error: String(error.message ?? error) });
  }
};
