"""The double of ``cupy.ndarray``: device memory is a NumPy array that only the double sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.strict_cupy.indexing import host_index
from tests.strict_cupy.memory import Allocation, Pinned, address_of, check_device, memory_of
from tests.strict_cupy.names import checked_methods
from tests.strict_cupy.order import host_waits, order_of
from tests.strict_cupy.rules import asked_by_package, check_dtype, count, refuse_to_package

SCALARS = (bool, int, float, complex, np.number, np.bool_)
IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. "
    "Please use `.get()` to construct a NumPy array explicitly."
)
AS_NUMPY_HAS_THEM = """
all any clip conj copy cumprod cumsum diagonal dot flatten max mean min prod ravel repeat reshape round squeeze std
sum swapaxes trace transpose var view
"""


def methods_of_numpy(cls: type) -> type:
    """Decorates the array: methods that do what NumPy's do, under the rules for arguments and results."""

    def make(name: str) -> Callable[..., ndarray]:
        on_memory = getattr(np.ndarray, name)

        def method(self: ndarray, *args: Any, **kwargs: Any) -> ndarray:
            result = on_memory(
                self._memory, *map(argument, args), **{k: argument(v) for k, v in kwargs.items()}
            )
            return finished(result, (self, *args, *kwargs.values()))

        return method

    for name in AS_NUMPY_HAS_THEM.split():
        setattr(cls, name, make(name))
    return cls


@checked_methods("ndarray")
@methods_of_numpy
class ndarray:
    """An array on the device that there is not."""

    __slots__ = ("__weakref__", "_home", "_memory")
    __array_priority__ = 100
    __hash__ = None

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"
    ):
        if memptr is not None or strides is not None:
            raise NotImplementedError("the double has no memory pointers")
        self._memory = uninitialised(shape, dtype, order)
        self._home = Allocation(self._memory.nbytes)

    # -- what NumPy asks for -------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        refuse_to_package(TypeError(IMPLICIT))
        return np.array(self._memory, dtype=dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from tests.strict_cupy import cupy

        function = getattr(cupy, ufunc.__name__, None)
        outs = kwargs.get("out", ())
        mixed = any(isinstance(a, np.ndarray) for a in (*inputs, *outs))
        if (mixed or function is None) and not asked_by_package():
            count("of_tests")
            return getattr(ufunc, method)(*to_numpy(inputs), **to_numpy(kwargs))
        if function is None or (method != "__call__" and not hasattr(function, method)):
            return NotImplemented
        if outs:
            kwargs["out"] = outs[0] if len(outs) == 1 else outs
        return (function if method == "__call__" else getattr(function, method))(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from tests.strict_cupy import cupy

        if not asked_by_package():
            count("of_tests")
            return function(*to_numpy(args), **to_numpy(kwargs))
        twin = cupy
        for name in (*function.__module__.split(".")[1:], function.__name__):
            twin = getattr(twin, name, None)
        return NotImplemented if twin is None else twin(*args, **kwargs)

    # -- to the host ---------------------------------------------------------------------------------------

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        count("host_reads")
        queue = order_of(stream, self._home.device)
        self._home.add(queue, writes=False)
        host_waits(queue)
        if out is None:
            return np.array(self._memory, order=order)
        if out.dtype != self.dtype or out.shape != self.shape:
            raise TypeError(
                f"{out.dtype} {out.shape} array cannot be obtained from {self.dtype} {self.shape}"
            )
        out[...] = self._memory
        return out

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __bool__(self) -> bool:
        if self.size > 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous.")
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get(), spec)

    def __reduce__(self) -> Any:
        from tests.strict_cupy import cupy

        return cupy.array, (self.get(),)

    # -- indexing ------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> ndarray:
        items, is_view = host_index(index, self.shape)
        if is_view:
            view = self._memory[items if any(i is Ellipsis for i in items) else (*items, ...)]
            return wrap(view, self._home)
        return launched(memory_of(self)[items])

    def __setitem__(self, index: Any, value: Any) -> None:
        items, is_view = host_index(index, self.shape)
        if isinstance(value, ndarray):
            value = memory_of(value)
        elif not isinstance(value, SCALARS):
            value = np.asarray(value)
            if value.ndim and is_view:  # CuPy fills with what is no device array
                refuse_to_package(ValueError("non-scalar numpy.ndarray cannot be used for fill"))
            elif value.ndim:
                count("copies_to_device")
        count("launches")
        memory_of(self, writes=True)[items] = value

    # -- attributes ----------------------------------------------------------------------------------------

    shape = property(lambda self: self._memory.shape)
    strides = property(lambda self: self._memory.strides)
    dtype = property(lambda self: self._memory.dtype)
    ndim = property(lambda self: self._memory.ndim)
    size = property(lambda self: self._memory.size)
    itemsize = property(lambda self: self._memory.itemsize)
    nbytes = property(lambda self: self._memory.nbytes)
    T = property(lambda self: wrap(self._memory.T, self._home))
    mT = property(lambda self: wrap(self._memory.mT, self._home))
    real = property(lambda self: wrap(self._memory.real, self._home))
    imag = property(lambda self: wrap(self._memory.imag, self._home))
    base = property(lambda self: None if self._memory.base is None else wrap(self._memory.base, self._home))
    data = property(lambda self: SimpleNamespace(ptr=address_of(self)))

    @shape.setter
    def shape(self, shape: Any) -> None:
        self._memory = self._memory.view()
        self._memory.shape = shape

    @property
    def flags(self) -> SimpleNamespace:
        flags = self._memory.flags
        return SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata
        )

    @property
    def device(self) -> Any:
        from tests.strict_cupy import cupy

        return cupy.cuda.Device(self._home.device)

    # -- methods that differ from NumPy's ------------------------------------------------------------------

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if copy is False and self.dtype == check_dtype(dtype):
            return self
        return launched(
            memory_of(self).astype(check_dtype(dtype), order, casting or "unsafe"), keep_order=True
        )

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False):
        return self._arg("argmax", axis, out, dtype, keepdims)

    def argmin(self, axis=None, out=None, dtype=None, keepdims=False):
        return self._arg("argmin", axis, out, dtype, keepdims)

    def _arg(self, name, axis, out, dtype, keepdims):
        found = getattr(memory_of(self), name)(axis, keepdims=keepdims)
        if out is None:
            return launched(np.asarray(found).astype(dtype or np.int64))
        out[...] = wrap(np.asarray(found))
        return out

    def argsort(self, axis=-1, kind=None):
        _check_kind(kind)
        return launched(memory_of(self).argsort(axis, kind="stable"))

    def sort(self, axis=-1, kind=None):
        _check_kind(kind)
        if not self.flags.c_contiguous:
            raise NotImplementedError("Sorting non-contiguous array is not supported.")
        count("launches")
        memory_of(self, writes=True).sort(axis, kind="stable")

    def fill(self, value):
        self[...] = value

    def nonzero(self):
        count("synchronizations")
        return tuple(launched(places) for places in np.nonzero(memory_of(self)))

    def set(self, arr, stream=None):
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if (arr.dtype, arr.shape) != (self.dtype, self.shape):
            raise TypeError(f"{arr.dtype} {arr.shape} array cannot be set to {self.dtype} {self.shape} array")
        if not self.flags.c_contiguous and not self.flags.f_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        count("copies_to_device")
        check_device(self)
        order = order_of(stream)
        if order.device != self._home.device:
            raise RuntimeError("cudaErrorInvalidResourceHandle: a stream of another device")
        if isinstance(arr, Pinned):
            arr.uses.add(order, writes=False)
        self._home.add(order, writes=True)
        np.copyto(self._memory, arr)

    def take(self, indices, axis=None, out=None):
        memory = None if out is None else memory_of(out, writes=True)
        found = np.take(memory_of(self), memories_of(indices), axis, memory, mode="wrap")
        return launched(found) if out is None else out

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()


def wrap(memory: np.ndarray, home: Allocation | None = None) -> ndarray:
    """NumPy memory as an array on the device: a view of what is there (``home``), or what was just written."""
    array = ndarray.__new__(ndarray)
    array._memory = memory
    array._home = Allocation.written(memory.nbytes) if home is None else home
    return array


def launched(result: Any, keep_order: bool = False) -> ndarray:
    """The result of a kernel: an array always, of rows one after the other."""
    count("launches")
    return wrap(np.asarray(result, order="K" if keep_order else "C"))


def finished(result: Any, given: Iterable[Any]) -> Any:
    """What a function returns: one of the arrays that it was given (as ``out``), a view of one, or a new one."""
    if isinstance(result, (tuple, list)):
        return type(result)(finished(part, given) for part in result)
    given = [array for array in given if isinstance(array, ndarray)]
    written = next((array for array in given if result is array._memory), None)
    if written is None and isinstance(result, np.ndarray):
        for array in given:
            if np.may_share_memory(result, array._memory):
                return wrap(result, array._home)
    for array in given:
        memory_of(array, writes=array is written)
    if written is None:
        return launched(result)
    count("launches")
    return written


def uninitialised(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    """Memory that holds what nobody wants: a value that is read before it is written shows."""
    dtype = check_dtype(dtype)
    memory = np.empty(shape, dtype, order)
    memory.fill(np.nan if dtype.kind in "fc" else True if dtype.kind == "b" else np.iinfo(dtype).max)
    return memory


def to_numpy(value: Any) -> Any:
    """The memory of all device arrays in a value, which may be a list, a tuple or a dict of them."""
    if isinstance(value, ndarray):
        return value._memory
    if isinstance(value, (list, tuple)):
        return type(value)(to_numpy(v) for v in value)
    if isinstance(value, dict):
        return {key: to_numpy(v) for key, v in value.items()}
    return value


def memories_of(value: Any) -> Any:
    """As ``to_numpy``, for a kernel."""
    if isinstance(value, (list, tuple)):
        return type(value)(memories_of(v) for v in value)
    return memory_of(value) if isinstance(value, ndarray) else value


def argument(value: Any) -> Any:
    """The memory of an argument of a function, which may be a view's. Raises TypeError for a NumPy array."""
    if isinstance(value, ndarray):
        return value._memory
    return operand(value) if isinstance(value, np.ndarray) else value


def operand(value: Any, writes: bool = False) -> Any:
    """The memory of an argument of a kernel. Raises TypeError for what CuPy does not take there."""
    if isinstance(value, ndarray):
        return memory_of(value, writes)
    if isinstance(value, SCALARS):
        return value
    refuse_to_package(TypeError(f"Unsupported type {type(value)}"))
    return np.asarray(value)


def _check_kind(kind: Any) -> None:
    if kind not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")
