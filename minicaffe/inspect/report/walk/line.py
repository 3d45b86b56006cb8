"""A line of the chain rule: from the gradient of one y to that of one x below it, through one layer.

What the line of a layer type is stands in the other files of this folder, which enter it into ``lines``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.core.layer import Layer, LayerTable

SHOWN = 5  # terms of a sum; the others are added up
Index = tuple[int, ...]


@dataclass(frozen=True)
class Term:
    """One product of a sum, and what it is of; ``is_before``: the gradient of the line above is its last factor."""

    name: str
    factors: tuple[float, ...]
    is_before: bool = False

    @property
    def value(self) -> float:
        """The product."""
        return math.prod(self.factors)


@dataclass(frozen=True)
class Line:
    """dL/dx for one x: the number ``at`` of the bottom ``bottom``, by the rule ``formula``.

    ``terms`` are those of the sum that are shown, of ``count``; ``rest`` is the sum of the others. ``total`` is
    None where the layer type has no line of its own. ``table`` has the rows of a loss, under ``head``; the first
    number of a row is an index, which in the row of x is ``row``. ``note`` says what the numbers mean.
    """

    at: Index
    formula: str
    bottom: int = 0
    terms: tuple[Term, ...] = ()
    count: int = 0
    rest: float = 0.0
    total: float | None = None
    note: str = ""
    head: tuple[str, ...] = ()
    table: tuple[tuple[float, ...], ...] = ()
    row: int | None = None


@dataclass
class Spot:
    """Where the walk stands: at the number ``at`` of the layer's top ``top``, of one picture.

    The arrays are those of the layer's blobs without the batch, unless a blob's first axis is none of one picture;
    ``dx`` and ``dy`` are their gradients (None where there is none). ``largest`` chooses, among the numbers of a
    bottom that a mask allows, where the walk goes on. ``users`` are the names of the layers that take the tops;
    ``makers`` the steps that made the bottoms.
    """

    layer: Layer
    x: Sequence[np.ndarray]
    y: Sequence[np.ndarray]
    dx: Sequence[np.ndarray | None]
    dy: Sequence[np.ndarray | None]
    params: Sequence[np.ndarray]
    top: int
    at: Index
    largest: Callable[[int, np.ndarray | None], Index]
    users: Sequence[str]
    makers: Sequence[int]

    @property
    def above(self) -> float:
        """dL/dy."""
        dy = self.dy[self.top]
        return 0.0 if dy is None else float(dy[self.at])

    @property
    def is_without_batch(self) -> bool:
        """Whether no array has the first axis of its blob: 4 in the middle of a net that reshapes to (4, …)."""
        blobs = zip(self.layer.bottom_blobs, self.x, strict=True)
        return all(not blob.shape or x.ndim < len(blob.shape) for blob, x in blobs)


LineOf = Callable[[Spot], "Line | None"]
lines: LayerTable[LineOf] = LayerTable()


def line_of(spot: Spot) -> Line:
    """The line of a spot's layer. A type that has none of its own goes on at the bottom's largest gradient."""
    own = lines.get(spot.layer.type)
    line = None if own is None or not spot.is_without_batch else own(spot)
    if line is not None:
        return line
    bottom = next((i for i, dx in enumerate(spot.dx) if dx is not None), 0)
    return Line(spot.largest(bottom, None), "", bottom)


def sum_of(at: Index, formula: str, terms: Sequence[Term], note: str = "", bottom: int = 0) -> Line:
    """A line of these terms: the largest are shown, and the one of the line above."""
    order = sorted(terms, key=lambda term: -abs(term.value))
    shown = [term for i, term in enumerate(order) if i < SHOWN or term.is_before]
    rest = math.fsum(term.value for i, term in enumerate(order) if i >= SHOWN and not term.is_before)
    total = math.fsum(term.value for term in terms)
    return Line(at, formula, bottom, tuple(shown), len(terms), rest, total, note)
