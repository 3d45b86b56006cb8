"""CUDA kernels: a .cu file lies beside its op, and each kernel is compiled when it is first launched.

A kernel is written once for all sizes and number types, with these words:

    KERNEL            at the start of a line, before a kernel's name and parameters; the first is ``Index count``
    EACH(i)           a grid-stride loop: what follows is run once for each i < count, over all threads
    pop(rest, size)   the index along an array's last axis, of this size; ``rest``, which was the place in the whole
                      array, becomes the place in the axes before
    Index             whole numbers that reach every place: ``int``, or ``long long`` from 2³¹ elements on
    T                 the floating-point type of the arrays; further type names are given with the call

What stands before a file's first kernel is part of all. Parameters that several have may be a ``#define`` of one
line, written in capitals.

Arrays are contiguous. In batch-last arrays neighbouring i are neighbouring images, so a warp reads and writes runs
of memory (coalesced).
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.device import array
from minicaffe.device.array import Array

PRELUDE = """
#define KERNEL extern "C" __global__ void
#define EACH(i) for (Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x; i < count; \\
                     i += (Index)gridDim.x * blockDim.x)
__device__ inline Index pop(Index& rest, Index size)
{
    Index last = rest % size;
    rest /= size;
    return last;
}
"""
THREADS = 256  # in a block
MOST_BLOCKS = 1 << 14  # more than any GPU runs at a time: a thread of a larger grid would do too little
CTYPES = {
    np.dtype(name): text
    for name, text in (
        ("float32", "float"), ("float64", "double"), ("uint8", "unsigned char"), ("uint16", "unsigned short"),
        ("int32", "int"), ("int64", "long long"), ("bool", "bool"),
    )
}  # fmt: skip


class Kernel:
    """A kernel of the name that its source has."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source
        self._compiled: dict[tuple[str, ...], Any] = {}

    def __call__(self, count: int, *arguments: Any, **types: Any) -> None:
        """Run it for i = 0 … count − 1.

        Arguments: arrays, whole numbers (passed as ``Index``) and fractions (as ``T``), in the order of the
        source's parameters. ``types``: number types of further type names. ``T`` is the first array's type,
        unless given. Raises ValueError for an array that is not contiguous, or not of its parameter's type.
        """
        if not count:
            return
        arrays = [a for a in arguments if hasattr(a, "dtype")]
        if not all(a.flags.c_contiguous for a in arrays):
            raise ValueError(f"kernel {self.name}: an array is not contiguous")
        dtypes = {"T": arrays[0].dtype, **{name: np.dtype(dtype) for name, dtype in types.items()}}
        self._check_types(arguments, dtypes)
        index = np.int64 if needs_64_bits(count, arrays) else np.int32
        fraction = dtypes["T"].type
        passed = [
            index(a) if isinstance(a, int) else fraction(a) if isinstance(a, float) else a for a in arguments
        ]
        blocks = min(-(-count // THREADS), MOST_BLOCKS)
        self.compiled(Index=index, **dtypes)((blocks,), (THREADS,), (index(count), *passed))

    @cached_property
    def pointers(self) -> list[str | None]:
        """The type that each parameter after ``count`` points to, as the source has it; None for a number."""
        parameters = self.source.partition(f"{self.name}(")[2].partition(")")[0].split(",")[1:]
        return [p.partition("*")[0].replace("const", "").strip() if "*" in p else None for p in parameters]

    def _check_types(self, arguments: tuple[Any, ...], dtypes: dict[str, np.dtype]) -> None:
        for place, (pointer, argument) in enumerate(zip(self.pointers, arguments, strict=True)):
            given = CTYPES.get(argument.dtype) if hasattr(argument, "dtype") else None
            if given != (CTYPES[dtypes[pointer]] if pointer in dtypes else pointer):
                raise ValueError(
                    f"kernel {self.name}: argument {place} is {given or 'a number'}, not {pointer}"
                )

    def compiled(self, **types: Any) -> Any:
        """The kernel for given number types, among them ``Index``."""
        key = tuple(str(np.dtype(dtype)) for dtype in types.values())
        if key not in self._compiled:
            self._compiled[key] = array.raw_kernel(self.code(**types), self.name)
        return self._compiled[key]

    def code(self, **types: Any) -> str:
        """The whole source for given number types."""
        names = "".join(f"typedef {CTYPES[np.dtype(dtype)]} {name};\n" for name, dtype in types.items())
        return names + PRELUDE + self.source


def kernels_beside(module: str) -> dict[str, Kernel]:
    """The kernels, by name, of the .cu file that lies beside a module (given its ``__file__``)."""
    text = Path(module).with_suffix(".cu").read_text(encoding="utf-8")
    common, *kernels = re.split(r"^KERNEL ", text, flags=re.MULTILINE)
    shared = dict(re.findall(r"^#define ([A-Z_]+) (.*)$", common, re.MULTILINE))
    found = {}
    for kernel in kernels:
        name, opening, rest = kernel.partition("(")
        parameters, closing, body = rest.partition(")")
        parameters = re.sub(r"\b[A-Z_]+\b", lambda word: shared.get(word[0], word[0]), parameters)
        found[name] = Kernel(name, f"{common}KERNEL {name}{opening}{parameters}{closing}{body}")
    return found


def needs_64_bits(count: int, arrays: list[Array]) -> bool:
    """Whether a place in the arrays, or the end of a grid-stride loop, lies beyond 2³¹."""
    return max([count, *(a.size for a in arrays)]) + MOST_BLOCKS * THREADS > np.iinfo(np.int32).max
