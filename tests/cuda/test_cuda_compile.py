"""Every CUDA kernel compiles, without a GPU: ``compile_kernels.py`` says for which."""

import sys

import numpy as np
import pytest

from minicaffe.device.kernel import Kernel
from tests.cuda import compile_kernels, nvrtc
from tests.cuda.kernels import all_kernels
from tests.side_run import SideRun

pytestmark = [
    pytest.mark.cpu_only("a compiler runs here, no device"),
    pytest.mark.skipif(
        nvrtc.find_library() is None, reason="NVRTC is missing: pip install 'minicaffe[test-cuda]'"
    ),
]


@pytest.mark.side_run(begin=lambda: SideRun(sys.executable, "-m", compile_kernels.__name__))
def test_each_kernel_compiles_to_machine_code_of_three_generations_of_gpus(side_run):
    status, output = side_run
    assert status == 0, output
    for name in all_kernels():
        assert all(
            f"\n{name}, {architecture} [" in f"\n{output}" for architecture in compile_kernels.ARCHITECTURES
        )


def test_a_kernel_that_does_not_compile_is_told(monkeypatch, capsys):
    broken = Kernel("broken", "KERNEL broken(Index count, T* x) { EACH(i) x[i] = nothing; }")
    monkeypatch.setattr(compile_kernels, "all_kernels", lambda: {"broken": broken})
    monkeypatch.setattr(compile_kernels, "ARCHITECTURES", ["sm_90"])
    (fault,) = compile_kernels.compile_all()
    assert fault.startswith("broken, sm_90: ") and 'identifier "nothing" is undefined' in fault


def test_a_wrong_kernel_does_not_compile():
    with pytest.raises(AssertionError, match="Index"):
        nvrtc.compile_to_cubin(all_kernels()["drop"].code(T=np.float32), ())  # nobody says what Index is
