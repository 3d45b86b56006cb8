"""What is said of blobs and types that only another phase has, of own layers, and of windows beyond the image."""

import logging
import re

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.device.array import to_host
from minicaffe.errors import ShapeError, SpecError
from minicaffe.spec.fields import Int, Message
from minicaffe.spec.net import _layer_specs, parse_net

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

INPUT = "- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}\n"


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("include: {phase: TRAIN}", "which is only in phase TRAIN"),
        ("include: [{phase: TRAIN}, {stage: deploy}]", "which is only in phase TRAIN or stage 'deploy'"),
        ("include: {min_level: 2, not_stage: a}", "which is only in level 2 and above with not stage 'a'"),
        ("exclude: {phase: TEST}", "which is not in phase TEST"),
    ],
)
def test_a_blob_that_another_state_makes_names_its_layer_and_rule(rule, told):
    net = parse_net(
        f"layer:\n{INPUT}- {{name: data, type: DummyData, top: label, {rule}, "
        "dummy_data_param: {shape: {dim: 2}}}\n"
        "- {name: loss, type: SoftmaxWithLoss, bottom: [x, label]}",
        "net.yaml",
    )
    with pytest.raises(SpecError, match=r"net.yaml:4: layer 'loss': bottom: 'label' is made by") as caught:
        mc.Net(net, phase="test")
    assert f"layer 'data', {told}; " in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("include: {stage: deep}", "'c' is made by layer 'c', which is only in stage 'deep'"),
        ("top: d", "no layer makes the blob 'c'"),
    ],
)
def test_a_layer_in_place_is_not_taken_for_the_one_that_makes_its_blob(rule, told):
    net = parse_net(
        f"layer:\n{INPUT}- {{name: c, type: Power, bottom: x, {rule}}}\n"
        "- {name: r, type: ReLU, bottom: c, top: c}\n- {name: s, type: Power, bottom: c}",
        "net.yaml",
    )
    with pytest.raises(SpecError, match=r"net.yaml:4: layer 'r': bottom: ") as caught:
        mc.Net(net, phase="test")
    assert told in str(caught.value)
    assert "cycle" not in str(caught.value)


TWO_PHASES = (
    f"layer:\n{INPUT}- {{name: odd, type: TheirData, top: y, include: {{phase: TRAIN}}, "
    "their_param: {a: [1, 2]}}\n"
    "- {name: p, type: Power, bottom: x}"
)


def test_an_unknown_type_stops_only_nets_of_the_phase_that_has_it():
    assert [layer.name for layer in mc.Net(parse_net(TWO_PHASES), phase="test").layers] == ["x", "p"]
    with pytest.raises(SpecError, match=r":3: layer 'odd': type: unknown layer type 'TheirData'"):
        mc.Net(parse_net(TWO_PHASES), phase="train")


def test_an_unknown_type_of_both_phases_is_told_when_the_spec_is_read():
    with pytest.raises(SpecError, match="unknown layer type 'TheirData'"):
        parse_net(TWO_PHASES.replace(", include: {phase: TRAIN}", ""))


def test_an_unknown_type_of_another_phase_is_kept_by_convert_and_left_out_by_export(tmp_path, monkeypatch):
    pytest.importorskip("google.protobuf")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "odd" type: "TheirData" top: "y" include { phase: TRAIN } their_param { a: 1 b: "c" } }\n'
        'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2 } }'
    )
    assert main(["convert", "net.prototxt", "-o", "out"]) == 0
    text = (tmp_path / "out" / "net.yaml").read_text()
    assert "type: TheirData" in text and "their_param: {a: 1, b: c}" in text
    net = mc.Net("out/net.yaml")
    notes = mc.export(net, "out.prototxt", "out.caffemodel")
    assert any("phase TRAIN is left out" in note and "TheirData" in note for note in notes)
    assert [layer.name for layer in mc.Net("out.prototxt").layers] == ["x", "ip"]


class TwoFoldParam(Message):
    times = Int(2)


@pytest.fixture
def own_layer():
    class TwoFold(mc.Layer):
        bottoms = (1, 1)
        messages = {"two_fold_param": TwoFoldParam}

        def reshape(self, bottom, top):
            top[0].reshape(bottom[0].shape)

        def forward(self, bottom, top):
            top[0].data[...] = self.spec.two_fold_param.times * bottom[0].data

    mc.register_layer(TwoFold)
    yield TwoFold
    mc.core.layer.layer_classes.pop("TwoFold")
    _layer_specs.pop("TwoFold")


def test_an_own_layer_may_reshape_by_a_tuple(own_layer):
    net = mc.Net(parse_net(f"layer:\n{INPUT}- {{name: y, type: TwoFold, two_fold_param: {{times: 3}}}}"))
    np.testing.assert_array_equal(to_host(net.forward(x=np.ones((2, 3)))["y"]), 3 * np.ones((2, 3)))
    blob = mc.Blob((2,))
    for shape in ((4, 5), [4, 5]):
        blob.reshape(shape)
        assert blob.shape == (4, 5)
    blob.reshape(())
    assert blob.shape == ()
    blob.reshape(7)
    assert blob.shape == (7,)


def test_a_wrong_number_of_bottoms_of_an_own_layer_names_the_attribute(own_layer):
    text = f"layer:\n{INPUT}{INPUT.replace('x', 'z', 1)}- {{name: y, type: TwoFold, bottom: [x, z]}}"
    with pytest.raises(SpecError, match=r"TwoFold takes 1, got 2; its class says .*bottoms = \(2, 2\)"):
        mc.Net(parse_net(text))
    with pytest.raises(SpecError, match=r"got 2$"):
        mc.Net(parse_net(text.replace("TwoFold", "ReLU")))


def test_an_unknown_message_of_an_own_layer_names_the_attribute(own_layer):
    with pytest.raises(SpecError, match=r"axis_param: unknown field; .*messages = \{'axis_param': …\}"):
        parse_net(f"layer:\n{INPUT}- {{name: y, type: TwoFold, axis_param: {{axis: 3}}}}")
    with pytest.raises(SpecError, match=r"did you mean 'two_fold_param'"):
        parse_net(f"layer:\n{INPUT}- {{name: y, type: TwoFold, twofold_param: {{times: 3}}}}")


def pooled(pooling, caplog):
    net = mc.Net(
        parse_net(
            "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 1, 7, 6]}}}\n"
            f"- {{name: pool, type: Pooling, pooling_param: {pooling}}}",
            "net.yaml",
        )
    )
    net.blobs["x"].reshape(1, 1, 12, 12)
    net.reshape()
    net.blobs["x"].reshape(1, 1, 7, 6)
    net.reshape()
    return to_host(net.forward(x=np.ones((1, 1, 7, 6)))["pool"]), [r.getMessage() for r in caplog.records]


def test_windows_wholly_beyond_the_image_are_told_once(caplog):
    with caplog.at_level(logging.WARNING, "minicaffe"):
        y, said = pooled("{kernel_size: 1, stride: 5}", caplog)
    assert y.min() < -3.4e38
    assert len(said) == 1 and said[0].startswith(
        "net.yaml:3: layer 'pool': the last windows lie entirely outside"
    )
    assert "round_mode: FLOOR" in said[0]


@pytest.mark.parametrize(
    "pooling", ["{kernel_size: 1, stride: 5, round_mode: FLOOR}", "{kernel_size: 2, stride: 2, pad: 1}"]
)
def test_windows_that_see_a_pixel_are_not_told(caplog, pooling):
    with caplog.at_level(logging.WARNING, "minicaffe"):
        y, said = pooled(pooling, caplog)
    assert said == [] and y.min() >= 0


@pytest.mark.parametrize("bad", [(-1,), ((2, -3),)])
def test_a_negative_size_is_refused_in_both_ways(bad):
    with pytest.raises(ShapeError, match="negative"):
        mc.Blob().reshape(*bad)


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        ("{name: x, type: [Softmax]}", "type: expected a name, got a list"),
        ("{name: x, typ: Softmax}", "typ: unknown field; did you mean 'type'?"),
        ("{name: x, Type: Softmax}", "Type: unknown field; did you mean 'type'?"),
        ("{name: x, bottom: y}", "type: required, but not given"),
        ("{name: x, type: Poolin}", "'Poolin'; did you mean 'Pooling'? A layer of your own"),
    ],
)
def test_a_type_that_is_misspelt_or_no_name_is_named_as_such(layer, problem):
    with pytest.raises(SpecError, match=re.escape(problem)):
        parse_net(f"layer: [{layer}]")
