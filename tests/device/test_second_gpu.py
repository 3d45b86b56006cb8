"""Nets and solvers compute on their own GPU, whichever is current in the thread that calls them.

CUDA has a current GPU for each thread, at first number 0: work launched there on arrays of another is an error. The
double of CuPy has two GPUs, and is as strict (``strict_cupy/memory.py``).
"""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core.blob import Blob
from minicaffe.device.array import Device
from minicaffe.spec.net import parse_net
from minicaffe.train.scoring import score
from tests.cuda import cuda_on_cpu
from tests.strict_cupy import cupy

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.skipif(bool(cuda_on_cpu.MISSING), reason=cuda_on_cpu.MISSING),
]
NET = """force_backward: true
layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3, 4, 5]}}}
- {name: columns, type: Im2col, convolution_param: {kernel_size: 3, pad: 1}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 4, weight_filler: {type: xavier}}}
- {name: drop, type: Dropout}
- {name: loss, type: EuclideanLoss, bottom: [drop, ip]}
"""


def make_net():
    return mc.Net(parse_net(NET), phase="train", seed=1)


def gpus_of(net):
    blobs = [*net.blobs.values(), *net.params["ip"]]
    return {array.device.id for blob in blobs for array in (blob.data, blob.diff)}


@pytest.fixture
def net(in_thread):
    """A net of the second GPU, which has run forward and backward."""
    mc.set_device("gpu:1")
    net = in_thread(make_net)
    net.run_forward()
    net.run_backward()
    cupy.cuda.Device(0).use()
    return net


def fit_to(net, batch):
    net.blobs["x"].reshape(batch, 3, 4, 5)
    net.reshape()


def gradient_that_was_cleared(net):
    net.clear_param_diffs()
    return net.params["ip"][0].diff


CALLS = {
    "forward": lambda net, _: net.forward(x=np.ones((2, 3, 4, 5))),
    "forward in parts": lambda net, _: net.run_forward(1, 3),
    "backward": lambda net, _: net.backward(loss=np.ones(())),
    "backward in parts": lambda net, _: net.run_backward(1, 3),
    "loss": lambda net, _: net.loss(),
    "reshape": lambda net, _: fit_to(net, 5),
    "a gradient that was cleared": lambda net, _: gradient_that_was_cleared(net),
    "score": lambda net, _: score(net, 2, lambda number: True),
    "copy_from": lambda net, file: net.copy_from(file),
    "share_with": lambda net, _: net.share_with(net),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_net_computes_on_its_own_gpu_in_any_thread(net, call, in_thread, tmp_path):
    net.save(tmp_path / "net.npz")
    in_thread(lambda: CALLS[call](net, tmp_path / "net.npz"))
    in_thread(net.run_forward)
    assert gpus_of(net) == {1}


@pytest.mark.parametrize("device", ["gpu:1", Device("gpu", 1)], ids=str)
def test_a_net_is_made_on_the_chosen_gpu_in_any_thread(device, in_thread):
    mc.set_device(device)
    assert gpus_of(in_thread(make_net)) == {1}
    assert in_thread(lambda: mc.to_device(np.ones(3))).device.id == 1


def test_memory_that_nothing_but_a_look_takes_is_taken_on_the_nets_gpu(in_thread):
    mc.set_device("gpu:1")
    net = in_thread(make_net)
    assert in_thread(lambda: gpus_of(net)) == {1}


def test_an_array_of_another_gpu_is_put_on_this_one_as_a_copy(in_thread):
    a = cupy.ones(3)
    assert in_thread(lambda: Device("gpu", 1).put(a, np.float32)).device.id == 1


def test_what_is_written_on_the_host_reaches_a_second_gpu_in_any_thread(in_thread):
    blob = Blob((2, 3), device=Device("gpu", 1))
    for what in ("data", "diff"):
        blob.on_host(what)[...] = 5
        sent = in_thread(lambda what=what: getattr(blob, what))
        assert sent.device.id == 1 and (mc.to_host(sent) == 5).all()


def test_nets_of_two_gpus_run_in_turn():
    nets = []
    for device in ("gpu:0", "gpu:1"):
        mc.set_device(device)
        nets.append(make_net())
    for net in (*nets, *nets):
        net.forward(x=np.ones((2, 3, 4, 5), np.float32))
    assert [gpus_of(net) for net in nets] == [{0}, {1}]


TRAINED = """layer:
- {name: d, type: Data, top: [data, label], data_param: {source: sample/mnist-train, batch_size: 4}}
- {name: conv, type: Convolution, bottom: data, convolution_param: {num_output: 3, kernel_size: 5, stride: 4,
   weight_filler: {type: xavier}}, low_rank_param: {rank: 2, refresh: 2}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 10, weight_filler: {type: xavier}}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
"""
SOLVER = """net: net.yaml
base_lr: 0.01
momentum: 0.9
lr_policy: fixed
clip_gradients: 1
display: 2
test_iter: 2
test_interval: 2
random_seed: 1
"""


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_a_solver_trains_tests_and_goes_on_on_its_own_gpu_in_any_thread(tmp_path, rule, in_thread):
    (tmp_path / "net.yaml").write_text(TRAINED)
    (tmp_path / "solver.yaml").write_text(f"{SOLVER}type: {rule}\nsnapshot_prefix: {tmp_path / 'snap'}\n")
    mc.set_device("gpu:1")
    solver = in_thread(lambda: mc.Solver(tmp_path / "solver.yaml"))
    cupy.cuda.Device(0).use()
    in_thread(lambda: solver.step(5))
    state = in_thread(solver.snapshot)
    in_thread(lambda: solver.apply_update(0.01))
    assert np.isfinite(in_thread(solver.test_all)[0]["loss"])
    in_thread(lambda: solver.restore(state))
    in_thread(lambda: solver.step(2))
    solver.close()
    assert gpus_of(solver.net) == {a.device.id for history in solver.history.values() for a in history} == {1}
