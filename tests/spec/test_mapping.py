"""Nets from Python: from a dict, whose errors name the path of keys, and from the text of a spec."""

import numpy as np
import pytest

import minicaffe as mc

INPUT = {"name": "x", "type": "Input", "input_param": {"shape": {"dim": (2, 3, 8, 8)}}}
CONV = {"name": "conv", "type": "Convolution", "convolution_param": {"num_output": 4, "kernel_size": 3}}


def with_conv(**changes):
    return {"layer": [INPUT, {**CONV, **changes}]}


def test_a_dict_is_read_as_the_file_would_be():
    given = {"num_output": np.int64(4), "kernel_size": np.array([3, 1]), "bias_term": False}
    filler = {"type": "gaussian", "std": 1e-3}
    net = mc.Net({"name": "n", **with_conv(convolution_param={**given, "weight_filler": filler})}, seed=1)
    assert (net.name, net.blobs["conv"].shape) == ("n", (2, 4, 6, 8))
    assert 0 < np.abs(mc.to_host(net.params["conv"][0].data)).max() < 0.01
    assert len(net.params["conv"]) == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "<dict>: no layers; list them under 'layer:'"),
        (with_conv(convolution_param={"num_outputs": 1}),
         "<dict>: layer 'conv': convolution_param.num_outputs: unknown field; did you mean 'num_output'?"),
        (with_conv(convolution_param={"num_output": 4, "kernel_size": [3, "a"]}),
         "<dict>: layer 'conv': convolution_param.kernel_size[1]: expected a whole number, got 'a'"),
        (with_conv(name=""), "<dict>: layer[1].name: is empty; give the layer a name"),
        (with_conv(name="x"), "<dict>: layer 'x': name: 'x' is also the name of another layer; rename one"),
        (with_conv(convolution_param={"num_output": None}),
         "<dict>: layer 'conv': convolution_param.num_output: expected a whole number, got 'null'"),
        (with_conv(convolution_param={"num_output": object()}),
         "<dict>: layer[1].convolution_param.num_output: expected a dict, a list, text or a number, got a object"),
        ({"layer": [{3: 4}]}, "<dict>: layer[0]: a field's name is a text, not 3"),
        ({"layer": [INPUT, {"type": "ReLU"}]}, "<dict>: layer[1].name: required, but not given; add 'name: …'"),
        ({"layer": [INPUT, {"name": "y"}]}, "<dict>: layer 'y': type: required, but not given; add 'type: …'"),
    ],
)  # fmt: skip
def test_an_error_names_the_path_of_keys(given, told):
    with pytest.raises(mc.SpecError) as error:
        mc.Net(given)
    assert str(error.value) == told


@pytest.mark.parametrize("given", [None, 3, [INPUT], INPUT.keys()])
def test_what_is_no_spec_is_refused(given):
    with pytest.raises(
        mc.SpecError, match=f"a net is a path, a dict or a NetSpec, not a {type(given).__name__};"
    ):
        mc.Net(given)


def test_a_dict_that_contains_itself_is_refused():
    given = with_conv()
    given["layer"].append(given)
    with pytest.raises(mc.SpecError, match="nested more than 100 deep"):
        mc.Net(given)


def test_a_text_is_yaml_or_prototxt():
    yaml = "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 3]}}}\n- {name: y, type: %s}"
    assert mc.Net.from_text(yaml % "ReLU", phase="train").state.phase == "TRAIN"
    prototxt = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }'
    assert mc.Net.from_text(prototxt).blobs["x"].shape == (1, 3)
    with pytest.raises(mc.SpecError, match=r"^<text>:3: layer 'y': type: unknown layer type 'Relu'"):
        mc.Net.from_text(yaml % "Relu")
    with pytest.raises(mc.SpecError, match=r"mc\.Net\.from_text takes the text"):
        mc.Net(yaml)
