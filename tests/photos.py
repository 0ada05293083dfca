"""Makes a folder of 64 garments, for pages whose reader has images of their own: python tests/photos.py FOLDER."""

import sys
from pathlib import Path

from PIL import Image

import jax_sngan

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir()
    images = jax_sngan.load_data("fashion", image_size=28, channels=1).images
    for i in range(64):
        Image.fromarray(images[i, :, :, 0]).save(folder / f"{i}.png")
