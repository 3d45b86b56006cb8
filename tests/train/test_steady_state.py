"""After the first iterations, a training step takes no new memory that is worth mentioning."""

import tracemalloc

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops import engine
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver

pytestmark = pytest.mark.cpu_only("tracemalloc sees arrays of NumPy")

MOST = 600_000  # bytes: a worker's buffers within NumPy's loops, and small arrays; a blob here has 3 MB
SOLVER = "net: given\nbase_lr: 0.01\nlr_policy: fixed\nmomentum: 0.9\nweight_decay: 0.001\n"
NET = """
layer:
- {name: x, type: Input, top: [x, label], input_param: {shape: [{dim: [32, 3, 28, 28]}, {dim: [32]}]}}
- {name: conv1, type: Convolution, bottom: x, convolution_param: {num_output: 32, kernel_size: 3, stride: 1,
   pad: 1, weight_filler: {type: msra}}}
- {name: bn1, type: BatchNorm, top: conv1}
- {name: scale1, type: Scale, top: conv1, scale_param: {bias_term: true}}
- {name: relu1, type: ReLU, top: conv1}
- {name: conv2, type: Convolution, bottom: conv1, convolution_param: {num_output: 32, kernel_size: 3, pad: 1,
   weight_filler: {type: msra}}}
- {name: sum, type: Eltwise, bottom: [conv1, conv2]}
- {name: norm, type: LRN}
- {name: pool, type: Pooling, pooling_param: {pool: MAX, kernel_size: 3, stride: 2}}
- {name: conv3, type: Convolution, convolution_param: {num_output: 32, kernel_size: 5, pad: 2,
   weight_filler: {type: msra}}}
- {name: conv4, type: Convolution, convolution_param: {num_output: 64, kernel_size: 3, stride: 2, pad: 1,
   weight_filler: {type: msra}}}
- {name: average, type: Pooling, pooling_param: {pool: AVE, kernel_size: 3, stride: 2}}
- {name: score, type: InnerProduct, inner_product_param: {num_output: 10, weight_filler: {type: xavier}}}
- {name: loss, type: SoftmaxWithLoss, bottom: [score, label]}
"""


@pytest.mark.parametrize("kind", engine.ENGINES)
def test_a_step_reuses_the_memory_of_the_one_before(monkeypatch, rng, kind):
    monkeypatch.setattr(engine, "_chosen", kind)
    solver = mc.Solver(parse_solver(SOLVER), net=parse_net(NET))
    solver.net.blobs["x"].data[...] = rng.standard_normal((32, 3, 28, 28))
    solver.net.blobs["label"].data[...] = rng.integers(0, 10, 32)
    solver.step(2)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        solver.step(1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.isfinite(solver.smoothed_loss())
    assert peak - before < MOST
