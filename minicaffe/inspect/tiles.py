"""Maps, kernels and images side by side in one PNG, small enough for a notebook.

Numbers are red below 0 and blue above, the more of it the larger they are; 0 is transparent, so that the picture
fits a light page and a dark one.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from minicaffe.inspect.report.pixels import as_pixels

MOST = 64  # tiles
SIDES = (64, 44, 28)  # pixels of a tile: the largest with which the PNG is small enough, or else the last
LARGE_SIDES = (384, 256, 160)  # of a tile that stands alone
LARGEST = 60_000  # bytes of a PNG
TABLE = 160, 480  # pixels of a table's picture, at most: height and width
WIDEST = 12  # tiles side by side
GAP = 3  # pixels between tiles
MINUS, PLUS = (207, 63, 63), (45, 122, 214)  # seen on white and on black
LEVELS = 31  # of red, and of blue
COLORS = 127  # of images
EXPONENT = 0.7  # of the share of the largest number: small numbers are seen


@dataclass(frozen=True)
class Tiles:
    """A picture of tiles, as a PNG; ``lo`` and ``hi`` are the numbers at the ends of its colors, if it has any."""

    png: bytes
    size: tuple[int, int]
    lo: float | None
    hi: float | None

    @property
    def uri(self) -> str:
        """The picture as an address that holds it."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def tiles_of(maps: np.ndarray, columns: int | None = None) -> Tiles:
    """A picture of maps (n, h, w), in rows of ``columns`` (by default at most twelve); nan is shown as 0."""
    columns = columns or _columns_for(len(maps))
    shares, lo, hi = _shares(maps)
    for side in LARGE_SIDES if len(maps) == 1 else SIDES:
        found = _colored(_sheet(_resized(shares, side), columns, 0))
        if len(png := _png(*found)) <= LARGEST:
            break
    return Tiles(png, found[0].size, lo, hi)


def table_of(numbers: np.ndarray) -> Tiles:
    """A picture of a matrix (h, w): a rectangle for each number, or for the mean of a block of them."""
    shares, lo, hi = _shares(numbers)
    for k, most, widest in ((0, TABLE[0], 10), (1, TABLE[1], 20)):
        size = shares.shape[k]
        block = -(-size // most)
        starts = np.arange(0, size, block)
        counts = np.diff([*starts, size])
        sums = np.add.reduceat(shares, starts, axis=k)
        shares = (sums / counts.reshape((-1, 1) if k == 0 else (1, -1))).repeat(
            min(most // len(starts), widest), k
        )
    found = _colored(shares)
    return Tiles(_png(*found), found[0].size, lo, hi)


def _shares(numbers: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Numbers as shares of the largest magnitude, −1 … 1, with the least and the largest, and 0 between them."""
    finite = np.nan_to_num(np.asarray(numbers, np.float32), posinf=0, neginf=0)
    lo, hi = min(0.0, float(finite.min())), max(0.0, float(finite.max()))
    return finite / max(-lo, hi, 1e-30), lo, hi


def _colored(shares: np.ndarray) -> tuple[Image.Image, bytes]:
    """An image of shares (h, w), and how opaque each of its colors is."""
    levels = np.rint(LEVELS * np.abs(shares) ** EXPONENT) * np.sign(shares)
    image = Image.fromarray((LEVELS + levels).astype(np.uint8), "P")
    steps = range(-LEVELS, LEVELS + 1)
    image.putpalette([part for step in steps for part in (MINUS if step < 0 else PLUS)])
    return image, bytes(round(255 * abs(step) / LEVELS) for step in steps)


def color_tiles_of(images: np.ndarray, columns: int | None = None) -> Tiles:
    """A picture of images (n, 3, h, w), blue first as Caffe has them, each from its least to its largest number."""
    columns = columns or _columns_for(len(images))
    channels = as_pixels(np.nan_to_num(np.asarray(images, np.float32)), None).transpose(3, 0, 1, 2)
    for side in LARGE_SIDES if len(images) == 1 else SIDES:
        sheets = [_sheet(_resized(one, side), columns, np.nan) for one in channels]
        codes = np.nan_to_num(np.stack(sheets, axis=-1)).astype(np.uint8)
        found = Image.fromarray(codes, "RGB").quantize(COLORS)
        palette = (found.getpalette() or [])[: 3 * COLORS]
        found.putpalette(palette + [128] * (3 * COLORS + 3 - len(palette)))
        found.paste(COLORS, mask=Image.fromarray(np.isnan(sheets[0])))  # the gaps
        png = _png(found, bytes([255] * COLORS + [0]))
        if len(png) <= LARGEST:
            break
    return Tiles(png, found.size, None, None)


def _columns_for(count: int) -> int:
    """As many as fit side by side, less some if the rows are equally long then."""
    return -(-count // -(-count // WIDEST))


def _resized(maps: np.ndarray, side: int) -> np.ndarray:
    """Maps (n, h, w) with about ``side`` pixels a side: pixels repeated, or the means of blocks."""
    h, w = maps.shape[1:]
    times = side // max(h, w)
    if times >= 1:
        return maps.repeat(times, axis=1).repeat(times, axis=2)
    k = min(-(-max(h, w) // side), h, w)  # a map may be long and thin
    blocks = maps[:, : h // k * k, : w // k * k].reshape(len(maps), h // k, k, w // k, k)
    means: np.ndarray = blocks.mean(axis=(2, 4), dtype=np.float32)
    return means


def _sheet(tiles: np.ndarray, columns: int, empty: float) -> np.ndarray:
    """Tiles (n, h, w) in rows, with gaps of the number ``empty`` between them."""
    n, h, w = tiles.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    sheet = np.full((rows * (h + GAP) - GAP, columns * (w + GAP) - GAP), empty, np.float32)
    for i, tile in enumerate(tiles):
        y, x = i // columns * (h + GAP), i % columns * (w + GAP)
        sheet[y : y + h, x : x + w] = tile
    return sheet


def _png(image: Image.Image, transparency: bytes | None = None) -> bytes:
    file = io.BytesIO()
    more = {} if transparency is None else {"transparency": transparency}
    image.save(file, "PNG", **more)
    return file.getvalue()
