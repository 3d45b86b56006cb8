"""Every CUDA kernel compiles for the GPUs of three generations, in every number type, without a GPU."""

import numpy as np
import nvrtc
import pytest
from kernels import all_kernels, sources

KERNELS = all_kernels()
OLDEST = "sm_75" if nvrtc.version() >= (13, 0) else "sm_70"  # CUDA 13 has given up Volta
ARCHITECTURES = [OLDEST, "sm_80", "sm_90"]
needs_nvrtc = pytest.mark.skipif(
    nvrtc.find_library() is None, reason="NVRTC is missing: pip install 'minicaffe[test-cuda]'"
)


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_compiles_to_machine_code(name, architecture):
    kernel = KERNELS[name]
    for source in sources(kernel):
        cubin = nvrtc.compile_to_cubin(source, ("-std=c++17", f"--gpu-architecture={architecture}"))
        assert cubin[:4] == b"\x7fELF"
        assert name.encode() in cubin


@needs_nvrtc
def test_a_wrong_kernel_does_not_compile():
    with pytest.raises(AssertionError, match="Index"):
        nvrtc.compile_to_cubin(KERNELS["drop"].code(T=np.float32), ())  # nobody says what Index is
