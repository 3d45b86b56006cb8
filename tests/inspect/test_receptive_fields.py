"""Receptive fields: an output depends on the pixels in its field, and on no others."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.inspect.receptive_fields import receptive_fields
from minicaffe.ops.convolution.geometry import ReceptiveField, Window
from minicaffe.spec.net import parse_net


def conv(name, window, more=""):
    ones = "weight_filler: {type: constant, value: 1}"
    return (
        f"{{name: {name}, {more}type: Convolution, convolution_param: {{num_output: 2, {window}, {ones}}}}}"
    )


LOW_RANK = "low_rank_param: {rank: 1, scheme: spatial, factored: true}, "
NETS = {
    "a convolution": [conv("y", "kernel_size: 3, stride: 2, pad: 1")],
    "a dilated one above a wide one": [
        conv("a", "kernel_h: 3, kernel_w: 5, stride_h: 1, stride_w: 2"),
        conv("y", "kernel_size: 2, dilation: 3"),
    ],
    "pooling and a layer in place": [
        conv("a", "kernel_size: 3, pad: 1"),
        "{name: p, type: Pooling, pooling_param: {pool: AVE, kernel_size: 3, stride: 2}}",
        "{name: s, type: Sigmoid, top: p}",
        conv("y", "kernel_size: 3"),
    ],
    "LRN within channels": [
        "{name: n, type: LRN, lrn_param: {local_size: 3, norm_region: WITHIN_CHANNEL}}",
        conv("y", "kernel_size: 3"),
    ],
    "branches of different windows": [
        conv("a", "kernel_size: 1", "bottom: x, "),
        conv("b", "kernel_size: 5, pad: 2", "bottom: x, "),
        conv("c", "kernel_h: 3, kernel_w: 1, pad_h: 1, pad_w: 0", "bottom: x, "),
        "{name: j, type: Concat, bottom: [a, b, c]}",
        conv("y", "kernel_size: 2, stride: 2"),
    ],
    "low rank": [conv("a", "kernel_size: 3", LOW_RANK), conv("y", "kernel_size: 3, stride: 2")],
}


@pytest.mark.parametrize("case", NETS)
def test_the_gradient_of_an_output_lies_in_its_field_and_fills_it(case):
    layers = "\n".join(f"- {line}" for line in NETS[case])
    text = "force_backward: true\nlayer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 1, 15, 17]}}}\n"
    net = mc.Net(parse_net(text + layers), phase="train", seed=1)
    net.forward(x=np.random.default_rng(0).random((1, 1, 15, 17)))
    field = receptive_fields(net)["y"]
    dy = net.blobs["y"].diff
    for place in ((0, 0), (1, 2), tuple(size - 1 for size in dy.shape[2:])):
        dy[...] = 0
        dy[0, 0, place[0], place[1]] = 1
        net.backward()
        for axis, o in enumerate(place):
            seen = np.flatnonzero((net.blobs["x"].diff[0, 0] != 0).any(axis=1 - axis))
            first = o * field.stride[axis] + field.offset[axis]
            last = min(first + field.size[axis], net.blobs["x"].shape[2 + axis]) - 1
            assert (seen[0], seen[-1]) == (max(0, first), last)


def test_windows_alone_give_the_field_too():
    assert Window.receptive_field([]) == ((1, 1), (1, 1), (0, 0))
    lenet = [Window((5, 5)), Window((2, 2), (2, 2)), Window((5, 5)), Window((2, 2), (2, 2))]
    assert Window.receptive_field(lenet) == ReceptiveField((16, 16), (4, 4), (0, 0))


def test_there_is_no_field_behind_an_inner_product_or_where_strides_differ():
    text = """
layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 3, 8, 8]}}}
- {name: a, type: Convolution, bottom: x, convolution_param: {num_output: 2, kernel_size: 8, stride: 2}}
- {name: b, type: Convolution, bottom: x, convolution_param: {num_output: 2, kernel_size: 8}}
- {name: sum, type: Eltwise, bottom: [a, b]}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 4}}
- {name: d, type: Deconvolution, bottom: x, convolution_param: {num_output: 2, kernel_size: 2, stride: 2}}
"""
    fields = receptive_fields(mc.Net(parse_net(text)))
    assert fields["a"] and fields["b"] and not (fields["sum"] or fields["ip"] or fields["d"])
