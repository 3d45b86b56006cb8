"""A small training job with everything random in it, for the tests of solvers and snapshots."""

import numpy as np

from minicaffe.device.array import CPU, current_device

NET = """name: small
layer:
- name: digits
  type: Data
  top: [data, label]
  include: {phase: TRAIN}
  transform_param: {scale: 0.00390625, pad: 2, crop_size: 26, mirror: true}
  data_param: {source: sample/mnist-train, batch_size: 16, shuffle: true, rand_skip: 50}
- name: digits
  type: Data
  top: [data, label]
  include: {phase: TEST}
  transform_param: {scale: 0.00390625, crop_size: 26}
  data_param: {source: sample/mnist-test, batch_size: 30}
- name: conv
  type: Convolution
  bottom: data
  convolution_param: {num_output: 6, kernel_size: 5, stride: 2, weight_filler: {type: xavier}}
- {name: relu, type: ReLU, top: conv}
- {name: pool, type: Pooling, bottom: conv, pooling_param: {pool: STOCHASTIC, kernel_size: 3, stride: 2}}
- {name: drop, type: Dropout, top: drop, dropout_param: {dropout_ratio: 0.3}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 10, weight_filler: {type: gaussian, std: 0.1}}}
- {name: accuracy, type: Accuracy, bottom: [ip, label], include: {phase: TEST}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
"""
SOLVER = """net: net.yaml
type: Adam
base_lr: 0.002
momentum: 0.9
lr_policy: step
gamma: 0.7
stepsize: 13
weight_decay: 0.001
iter_size: 2
average_loss: 4
max_iter: 40
test_iter: 3
test_interval: 15
display: 5
snapshot: 7
snapshot_prefix: snap/run
random_seed: 5
"""


def write_job(folder, net=NET, solver=SOLVER):
    """Write net.yaml and solver.yaml into a folder; return the path of the solver.

    On a GPU nothing is random but the data and the weights to start from: its generator does not tell its state.
    """
    if current_device() != CPU:
        net = net.replace("pool: STOCHASTIC", "pool: MAX").replace("dropout_ratio: 0.3", "dropout_ratio: 0")
    (folder / "net.yaml").write_text(net)
    (folder / "solver.yaml").write_text(solver)
    return folder / "solver.yaml"


def arrays_of(path):
    """The arrays of an .npz file."""
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def assert_same_files(one, other):
    """Bit for bit the same arrays under the same names."""
    a, b = arrays_of(one), arrays_of(other)
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
