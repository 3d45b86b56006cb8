"""Writes ``names.json``: the names of CuPy that the double has, with their parameters in the installed CuPy.

    python -m tests.strict_cupy.record            where CuPy and NCCL can be imported; it needs no GPU

To give the double another name, add it here and run this. A function that NumPy has too needs nothing else.
"""

from __future__ import annotations

import inspect
import json
import operator
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

FUNCTIONS = """
allclose all amax amin any arange argmax argmin argsort argwhere array array_equal asarray
ascontiguousarray asfortranarray asnumpy atleast_1d bincount broadcast_to clip concatenate copy copyto
count_nonzero cumsum diag diagonal dot einsum empty empty_like expand_dims eye flatnonzero flip full
full_like get_array_module get_default_memory_pool hstack identity isscalar linspace matmul max
may_share_memory mean median min moveaxis ndim nonzero ones ones_like outer pad prod ravel repeat reshape
result_type roll rollaxis searchsorted shape shares_memory size sort split squeeze stack std sum swapaxes
take take_along_axis tensordot tile trace transpose tril triu unique var vdot vstack where zeros
zeros_like cuda.get_current_stream cuda.nccl.get_unique_id cuda.runtime.driverGetVersion cuda.runtime.getDeviceCount
cuda.runtime.getDeviceProperties lib.stride_tricks.as_strided linalg.cholesky linalg.eigh linalg.inv
linalg.norm linalg.qr linalg.solve linalg.svd random.default_rng
"""
UFUNCS = """
abs absolute add arccos arcsin arctan bitwise_and bitwise_or bitwise_xor ceil cos cosh divide divmod equal
exp exp2 expm1 floor floor_divide fmax fmin greater greater_equal hypot invert isfinite isinf isnan
left_shift less less_equal log log10 log1p log2 logical_and logical_not logical_or maximum minimum mod
multiply negative not_equal positive power reciprocal remainder right_shift rint sign signbit sin sinh sqrt
square subtract tan tanh true_divide trunc
"""
CONSTANTS = """
bool_ uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64 newaxis pi inf nan e dtype
finfo iinfo
"""
METHODS = {
    "ndarray": """all any argmax argmin argsort astype clip conj copy cumprod cumsum diagonal dot fill flatten get
        item max mean min nonzero prod ravel repeat reshape round set sort squeeze std sum swapaxes take tolist
        trace transpose var view""",
    "RawKernel": "__call__",
    "cuda.Device": "synchronize use",
    "cuda.Event": "__init__ record synchronize",
    "cuda.MemoryPool": "free_all_blocks total_bytes used_bytes",
    "cuda.Stream": "__init__ record synchronize wait_event",
    "cuda.nccl.NcclCommunicator": "__init__ abort allReduce broadcast check_async_error destroy",
    "random.Generator": "integers random standard_exponential standard_normal uniform",
    "random.MRG32k3a": "__init__",
    "random.Philox4x3210": "__init__",
    "random.XORWOW": "__init__",
}
ATTRIBUTES = {
    "ndarray": "T base data device dtype flags imag itemsize mT nbytes ndim real shape size strides",
    "cuda.Device": "id pci_bus_id",
    "cuda.Stream": "null",
    "cuda.Stream.null": "ptr",
    "cuda.nccl": "available",
}
ERRORS = """
cuda.compiler.CompileException cuda.driver.CUDADriverError cuda.nccl.NcclError cuda.runtime.CUDARuntimeError
"""
CUPYX = "empty_pinned errstate"
NUMBERS = """
cuda.nccl.NCCL_SUM cuda.nccl.NCCL_INT8 cuda.nccl.NCCL_INT32 cuda.nccl.NCCL_INT64 cuda.nccl.NCCL_UINT8
cuda.nccl.NCCL_UINT32 cuda.nccl.NCCL_UINT64 cuda.nccl.NCCL_FLOAT16 cuda.nccl.NCCL_FLOAT32 cuda.nccl.NCCL_FLOAT64
"""


def record(cupy: Any, cupyx: Any, missing: str = "") -> dict[str, Any]:
    """What ``names.json`` holds, but for the part of CuPy that is ``missing``. Raises AttributeError."""

    def there(names: Iterable[str]) -> list[str]:
        return [name for name in names if not missing or not name.startswith(missing)]

    for owner in there(ATTRIBUTES):
        for name in ATTRIBUTES[owner].split():
            getattr(find(cupy, owner), name)
    return {
        "cupy": cupy.__version__,
        "functions": {name: parameters(find(cupy, name)) for name in there(FUNCTIONS.split())},
        "ufuncs": {name: _ufunc(find(cupy, name)) for name in UFUNCS.split()},
        "constants": [name for name in CONSTANTS.split() if find(cupy, name) is getattr(np, name)],
        "methods": {
            owner: {name: parameters(getattr(find(cupy, owner), name)) for name in METHODS[owner].split()}
            for owner in there(METHODS)
        },
        "attributes": {owner: ATTRIBUTES[owner].split() for owner in there(ATTRIBUTES)},
        "errors": {name: _error(find(cupy, name)) for name in there(ERRORS.split())},
        "numbers": {name: find(cupy, name) for name in there(NUMBERS.split())},
        "cupyx": {name: parameters(getattr(cupyx, name)) for name in CUPYX.split()},
    }


def find(module: Any, name: str) -> Any:
    """What a dotted name stands for."""
    return operator.attrgetter(name)(module)


def _error(cls: type) -> list[str]:
    """Its module, and the class that it is made from."""
    return [cls.__module__, cls.__mro__[1].__name__]


def _ufunc(ufunc: Any) -> dict[str, Any]:
    return {
        "nin": ufunc.nin,
        "nout": ufunc.nout,
        "types": " ".join(ufunc.types),
        "at": ufunc._scatter_op or "",
    }


def parameters(function: Any) -> str:
    """The parameters as text, with ``...`` for every default value: ``a, axis=..., *, out=...``."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return _of_docstring(function)
    bare = [
        p.replace(annotation=p.empty, default=p.default if p.default is p.empty else ...)
        for p in signature.parameters.values()
    ]
    text = str(inspect.Signature(bare))
    return text.replace("Ellipsis", "...").removeprefix("(").removesuffix(")")


def _of_docstring(function: Any) -> str:
    """Of a Cython function: the first line of its docstring has them, with C types."""
    first = (function.__doc__ or "").strip().split("\n")[0]
    texts = []
    for parameter in re.search(r"\((.*)\)", first).group(1).split(", "):
        name, _, default = parameter.partition("=")
        if name:
            texts.append(name.split()[-1] + ("=..." if default else ""))
    return ", ".join(texts)


if __name__ == "__main__":
    import cupy
    import cupy.cuda.nccl
    import cupyx

    path = Path(__file__).parent / "names.json"
    path.write_text(json.dumps(record(cupy, cupyx), indent=1) + "\n")
    print(f"{path}: of CuPy {cupy.__version__}")
