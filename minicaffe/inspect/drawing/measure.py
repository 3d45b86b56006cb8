"""How wide a text is, so that it fits where it stands.

The widths are those of DejaVu Sans, wider than most: a text that is measured by them fits in other fonts too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

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

BREAKS = re.compile(r" (?=[→·]|dilated )|(?<=,) ")
SEPARATORS = "/_-. "
SHORTER = 4  # characters that a cut name may have less than fit, so that its words stay whole
MOST_CUTS = 80  # of a name that are tried
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


def printable(text: str) -> str:
    """The text with "?" for each character that cannot be drawn."""
    return "".join(char if char.isprintable() else "?" for char in text)


def wrapped(text: str, width: float, size: float) -> list[str]:
    """What a layer does, on as many lines as it needs: broken at commas, arrows and dots."""
    lines: list[str] = []
    for piece in BREAKS.split(text):
        together = f"{lines[-1]} {piece}" if lines else piece
        if lines and text_width(together, size) <= width:
            lines[-1] = together
        else:
            lines.append(piece.removeprefix("· "))
    return lines


def fitted(text: str, width: float, size: float, bold: bool = False, measure: Measure = text_width) -> str:
    """The text on one line, with "…" for its middle where it is wider than ``width``."""
    text = printable(text)
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


def fitted_name(
    name: str, others: Iterable[str], width: float, size: float, measure: Measure = text_width
) -> str:
    """A bold name on one line, cut so that it differs from all ``others``, between words if possible."""
    name = printable(name)
    short = fitted(name, width, size, True, measure)
    if short == name or len(name) > 400:
        return short
    kept = len(short) - 1

    def cost(cut: tuple[int, int]) -> float:
        head, tail = cut
        place = len(name) - tail
        ragged = _break(name, head, name[head]) if head else 0
        ragged += _break(name, place, name[place - 1])
        return ragged + (kept - head - tail) / 2 + abs(head - kept * 2 / 5) / 4

    cuts = [(head, n - head) for n in range(max(1, kept - SHORTER), kept + 1) for head in range(n)]
    others = [other for other in others if other != name]
    for head, tail in sorted(cuts, key=cost)[:MOST_CUTS]:
        begin, end = name[:head], name[len(name) - tail :]
        if any(other.startswith(begin) and other.endswith(end) for other in others):
            continue
        if measure(f"{begin}…{end}", size, True) <= width:
            return f"{begin}…{end}"
    return short


def _break(name: str, place: int, dropped: str) -> int:
    """How bad it is to cut a name at a place: 0 at a separator, which is dropped, 1 at a number, else 2."""
    if dropped in SEPARATORS:
        return 0
    return 1 if name[place - 1].isdigit() != name[place].isdigit() else 2
