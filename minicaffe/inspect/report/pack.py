"""Packer: the arrays of a report, as text in its page.

Each pack is one stream of deflate in base64, decoded when the page first looks at an array in it. An array is
float32, float16, or 8 bits: value = lo + code · (hi − lo) / 255. A reference says where it lies:
``{pack, offset, dtype, shape, lo, hi}``, with the offset in bytes of the decoded pack. An array that float16 cannot
hold, as its largest number is beyond 65,504 or so small that few bits are left of it, is float32.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

Ref = dict[str, Any]
ALIGNED = 4  # bytes: a page reads float32 in place
LEVEL = 6
HALF = np.finfo(np.float16)


def as_bytes(array: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The codes (uint8, the array's shape) of values, and the least and largest value. nan becomes the least."""
    values = np.asarray(array, np.float32)
    finite = values[np.isfinite(values)]
    lo, hi = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if hi <= lo:
        return np.zeros(values.shape, np.uint8), lo, hi
    scaled = (np.nan_to_num(values, nan=lo, posinf=hi, neginf=lo) - lo) * (255 / (hi - lo))
    return np.rint(scaled).clip(0, 255).astype(np.uint8), lo, hi


def as_floats(array: np.ndarray) -> np.ndarray:
    """The array in float16; in float32 where float16 would make much else of its numbers."""
    finite = array[np.isfinite(array)]
    largest = float(np.abs(finite).max(initial=0))
    fits = largest == 0 or float(HALF.tiny) <= largest <= float(HALF.max)
    return array.astype("<f2" if fits else "<f4")


class Packer:
    """Collects arrays: ``add`` returns a reference, and ``html`` the elements that hold them all."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def add(self, array: np.ndarray, dtype: str = "f32", pack: str = "") -> Ref:
        """Put an array into a pack, by default the common one; ``dtype`` "f32", "f16" (where it fits), or "u8".

        Arrays of uint8 are stored as they are. nan and infinite numbers survive in floats alone.
        """
        array = np.asarray(array)
        lo = hi = 0.0
        if dtype == "u8":
            codes, lo, hi = (array, 0.0, 255.0) if array.dtype == np.uint8 else as_bytes(array)
        elif dtype == "f16":
            codes = as_floats(array)
            dtype = f"f{8 * codes.itemsize}"
        else:
            codes = array.astype("<f4")
        stream = self._streams.setdefault(pack, _Stream(len(self._streams)))
        ref = {
            "pack": stream.number,
            "offset": stream.add(np.ascontiguousarray(codes).tobytes()),
            "dtype": dtype,
            "shape": list(array.shape),
        }
        return {**ref, "lo": lo, "hi": hi} if dtype == "u8" else ref

    @property
    def size(self) -> int:
        """How many bytes the packs take in the file so far."""
        return sum(self.sizes.values())

    @property
    def sizes(self) -> dict[str, int]:
        """The same for each pack, by its name."""
        return {name: stream.size * 4 // 3 for name, stream in self._streams.items()}

    def html(self) -> Iterator[str]:
        """The elements ``<script type="text/plain" id="pack-K">``."""
        for stream in self._streams.values():
            text = base64.b64encode(stream.packed()).decode("ascii")
            yield f'<script type="text/plain" id="pack-{stream.number}">{text}</script>'


class _Stream:
    """The bytes of one pack, compressed as they come."""

    def __init__(self, number: int) -> None:
        self.number, self._length = number, 0
        self._compressor = zlib.compressobj(LEVEL)
        self._parts: list[bytes] = []

    def add(self, data: bytes) -> int:
        """Append bytes, and return where they begin."""
        offset = self._length
        padded = data + bytes(-len(data) % ALIGNED)
        self._length += len(padded)
        self._parts.append(self._compressor.compress(padded))
        return offset

    @property
    def size(self) -> int:
        """Of what was added, the bytes when it is packed: also of what the compressor still holds back."""
        return sum(map(len, self._parts)) + len(self._compressor.copy().flush())

    def packed(self) -> bytes:
        """What was added, packed."""
        return b"".join([*self._parts, self._compressor.copy().flush()])
