"""``noise_param``: each of its steps gives OpenCV's bytes, in every layer that reads images."""

import cv2
import numpy as np
import pytest

import minicaffe as mc
from minicaffe.data.augmentation.noise import NoiseParam, SaltPepperParam, add_noise
from minicaffe.errors import MinicaffeError
from minicaffe.spec.net import parse_net
from tests.data.annotated import bases
from tests.data.annotated.test_annotated_data import net_of
from tests.data.annotated.test_interpolation import plain_opencv  # noqa: F401  # a fixture

pytestmark = pytest.mark.cpu_only("of files and arrays on the host")


def of_luminance(change, pixels):
    """A change of Y alone; of a grey image all of it."""
    if pixels.ndim == 2:
        return change(pixels)
    parts = cv2.cvtColor(pixels, cv2.COLOR_BGR2YCrCb)
    parts[..., 0] = change(np.ascontiguousarray(parts[..., 0]))
    return cv2.cvtColor(parts, cv2.COLOR_YCrCb2BGR)


def clahe(plane):
    maker = cv2.createCLAHE()
    maker.setClipLimit(4)
    return maker.apply(plane)


CROSS = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
OPENCV = {
    "decolorize": lambda x: cv2.cvtColor(cv2.cvtColor(x, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
    "gauss_blur": lambda x: cv2.GaussianBlur(x, (7, 7), 1.5),
    "hist_eq": lambda x: of_luminance(cv2.equalizeHist, x),
    "clahe": lambda x: of_luminance(clahe, x),
    "erode": lambda x: cv2.erode(x, CROSS),
    "posterize": lambda x: x // 64 * 64 + 32,
    "inverse": lambda x: 255 - x,
    "convert_to_hsv": lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2HSV),
}
COLOUR = {"decolorize", "convert_to_hsv"}


@pytest.mark.parametrize("step", OPENCV)
@pytest.mark.parametrize("size", [(64, 80), (33, 50)])
@pytest.mark.parametrize("channels", [3, 1])
def test_a_step_gives_opencvs_bytes(step, size, channels, rng, plain_opencv):  # noqa: F811
    if channels == 1 and step in COLOUR:
        return
    pixels = rng.integers(0, 256, (*size, channels)).astype(np.uint8) // 2 + 20
    expected = OPENCV[step](pixels if channels == 3 else pixels[..., 0]).reshape(*size, channels)
    got = add_noise(NoiseParam(**{step: True}), pixels.transpose(2, 0, 1), rng)
    np.testing.assert_array_equal(got, expected.transpose(2, 0, 1))


def test_steps_follow_each_other_in_the_order_of_ssd(rng, plain_opencv):  # noqa: F811
    pixels = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    expected = pixels
    for step in OPENCV:
        expected = OPENCV[step](expected)
    got = add_noise(NoiseParam(**dict.fromkeys(OPENCV, True)), pixels.transpose(2, 0, 1), rng)
    np.testing.assert_array_equal(got, expected.transpose(2, 0, 1))


def test_one_level_alone_stays_as_it_is(rng):
    image = np.full((1, 9, 9), 77, np.uint8)
    np.testing.assert_array_equal(add_noise(NoiseParam(hist_eq=True), image, rng), image)


def test_a_jpeg_loses_a_little(rng):
    image = np.repeat(np.repeat(rng.integers(0, 256, (3, 4, 4)), 16, axis=1), 16, axis=2).astype(np.uint8)
    fine, coarse = (
        add_noise(NoiseParam(jpeg=quality), image, rng).astype(int) - image for quality in (98.0, 5.0)
    )
    assert 0 < np.abs(fine).mean() < 5 < np.abs(coarse).mean()


def test_grains_lie_on_a_share_of_the_pixels(rng):
    param = NoiseParam(saltpepper=True, saltpepper_param=SaltPepperParam(fraction=0.1, value=[255, 0, 7]))
    image = np.full((3, 100, 50), 100, np.uint8)
    noisy = add_noise(param, image, rng)
    changed = (noisy != image).any(axis=0)
    assert 440 < changed.sum() <= 500  # some are drawn twice
    assert (noisy[:, changed] == np.array([[255], [0], [7]])).all() and (image == 100).all()


def test_every_layer_that_reads_images_has_it_after_resizing(tmp_path, rng):
    image = rng.integers(0, 256, (3, 20, 30)).astype(np.uint8)
    transform = "resize_param: {height: 10, width: 10}, noise_param: {inverse: true}"
    expected = 255 - cv2.resize(image.transpose(1, 2, 0), (10, 10)).transpose(2, 0, 1)
    bases.write(tmp_path / "base", [bases.annotated(image, {})])
    with net_of(tmp_path / "base", transform, batch=1) as net:
        np.testing.assert_array_equal(net.forward()["data"][0], expected)
    bases.write(tmp_path / "plain", [bases.datum(image)])
    source = f"data_param: {{source: {tmp_path / 'plain'}, batch_size: 1}}"
    with mc.Net(
        parse_net(f"layer: {{name: d, type: Data, {source}, transform_param: {{{transform}}}}}")
    ) as net:
        np.testing.assert_array_equal(net.forward()["d"][0], expected)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ("convert_to_lab: true", "convert_to_lab: SSD's Caffe reads its floats as bytes"),
        ("saltpepper: true", "saltpepper_param: needs a value"),
        (
            "saltpepper: true, saltpepper_param: {fraction: 0.1, value: [1, 2]}",
            "value: 2 values for 1 channels",
        ),
        ("decolorize: true", "which a grey image lacks; give force_color"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, rng, noise, message):
    bases.write(tmp_path / "base", [bases.annotated(bases.random_images(rng, 1, channels=1)[0], {})])
    with (
        pytest.raises(MinicaffeError, match=message),
        net_of(tmp_path / "base", f"noise_param: {{{noise}}}") as net,
    ):
        net.forward()
