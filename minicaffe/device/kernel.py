"""CUDA kernels: each op has a .cu file beside it, and a kernel is compiled when it is first launched.

A kernel is written once for all sizes and number types, using these words:

    KERNEL            at the start of a line, before the kernel's name and parameters; the first is ``Index count``
    EACH(i)           a grid-stride loop: what follows runs once for each i < count, spread over all threads
    pop(rest, size)   the index along an array's last axis, which has this size; ``rest``, until then a flat index
                      into the array, becomes one into the axes before the last
    Index             an integer that can index every element: ``int``, or ``long long`` for 2³¹ elements or more
    T                 the floating-point type of the arrays; further type names come with the call

Text before a file's first kernel belongs to all kernels of the file. Parameters that several kernels share may be a
``#define`` on one line, with a name in capitals.

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
MOST_BLOCKS = 1 << 14  # more than any GPU runs at a time; with more, each thread would have too little to do
CTYPES = {
    np.dtype(name): text
    for name, text in (
        ("float32", "float"), ("float64", "double"), ("uint8", "unsigned char"), ("uint16", "unsigned short"),
        ("int32", "int"), ("int64", "long long"), ("bool", "bool"),
    )
}  # fmt: skip


class Kernel:
    """A kernel, under the name that it has in its source."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source
        self._compiled: dict[tuple[str, ...], Any] = {}

    def __call__(self, count: int, *arguments: Any, **types: Any) -> None:
        """Run it for i = 0 … count − 1.

        Arguments: arrays, ints (passed as ``Index``) and floats (as ``T``), in the order of the parameters.
        ``types``: number types for further type names. ``T`` is the first array's type, unless given. Raises
        ValueError for an array that is not contiguous, or not of its parameter's type.
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
        """The type that each parameter after ``count`` points to, as in the source; None for a number."""
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
        """The compiled kernel for the given number types, one of them ``Index``."""
        key = tuple(str(np.dtype(dtype)) for dtype in types.values())
        if key not in self._compiled:
            self._compiled[key] = array.raw_kernel(self.code(**types), self.name)
        return self._compiled[key]

    def code(self, **types: Any) -> str:
        """The complete source for the given number types."""
        names = "".join(f"typedef {CTYPES[np.dtype(dtype)]} {name};\n" for name, dtype in types.items())
        return names + PRELUDE + self.source


def kernels_beside(module: str) -> dict[str, Kernel]:
    """The kernels, by name, in the .cu file beside a module, whose ``__file__`` is given."""
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
    """Whether an index into the arrays, or the end of a grid-stride loop, can exceed 2³¹."""
    return max([count, *(a.size for a in arrays)]) + MOST_BLOCKS * THREADS > np.iinfo(np.int32).max
