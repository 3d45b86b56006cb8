"""Nets of older generations become what Caffe's own upgrade makes of them."""

import logging

import numpy as np
import pytest

from minicaffe.caffe.formats.prototxt import check_kinds, parse_prototxt
from minicaffe.caffe.formats.schema import schema
from minicaffe.caffe.formats.tree import as_yaml
from minicaffe.caffe.formats.upgrade import TYPES_1, upgrade_net
from minicaffe.core.layer import layer_classes
from minicaffe.errors import SpecError
from minicaffe.files.spec_formats import open_net, open_solver
from minicaffe.spec.fields import Message
from minicaffe.spec.net import NetSpec, make_state
from minicaffe.spec.reader import Where
from tests.golden_files import FOLDER, recorded

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


def net_of(text):
    tree = parse_prototxt(text, "net.prototxt")
    check_kinds(tree, "NetParameter", Where("net.prototxt"))
    upgrade_net(tree, Where("net.prototxt"))
    return NetSpec.read(as_yaml(tree), Where("net.prototxt"))


def plain(value):
    """A message's values, however deep, as Caffe's float32."""
    if isinstance(value, Message):
        return {name: plain(getattr(value, name)) for name in value.fields}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(np.float32(value)) if isinstance(value, float) else value


def settings(layer):
    """What a layer computes with: not its place in the net, which Caffe changes for splits."""
    place = ("bottom", "top", "phase", "loss_weight", "propagate_down", "include", "exclude")
    return {name: plain(getattr(layer, name)) for name in layer.fields if name not in place}


@pytest.mark.parametrize("name", ["v0", "v1", "current"])
def test_an_upgraded_net_has_the_layers_of_caffes_upgrade(name):
    ours = open_net(FOLDER / "caffe" / f"{name}.prototxt").layers_in(make_state("test"))
    real = net_of(str(recorded("caffe/nets")[name]["upgraded"])).layer
    ours = {layer.name: settings(layer) for layer in ours if layer.type != "Input"}
    real = {layer.name: settings(layer) for layer in real if layer.type not in ("Input", "Split")}
    assert ours == real
    assert ours


def test_every_type_of_generation_1_has_its_name_today():
    known = set(layer_classes)
    assert {name: kind for name, kind in TYPES_1.items() if kind not in known} == {}
    assert set(TYPES_1) == set(schema()["V1LayerParameter"]["type"].values) - {"NONE"}


def test_how_data_are_changed_moves_to_transform_param():
    net = net_of(
        """layers { name: "d" type: DATA top: "data" top: "label"
                    data_param { source: "x" batch_size: 2 scale: 0.5 mean_file: "m" crop_size: 7 mirror: true
                                 force_encoded_color: true } include { phase: TRAIN } }
           layers { name: "d" type: IMAGE_DATA top: "data" top: "label"
                    image_data_param { source: "y" batch_size: 2 scale: 2 } include { phase: TEST } }"""
    )
    param = net.layer[0].transform_param
    moved = {"scale": 0.5, "mirror": True, "crop_size": 7, "mean_file": "m", "force_color": True}
    assert {name: value for name, value in plain(param).items() if param.has(name)} == moved
    assert (net.layer[1].transform_param.scale, net.layer[1].image_data_param.source) == (2.0, "y")
    assert [layer.name for layer in net.layer] == ["d", "d"]


def test_data_layers_of_generation_0_are_read():
    net = net_of(
        """layers { layer { name: "d" type: "data" source: "x" batchsize: 3 meanfile: "m" cropsize: 5 scale: 0.1
                            mirror: 1 rand_skip: 9 } top: "data" top: "label" }
           layers { layer { name: "i" type: "images" source: "l" batchsize: 3 shuffle_images: true new_height: 4
                            new_width: 6 scale: 0.5 } top: "b" top: "c" }
           layers { layer { name: "h" type: "hdf5_data" source: "h" batchsize: 3 } top: "e" }
           layers { layer { name: "w" type: "window_data" source: "w" batchsize: 3 det_fg_threshold: 0.6
                            det_crop_mode: "square" det_context_pad: 2 } top: "f" top: "g" }
           layers { layer { name: "loss" type: "softmax_loss" } bottom: "b" bottom: "c" }"""
    )
    data, images, hdf5, windows, loss = net.layer
    assert (data.data_param.source, data.data_param.batch_size, data.data_param.rand_skip) == ("x", 3, 9)
    assert (data.transform_param.mean_file, data.transform_param.crop_size) == ("m", 5)
    assert (data.transform_param.scale, data.transform_param.mirror) == (0.1, True)
    assert plain(images.image_data_param) | {"shuffle": True, "new_height": 4, "new_width": 6} == plain(
        images.image_data_param
    )
    assert images.transform_param.scale == 0.5
    assert (hdf5.type, hdf5.hdf5_data_param.batch_size) == ("HDF5Data", 3)
    assert (windows.window_data_param.fg_threshold, windows.window_data_param.crop_mode) == (
        pytest.approx(0.6),
        "square",
    )
    assert loss.type == "SoftmaxWithLoss"


def test_concatenation_and_output_of_generation_0_are_read():
    concat, output = net_of(
        """layers { layer { name: "c" type: "concat" concat_dim: 2 } bottom: "a" bottom: "b" top: "c" }
           layers { layer { name: "o" type: "hdf5_output" hdf5_output_param { file_name: "f" } } bottom: "c" }"""
    ).layer
    assert concat.concat_param.has("concat_dim") and concat.concat_param.concat_dim == 2
    assert (output.type, output.hdf5_output_param.file_name) == ("HDF5Output", "f")


CONV_0 = 'layers { layer { name: "%s" type: "conv" num_output: 1 kernelsize: 1 } bottom: "%s" top: "%s" }'


@pytest.mark.parametrize(
    ("padding", "layers", "pads"),
    [
        ("pad: 2", [("c", "p", "c")], [[2]]),
        ("", [("c", "p", "c")], [[0]]),
        ("pad: 2", [("c", "p", "p"), ("d", "p", "d")], [[2], []]),
        ("pad: 2", [("c", "p", "c"), ("d", "p", "d"), ("e", "c", "e")], [[2], [2], []]),
    ],
    ids=["one", "no number", "its blob made again", "two after it"],
)
def test_a_padding_layer_pads_those_that_read_what_it_made(padding, layers, pads):
    text = f'layers {{ layer {{ name: "p" type: "padding" {padding} }} bottom: "x" top: "p" }}'
    net = net_of(text + "".join(CONV_0 % layer for layer in layers))
    assert [layer.convolution_param.pad for layer in net.layer] == pads
    assert [layer.bottom for layer in net.layer if layer.convolution_param.pad] == [["x"]] * sum(
        map(bool, pads)
    )


def test_settings_for_training_become_params():
    first, second = net_of(
        """layers { name: "a" type: INNER_PRODUCT bottom: "x" top: "a" blobs_lr: 1 blobs_lr: 2 weight_decay: 3
                    inner_product_param { num_output: 2 } }
           layers { name: "b" type: INNER_PRODUCT bottom: "a" top: "b" param: "w" param: "b"
                    blob_share_mode: STRICT blob_share_mode: PERMISSIVE inner_product_param { num_output: 2 } }"""
    ).layer
    assert [(p.lr_mult, p.decay_mult) for p in first.param] == [(1, 3), (2, 1)]
    assert [(p.name, p.share_mode) for p in second.param] == [("w", "STRICT"), ("b", "PERMISSIVE")]


def test_statistics_of_batch_norm_are_never_trained():
    batch_norm = 'layer { name: "n" type: "BatchNorm" bottom: "x" top: "n" %s }'
    three = net_of(batch_norm % "param { lr_mult: 1 } param { decay_mult: 1 } param {}").layer[0]
    assert [(p.lr_mult, p.decay_mult) for p in three.param] == [(0, 0)] * 3
    one = net_of(batch_norm % "param { lr_mult: 1 }").layer[0]
    assert [p.lr_mult for p in one.param] == [1], (
        "as Caffe's upgrade, which knows the three of old files alone"
    )


@pytest.mark.parametrize(
    "shapes",
    [
        "input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5 input_dim: 6 input_dim: 7 input_dim: 8",
        "input_shape { dim: [1, 2, 3, 4] } input_shape { dim: [5, 6, 7, 8] }",
    ],
)
def test_inputs_become_one_layer_before_all_others_as_in_caffe(shapes):
    net = net_of(f'layer {{ name: "r" type: "ReLU" bottom: "b" top: "r" }} input: "a" input: "b" {shapes}')
    made, relu = net.layer
    assert (made.name, made.type, made.top, relu.type) == ("input", "Input", ["a", "b"], "ReLU")
    assert [shape.dim for shape in made.input_param.shape] == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_layer_that_is_called_input_keeps_its_name():
    net = net_of(
        'input: "a" input_shape { dim: 2 } layer { name: "input" type: "ReLU" bottom: "a" top: "r" }'
    )
    assert [layer.name for layer in net.layer] == ["input_2", "input"]


@pytest.mark.parametrize(("inputs", "dims"), [(1, 3), (1, 5), (2, 4), (2, 7), (1, 8), (0, 4)])
def test_input_dims_that_are_not_four_for_each_input_are_one_line(inputs, dims):
    text = "\n".join(["input: 'a'"] * inputs + ["input_dim: 2"] * dims)
    with pytest.raises(SpecError) as caught:
        net_of(text)
    assert str(caught.value) == (
        f"net.prototxt:{inputs + dims}: input_dim: {dims} numbers for {inputs} inputs; give four for each, "
        "N, C, H and W (an input_shape may have any number)"
    )


def test_the_name_alone_of_an_input_that_a_layer_makes_goes():
    """As in Caffe; the deploy net of AlexNet_cvgj has one."""
    made = 'layer { name: "d" type: "Input" top: "data" input_param { shape { dim: 2 } } }'
    assert [layer.name for layer in net_of(f'input: "data" {made}').layer] == ["d"]


def test_a_second_layer_of_a_name_gets_another(caplog):
    """Caffe has an example with two layers named "loss"; data layers of two phases keep their name."""
    data = 'layer { name: "d" type: "Input" top: "x" include { phase: %s } }'
    layer = 'layer { name: "a" type: "%s" bottom: "x" top: "%s" }'
    twice = f"{layer % ('ReLU', 'y')} {layer % ('TanH', 'z')}"
    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        net = net_of(f"{data % 'TRAIN'} {data % 'TEST'}\n{twice}")
    assert [layer.name for layer in net.layer] == ["d", "d", "a", "a_2"]
    assert "net.prototxt: line 2: a second layer 'a', here 'a_2'" in caplog.text


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("include { phase: TRAIN }", "exclude { phase: TRAIN }", False),
        ("exclude { phase: TEST }", "exclude { phase: TRAIN }", False),
        ("include { phase: TEST }", "exclude { phase: TRAIN }", True),
        ("include { phase: TRAIN } include { phase: TEST }", "include { phase: TEST }", True),
        ("include { stage: 'a' }", "include { stage: 'b' }", False),
        ("include { phase: TEST stage: 'a' }", "include { phase: TEST not_stage: 'a' }", False),
        ("include { max_level: 0 }", "include { min_level: 1 }", False),
        ("include {}", "", True),
        ("include { phase: TRAIN } include {}", "include { phase: TEST }", True),
    ],
)
def test_layers_of_a_name_get_another_where_both_would_be_in_one_net(first, second, is_one):
    layer = 'layer { name: "a" type: "ReLU" bottom: "x" top: "y" %s }'
    net = net_of(f"{layer % first} {layer % second}")
    assert [layer.name for layer in net.layer] == ["a", "a_2" if is_one else "a"]


V0 = 'layers { layer { name: "c" type: "conv" num_output: 1 kernelsize: 1 } bottom: "x" top: "c" }'
PADDING = 'layers { layer { name: "p" type: "padding" pad: 1 } bottom: "x" top: "p" }'
BROKEN = [
    (
        V0.replace('"conv"', '"convv"'),
        r"net.prototxt:1: layer 'c': type: unknown layer type 'convv'; .*'conv'",
    ),
    (V0.replace("kernelsize", "local_size"), r"layer 'c': local_size: not a field of type 'conv'"),
    (V0.replace("kernelsize", "kernel_size"), r"layer 'c': kernel_size: not a field of type 'conv'"),
    (
        PADDING + V0.replace('"x"', '"p"').replace("conv", "relu"),
        r"layer 'c': a layer of type relu cannot follow",
    ),
    (
        PADDING + V0.replace('bottom: "x"', 'bottom: "p" bottom: "x"'),
        r"layer 'c': .* cannot follow a padding",
    ),
    (
        PADDING.replace('top: "p"', 'top: "p" top: "q"') + V0.replace('"x"', '"p"'),
        r"a padding layer has one bottom",
    ),
    ('layers { name: "a" type: CONVOLUTOIN bottom: "x" }', r"layer 'a': type: .*CONVOLUTOIN.*'CONVOLUTION'"),
    ('layers { name: "a" type: NONE bottom: "x" }', r"layer 'a': type: unknown layer type 'NONE'"),
    ('layers { name: "a" bottom: "x" }', r"layer 'a': type: required"),
    ('layers { name: "a" type: RELU relu_parm { } }', r"layer 'a': relu_parm: unknown field.*'relu_param'"),
    ('layers { name: "a" type: RELU param { lr_mult: 1 } }', r"layer 'a': param: expected a value"),
    (V0 + 'layer { name: "r" type: "ReLU" }', r"net.prototxt:1: layers: 'layer' is given too"),
    (
        'layer { name: "d" type: "Data" top: "x" data_param { source: "s" batch_size: 1 mirror: true } }',
        r"layer 'd': data_param.mirror: Caffe ignores it here; write it under transform_param",
    ),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_what_cannot_be_upgraded_is_an_error_that_names_it(text, message):
    with pytest.raises(SpecError, match=message):
        net_of(text)


def test_a_solvers_old_type_is_a_name_today(tmp_path):
    path = tmp_path / "solver.prototxt"
    settings = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" '
    path.write_text(settings + "solver_type: ADADELTA")
    assert open_solver(path).type == "AdaDelta"
    path.write_text(settings + "solver_type: 2")
    assert open_solver(path).type == "AdaGrad"
    path.write_text(settings + '\nsolver_type: ADAM type: "SGD"')
    with pytest.raises(SpecError, match=r"solver.prototxt:2: solver_type: 'type' is given too"):
        open_solver(path)
