"""Code that the double of CuPy takes for the package's: it is strict with that code only."""

from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from tests.cuda import cuda_on_cpu
from tests.strict_cupy import cupy, cupyx

PACKAGE = Path(mc.__file__).parent
needs_compiler = pytest.mark.skipif(bool(cuda_on_cpu.MISSING), reason=cuda_on_cpu.MISSING)
SOURCE = 'extern "C" __global__ void twice(float* a, int n) { for (int i = 0; i < n; i++) a[i] *= 2; }'


def planted(source, name="planted"):
    """A function that appears to be defined in the package."""
    names = {"np": np, "xp": cupy, "cupyx": cupyx}
    exec(compile(source, str(PACKAGE / "planted.py"), "exec"), names)
    return names[name]


def in_package(statement):
    """Run a statement about a (on the device, 3 × 4), x (the same in NumPy) and out, as if the package did."""
    a = cupy.arange(12, dtype=np.float32).reshape(3, 4)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    planted(f"def planted(a, x, out):\n    {statement}")(a, x, cupy.empty_like(a))
