"""Layers that move, cut, join and combine blobs, and (de)convolution of any number of axes."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net
from minicaffe.testing import check_gradients
from tests.layer_cases import net_of

CONVOLUTION_PARAM = "convolution_param: {{{}, weight_filler: {{type: xavier}}}}"
TRANSPOSED = [
    ((2, 3, 4, 5), "num_output: 2, kernel_size: 3"),
    ((1, 2, 3, 4), "num_output: 3, kernel_size: 2, stride: 3"),
    ((2, 4, 3, 3), "num_output: 6, kernel_size: 4, stride: 2, pad: 1, group: 2"),
    ((3, 2, 4, 4), "num_output: 2, kernel_size: 3, dilation: 2, pad: 1, bias_term: false"),
    ((2, 3, 3, 2), "num_output: 4, kernel_size: 1"),
    ((2, 3, 5), "num_output: 2, kernel_size: 4, stride: 2, pad: 1"),
    ((2, 2, 3, 3, 4), "num_output: 2, kernel_size: 3, axis: 2"),
    ((1, 2, 2, 3, 3), "num_output: 2, kernel_size: [2, 3, 2], stride: [2, 1, 2], pad: [0, 1, 0]"),
]


@pytest.mark.parametrize(("shape", "settings"), TRANSPOSED)
def test_deconvolution_backward_is_the_derivative_of_forward(shape, settings):
    layer = f"type: Deconvolution, {CONVOLUTION_PARAM.format(settings)}"
    check_gradients(layer, [shape])


@pytest.mark.parametrize(("shape", "settings"), TRANSPOSED)
def test_deconvolution_is_the_transpose_of_convolution(shape, settings, rng):
    """⟨conv(y), x⟩ = ⟨y, deconv(x)⟩ with the same weights."""
    settings = settings.replace(", bias_term: false", "") + ", bias_term: false"
    up = net_of(f"type: Deconvolution, {CONVOLUTION_PARAM.format(settings)}", shape)
    x = rng.standard_normal(shape)
    up_x = up.forward(x0=x)["L"]
    channels = shape[2] if "axis: 2" in settings else shape[1]
    outputs = settings.partition(",")[0]
    down = net_of(
        f"type: Convolution, {CONVOLUTION_PARAM.format(settings.replace(outputs, f'num_output: {channels}'))}",
        up_x.shape,
    )
    down.params["L"][0].data[...] = up.params["L"][0].data
    y = rng.standard_normal(up_x.shape)
    assert (down.forward(x0=y)["L"] * x).sum() == pytest.approx((y * up_x).sum(), rel=1e-4)


def test_deconvolution_with_frozen_weights_still_gives_the_input_gradient():
    layer = "type: Deconvolution, param: [{lr_mult: 0}, {lr_mult: 0}], " + CONVOLUTION_PARAM.format(
        "num_output: 2, kernel_size: 3, pad: 1"
    )
    check_gradients(layer, [(2, 3, 4, 4)])


@pytest.mark.parametrize(("shape", "settings"), TRANSPOSED)
def test_deconvolution_without_input_gradient_still_gives_the_weights(shape, settings):
    layer = f"type: Deconvolution, propagate_down: false, {CONVOLUTION_PARAM.format(settings)}"
    net = check_gradients(layer, [shape], by=[])
    assert not net.blobs["x0"].has_diff


def test_two_bottoms_of_a_deconvolution_share_its_weights():
    layer = "type: Deconvolution, top: [y0, y1], " + CONVOLUTION_PARAM.format("num_output: 2, kernel_size: 2")
    check_gradients(layer, [(2, 3, 3, 3), (1, 3, 2, 4)])


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((2, 2, 3, 5, 4), "num_output: 2, kernel_size: 3, axis: 2"),
        ((3, 6, 5), "num_output: 2, kernel_size: 3, axis: 0"),
        ((2, 3, 2, 6), "num_output: 4, kernel_size: 3, stride: 2, axis: -2"),
        ((2, 2, 4, 3, 3), "num_output: 2, kernel_size: 2, pad: 1, stride: 2"),
        (
            (1, 4, 3, 4, 3),
            "num_output: 4, kernel_size: [3, 1, 2], dilation: [2, 1, 1], pad: [2, 0, 1], group: 2",
        ),
        ((2, 1, 2, 2, 3, 3), "num_output: 2, kernel_size: 2, axis: 2"),
    ],
)
def test_convolution_over_other_axes_is_differentiated_right(shape, settings):
    layer = f"type: Convolution, {CONVOLUTION_PARAM.format(settings)}"
    check_gradients(layer, [shape])


def test_convolution_at_axis_2_treats_the_axes_before_as_batch(rng):
    x = rng.standard_normal((2, 3, 4, 5, 5))
    inner = net_of(
        f"type: Convolution, {CONVOLUTION_PARAM.format('num_output: 2, kernel_size: 3, axis: 2')}", x.shape
    )
    plain = net_of(
        f"type: Convolution, {CONVOLUTION_PARAM.format('num_output: 2, kernel_size: 3')}", (6, 4, 5, 5)
    )
    plain.params["L"][0].data[...] = inner.params["L"][0].data
    expected = plain.forward(x0=x.reshape(6, 4, 5, 5))["L"].reshape(2, 3, 2, 3, 3)
    np.testing.assert_allclose(inner.forward(x0=x)["L"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer_type", "shape", "settings", "expected"),
    [
        ("Convolution", (9, 4, 5, 6), "num_output: 6, kernel_size: 3, group: 2", 6 * 2 * 9 * (3 * 4)),
        ("Convolution", (9, 2, 3, 4, 5), "num_output: 3, kernel_size: 2", 3 * 2 * 8 * (2 * 3 * 4)),
        ("Deconvolution", (9, 4, 5, 6), "num_output: 6, kernel_size: 3, stride: 2", 4 * 6 * 9 * (5 * 6)),
    ],
)
def test_the_work_of_a_convolution_is_weights_times_places(layer_type, shape, settings, expected):
    net = net_of(f"type: {layer_type}, convolution_param: {{{settings}}}", shape)
    assert net.steps[-1].multiply_adds == expected


@pytest.mark.parametrize(
    ("shape", "settings", "problem"),
    [
        ((2, 3), "num_output: 1, kernel_size: 1", "0 axes after the channels"),
        ((1, 1, 2, 2, 2, 2), "num_output: 1, kernel_size: 1", "4 axes after the channels"),
        ((1, 1, 4), "num_output: 1, kernel_h: 1, kernel_w: 1", "two spatial axes, not 1; use 'kernel_size"),
        ((1, 1, 4, 4, 4), "num_output: 1, kernel_size: [1, 2]", "2 values for 3 spatial axes"),
        ((1, 1, 2, 4, 4), "num_output: 1, kernel_size: 3", "does not fit"),
    ],
)
def test_a_convolution_of_unfit_axes_is_an_error_at_its_layer(shape, settings, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(f"type: Convolution, convolution_param: {{{settings}}}", shape)


def test_a_deconvolution_whose_padding_leaves_nothing_is_an_error():
    with pytest.raises(mc.ShapeError, match=r"layer 'L'.*the top would be"):
        net_of(
            "type: Deconvolution, convolution_param: {num_output: 1, kernel_size: 1, pad: 2}", (1, 1, 3, 3)
        )


SMOOTH = [
    ("type: Concat", [(2, 3, 2, 2), (2, 1, 2, 2)]),
    ("type: Concat, concat_param: {axis: 0}", [(1, 3), (2, 3), (1, 3)]),
    ("type: Concat, concat_param: {axis: -1}", [(2, 3, 2), (2, 3, 4)]),
    ("type: Concat, concat_param: {axis: 0}", [(3,), (2,)]),
    ("type: Slice, top: [a, b]", [(1, 4, 3, 2)]),
    ("type: Slice, top: [a, b, c], slice_param: {axis: 0, slice_point: [1, 3]}", [(4, 2)]),
    ("type: Slice, top: [a, b], slice_param: {axis: -1, slice_point: 2}", [(2, 3, 5)]),
    ("type: Eltwise", [(2, 3), (2, 3)]),
    ("type: Eltwise, eltwise_param: {coeff: [1, -0.5, 2]}", [(1, 3, 2)] * 3),
    ("type: Eltwise, eltwise_param: {operation: PROD}", [(2, 3)] * 3),
    ("type: Eltwise, eltwise_param: {operation: PROD, stable_prod_grad: false}", [(2, 3)] * 3),
    ("type: Eltwise, eltwise_param: {operation: MAX}", [(2, 3, 2, 2)] * 2),
    ("type: Eltwise, eltwise_param: {operation: MAX}", [(7,)] * 4),
    ("type: Flatten", [(2, 3, 2, 2)]),
    ("type: Flatten, flatten_param: {axis: 0}", [(2, 3, 2)]),
    ("type: Flatten, flatten_param: {axis: 0, end_axis: 1}", [(2, 3, 4)]),
    ("type: Reshape, reshape_param: {shape: {dim: [0, -1, 2]}}", [(3, 2, 4)]),
    ("type: Reshape, reshape_param: {shape: {dim: [-1, 2]}}", [(3, 2, 4)]),
    ("type: Reshape, reshape_param: {shape: {dim: 1}, axis: -1, num_axes: 0}", [(3, 2)]),
    ("type: Reduction", [(2, 3, 2)]),
    ("type: Reduction, reduction_param: {axis: 1, operation: MEAN, coeff: 2}", [(2, 3, 2, 2)]),
    ("type: Reduction, reduction_param: {axis: -1, operation: SUMSQ}", [(2, 3, 4)]),
    ("type: Reduction, reduction_param: {axis: 0, operation: ASUM}", [(5,)]),
    ("type: Reduction, reduction_param: {axis: 2, operation: ASUM, coeff: -1}", [(1, 3, 2, 2)]),
    ("type: Tile, tile_param: {tiles: 3}", [(2, 3, 2)]),
    ("type: Tile, tile_param: {tiles: 2, axis: 0}", [(3, 2)]),
    ("type: Tile, tile_param: {tiles: 2, axis: -1}", [(1, 2, 3, 2)]),
    ("type: Permute, permute_param: {order: [0, 2, 3, 1]}", [(2, 3, 4, 2)]),
    ("type: Permute, permute_param: {order: [2, 0]}", [(2, 3, 4)]),
    ("type: Permute, permute_param: {order: [1, 0]}", [(2, 5)]),
]


@pytest.mark.parametrize(("layer", "shapes"), SMOOTH)
def test_backward_is_the_derivative_of_forward(layer, shapes, distinct):
    check_gradients(layer, [distinct(*shape) + 0.03 * i + 0.005 for i, shape in enumerate(shapes)])


@pytest.mark.parametrize(("layer", "shapes"), SMOOTH)
def test_a_net_reshaped_and_back_gives_the_same_numbers(layer, shapes, distinct):
    def run(inputs):
        for name, value in inputs.items():
            net.blobs[name].reshape(*value.shape)
        net.reshape()
        outputs = net.forward(**inputs)
        gradients = net.backward(**{name: np.cos(value) for name, value in outputs.items()})
        assert all(a.dtype == np.float32 for a in [*outputs.values(), *gradients.values()])
        return [*outputs.values(), *gradients.values()]

    net = net_of(layer, *shapes)
    inputs = {f"x{i}": distinct(*shape) for i, shape in enumerate(shapes)}
    first = run(inputs)
    run({name: np.concatenate([x] * 4) for name, x in inputs.items()})
    for a, b in zip(first, run(inputs), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("layer", "shapes"), [case for case in SMOOTH if len(case[1]) > 1])
def test_a_bottom_with_propagate_down_false_gets_no_gradient(layer, shapes):
    asked = ["false"] + ["true"] * (len(shapes) - 1)
    net = net_of(f"{layer}, propagate_down: [{', '.join(asked)}]", *shapes)
    outputs = net.forward(**{f"x{i}": np.full(shape, i + 1.0) for i, shape in enumerate(shapes)})
    reached = net.backward(**{name: np.ones_like(value) for name, value in outputs.items()})
    assert list(reached) == [f"x{i}" for i in range(1, len(shapes))]
    assert not net.blobs["x0"].has_diff
    assert any(gradient.any() for gradient in reached.values())


def test_large_blobs_are_joined_and_cut_alike_by_several_workers(rng):
    """Beyond ``workers.CHUNK`` the copies are shared out: the same numbers."""
    a, b = rng.standard_normal((2, 50, 8, 16, 16)).astype(np.float32)
    net = net_of("type: Concat", a.shape, b.shape)
    np.testing.assert_array_equal(net.forward(x0=a, x1=b)["L"], np.concatenate([a, b], axis=1))
    net = net_of("type: Slice, top: [p, q], slice_param: {axis: 3, slice_point: 5}", a.shape)
    out = net.forward(x0=a)
    np.testing.assert_array_equal(out["p"], a[..., :5])
    np.testing.assert_array_equal(out["q"], a[..., 5:])
    for operation, expected in [("SUM", a + b), ("PROD", a * b), ("MAX", np.maximum(a, b))]:
        net = net_of(f"type: Eltwise, eltwise_param: {{operation: {operation}}}", a.shape, b.shape)
        np.testing.assert_array_equal(net.forward(x0=a, x1=b)["L"], expected)
    net = net_of("type: Permute, permute_param: {order: [0, 2, 3, 1]}", a.shape)
    np.testing.assert_array_equal(net.forward(x0=a)["L"], a.transpose(0, 2, 3, 1))


def test_a_slice_sends_zeros_down_for_tops_that_get_no_gradient():
    text = """
force_backward: true
layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 4]}}}
- {name: cut, type: Slice, bottom: x, top: [used, unused, silent], slice_param: {slice_point: [1, 2]}}
- {name: end, type: Silence, bottom: silent}
- {name: loss, type: Reduction, bottom: used, loss_weight: 3}
"""
    net = mc.Net(parse_net(text))
    net.blobs["x"].diff[...] = 7
    net.forward()
    net.backward()
    np.testing.assert_array_equal(net.blobs["x"].diff, [[3, 0, 0, 0], [3, 0, 0, 0]])


@pytest.mark.parametrize(
    "layer", ["type: Flatten", "type: Reshape, reshape_param: {shape: {dim: [0, 3, -1]}}"]
)
def test_a_reshape_that_keeps_the_batch_axis_shares_memory(layer):
    net = net_of(layer, (2, 3, 4, 5))
    x, y = net.blobs["x0"], net.blobs["L"]
    assert np.shares_memory(x.stored, y.stored)
    assert np.shares_memory(x.stored_diff, y.stored_diff)


def test_a_reshape_that_mixes_the_batch_axis_no_longer_shares_memory():
    net = net_of("type: Reshape, reshape_param: {shape: {dim: [2, -1]}}", (2, 3))
    assert np.shares_memory(net.blobs["x0"].stored, net.blobs["L"].stored)
    net.blobs["x0"].reshape(3, 2)
    x = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(net.forward(x0=x)["L"], x.reshape(2, 3))
    assert not np.shares_memory(net.blobs["x0"].stored, net.blobs["L"].stored)
    dy = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(net.backward(L=dy)["x0"], dy.reshape(3, 2))


def test_a_shared_reshape_passes_gradients_on_between_layers_with_parameters():
    text = """
force_backward: true
layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 4]}}}
- {name: a, type: InnerProduct, inner_product_param: {num_output: 6, weight_filler: {type: xavier}}}
- {name: r, type: Reshape, bottom: a, reshape_param: {shape: {dim: [0, 3, 2]}}}
- {name: f, type: Flatten, bottom: r}
- {name: b, type: InnerProduct, bottom: f, inner_product_param: {num_output: 2, weight_filler: {type: xavier}}}
- {name: c, type: Reduction, bottom: r, reduction_param: {operation: SUMSQ}}
"""
    check_gradients(text, [(2, 4)])


def test_one_bottom_of_a_concat_may_be_used_elsewhere_too():
    text = """
force_backward: true
layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}
- {name: a, type: InnerProduct, bottom: x, inner_product_param: {num_output: 2, weight_filler: {type: xavier}}}
- {name: cat, type: Concat, bottom: [x, a, x]}
"""
    check_gradients(text, [(2, 3)])


def test_eltwise_max_gives_a_tie_to_the_second_bottom_and_a_third_must_be_larger():
    net = net_of("type: Eltwise, eltwise_param: {operation: MAX}", (1, 3), (1, 3), (1, 3))
    net.forward(x0=[[1, 1, 0]], x1=[[1, 0, 0]], x2=[[1, 1, 1]])
    net.backward(L=np.ones((1, 3)))
    gradients = [net.blobs[f"x{i}"].diff for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(gradients), [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize("operation", ["SUM", "PROD", "MAX"])
def test_an_eltwise_in_place_is_refused(operation):
    layer = f"type: Eltwise, top: x1, eltwise_param: {{operation: {operation}}}"
    with pytest.raises(mc.SpecError, match="layer 'L': top: Eltwise cannot work in place"):
        net_of(layer, (2, 3), (2, 3))


def test_argmax_of_equal_values_takes_the_later_place():
    x = np.array([[1, 5, 5, 2], [3, 3, 3, 3]])
    np.testing.assert_array_equal(net_of("type: ArgMax", (2, 4)).forward(x0=x)["L"][:, 0], [[2], [3]])
    out = net_of("type: ArgMax, argmax_param: {top_k: 3, out_max_val: true}", (2, 4)).forward(x0=x)["L"]
    np.testing.assert_array_equal(out, [[[2, 1, 3], [5, 5, 2]], [[3, 2, 1], [3, 3, 3]]])


def test_crop_gives_no_gradient_to_its_reference():
    net = check_gradients(
        "type: Crop, crop_param: {axis: 1, offset: [1, 0, 2]}", [(2, 3, 4, 5), (7, 2, 3, 3)]
    )
    assert not net.blobs["x1"].has_diff
    net.blobs["x0"].diff[...] = 7
    net.backward()
    assert np.count_nonzero(net.blobs["x0"].diff) == net.blobs["L"].count
    np.testing.assert_array_equal(net.blobs["L"].data, net.blobs["x0"].data[:, 1:3, :3, 2:5])


def test_crop_of_the_batch_axis_cuts_images(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    net = net_of("type: Crop, crop_param: {axis: 0, offset: [2, 1]}", (4, 3), (2, 2))
    np.testing.assert_array_equal(net.forward(x0=x)["L"], x[2:4, 1:3])


def test_permute_appends_the_axes_that_its_order_leaves_out(rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    net = net_of("type: Permute, permute_param: {order: [0, 3]}", x.shape)
    np.testing.assert_array_equal(net.forward(x0=x)["L"], x.transpose(0, 3, 1, 2))


def test_silence_hides_its_bottoms_from_the_outputs():
    assert net_of("type: Silence", (2, 3), (4,)).outputs == []


DUMMY = """
layer:
- name: d
  type: DummyData
  top: [a, b]
  dummy_data_param:
    shape: {{dim: [2, 3]}}
    data_filler: [{{type: constant, value: 4}}, {{type: {}}}]
"""


def test_dummy_data_draws_random_numbers_anew_and_constants_once():
    net = mc.Net(parse_net(DUMMY.format("gaussian")), seed=1)
    np.testing.assert_array_equal(net.blobs["a"].data, np.full((2, 3), 4))
    first = net.forward()
    net.blobs["a"].data[...] = 5
    second = net.forward()
    assert (first["b"] != second["b"]).all()
    np.testing.assert_array_equal(second["a"], np.full((2, 3), 5))


def test_dummy_data_takes_older_sizes_once_or_for_each_top():
    sizes = "{num: [2, 5], channels: 3, height: 1, width: 4}"
    text = f"layer: [{{name: d, type: DummyData, top: [a, b], dummy_data_param: {sizes}}}]"
    net = mc.Net(parse_net(text))
    assert [net.blobs[name].shape for name in "ab"] == [(2, 3, 1, 4), (5, 3, 1, 4)]


WRONG = [
    ("type: Concat", [(2, 3, 2), (2, 3, 3)], "may differ in axis 1 only"),
    ("type: Concat", [(2, 3), (2, 3, 1)], "may differ in axis 1 only"),
    ("type: Concat, concat_param: {axis: 4}", [(2, 3), (2, 3)], "axis 4 is out of range"),
    ("type: Concat, concat_param: {concat_dim: 2}", [(2, 3), (2, 3)], "concat_dim 2 is out of range"),
    ("type: Concat, concat_param: {axis: 1, concat_dim: 1}", [(2, 3)], "concat_dim: is the old name"),
    ("type: Slice, top: [a, b]", [(2, 3)], "3 cannot be cut into 2 equal parts"),
    ("type: Slice, top: [a, b], slice_param: {slice_point: [1, 2]}", [(2, 3)], "2 points for 2 tops; give 1"),
    ("type: Slice, top: [a, b], slice_param: {slice_point: 3}", [(2, 3)], "3 is not inside the axis"),
    ("type: Slice, top: [a, b, c], slice_param: {slice_point: [2, 1]}", [(2, 3)], "must be increasing"),
    (
        "type: Slice, top: [a, b], slice_param: {axis: 1, slice_dim: 1}",
        [(2, 4)],
        "slice_dim: is the old name",
    ),
    ("type: Eltwise", [(2, 3), (2, 4)], "bottom 'x1' has shape"),
    ("type: Eltwise", [(2, 3)], "takes at least 2"),
    ("type: Eltwise, eltwise_param: {coeff: 1}", [(2, 3), (2, 3)], "1 for 2 bottoms"),
    ("type: Eltwise, eltwise_param: {operation: PROD, coeff: [1, 2]}", [(2, 3), (2, 3)], "for SUM only"),
    ("type: Flatten, flatten_param: {axis: 2, end_axis: 0}", [(2, 3, 4)], "axis 0 comes before axis 2"),
    ("type: Flatten, top: x0", [(2, 3)], "Flatten cannot work in place"),
    ("type: Reshape, top: x0", [(2, 3)], "Reshape cannot work in place"),
    ("type: Reshape, reshape_param: {shape: {dim: [-1, -1]}}", [(2, 3)], "more than one -1"),
    ("type: Reshape, reshape_param: {shape: {dim: [4, -1]}}", [(2, 3)], "are not divisible by 4"),
    ("type: Reshape, reshape_param: {shape: {dim: [4, 2]}}", [(2, 3)], "has 8 numbers, but bottom"),
    ("type: Reshape, reshape_param: {shape: {dim: [2, 3, 0]}}", [(2, 3)], "0 copies axis 2"),
    ("type: Reshape, reshape_param: {axis: 3}", [(2, 3)], "axis: 3 is out of range"),
    ("type: Reshape, reshape_param: {axis: 1, num_axes: 2}", [(2, 3)], "num_axes: 2 from axis 1"),
    ("type: Reduction, reduction_param: {axis: 2}", [(2, 3)], "axis 2 is out of range"),
    ("type: Crop", [(2, 3, 4, 4), (2, 3, 5, 4)], "axis 2: 5 from offset 0"),
    ("type: Crop, crop_param: {offset: [2, 0]}", [(2, 3, 4, 4), (2, 3, 3, 4)], "axis 2: 3 from offset 2"),
    ("type: Crop, crop_param: {offset: [0, 0, 0]}", [(2, 3, 4, 4), (2, 3, 3, 4)], "3 offsets for 2 axes"),
    ("type: Crop", [(2, 3, 4, 4), (2, 3)], "has fewer axes"),
    ("type: Tile", [(2, 3)], "tiles: required"),
    ("type: Tile, tile_param: {tiles: 0}", [(2, 3)], "at least 1"),
    ("type: Permute, permute_param: {order: [0, 0]}", [(2, 3)], "names an axis twice"),
    ("type: Permute, permute_param: {order: [2]}", [(2, 3)], "has axes 0 to 1"),
    ("type: Permute, top: x0", [(2, 3)], "cannot work in place"),
    ("type: ArgMax, argmax_param: {top_k: 7}", [(2, 3, 2)], "7 is more than the 6 values"),
    ("type: ArgMax, argmax_param: {top_k: 3, axis: 2}", [(2, 3, 2)], "3 is more than the 2 values"),
    ("type: DummyData", [], "shape: required"),
    ("type: DummyData, dummy_data_param: {shape: {dim: 1}, num: 1}", [], "'shape' is given too"),
    ("type: DummyData, dummy_data_param: {num: 1, channels: 1}", [], "height: 0 given for 1 tops"),
    (
        "type: DummyData, top: [a, b, c], dummy_data_param: {shape: [{dim: 1}, {dim: 1}]}",
        [],
        "2 given for 3 tops",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "problem"), WRONG)
def test_a_wrong_layer_is_an_error_that_names_it(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)
