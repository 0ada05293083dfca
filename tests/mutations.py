"""Sound files of every kind that a reader takes, and changes to them that know the format.

A change is three numbers (what, where, which value), so that a list of changes is what hypothesis makes and shrinks.
"""

import functools
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hostile_files import jpeg_of_scans, tiff, torch_pickle, torch_zip
from image_files import encoded, noise, tar_bytes, zip_bytes
from PIL import Image

Change = tuple[int, int, int]
# Numbers where code often turns wrong.
EXTREMES = (0, 1, 2, 7, 8, 12, 14, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 2**16, 2**20, 2**26, 2**31 - 1,
            2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)  # fmt: skip


@functools.cache
def sound(reader: str) -> tuple[tuple[str, bytes], ...]:
    """(name, contents) of files that a reader of readers.py takes."""
    return tuple(_SOUND[reader]())


def _archives() -> list[tuple[str, bytes]]:
    files = {f"{i % 2}/{i}.png": encoded(noise(5, 5, 3, seed=i)) for i in range(3)} | {"notes.txt": b"x" * 700}
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    pax = io.BytesIO()
    with tarfile.open(fileobj=pax, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("ä" * 120)
        info.size, info.pax_headers = 4, {"comment": "x" * 300}
        tar.addfile(info, io.BytesIO(b"data"))
    return [
        ("a.zip", zip_bytes(files)),
        ("b.zip", stored.getvalue()),
        ("a.tar", tar_bytes(files, "w")),
        ("b.tar", pax.getvalue()),
        *((f"a.tar.{kind}", tar_bytes(files, f"w:{kind}")) for kind in ("gz", "xz", "bz2")),
    ]


def _images() -> list[tuple[str, bytes]]:
    colour, grey = noise(12, 9, 3), noise(12, 9)
    animated = [Image.fromarray(noise(6, 6, 3, seed=i)) for i in range(2)]
    found = [
        (f"a.{kind.lower()}", encoded(colour, kind)) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
    ]
    others = {"AVIF": "avif", "JPEG2000": "jp2", "TGA": "tga", "QOI": "qoi", "PCX": "pcx", "SGI": "sgi", "DIB": "dib"}
    found += [(f"a.{end}", encoded(colour, kind)) for kind, end in others.items()]
    found += [(f"grey.{kind.lower()}", encoded(grey, kind)) for kind in ("PNG", "JPEG", "TIFF", "PPM")]
    found += [("alpha.png", encoded(noise(6, 6, 4))), ("deep.png", encoded(noise(6, 6).astype(np.uint16) * 257))]
    found += [(f"{c}.tif", encoded(colour, "TIFF", compression=c)) for c in ("tiff_lzw", "jpeg", "tiff_adobe_deflate")]
    found += [("scans.jpg", encoded(noise(24, 24, 3), "JPEG", progressive=True)), ("again.jpg", jpeg_of_scans(16, 3))]
    found += [("lossless.webp", encoded(colour, "WEBP", lossless=True))]
    tile = bytes(noise(16, 16))
    found.append(("tiled.tif", tiff(16, 16, [(322, [16]), (323, [16]), (324, [-1]), (325, [256])], tile)))
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        file = io.BytesIO()
        animated[0].save(file, kind, save_all=True, append_images=animated[1:])
        found.append((f"moving.{kind.lower()}", file.getvalue()))
    exif = Image.Exif()
    exif[0x0112] = 6
    found.append(("turned.jpg", encoded(colour, "JPEG", exif=exif)))
    return found


def _npzs() -> list[tuple[str, bytes]]:
    arrays = {
        "images": noise(3, 4, 4, 3),
        "labels": np.arange(3),
        "x": np.ones((2, 2), order="F"),
        "meta": np.array("{}"),
    }
    found = []
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        file = io.BytesIO()
        save(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its own options
        found.append((name, file.getvalue()))
    return found


def _idx() -> list[tuple[str, bytes]]:
    contents = struct.pack(">IIII", 0x803, 3, 5, 4) + bytes(noise(3, 5, 4))
    return [("a", contents), ("a.gz", gzip.compress(contents, mtime=0))]


def _batches() -> list[tuple[str, bytes]]:
    batch = {"data": noise(2, 3072), "labels": [3, 1], "filenames": ["a.png", "b.png"], b"batch_label": b"1 of 1"}
    numbers = batch | {"labels": [np.int64(3), np.int64(1)]}
    pickled = [(f"batch{protocol}", pickle.dumps(batch, protocol)) for protocol in range(6)]
    return [*pickled, ("numbers", pickle.dumps(numbers, 2)), ("a.bin", bytes([1, *noise(3072)]))]


def _torch_files() -> list[tuple[str, bytes]]:
    numbers = np.arange(24, dtype="<f4").tobytes()
    data = torch_pickle({"a.weight": ("0", 24, (4, 6), (6, 1)), "b": ("0", 24, (3,), (2,)), "c": ("1", 1, (), ())})
    plain = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    keys = pickle.dumps(["0", "1"], 2)
    plain += data + keys + struct.pack("<q", 24) + numbers + struct.pack("<q", 1) + numbers[:4]
    return [("a.pth", torch_zip(data, {"0": numbers, "1": numbers[:4]})), ("b.pth", plain)]


def _recordings() -> list[tuple[str, bytes]]:
    folder = Path(__file__).resolve().parent.parent / "parity_tests/recordings"
    return [(path.name, path.read_bytes()) for path in sorted(folder.glob("*.npz"))]


_SOUND: dict[str, Callable[[], list[tuple[str, bytes]]]] = {
    "archive": _archives, "image": _images, "npz": _npzs, "idx": _idx, "cifar": _batches,
    "torch": _torch_files, "recording": _recordings,
}  # fmt: skip


def mutate(contents: bytes, changes: list[Change], others: tuple[bytes, ...] = ()) -> bytes:
    """Contents after each change; others: files that a piece may be taken from."""
    for what, where, value in changes:
        if len(contents) < 2:
            break
        contents = CHANGES[what % len(CHANGES)](contents, where, value, others)[: 2**22]
    return contents


_Step = Callable[[bytes, int, int, tuple[bytes, ...]], bytes]


def _flip(contents: bytes, where: int, value: int, _: tuple[bytes, ...]) -> bytes:
    there = bytearray(contents)
    there[where % len(there)] ^= 1 << value % 8
    return bytes(there)


def _number(contents: bytes, where: int, value: int, _: tuple[bytes, ...]) -> bytes:
    """One of EXTREMES, of 1 to 8 bytes, little or big."""
    size, order = (1, 2, 4, 8)[value % 4], ("little", "big")[value // 4 % 2]
    at = where % len(contents)
    number = EXTREMES[value // 8 % len(EXTREMES)] % 256**size
    return (contents[:at] + number.to_bytes(size, order) + contents[at + size :])[: max(len(contents), at + size)]


def _cut(contents: bytes, where: int, value: int, _: tuple[bytes, ...]) -> bytes:
    return contents[: where % len(contents)]


def _remove(contents: bytes, where: int, value: int, _: tuple[bytes, ...]) -> bytes:
    at = where % len(contents)
    return contents[:at] + contents[at + 1 + value % 600 :]


def _again(contents: bytes, where: int, value: int, _: tuple[bytes, ...]) -> bytes:
    """A piece, up to 1,000 times."""
    at, size, times = where % len(contents), 1 + value % 64, 1 + value // 64 % 1000
    return contents[:at] + contents[at : at + size] * times + contents[at:]


def _splice(contents: bytes, where: int, value: int, others: tuple[bytes, ...]) -> bytes:
    other = others[value % len(others)] if others else contents
    at, start = where % len(contents), value // 7 % len(other)
    return contents[:at] + other[start : start + 1 + value % 900] + contents[at + value % 50 :]


def _near(contents: bytes, where: int, value: int, _: tuple[bytes, ...]) -> bytes:
    """A number, near a name or a signature that formats put before their fields."""
    names = (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"IHDR", b"IDAT", b"ustar", b"\xff\xc0", b"\xff\xc2",
             b"\xff\xda", b"\xff\xc4",
             b"VP8X", b"VP8L", b"VP8 ", b"ANMF", b"II*\0", b"MM\0*", b"GIF8", b"\x2c\0", b"BM", b"\x93NUMPY", b"acTL",
             b"fcTL", b"eXIf", b"Exif", b"\x1f\x8b", b"BZh", b"7zXZ", b"shape", b"descr", b"storage", b"FloatStorage",
             b"_reconstruct", b"dtype", b"tRq", b"\x80\x02", b"PaxHeader", b"size=")  # fmt: skip
    there = [name for name in names if name in contents]
    if not there:
        return _number(contents, where, value, ())
    name = there[where % len(there)]
    places = [i for i in range(len(contents)) if contents.startswith(name, i)][:50]
    return _number(contents, places[where // 64 % len(places)] + where // 4096 % 48, value, ())


def _tiff_tag(contents: bytes, where: int, value: int, _: tuple[bytes, ...]) -> bytes:
    """A field of a TIFF's or an Exif's directory."""
    start = contents.find(b"II*\0")
    if start < 0:
        return _near(contents, where, value, ())
    (first,) = struct.unpack_from("<I", contents[start : start + 8].ljust(8, b"\0"), 4)
    return _number(contents, start + first + 2 + 12 * (where % 16) + (0, 2, 4, 8)[where // 16 % 4], value, ())


def _right_sums(contents: bytes, where: int, value: int, _: tuple[bytes, ...]) -> bytes:
    """The checksums of a PNG's chunks, of tar's headers and of a zip's members made right again."""
    if contents.startswith(b"\x89PNG"):
        return _right_png(contents)
    if contents[257:262] == b"ustar":
        return _right_tar(contents)
    return _right_zip(contents) if contents.startswith(b"PK") else contents


def _right_png(contents: bytes) -> bytes:
    out, at = bytearray(contents), 8
    while at + 12 <= len(out):
        (size,) = struct.unpack_from(">I", out, at)
        if at + 12 + size > len(out):
            break
        struct.pack_into(">I", out, at + 8 + size, zlib.crc32(out[at + 4 : at + 8 + size]))
        at += 12 + size
    return bytes(out)


def _right_tar(contents: bytes) -> bytes:
    out = bytearray(contents)
    for at in range(0, len(out) - 511, 512):
        if out[at + 257 : at + 262] == b"ustar":
            out[at + 148 : at + 156] = b" " * 8
            out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
    return bytes(out)


def _right_zip(contents: bytes) -> bytes:
    """The members as they can be read, packed again by the method that each of them names."""
    file = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as old, zipfile.ZipFile(file, "w") as new:
            for entry in old.infolist()[:20]:
                start = entry.header_offset + 30 + len(entry.filename.encode())
                data = contents[start : start + min(entry.compress_size, 2**16)]
                if entry.compress_type == zipfile.ZIP_DEFLATED:
                    data = zlib.decompressobj(-15).decompress(data, 2**16)
                new.writestr(entry.filename, data, entry.compress_type, compresslevel=1)
    except Exception:  # too damaged for it: the change is none
        return contents
    return file.getvalue()


def _inside(contents: bytes, where: int, value: int, _: tuple[bytes, ...]) -> bytes:
    """A change within what is packed: of a gzip's or xz's contents, or of one member of a zip."""
    inner = CHANGES[value % 7]
    try:
        if contents.startswith(b"\x1f\x8b"):
            return gzip.compress(inner(gzip.decompress(contents), where, value // 7, ()), 1, mtime=0)
        if contents.startswith(b"\xfd7zXZ"):
            return lzma.compress(inner(lzma.decompress(contents), where, value // 7, ()), preset=0)
        with zipfile.ZipFile(io.BytesIO(contents)) as old:
            members = {name: old.read(name) for name in old.namelist()}
    except Exception:  # damaged already, or of another kind
        return _flip(contents, where, value, ())
    chosen = sorted(members)[where % len(members)] if members else None
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[where // 3 % 2]) as new:
        for name, data in members.items():
            new.writestr(name, inner(data, where // 16, value // 7, ()) if name == chosen and data else data)
    return file.getvalue()


OPCODES = (b"(", b".", b"]", b"}", b")", b"\x85", b"\x86", b"\x87", b"t", b"l", b"d", b"a", b"e", b"s", b"u",
           b"q\x00", b"h\x00",
           b"q\x64", b"h\x64", b"R", b"b", b"0", b"2", b"N", b"\x88", b"K\x01", b"J\xff\xff\xff\xff",
           b"\x8a\x01\x02", b"Q",
           b"\x94", b"j\x00\x00\x00\x00", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"c_codecs\nencode\n", b"\x93",
           b"ccollections\nOrderedDict\n", b"X\x01\x00\x00\x00a", b"U\x01b", b"C\x01c", b"cos\nsystem\n")  # fmt: skip


def _opcodes(contents: bytes, where: int, value: int, _: tuple[bytes, ...]) -> bytes:
    """Opcodes of pickles in place of others."""
    at = where % len(contents)
    put = b""
    while value:
        value, which = divmod(value, len(OPCODES))
        put += OPCODES[which]
    return contents[:at] + put + contents[at + where // 65_536 % 4 :]


CHANGES: tuple[_Step, ...] = (
    _flip, _number, _remove, _again, _near, _tiff_tag, _opcodes, _cut, _splice, _inside, _right_sums,
)  # fmt: skip
