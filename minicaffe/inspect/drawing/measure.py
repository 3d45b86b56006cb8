"""How wide a text is, so that it fits where it stands.

The widths are those of DejaVu Sans, wider than most: a text that is measured by them fits in other fonts too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

WIDTHS = {  # of a character, in hundredths of the font's size; of a bold one below
    char: width
    for width, chars in {
        30: "'IJijl", 35: " ,./:;\\|·", 40: "()-[]ft", 45: "!r", 50: '"*_`', 55: "?csz", 60: "FLkvxy",
        65: "$0123456789EPSTYabdeghnopqu{}", 70: "ABCKRVXZ", 75: "NU", 80: "&DGHOQ", 85: "#+<=>^w~×→←",
        90: "M", 100: "%@Wm…",
    }.items()
    for char in chars
}  # fmt: skip
BOLD_WIDTHS = {
    char: width
    for width, chars in {
        35: " 'ijl", 40: ",./:;IJ\\|·", 45: "-f", 50: "!()[]_`rt", 55: '"*', 60: "?csz", 65: "Lx",
        70: "$0123456789EFTaekovy", 75: "CPSYZbdghnpqu{}", 80: "ABKRVX", 85: "#+<=>DGHNU^~×→←", 90: "&OQ",
        95: "w", 100: "@M…", 105: "%m", 115: "W",
    }.items()
    for char in chars
}  # fmt: skip

Measure = Callable[[str, float, bool], float]  # of a text, its size and whether it is bold: its width


def text_width(text: str, size: float, bold: bool = False) -> float:
    """The width of a text in the unit of ``size``."""
    table = BOLD_WIDTHS if bold else WIDTHS
    return size / 100 * sum(table.get(char) or _unusual(char) for char in text)


def _unusual(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    wide = unicodedata.east_asian_width(char) in "WF" or unicodedata.category(char) in ("So", "Co", "Cn")
    return 140 if wide else 110 if unicodedata.category(char).startswith(("Z", "P", "S")) else 85


def fitted(text: str, width: float, size: float, bold: bool = False, measure: Measure = text_width) -> str:
    """The text on one line, with "…" for its middle where it is wider than ``width``."""
    text = "".join(char if char.isprintable() else "?" for char in text)
    if len(text) > 400:
        text = f"{text[:200]}{text[-200:]}"
    if measure(text, size, bold) <= width:
        return text
    for kept in range(min(len(text) - 1, int(width / size * 4)), 0, -1):
        head = kept * 2 // 5  # the end of a name says more: "…/3x3_reduce"
        short = f"{text[:head]}…{text[len(text) - kept + head :]}"
        if measure(short, size, bold) <= width:
            return short
    return "…"
