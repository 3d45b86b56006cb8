"""Occlusion: how far a class's score falls when a part of the picture is covered.

    fall = log p(class | picture) − log p(class | picture with a square of one colour on it)

Above 0 where covering hurts the class, below 0 where it helps. It says what the score depends on, not why.

The square's side is a seventh of the picture's shorter side, and it moves by half its side, or by all of it (Zeiler
and Fergus 2014, arXiv 1311.2901, section 4.2). Its colour is the mean: of the data, if that is subtracted from the
net's pictures, or else of the pictures given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.inspect.report.scorer import Scorer
from minicaffe.train.progress import Progress

BEST = 5  # classes whose maps are kept, and the label's
PARTS = 7  # the square is this part of the shorter side


@dataclass(frozen=True)
class Places:
    """Where a square of ``side`` pixels goes: its upper edges and its left edges."""

    side: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many places there are."""
        return len(self.tops) * len(self.lefts)


def places_on(height: int, width: int) -> Places:
    """The places on a picture of this size, half a side apart; the last of a row or column ends at the border."""
    side = max(1, round(min(height, width) / PARTS))
    return _places(height, width, side, max(1, side // 2))


def few_places_on(height: int, width: int) -> Places:
    """Places side by side: a quarter as many, for large nets."""
    side = max(1, round(min(height, width) / PARTS))
    return _places(height, width, side, side)


def _places(height: int, width: int, side: int, step: int) -> Places:
    rows, columns = ((*range(0, length - side, step), length - side) for length in (height, width))
    return Places(side, rows, columns)


def colour_of(pictures: np.ndarray, mean_is_subtracted: bool) -> np.ndarray:
    """The square's colour, (C,), as the net sees it: 0 where a mean is subtracted, or the mean of ``pictures``."""
    if mean_is_subtracted:
        return np.zeros(pictures.shape[1], np.float32)
    return np.asarray(pictures.mean(axis=(0, 2, 3), dtype=np.float64), np.float32)


def best_classes(scores: np.ndarray, label: int | None, most: int = BEST) -> list[int]:
    """The ``most`` best classes by their scores (classes,), and the label if it is none of them."""
    classes: list[int] = np.argsort(-scores, kind="stable")[:most].tolist()
    if label is not None and label < len(scores) and label not in classes:
        classes.append(label)
    return classes


def covered(picture: np.ndarray, places: Places, colour: np.ndarray, which: Sequence[int]) -> np.ndarray:
    """Copies (n, C, H, W) of a picture with the square at the places ``which``, counted row by row."""
    copies = np.repeat(picture[None], len(which), axis=0)
    for copy, k in zip(copies, which, strict=True):
        row, column = divmod(k, len(places.lefts))
        top, left = places.tops[row], places.lefts[column]
        copy[:, top : top + places.side, left : left + places.side] = colour[:, None, None]
    return copies


def falls(
    scorer: Scorer, picture: np.ndarray, places: Places, colour: np.ndarray, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of a picture (C, H, W), (classes,), and by how much they fall: (classes, rows, columns)."""
    alone = scorer(picture[None])[0]
    rest = []
    for first in range(0, places.count, scorer.batch):
        which = range(first, min(first + scorer.batch, places.count))
        rest.append(scorer(covered(picture, places, colour, which)))
        progress.say_some(len(which))
    fall = alone[:, None] - np.concatenate(rest).T
    return alone, fall.reshape(-1, len(places.tops), len(places.lefts))
