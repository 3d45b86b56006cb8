"""IDX, MNIST's format: a big-endian header, then one array; often gzipped.

Header: two zero bytes, a byte for the number type, a byte for the number of axes, and the length of each axis
as a 32-bit number (http://yann.lecun.com/exdb/mnist, "The IDX file format").
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from minicaffe.data.sources.source import BACKENDS, ArraySource, Backend
from minicaffe.errors import DataError
from minicaffe.files.atomic import unreadable

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PIECE = 1 << 24  # bytes read at a time, so that a header that lies about the size takes no memory


def open_idx(images: Path, labels: Path | None = None) -> ArraySource:
    """The images of an IDX file, with labels from the file ``labels`` or from the matching one beside it.

    Raises DataError if a file is damaged, or if there are not as many labels as images.
    """
    label_file = labels or label_file_of(images)
    pixels = read_idx(images)
    if label_file is None or not label_file.exists():
        missing = f"no file {label_file}" if label_file else "its name has no 'images' to replace by 'labels'"
        return ArraySource(str(images), pixels, None, no_labels=missing)
    numbers = read_idx(label_file)
    if numbers.ndim != 1:
        raise DataError(f"{label_file}: {numbers.ndim} axes, but labels have one; is it a label file?")
    if len(numbers) != len(pixels):
        raise DataError(f"{label_file}: {len(numbers)} labels, but {len(pixels)} images in {images}")
    return ArraySource(str(images), pixels, numbers)


def label_file_of(images: Path) -> Path | None:
    """Yann LeCun's naming: the labels of ``train-images-idx3-ubyte`` are ``train-labels-idx1-ubyte``."""
    name = images.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    return images.with_name(name) if name != images.name and "images" in images.name else None


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file (gzipped or not), big-endian as in the file. Raises DataError."""
    try:
        with open(path, "rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.open(file) if gzipped else file as stream:
                return _read_array(path, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut off gzip file ({error}); get it again") from None
    except OSError as error:
        raise DataError(unreadable(path, error)) from None


def _read_array(path: Path, stream: BinaryIO | gzip.GzipFile) -> np.ndarray:
    magic = stream.read(4)
    if not magic:
        raise DataError(f"{path}: the file is empty; get it again")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or magic[3] == 0:
        raise DataError(
            f"{path}: not an IDX file (begins with bytes {magic.hex(' ')}, not 00 00 08 03 or similar)"
        )
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise DataError(f"{path}: the file is cut off within its header; get it again")
    shape, dtype = struct.unpack(f">{magic[3]}I", header), np.dtype(TYPES[magic[2]])
    expected = math.prod(shape) * dtype.itemsize
    body = _read_up_to(stream, expected + 1)
    if len(body) != expected:
        found = "more follow" if len(body) > expected else f"the file has {len(body):,}"
        raise DataError(f"{path}: an array {shape} takes {expected:,} bytes, but {found}; get the file again")
    return np.frombuffer(body, dtype).reshape(shape)


def _read_up_to(stream: BinaryIO | gzip.GzipFile, count: int) -> bytearray:
    body = bytearray()
    while len(body) < count and (piece := stream.read(min(PIECE, count - len(body)))):
        body += piece
    return body


def idx_bytes(array: np.ndarray) -> bytes:
    """The array in IDX form. Raises DataError for a number type that IDX does not have."""
    stored = array.astype(array.dtype.newbyteorder(">"))
    code = next((code for code, name in TYPES.items() if np.dtype(name) == stored.dtype), None)
    if code is None:
        raise DataError(f"IDX has no number type for {array.dtype}; convert to uint8 or float32")
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + stored.tobytes()


def gzip_bytes(raw: bytes) -> bytes:
    """Gzipped bytes that depend only on ``raw``, not on time, file name or operating system."""
    compressed = bytearray(gzip.compress(raw, compresslevel=9, mtime=0))
    compressed[9] = 255
    return bytes(compressed)


def _is_idx(path: Path) -> bool:
    name = path.name.lower()
    return path.is_file() and ("idx" in name or name.removesuffix(".gz").endswith("ubyte"))


BACKENDS["IDX"] = Backend(_is_idx, lambda path, labels, color: open_idx(path, labels), is_guess=True)
