"""Windows of images with labels, as R-CNN trains on: the file that lists them, and batches drawn from it.

The file names images, and of each image its windows (Caffe's WindowData):

    # 0                         the image's number, from 0 on
    images/cat.jpg              its path, without spaces
    3 500 353                   channels, height and width
    2                           the number of windows, then for each of them
    8 0.75 20 30 310 480        its class, its overlap with the object, and x1, y1, x2, y2, corners included

A window is foreground if it overlaps an object by ``fg_threshold`` or more; of the others, those below
``bg_threshold`` are background, class 0.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicaffe.data.batches import Batch, Ring
from minicaffe.data.decode import BAD_IMAGE, decode_image, plain_file
from minicaffe.data.order import AUGMENTATION, random_stream
from minicaffe.data.resize import resize
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.errors import DataError, named, one_line
from minicaffe.ops.rounding import round_half_away

FIELDS = 6  # of a window: class, overlap, x1, y1, x2, y2


@dataclass(frozen=True)
class WindowList:
    """The contents of a window file: paths of images, and rows (image, class, x1, y1, x2, y2) of whole numbers."""

    name: str
    images: list[Path]
    foreground: np.ndarray
    background: np.ndarray


def read_windows(
    source: str | Path,
    folder: str | Path = ".",
    root_folder: str = "",
    fg_threshold: float = 0.5,
    bg_threshold: float = 0.5,
) -> WindowList:
    """The windows that a file lists. Relative paths are looked up in ``folder``, then in the working directory.

    ``root_folder`` goes before every path in the file. Raises DataError, with the image, if the file is malformed.
    """
    path = find_path(source, lookup_folders(folder), "window file")
    try:
        words = Path(plain_file(path)).read_text(encoding="utf-8-sig").split()
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it must be a window file, as text") from None
    names, windows = _parse(words, path)
    images = _resolve(names, path, folder, root_folder)
    is_foreground = windows[:, 2] >= fg_threshold
    is_background = ~is_foreground & (windows[:, 2] < bg_threshold)
    rows = windows[:, [0, 1, 3, 4, 5, 6]].astype(np.int64)
    if (rows[is_foreground, 1] <= 0).any():
        first = rows[is_foreground & (rows[:, 1] <= 0)][0]
        raise DataError(
            f"{path}: image {first[0]}: a foreground window of class {first[1]}; 0 is the background"
        )
    background = rows[is_background]
    background[:, 1] = 0
    return WindowList(str(path), images, rows[is_foreground], background)


def _parse(words: list[str], path: Path) -> tuple[list[str], np.ndarray]:
    """The images' names, and (windows, 7): the number of the image, then the fields of each window."""
    names: list[str] = []
    found: list[np.ndarray] = []
    at = 0
    while at < len(words):
        number = len(names)
        head = words[at : at + 7]
        try:
            if head[0] != "#" or int(head[1]) != number:
                raise ValueError(f"'{' '.join(head[:2])}', but '# {number}' is expected")
            _, _, _, count = map(int, head[3:])
            fields = words[at + 7 : at + 7 + FIELDS * count]
            rows = np.array(fields, np.float32).reshape(count, FIELDS)
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{path}: image {number}: {named(str(error))}; see minicaffe/data/windows.py for the format"
            ) from None
        names.append(head[2])
        found.append(np.insert(rows, 0, number, axis=1))
        at += 7 + FIELDS * count
    if not names:
        raise DataError(f"{path}: lists no images; write '# 0', a path, sizes and windows for each")
    return names, np.concatenate(found)


def _resolve(names: list[str], path: Path, folder: str | Path, root_folder: str) -> list[Path]:
    """The images' paths. The place that has the first image has them all."""
    bases = [base / root_folder for base in (*lookup_folders(folder), path.parent)]
    base = next((base for base in bases if os.path.exists(base / names[0])), None)
    if base is None:
        places = " and in ".join(dict.fromkeys(str(base.resolve()) for base in bases))
        raise DataError(f"{path}: image 0: no image {named(names[0])} in {places}; set root_folder")
    return [base / name for name in names]


@dataclass(frozen=True)
class Cropping:
    """How a window becomes an image of ``size`` × ``size``: warped, or taken from the ``square`` around it, with
    ``context_pad`` output pixels of its surroundings on each side."""

    size: int
    context_pad: int = 0
    square: bool = False

    def place(
        self, box: np.ndarray, image: tuple[int, int], mirror: bool
    ) -> tuple[np.ndarray, tuple[slice, slice]]:
        """The part (x1, y1, x2, y2) of an (H, W) image to take, and the rows and columns of the output to fill.

        Both are computed in float32 and rounded as in Caffe's WindowDataLayer. Raises ValueError if the window lies
        outside the image.
        """
        if not (self.context_pad or self.square):
            whole = slice(0, self.size)
            return _inside(box, image), (whole, whole)
        scale = np.float32(self.size) / np.float32(self.size - 2 * self.context_pad)
        half = (box[2:] - box[:2] + 1).astype(np.float32) / np.float32(2)
        centre = box[:2].astype(np.float32) + half
        half = np.full(2, half.max()) if self.square else half
        box = np.concatenate([round_half_away(centre - half * scale), round_half_away(centre + half * scale)])
        limit = np.array(image[::-1])
        # how far the box reaches beyond the image
        cut = np.concatenate([np.maximum(0, -box[:2]), np.maximum(0, box[2:] - limit + 1)])
        part = _inside(box + cut * [1, 1, -1, -1], image)
        factor = np.float32(self.size) / (box[2:] - box[:2] + 1).astype(np.float32)
        warped = round_half_away((part[2:] - part[:2] + 1).astype(np.float32) * factor)
        pads = round_half_away(cut.astype(np.float32).reshape(2, 2) * factor)  # (before, after) × (x, y)
        start = np.array([pads[1, 0] if mirror else pads[0, 0], pads[0, 1]])
        stop = np.minimum(start + np.maximum(warped, 1), self.size)
        return part, (slice(int(start[1]), int(stop[1])), slice(int(start[0]), int(stop[0])))


def _inside(box: np.ndarray, image: tuple[int, int]) -> np.ndarray:
    height, width = image
    if box.min() < 0 or box[0] > box[2] or box[1] > box[3] or box[2] >= width or box[3] >= height:
        raise ValueError(f"window {box.tolist()} is not inside the image of {height} × {width}")
    return box


class WindowBatches:
    """Batch k of windows drawn at random: background first, then a fraction of foreground; [(3, s, s, N), (N,)].

    The seed and k decide which windows they are, and which are mirrored.
    """

    def __init__(
        self,
        windows: WindowList,
        cropping: Cropping,
        batch_size: int,
        fg_fraction: float,
        seed: int,
        slots: int,
        mirror: bool = False,
        mean: np.ndarray | None = None,
        scale: float = 1.0,
        keep_files: bool = False,
    ) -> None:
        """``mean``: (3, s, s) or (3, 1, 1), subtracted before ``scale``. Raises DataError if no window fits."""
        self.windows, self.cropping, self.seed = windows, cropping, seed
        self.mirror, self.mean, self.scale = mirror, mean, np.float32(scale)
        foreground = int(np.float32(batch_size) * np.float32(fg_fraction))
        self.counts = batch_size - foreground, foreground
        for count, rows, kind in zip(self.counts, self._kinds(), ("background", "foreground"), strict=True):
            if count and not len(rows):
                raise DataError(f"{windows.name}: no {kind} windows; change fg_fraction or the thresholds")
        self._ring = Ring(slots)
        self._files: dict[Path, bytes] | None = {} if keep_files else None

    def _kinds(self) -> tuple[np.ndarray, np.ndarray]:
        return self.windows.background, self.windows.foreground

    @property
    def order(self) -> WindowBatches:
        """What a restored snapshot reseeds."""
        return self

    def reseed(self, seed: int) -> None:
        """Draw different windows from now on."""
        self.seed = seed

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Caffe's shapes of the tops: (N, 3, s, s) and (N,)."""
        n, size = sum(self.counts), self.cropping.size
        return [(n, 3, size, size), (n,)]

    def samples(self, count: int) -> list[np.ndarray]:
        """The windows of all images: where they are, and of which classes."""
        return [*self._kinds()]

    def __call__(self, batch: int) -> Batch:
        """Make batch number ``batch``. Raises DataError."""
        rng = random_stream(self.seed, AUGMENTATION, batch)
        drawn = [
            rows[rng.integers(len(rows), size=n)]
            for rows, n in zip(self._kinds(), self.counts, strict=True)
            if n
        ]
        rows = np.concatenate(drawn)
        mirrored = rng.integers(2, size=len(rows)) > 0 if self.mirror else np.zeros(len(rows), bool)
        size = self.cropping.size
        out = self._ring.buffer((3, size, size, len(rows)))
        out.fill(0)
        for image in np.unique(rows[:, 0]):  # each is decoded once, however many of the windows it has
            with self._naming(image) as path:
                pixels = decode_image(self._open(path))
                for n in np.flatnonzero(rows[:, 0] == image):
                    self._write(pixels, rows[n, 2:], bool(mirrored[n]), out[..., n])
        return [out, rows[:, 1].astype(np.float32)]

    @contextmanager
    def _naming(self, image: int) -> Iterator[Path]:
        """The path of an image; errors raised in the block will name it."""
        path = self.windows.images[image]
        try:
            yield path
        except FileNotFoundError:
            raise DataError(
                f"{self.windows.name}: image {image}: no such file {named(str(path))}; set root_folder"
            ) from None
        except BAD_IMAGE as error:
            raise DataError(
                f"{self.windows.name}: image {image}, {named(str(path))}: {one_line(error)}"
            ) from None

    def _write(self, pixels: np.ndarray, box: np.ndarray, mirror: bool, out: np.ndarray) -> None:
        """Write one window of pixels (3, H, W) into ``out`` (3, s, s); what is beyond the image stays 0."""
        part, (rows, cols) = self.cropping.place(box, pixels.shape[1:], mirror)
        window = warp(pixels, part, rows.stop - rows.start, cols.stop - cols.start)
        target = out[:, rows, cols]
        target[...] = window[:, :, ::-1] if mirror else window
        if self.mean is not None:
            target -= self.mean[:, rows, cols] if self.mean.shape[1] > 1 else self.mean
        target *= self.scale

    def _open(self, path: Path) -> Path | io.BytesIO:
        if self._files is None:
            return path
        if path not in self._files:
            self._files[path] = path.read_bytes()
        return io.BytesIO(self._files[path])

    def close(self) -> None:
        """Drop the files in memory."""
        if self._files is not None:
            self._files.clear()


def warp(pixels: np.ndarray, part: np.ndarray, height: int, width: int) -> np.ndarray:
    """The part (x1, y1, x2, y2) of pixels (3, H, W), resized to (3, height, width)."""
    x1, y1, x2, y2 = part
    cut = pixels[:, y1 : y2 + 1, x1 : x2 + 1].transpose(1, 2, 0)
    return resize(cut, height, width).transpose(2, 0, 1)
