"""A strict double of CuPy over NumPy's memory: what works on it works on a GPU, and what CuPy refuses it refuses.

    from tests.strict_cupy import cupy, cupyx, nccl, counting

``cupy`` has the names that the project uses, and each takes the keywords that CuPy's own takes (``names.json``,
which ``record.py`` writes from an installed CuPy). A device array is no NumPy array: it becomes one by ``get``
alone, and does not mix with any; a reduction gives an array of no axes. What is refused is refused to the package's
code: see ``rules.py``. There are two devices, and streams whose races are found: see ``memory.py``, ``order.py``.

    with counting() as counts: ...
    counts.launches, product_copies, host_reads, copies_to_device, synchronizations, of_tests
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tests.strict_cupy import collectives, devices, functions, generators, linalg
from tests.strict_cupy.arrays import ndarray
from tests.strict_cupy.names import RECORD, checked
from tests.strict_cupy.rules import Counts, counting

__all__ = ["Counts", "counting", "cupy", "cupyx", "nccl"]


def _modules() -> tuple[ModuleType, ModuleType]:
    """``cupy`` and ``cupyx``, with what the record names and nothing else."""
    found = {
        **functions.functions,
        **{f"linalg.{name}": f for name, f in linalg.functions.items()},
        **{f"cuda.{name}": f for name, f in devices.functions.items()},
        "cuda.nccl.get_unique_id": collectives.get_unique_id,
        "lib.stride_tricks.as_strided": functions.as_strided,
        "random.default_rng": generators.default_rng,
        "get_default_memory_pool": devices.MemoryPool,
    }
    names = {name: checked(found[name], name, text) for name, text in RECORD["functions"].items()}
    names |= {name: functions.ufuncs[name] for name in RECORD["ufuncs"]}
    names |= {name: getattr(np, name) for name in RECORD["constants"]} | devices.errors
    names |= RECORD["numbers"] | {"cuda.nccl.available": True}
    classes = {
        "ndarray": ndarray,
        "RawKernel": devices.RawKernel,
        "cuda.nccl.NcclCommunicator": collectives.NcclCommunicator,
    }
    for name in RECORD["methods"]:
        room = generators if name.startswith("random.") else devices
        names[name] = classes.get(name) or getattr(room, name.partition(".")[2])
    cupy, cupyx = ModuleType("cupy"), ModuleType("cupyx")
    cupy.__version__ = RECORD["cupy"]
    for name, value in names.items():
        _set(cupy, name.split("."), value)
    extras = {"empty_pinned": devices.empty_pinned, "errstate": linalg.errstate}
    for name, text in RECORD["cupyx"].items():
        setattr(cupyx, name, checked(extras[name], name, text))
    return cupy, cupyx


def _set(module: ModuleType, path: list[str], value: Any) -> None:
    for name in path[:-1]:
        if not hasattr(module, name):
            setattr(module, name, ModuleType(f"{module.__name__}.{name}"))
        module = getattr(module, name)
    setattr(module, path[-1], value)


cupy, cupyx = _modules()
nccl = cupy.cuda.nccl  # CuPy's has to be imported by itself: it is no attribute of cupy.cuda before
del cupy.cuda.nccl
