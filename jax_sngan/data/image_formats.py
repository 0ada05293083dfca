"""Which image files are read: the formats that Pillow and its plugins know here, by the ends of their names."""

import importlib
import importlib.util
from functools import lru_cache

from PIL import Image, features

# Told by their first bytes, whatever a file is called. Left out are formats that start other programs (EPS, WMF), that
# hold pictures of another size than their header says (ICO, ICNS), and those of other things than pictures.
ANYWHERE = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "JXL", "PNG", "PPM", "QOI", "TIFF", "WEBP")
# Told by the end of the name alone: their first bytes are so weak that a damaged file of another kind may have them.
BY_NAME = ("PCX", "SGI", "TGA")
_PLUGINS = {"pillow_heif": "register_heif_opener", "pillow_avif": "", "pillow_jxl": ""}  # module: what it is told by
_LIBRARIES = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}  # that Pillow may have been built without
TAIL = 4096  # bytes at the end of a file that are looked through for its last mark: programs put notes behind it
_FIRST, _WRITE = "unpack first", "write the images into a folder"
_NEEDS = {  # ends of names that are not read -> what to do
    ".avif": "a newer Pillow",
    ".heic": "pip install pillow-heif",
    ".heif": "pip install pillow-heif",
    ".hif": "pip install pillow-heif",
    ".jxl": "pip install pillow-jxl-plugin",
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".zst", ".lz4", ".rar", ".7z"), _FIRST),
    **dict.fromkeys((".parquet", ".arrow", ".tfrecord", ".tfrecords", ".h5", ".hdf5", ".mat", ".mdb", ".lmdb"), _WRITE),
    **dict.fromkeys((".beton", ".pkl", ".pickle", ".pt", ".pth"), _WRITE),
}


@lru_cache
def endings() -> dict[str, str]:
    """The end of a name, lower case with its dot -> Pillow's format, of all that is read here."""
    for module, register in _PLUGINS.items():
        if importlib.util.find_spec(module) is not None:
            plugin = importlib.import_module(module)
            if register:
                getattr(plugin, register)()
    Image.init()
    lacking = {kind for kind, library in _LIBRARIES.items() if not features.check(library)}
    known = {end: kind for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    read = {e: k for e, k in known.items() if k in (*ANYWHERE, *BY_NAME) and k not in lacking and e != ".pfm"}
    return read | {".mpo": "JPEG"}  # its first picture


@lru_cache
def suffixes() -> tuple[str, ...]:
    """The ends of names that are read, sorted."""
    return tuple(sorted(endings()))


def readers(name: str) -> tuple[str, ...]:
    """Pillow's formats that may open a file of this name."""
    own = endings().get(ending(name))
    extra = (own,) if own in BY_NAME else ()
    return (*(kind for kind in ANYWHERE if kind in Image.OPEN), *extra)


def looks_cut(data: bytes) -> bool:
    """Whether a file of a usual kind lacks what stands at its end: then decoding alone tells if it is whole."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-TAIL:]
    if data.startswith(b"\xff\xd8"):  # JPEG: between scans a marker cannot come up by chance
        return b"\xff\xd9" not in data[-TAIL:]
    if data.startswith(b"RIFF"):  # WebP
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return data.startswith(b"GIF8") and not data.rstrip(b"\0\r\n ").endswith(b";")


def ending(name: str) -> str:
    """The end of a path's last part, lower case with its dot; "" where it has none, or nothing before it."""
    last = name.rpartition("/")[2]
    stem, dot, end = last.rpartition(".")
    return f".{end.lower()}" if dot and stem else ""


def needs(end: str) -> str:
    """What would read files of an ending that is not read here; "" where nothing is known."""
    kind = end.partition("-")[0]  # .tfrecord-00000-of-00001
    return _NEEDS.get(kind, "") if end not in endings() else ""
