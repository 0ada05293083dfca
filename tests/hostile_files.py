"""Small files that once took the machine, made from nothing: (reader, name, contents). tests/test_hostile_files.py"""

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
from image_files import encoded, zip_bytes

ZEROS = 100_000_000


def packed_by(method: int, name: str) -> bytes:
    """A zip of one member that unpacks to ZEROS bytes and says that it has 1,000."""
    data = {zipfile.ZIP_BZIP2: bz2.compress, zipfile.ZIP_LZMA: _zip_lzma}[method](bytes(ZEROS))
    head = struct.pack("<HHHHHIIIHH", 46, 0, method, 0, 33, zlib.crc32(bytes(1000)), len(data), 1000, len(name), 0)
    local = b"PK\3\4" + head + name.encode()
    entry = b"PK\1\2" + struct.pack("<H", 46) + head + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(local) + len(data), 0)
    return local + data + entry + end


def _zip_lzma(data: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 2**16}]
    properties = struct.pack("<BI", 93, 2**16)
    return struct.pack("<BBH", 9, 4, 5) + properties + lzma.compress(data, lzma.FORMAT_RAW, filters=filters)


def npz_of_many(arrays: int, each: int) -> bytes:
    """Arrays of zeros, none of which is too large."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (each,)})
    return zip_bytes({f"a{i}.npy": file.getvalue() + bytes(each) for i in range(arrays)})


def tar_of_headers(count: int) -> bytes:
    """Empty members alone, xz."""
    header = tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)
    return lzma.compress(header * count + bytes(1024), preset=0)


def tar_of_records(size: int) -> bytes:
    """Empty members behind extended headers of `size` bytes, of nothing but records; xz."""
    record = b"8 a=bcd\n"
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, size
    member = info.tobuf(tarfile.USTAR_FORMAT) + record * (size // 8) + tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)
    return lzma.compress(member * (2**28 // len(member)) + bytes(1024), preset=0)


def tar_with_gaps() -> bytes:
    """A member of 60 MB of which nothing is stored."""
    info = tarfile.TarInfo("a")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 60_000_000  # its real size
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
    return bytes(header) + bytes(1024)


def idx_of_zeros(count: int) -> bytes:
    """Images of 128 x 128 zeros, gzipped."""
    return gzip.compress(struct.pack(">IIII", 0x803, count, 128, 128) + bytes(count * 2**14), 1)


def tiff(width: int, height: int, tags: Sequence[tuple[int, Sequence[int]]], data: bytes) -> bytes:
    """A grey TIFF with more tags, each a list of numbers; a number below 0 is a place in data, counted from -1."""
    fixed = [(256, [width]), (257, [height]), (258, [8]), (259, [1]), (262, [1]), (277, [1])]
    entries = sorted(dict([*fixed, *tags]).items())
    places = 8 + 2 + 12 * len(entries) + 4
    behind = places + sum(4 * len(values) for _, values in entries if len(values) > 1)
    out, lists = b"II*\0" + struct.pack("<IH", 8, len(entries)), b""
    for tag, values in entries:
        numbers = np.array([v if v >= 0 else behind - v - 1 for v in values], "<u4")
        out += struct.pack("<HHI", tag, 4, len(values))
        out += numbers.tobytes() if len(values) == 1 else struct.pack("<I", places + len(lists))
        lists += numbers.tobytes() if len(values) > 1 else b""
    return out + bytes(4) + lists + data


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A grey progressive JPEG whose last scan is there again and again."""
    whole = encoded(np.zeros((side, side), np.uint8), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * scans + whole[-2:]


def _plain(value: object) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def torch_pickle(tensors: dict[str, tuple[str, int, tuple[int, ...], tuple[int, ...]]]) -> bytes:
    """data.pkl of a state dict: name -> (storage, its length, shape, strides)."""
    ordered = b"ccollections\nOrderedDict\n)R"
    out = b"\x80\x02" + ordered + b"("
    for name, (storage, count, shape, strides) in tensors.items():
        persistent = (
            b"(" + _plain("storage") + b"ctorch\nFloatStorage\n" + b"".join(map(_plain, (storage, "cpu", count)))
        )
        out += _plain(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + persistent + b"tQ"
        out += b"".join(map(_plain, (0, shape, strides, False))) + ordered + b"tR"
    return out + b"u."


def torch_zip(data: bytes, storages: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A file as torch.save writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        for key, numbers in storages.items():
            archive.writestr(f"archive/data/{key}", numbers)
    return file.getvalue()


def batch_pickle(labels: bytes, before: bytes = b"") -> bytes:
    """A batch of one image whose labels are the opcodes given."""
    data = _plain(np.zeros((1, 3072), np.uint8))
    return b"\x80\x02}(" + before + _plain("data") + data + _plain("labels") + labels + b"u."


def doubled(kind: bytes, levels: int) -> tuple[bytes, bytes]:
    """(entries before, the last) of lists (kind l) or tuples (t), each with the one before it twice."""
    first, last = 100, 100 + levels
    before = _plain("k") + b"(K\x00" + kind + b"q%c" % first
    for at in range(first, last):
        before += _plain(f"k{at}") + b"(h%ch%c" % (at, at) + kind + b"q%c" % (at + 1)
    return before, b"h%c" % last


def nested(levels: int) -> bytes:
    """A tuple in a tuple in a tuple …"""
    return b")" + b"\x85" * levels


def keyed(key: bytes) -> bytes:
    """A dict with one key."""
    return b"}" + key + b"K\x00s"


def colliding(count: int) -> bytes:
    """A dict whose keys all have the hash 0."""
    period = 2**61 - 1
    return b"}(" + b"".join(_plain(i * period) + b"K\x00" for i in range(count)) + b"u"


def encoded_again(size: int, times: int) -> bytes:
    """A list of one text's bytes, made again each time."""
    text = b"X" + struct.pack("<I", size) + b"a" * size + b"q\x64"
    call = b"c_codecs\nencode\nh\x64X\x06\0\0\0latin1\x86R"
    return b"(" + text + call * times + b"l"
