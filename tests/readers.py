"""Each reader of files from elsewhere, called on one file in a process of limited memory and time.

    python tests/readers.py READER FILE BYTES SECONDS

prints one line of JSON: what came of it, in how long, with how much memory.

What a reader may do is give arrays as it promises, or raise UserError. All else ends the process with an error.
"""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SIZE = 8  # pixels a side of what images are decoded to
MEMORY = 2 * 2**30  # bytes of address space beyond what the process has when it begins
SECONDS = 60  # of processor time for one file


def archive(path: Path) -> list[bytes]:
    """Every member, in one pass and, where it can be, at its place."""
    from jax_sngan.data import image_files
    from jax_sngan.system import archives

    found = {n: d for n, d in archives.members(path, lambda _: True, image_files.LARGEST_IMAGE) if d is not None}
    if archives.suffix(path) in archives.RANDOM_ACCESS:
        for name, place in archives.places(path, found.__contains__, image_files.LARGEST_IMAGE).items():
            assert archives.read_at(path, place, name) == found[name]
    return list(found.values())


def image(path: Path) -> list[np.ndarray]:
    """Decoded grey and in colour."""
    from jax_sngan.data import resize

    data = path.read_bytes()
    images = [resize.decode(data, path.name, SIZE, channels) for channels in (1, 3)]
    assert [(i.shape, i.dtype) for i in images] == [((SIZE, SIZE, c), np.uint8) for c in (1, 3)]
    side, channels = resize.size_of(data, path.name)
    assert side > 0
    assert channels in (1, 3)
    return images


def npz(path: Path) -> list[np.ndarray]:
    """All arrays, as of a recording or a network, and images as of a data set."""
    from jax_sngan.system import npz

    npz.read_npz(path, ("images", "x"), ("labels",))
    arrays = list(npz.read_whole_npz(path).values())
    assert all(a.dtype.kind in "biufU" for a in arrays)
    return arrays


def idx(path: Path) -> list[np.ndarray]:
    """Images of the MNIST family."""
    from jax_sngan.data import official

    images = official.read_idx(path, 3)
    assert images.dtype == np.uint8
    assert images.ndim == 3
    return [images]


def cifar(path: Path) -> list[np.ndarray]:
    """A batch that is a pickle."""
    from jax_sngan.data import official

    images, labels = official.read_cifar({path.name: path.read_bytes()}, labels=1, which=0, classes=10)
    assert images.dtype == np.uint8
    assert images.shape == (len(labels), 32, 32, 3)
    assert labels.dtype == np.int32
    assert 0 <= labels.min() <= labels.max() < 10
    return [images, labels]


def torch(path: Path) -> list[np.ndarray]:
    """A state dict."""
    from jax_sngan.interop import torch_file

    return list(torch_file.read(path).values())


def recording(path: Path) -> list[np.ndarray]:
    """A recorded trajectory."""
    from jax_sngan.interop import recording

    return [recording.load_recording(path).sample_latents]


def checkpoint(path: Path) -> list[np.ndarray]:
    """All of RUN/checkpoints/STEP/…, a file of a checkpoint under a manifest that is right."""
    import jax

    from jax_sngan.runs import manifest
    from jax_sngan.runs.checkpoint import Checkpoints

    folder = next(p for p in path.parents if p.parent.name == "checkpoints")
    step = int(folder.name)
    manifest.write(folder, step)
    with Checkpoints(folder.parent.parent) as checkpoints:
        checkpoints.config(step)
        checkpoints.metrics(step)
        checkpoints.unlogged(step)
        checkpoints.rollbacks(step)
        checkpoints.origin(step)
        state = checkpoints.restore(step, checkpoints.choose(step).like)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


READERS: dict[str, Callable[[Path], list[Any]]] = {
    f.__name__: f for f in (archive, image, npz, idx, cifar, torch, recording, checkpoint)
}


class TooLong(BaseException):
    """No reader catches it."""


def limit(memory: int = MEMORY, seconds: float = SECONDS) -> None:
    """From here on this process has so many bytes more, and each call of `outcome` so many seconds."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory,) * 2)

    def end(*_: object) -> None:
        raise TooLong(f"more than {seconds} s")

    signal.signal(signal.SIGPROF, end)


def outcome(read: Callable[[], list[Any]], seconds: float = SECONDS) -> dict[str, Any]:
    """What came of one file: "read" or "refused" with its line; seconds of processor time; bytes at the highest.

    Raises:
      AssertionError: memory ran out, or an error is more than one line.
      Whatever else is not as a reader promises.
    """
    from jax_sngan.system.errors import UserError

    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest starts anew
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    told: dict[str, Any]
    try:
        arrays = read()
        told = {"outcome": "read", "arrays": arrays}
    except UserError as error:
        line = str(error)
        assert line.isprintable(), repr(line)
        assert len(line) < 1500, line
        assert "emory" not in line.replace(str(ROOT), ""), f"memory ran out: {line}"
        told = {"outcome": "refused", "line": line}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    told["seconds"] = round(time.process_time() - began, 2)
    told["bytes"] = max(0, _memory("VmHWM") - before)
    return told


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def in_a_process(reader: str, path: Path, memory: int = MEMORY, seconds: float = SECONDS) -> dict[str, Any]:
    """The outcome of a file in a process of its own.

    Raises:
      AssertionError: the process did not end as it should; the text is what it printed.
    """
    command = [sys.executable, __file__, reader, str(path), str(memory), str(seconds)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20 * seconds)
    assert done.returncode == 0, f"{reader} of {path.name}: exit code {done.returncode}: {done.stderr[-2000:]}"
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def imports(reader: str) -> None:
    """Those of a reader, which are not its files'."""
    from PIL import Image

    import jax_sngan.data.image_files
    import jax_sngan.data.official
    import jax_sngan.interop.torch_file
    import jax_sngan.system.npz

    Image.init()
    if reader in ("recording", "checkpoint"):  # these bring jax, and its threads
        import jax_sngan.interop.recording
        import jax_sngan.runs.checkpoint  # noqa: F401

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # as process.run has it


def main() -> None:
    """One file, as the first lines say."""
    reader, path = READERS[sys.argv[1]], Path(sys.argv[2])
    memory, seconds = int(sys.argv[3]), float(sys.argv[4])
    warnings.simplefilter("ignore")  # Pillow's, of what it then refuses
    imports(sys.argv[1])
    limit(memory, seconds)
    told = outcome(lambda: reader(path), seconds)
    told.pop("arrays", None)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
