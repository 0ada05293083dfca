"""The data sets' official files: names, checksums and addresses, and a download that cannot half succeed."""

import hashlib
import http.client
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from jax_sngan.system.errors import UserError
from jax_sngan.system.files import whole_file

CHUNK = 2**20  # bytes
LARGEST = 2**30  # bytes: no official file comes near
TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class OfficialFile:
    """A file as its authors publish it."""

    name: str
    md5: str
    folders: tuple[str, ...]  # addresses of folders that hold it, the first is tried first
    sha256: str = ""  # where there is no MD5

    @property
    def url(self) -> str:
        """Where to send a person for it."""
        return self.folders[0] + self.name

    @property
    def checksum(self) -> tuple[str, str]:
        """(kind, digits) of the published checksum."""
        return ("MD5", self.md5) if self.md5 else ("SHA256", self.sha256)


_FASHION = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
_CIFAR = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")

# Checksums as published: Fashion-MNIST's README; the CIFAR page; for MNIST the ones that torchvision holds.
_IDX = {
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", _FASHION),
        "train-labels-idx1-ubyte.gz": ("25c81989df183df01b3e8a0aad5dffbe", _FASHION),
        "t10k-images-idx3-ubyte.gz": ("bef4ecab320f06d8554ea6380940ec79", _FASHION),
        "t10k-labels-idx1-ubyte.gz": ("bb300cfdad3c16e7a12a480ee83cd310", _FASHION),
    },
    "mnist": {
        "train-images-idx3-ubyte.gz": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", _MNIST),
        "train-labels-idx1-ubyte.gz": ("d53e105ee54ea40749a09fcbcd1e9432", _MNIST),
        "t10k-images-idx3-ubyte.gz": ("9fb629c4189551a2d022fa330f9573f3", _MNIST),
        "t10k-labels-idx1-ubyte.gz": ("ec29112dd5afa0611ce80d1b7f02629c", _MNIST),
    },
}
IDX = {
    source: {name: OfficialFile(name, md5, folders) for name, (md5, folders) in files.items()}
    for source, files in _IDX.items()
}
# The binary archive comes first, for a download: it holds the same images and is no pickle.
CIFAR = {
    "cifar10": (
        OfficialFile("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", _CIFAR),
        OfficialFile("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", _CIFAR),
    ),
    "cifar100": (
        OfficialFile("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", _CIFAR),
        OfficialFile("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", _CIFAR),
    ),
}


def digest_of(path: Path, kind: str) -> str:
    """A file's checksum of a kind that hashlib knows, in hexadecimal."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as f:
        while chunk := f.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(file: OfficialFile, folder: Path, *, progress: bool = True) -> Path:
    """The file in a folder of ours, downloaded unless it is there and whole.

    Args:
      file: what to fetch.
      folder: where downloads are kept; made if need be.
      progress: show a bar of the bytes.
    Returns:
      its path; its checksum is right, now and whenever it is asked for again.
    Raises:
      UserError: no address gave it, or what came has another checksum. Nothing is left in the folder then.
    """
    target = folder / file.name
    kind, digits = file.checksum
    if target.is_file() and digest_of(target, kind.lower()) == digits:
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{folder} cannot be made for downloads ({e.strerror}); set XDG_CACHE_HOME") from e
    failures = []
    for address in file.folders:
        try:
            _download(address + file.name, target, file.checksum, progress)
            return target
        except UserError as e:
            failures.append(str(e))
        except (OSError, http.client.HTTPException, ValueError) as e:  # URLError and time-outs are OSErrors
            failures.append(f"{address}{file.name}: {' '.join(str(e).split())[:120] or type(e).__name__}")
    raise UserError("; ".join(failures))


def _download(url: str, target: Path, checksum: tuple[str, str], progress: bool) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "jax_sngan"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, whole_file(target) as f:
        expected = int(response.headers.get("Content-Length") or 0)
        kind, digits = checksum
        digest = hashlib.new(kind.lower(), usedforsecurity=False)
        count = 0
        quiet = None if progress else True  # None: only where a person looks on
        with tqdm(total=expected or None, desc=target.name, unit="B", unit_scale=True, disable=quiet) as bar:
            while chunk := response.read(CHUNK):
                f.write(chunk)
                digest.update(chunk)
                count += len(chunk)
                bar.update(len(chunk))
                if count > (expected or LARGEST):
                    break
        if expected and count != expected:
            raise UserError(f"{url}: {count} bytes came of {expected}")
        if digest.hexdigest() != digits:
            raise UserError(f"{url}: wrong checksum, expected {kind} {digits}, got {digest.hexdigest()}")
