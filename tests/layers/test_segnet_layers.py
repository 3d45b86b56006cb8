"""BN and Upsample of SegNet's Caffe: numbers by its formulas, gradients by central differences, and errors."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.layers.bn import BN
from minicaffe.layers.segnet_bn import SegNetBN
from minicaffe.spec.net import parse_net
from minicaffe.testing import check_gradients
from tests.golden_files import FOLDER
from tests.layer_cases import net_of

UNIFORM = "{type: uniform, min: 0.5, max: 2}"
FILLED = f"scale_filler: {UNIFORM}, shift_filler: {UNIFORM}"
LEARN, INFERENCE = (f"type: BN, %sbn_param: {{bn_mode: {mode}, {FILLED}}}" for mode in ("LEARN", "INFERENCE"))
SHAPES = [(3, 2, 2, 3), (4, 3), (2, 3, 5), (1, 2, 3, 1)]


def reference(x, scale, shift):
    """LEARN, as the original computes it: σ² = E(x²) − E(x)²."""
    axes = (0, *range(2, x.ndim))
    mean = x.mean(axis=axes, keepdims=True)
    variance = (x**2).mean(axis=axes, keepdims=True) - mean**2
    by_channel = (1, -1, *[1] * (x.ndim - 2))
    normalised = (x - mean) / np.sqrt(variance + 1e-9)
    return normalised * scale.reshape(by_channel) + shift.reshape(by_channel), mean, variance


# -- BN ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "top: x0, "])
@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("layer", [LEARN, INFERENCE])
@pytest.mark.parametrize("shape", SHAPES)
def test_bn_backward_is_the_derivative_of_forward(place, phase, layer, shape):
    check_gradients(layer % place, [shape], phase=phase)


@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_bn_that_learns_takes_the_batchs_statistics_in_every_phase(phase, shape, rng):
    net = net_of(LEARN % "", shape, phase=phase, dtype="float64")
    x = rng.standard_normal(shape) * 4 + 2
    expected, *_ = reference(x, *(np.array(blob.data) for blob in net.params["L"]))
    np.testing.assert_allclose(net.forward(x0=x)["L"], expected, rtol=1e-7)


def test_bn_that_learns_tells_its_statistics_in_further_tops(rng):
    net = net_of(LEARN % "top: [y, mean, variance], ", (5, 3, 4, 2), dtype="float64")
    x = rng.standard_normal((5, 3, 4, 2)) * 3 - 1
    found = net.forward(x0=x)
    expected = reference(x, *(np.array(blob.data) for blob in net.params["L"]))
    for name, wanted in zip(("y", "mean", "variance"), expected, strict=True):
        assert found[name].shape == wanted.shape
        np.testing.assert_allclose(found[name], wanted, rtol=1e-7)


def test_bn_without_images_has_no_statistics():
    net = net_of(LEARN % "top: [y, mean, variance], ", (2, 3, 4, 2))
    net.blobs["x0"].reshape(0, 3, 4, 2)
    found = net.forward()
    assert found["y"].shape == (0, 3, 4, 2) and not found["mean"].any() and not found["variance"].any()
    net.backward()


def test_bn_at_inference_scales_and_shifts(rng):
    net = net_of(INFERENCE % "", (2, 3, 4, 5))
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    scale, shift = (np.array(blob.data) for blob in net.params["L"])
    np.testing.assert_allclose(net.forward(x0=x)["L"], x * scale + shift, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("bn_mode: LEARN", SegNetBN),
        ("scale_filler: {value: 1}", SegNetBN),
        ("shift_filler: {value: 1}", SegNetBN),
        ("", BN),
        ("slope_filler: {value: 1}", BN),
        ("frozen: true", BN),
    ],
)
def test_the_fields_tell_segnets_bn_from_pspnets(fields, expected):
    net = net_of(f"type: BN, bn_param: {{{fields}}}", (2, 3, 4, 4))
    assert type(net.layers[-1]) is expected
    assert [blob.shape for blob in net.params["L"]] == [(1, 3, 1, 1)] * (2 if expected is SegNetBN else 4)


def test_the_blobs_of_bn_are_filled_like_the_originals_and_learn():
    net = net_of("type: BN, bn_param: {scale_filler: {value: 1}, shift_filler: {value: 0.001}}", (2, 3, 4, 4))
    scale, shift = (np.array(blob.data) for blob in net.params["L"])
    assert (scale == 1).all() and (shift == np.float32(0.001)).all()
    assert [param.lr_mult for param in net.learnable] == [1, 1]


def test_a_net_with_the_statistics_written_into_inference_computes_the_same(rng):
    """What SegNet's compute_bn_statistics.py does, for the statistics of one batch."""
    learns, uses = (net_of(layer % "", (6, 3, 4, 4), dtype="float64") for layer in (LEARN, INFERENCE))
    x = rng.standard_normal((6, 3, 4, 4)) + 3
    scale, shift = (np.array(blob.data) for blob in learns.params["L"])
    _, mean, variance = reference(x, scale, shift)
    std = np.sqrt(variance + 1e-9)
    for blob, value in zip(uses.params["L"], (scale / std, shift - scale * mean / std), strict=True):
        blob.data[...] = uses.setting.device.put(value)
    np.testing.assert_allclose(uses.forward(x0=x)["L"], learns.forward(x0=x)["L"], rtol=1e-9, atol=1e-12)


CHAIN = """
force_backward: true
layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3, 6, 5]}}}
- {name: conv, type: Convolution, bottom: x, convolution_param: {num_output: 4, kernel_size: 3,
   weight_filler: {type: gaussian, std: 0.3}}}
- {name: bn, type: BN, bottom: conv, top: conv, bn_param: {bn_mode: MODE, FILLED}}
- {name: relu, type: ReLU, bottom: conv, top: conv}
""".replace("FILLED", FILLED)


@pytest.mark.parametrize("mode", ["LEARN", "INFERENCE"])
def test_a_convolution_with_bn_and_relu_is_what_its_layers_are_one_by_one(mode, rng):
    net = mc.Net(parse_net(CHAIN.replace("MODE", mode)), phase="test", seed=2)
    x = rng.standard_normal((2, 3, 6, 5)).astype(np.float32)
    y = np.array(net.forward(x=x)["conv"])
    by_layer = [net.forward(x=x, end="conv")["conv"]]
    for name in ("bn", "relu"):
        by_layer.append(net.forward(start=name, end=name)["conv"])
    np.testing.assert_allclose(y, by_layer[-1], rtol=1e-5, atol=1e-6)


# -- Upsample ----------------------------------------------------------------------------------------------------


def unpooled(x, mask, size):
    y = np.zeros((*x.shape[:2], size[0] * size[1]), x.dtype)
    for n, c, h, w in np.ndindex(x.shape):
        y[n, c, int(mask[n, c, h, w])] = x[n, c, h, w]
    return y.reshape(*x.shape[:2], *size)


def masks(rng, shape, places):
    """A place for each pixel, no two of a channel alike."""
    n, c, *image = shape
    picked = [rng.permutation(places)[: image[0] * image[1]] for _ in range(n * c)]
    return np.reshape(picked, shape)


@pytest.mark.parametrize(
    ("fields", "shape", "size"),
    [
        ("", (2, 3, 2, 3), (4, 6)),
        ("scale: 2", (1, 2, 3, 2), (6, 4)),
        ("scale: 3", (3, 1, 2, 2), (6, 6)),
        ("scale: 2, pad_out_h: true", (2, 2, 3, 2), (5, 4)),
        ("pad_out_h: true, pad_out_w: true", (2, 2, 3, 2), (5, 3)),
        ("scale_h: 3, scale_w: 2, pad_out_w: true", (2, 2, 2, 3), (6, 5)),
        ("upsample_h: 5, upsample_w: 7", (2, 3, 2, 3), (5, 7)),
        ("scale: 2, upsample_h: 7, upsample_w: 3, pad_out_h: true", (2, 1, 3, 2), (7, 3)),
    ],
)
def test_upsample_puts_pixels_at_the_masks_places(fields, shape, size, rng):
    layer = f"type: Upsample, upsample_param: {{{fields}}}"
    x, mask = rng.standard_normal(shape), masks(rng, shape, size[0] * size[1])
    net = net_of(layer, shape, shape, dtype="float64")
    np.testing.assert_array_equal(net.forward(x0=x, x1=mask)["L"], unpooled(x, mask, size))
    checked = check_gradients(layer, [x, mask])
    assert not checked.blobs["x1"].has_diff


def test_where_a_place_comes_twice_the_last_pixel_is_there_and_both_get_its_gradient():
    net = net_of("type: Upsample", (1, 1, 1, 2), (1, 1, 1, 2))
    y = net.forward(x0=[[[[2, 5]]]], x1=[[[[3, 3]]]])["L"]
    np.testing.assert_array_equal(y, [[[[0, 0, 0, 5], [0, 0, 0, 0]]]])
    dy = np.arange(8.0).reshape(1, 1, 2, 4)
    np.testing.assert_array_equal(net.backward(L=dy)["x0"], [[[[3, 3]]]])


POOLED = """
force_backward: true
layer:
- {name: x, type: Input, input_param: {shape: {dim: SHAPE}}}
- {name: pool, type: Pooling, bottom: x, top: [pool, mask], pooling_param: {pool: MAX, kernel_size: 2, stride: 2}}
- {name: half, type: Power, bottom: pool, power_param: {scale: 0.5, shift: 1}}
- {name: y, type: Upsample, bottom: [half, mask], upsample_param: {upsample_h: HEIGHT, upsample_w: WIDTH}}
- {name: other, type: Upsample, bottom: [pool, mask], upsample_param: {upsample_h: HEIGHT, upsample_w: WIDTH}}
"""


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (1, 2, 5, 7), (3, 1, 3, 2)])
def test_pooling_and_its_mask_have_a_gradient_together(shape, distinct):
    text = POOLED.replace("SHAPE", str(list(shape))).replace("HEIGHT", str(shape[2]))
    net = mc.Net(parse_net(text.replace("WIDTH", str(shape[3]))), phase="train", dtype="float64")
    x = distinct(*shape)
    found = net.forward(x=x)
    kept = found["other"] != 0
    np.testing.assert_array_equal(found["other"][kept], x[kept])
    np.testing.assert_array_equal(found["y"][kept], x[kept] / 2 + 1)
    check_gradients(net, [x])


def test_pooling_and_upsample_are_pytorchs_max_pool2d_and_max_unpool2d():
    """Recorded by tests/golden/make_unpooling_golden.py."""
    with np.load(FOLDER / "unpooling.npz") as golden:
        x, pooled, places, unpooled, dy, dx = (
            golden[name] for name in ("x", "pooled", "places", "unpooled", "dy", "dx")
        )
    text = POOLED.replace("SHAPE", str(list(x.shape))).replace("HEIGHT", str(x.shape[2]))
    text = text.replace("WIDTH", str(x.shape[3])).partition("- {name: half")[0]
    text += f"- {{name: y, type: Upsample, bottom: [pool, mask], upsample_param: {{upsample_h: {x.shape[2]}, "
    net = mc.Net(parse_net(text + f"upsample_w: {x.shape[3]}}}}}\n"), phase="train")
    y = net.forward(x=x)["y"]
    np.testing.assert_array_equal(net.blobs["pool"].data, net.setting.device.put(pooled))
    np.testing.assert_array_equal(net.blobs["mask"].data, net.setting.device.put(places))
    np.testing.assert_array_equal(y, unpooled)
    np.testing.assert_array_equal(net.backward(y=dy)["x"], dx)


# -- errors ------------------------------------------------------------------------------------------------------

MASKED = [(2, 3, 2, 2)] * 2


@pytest.mark.parametrize(
    ("layer", "shapes", "problem"),
    [
        ("type: BN, bn_param: {bn_mode: LEARN}", [(3,)], "expected a batch with channels"),
        (
            "type: BN, bn_param: {bn_mode: LEARN, frozen: true}",
            [(3, 2)],
            "frozen: PSPNet's BN has it, but bn_mode",
        ),
        ("type: BN, bn_param: {bn_mode: TRAIN}", [(3, 2)], "one of LEARN, INFERENCE"),
        ("type: BN, top: [a, b], bn_param: {bn_mode: INFERENCE}", [(3, 2)], "there are no statistics"),
        ("type: BN, top: [a, b]", [(3, 2)], "top: one is enough"),
        ("type: Upsample", [(2, 3, 4), (2, 3, 4)], "expected 4 axes"),
        ("type: Upsample", [(2, 3, 4, 2), (2, 3, 4, 3)], "the mask has shape .2, 3, 4, 3., the bottom"),
        ("type: Upsample, upsample_param: {upsample_h: 3}", MASKED, "upsample_h: upsample_w belongs to it"),
        ("type: Upsample, upsample_param: {scale_w: 3}", MASKED, "scale_w: scale_h belongs to it"),
        ("type: Upsample, upsample_param: {scale: 3, scale_h: 2, scale_w: 2}", MASKED, "keep either"),
        (
            "type: Upsample, upsample_param: {scale: 3, pad_out_h: true}",
            MASKED,
            "pad_out_h: with a factor of 3",
        ),
        ("type: Upsample, upsample_param: {upsample_h: 1, upsample_w: 2}", MASKED, "upsample_h: 1 is out of"),
        (
            "type: Upsample, upsample_param: {pad_out_w: true}",
            MASKED[:1],
            "pad_out_w: this is for two bottoms",
        ),
    ],
)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)


@pytest.mark.cpu_only("a GPU would have to wait for it")
@pytest.mark.parametrize("place", [8, -1, np.nan])
def test_a_mask_of_a_larger_image_is_an_error(place):
    net = net_of("type: Upsample", (1, 1, 1, 2), (1, 1, 1, 2))
    with pytest.raises(mc.DataError, match=r"layer 'L': the mask has places from .*set upsample_h"):
        net.forward(x1=[[[[0, place]]]])
