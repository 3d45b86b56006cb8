"""Packer: the arrays of a report, as text in its page.

Each pack is one stream of deflate in base64, decoded when the page first looks at an array in it. An array is
float32, float16, or 8 bits: value = lo + code · (hi − lo) / 255. A reference says where it lies:
``{pack, offset, dtype, shape, lo, hi}``, with the offset in bytes of the decoded pack.
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


def as_bytes(array: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The codes (uint8, the array's shape) of values, and the least and largest value. nan becomes the least."""
    values = np.asarray(array, np.float32)
    finite = values[np.isfinite(values)]
    lo, hi = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if hi <= lo:
        return np.zeros(values.shape, np.uint8), lo, hi
    scaled = (np.nan_to_num(values, nan=lo, posinf=hi, neginf=lo) - lo) * (255 / (hi - lo))
    return np.rint(scaled).clip(0, 255).astype(np.uint8), lo, hi


class Packer:
    """Collects arrays: ``add`` returns a reference, and ``html`` the elements that hold them all."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def add(self, array: np.ndarray, dtype: str = "f32", pack: str = "") -> Ref:
        """Put an array into a pack, by default the common one; ``dtype`` "f32", "f16", or "u8".

        Arrays of uint8 are stored as they are. nan and infinite numbers survive in floats alone.
        """
        array = np.asarray(array)
        lo = hi = 0.0
        if dtype == "u8":
            codes, lo, hi = (array, 0.0, 255.0) if array.dtype == np.uint8 else as_bytes(array)
        elif dtype == "f16":
            codes = array.clip(-65504, 65504).astype("<f2")
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
        """About how many bytes the packs take in the file so far."""
        return sum(stream.size for stream in self._streams.values()) * 4 // 3

    def largest(self) -> str:
        """The names of the three packs that take most, for a message."""
        names = sorted(self._streams, key=lambda name: -self._streams[name].size)[:3]
        return ", ".join(f"'{name}'" for name in names)

    def html(self) -> Iterator[str]:
        """The elements ``<script type="text/plain" id="pack-K">``. Nothing can be added afterwards."""
        for stream in self._streams.values():
            text = base64.b64encode(stream.finish()).decode("ascii")
            yield f'<script type="text/plain" id="pack-{stream.number}">{text}</script>'


class _Stream:
    """The bytes of one pack, compressed as they come."""

    def __init__(self, number: int) -> None:
        self.number, self.size, self._length = number, 0, 0
        self._compressor = zlib.compressobj(LEVEL)
        self._parts: list[bytes] = []

    def add(self, data: bytes) -> int:
        """Append bytes, and return where they begin."""
        offset = self._length
        self._write(data + bytes(-len(data) % ALIGNED))
        return offset

    def _write(self, data: bytes) -> None:
        self._length += len(data)
        part = self._compressor.compress(data)
        self._parts.append(part)
        self.size += len(part)

    def finish(self) -> bytes:
        return b"".join([*self._parts, self._compressor.flush()])
