"""The double of CuPy's ufuncs, and the operators of arrays, which are ufuncs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.strict_cupy.arrays import launched, ndarray, operand, wrap
from tests.strict_cupy.memory import memory_of
from tests.strict_cupy.names import RECORD
from tests.strict_cupy.products import copies_of
from tests.strict_cupy.rules import count

RANKS = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "power", "lshift": "left_shift", "rshift": "right_shift", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor", "matmul": "matmul",
}  # fmt: skip
COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip


class ufunc:
    """A function of elements. It takes ``out``, ``casting`` and ``dtype``; arrays on the device, and scalars."""

    def __init__(self, name: str, nin: int, nout: int, types: str, at: str) -> None:
        self.__name__, self.nin, self.nout, self.nargs = name, nin, nout, nin + nout
        self.types = types.split()
        self._on_memory, self._scatter = getattr(np, name), at
        self._loops: dict[tuple[Any, ...], str] = {}

    def __call__(
        self, *args: Any, out: Any = None, casting: str = "same_kind", dtype: Any = None, **kwargs: Any
    ):
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(f"Wrong number of arguments for '{self.__name__}': {len(args)}")
        inputs, outs = args[: self.nin], args[self.nin :]
        if out is not None:
            outs = out if isinstance(out, tuple) else (out,)
        on_host = [operand(a) for a in inputs]
        if any(isinstance(a, np.ndarray) for a in inputs) and not outs:  # of a test, or it had raised
            return self._on_memory(*on_host, casting=casting, dtype=dtype)
        memories = [None if o is None else operand(o, writes=True) for o in outs]
        if any(not isinstance(o, (ndarray, np.ndarray)) for o in outs if o is not None):
            raise TypeError("Output arguments type must be cupy.ndarray")
        types = self._types(on_host) if dtype is None else np.dtype(dtype).char * self.nout
        for array in inputs:
            if isinstance(array, ndarray) and _is_copied_first(array, outs):
                count("launches")
        count("launches")
        memories += [None] * (self.nout - len(memories))
        results = self._on_memory(*on_host, out=tuple(memories), casting=casting, dtype=dtype, order="C")
        return self._returned(results, outs, types)

    def _returned(self, results: Any, outs: tuple[Any, ...], types: str) -> Any:
        results = results if self.nout > 1 else (results,)
        arrays = []
        for i, (result, char) in enumerate(zip(results, types, strict=True)):
            given = outs[i] if i < len(outs) else None
            arrays.append(wrap(np.asarray(result).astype(char, copy=False)) if given is None else given)
        return arrays[0] if self.nout == 1 else tuple(arrays)

    def _types(self, operands: list[Any]) -> str:
        """The number types of the results: of the first of CuPy's loops that takes the operands."""
        key = tuple(type(a) if type(a) in (int, float, complex) else np.asarray(a).dtype for a in operands)
        if key not in self._loops:
            self._loops[key] = next((loop for loop in self.types if _fits(key, loop)), "")
        if not self._loops[key]:
            raise TypeError(f"Wrong type ({key}) of arguments for {self.__name__}")
        return self._loops[key].partition("->")[2]

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        """Add (and so on) at places that may come several times."""
        if not self._scatter:
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet")
        if a.dtype.char not in "ieLQfd":  # _scatter_op_single in cupy/_core/_routines_indexing.pyx
            raise TypeError(f"{self.__name__}.at does not support {a.dtype}")
        count("launches")
        places = memory_of(indices) if isinstance(indices, ndarray) else indices
        self._on_memory.at(memory_of(a, writes=True), places, operand(b))

    def reduce(
        self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False
    ):
        """Sum or product."""
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.__name__}.reduce` is not supported yet")
        return (array.sum if self.__name__ == "add" else array.prod)(axis, dtype, out, keepdims)


def _is_copied_first(array: ndarray, outs: tuple[Any, ...]) -> bool:
    """Whether CuPy copies an input: it shares memory with an output, and is not the very same object."""
    if any(array is out for out in outs):
        return False
    return any(isinstance(o, ndarray) and np.may_share_memory(array._memory, o._memory) for o in outs)


def _fits(kinds: tuple[Any, ...], loop: str) -> bool:
    """Whether operands of these types may go into a loop such as ``ff->f``; Python's numbers adapt to arrays."""
    strong = max((RANKS[kind.kind] for kind in kinds if isinstance(kind, np.dtype)), default=-1)
    weak = max((RANKS[np.dtype(kind).kind] for kind in kinds if not isinstance(kind, np.dtype)), default=-1)
    for kind, char in zip(kinds, loop.partition("->")[0], strict=True):
        if np.can_cast(np.dtype(kind), char):
            continue
        if (
            isinstance(kind, np.dtype)
            or weak > strong
            or np.result_type(kind(0), np.dtype(char)).char != char
        ):
            return False
    return True


def matmul(a: Any, b: Any, out: Any = None, **kwargs: Any) -> ndarray:
    """The matrix product; both factors are arrays."""
    for factor in (a, b, *([] if out is None else [out])):
        if not isinstance(factor, (ndarray, np.ndarray)):
            raise TypeError(f"Unsupported type {type(factor)}")
    factors = [operand(a), operand(b)]
    if out is None and any(isinstance(factor, np.ndarray) for factor in (a, b)):  # of a test
        return np.matmul(*factors, **kwargs)
    target = None if out is None else operand(out, writes=True)
    for _ in range(copies_of(*factors, target)):
        count("product_copies")
    if out is None:
        return launched(np.matmul(*factors, **kwargs))
    count("launches")
    np.matmul(*factors, out=target, **kwargs)
    return out


ufuncs = {name: ufunc(name, **about) for name, about in RECORD["ufuncs"].items()}


def add_operators(cls: type) -> None:
    """Give arrays their operators."""
    functions = {**ufuncs, "matmul": matmul}
    for operator, name in {**OPERATORS, **COMPARISONS}.items():
        setattr(cls, f"__{operator}__", _operator(functions[name]))
    for operator, name in OPERATORS.items():
        setattr(cls, f"__r{operator}__", lambda x, y, f=functions[name]: f(y, x))
        if operator != "matmul":  # CuPy's arrays have no @= of their own
            setattr(cls, f"__i{operator}__", lambda x, y, f=functions[name]: f(x, y, out=x))
    for operator, name in {
        "neg": "negative",
        "pos": "positive",
        "abs": "absolute",
        "invert": "invert",
    }.items():
        setattr(cls, f"__{operator}__", lambda x, f=functions[name]: f(x))


def _operator(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator that lets the other operand have its way if it wants no ufuncs, as pytest.approx does."""

    def operate(x: ndarray, y: Any) -> Any:
        return NotImplemented if getattr(y, "__array_ufunc__", True) is None else function(x, y)

    return operate


add_operators(ndarray)
