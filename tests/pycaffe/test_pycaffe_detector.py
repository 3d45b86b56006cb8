"""caffe.Detector: windows of images, with what lies around them."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
import minicaffe.pycaffe as caffe
from tests.golden_files import recorded
from tests.pycaffe.pycaffe_cases import CLASSIFIED, CONTEXT_PAD, DETECTED, WINDOWS

pytest.importorskip("google.protobuf")
INSIDE = [(4, 6, 14, 16), (0, 0, 12, 9)]


@pytest.fixture
def files(tmp_path):
    """A net with a square input and its weights, and an image: its pixels (20, 24, 3), 0 … 1."""
    (tmp_path / "net").write_text(CLASSIFIED.replace("dim: 10 dim: 8", "dim: 10 dim: 10"))
    caffe.Net(tmp_path / "net", caffe.TEST).save(tmp_path / "weights")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return (
        str(tmp_path / "net"),
        str(tmp_path / "weights"),
        str(tmp_path / "image.png"),
        pixels / np.float32(255),
    )


def test_each_window_is_classified_by_itself(files):
    net, weights, image, pixels = files
    settings = {"mean": np.array([104.0, 117, 123]), "raw_scale": 255, "channel_swap": (2, 1, 0)}
    found = caffe.Detector(net, weights, **settings).detect_windows(
        iter([(image, INSIDE), (image, INSIDE[:1])])
    )
    assert [(one["filename"], one["window"]) for one in found] == [(image, w) for w in INSIDE + INSIDE[:1]]
    crops = [pixels[y1:y2, x1:x2] for y1, x1, y2, x2 in INSIDE]
    expected = mc.Classifier(caffe.Net(net, caffe.TEST, weights=weights).core, **settings)
    np.testing.assert_allclose(
        [one["prediction"] for one in found[:2]], expected.predict(crops, oversample=False), rtol=1e-4
    )


def test_context_is_what_lies_around_a_window(files):
    net, weights, _, pixels = files
    detector = caffe.Detector(net, weights, context_pad=2)
    # the window, 11 rows as pycaffe counts, fills six of the ten; ten then are 18.3, from row 1.3 to 19.7
    seen = detector.crop(pixels, np.array([5, 7, 15, 17]))
    assert seen.shape == (10, 10, 3)
    np.testing.assert_allclose(seen, caffe.io.resize_image(pixels[1:20, 3:22], (10, 10)), atol=1e-6)


def test_beyond_the_image_lies_the_mean(files):
    net, weights, _, pixels = files
    mean = np.array([51.0, 102.0, 204.0])  # blue, green, red
    detector = caffe.Detector(net, weights, mean=mean, raw_scale=255, channel_swap=(2, 1, 0), context_pad=2)
    seen = detector.crop(pixels, np.array([0, 0, 10, 10]))
    np.testing.assert_allclose(seen[:2], np.broadcast_to([0.8, 0.4, 0.2], (2, 10, 3)), atol=1e-6)
    assert (np.abs(seen[2:, 2:] - [0.8, 0.4, 0.2]).max(2) > 1e-3).all()


def test_windows_over_the_edges_are_those_of_pycaffe(tmp_path):
    """Not square, over three edges, and with borders at half pixels, which pycaffe rounds to even."""
    (tmp_path / "net").write_text(DETECTED)
    detector = caffe.Detector(tmp_path / "net", None, mean=np.array([0.25]), context_pad=CONTEXT_PAD)
    case = recorded("pycaffe")["detector"]
    for window, crop in zip(WINDOWS, case["crops"], strict=True):
        np.testing.assert_allclose(detector.crop(case["image"], np.array(window)), crop, atol=1e-5)


def test_context_wants_a_square_input(files, tmp_path):
    (tmp_path / "net").write_text(CLASSIFIED)
    with pytest.raises(mc.ShapeError, match="the net's input must be square; it is 10 × 8"):
        caffe.Detector(tmp_path / "net", None, context_pad=2)


def test_no_windows_are_no_detections(files):
    assert caffe.Detector(*files[:2]).detect_windows([(files[2], [])]) == []


def test_fractions_of_pixels_are_cut_off_a_window(files):
    net, weights, _, pixels = files
    detector = caffe.Detector(net, weights)
    seen = detector.crop(pixels, [4.6, 6.2, 14.7, 16.9])
    np.testing.assert_array_equal(seen, pixels[4:14, 6:16])
    with_context = caffe.Detector(net, weights, context_pad=2)
    assert with_context.crop(pixels, np.array([4.6, 6.2, 14.7, 16.9])).shape == (10, 10, 3)


@pytest.mark.parametrize("context", [None, 2])
@pytest.mark.parametrize(
    ("window", "message"),
    [
        ([50, 60, 70, 80], r"window \[50, 60, 70, 80\]: shows nothing of the image, 20 × 24"),
        ([14, 16, 4, 6], "shows nothing of the image"),
        ([8, 8, 6, 6], "shows nothing of the image"),
        ([1, 2, 3], r"window \[1, 2, 3\]: give four numbers, \(ymin, xmin, ymax, xmax\)"),
        ([1, 2, 3, np.nan], "give four numbers"),
    ],
)
def test_a_window_of_nothing_is_one_line(files, context, window, message):
    net, weights, image, _ = files
    detector = caffe.Detector(net, weights, context_pad=context)
    with np.errstate(all="raise"), pytest.raises(mc.ShapeError, match=message):
        detector.detect_windows([(image, [window])])


def test_too_much_context_is_one_line(files):
    with pytest.raises(mc.ShapeError, match="context_pad 5: must be less than half of the net's input, 10"):
        caffe.Detector(*files[:2], context_pad=5)


def test_selective_search_is_asked_for_windows(files, monkeypatch):
    net, weights, image, _ = files
    detector = caffe.Detector(net, weights)
    with pytest.raises(mc.DataError, match=r"needs Matlab and .*selective_search_ijcv_with_python"):
        detector.detect_selective_search([image])
    search = SimpleNamespace(get_windows=lambda names, cmd: [np.array(INSIDE) for _ in names])
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", search)
    found = detector.detect_selective_search([image])
    assert [tuple(one["window"]) for one in found] == INSIDE and found[0]["filename"] == image
