"""Every CUDA kernel compiles for the GPUs of three generations, in every number type, without a GPU."""

import numpy as np
import nvrtc
import pytest
from kernels import all_kernels, sources

KERNELS = all_kernels()
ARCHITECTURES = ["sm_70", "sm_80", "sm_90"]
needs_nvrtc = pytest.mark.skipif(
    nvrtc.find_library() is None, reason="NVRTC is missing: pip install 'minicaffe[test-cuda]'"
)


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_compiles_to_machine_code(name, architecture):
    kernel = KERNELS[name]
    for source in sources(kernel):
        cubin = nvrtc.compile_to_cubin(source, ("-std=c++14", f"--gpu-architecture={architecture}"))
        assert cubin[:4] == b"\x7fELF"
        assert name.encode() in cubin


@needs_nvrtc
def test_a_wrong_kernel_does_not_compile():
    with pytest.raises(AssertionError, match="Index"):
        nvrtc.compile_to_cubin(KERNELS["drop"].code(T=np.float32), ())  # nobody says what Index is


def test_there_is_a_kernel_for_each_op_that_would_be_a_loop_of_launches():
    ops = {"copy_columns", "add_columns", "max_pool", "max_pool_grad", "ave_pool", "ave_pool_grad",
           "expected_pool", "sample_pool", "lrn_forward", "lrn_ratio", "lrn_backward", "softmax",
           "cross_entropy", "cross_entropy_grad", "drop", "max_roi_pool", "depthwise_forward",
           "depthwise_weight_grad", "depthwise_input_grad"}  # fmt: skip
    updates = {f"update_{name}" for name in ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")}
    assert set(KERNELS) >= ops | updates
