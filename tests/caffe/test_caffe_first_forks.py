"""Files of the generation before Caffe's last, ``layers { … }``, with the types that forks had added by then."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.errors import SpecError
from minicaffe.files.spec_formats import open_net
from minicaffe.spec.net import parse_net

INPUT = 'name: "n" input: "data" input_dim: 1 input_dim: 1 input_dim: {size} input_dim: {size}\n'
CONV = "convolution_param {{ num_output: 1 kernel_size: {} {} }}"


def layers_of(*lines):
    """Lines (name, type, settings, bottoms): the layers of a net, each on the one before where none is named."""
    text, last = "", "data"
    for name, kind, settings, *bottoms in lines:
        made = "".join(f'bottom: "{bottom}" ' for bottom in bottoms or [last])
        text += f'layers {{ name: "{name}" type: {kind} {made}top: "{name}" {settings} }}\n'
        last = name
    return text


def net_of(text, tmp_path, size=40):
    (tmp_path / "n.prototxt").write_text(INPUT.format(size=size) + text)
    return open_net(tmp_path / "n.prototxt")


POOL = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
FCN_32 = [
    ("conv1", "CONVOLUTION", CONV.format(3, "pad: 100")),
    ("relu1", "RELU", ""),
    *((f"pool{i}", "POOLING", POOL) for i in range(5)),
    ("fc6", "CONVOLUTION", CONV.format(7, "")),
    ("up", "DECONVOLUTION", CONV.format(64, "stride: 32 bias_term: false")),
]


def test_the_first_fcns_cut_where_their_layers_say(tmp_path):
    """FCN-32s: 19, as its authors wrote when Crop got a setting for it."""
    spec = net_of(layers_of(*FCN_32, ("score", "CROP", "", "up", "data")), tmp_path)
    crop = spec.layer[-1]
    assert (crop.type, crop.crop_param.axis, crop.crop_param.offset) == ("Crop", 2, [19])
    assert mc.Net(spec, phase="test").forward(data=np.zeros((1, 1, 40, 40)))["score"].shape == (1, 1, 40, 40)


def in_todays_form(text, crop):
    """The layers of ``layers_of`` as ``layer { … }``; a CROP is of type ``crop``."""
    names = {
        "CONVOLUTION": "Convolution",
        "RELU": "ReLU",
        "POOLING": "Pooling",
        "DECONVOLUTION": "Deconvolution",
        "CROP": crop,
    }
    text = text.replace("layers {", "layer {")
    for old, new in names.items():
        text = text.replace(f"type: {old}", f'type: "{new}"')
    return text


def test_auto_crop_cuts_as_they_did(tmp_path):
    """The type's name in RCF, in layers of today's form."""
    text = layers_of(*FCN_32, ("score", "CROP", "", "up", "data"))
    crop = net_of(in_todays_form(text, "AutoCrop"), tmp_path).layer[-1]
    assert (crop.type, crop.crop_param.axis, crop.crop_param.offset) == ("Crop", 2, [19])


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([*FCN_32, ("score", "CROP", "", "up", "data")], "offset: 19"),
        ([*FCN_32, ("score", "CROP", "crop_param { axis: 2 }", "up", "data")], ""),
        ([("conv1", "CONVOLUTION", CONV.format(3, "pad: 1")), ("score", "CROP", "", "conv1", "data")], ""),
        ([("p", "POOLING", POOL), ("score", "CROP", "", "data", "p")], ""),
    ],
)
def test_a_crop_of_today_that_may_be_meant_as_theirs_is_warned_of(lines, told, tmp_path, caplog):
    """HED's net has it so. In Caffe 1.0 it cuts from the first pixel on, and so it does here."""
    crop = net_of(in_todays_form(layers_of(*lines), "Crop"), tmp_path).layer[-1]
    assert crop.crop_param.offset == []
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == bool(told) and all(f"axis: 2 {told} }}" in warning for warning in warnings)


def test_a_crop_on_the_way_counts_too(tmp_path):
    """FCN-16s: 5 where the finer scores are cut, 27 at the end."""
    lines = [
        *FCN_32[:-1],
        ("up2", "DECONVOLUTION", CONV.format(4, "stride: 2 bias_term: false")),
        ("fine", "CONVOLUTION", CONV.format(1, ""), "pool3"),
        ("cut", "CROP", "", "fine", "up2"),
        ("sum", "ELTWISE", "", "up2", "cut"),
        ("up", "DECONVOLUTION", CONV.format(32, "stride: 16 bias_term: false")),
        ("score", "CROP", "", "up", "data"),
    ]
    spec = net_of(layers_of(*lines), tmp_path)
    assert [x.crop_param.offset for x in spec.layer if x.type == "Crop"] == [[5], [27]]


def test_height_and_width_may_be_cut_elsewhere(tmp_path):
    lines = [
        ("c", "CONVOLUTION", "convolution_param { num_output: 1 kernel_h: 3 kernel_w: 5 pad_h: 4 pad_w: 7 }"),
        ("y", "CROP", "", "c", "data"),
    ]
    assert net_of(layers_of(*lines), tmp_path).layer[-1].crop_param.offset == [3, 5]


def test_a_crop_that_says_where_is_left_alone(tmp_path):
    lines = [
        ("c", "CONVOLUTION", CONV.format(1, "pad: 4")),
        ("y", "CROP", "crop_param { offset: 1 }", "c", "data"),
    ]
    assert net_of(layers_of(*lines), tmp_path).layer[-1].crop_param.offset == [1]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([("p", "POOLING", POOL), ("y", "CROP", "", "p", "data")], "of different scales"),
        ([("c", "CONVOLUTION", CONV.format(3, "")), ("y", "CROP", "", "c", "data")], "too small"),
        ([("f", "FLATTEN", ""), ("y", "CROP", "", "f", "data")], "does not follow"),
        ([("c", "CONVOLUTION", CONV.format("x", "")), ("y", "CROP", "", "c", "data")], "does not follow"),
        (
            [("c", "CONVOLUTION", CONV.format(3, "stride: 0")), ("y", "CROP", "", "c", "data")],
            "does not follow",
        ),
        ([("y", "CROP", "", "data")], "1 bottoms; a CROP has 2"),
        ([("y", "CROP", "", "data", "nowhere")], "does not follow"),
    ],
)
def test_a_place_that_cannot_be_told_is_one_line(lines, problem, tmp_path):
    with pytest.raises(SpecError, match=rf"n.prototxt:\d: layer 'y': .*{problem}"):
        net_of(layers_of(*lines), tmp_path)


def test_interp_and_bn_are_the_layers_of_today(tmp_path):
    lines = [
        ("b", "BN", "bn_param { slope_filler { value: 3 } bias_filler { value: 0.5 } }"),
        ("y", "INTERP", "interp_param { zoom_factor: 2 }"),
    ]
    now = """layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 1, 5, 5]}}}
- {name: b, type: BN, bn_param: {slope_filler: {value: 3}, bias_filler: {value: 0.5}}}
- {name: y, type: Interp, interp_param: {zoom_factor: 2}}
"""
    x = np.random.default_rng(1).standard_normal((1, 1, 5, 5)).astype(np.float32)
    found, wanted = (
        mc.Net(spec, phase="train").forward(data=x)["y"]
        for spec in (net_of(layers_of(*lines), tmp_path, 5), parse_net(now))
    )
    assert found.shape == (1, 1, 9, 9)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", ["SEG_ACCURACY", "crop", "Crop"])
def test_a_type_that_is_not_known_is_told(kind, tmp_path):
    with pytest.raises(SpecError, match=f"layer 'y': type: unknown layer type '{kind}' under 'layers'"):
        net_of(layers_of(("y", kind, "")), tmp_path)
