"""PSROIPooling against a short reference written from R-FCN's formula, bin after bin."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device.array import to_device, to_host
from minicaffe.ops.psroi_pooling import bins_of
from minicaffe.testing import check_gradients
from tests.golden_files import FOLDER
from tests.layer_cases import net_of


def c_round(value):
    """C's ``round``: halves away from 0."""
    return np.copysign(np.floor(abs(value) + 0.5), value)


def edges(first, last, scale, group, length):
    """Slices of the bins along one axis, in float32 as R-FCN's Caffe computes them."""
    f = np.float32
    low, high = f(c_round(first)) * f(scale), f(c_round(last) + 1) * f(scale)
    size = max(high - low, f(0.1)) / f(group)
    for i in range(group):
        start, end = np.floor(f(i) * size + low), np.ceil(f(i + 1) * size + low)
        yield slice(*(int(min(max(edge, 0), length)) for edge in (start, end)))


def bin_means(x, region, outputs, group, scale):
    """One region's (D, G, G) from an image (D · G · G, H, W)."""
    x1, y1, x2, y2 = region
    y = np.zeros((outputs, group, group))
    maps = x.reshape(outputs, group, group, *x.shape[1:])
    for i, rows in enumerate(edges(y1, y2, scale, group, x.shape[1])):
        for j, cols in enumerate(edges(x1, x2, scale, group, x.shape[2])):
            pixels = maps[:, i, j, rows, cols].astype(np.float64)
            if pixels[0].size:
                y[:, i, j] = pixels.mean(axis=(1, 2))
    return y


def layer(outputs, group, scale):
    param = f"spatial_scale: {scale}, output_dim: {outputs}, group_size: {group}"
    return f"type: PSROIPooling, psroi_pooling_param: {{{param}}}"


def random_regions(rng, amount, images, low, high):
    """Rows (image, x1, y1, x2, y2), some with corners in the wrong order, some on halves of pixels."""
    corners = rng.uniform(low, high, (amount, 4))
    corners[: amount // 2] = np.round(corners[: amount // 2] * 2) / 2
    return np.concatenate([rng.integers(0, images, (amount, 1)), corners], axis=1).astype(np.float32)


@pytest.mark.parametrize(("outputs", "group"), [(1, 1), (3, 2), (2, 7)])
@pytest.mark.parametrize("scale", [1.0, 0.0625, 0.13])
@pytest.mark.parametrize("axes", [(), (1, 1)])
def test_each_bin_has_the_mean_of_a_channel_of_its_own(outputs, group, scale, axes, rng):
    x = rng.standard_normal((3, outputs * group * group, 11, 9)).astype(np.float32)
    regions = random_regions(rng, 40, 3, -3 / scale, 14 / scale)
    net = net_of(layer(outputs, group, scale), x.shape, (40, 5, *axes))
    found = net.forward(x0=x, x1=regions.reshape(40, 5, *axes))["L"]
    expected = [bin_means(x[int(r[0])], r[1:], outputs, group, scale) for r in regions]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_corners_are_rounded_before_they_are_scaled_and_both_belong_to_the_region():
    x = np.arange(6.0).reshape(1, 1, 1, 6)
    net = net_of(layer(1, 1, 0.5), x.shape, (3, 5))
    found = net.forward(x0=x, x1=[[0, 3.5, 0, 6.5, 1], [0, 4.4, 0, 4.6, 1], [0, -9, 0, -4, 1]])["L"]
    np.testing.assert_array_equal(found.ravel(), [(2 + 3) / 2, 2, 0])  # 2 … 4, 2 … 3, and nothing


def test_many_large_numbers_before_a_bin_do_not_blur_it(rng):
    x = rng.standard_normal((1, 1, 100, 100)).astype(np.float32)
    x[:, :, :50] *= 1e6
    regions = np.array([[0, 90, 90, 95, 97]], np.float32)
    found = net_of(layer(1, 1, 1), x.shape, (1, 5)).forward(x0=x, x1=regions)["L"]
    np.testing.assert_allclose(found[0], bin_means(x[0], regions[0, 1:], 1, 1, 1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("shape", "outputs", "group"), [((2, 8, 7, 5), 2, 2), ((1, 9, 4, 9), 1, 3)])
def test_backward_is_the_derivative_of_forward(shape, outputs, group, rng):
    regions = random_regions(rng, 6, shape[0], -16, 80)
    net = check_gradients(layer(outputs, group, 0.125), [rng.standard_normal(shape), regions], by=["x0"])
    assert not net.blobs["x1"].has_diff


def test_the_gradient_is_spread_over_the_pixels_of_the_bin():
    net = net_of(layer(1, 1, 1), (1, 1, 3, 4), (2, 5))
    net.forward(x0=np.ones((1, 1, 3, 4)), x1=[[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]])
    gradient = net.backward(L=np.array([4, 5]).reshape(2, 1, 1, 1))["x0"]
    np.testing.assert_allclose(gradient[0, 0], [[1, 1, 0, 0], [1, 6, 0, 0], [0, 0, 0, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "shapes", "problem"),
    [
        (
            layer(2, 2, 1),
            [(1, 4, 3, 3), (2, 5)],
            "bottom has 4 channels; expected output_dim · group_size² = 8",
        ),
        (layer(2, 2, 1), [(1, 8, 3), (2, 5)], "expected 4 axes"),
        (layer(2, 2, 1), [(1, 8, 3, 3), (2, 4)], r"regions have shape \(2, 4\)"),
        ("type: PSROIPooling, psroi_pooling_param: {group_size: 7}", [(1, 49, 3, 3), (2, 5)], "required"),
    ],
)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(text, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(text, *shapes)


@pytest.mark.cpu_only("a GPU would have to wait for it")
def test_a_region_of_an_image_that_there_is_not_is_an_error():
    net = net_of(layer(1, 1, 1), (2, 1, 4, 4), (1, 5))
    with pytest.raises(mc.DataError, match="layer 'L': regions of images 2 to 2, but the batch has 2"):
        net.forward(x1=[[2, 0, 0, 8, 8]])


def test_a_region_of_an_image_that_there_is_not_is_0_where_that_is_no_error(monkeypatch):
    """As on a GPU, which does not wait to look at the numbers of images."""
    monkeypatch.setattr("minicaffe.ops.psroi_pooling.on_cpu", lambda array: False)
    regions = to_device(np.array([[image, 0, 0, 3, 3] for image in (-1, 0, 1, 2)], np.float32).T)
    share = to_host(bins_of(regions, 1.0, 1, (1, 4, 4, 2)).share)
    assert share.ravel().tolist() == [0, 1 / 16, 1 / 16, 0]


def test_a_small_rfcn_computes_what_opencv_does():
    """Its regions come from a Proposal: as OpenCV knows no ``min_size``, it is 0."""
    net = mc.Net(FOLDER / "rfcn.prototxt", phase="test")
    with np.load(FOLDER / "rfcn.npz") as golden:
        for key in (key for key in golden.files if key.startswith("p_")):
            layer, _, i = key.removeprefix("p_").rpartition("_")
            net.params[layer][int(i)].data[...] = to_device(golden[key])
        net.forward(data=golden["in_data"], im_info=golden["in_im_info"])
        wanted = {key.removeprefix("out_"): golden[key] for key in golden.files if key.startswith("out_")}
    assert len(wanted) == 5 and len(wanted["rois"]) == 25
    for name, values in wanted.items():
        found = to_host(net.blobs[name].data).reshape(values.shape)
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-5 * abs(values).max())
