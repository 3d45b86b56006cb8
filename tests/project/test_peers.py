"""benchmarks/peers.py: what is timed beside ours computes the same."""

import importlib
import json
import re
import sys
from types import SimpleNamespace

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


@pytest.fixture
def script(monkeypatch):
    """A benchmark, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for name in ("peer_specs", "peers", "scaling"):
        sys.modules.pop(name, None)


def test_a_row_has_a_time_a_floor_and_memory(script, monkeypatch, capfd):
    arguments = "peers.py --only lenet --mode inference --peers= --rounds 1 --seconds 0"
    monkeypatch.setattr(sys, "argv", arguments.split())
    script("peers").main()
    out = capfd.readouterr().out
    assert re.search(r"^\|  \| net \| batch \| ours ms \| floor ms \| ours MB \|$", out, re.M)
    assert re.search(r"^\| inference \| lenet \| 64 \| [\d.]+ \| [\d.]+ \| \d+ \|$", out, re.M)


def test_another_net_is_not_taken_for_the_same(script):
    peers, values = script("peers"), {"prob": np.ones(3), "conv1/0": np.ones(3)}
    assert peers.different(values, values) == ""
    for name, allowed, wrong in (("prob", 1e-5, 1e-3), ("conv1/0", 0.01, 0.1)):
        assert peers.different(values, {**values, name: np.full(3, 1 + allowed)}) == ""
        assert peers.different(values, {**values, name: np.full(3, 1 + wrong)}).startswith(name)
        assert "nan" in peers.different(values, {**values, name: np.full(3, np.nan)})


def test_names_choose_rows(script):
    peers = script("peers")

    def chosen(only):
        rows = peers.chosen_rows(SimpleNamespace(only=only, mode=""))
        return {(row.mode, row.net, row.batch) for row in rows}

    assert {net for _, net, _ in chosen("lenet")} == {"lenet"}, "not squeezenet or mobilenet"
    assert {net for _, net, _ in chosen("vgg")} == {"cifar10_vgg"}
    assert chosen("resnet18,vgg:1") == {
        ("training", "resnet18", 8), ("inference", "resnet18", 8), ("inference", "cifar10_vgg", 1),
        ("low rank", "cifar10_vgg", 1),
    }  # fmt: skip


def test_points_of_scaling_have_the_work_that_their_cost_is_held_against(script):
    scaling = script("scaling")
    batches = list(scaling.points("batch", "lenet", "training"))
    assert [point.spec["layer"][0]["input_param"]["shape"][1]["dim"] for point in batches] == [
        [point.work] for point in batches
    ]
    sizes = list(scaling.points("size", "squeezenet_v1.1", "inference"))
    assert [point.work for point in sizes] == [size**2 for size in scaling.SIZES]
    ranks = [
        x.spec["layer"][5].get("low_rank_param") for x in scaling.points("rank", "cifar10_vgg", "inference")
    ]
    assert [rank and rank["rank"] for rank in ranks] == [None, *scaling.RANKS]
