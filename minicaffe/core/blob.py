"""Blob: an array and its gradient, in Caffe's shape outside and batch-last inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from minicaffe.core.display import html_of
from minicaffe.core.host_copies import HostCopies
from minicaffe.core.memory import Memory
from minicaffe.device.array import CPU, Array, Device, current_device
from minicaffe.errors import ShapeError

MAX_COUNT = 2**31 - 1
MAX_AXES = 32


class Blob:
    """An N-d array ``data`` with a gradient ``diff`` of the same shape (Caffe's ``Blob``).

    ``data`` and ``diff`` have Caffe's shape (N, C, H, W) and may be written in place. They are views of
    ``stored`` and ``stored_diff``, which lie in memory with the batch axis last, (C, H, W, N): layers compute
    on those. A parameter has no batch axis (``batch_last=False``): its ``stored`` is its ``data``.

    Memory is allocated on first use and starts as zeros.
    """

    def __init__(
        self,
        shape: Sequence[int] = (),
        dtype: DTypeLike = np.float32,
        device: Device | None = None,
        batch_last: bool = True,
    ) -> None:
        self.device = device or current_device()
        self.dtype = np.dtype(dtype)
        self.batch_last = batch_last
        self._data, self._diff = Memory(), Memory()
        self._data_owner: Blob | None = None
        self._diff_owner: Blob | None = None
        self._diff_is_cleared = False
        self._host_copies: HostCopies | None = None  # that a script has asked for, and may have written into
        self.shape: tuple[int, ...] = ()
        self.reshape(*shape)

    def reshape(self, *shape: int | Sequence[int]) -> None:
        """Change the shape: ``reshape(2, 3)`` or ``reshape((2, 3))``. Reshaping to the same shape keeps the data.

        Raises ShapeError for a negative dimension, or for more than Caffe's limits.
        """
        given: Any = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        dims = tuple(int(d) for d in given)
        if any(d < 0 for d in dims):
            raise ShapeError(f"blob shape {dims}: a dimension is negative")
        most = math.prod(d or 1 for d in dims)  # an empty blob has strides too
        if most > MAX_COUNT or len(dims) > MAX_AXES:
            raise ShapeError(
                f"blob shape {dims}: more than {MAX_COUNT} elements or {MAX_AXES} axes (Caffe's limits)"
            )
        if dims != self.shape:
            self.shape = dims
            self._data.drop()
            self._diff.drop()
            self._host_copies = None

    num = property(lambda self: _axis(self, 0), doc="N: the size of the first axis, or 1 if there is none.")
    channels = property(lambda self: _axis(self, 1), doc="C: the size of the second axis, or 1.")
    height = property(lambda self: _axis(self, 2), doc="H: the size of the third axis, or 1.")
    width = property(lambda self: _axis(self, 3), doc="W: the size of the fourth axis, or 1.")

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in memory: ``shape`` with the batch axis moved to the end."""
        return self.shape[1:] + self.shape[:1] if self.batch_last else self.shape

    @property
    def stored(self) -> Array:
        """The data as it lies in memory, contiguous: (C, H, W, N)."""
        if not self.batch_last:
            self.keep_apart("data")
        return self._stored()

    def _stored(self) -> Array:
        if self._data_owner is not None:
            return self._data_owner._stored().reshape(self.stored_shape)
        if self._data.array is None:
            self._data.check()
            self._data.array = self._zeros()
        self._send_written("data", self._data.array)
        return self._data.array

    @property
    def values(self) -> Array:
        """A parameter's data, to be read now and not to be kept.

        A read-only array is the same object as long as the numbers are the same. Once a script has asked for
        ``data``, nobody knows when it writes there, and the array is not read-only.
        """
        stored = self._stored()
        constant = self.memory("data").constant()
        return stored if constant is None or constant.shape != self.stored_shape else constant

    def write(self, values: Array) -> None:
        """Set the data, in Caffe's shape; nobody else gets hold of the array."""
        self.logical(self._stored())[...] = values
        self.memory("data").forget_constant()

    @property
    def stored_diff(self) -> Array:
        """The gradient as it lies in memory, contiguous: (C, H, W, N)."""
        if self._diff_owner is not None:
            return self._diff_owner.stored_diff.reshape(self.stored_shape)
        if self._diff.array is None:
            self._diff.array = self._zeros()
        elif self._diff_is_cleared:
            with self.device.entered():
                self._diff.array.fill(0)
        self._diff_is_cleared = False
        self._send_written("diff", self._diff.array)
        return self._diff.array

    def _zeros(self) -> Array:
        with self.device.entered():
            zeros: Array = self.device.xp.zeros(self.stored_shape, self.dtype)
            return zeros

    def stored_axis(self, axis: int) -> int:
        """The axis of ``stored`` that an axis of ``data`` lies on."""
        return (axis - 1) % len(self.shape) if self.batch_last else axis

    @property
    def data(self) -> Array:
        """The data in Caffe's shape, (N, C, H, W): a view of ``stored``."""
        self.keep_apart("data")
        return self.logical(self.stored)

    @property
    def diff(self) -> Array:
        """The gradient in Caffe's shape, (N, C, H, W): a view of ``stored_diff``."""
        self.keep_apart("diff")
        return self.logical(self.stored_diff)

    def logical(self, stored: Array) -> Array:
        """A view of a stored array (batch last) in Caffe's order."""
        ndim = stored.ndim
        return stored.transpose(ndim - 1, *range(ndim - 1)) if self.batch_last and ndim > 1 else stored

    @property
    def has_diff(self) -> bool:
        """Whether the gradient has been used yet."""
        return self.memory("diff").array is not None

    def clear_diff(self) -> None:
        """Set the gradient to zero. It is filled when it is next read; ``accumulate`` just overwrites it."""
        if self._diff_owner is not None:
            self._diff_owner.clear_diff()
        self.keep_apart("diff")
        self._outdate_on_host("diff")
        self._diff_is_cleared = self._diff.array is not None

    def accumulate(self, compute: Callable[[Array], object]) -> None:
        """Add what ``compute(out)`` writes into ``out`` to the gradient; a cleared gradient is written directly."""
        fresh = self._fresh_diff()
        if fresh is not None:
            compute(fresh)
            self._diff_is_cleared = False
            return
        term = self.device.xp.empty(self.stored_shape, self.dtype)
        compute(term)
        self.stored_diff[...] += term

    def add_to_diff(self, values: Array) -> None:
        """Add ``values``, in the stored order, to the gradient."""
        fresh = self._fresh_diff()
        if fresh is not None:
            fresh[...] = values
            self._diff_is_cleared = False
        else:
            self.stored_diff[...] += values

    def _fresh_diff(self) -> Array | None:
        """The gradient's array if it is cleared, so that it can be overwritten; None otherwise."""
        if self._diff.array is None and self._diff_owner is None:
            self._diff.array = self.device.xp.empty(self.stored_shape, self.dtype)
            self._diff_is_cleared = True
        return self._diff.array if self._diff_is_cleared else None

    def share_data(self, other: Blob | None) -> None:
        """Use the data of another blob of the same count from now on; None: its own again."""
        self._data_owner = _owner(other, self, "_data_owner")
        if self._data_owner is not None:
            self._data.drop()
            self._outdate_on_host("data")

    @property
    def data_owner(self) -> Blob:
        """The blob that owns the memory of ``data``: this one, unless it shares another's."""
        return self if self._data_owner is None else self._data_owner

    def share_diff(self, other: Blob | None) -> None:
        """Use the gradient of another blob from now on; None: its own again."""
        self._diff_owner = _owner(other, self, "_diff_owner")
        if self._diff_owner is not None:
            self._diff.drop()
            self._outdate_on_host("diff")

    def join(self, what: str, whole: Blob, start: int) -> None:
        """Let the "data" or "diff" lie in that of another blob, ``start`` elements from its beginning.

        The same numbers are there already. It lasts until a script asks for the array of either.
        """
        self.memory(what).join(whole.memory(what), start)

    def is_part_of(self, what: str, whole: Blob, start: int) -> bool:
        """Whether it has joined the other blob's there, and still lies there."""
        return self.memory(what).is_part_of(whole.memory(what), start)

    def keep_apart(self, what: str) -> None:
        """Let the "data" or "diff" be part of no other blob's from now on, and no other blob's be part of it."""
        self.memory(what).show()

    def memory(self, what: str) -> Memory:
        """The memory of its "data" or "diff", which is another blob's if it shares that."""
        own, owner = (self._data, self._data_owner) if what == "data" else (self._diff, self._diff_owner)
        return own if owner is None else owner.memory(what)

    def on_host(self, what: str) -> np.ndarray:
        """The "data" or "diff" as a NumPy array.

        Whatever is written into the array is sent to the device before the blob is next used there. Ask again after
        that.
        """
        self.keep_apart(what)
        return getattr(self, what) if self.device == CPU else self.logical(self._stored_on_host(what))

    def _stored_on_host(self, what: str) -> np.ndarray:
        owner = self._data_owner if what == "data" else self._diff_owner
        if owner is not None:
            return owner._stored_on_host(what).reshape(self.stored_shape)
        if self._host_copies is None:
            self._host_copies = HostCopies()
        return self._host_copies.fetch(what, lambda: self.stored if what == "data" else self.stored_diff)

    def _send_written(self, what: str, stored: Array) -> None:
        if self._host_copies is not None and self._host_copies.is_newer(what):
            with self.device.entered():
                self._host_copies.send(what, stored)

    def _outdate_on_host(self, what: str) -> None:
        if self._host_copies is not None:
            self._host_copies.outdate(what)

    @property
    def has_data(self) -> bool:
        """Whether the data have been used yet: before that they are zeros that take no memory."""
        return self.memory("data").array is not None

    def __repr__(self) -> str:
        about = f"Blob {self.shape} {self.dtype} on {self.device}"
        if not self.has_data or not self.count:
            why = "data gone" if self.memory("data").is_gone else "no data yet"
            return f"{about}, {why}" if self.count else f"{about}, empty"
        with self.device.entered():
            numbers = [
                float(value) for value in (self._stored().min(), self._stored().mean(), self._stored().max())
            ]
        return "{}, min {:.4g}, mean {:.4g}, max {:.4g}".format(about, *numbers)

    def _repr_html_(self) -> str | None:
        return html_of(self)


def _owner(other: Blob | None, blob: Blob, link: str) -> Blob | None:
    """The blob at the end of a chain of sharing; None if that is ``blob`` itself."""
    while other is not None and getattr(other, link) is not None:
        other = getattr(other, link)
    return None if other is blob else other


def _axis(blob: Blob, axis: int) -> int:
    return blob.shape[axis] if axis < len(blob.shape) else 1


def advice_on_shape(name: str, given: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What to do about an array of another shape than the blob's, after the message that says so."""
    if len(given) == len(wanted) == 4 and given[1:] == (*wanted[2:], wanted[1]):
        return "its channels are last; give array.transpose(0, 3, 1, 2)"
    return f"net.blobs['{name}'].reshape(*shape) and net.reshape() change it"
