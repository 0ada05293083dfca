"""onnxruntime-web, the program that runs ONNX in a browser: from npm, checked, or from a folder that has it."""

import base64
import hashlib
import http.client
import re
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from jax_sngan.system import archives
from jax_sngan.system.cache_folder import cache_folder
from jax_sngan.system.downloads import TIMEOUT
from jax_sngan.system.errors import UserError
from jax_sngan.system.files import whole_file

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# npm's `dist.integrity` of that version.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
TARBALL = f"{PACKAGE}-{VERSION}.tgz"
URL = f"https://registry.npmjs.org/{PACKAGE}/-/{TARBALL}"
LARGEST = 2**27  # bytes, of the tarball and of a file in it; they have 33e6 and 14e6
# Its name in the package -> in the page: .js, since not every static server knows what .mjs is. This build holds the
# WebAssembly backend alone, and its glue; the .wasm runs on one thread unless the page asks for more.
FILES = {
    "ort.wasm.bundle.min.mjs": "ort.js",
    "ort-wasm-simd-threaded.wasm": "ort.wasm",
}


def add_runtime(folder: Path, own: str | Path | None = None) -> str:
    """Puts the runtime's files into a folder.

    Args:
      own: a folder that holds the package, or its dist/; None: from npm, kept in the cache.
    Returns:
      its name and version, as the file itself says them.
    Raises:
      UserError: own lacks one of them, or the package can't be had or is not the one that was asked for.
    """
    found = _from_tarball(_tarball()) if own is None else _from_folder(Path(own))
    folder.mkdir(parents=True)
    for name, content in found.items():
        (folder / FILES[name]).write_bytes(content)
    told = re.search(rb"ONNX Runtime Web v([\w.-]+)", found["ort.wasm.bundle.min.mjs"][:500])
    return f"{PACKAGE} {told[1].decode()}" if told else PACKAGE


def _from_folder(own: Path) -> dict[str, bytes]:
    places = (
        own,
        own / "dist",
        own / "package" / "dist",
        own / PACKAGE / "dist",
        own / "node_modules" / PACKAGE / "dist",
    )
    for place in places:
        if all((place / name).is_file() for name in FILES):
            return {name: (place / name).read_bytes() for name in FILES}
    raise UserError(f"--ort-web {own} must hold {' and '.join(FILES)}, as {PACKAGE}'s dist/ does")


def _from_tarball(path: Path) -> dict[str, bytes]:
    wanted = {f"package/dist/{name}": name for name in FILES}
    read = archives.members(path, wanted.__contains__, LARGEST)
    found = {wanted[name]: content for name, content in read if content is not None}
    if missing := sorted(set(FILES) - set(found)):
        raise UserError(f"{path} has no {' and no '.join(missing)}")
    return found


def _tarball() -> Path:
    """The package's tarball in the cache, fetched unless it is there and whole."""
    target = cache_folder() / TARBALL
    if target.is_file() and integrity(target.read_bytes()) == INTEGRITY:
        return target
    try:
        content = _packed() if shutil.which("npm") else _downloaded()
    except (OSError, http.client.HTTPException, subprocess.SubprocessError) as error:  # URLError is an OSError
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"{PACKAGE} {VERSION} can't be had from npm ({reason}); --ort-web FOLDER takes a copy of your own"
        ) from error
    if integrity(content) != INTEGRITY:
        raise UserError(f"{TARBALL} from npm has another checksum ({integrity(content)}) than {INTEGRITY}; not used")
    try:
        with whole_file(target) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}; set XDG_CACHE_HOME") from error
    return target


def integrity(content: bytes) -> str:
    """npm's checksum of a tarball: sha512 in base64."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def _packed() -> bytes:
    """By npm, where it is installed: it knows the registry, the proxy and the cache that its user has set."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", folder]
        subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=True)
        return (Path(folder) / TARBALL).read_bytes()


def _downloaded() -> bytes:
    request = urllib.request.Request(URL, headers={"User-Agent": "jax_sngan"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        return response.read(LARGEST)
