"""Layers of detection, segmentation and mobile nets that learn: gradients by central differences, and errors."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.testing import away_from, check_gradients
from tests.layer_cases import net_of

SCALE = "scale_filler: {type: uniform, min: 1, max: 3}"
NORM = "type: Normalize, norm_param: {across_spatial: %s, channel_shared: %s, " + SCALE + "}"
REGIONS = np.array(
    [
        [0, 0, 0, 90, 60],
        [1, 20, 10, 50, 100],
        [1, -30, -20, 8, 8],
        [0, 100, 70, 300, 200],
        [1, 40, 40, 10, 10],
    ],
)
POOL = "type: ROIPooling, roi_pooling_param: {pooled_h: 3, pooled_w: 4, spatial_scale: 0.125}"
SMOOTH = [
    ("type: Axpy", [(2, 3, 1, 1), (2, 3, 2, 4), (2, 3, 2, 4)]),
    ("type: Axpy", [(2, 3), (2, 3, 2, 1), (2, 3, 2, 1)]),
    ("type: Axpy", [(1, 3), (1, 3), (1, 3)]),
    ("type: ShuffleChannel, shuffle_channel_param: {group: 3}", [(2, 6, 2, 1)]),
    ("type: ShuffleChannel", [(3, 4)]),
    ("type: BN, bn_param: {slope_filler: {type: constant, value: 2}}", [(3, 2, 2, 3)]),
    ("type: BN, top: x0, bn_param: {slope_filler: {type: constant, value: -1}, eps: 0.1}", [(4, 3)]),
    ("type: BN, bn_param: {slope_filler: {type: constant, value: 2}, frozen: true}", [(2, 3, 2)]),
    ("type: Upsample, upsample_param: {scale: 3}", [(2, 2, 2, 3)]),
    ("type: Upsample", [(1, 2, 3, 2)]),
    (NORM % ("true", "true"), [(2, 3, 2, 4)]),
    (NORM % ("true", "false"), [(2, 3, 2, 4)]),
    (NORM % ("false", "true"), [(2, 3, 2, 4)]),
    (NORM % ("false", "false"), [(2, 3, 2, 4)]),
    (NORM % ("false", "false"), [(4, 3)]),
    (NORM % ("true", "false"), [(1, 2, 3)]),
    ("type: Interp, interp_param: {zoom_factor: 3}", [(2, 2, 5, 4)]),
    ("type: Interp, interp_param: {shrink_factor: 2}", [(1, 2, 5, 6)]),
    ("type: Interp, interp_param: {shrink_factor: 2, zoom_factor: 3, pad_end: -1}", [(2, 1, 6, 5)]),
    ("type: Interp, interp_param: {height: 7, width: 2}", [(2, 2, 5, 4)]),
    ("type: Interp, interp_param: {height: 3, width: 5, pad_beg: -1}", [(3, 2, 5, 4)]),
    ("type: Interp, interp_param: {height: 1, width: 1}", [(2, 2, 3, 4)]),
    ("type: Interp, propagate_down: [true, false]", [(2, 2, 3, 4), (1, 1, 5, 7)]),
    (
        "type: DepthwiseConvolution, convolution_param: {num_output: 3, kernel_size: 3, pad: 1, %s}",
        [(2, 3, 5, 4)],
    ),
    (
        "type: ConvolutionDepthwise, convolution_param: {num_output: 4, kernel_size: 3, stride: 2, group: 2, %s}",
        [(3, 2, 6, 5)],
    ),
    (
        "type: DepthwiseConvolution, convolution_param: {num_output: 2, kernel_size: 2, dilation: 2, %s}",
        [(1, 2, 6)],
    ),
    ("type: DepthwiseConvolution, convolution_param: {num_output: 2, kernel_size: 2, %s}", [(2, 2, 2, 3, 3)]),
]
SMOOTH = [(layer.replace("%s", "weight_filler: {type: xavier}"), shapes) for layer, shapes in SMOOTH]


@pytest.mark.parametrize(("layer", "shapes"), SMOOTH)
def test_backward_is_the_derivative_of_forward(layer, shapes):
    check_gradients(layer, shapes)


@pytest.mark.parametrize(("layer", "shapes"), SMOOTH)
def test_a_net_reshaped_and_back_gives_the_same_numbers(layer, shapes, rng):
    def run(inputs):
        for name, value in inputs.items():
            net.blobs[name].reshape(*value.shape)
        net.reshape()
        outputs = net.forward(**inputs)
        (name,) = outputs
        gradients = net.backward(**{name: np.cos(outputs[name])})
        return [*outputs.values(), *gradients.values()]

    net = net_of(layer, *shapes)
    inputs = {f"x{i}": rng.standard_normal(shape) for i, shape in enumerate(shapes)}
    first = run(inputs)
    run({name: np.concatenate([x] * 4) for name, x in inputs.items()})
    for a, b in zip(first, run(inputs), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("place", ["", "top: x0, "])
@pytest.mark.parametrize("slope", ["", "negative_slope: 0.2"])
def test_relu6_backward_is_the_derivative_of_forward(place, slope, rng):
    x = away_from([0, 6], rng.standard_normal((3, 7)) * 5)
    check_gradients(f"type: ReLU6, {place}relu6_param: {{{slope}}}", [x])


def test_relu6_stops_at_0_and_6():
    net = net_of("type: ReLU6", (1, 6))
    out = net.forward(x0=[[-9, -0.5, 0, 2, 6, 7]])["L"]
    np.testing.assert_array_equal(out, [[0, 0, 0, 2, 6, 6]])
    leaky = net_of("type: ReLU6, relu6_param: {negative_slope: 0.5}", (1, 3))
    np.testing.assert_array_equal(leaky.forward(x0=[[-8, 3, 9]])["L"], [[-4, 3, 6]])


@pytest.mark.parametrize("sigma", [1, 3])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("shape", [(4, 8), (2, 3, 2, 2), (5,)])
def test_smooth_l1_backward_is_the_derivative_of_forward(sigma, weights, shape, rng):
    a, b, inside, outside = rng.standard_normal((4, *shape))
    inside = np.abs(inside) + 0.5
    corner = 1 / sigma**2 / (inside if weights else 1)
    distance = np.where(np.abs(np.abs(a - b) - corner) < 1e-3, corner + 0.01, a - b)
    layer = f"type: SmoothL1Loss, loss_weight: 0.7, smooth_l1_loss_param: {{sigma: {sigma}}}"
    inputs = [b + distance, b, *([inside, outside] if weights else [])]
    check_gradients(layer, inputs, by=["x0", "x1"])


@pytest.mark.parametrize("shape", [(2, 1, 9, 12), (2, 3, 4, 5)])
def test_roi_pooling_backward_is_the_derivative_of_forward(shape, rng):
    x = rng.permutation(int(np.prod(shape))).reshape(shape) * 0.1
    net = check_gradients(POOL, [x, REGIONS])
    assert not net.blobs["x1"].has_diff


@pytest.mark.parametrize(
    ("layer", "shapes", "asked"),
    [
        ("type: Axpy", SMOOTH[0][1], [False, True, True]),
        ("type: Axpy", SMOOTH[0][1], [True, False, False]),
        ("type: Axpy", SMOOTH[0][1], [False, False, True]),
        (NORM % ("false", "false") + ", param: {lr_mult: 0}", [(2, 3, 2, 2)], [True]),
        (NORM % ("false", "false"), [(2, 3, 2, 2)], [False]),
        (POOL, [(2, 1, 4, 5), REGIONS.shape], [False, False]),
    ],
)
def test_what_needs_no_gradient_gets_none(layer, shapes, asked, rng):
    down = ", ".join(str(one).lower() for one in asked)
    net = net_of(f"{layer}, propagate_down: [{down}]", *shapes)
    inputs = {f"x{i}": rng.standard_normal(shape) for i, shape in enumerate(shapes)}
    net.forward(**{**inputs, **({"x1": REGIONS} if "ROI" in layer else {})})
    net.backward(L=np.ones(net.blobs["L"].shape))
    assert [net.blobs[f"x{i}"].has_diff for i in range(len(shapes))] == asked
    for blob in net.params.get("L", []):
        assert blob.has_diff == ("lr_mult" not in layer)


def test_the_scale_of_normalize_has_caffes_shape_and_is_1():
    shared, own = (
        net_of(f"type: Normalize, norm_param: {{channel_shared: {value}}}", (2, 3, 4, 4)).params["L"][0]
        for value in ("true", "false")
    )
    assert shared.shape == () and own.shape == (3,) and (own.data == 1).all() and shared.data == 1


@pytest.mark.parametrize("frozen", [False, True])
def test_bn_has_four_blobs_of_which_the_statistics_are_not_trained(frozen):
    params = "param: [{lr_mult: 1}, {lr_mult: 1}, {lr_mult: 0}, {lr_mult: 0}]"
    net = net_of(f"type: BN, {params}, bn_param: {{frozen: {frozen}}}", (2, 3, 4, 4))
    assert [blob.shape for blob in net.params["L"]] == [(1, 3, 1, 1)] * 4
    assert [param.lr_mult for param in net.learnable] == ([0] * 4 if frozen else [1, 1, 0, 0])


def test_bn_is_batch_norm_and_scale_and_follows_the_batches(rng):
    filler = "slope_filler: {type: constant, value: 3}, bias_filler: {type: constant, value: -1}"
    net = net_of(f"type: BN, bn_param: {{{filler}, momentum: 0.9}}", (5, 2, 3, 4))
    x = rng.standard_normal((5, 2, 3, 4)) * 4 + 2
    mean, variance = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
    expected = 3 * (x - mean) / np.sqrt(variance + 1e-5) - 1
    np.testing.assert_allclose(net.forward(x0=x)["L"], expected, rtol=1e-4, atol=1e-5)
    moving = [np.array(blob.data) for blob in net.params["L"][2:]]
    np.testing.assert_allclose(moving[0], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(moving[1], 0.1 * variance, rtol=1e-4)
    tested = net_of(f"type: BN, bn_param: {{{filler}}}", (5, 2, 3, 4), phase="test")
    tested.share_with(net)
    expected = 3 * (x - moving[0]) / np.sqrt(moving[1] + 1e-5) - 1
    np.testing.assert_allclose(tested.forward(x0=x)["L"], expected, rtol=1e-4, atol=1e-4)
    gradient = tested.backward(L=np.ones(x.shape))["x0"]
    np.testing.assert_allclose(gradient, np.broadcast_to(3 / np.sqrt(moving[1] + 1e-5), x.shape), rtol=1e-4)


def test_smooth_l1_is_square_near_and_straight_far():
    net = net_of("type: SmoothL1Loss, smooth_l1_loss_param: {sigma: 2}", (2, 2), (2, 2))
    loss = net.forward(x0=[[0.1, -3], [0, 0.25]], x1=np.zeros((2, 2)))["L"]
    assert loss == pytest.approx((0.5 * 4 * 0.01 + 3 - 0.125 + 0 + 0.125) / 2)


WRONG = [
    ("type: BN", [(3,)], "expected a batch with channels"),
    ("type: BN, param: [{}, {}, {lr_mult: 1}]", [(3, 2)], "statistics are not trained"),
    ("type: SmoothL1Loss", [(3, 2), (3, 1)], "expected one shape"),
    ("type: Axpy", [(2, 3, 1, 2), (2, 3, 2, 2), (2, 3, 2, 2)], "expected a "),
    ("type: Axpy", [(2, 3), (2, 3, 2, 2), (2, 3, 2, 1)], "x and b of one shape"),
    (
        "type: ShuffleChannel, shuffle_channel_param: {group: 3}",
        [(2, 4)],
        "group: 3 does not divide the bottom's 4",
    ),
    ("type: ShuffleChannel", [(4,)], "expected a batch with channels"),
    ("type: Upsample", [(2, 3, 4)], "expected 4 axes"),
    ("type: Upsample, upsample_param: {scale: 0}", [(2, 3, 4, 4)], "scale: 0 is out of range"),
    ("type: Normalize", [(4,)], "at least 2 axes"),
    ("type: Interp", [(1, 1, 3, 3)], "height: no size: give height and width"),
    ("type: Interp, interp_param: {height: 3}", [(1, 1, 3, 3)], "width: required with height"),
    (
        "type: Interp, interp_param: {zoom_factor: 2, pad_beg: 1}",
        [(1, 1, 3, 3)],
        "pad_beg: 1 is out of range",
    ),
    (
        "type: Interp, interp_param: {zoom_factor: 2, pad_beg: -2, pad_end: -1}",
        [(1, 1, 3, 3)],
        "leave nothing",
    ),
    ("type: Interp, interp_param: {zoom_factor: 2}", [(1, 3, 3)], "expected 4 axes"),
    (POOL, [(2, 3, 4), (5, 5)], "expected 4 axes"),
    (POOL, [(2, 3, 4, 4), (5, 4)], r"regions have shape \(5, 4\)"),
    ("type: ROIPooling", [(2, 3, 4, 4), (5, 5)], "pooled_h: required"),
    (
        "type: DepthwiseConvolution, convolution_param: {num_output: 4, kernel_size: 1}",
        [(1, 3, 4, 4)],
        "num_output: 4 is not a multiple of the 3 channels",
    ),
    (
        "type: DepthwiseConvolution, convolution_param: {num_output: 4, kernel_size: 1, group: 2}",
        [(1, 4, 4, 4)],
        "group: 2, but the bottom has 4 channels; leave it out",
    ),
    (
        "type: DepthwiseConvolution, convolution_param: {num_output: 4, kernel_size: 9}",
        [(1, 4, 4, 4)],
        "does not fit",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "problem"), WRONG)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)


def test_other_channels_than_the_scale_has_are_an_error():
    net = net_of("type: Normalize, norm_param: {channel_shared: false}", (2, 3, 4, 4))
    net.blobs["x0"].reshape(2, 4, 4, 4)
    with pytest.raises(mc.ShapeError, match="layer 'L': bottom has 4 channels, the scale 3"):
        net.reshape()


@pytest.mark.cpu_only("a GPU would have to wait for it")
def test_a_region_of_an_image_that_there_is_not_is_an_error():
    net = net_of(POOL, (2, 1, 4, 4), (1, 5))
    with pytest.raises(mc.DataError, match="layer 'L': regions of images 2 to 2, but the batch has 2"):
        net.forward(x1=[[2, 0, 0, 8, 8]])
