"""CUDA kernels run on the CPU: the same source, compiled by the host's C++ compiler, and the grid as loops.

The header supplies what CUDA has built in and the kernels use. One thread runs after the other, so this finds wrong
indices and wrong formulas (with ``SANITIZE``, reads and writes out of bounds too), but no races.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from tests.cuda.kept import beside, place_of

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
MISSING = "" if COMPILER else "no C++ compiler (c++, g++ or clang++) to run CUDA kernels with"
SANITIZE = os.environ.get("MINICAFFE_SANITIZE") == "1"  # the process must have the sanitizers' runtime loaded
_running = threading.Lock()  # blockIdx and the others are the library's, whichever thread of ours calls it
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g")
HEADER = """
#include <math.h>
#include <algorithm>
#include <tuple>
#include <utility>
using std::max;
using std::min;
#define __global__
#define __device__
struct Size { unsigned x = 1, y = 1, z = 1; };
static thread_local Size gridDim, blockDim, blockIdx, threadIdx;
"""
DRIVER = """
template <class... A, std::size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>)
{
    std::tuple<A...> values(*(A*)arguments[I]...);
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) kernel(std::get<I>(values)...);
}
template <class... A>
static void call(void (*kernel)(A...), void** arguments)
{
    call(kernel, arguments, std::index_sequence_for<A...>());
}
extern "C" void run(unsigned blocks, unsigned threads, void** arguments)
{
    gridDim.x = blocks;
    blockDim.x = threads;
    call(KERNEL_NAME, arguments);
}
"""


@cache
def compile_kernel(code: str, name: str, options: tuple[str, ...] = ()) -> Callable[..., None]:
    """A function (grid, block, arguments) that runs the kernel ``name`` over NumPy arrays and scalars.

    Raises AssertionError with the compiler's words where the source is wrong.
    """
    sanitizers = SANITIZERS if SANITIZE else ()
    flags = ["-std=c++14", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *sanitizers, *options]
    source = f"{HEADER}{code}{DRIVER.replace('KERNEL_NAME', name)}"
    run = ctypes.CDLL(str(_build(source, flags))).run

    def launch(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple) -> None:
        pointers = [np.array(a.ctypes.data if isinstance(a, np.ndarray) else a) for a in arguments]
        slots = (ctypes.c_void_p * len(pointers))(*[p.ctypes.data for p in pointers])
        with _running:
            run(grid[0], block[0], slots)

    return launch


def _build(source: str, flags: list[str]) -> Path:
    """The shared library of a source, the one that is kept where it was built before."""
    library = place_of(COMPILER, *flags, source, ending=".so")
    if library.exists():
        return library
    text, unfinished = beside(library, ".cpp"), beside(library, ".so")
    text.write_text(source)
    done = subprocess.run(
        [COMPILER, *flags, str(text), "-o", str(unfinished)], capture_output=True, text=True, check=False
    )
    text.unlink()
    assert done.returncode == 0, done.stderr
    unfinished.rename(library)
    return library
