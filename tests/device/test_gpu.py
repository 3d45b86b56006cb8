"""What a GPU has to show: Caffe's recorded numbers, gradients, each kernel, low rank, training to accuracy, memory.

    python -m pytest --device gpu

Where there is no GPU this file is skipped, but on the strict double of CuPy. There the tests themselves are held to
CuPy's rules, so that they are known to run before there is a GPU.
"""

import os
import shutil
import subprocess
import sys
import weakref

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device import array
from minicaffe.device.array import CPU, Device, gpu_count, gpu_problem, pool_bytes, to_host
from minicaffe.device.communicator import ALONE
from minicaffe.device.nccl import NcclCommunicator
from minicaffe.errors import CommunicatorError
from minicaffe.ops.convolution import dense
from minicaffe.spec.net import parse_net
from tests import ROOT, strict_cupy
from tests.strict_cupy import rules

if problem := gpu_problem():
    pytest.skip(problem, allow_module_level=True)

# Tests of other files, which are collected here once more. They reach what is on a device through to_host alone.
from tests.core.test_golden_nets import test_net_agrees_with_caffe  # noqa: F401
from tests.layers.test_golden_layers import test_layer_agrees_with_caffe  # noqa: F401
from tests.low_rank.test_gradients_low_rank import (  # noqa: F401
    test_low_rank_inner_product_backward_is_the_derivative_of_forward,
)
from tests.train.test_golden_solvers import test_solver_follows_caffe  # noqa: F401

IS_DOUBLE = array.cupy is strict_cupy.cupy
if not IS_DOUBLE:
    from tests.cuda.test_cuda_kernels import *  # noqa: F403
    from tests.low_rank.test_gradients_low_rank import (
        test_low_rank_convolution_backward_is_the_derivative_of_forward,  # noqa: F401
    )

pytestmark = pytest.mark.gpu
on_a_real_gpu = pytest.mark.skipif(IS_DOUBLE, reason="the double has nothing to show of it")
LENET = ROOT / "prototxt" / "lenet"


@pytest.fixture(autouse=True)
def double():
    """In place of the fixture of test_cuda_kernels.py: here the GPU is the real one."""


@pytest.fixture(autouse=True)
def held_to_the_rules(monkeypatch):
    monkeypatch.setattr(rules, "tests_may_mix", False)
    mc.set_device("gpu")


LOW_RANKS = [
    "rank: 3", "rank: 3, method: gram", "rank: 12, method: randomized", "energy: 0.8", "flops: 0.5",
    "rank: 3, scheme: spatial", "rank: 3, factored: true", "rank: 4, target: data",
    "rank: 4, target: data, method: svd",
]  # fmt: skip


@pytest.mark.parametrize("low_rank", LOW_RANKS)
def test_low_rank_convolution_is_that_of_the_cpu(low_rank):
    text = (
        "name: one\nlayer:\n- {name: x, type: Input, input_param: {shape: {dim: [4, 5, 9, 8]}}}\n"
        "- {name: conv, type: Convolution, convolution_param: {num_output: 12, kernel_size: 3, pad: 1, "
        f"weight_filler: {{type: gaussian, std: 0.3}}}}, low_rank_param: {{{low_rank}}}}}\n"
    )
    x = np.random.default_rng(3).standard_normal((4, 5, 9, 8)).astype(np.float32)
    mc.set_device(CPU)
    host = mc.Net(parse_net(text), phase="test", seed=1)
    mc.set_device("gpu")
    net = mc.Net(parse_net(text), phase="test", seed=2)
    for mine, its in zip(net.params["conv"], host.params["conv"], strict=True):
        mine.data[...] = array.to_device(its.data)
    expected = host.forward(x=x)["conv"]
    found = to_host(net.forward(x=x)["conv"])
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def lenet_solver(prefix):
    """LeNet's solver spec, from anywhere, with its snapshots there."""
    text = (LENET / "solver.yaml").read_text().replace("net: train.yaml", f"net: {LENET / 'train.yaml'}")
    return text.replace("snapshots/lenet", str(prefix))


def lenet(device, folder, weights=None):
    """A solver of LeNet on the bundled sample, for a device; and its losses over ``steps`` steps."""
    mc.set_device(device)
    spec = folder / f"{device}.yaml"
    spec.write_text(lenet_solver(folder / device).replace("average_loss: 20", "average_loss: 5"))
    solver = mc.Solver(spec)
    if weights:
        solver.net.copy_from(weights)
    return solver


def losses_of(solver, steps):
    found = []
    for _ in range(steps):
        solver.step(1)
        found.append(float(to_host(solver.net.blobs["loss"].data)))
    solver.close()
    return found


def test_lenet_trains_as_on_the_cpu_on_the_same_batches(tmp_path):
    host = lenet("cpu", tmp_path)
    host.net.save(tmp_path / "start.npz")
    steps = 6 if IS_DOUBLE else 12
    expected = losses_of(host, steps)
    found = losses_of(lenet("gpu", tmp_path, tmp_path / "start.npz"), steps)
    assert expected[-1] < 0.95 * expected[0]
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_memory_stays_what_it_is_after_a_few_steps(tmp_path):
    solver = lenet("gpu", tmp_path)
    solver.step(solver.spec.average_loss + 1)
    before = pool_bytes()
    solver.step(3 if IS_DOUBLE else 10)
    assert pool_bytes() == before
    solver.close()


def test_a_convolution_holds_the_columns_of_one_block_at_a_time(monkeypatch):
    net = mc.Net.from_text(
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [4, 3, 20, 20]}}}\n"
        "- {name: conv, type: Convolution, convolution_param: {num_output: 6, kernel_size: 3,"
        " weight_filler: {type: gaussian}}}\n"
    )
    whole = to_host(net.forward(x=np.ones((4, 3, 20, 20)))["conv"])
    alive, most, columns = [], [], dense.copy_columns

    def noting(padded, geometry, block, out):
        alive.append(weakref.ref(out))
        most.append(sum(array() is not None for array in alive))
        columns(padded, geometry, block, out)

    monkeypatch.setattr(dense, "copy_columns", noting)
    monkeypatch.setattr(dense, "DEVICE_BLOCK_BYTES", 20_000)
    net.blobs["x"].reshape(3, 3, 20, 20)
    found = to_host(net.forward(x=np.ones((3, 3, 20, 20)))["conv"])
    np.testing.assert_allclose(found, whole[:3], atol=1e-5)
    assert len(alive) > 4 and max(most) == 1


def test_nccl_sums_and_sends_arrays():
    device = Device("gpu")
    try:
        ranks = NcclCommunicator(ALONE, device)  # one rank: its sum is what it gives
    except CommunicatorError as missing:
        pytest.skip(str(missing))
    for dtype in ("f4", "f8", "i4", "i8"):
        array = device.put(np.arange(1000), dtype)
        for _ in range(3):
            array *= 2
            ranks.sum(array)
            ranks.broadcast(array)
        np.testing.assert_array_equal(to_host(array), 8 * np.arange(1000))
    ranks.progress()


RANK = """
import sys
import minicaffe as mc
from minicaffe.device.launch import communicator
from minicaffe.device.nccl import NcclCommunicator

ranks = communicator()
assert isinstance(ranks, NcclCommunicator) and ranks.size == 2
solver = mc.Solver(sys.argv[1], communicator=ranks)
solver.step(20)
sums = ranks.gather([float(abs(b.data).sum()) for blobs in solver.net.params.values() for b in blobs])
losses = ranks.gather(float(solver.losses[-1]))
if ranks.is_root:
    print(sums[0] == sums[1], losses[0] == losses[1] < 2)
solver.close()
ranks.end()
"""


@on_a_real_gpu
def test_two_gpus_train_one_net(tmp_path):
    mpiexec = shutil.which(
        "mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    )
    if gpu_count() < 2 or mpiexec is None:
        pytest.skip("needs two GPUs, and mpiexec beside Python (pip install 'minicaffe[mpi]')")
    (tmp_path / "solver.yaml").write_text(lenet_solver(tmp_path / "lenet"))
    command = [mpiexec, "-n", "2", sys.executable, "-c", RANK, str(tmp_path / "solver.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stdout + done.stderr


@on_a_real_gpu
def test_lenet_trains_to_97_percent(tmp_path):
    solver = lenet("gpu", tmp_path)
    solver.step(solver.spec.max_iter)
    assert float(solver.test_all()[0]["accuracy"]) >= 0.97
    solver.close()


@on_a_real_gpu
def test_products_of_float32_are_not_rounded_to_tf32():
    xp = Device("gpu").xp
    a, b = (np.random.default_rng(i).standard_normal((256, 2048)).astype(np.float32) for i in range(2))
    product = to_host(xp.asarray(a) @ xp.asarray(b).T)
    assert np.abs(product - a.astype(np.float64) @ b.T).max() < 2e-4  # with TF32: some 0.03


@on_a_real_gpu
def test_the_commands_find_the_gpu(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "minicaffe.cli", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "gpu:0: " in run("device")
    assert "gpu" in run("time", str(LENET / "deploy.yaml"), "--device", "gpu", "--iterations", "3")
