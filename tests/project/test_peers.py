"""benchmarks/peers.py: what is timed beside ours computes the same."""

import importlib
import json
import sys

import numpy as np
import pytest

import minicaffe as mc
from tests import ROOT

pytestmark = pytest.mark.cpu_only("PyTorch runs on the CPU")

NET = """
name: all kinds of layers
layer:
- {name: data, type: Input, top: [data, label], input_param: {shape: [{dim: [4, 3, 23, 23]}, {dim: [4]}]}}
- {name: conv1, type: Convolution, bottom: [data], top: [conv1],
   convolution_param: {num_output: 8, kernel_size: 3, stride: 2, pad: 1}}
- {name: relu1, type: ReLU, bottom: [conv1], top: [conv1]}
- {name: norm1, type: LRN, bottom: [conv1], top: [norm1], lrn_param: {local_size: 3, alpha: 0.1}}
- {name: norm2, type: LRN, bottom: [norm1], top: [norm2],
   lrn_param: {local_size: 3, alpha: 0.1, norm_region: WITHIN_CHANNEL}}
- {name: pool1, type: Pooling, bottom: [norm2], top: [pool1], pooling_param: {pool: MAX, kernel_size: 3, stride: 2}}
- {name: pool2, type: Pooling, bottom: [norm2], top: [pool2],
   pooling_param: {pool: AVE, kernel_size: 3, stride: 2, pad: 1}}
- {name: short, type: Convolution, bottom: [pool1], top: [short],
   convolution_param: {num_output: 8, kernel_size: 1, bias_term: false}}
- {name: bn1, type: BatchNorm, bottom: [short], top: [short]}
- {name: scale1, type: Scale, bottom: [short], top: [short], scale_param: {bias_term: true}}
- {name: dw, type: Convolution, bottom: [pool1], top: [dw],
   convolution_param: {num_output: 8, kernel_size: 3, pad: 1, group: 8}}
- {name: bn2, type: BatchNorm, bottom: [dw], top: [dw]}
- {name: sum, type: Eltwise, bottom: [short, dw], top: [sum]}
- {name: relu2, type: ReLU, bottom: [sum], top: [sum]}
- {name: prelu, type: PReLU, bottom: [sum], top: [prelu]}
- {name: side, type: Convolution, bottom: [sum], top: [side],
   convolution_param: {num_output: 4, kernel_size: 3, pad: 2, dilation: 2, group: 2}}
- {name: both, type: Concat, bottom: [prelu, side], top: [both]}
- {name: ip1, type: InnerProduct, bottom: [both], top: [ip1], inner_product_param: {num_output: 12}}
- {name: drop, type: Dropout, bottom: [ip1], top: [ip1], dropout_param: {dropout_ratio: 0}}
- {name: ip2, type: InnerProduct, bottom: [ip1], top: [ip2],
   inner_product_param: {num_output: 10, bias_term: false}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip2, label], top: [loss]}
"""


@pytest.fixture
def modules(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("peer_specs"), importlib.import_module("torch_net")
    for name in ("peer_specs", "torch_net"):
        sys.modules.pop(name)


def in_torch(modules, net, folder):
    """The same net in PyTorch, with the same weights."""
    peer_specs, torch_net = modules
    net.save(folder / "weights.npz")
    layers = json.loads(json.dumps(peer_specs.described(net)))
    other = torch_net.TorchNet(layers)
    other = other.double() if net.setting.dtype == np.float64 else other
    other.load(folder / "weights.npz")
    return other.train(net.state.phase == "TRAIN")


def run_both(modules, net, folder):
    """Both nets after a pass of the same batch; what each blob held last in PyTorch; its output."""
    modules[0].fill(net)
    for name, values in modules[0].batch_for(net).items():
        net.blobs[name].data[...] = values
    net.run_forward()
    other, blobs = in_torch(modules, net, folder), {}
    arrays = [np.array(net.blobs[name].data, np.int64 if name == "label" else None) for name in net.inputs]
    batch = map(modules[1].torch.from_numpy, arrays)
    output = other(*batch, look=lambda name, value: blobs.update({name: value.detach().clone()}))
    return other, blobs, output


@pytest.mark.parametrize("phase", ["test", "train"])
def test_the_net_in_pytorch_computes_every_blob_and_gradient(modules, tmp_path, phase):
    net = mc.Net.from_text(NET, phase=phase, dtype=np.float64, seed=1)
    other, blobs, loss = run_both(modules, net, tmp_path)
    for name, value in blobs.items():
        np.testing.assert_allclose(net.blobs[name].data, value, rtol=1e-9, atol=1e-9, err_msg=name)
    if phase == "test":
        return
    loss.backward()
    net.clear_param_diffs()
    net.run_backward()
    for name, place in other.places():
        layer, _, i = name.rpartition("/")
        if place.requires_grad:
            own = net.params[layer][int(i)].diff
            np.testing.assert_allclose(own, place.grad.reshape(own.shape), rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", ["lenet", "cifar10_full", "cifar10_vgg"])
def test_nets_of_the_table_give_the_same_probabilities_and_loss(modules, tmp_path, name):
    peer_specs, _ = modules
    for spec, phase in (
        (peer_specs.inference_spec(name, 2), "test"),
        (peer_specs.training_spec(name, 2), "train"),
    ):
        net = peer_specs.net_of(spec, phase)
        _, _, output = run_both(modules, net, tmp_path)
        (own,) = (np.array(net.blobs[blob].data) for blob in net.outputs)
        np.testing.assert_allclose(own, output.detach().reshape(own.shape), rtol=1e-4, atol=1e-6)
