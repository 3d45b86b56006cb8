"""The double of CuPy's functions: NumPy's, under the rules for arguments and results, but for those that differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.strict_cupy.arrays import (
    argument,
    finished,
    launched,
    memories_of,
    ndarray,
    operand,
    to_numpy,
    uninitialised,
    wrap,
)
from tests.strict_cupy.memory import Allocation, memory_of
from tests.strict_cupy.names import RECORD
from tests.strict_cupy.order import here
from tests.strict_cupy.rules import check_dtype, count, refuse_to_package
from tests.strict_cupy.ufuncs import matmul, ufuncs  # noqa: F401

CREATE = "arange eye full identity linspace ones zeros"
ABOUT = "isscalar may_share_memory ndim result_type shape shares_memory size"  # nothing is launched
OF_SEVERAL = "concatenate hstack stack vstack"
ANYTHING_FIRST = "atleast_1d einsum result_type isscalar"
METHODS = "all any argmax argmin argsort cumsum max mean min nonzero prod std sum take trace var"
METHOD_NAMES = {**{name: name for name in METHODS.split()}, "amax": "max", "amin": "min"}


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    """A new array; NumPy arrays and numbers are copied to the device."""
    if isinstance(obj, ndarray):
        if obj._home.device != here.device:  # the one function that brings an array from another device
            return launched(np.array(obj._memory, dtype))
        if not copy and dtype in (None, obj.dtype):
            return obj
        return obj.astype(obj.dtype if dtype is None else dtype, "K" if order is None else order)
    if isinstance(obj, (list, tuple)) and obj and all(isinstance(a, ndarray) for a in obj):
        return stack(list(obj)).astype(dtype or obj[0].dtype, copy=False)
    found = np.array(obj, dtype=dtype, order="F" if order == "F" else "C", ndmin=ndmin)
    check_dtype(found.dtype)
    count("copies_to_device")
    return wrap(found)


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    """The array itself where it is on the device already."""
    return array(a, dtype, copy, order)


def ascontiguousarray(a, dtype=None):
    """The array itself where its rows lie one after the other."""
    _check_array("ascontiguousarray", a)
    if a.flags.c_contiguous and dtype in (None, a.dtype):
        return a
    return launched(np.ascontiguousarray(memory_of(a), dtype))


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    """A copy in the host's memory."""
    return a.get(order=order, out=out) if isinstance(a, ndarray) else np.asarray(a, order=order)


def get_array_module(*args):
    """This module, if an argument is on the device; NumPy otherwise."""
    from tests.strict_cupy import cupy

    return cupy if any(isinstance(a, ndarray) for a in args) else np


def empty(shape, dtype=float, order="C"):
    """Memory that holds anything: here, NaN."""
    return ndarray(shape, dtype, order=order)


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    """As ``empty``, in the shape and order of another array."""
    _check_array("empty_like", prototype)
    like = np.empty_like(prototype._memory, dtype, order, shape=shape)
    like[...] = uninitialised((), like.dtype)
    return wrap(like, Allocation(like.nbytes))


def copyto(dst, src, casting="same_kind", where=None):
    """Copy, with broadcasting."""
    _check_array("copyto", dst)
    if isinstance(src, np.ndarray) and src.size != 1:
        refuse_to_package(ValueError("non-scalar numpy.ndarray cannot be used for copyto"))
    count("launches")
    mask = True if where is None else operand(where)
    np.copyto(
        memory_of(dst, writes=True), src if isinstance(src, np.ndarray) else operand(src), casting, mask
    )


def where(condition, x=None, y=None):
    """Choose; with the condition alone, it is ``nonzero``."""
    _check_array("where", condition)
    if x is None and y is None:
        return condition.nonzero()
    return launched(np.where(memory_of(condition), operand(x), operand(y)))


def vdot(a, b):
    """The inner product of two arrays of one size."""
    _check_array("vdot", a, b)
    if a.size != b.size:
        raise ValueError("Axis dimension mismatch")
    return launched(np.vdot(memory_of(a), memory_of(b)))


def stack(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    """Arrays along a new axis."""
    _check_array("stack", *tup)
    memory = None if out is None else argument(out)
    return finished(np.stack(to_numpy(list(tup)), axis, memory, dtype=dtype, casting=casting), (*tup, out))


def argwhere(a):
    """The places that are not zero, which takes a synchronisation, as ``nonzero`` does."""
    _check_array("argwhere", a)
    count("synchronizations")
    return launched(np.argwhere(memory_of(a)))


def flatnonzero(a):
    """The places that are not zero, of the flattened array."""
    return a.ravel().nonzero()[0]


def unique(ar, *args, **kwargs):
    """The different elements."""
    _check_array("unique", ar)
    count("synchronizations")
    return finished(np.unique(memory_of(ar), *args, **kwargs), ())


def as_strided(x, shape=None, strides=None):
    """A view with any strides."""
    _check_array("as_strided", x)
    return wrap(np.lib.stride_tricks.as_strided(x._memory, shape, strides), x._home)


def _check_array(name: str, *arrays: Any) -> None:
    for a in arrays:
        if not isinstance(a, ndarray):
            refuse_to_package(TypeError(f"{name}: Unsupported type {type(a)}"))


def _created(name: str) -> Callable[..., ndarray]:
    def create(*args: Any, **kwargs: Any) -> ndarray:
        found = getattr(np, name)(*map(memories_of, args), **{k: memories_of(v) for k, v in kwargs.items()})
        check_dtype(found.dtype)
        return launched(found, keep_order=True)

    return create


def _as_numpy(name: str) -> Callable[..., Any]:
    """NumPy's function, of arrays on the device."""
    on_memory = getattr(np, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if name in OF_SEVERAL.split():
            _check_array(name, *args[0])
        elif args and name not in ANYTHING_FIRST.split():
            _check_array(name, args[0])
        args = [to_numpy(a) if isinstance(a, (list, tuple)) else argument(a) for a in args]
        return on_memory(*args, **{k: argument(v) for k, v in kwargs.items()})

    if name in ABOUT.split():
        return call
    return lambda *args, **kwargs: finished(call(*args, **kwargs), _arrays_in((*args, *kwargs.values())))


def _arrays_in(given: tuple[Any, ...]) -> list[Any]:
    flat = []
    for a in given:
        flat += a if isinstance(a, (list, tuple)) else [a]
    return flat


def _as_method(name: str) -> Callable[..., Any]:
    def call(a: Any, *args: Any, **kwargs: Any) -> Any:
        _check_array(name, a)
        return getattr(a, METHOD_NAMES[name])(*args, **kwargs)

    return call


def make(name: str) -> Callable[..., Any]:
    """The double of one of the functions in the record."""
    if name in OWN:
        return OWN[name]
    if name in CREATE.split():
        return _created(name)
    return _as_method(name) if name in METHOD_NAMES else _as_numpy(name)


OWN = {
    f.__name__: f
    for f in (
        array, asarray, ascontiguousarray, asnumpy, get_array_module, empty, empty_like, copyto, where, vdot, stack,
        argwhere, flatnonzero, unique, matmul,
    )
}  # fmt: skip
functions: dict[str, Callable[..., Any]] = {
    name: make(name) for name in RECORD["functions"] if hasattr(np, name) or name in OWN
}
