"""Environment variables: those that a compiler without its device wants, and those that keep it silent elsewhere."""

import os
import sys
from collections.abc import MutableMapping
from importlib.util import find_spec
from pathlib import Path

# Without these libtpu looks for its chips in the metadata of a cloud machine, and tells on stderr that there are none.
# The names of a type and a host are looked at before the chips are; which they are changes nothing.
NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # a second process need not wait for a chip that is not there
}
# The CUDA plugin asks for NVIDIA's libraries before it is asked for anything; jax prints the traceback.
NO_GPU = {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
COMPILER = NO_TPU | NO_GPU | {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "TPU_MIN_LOG_LEVEL": "3"}

# jax sets them at its import, TPU or not: that it found no chip, and where libtpu is.
_OF_JAX = {"TPU_SKIP_MDS_QUERY", "TPU_LIBRARY_PATH"}

_GPU_DEVICES = ("dev/nvidia0", "dev/nvidiactl", "dev/dxg")  # a machine's own, a container's, WSL's
_GOOGLE = "0x1ae0"  # PCI vendor of TPUs, and of a cloud machine's disks and network cards
_DISK, _NETWORK = "0x01", "0x02"  # PCI base classes


def quiet_compilers(environment: MutableMapping[str, str] = os.environ, root: Path = Path("/")) -> None:
    """Keeps the compilers of the extra `aot` silent in a process that only computes.

    For a compiler that is installed and whose device this machine lacks; a GPU or TPU is found and used as ever.
    Nothing is changed where JAX_PLATFORMS says what to look for, and no variable that is set. To be called before
    jax's first use of a device.

    Args:
      root: where dev/ and sys/ are.
    """
    if sys.platform != "linux" or "JAX_PLATFORMS" in environment:
        return
    if find_spec("jax_plugins") and not has_gpu(root):
        _add(environment, NO_GPU)
    told_of_tpu = any(name.startswith(("TPU_", "JAX_FORCE_TPU")) for name in environment.keys() - _OF_JAX)
    if find_spec("libtpu") and not told_of_tpu and not has_tpu(root):
        _add(environment, NO_TPU)


def has_gpu(root: Path = Path("/")) -> bool:
    """Whether this machine has an NVIDIA GPU, as jax asks it: by its device files."""
    return any((root / name).exists() for name in _GPU_DEVICES)


def has_tpu(root: Path = Path("/")) -> bool:
    """Whether a device of Google's that is neither disk nor network card is on the PCI bus."""
    for vendor in (root / "sys/bus/pci/devices").glob("*/vendor"):
        if vendor.read_text().strip() == _GOOGLE:
            kind = vendor.with_name("class").read_text().strip()
            if not kind.startswith((_DISK, _NETWORK)):
                return True
    return False


def _add(environment: MutableMapping[str, str], variables: dict[str, str]) -> None:
    for name, value in variables.items():
        environment.setdefault(name, value)
