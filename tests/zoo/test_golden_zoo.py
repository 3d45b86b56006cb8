"""Whole nets of prototxt/ against what Caffe 1.0 computed with the same seeded weights (tests/golden/zoo)."""

import numpy as np
import pytest
import yaml

import minicaffe as mc
from minicaffe.device.array import to_host
from minicaffe.layers.convolution import Convolution
from minicaffe.ops import engine
from minicaffe.ops.convolution.winograd import WinogradConvolution
from minicaffe.spec.edit import set_layer_fields
from minicaffe.spec.net import parse_net
from tests.golden.zoo.seeded import assert_digests_agree, digest, normal, parameters
from tests.golden_files import FOLDER, recorded
from tests.marks import on_the_cpu_alone

PROTOTXT = FOLDER.parent.parent / "prototxt"
CASES = yaml.safe_load((FOLDER / "zoo" / "nets.yaml").read_text())
LARGE = ("fcn8s", "densenet121", "resnet50", "vgg16", "mobilenet_v1", "nin")


def open_case(name, dtype=np.float32):
    """The net, as small as it was recorded, with the seeded weights."""
    text = (PROTOTXT / name / "deploy.yaml").read_text()
    first = parse_net(text).layer[0].name
    changes = {first: {"input_param.shape.dim": CASES[name]["images"]}, **CASES[name].get("change", {})}
    spec = parse_net(set_layer_fields(text, changes))
    spec.force_backward = True
    net = mc.Net(spec, phase="test", dtype=dtype)
    kinds = {layer.name: layer.type for layer in net.layers}
    for layer, blobs in net.params.items():
        values = parameters(layer, kinds[layer], [blob.shape for blob in blobs])
        for blob, array in zip(blobs, values, strict=True):
            blob.data[...] = blob.device.put(array, blob.dtype)
    return net


def run(name, dtype=np.float32):
    """The case's net after forward and backward."""
    net = open_case(name, dtype)
    net.forward(data=normal("images", CASES[name]["images"]))
    output = net.outputs[0]
    net.backward(**{output: normal("diff", net.blobs[output].shape)})
    return net


def assert_blobs_agree(net, case):
    assert {key for key in net.blobs if "_split_" not in key} == set(case["blob_names"])
    for key, expected in zip(case["blob_names"], case["blobs"], strict=True):
        assert_digests_agree(digest(key, to_host(net.blobs[key].data)), expected, 1e-5, f"blob {key}")


def assert_gradients_agree(net, case):
    for key, expected in zip(case["gradient_names"], case["gradients"], strict=True):
        layer, _, index = key.rpartition("/")
        blob = net.params[layer][int(index)] if layer else net.blobs[key]
        assert_digests_agree(digest(key, to_host(blob.diff)), expected, 1e-4, f"gradient of {key}")


def relus_that_differ(net, other):
    """How many pixels pass a ReLU in one of the two nets only."""
    tops = [layer.spec.top[0] for layer in net.layers if layer.type == "ReLU"]
    return sum(int(((net.blobs[top].data > 0) != (other.blobs[top].data > 0)).sum()) for top in tops)


@pytest.mark.parametrize("name", on_the_cpu_alone(CASES, LARGE, "layers that the other nets have too"))
def test_every_blob_and_every_gradient_of_the_net_is_caffes(name):
    assert_is_caffes(name, run(name))


def assert_is_caffes(name, net):
    """In float32; the gradients in float64 where float32's rounding turns a ReLU whose input is all but zero."""
    case = recorded("zoo/nets")[name]
    assert_blobs_agree(net, case)
    try:
        assert_gradients_agree(net, case)
    except AssertionError:
        exact = run(name, np.float64)
        assert 1 <= relus_that_differ(net, exact) <= 3
        assert_gradients_agree(exact, case)


@pytest.mark.parametrize(
    "name", on_the_cpu_alone(["vgg16", "resnet18", "googlenet"], ["vgg16", "resnet18"], "googlenet")
)
def test_so_they_are_with_all_windows_of_3_by_3_computed_by_winograd(monkeypatch, name):
    monkeypatch.setattr(engine, "_chosen", "WINOGRAD")
    net = run(name)
    kinds = [
        type(product) for layer in net.layers if isinstance(layer, Convolution) for product in layer.products
    ]
    assert kinds.count(WinogradConvolution) >= 8
    assert_is_caffes(name, net)
