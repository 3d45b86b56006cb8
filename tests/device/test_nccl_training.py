"""Two ranks with a GPU each, on the double of CuPy, train as one process with twice the batch, and no sum races."""

import threading

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core import blob, net
from minicaffe.device.array import Device, SideStream, to_host
from minicaffe.device.nccl import NcclCommunicator
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver
from minicaffe.train.parallel import exchange
from tests.device.in_package import needs_compiler
from tests.strict_cupy import counting
from tests.thread_ranks import ThreadRanks

pytestmark = [pytest.mark.usefixtures("double"), needs_compiler]
NET = """layer:
- {name: d, type: Data, top: [data, label], data_param: {source: sample/mnist-train, batch_size: BATCH}}
- {name: conv1, type: Convolution, bottom: data, convolution_param: {num_output: 4, kernel_size: 5, stride: 2,
   weight_filler: {type: xavier}}}
- {name: pool1, type: Pooling, pooling_param: {kernel_size: 2, stride: 2}}
- {name: conv2, type: Convolution, convolution_param: {num_output: 6, kernel_size: 3, bias_term: false,
   weight_filler: {type: xavier}}}
- {name: bn, type: BN, bn_param: {sync: true}}
- {name: ip1, type: InnerProduct, inner_product_param: {num_output: 12, weight_filler: {type: xavier}}}
- {name: relu1, type: ReLU}
- {name: ip2, type: InnerProduct, inner_product_param: {num_output: 10, weight_filler: {type: xavier}}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip2, label]}
"""
SOLVER = "net: none\nbase_lr: 0.02\nmomentum: 0.9\nweight_decay: 0.0005\nlr_policy: fixed\nrandom_seed: 1\n"


@pytest.fixture
def gpus(monkeypatch):
    """Each thread has a current device, where it has set one: ranks are threads here, and processes elsewhere."""
    mine, right = threading.local(), net.current_device
    for module in (net, blob):
        monkeypatch.setattr(module, "current_device", lambda: getattr(mine, "device", None) or right())
    monkeypatch.setattr(exchange, "BUCKET_BYTES", 2000)  # several of them
    return mine


def trained(batch, fields, **options):
    """The parameters after five iterations, by layer, their GPUs, and how often the host waited in each."""
    spec = parse_net(NET.replace("BATCH", str(batch)))
    waits = []
    with mc.Solver(parse_solver(SOLVER + fields), net=spec, **options) as solver:
        for _ in range(5):
            with counting() as counts:
                solver.step(1)
            waits.append(counts.waits)
        params = {name: [to_host(b.data) for b in blobs] for name, blobs in solver.net.params.items()}
        where = {b.data.device.id for blobs in solver.net.params.values() for b in blobs}
    return params, where, waits


def trained_by_ranks(gpus, fields=""):
    def rank(ranks):
        gpus.device = Device("gpu", ranks.rank)
        return trained(3, fields, communicator=NcclCommunicator(ranks, gpus.device))

    return ThreadRanks(2).run(rank)


def assert_same(found, expected, tolerance=0.0):
    for name, arrays in expected.items():
        most = tolerance * max(np.abs(its).max() for its in arrays)
        for mine, its in zip(found[name], arrays, strict=True):
            np.testing.assert_allclose(mine, its, atol=most, rtol=0, err_msg=name)


@pytest.mark.parametrize("fields", ["", "iter_size: 2"])
def test_two_ranks_train_as_one_process_with_twice_the_batch(fields, gpus):
    params, _, waits = trained(6, fields)
    for rank, found in enumerate(trained_by_ranks(gpus, fields)):
        assert_same(found[0], params, 1e-5)
        assert found[1:] == ({rank}, waits)  # the host waits for no sum


def test_gradients_of_low_rank_travel_too_and_are_the_same_on_all_ranks(gpus):
    one, other = trained_by_ranks(gpus, "gradient_rank: 2")
    assert_same(one[0], other[0])
    assert one[2] == trained(6, "")[2]


@pytest.mark.parametrize("call", ["follow", "let_follow"])
@pytest.mark.parametrize("fields", ["", "gradient_rank: 2"])
def test_a_sum_that_is_not_in_order_with_the_training_is_a_race(call, fields, gpus, monkeypatch):
    monkeypatch.setattr(SideStream, call, lambda *args: None)
    with pytest.raises(RuntimeError, match="race: "):
        trained_by_ranks(gpus, fields)
