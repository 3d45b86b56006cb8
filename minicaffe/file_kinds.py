"""What a file is, by its first bytes: for errors about a file that was given for one of another kind."""

from __future__ import annotations

from pathlib import Path

STARTS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PK": "an .npz (or another zip) archive",
    b"\x93NUMPY": "a bare array (.npy)",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive",
}


def kind_of(path: str | Path) -> str:
    """ "a PNG image", "empty", "a text", …; or "" for bytes that say nothing. Raises OSError."""
    with open(path, "rb") as file:
        start = file.read(200)
    if not start:
        return "empty"
    known = next((kind for magic, kind in STARTS.items() if start.startswith(magic)), None)
    return known or ("a text" if _is_text(start) else "")


def _is_text(start: bytes) -> bool:
    try:
        text = start[:-3].decode("utf-8") if len(start) > 3 else start.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\r\n" for letter in text)
