// Elements of the page. What comes from a config or a folder's name goes in as text, never as markup.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A canvas that is read out as a picture.
export function picture(label, properties = {}) {
  const made = element("canvas", properties);
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", label);
  return made;
}

export function resize(canvas, width, height) {
  if (canvas.width !== width) canvas.width = width; // setting it clears
  if (canvas.height !== height) canvas.height = height;
  return canvas.getContext("2d");
}

// The canvas as a PNG, each pixel as a square of whole pixels, at least 512 a side.
export function save(canvas, name) {
  const scale = Math.max(1, Math.ceil(512 / canvas.width));
  const large = element("canvas", { width: canvas.width * scale, height: canvas.height * scale });
  const context = large.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, large.width, large.height);
  large.toBlob((blob) => {
    const address = URL.createObjectURL(blob);
    element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
}
