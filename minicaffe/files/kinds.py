"""What a file is, by its first bytes: for messages about a file of the wrong kind."""

from __future__ import annotations

import codecs
from pathlib import Path

NPZ, NPY, HDF5 = "an .npz (or another zip) archive", "a bare array (.npy)", "an HDF5 file"
STARTS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PK": NPZ,
    b"\x93NUMPY": NPY,
    b"\x89HDF": HDF5,
    b"\x1f\x8b": "a gzip archive",
}


def kind_of(path: str | Path) -> str:
    """ "a PNG image", "empty", "a text", …; "" where the bytes do not tell. Raises OSError."""
    with open(path, "rb") as file:
        start = file.read(200)
    if not start:
        return "empty"
    known = next((kind for magic, kind in STARTS.items() if start.startswith(magic)), None)
    return known or ("a text" if _is_text(start) else "")


def _is_text(start: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)  # the last letter may be cut off
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\r\n" for letter in text)
