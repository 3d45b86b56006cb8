"""What pictures go through travels with the weights, from training to ``classify`` and ``mc.Classifier``."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.classify.images import load_image
from minicaffe.cli.program import main
from minicaffe.compress import shrunk
from minicaffe.data.preparation import KEY, MEAN_KEY, Preparation
from minicaffe.spec.net import parse_net
from tests import ROOT

BODY = """
- name: conv
  type: Convolution
  bottom: data
  convolution_param: {num_output: 4, kernel_size: 3, stride: 2, weight_filler: {type: msra}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 2, weight_filler: {type: xavier}}}
"""
DATA = """- name: data
  type: ImageData
  top: [data, label]
  include: {phase: PHASE}
  image_data_param: {source: FOLDER, batch_size: 2, is_color: COLOR, new_height: 12, new_width: 10}
  transform_param: {crop_size: 8, mirror: MIRROR, scale: 0.02, MEAN}
"""
DEPLOY = (
    "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [1, CHANNELS, 8, 8]}}}"
    + BODY
    + "- {name: prob, type: Softmax}\n"
)


def write_train(folder, mean="mean_value: [100, 110, 120]", color=True):
    """Pictures of two classes, train.yaml with its solver, and deploy.yaml."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("cats", "dogs")):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 256, (20 + i, 17 + number, 3), np.uint8)
            Image.fromarray(pixels if color else pixels[:, :, 0]).save(
                folder / "pictures" / name / f"{i}.png"
            )
    data = DATA.replace("FOLDER", "pictures").replace("COLOR", str(color).lower()).replace("MEAN", mean)
    (folder / "train.yaml").write_text(
        "layer:\n"
        + data.replace("PHASE", "TRAIN").replace("MIRROR", "true")
        + data.replace("PHASE", "TEST").replace("MIRROR", "false")
        + BODY
        + "- {name: prob, type: Softmax, include: {phase: TEST}}\n"
        + "- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}\n"
    )
    (folder / "solver.yaml").write_text(
        "net: train.yaml\nbase_lr: 0.001\nlr_policy: fixed\nmax_iter: 2\ntest_iter: 1\ntest_interval: 9\n"
        "snapshot_prefix: run\nrandom_seed: 3\n"
    )
    (folder / "deploy.yaml").write_text(DEPLOY.replace("CHANNELS", "3" if color else "1"))


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_train(tmp_path)
    assert main(["train", "solver.yaml"]) == 0
    return tmp_path


def shown(capsys, *arguments):
    """The scores that ``classify`` prints for one picture, by class, and all that it says."""
    assert main(["classify", *arguments]) == 0
    said = capsys.readouterr().out
    return {
        name: float(score) for score, name in re.findall(r"^  (\d\.\d+)  (\w+)$", said, re.MULTILINE)
    }, said


def scores_of_the_test_net(weights):
    """The probabilities that the TEST data layer and net give the first picture, cats/0.png."""
    net = mc.Net("train.yaml", weights=weights, phase="test")
    scores = mc.to_host(net.forward(["prob"])["prob"])[0]
    net.close()
    return scores


@pytest.mark.parametrize(
    "mean", ["mean_value: [100, 110, 120]", "mean_value: 128", "mean_file: mean.npy", "force_color: false"]
)
@pytest.mark.parametrize("color", [True, False])
def test_one_picture_gets_one_score_by_three_ways(tmp_path, monkeypatch, capsys, mean, color):
    monkeypatch.chdir(tmp_path)
    if not color and "110" in mean:
        mean = "mean_value: 100"
    write_train(tmp_path, mean, color)
    np.save("mean.npy", np.random.default_rng(1).random((3 if color else 1, 12, 10), np.float32) * 255)
    assert main(["train", "solver.yaml"]) == 0
    expected = scores_of_the_test_net("run_iter_2.npz")
    found, _ = shown(capsys, "deploy.yaml", "--weights", "run_iter_2.npz", "pictures/cats/0.png")
    by_name = [found.get(str(i), found.get(name)) for i, name in enumerate(("cats", "dogs"))]
    np.testing.assert_allclose(by_name, expected, atol=1e-4)
    picture = load_image("pictures/cats/0.png", color)
    classifier = mc.Classifier("deploy.yaml", "run_iter_2.npz")
    np.testing.assert_allclose(classifier.predict([picture])[0], expected, rtol=1e-5)


def test_classify_says_what_pictures_go_through(trained, capsys):
    _, said = shown(capsys, "deploy.yaml", "--weights", "run_iter_2.npz", "pictures/cats/0.png")
    assert (
        "Pictures: resized to 12 × 10, and cropped, blue, green, red, 0 … 255, less 100, 110, 120, times 0.02\n"
        in said
    )


def test_without_a_preparation_classify_says_what_it_assumes(trained, capsys, caplog):
    net = mc.Net("deploy.yaml", weights="run_iter_2.npz")
    net.preparation = None
    net.save("bare.npz")
    found, said = shown(capsys, "deploy.yaml", "--weights", "bare.npz", "pictures/cats/0.png")
    assert (
        "do not say what pictures go through; taken to be: resized to the net's input, blue, green, red"
        in said
    )
    assert "0 … 255, no mean\n" in said
    picture = load_image("pictures/cats/0.png")
    scores = mc.Classifier("deploy.yaml", "bare.npz").predict([picture])[0]
    np.testing.assert_allclose([found["0"], found["1"]], scores, atol=1e-4)


def test_a_flag_or_argument_takes_the_place_of_what_came_with_the_weights(trained, capsys):
    flags = ["--mean", "1,2,3", "--channel-swap", "0,1,2"]
    found, said = shown(capsys, "deploy.yaml", "--weights", "run_iter_2.npz", "pictures/cats/0.png", *flags)
    assert "cropped, red, green, blue, 0 … 255, less 1, 2, 3, times 0.02" in said
    given = {"mean": np.array([1.0, 2, 3]), "channel_swap": (0, 1, 2)}
    scores = mc.Classifier("deploy.yaml", "run_iter_2.npz", **given).predict(
        [load_image("pictures/cats/0.png")]
    )
    np.testing.assert_allclose(list(found.values()), np.sort(scores[0])[::-1], atol=1e-4)


def test_pycaffes_classifier_has_pycaffes_default(trained):
    """Which is: nothing is done that was not asked for."""
    caffe = pytest.importorskip("minicaffe.pycaffe")
    picture = load_image("pictures/cats/0.png")
    plain = mc.Classifier("deploy.yaml", "run_iter_2.npz", preparation=Preparation())
    found = caffe.Classifier("deploy.yaml", "run_iter_2.npz").predict([picture], oversample=False)
    np.testing.assert_array_equal(found, plain.predict([picture]))


def test_names_of_classes_travel_from_the_data_layer_to_classify_and_test(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_train(tmp_path)
    text = (tmp_path / "train.yaml").read_text()
    (tmp_path / "train.yaml").write_text(
        text + "- {name: acc, type: Accuracy, bottom: [ip, label], top: [acc, of], include: {phase: TEST}}\n"
    )
    assert main(["train", "solver.yaml"]) == 0
    found, _ = shown(capsys, "deploy.yaml", "--weights", "run_iter_2.npz", "pictures/cats/0.png")
    assert set(found) == {"cats", "dogs"}
    assert mc.Classifier("deploy.yaml", "run_iter_2.npz").class_names == ("cats", "dogs")
    assert main(["test", "train.yaml", "--weights", "run_iter_2.npz"]) == 0
    assert re.search(r"^of, dogs = \d", capsys.readouterr().out, re.MULTILINE)
    (tmp_path / "names.txt").write_text("a\nb\n")
    found, _ = shown(
        capsys, "deploy.yaml", "--weights", "run_iter_2.npz", "pictures/cats/0.png", "--labels", "names.txt"
    )
    assert set(found) == {"a", "b"}


def test_more_names_than_classes_are_not_used(trained, capsys):
    net = mc.Net("deploy.yaml", weights="run_iter_2.npz")
    net.preparation = Preparation(raw_scale=255.0, class_names=("a", "b", "c"))
    net.save("w.npz")
    found, said = shown(capsys, "deploy.yaml", "--weights", "w.npz", "pictures/cats/0.png")
    assert set(found) == {"0", "1"} and "The weights name 3 classes, but the net has 2" in said


def test_what_the_test_data_go_through_stays_when_weights_without_it_are_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_train(tmp_path)
    text = (tmp_path / "train.yaml").read_text()
    start = text.index("- name: data", text.index("phase: TRAIN"))
    shapes = "input_param: {shape: [{dim: [2, 3, 8, 8]}, {dim: 2}]}"
    inputs = f"- {{name: data, type: Input, top: [data, label], include: {{phase: TRAIN}}, {shapes}}}\n"
    (tmp_path / "train.yaml").write_text("layer:\n" + inputs + text[start:])
    (tmp_path / "deploy.yaml").write_text(DEPLOY.replace("CHANNELS", "3"))
    mc.Net("deploy.yaml").save("bare.npz")
    with mc.Solver("solver.yaml") as solver:
        before = solver.net.preparation
        solver.copy_from("bare.npz")
        assert solver.net.preparation is before is not None


@pytest.mark.parametrize("fill", [None, lambda net, weights: shrunk.fill(net, weights, {})])
def test_names_of_classes_stay_where_the_data_have_none(tmp_path, fill):
    np.savez(tmp_path / "set.npz", data=np.zeros((4, 3, 8, 8), np.uint8), labels=np.zeros(4))
    data = "layer:\n- {name: data, type: Data, top: [data, l], data_param: {source: SET, batch_size: 2}}"
    text = data.replace("SET", str(tmp_path / "set.npz")) + BODY
    with mc.Net(parse_net(text)) as net:
        net.preparation = replace(net.preparation, class_names=("cats", "dogs"))
        net.save(tmp_path / "w.npz")
    with mc.Net(parse_net(text), weights=tmp_path / "w.npz") as net, mc.Net(parse_net(text)) as other:
        if fill:
            fill(other, net)
        assert (other if fill else net).preparation.class_names == ("cats", "dogs")
    anew = text.replace("name: ip", "name: mine")  # learns classes of its own
    with mc.Net(parse_net(anew), weights=tmp_path / "w.npz") as net:
        assert net.preparation.class_names == ()


def test_names_of_classes_that_a_terminal_would_obey_are_escaped(trained, capsys):
    net = mc.Net("deploy.yaml", weights="run_iter_2.npz")
    net.preparation = Preparation(raw_scale=255.0, class_names=("a\x1b[2J", "b" * 1000))
    net.save("w.npz")
    _, said = shown(capsys, "deploy.yaml", "--weights", "w.npz", "pictures/cats/0.png")
    assert r"  a\x1b[2J" in said and "\x1b" not in said and "b" * 400 not in said


@pytest.mark.parametrize("output", ["caffe", "onnx"])
def test_export_says_what_its_files_cannot(trained, capsys, output):
    pytest.importorskip("onnx" if output == "onnx" else "google.protobuf")
    assert main(["export", "deploy.yaml", "run_iter_2.npz", "-o", "out", "--format", output]) == 0
    assert "Pictures: resized to 12 × 10, and cropped, blue, green, red, 0 … 255" in capsys.readouterr().out


def test_the_lenet_that_comes_with_the_package_says_what_its_test_data_go_through():
    root = ROOT
    data = mc.Net(root / "prototxt" / "lenet" / "train.yaml")
    data.close()
    deploy = mc.Net(root / "prototxt" / "lenet" / "deploy.yaml", weights=root / "models" / "lenet.npz")
    assert deploy.preparation.arrays() == data.preparation.arrays()


# -- the file --------------------------------------------------------------------------------------------------


def test_the_weights_of_a_preparation_are_read_as_they_ever_were(trained):
    with np.load("run_iter_2.npz", allow_pickle=False) as arrays:
        assert {key for key in arrays if "/" not in key} == {KEY, MEAN_KEY}
        np.testing.assert_array_equal(arrays[MEAN_KEY], np.float32([100, 110, 120]))
        assert json.loads(str(arrays[KEY]))["image_dims"] == [12, 10]
    report = mc.Net("deploy.yaml").copy_from("run_iter_2.npz")
    assert (report.missing, report.unused) == ([], [])


def test_a_training_resumes_from_weights_with_a_preparation(trained, capsys):
    (trained / "solver.yaml").write_text(
        (trained / "solver.yaml").read_text().replace("max_iter: 2", "max_iter: 3")
    )
    assert main(["train", "solver.yaml", "--snapshot", "run_iter_2.solverstate.npz"]) == 0
    assert mc.Net("deploy.yaml", weights="run_iter_3.npz").preparation.image_dims == (12, 10)


def test_saving_again_and_folding_keep_it(trained):
    text = (trained / "deploy.yaml").read_text()
    (trained / "normed.yaml").write_text(
        text.replace("- {name: ip,", "- name: norm\n  type: BatchNorm\n- {name: ip,")
    )
    net = mc.Net("normed.yaml", weights="run_iter_2.npz")
    net.save("normed.npz")
    assert main(["fold", "normed.yaml", "--weights", "normed.npz", "-o", "folded.yaml"]) == 0
    for spec, weights in (("normed.yaml", "normed.npz"), ("folded.yaml", "folded.npz")):
        found = mc.Net(spec, weights=weights).preparation
        assert str(found) == str(net.preparation) and found.as_bytes


def test_a_nets_own_data_layer_counts_more_than_the_file(trained):
    """As in fine-tuning with other means."""
    (trained / "train.yaml").write_text(
        (trained / "train.yaml").read_text().replace("[100, 110, 120]", "[1, 2, 3]")
    )
    net = mc.Net("train.yaml", weights="run_iter_2.npz", phase="train")
    assert net.preparation.mean.tolist() == [1, 2, 3]
    net.close()


@pytest.mark.parametrize(
    "damaged",
    [
        "no JSON",
        "[]",
        "{}",
        '{"image_dims": "ab"}',
        "[" * 100_000,
        {"image_dims": [0, 3]},
        {"image_dims": [3]},
        {"image_dims": [1e400, 3]},
        {"channel_swap": [0.5]},
        {"channel_swap": [-1]},
        {"raw_scale": float("nan")},
        {"input_scale": "1"},
        {"class_names": [1]},
        {"class_names": "abc"},
        {"mean": np.array([[1.0]])},
        {"mean": np.array(["a"])},
        {"mean": np.array([np.nan])},
        {"mean": np.zeros((0, 1, 1))},
    ],
    ids=lambda damaged: repr(damaged)[:30],
)
def test_a_damaged_preparation_is_one_line_and_changes_nothing(trained, damaged):
    with np.load("run_iter_2.npz") as arrays:
        held = dict(arrays)
    if isinstance(damaged, dict):
        held[MEAN_KEY] = damaged.pop("mean", held[MEAN_KEY])
        damaged = json.dumps({**json.loads(str(held[KEY])), **damaged})
    np.savez("damaged.npz", **{**held, KEY: np.array(damaged)})
    net = mc.Net("deploy.yaml")
    before = mc.to_host(net.params["ip"][0].data).copy()
    with pytest.raises(mc.WeightError, match=rf"damaged.npz: (its )?'{KEY}") as caught:
        net.copy_from("damaged.npz")
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(mc.to_host(net.params["ip"][0].data), before)


@pytest.mark.parametrize(
    "key",
    [
        {"channel_swap": [0, 1]},
        {"channel_swap": [7, 8, 9]},
        {"mean": np.zeros(2)},
        {"mean": np.zeros((5, 8, 8))},
    ],
)
def test_a_preparation_that_does_not_fit_the_net_is_one_line(trained, capsys, key):
    with np.load("run_iter_2.npz") as arrays:
        held = dict(arrays)
    held[MEAN_KEY] = key.pop("mean", held[MEAN_KEY])
    held[KEY] = np.array(json.dumps({**json.loads(str(held[KEY])), **key}))
    np.savez("other.npz", **held)
    assert main(["classify", "deploy.yaml", "--weights", "other.npz", "pictures/cats/0.png"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# -- data that are no pictures, and Caffe's nets -----------------------------------------------------------------


def test_data_that_are_no_bytes_or_have_a_frame_say_nothing_of_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("floats.npz", data=np.zeros((4, 1, 8, 8), np.float32), labels=np.zeros(4))
    np.savez("five.npz", data=np.zeros((4, 5, 8, 8), np.uint8), labels=np.zeros(4))
    np.savez("bytes.npz", data=np.zeros((4, 1, 8, 8), np.uint8), labels=np.zeros(4))
    for source, transform, expected in (
        ("floats.npz", "{}", None),
        ("five.npz", "{}", None),
        ("bytes.npz", "{pad: 2}", None),
        ("bytes.npz", "{pad: 2, crop_size: 6}", (8, 8)),
    ):
        (tmp_path / "net.yaml").write_text(
            "layer:\n- name: d\n  type: Data\n  top: [x, y]\n"
            f"  data_param: {{source: {source}, batch_size: 2}}\n  transform_param: {transform}\n"
        )
        net = mc.Net("net.yaml")
        found = net.preparation
        net.close()
        assert (found and found.image_dims) == expected, source


def test_convert_keeps_the_mean_image_for_pictures(tmp_path, monkeypatch):
    pytest.importorskip("google.protobuf")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy.yaml").write_text(DEPLOY.replace("CHANNELS", "3"))
    net = mc.Net("deploy.yaml")
    mc.export(net, "net.prototxt", "net.caffemodel")
    mean = np.random.default_rng(0).random((3, 12, 11), np.float32)
    np.save("mean.npy", mean)
    files = mc.convert("net.prototxt", "net.caffemodel", "out", mean="mean.npy")
    found = mc.Net(files.spec, weights=files.weights).preparation
    np.testing.assert_array_equal(found.mean, mean[:, 2:10, 1:9])
    assert (found.image_dims, found.channel_swap, found.raw_scale) == ((12, 11), (2, 1, 0), 255)
    files = mc.convert("net.prototxt", "net.caffemodel", "bare")
    assert mc.Net(files.spec, weights=files.weights).preparation is None
