"""Small image files and archives of every kind, and load() as the tests of the data sources call it."""

import functools
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jax_sngan.data import datasets
from jax_sngan.system import downloads
from jax_sngan.system.errors import UserError

load = functools.partial(datasets.load_data, image_size=8, channels=3, progress=False)


@pytest.fixture(name="own_cache", autouse=True)
def only_our_cache(tmp_path_factory, monkeypatch):
    """In a file that imports it no test sees or leaves anything in the real cache, or reaches a network."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("no_proxy", "*")
    for official in ("IDX", "CIFAR"):
        files = getattr(downloads, official)
        closed = {
            source: {k: moved(f, "http://127.0.0.1:9/") for k, f in own.items()}
            if isinstance(own, dict)
            else tuple(moved(f, "http://127.0.0.1:9/") for f in own)
            for source, own in files.items()
        }
        monkeypatch.setattr(downloads, official, closed)
    return cache / "jax_sngan"


def moved(file, *folders_of_it, md5=None):
    """An official file that is to be had elsewhere."""
    return downloads.OfficialFile(file.name, md5 or file.md5, folders_of_it)


def refusal(*args, **kwargs) -> str:
    """The one line that load refuses with."""
    with pytest.raises(UserError) as error:
        load(*args, **kwargs)
    line = str(error.value)
    assert line.isprintable(), line
    assert len(line) < 700
    return line


def noise(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def encoded(image: np.ndarray, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def left_over(folder: Path) -> list[str]:
    """Files of any name below a folder, half-written ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def tar_bytes(files: dict[str, bytes], mode="w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def zip_bytes(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


PACKERS = {
    "tar": functools.partial(tar_bytes, mode="w"),
    "tar.gz": tar_bytes,
    "tgz": tar_bytes,
    "tar.xz": functools.partial(tar_bytes, mode="w:xz"),
    "tar.bz2": functools.partial(tar_bytes, mode="w:bz2"),
    "zip": zip_bytes,
}


WHOLE_PNG, WHOLE_JPEG = encoded(noise(64, 64, 3)), encoded(noise(64, 64, 3), "JPEG")
