"""``net.forward(array)``: the array of the only input, a batch of any size; or an error that says how to call."""

import numpy as np
import pytest

import minicaffe as mc
import minicaffe.pycaffe as caffe

INPUT = "{{name: {0}, type: Input, input_param: {{shape: {{dim: [4, 3]}}}}}}"
ONE = f"layer: [{INPUT.format('x')}, {{name: y, type: Power, power_param: {{scale: 2}}}}]"
TWO = f"name: two\nlayer: [{INPUT.format('a')}, {INPUT.format('b')}, {{name: y, type: Eltwise, bottom: [a, b]}}]"
NONE = "name: own\nlayer: [{name: x, type: DummyData, dummy_data_param: {shape: {dim: 2}}}, {name: y, type: ReLU}]"


@pytest.mark.parametrize("batch", [4, 1, 7, 0])
def test_an_array_goes_to_the_only_input_with_its_batch(batch, rng):
    net, x = mc.Net.from_text(ONE), rng.standard_normal((batch, 3), np.float32)
    for given in (x, x.astype(np.float64), mc.to_device(x), *([x.tolist()] if batch else [])):
        np.testing.assert_allclose(mc.to_host(net.forward(given)["y"]), 2 * x, rtol=1e-6)
    assert net.blobs["x"].shape == (batch, 3)


def test_a_batch_that_a_layer_cannot_take_leaves_the_net_as_it_was():
    fixed = ONE.replace(
        "type: Power, power_param: {scale: 2}", "type: Reshape, reshape_param: {shape: {dim: [4, 3]}}"
    )
    net = mc.Net.from_text(fixed)
    with pytest.raises(mc.ShapeError, match="layer 'y'"):
        net.forward(np.ones((2, 3)))
    assert net.blobs["x"].shape == (4, 3) and net.forward(np.ones((4, 3)))["y"].sum() == 12


def test_names_of_blobs_stay_what_they_were():
    net = mc.Net.from_text(ONE)
    assert list(net.forward(["x"])) == list(net.forward(("x",))) == ["y", "x"]
    assert list(net.forward({"x": 0}.keys())) == list(net.forward(name for name in ["x"])) == ["y", "x"]
    assert list(net.forward(np.array(["x"]))) == ["y", "x"]
    assert list(net.forward([])) == list(net.forward(None)) == ["y"]


def test_an_input_by_name_must_have_the_shape_of_its_blob():
    with pytest.raises(mc.ShapeError, match=r"shape \(1, 3\), the blob \(4, 3\)"):
        mc.Net.from_text(ONE).forward(x=np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("text", "given", "told"),
    [
        (ONE, np.zeros(3), r"input 'x' has shape \(3,\), which lacks the batch axis; give array\[None\]"),
        (
            ONE,
            np.zeros((4, 5)),
            r"input 'x' has shape \(4, 5\), the net takes \(N, 3\); net.blobs\['x'\].reshape",
        ),
        (ONE, [["a"]], r"input 'x': not an array of numbers"),
        (ONE, "y", r"forward\('y'\): give a list of blobs, \['y'\]"),
        (ONE, {"x": np.zeros((4, 3))}, r"by name: net.forward\(x=…\)"),
        (TWO, np.zeros((4, 3)), r"net 'two' has 2 inputs; give each by name: net.forward\(a=…, b=…\)"),
        (NONE, np.zeros(2), r"net 'own' has no inputs but reads data itself: net.forward\(\)"),
    ],
)
def test_what_cannot_be_the_input_is_told_how_to_call(text, given, told):
    net = mc.Net.from_text(text)
    with pytest.raises(mc.MinicaffeError, match=told):
        net.forward(given)
    with pytest.raises(mc.MinicaffeError, match=r"by name: net.forward\(|reads data itself"):
        net.forward(np.zeros((4, 3)), **dict.fromkeys(net.inputs, 0))


def test_pycaffe_takes_arrays_by_name_alone():
    with pytest.raises(mc.MinicaffeError, match=r"give arrays by name: net.forward\(x=…\)"):
        caffe.Net.of(mc.Net.from_text(ONE)).forward(np.zeros((4, 3)))


@pytest.mark.parametrize("call", [lambda net, x: net.forward(x), lambda net, x: net.forward(data=x)])
@pytest.mark.parametrize("is_pycaffe", [False, True])
def test_pictures_with_their_channels_last_are_told_to_be_turned(call, is_pycaffe):
    text = (
        "layer: [{name: data, type: Input, input_param: {shape: {dim: [2, 3, 5, 4]}}}, {name: y, type: ReLU}]"
    )
    net, x = mc.Net.from_text(text), np.ones((2, 5, 4, 3), np.float32)
    if is_pycaffe:
        net, call = caffe.Net.of(net), lambda net, x: net.forward(data=x)
    with pytest.raises(
        mc.MinicaffeError, match=r"its channels are last; give array\.transpose\(0, 3, 1, 2\)"
    ):
        call(net, x)
    call(net, x.transpose(0, 3, 1, 2))
