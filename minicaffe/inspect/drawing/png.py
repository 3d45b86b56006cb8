"""PNG, drawn by Pillow: the same shapes and texts, with two pixels for each unit."""

from __future__ import annotations

import functools
import io
import itertools
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from minicaffe.inspect.drawing.ink import LIGHT, Path, Picture, Shape, Text

SCALE = 2
FINER = 2  # drawn so many times larger, and then reduced: smooth edges
MOST = 80_000_000  # pixels; of a larger picture each unit is one pixel
BAND = 512  # rows of the picture that are drawn at a time
FONTS = {
    False: ("DejaVuSans.ttf", "Arial.ttf", "arial.ttf", "LiberationSans-Regular.ttf", "Helvetica.ttc"),
    True: (
        "DejaVuSans-Bold.ttf",
        "Arial Bold.ttf",
        "arialbd.ttf",
        "LiberationSans-Bold.ttf",
        "Helvetica.ttc",
    ),
}
PLAIN = str.maketrans({"×": "x", "→": ">", "←": "<", "…": "..", "·": "-"})


def png_bytes(picture: Picture) -> bytes:
    """The picture as a PNG file."""
    scale = SCALE if picture.width * picture.height * SCALE**2 <= MOST else 1
    size = (math.ceil(picture.width * scale), math.ceil(picture.height * scale))
    image = Image.new("RGB", size, LIGHT["paper"])
    items = [(item, _rows(item)) for group in picture.groups for item in group.items]
    for top in range(0, size[1], BAND):
        bottom = min(top + BAND, size[1])
        band = Image.new("RGB", (size[0] * FINER, (bottom - top) * FINER), LIGHT["paper"])
        canvas = _Canvas(band, scale * FINER, top * FINER)
        for item, (first, last) in items:
            if first * scale <= bottom and last * scale >= top:
                canvas.draw(item)
        image.paste(band.reduce(FINER), (0, top))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def png_width(text: str, size: float, bold: bool = False) -> float:
    """The width of a text as it is drawn here."""
    font = _font(64, bold)
    return float(font.getlength(_drawable(text, bold))) * size / 64


def _rows(item: Shape | Text) -> tuple[float, float]:
    """The first and the last row that an item may touch."""
    if isinstance(item, Text):
        return item.y - 2 * item.size, item.y + item.size
    ys = [y for step in item.path for y in step[1::2]]
    return min(ys) - item.width, max(ys) + item.width


class _Canvas:
    def __init__(self, image: Image.Image, scale: float, top: float) -> None:
        self.draws, self.scale, self.top = ImageDraw.Draw(image), scale, top

    def draw(self, item: Shape | Text) -> None:
        """Draw a shape or a text."""
        if isinstance(item, Text):
            self._text(item)
        else:
            self._shape(item)

    def _shape(self, shape: Shape) -> None:
        points = [(x * self.scale, y * self.scale - self.top) for x, y in flat(shape.path)]
        if shape.tint:
            self.draws.polygon(points, fill=_mixed(shape.color, shape.tint))
        if shape.width:
            line = [*points, *points[:2]] if shape.is_closed else points
            width = max(1, round(shape.width * self.scale))
            for part in _dashes(line, self.scale) if shape.is_dashed else [line]:
                self.draws.line(part, LIGHT[shape.color], width, joint="curve")

    def _text(self, text: Text) -> None:
        font = _font(round(text.size * self.scale), text.is_bold)
        words = _drawable(text.text, text.is_bold)
        length = font.getlength(words)
        left = {"start": 0.0, "middle": length / 2, "end": length}[text.anchor]
        place = (text.x * self.scale - left, text.y * self.scale - self.top)
        anchor = "ls" if isinstance(font, ImageFont.FreeTypeFont) else None
        self.draws.text(place, words, LIGHT[text.color], font, anchor)


@functools.cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of the system, or else Pillow's own."""
    for name in FONTS[bold]:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    try:
        return ImageFont.load_default(size)
    except TypeError:  # of an old Pillow, which has one size
        return ImageFont.load_default()


@functools.cache
def _drawable(text: str, bold: bool) -> str:
    """The text in characters that the font has: others, such as emoji, become "?"."""
    font = _font(64, bold)
    missing = bytes(font.getmask("\U000f0000"))
    result = ""
    for char in text:
        if ord(char) < 128 or bytes(font.getmask(char)) != missing:
            result += char
        else:
            plain = char.translate(PLAIN)
            result += plain if plain != char else "?"
    return result


def _mixed(color: str, share: float) -> tuple[int, int, int]:
    """So much of a colour on paper."""
    red, green, blue = (
        round(share * int(LIGHT[color][i : i + 2], 16) + (1 - share) * int(LIGHT["paper"][i : i + 2], 16))
        for i in (1, 3, 5)
    )
    return red, green, blue


def flat(path: Path, steps: int = 16) -> list[tuple[float, float]]:
    """A path as points on it, so close that lines between them look smooth."""
    points: list[tuple[float, float]] = []
    for step in path:
        if len(step) == 2:
            points.append((step[0], step[1]))
            continue
        (x0, y0), (x1, y1, x2, y2, x3, y3) = points[-1], step
        for i in range(1, steps + 1):
            t = i / steps
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            points.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
    return points


def _dashes(points: Sequence[tuple[float, float]], scale: float) -> list[list[tuple[float, float]]]:
    """The pieces of a line that are drawn: 4 units, and then 3 that are not."""
    pieces: list[list[tuple[float, float]]] = []
    period, on = 7 * scale, 4 * scale
    at = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        done = 0.0
        while done < length:
            phase = (at + done) % period
            rest = (on if phase < on else period) - phase
            end = min(length, done + max(rest, 1e-3))
            if phase < on:
                pieces.append(
                    [(x0 + (x1 - x0) * d / length, y0 + (y1 - y0) * d / length) for d in (done, end)]
                )
            done = end
        at += length
    return pieces
