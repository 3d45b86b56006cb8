"""Images, the Transformer, the Classifier and ``minicaffe classify``, compared with what pycaffe recorded."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
import minicaffe.pycaffe as caffe
from minicaffe.classify.batches import batches, forward_all
from minicaffe.classify.images import load_image, oversample, resize_image
from minicaffe.cli.commands.classify import top_lines
from minicaffe.cli.program import main
from minicaffe.data.sources.backends import open_source
from tests import ROOT
from tests.golden_files import recorded
from tests.pycaffe.pycaffe_cases import CLASSIFIED

SETTINGS = {
    "mean": np.array([104.0, 117.0, 123.0]),
    "raw_scale": 255.0,
    "channel_swap": (2, 1, 0),
    "input_scale": 0.02,
    "image_dims": (12, 10),
}
LENET = [f"{ROOT}/prototxt/lenet/deploy.yaml", "--weights", f"{ROOT}/models/lenet.npz"]
NO_IMAGE = f"{ROOT}/README.md"


@pytest.mark.parametrize("name", ["colour", "grey", "four"])
def test_images_are_enlarged_as_pycaffe_does(name):
    case = recorded("pycaffe")[f"resize_{name}"]
    resized = resize_image(case["in"], case["out"].shape[:2])
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, case["out"], atol=2e-6)


def test_a_shrunk_image_is_interpolated_and_not_averaged():
    image = np.zeros((4, 6, 3), np.float32)
    image[1::2] = 1  # at half the height a centre lies between two rows
    np.testing.assert_allclose(resize_image(image, (2, 6)), 0.5, atol=1e-6)
    image = np.arange(9, dtype=np.float32).reshape(9, 1, 1).repeat(3, 2)
    np.testing.assert_allclose(resize_image(image, (3, 1))[:, 0, 0], [1, 4, 7], atol=1e-6)
    np.testing.assert_allclose(resize_image(image, (3, 1), 0)[:, 0, 0], [1, 4, 7], atol=1e-6)
    np.testing.assert_array_equal(resize_image(np.full((2, 2, 3), 7.0), (3, 5)), np.full((3, 5, 3), 7.0))
    with pytest.raises(mc.DataError, match="interp_order 3"):
        resize_image(image, (3, 1), 3)


def test_two_channels_are_enlarged_as_four_are():
    case = recorded("pycaffe")["resize_four"]
    np.testing.assert_allclose(
        resize_image(case["in"][:, :, :2], case["out"].shape[:2]), case["out"][:, :, :2], atol=2e-6
    )


@pytest.mark.parametrize(
    ("channels", "old", "new", "taken"),
    [(3, 4, 2, [1, 3]), (3, 2, 4, [0, 0, 1, 1]), (1, 6, 3, [1, 3, 5]), (4, 3, 5, [0, 1, 1, 2, 2])],
)
def test_of_two_pixels_as_near_the_later_one_is_taken(channels, old, new, taken):
    image = np.arange(old, dtype=np.float32).repeat(channels).reshape(1, old, channels)
    np.testing.assert_array_equal(resize_image(image, (1, new), 0)[0, :, 0], taken)  # as scikit-image, SciPy


def test_ten_crops_are_pycaffes():
    case = recorded("pycaffe")["oversample"]
    np.testing.assert_array_equal(oversample(case["in"], (4, 6)), case["out"])


def test_the_transformer_prepares_and_undoes_as_pycaffes():
    case = recorded("pycaffe")["transformer"]
    transformer = mc.Transformer({"data": (1, 3, 8, 9)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255.0)
    transformer.set_input_scale("data", 0.5)
    transformer.set_mean("data", case["mean"])
    before = case["in"].copy()
    np.testing.assert_allclose(transformer.preprocess("data", case["in"]), case["out"], atol=1e-4)
    np.testing.assert_allclose(transformer.deprocess("data", case["out"]), case["back"], atol=1e-5)
    np.testing.assert_array_equal(case["in"], before)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1)])
def test_channels_that_moved_round_come_back(order):
    transformer = mc.Transformer({"data": (1, 3, 4, 5)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", order)
    image = np.random.default_rng(0).random((4, 5, 3), np.float32)
    data = transformer.preprocess("data", image)
    np.testing.assert_array_equal(data, [image[:, :, channel] for channel in order])
    np.testing.assert_array_equal(transformer.deprocess("data", data), image)
    np.testing.assert_array_equal(transformer.deprocess("data", data[None]), image)  # the net's whole blob


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda t: t.preprocess("dta", np.zeros((2, 2, 3))),
            r"'dta' is none of the inputs \(data\); did you mean",
        ),
        (lambda t: t.deprocess("dta", np.zeros((3, 2, 2))), "'dta' is none of the inputs"),
        (lambda t: t.set_raw_scale("dta", 2), "'dta' is none of the inputs"),
        (lambda t: t.set_input_scale("dta", 2), "'dta' is none of the inputs"),
        (lambda t: t.set_transpose("data", (1, 0)), "has 3 axes"),
        (lambda t: t.set_transpose("data", (0, 0, 1)), r"transpose \(0, 0, 1\): must name each axis once"),
        (lambda t: t.set_mean("data", 104), r"a mean of shape \(\) does not fit"),
        (lambda t: t.set_channel_swap("data", (2, 1)), "must name each of the 3 channels"),
        (lambda t: t.set_mean("data", np.zeros(2)), r"a mean of shape \(2,\) does not fit"),
        (lambda t: t.set_mean("data", np.zeros((1, 3, 8, 9))), "does not fit input 'data'"),
        (
            lambda t: t.set_mean("data", np.zeros((2, 8, 9))),
            r"a mean of shape \(2, 8, 9\) does not fit input 'data', \(3, 8, 9\): it has 3 channels",
        ),
        (lambda t: t.set_mean("data", np.zeros((3, 0, 9))), r"a mean of shape \(3, 0, 9\) does not fit"),
        (lambda t: t.set_mean("data", np.full(3, np.nan)), "the mean for input 'data' has nan or infinite"),
    ],
)
def test_settings_that_do_not_fit_are_refused(call, message):
    with pytest.raises(mc.DataError, match=message):
        call(mc.Transformer({"data": (1, 3, 8, 9)}))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 9, 2)), "the image has 2 channels; input 'data' takes 3"),
        (np.zeros((8, 9)), r"the image has shape \(8, 9\); expected \(height, width, channels\)"),
        (np.zeros((0, 9, 3)), "and no pixels"),
        ("cat.jpg", "the image is the text 'cat.jpg', not an array"),
    ],
)
@pytest.mark.parametrize(
    "wanting", [lambda t: t.set_mean("data", np.ones(3)), lambda t: t.set_channel_swap("data", (2, 1, 0))]
)
def test_an_image_that_does_not_fit_is_one_line(image, message, wanting):
    transformer = mc.Transformer({"data": (1, 3, 8, 9)})
    transformer.set_transpose("data", (2, 0, 1))
    wanting(transformer)
    with pytest.raises(mc.MinicaffeError, match=message):
        transformer.preprocess("data", image)


def test_a_grey_image_comes_back_with_its_axes_in_order():
    transformer = mc.Transformer({"data": (1, 1, 4, 5)})
    transformer.set_transpose("data", (2, 0, 1))
    image = np.random.default_rng(0).random((4, 5, 1), np.float32)
    np.testing.assert_array_equal(transformer.deprocess("data", transformer.preprocess("data", image)), image)


def test_a_grey_image_without_channels_is_taken_as_it_is():
    transformer = mc.Transformer({"data": (1, 1, 4, 5)})
    transformer.set_raw_scale("data", 2.0)
    image = np.random.default_rng(0).random((4, 5), np.float32)
    np.testing.assert_array_equal(transformer.preprocess("data", image), 2 * image)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mean_image_of_another_size_is_resized(channels):
    transformer = mc.Transformer({"data": (1, channels, 8, 9)})
    mean = np.random.default_rng(0).random((channels, 16, 18))
    transformer.set_mean("data", mean)
    halved = mean.reshape(channels, 8, 2, 9, 2).mean((2, 4))  # each centre lies between four pixels
    np.testing.assert_allclose(transformer.mean["data"], halved, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 9), (16, 18)])
def test_a_mean_image_without_channels_is_subtracted_from_each(size):
    whole, flat = mc.Transformer({"data": (1, 3, 8, 9)}), mc.Transformer({"data": (1, 3, 8, 9)})
    mean, image = (np.random.default_rng(i).random(shape) for i, shape in enumerate([size, (8, 9, 3)]))
    for transformer, held in ((whole, np.stack([mean] * 3)), (flat, mean)):
        transformer.set_transpose("data", (2, 0, 1))
        transformer.set_mean("data", held)
    np.testing.assert_array_equal(flat.preprocess("data", image), whole.preprocess("data", image))


def test_batches_are_no_more_than_are_needed_and_the_last_is_filled_with_zeros():
    cut = list(batches({"x": np.arange(1, 6)}, 3))
    assert [batch["x"].tolist() for batch in cut] == [[1, 2, 3], [4, 5, 0]]
    assert len(list(batches({"x": np.arange(1, 7)}, 3))) == 2
    for arrays in ({"x": np.arange(2), "y": np.arange(3)}, {"x": np.arange(0)}, {}):
        with pytest.raises(mc.ShapeError, match="give some, as many of each"):
            list(batches(arrays, 3))


LOSS = """layer:
- {name: in, type: Input, top: [x, y], input_param: {shape: {dim: [2, 3]}}}
- {name: loss, type: EuclideanLoss, bottom: [x, y]}
"""


def test_an_output_without_axes_is_one_number_for_each_batch(make_net):
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    found = forward_all(make_net(LOSS), {"x": x, "y": x * 0}, ["loss", "x"])
    np.testing.assert_allclose(found["loss"], [(x[:2] ** 2).sum() / 4, (x[2:] ** 2).sum() / 4])
    np.testing.assert_array_equal(found["x"], x)


def test_of_classes_with_one_score_the_first_come_first():
    scores = np.tile([0.25, 0.5], 500)
    assert top_lines(scores, []) == [f"0.5000  {i}" for i in (1, 3, 5, 7, 9)]


@pytest.fixture
def classified(tmp_path):
    pytest.importorskip("google.protobuf")
    case = recorded("pycaffe")["classifier"]
    (tmp_path / "net.prototxt").write_text(CLASSIFIED)
    (tmp_path / "net.caffemodel").write_bytes(case["weights"].tobytes())
    return tmp_path / "net.prototxt", tmp_path / "net.caffemodel", case


@pytest.mark.parametrize("make", [mc.Classifier, caffe.Classifier])
def test_a_classifier_finds_what_pycaffes_does(classified, make):
    net, weights, case = classified
    classifier = make(net, weights, **SETTINGS)
    pair = [case["image0"], case["image1"]]
    np.testing.assert_allclose(
        classifier.predict(pair, oversample=True), case["oversampled"], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        classifier.predict(pair, oversample=False), case["centre"], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((9, 9, 3)),
            r"an array of shape \(9, 9, 3\), not a list of images .* give \[image\] for one",
        ),
        (np.zeros((9, 9)), r"an array of shape \(9, 9\), not a list of images"),
        ([], "no images to classify; give a list of at least one"),
        (np.zeros((0, 9, 9, 3)), "no images to classify"),
        ([np.zeros((9, 9, 3)), np.zeros((9, 9))], r"image 1 has shape \(9, 9\); .* image\[:, :, None\]"),
        ([np.zeros((0, 9, 3))], r"image 0 has shape \(0, 9, 3\), and no pixels"),
        ([np.zeros((9, 9, 2))], "image 0 has 2 channels; the net's input 'data' takes 3"),
        ([np.zeros((9, 9, 1))], "image 0 has 1 channels"),
        ("cat.jpg", "'cat.jpg' is no list of arrays .* load_image makes them of files"),
        (["cat.jpg"], "image 0 is the text 'cat.jpg', not an array; load_image reads a file as one"),
        (5, "images: 5 is no list of arrays"),
        ([None], "image 0 "),
        ([[[["a"]]]], "image 0 is not an array of numbers"),
    ],
)
@pytest.mark.parametrize("make", [mc.Classifier, caffe.Classifier])
def test_what_is_no_list_of_images_is_one_line(classified, make, images, message):
    classifier = make(*classified[:2], channel_swap=(2, 1, 0))
    for ten in (True, False):
        with pytest.raises(mc.MinicaffeError, match=message) as caught:
            classifier.predict(images, oversample=ten)
        assert "\n" not in str(caught.value)


def test_an_array_of_images_is_a_list_of_them_and_a_swap_drops_what_it_does_not_name(classified):
    classifier = mc.Classifier(*classified[:2], channel_swap=(2, 1, 0))
    image = np.random.default_rng(0).random((10, 8, 3), np.float32)
    alone = classifier.predict([image])
    np.testing.assert_array_equal(classifier.predict(image[None]), alone)
    np.testing.assert_array_equal(classifier.predict(iter([image])), alone)
    alpha = np.concatenate([image, np.ones((10, 8, 1), np.float32)], axis=2)
    np.testing.assert_allclose(classifier.predict([alpha]), alone, rtol=1e-5)
    with pytest.raises(mc.ShapeError, match="image 0 has 4 channels; the net's input 'data' takes 3"):
        caffe.Classifier(*classified[:2]).predict([alpha])


TWO_OUTPUTS = """layer:
- {name: data, type: Input, input_param: {shape: {dim: [2, 1, 2, 3]}}}
- {name: half, type: Dropout, bottom: data, dropout_param: {dropout_ratio: 0.5}}
- {name: twice, type: Power, bottom: data, power_param: {scale: 2}}
"""


def test_a_classifier_gives_the_first_output_of_the_test_net(tmp_path):
    (tmp_path / "net.yaml").write_text(TWO_OUTPUTS)
    image = np.random.default_rng(0).random((2, 3, 1), np.float32)
    found = mc.Classifier(tmp_path / "net.yaml").predict([image] * 3, oversample=False)
    np.testing.assert_array_equal(found, [image.transpose(2, 0, 1)] * 3)


def test_a_classifier_wants_one_input_of_images(make_net, classified):
    net = make_net("layer: [{name: data, type: Input, input_param: {shape: {dim: [2, 3]}}}]")
    with pytest.raises(mc.ShapeError, match=r"one input of images, \(N, K, H, W\); it has data \(2, 3\)"):
        mc.Classifier(net)
    for dims in ("[0, 3, 8, 8]", "[1, 3, 0, 8]"):
        net = make_net(f"layer: [{{name: data, type: Input, input_param: {{shape: {{dim: {dims}}}}}}}]")
        with pytest.raises(mc.ShapeError, match=r"its input 'data' has shape \(.*\); give it a size"):
            mc.Classifier(net)
    with pytest.raises(mc.ShapeError, match=r"image_dims \(9, 8\) are less than the net's input, \(10, 8\)"):
        mc.Classifier(*classified[:2], image_dims=(9, 8))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_images_are_read_as_colours_or_grey(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "image.png")
    rgb = np.asarray(image.convert("RGB")) / 255
    colour, grey = load_image(tmp_path / "image.png"), load_image(tmp_path / "image.png", color=False)
    assert colour.dtype == grey.dtype == np.float32
    np.testing.assert_allclose(colour, rgb, atol=1e-6)
    np.testing.assert_allclose(grey[:, :, 0], rgb @ [0.2125, 0.7154, 0.0721], atol=1e-6)


@pytest.fixture
def digit(tmp_path):
    """A digit as a picture file, and its label."""
    images, labels = open_source("sample/mnist-test").read(np.arange(3))
    Image.fromarray(images[1, 0]).save(tmp_path / "digit.png")
    return str(tmp_path / "digit.png"), int(labels[1])


def test_the_command_names_a_digit(digit, tmp_path, capsys):
    path, label = digit
    assert main(["classify", *LENET, path]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index(path)
    assert len(lines) == at + 6
    assert re.fullmatch(rf"  0\.9\d+  {label}", lines[at + 1])
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*names, ""]).encode())
    assert main(["classify", *LENET, path, "--labels", str(tmp_path / "names.txt"), "--oversample"]) == 0
    assert any(line.endswith(names[label]) for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (b"zero\none\n", "names.txt: 2 names, but the net has 10 classes"),
        (b"a\n" * 11, "names.txt: 11 names, but the net has 10 classes"),
        (b"\n \n", "names.txt: the file is empty; it needs the name of a class on each line"),
        (b"", "names.txt: the file is empty"),
        (b"\x89PNG\r\n\x1a\n\0", "names.txt: not a text file (UTF-8)"),
        (b"zero\0one", "names.txt: not a text file (UTF-8)"),
    ],
)
def test_labels_that_do_not_name_each_class_are_refused(digit, tmp_path, capsys, names, message):
    (tmp_path / "names.txt").write_bytes(names)
    assert main(["classify", *LENET, digit[0], "--labels", str(tmp_path / "names.txt")]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and digit[0] not in shown.out


@pytest.mark.parametrize("name", ["mean.txt", "mean.npz", "mean.npy", "mean.png"])
def test_a_mean_that_is_no_mean_image_is_named_without_numpys_advice(digit, tmp_path, capsys, name):
    content = b"104 117 123\n" if name != "mean.png" else Path(digit[0]).read_bytes()
    (tmp_path / name).write_bytes(content)
    assert main(["classify", *LENET, digit[0], "--mean", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert f"{name}: not a mean image (none of NumPy's files); use .binaryproto, .npy or .npz" in error
    assert "pickled" not in error and error.count("\n") == 1


@pytest.mark.parametrize("flag", ["--raw-scale", "--input-scale"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "1e39", "x", ""])
def test_a_scale_is_a_number(capsys, flag, value):
    with pytest.raises(SystemExit) as stop:
        main(["classify", *LENET, NO_IMAGE, f"{flag}={value}"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"'{value}' must be a number" in error and error.count("\n") == 1


MEAN = np.random.default_rng(0).random((3, 20, 16), np.float32) * 255
USUAL = {"--mean": "104,117,123", "--input-scale": "0.02", "--image-dims": "12,10"}
OTHER_FLAGS = {
    (): {},
    ("--mean", "mean.npy"): {"mean": MEAN},
    ("--input-scale", "0.01"): {"input_scale": 0.01},
    ("--image-dims", "14,10"): {"image_dims": (14, 10)},
    ("--raw-scale", "100"): {"raw_scale": 100.0},
    ("--channel-swap", "0,2,1"): {"channel_swap": (0, 2, 1)},
}


@pytest.mark.parametrize("oversample", [False, True])
@pytest.mark.parametrize("flags", OTHER_FLAGS)
def test_the_command_gives_a_net_of_caffe_what_it_is_used_to_or_what_flags_say(
    classified, tmp_path, capsys, monkeypatch, flags, oversample
):
    net, weights, case = classified
    pixels = np.round(case["image1"] * 255).astype(np.uint8)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels).save("image.png")
    np.save("mean.npy", MEAN)
    given = {**USUAL, **dict([flags] if flags else [])}
    arguments = [*(text for flag in given.items() for text in flag), *["--oversample"] * oversample]
    assert main(["classify", str(net), "--weights", str(weights), "image.png", *arguments]) == 0
    shown = re.findall(r"^  (\d\.\d{4})  (\d)$", capsys.readouterr().out, re.MULTILINE)
    found = {int(name): float(score) for score, name in shown}
    settings = {**SETTINGS, **OTHER_FLAGS[flags]}
    expected = mc.Classifier(net, weights, **settings).predict([pixels / 255], oversample)[0]
    assert len(shown) == 5 and [float(score) for score, _ in shown] == sorted(found.values(), reverse=True)
    for name, score in found.items():
        assert abs(score - expected[name]) < 1e-4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([*LENET, "gone.png"], "gone.png: no such image; check the path"),
        ([*LENET, NO_IMAGE], "README.md: cannot be read as an image"),
        ([*LENET, NO_IMAGE, "--mean", "x"], "--mean x: neither a file nor numbers; write 104,117,123"),
        ([*LENET, NO_IMAGE, "--mean", ""], "--mean '': neither a file nor numbers"),
        ([*LENET, NO_IMAGE, "--mean", "nan"], "--mean nan: not numbers that can be subtracted"),
        ([*LENET, NO_IMAGE, "--labels", ""], "--labels : cannot be read"),
        ([*LENET, NO_IMAGE, "--mean", "1,2"], r"a mean of shape \(2,\) does not fit input 'data'"),
        ([*LENET, NO_IMAGE, "--image-dims", "30"], "give height and width"),
        ([*LENET, NO_IMAGE, "--image-dims", "99999999,30"], "an image may have 10000 pixels a side"),
        ([*LENET, NO_IMAGE, "--image-dims", f"30,{10**30}"], "an image may have 10000 pixels a side"),
        ([*LENET, f"{ROOT}/tests"], r"tests: is a folder; name its images, as in .*tests/\*\.jpg"),
        ([*LENET, NO_IMAGE, "--mean", "1e39"], "--mean 1e39: not numbers that can be subtracted"),
        ([*LENET, NO_IMAGE, "--labels", "gone.txt"], "gone.txt: cannot be read"),
        ([f"{ROOT}/prototxt/lenet/train.yaml", *LENET[1:], NO_IMAGE], "use the deploy net"),
    ],
)
def test_the_command_reports_in_one_line(flags, message, capsys):
    assert main(["classify", *flags]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


def test_a_file_that_is_no_image_does_not_keep_others_from_being_named(digit, capsys):
    assert main(["classify", *LENET, NO_IMAGE, digit[0]]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "README.md: cannot be read as an image" in said.err
    assert said.out.splitlines()[-6] == digit[0]


def test_of_several_outputs_a_softmax_has_the_scores(digit, tmp_path, capsys):
    """As MTCNN's R-Net has the corners of boxes beside the probabilities."""
    (tmp_path / "net.yaml").write_text(
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 1, 28, 28]}}}\n"
        "- {name: boxes, type: InnerProduct, bottom: x, inner_product_param: {num_output: 7}}\n"
        "- {name: ip, type: InnerProduct, bottom: x, inner_product_param: {num_output: 4}}\n"
        "- {name: prob, type: Softmax}\n"
    )
    mc.Net(tmp_path / "net.yaml").save(tmp_path / "net.npz")
    command = ["classify", str(tmp_path / "net.yaml"), "--weights", str(tmp_path / "net.npz"), digit[0]]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "Of the outputs boxes, prob, 'prob' has the scores" in said and said.count("0.2500") == 4


FLAT = """
name: toy
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 1, 8, 8]}}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 4}}
- {name: best, type: ArgMax}
"""
MAPS = """
name: toy
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 1, 8, 8]}}}
- {name: conv, type: Convolution, convolution_param: {num_output: 8, kernel_size: 4}}
"""


@pytest.mark.parametrize(
    ("net", "what"),
    [
        (MAPS, r"'conv', of shape \(1, 8, 5, 5\), is a map"),
        (FLAT, r"'best', of shape \(1, 1, 1\), is numbers of classes"),
        (f"{ROOT}/prototxt/ssd_digits/deploy.yaml", r"'detection_out', of shape \(1, 1, \d+, 7\), is boxes"),
        (f"{ROOT}/prototxt/segnet_digits/deploy.yaml", r"'classes', of shape \(1, 1, 64, 64\), is a map"),
    ],
)
def test_only_scores_of_classes_are_named(tmp_path, capsys, net, what):
    spec, weights, picture = (str(tmp_path / name) for name in ("net.yaml", "net.npz", "a.png"))
    Path(spec).write_text(Path(net).read_text() if net.endswith(".yaml") else net)
    mc.Net(spec, phase="test").save(weights)
    Image.new("L", (64, 64)).save(picture)
    assert main(["classify", spec, "--weights", weights, picture]) == 2
    out, err = capsys.readouterr()
    assert picture not in out
    assert re.search(f"net '.*': its output {what}, not a score for each class; .* gives it as it is\n$", err)


def test_scores_that_are_no_numbers_are_not_shown(digit, tmp_path, capsys):
    net = mc.Net(LENET[0], weights=LENET[2])
    net.params["ip2"][1].data[...] = np.nan
    net.save(tmp_path / "nan.npz")
    assert main(["classify", LENET[0], "--weights", str(tmp_path / "nan.npz"), digit[0]]) == 2
    error = capsys.readouterr().err
    assert (
        "digit.png: the net gives nan (parameter 1 of layer 'ip2' is the first that is not finite)" in error
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: oversample([], (2, 2)), "no images to crop"),
        (
            lambda: oversample([np.zeros((3, 3, 3))], (2, 4)),
            r"image 0 has shape \(3, 3, 3\); \(2, 4, channels\)",
        ),
        (lambda: oversample([np.zeros((3, 3))], (2, 2)), r"image 0 has shape \(3, 3\)"),
        (lambda: resize_image(np.zeros((3, 3)), (2, 2)), r"the image has shape \(3, 3\)"),
        (lambda: resize_image(np.zeros((3, 3, 3)), (2,)), r"new_dims \(2,\): give height and width"),
        (lambda: resize_image(np.zeros((3, 3, 3)), (2, -1)), r"new_dims \(2, -1\): give height and width"),
    ],
)
def test_sizes_and_images_that_do_not_fit_each_other_are_one_line(call, message):
    with pytest.raises(mc.ShapeError, match=message):
        call()


@pytest.mark.parametrize("dims", [12, "ab", (12,), (), ("a", "b")])
def test_image_dims_are_height_and_width(classified, dims):
    with pytest.raises(mc.ShapeError, match=r"image_dims .*: give height and width"):
        mc.Classifier(*classified[:2], image_dims=dims)
