"""Epilogue: what in-place layers do to the output of another one, while a block of it is still in the cache.

    y ← f_k(… f₂(f₁(y)))        each f treats every number of a channel alike

A convolution writes y block by block. BatchNorm, Scale and ReLU after it would each read and write all of y again,
out of memory; as the convolution's epilogue they work on the block that has just been written. Affine maps that
follow one another are one:

    s₂ · (s₁ · y + t₁) + t₂ = (s₂ · s₁) · y + (s₂ · t₁ + t₂)

Shapes: y (M, …) with the channels first; s, t (M,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.workers import CHUNK, WORTH_SHARING, Calls
from minicaffe.ops.channels import RowLoops
from minicaffe.ops.rectify import bounded, calls_of_bounded
from minicaffe.ops.remember import is_same_object

WHOLE = slice(None)
WORTH_WORKERS = 1 << 18  # elements of y: more are worth waking the workers


@dataclass(frozen=True)
class Affine:
    """y ← scale · (y − center) + shift, with numbers for each channel; None is 1, or 0."""

    scale: Array | None = None
    shift: Array | None = None
    center: Array | None = None  # subtracted first: near it nothing cancels

    def then(self, other: Affine) -> Affine:
        """This map and then another, as one."""
        scale, shift = self.scale, self.shift
        if other.center is not None:
            shift = -other.center if shift is None else shift - other.center
        if other.scale is not None:
            scale = other.scale if scale is None else scale * other.scale
            shift = None if shift is None else shift * other.scale
        if other.shift is not None:
            shift = other.shift if shift is None else shift + other.shift
        return Affine(scale, shift, self.center)

    def apply(self, y: Array, own: slice) -> None:
        """Map some channels in place."""
        with RowLoops(y):
            if self.center is not None:
                y -= _along_channels(self.center[own], y)
            if self.scale is not None:
                y *= _along_channels(self.scale[own], y)
            if self.shift is not None:
                y += _along_channels(self.shift[own], y)

    def calls(self, y: Array, own: slice) -> Calls:
        """The calls that ``apply`` makes."""
        if RowLoops(y).is_needed:
            return [partial(self.apply, y, own)]
        xp = module_of(y)
        steps = (xp.subtract, self.center), (xp.multiply, self.scale), (xp.add, self.shift)
        return [
            partial(step, y, _along_channels(numbers[own], y), out=y)
            for step, numbers in steps
            if numbers is not None
        ]


@dataclass(frozen=True)
class Bounded:
    """y ← min(max(y, low), high); None is no bound."""

    low: float | None = None
    high: float | None = None

    def apply(self, y: Array, own: slice) -> None:
        """Map some channels in place."""
        bounded(y, self.low, self.high, y)

    def calls(self, y: Array, own: slice) -> Calls:
        """The calls that ``apply`` makes."""
        return calls_of_bounded(y, self.low, self.high, y)


@dataclass(frozen=True)
class Function:
    """y ← f(y), where ``function(y, *coefficients)`` works in place; of coefficients (M,) each channel has one."""

    function: Callable[..., None]
    coefficients: tuple[Array, ...] = ()

    def apply(self, y: Array, own: slice) -> None:
        """Map some channels in place."""
        self.function(y, *(_along_channels(numbers[own], y) for numbers in self.coefficients))

    def calls(self, y: Array, own: slice) -> Calls:
        """The calls that ``apply`` makes."""
        return [partial(self.apply, y, own)]


Map = Affine | Bounded | Function


class Epilogue:
    """Maps to be applied one after the other."""

    def __init__(self, maps: Iterable[Map]) -> None:
        self.maps: list[Map] = []
        for each in maps:
            last = self.maps[-1] if self.maps else None
            if isinstance(last, Affine) and isinstance(each, Affine):
                self.maps[-1] = last.then(each)
            else:
                self.maps.append(each)

    def apply(self, y: Array, own: slice = WHOLE) -> None:
        """Map some channels of y in place: y is those, with the channels on its first axis."""
        for each in self.maps:
            each.apply(y, own)

    def calls(self, y: Array, own: slice = WHOLE) -> Calls:
        """The calls that ``apply`` makes."""
        return [call for each in self.maps for call in each.calls(y, own)]

    def calls_over(self, y: Array) -> Calls:
        """The calls that ``over`` makes."""
        return self.calls(y) if y.size <= CHUNK or not on_cpu(y) else [partial(self.over, y)]

    def over(self, y: Array, *xs: Array, write: Callable[..., None] | None = None) -> None:
        """Map all of y (M, …), or what ``write(y, *xs)`` writes there: in one pass, block by block."""
        size = CHUNK // (1 + len(xs))
        if y.size <= min(size, WORTH_WORKERS) or not on_cpu(y):
            if write is not None:
                write(y, *xs)
            self.apply(y)
            return
        sharers = workers.worker_count if y.size > WORTH_WORKERS else 1
        rows = [array.reshape(len(array), -1) for array in (y, *xs)]

        def visit(block: tuple[slice, slice], worker: int) -> None:
            target, *sources = (array[block] for array in rows)
            if write is not None:
                write(target, *sources)
            self.apply(target, block[0])

        workers.share(visit, _blocks(rows[0], size if y.size >= WORTH_SHARING else CHUNK, sharers), sharers)


def _blocks(y: Array, size: int, sharers: int) -> list[tuple[slice, slice]]:
    """Cut y (M, n) into blocks of about ``size`` elements: whole rows, or parts of one.

    All sharers get as many, where there are enough rows.
    """
    rows, columns = y.shape
    together = min(rows, max(1, size // max(1, columns)))
    parts = -(-rows // together)
    return [
        (own, part)
        for own in workers.cut(rows, min(rows, -(-parts // sharers) * sharers))
        for part in workers.cut(columns, max(1, columns // max(1, size)))
    ]


def split(epilogue: Epilogue | None, y: Array) -> tuple[Epilogue | None, Epilogue | None]:
    """The epilogue for the blocks of a product y, which workers write, and the one for all of y afterwards.

    A small y is in the cache afterwards too; and there each short call of NumPy costs a worker more than it saves,
    as it has to wait for the interpreter's lock.
    """
    return (epilogue, None) if on_cpu(y) and y.size >= WORTH_SHARING else (None, epilogue)


class Folding:
    """A product's weights and bias with the affine map that comes next in them, kept while they are the same."""

    def __init__(self) -> None:
        self._latest: tuple[Array, Epilogue, Array] | None = None  # the weights before and after

    def folded(
        self, w: Array, bias: Array | None, epilogue: Epilogue | None, columns: int
    ) -> tuple[Array, Array | None, Epilogue | None]:
        """The weights w (M, …) and the bias (M,) of a product with ``columns``, and the rest of its epilogue.

        An affine map that the epilogue begins with becomes part of w and b:
        s · (w · x + b) + t = (s · w) · x + (s · b + t).
        Where there are more weights than outputs, s stays in the epilogue.
        """
        first = epilogue.maps[0] if epilogue is not None and epilogue.maps else None
        if epilogue is None or not isinstance(first, Affine):
            return w, bias, epilogue
        both, rest = Affine(shift=bias).then(first), epilogue.maps[1:]
        after = Epilogue(rest) if rest else None
        if both.scale is None:
            return w, both.shift, after
        if w.size > len(w) * columns:
            return w, None, Epilogue([both, *rest])
        return self._scaled(w, both.scale, epilogue), both.shift, after

    def _scaled(self, w: Array, scale: Array, epilogue: Epilogue) -> Array:
        latest = self._latest
        if latest is None or latest[1] is not epilogue or not is_same_object(w, latest[0]):
            latest = w, epilogue, w * _along_channels(scale, w)
            self._latest = None
            if is_same_object(w, w):
                latest[2].flags.writeable = False
                self._latest = latest
        return latest[2]


def _along_channels(numbers: Array, y: Array) -> Array:
    """(M,) with as many axes as y (M, …)."""
    return numbers.reshape(-1, *[1] * (y.ndim - 1))
