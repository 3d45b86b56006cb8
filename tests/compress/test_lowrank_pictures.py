"""``minicaffe lowrank plan|select|apply`` on a deploy net and pictures; other goals of ``select``."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minicaffe.cli.commands import lowrank
from minicaffe.cli.program import main
from minicaffe.compress.plan import LayerRank
from minicaffe.compress.workbench import Workbench
from minicaffe.core.net import Net
from tests.compress.lenet_cases import rewrite, run, select, with_ranks

pytestmark = [pytest.mark.usefixtures("folder"), pytest.mark.cpu_only("of files and words")]


@pytest.fixture
def photos(folder):
    """Test digits as .png files, in one folder."""
    (folder / "photos").mkdir()
    digits = np.load("test.npz")["data"].reshape(-1, 28, 28)
    for i, digit in enumerate(digits[:96]):
        Image.fromarray(digit).save(folder / "photos" / f"{i:03}.png")
    return folder / "photos"


DEPLOY = ["deploy.yaml", "--weights", "lenet.npz", "--images", "photos", "--calibration", "2"]


def answers(net, weights, photos):
    """The most probable classes of all photos, as ``minicaffe classify`` says."""
    from minicaffe.classify.classifier import Classifier
    from minicaffe.classify.images import load_image

    classifier = Classifier(net, weights)
    images = [load_image(path, color=False) for path in sorted(photos.iterdir())]
    return classifier.predict(images, oversample=False).argmax(axis=1)


def test_a_plan_of_a_deploy_net_says_what_to_expect_at_each_share(capsys, photos):
    output = run(capsys, "lowrank", "plan", *DEPLOY, "--shares", "0.7,0.3,0.05")
    rows = re.findall(
        r"^ +(0\.\d+) +(\S+) +(\S+) +(\S+) +(\S+) +(?:at least )?(\S+) points +(.*)$", output, re.MULTILINE
    )
    assert [row[0] for row in rows] == ["0.7", "0.3", "0.05"]
    losses = [float(row[5]) for row in rows]
    assert losses == sorted(losses) and losses[2] > losses[0]
    assert all(float(row[1]) <= float(row[0]) for row in rows)
    assert all(re.fullmatch(r"(conv\d \d+ %(, )?)+", row[6]) for row in rows)
    assert "expected loss of agreement" in output
    assert ("at least" in output) == (
        "At least: there the answers are off by more than was measured" in output
    )
    assert not [path for path in Path().iterdir() if "lowrank" in path.name]


def test_select_makes_a_caffe_net_of_a_deploy_net_and_pictures(capsys, photos):
    pytest.importorskip("google.protobuf")
    output = run(capsys, "lowrank", "select", *DEPLOY, "--max-drop", "3%", "-o", "small.prototxt")
    dense = answers("deploy.yaml", "lenet.npz", photos)
    small = answers("small.prototxt", "small.caffemodel", photos)
    found = re.search(r"^agreement (\S+) \(.*on (\d+) images$", output, re.MULTILINE)
    assert (dense == small).mean() == pytest.approx(float(found[1]), abs=0.06)  # not of the same pictures
    assert int(found[2]) <= 96 and float(found[1]) > 0.9
    before, after = re.search(r"^parameters +(\S+) +(\S+)", output, re.MULTILINE).groups()
    assert sum(b.data.size for p in Net("small.prototxt").params.values() for b in p) == int(
        after.replace(",", "")
    )
    assert int(after.replace(",", "")) < int(before.replace(",", ""))


def test_one_picture_and_a_list_without_labels(capsys, photos):
    plan = [
        "lowrank",
        "plan",
        "deploy.yaml",
        "--weights",
        "lenet.npz",
        "--calibration",
        "2",
        "--shares",
        "0.5",
    ]
    assert main([*plan, "--images", "photos/000.png"]) == 2
    error = (
        "error: photos/000.png: is one picture; give its folder, or a text file with a path in each line\n"
    )
    assert capsys.readouterr().err == error
    Path("list.txt").write_text("".join(f"{path}\n" for path in sorted(photos.iterdir())))
    assert "expected loss of agreement" in run(capsys, *plan, "--images", "list.txt")


def test_a_picture_that_cannot_be_read_stops_nothing_but_none_that_can_does(capsys, photos):
    for path in sorted(photos.iterdir())[:40]:
        path.write_bytes(b"none")
    flags = ["--flops", "0.5", "-o", "small.yaml"]
    output = run(capsys, "lowrank", "select", *DEPLOY, *flags)
    assert re.search(
        r"^\d+ pictures skipped: photos/\d+\.png: cannot be read as an image \(", output, re.MULTILINE
    )
    assert Path("small.npz").is_file()
    for path in photos.iterdir():
        path.write_bytes(b"none")
    assert main(["lowrank", "select", *DEPLOY, *flags]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "error: deploy.yaml: no batch of its images can be read; give other pictures"


def test_pictures_in_a_folder_for_each_class_are_scored_by_their_labels(capsys, folder):
    held = np.load("test.npz")
    for i, (digit, label) in enumerate(
        zip(held["data"].reshape(-1, 28, 28), held["label"].ravel(), strict=True)
    ):
        path = folder / "photos" / str(int(label)) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit).save(path)
    output = run(capsys, "lowrank", "select", *DEPLOY, "--flops", "30%", "-o", "small.yaml")
    assert re.search(r"^Dense: accuracy 0\.9\d+, ", output, re.MULTILINE)


def test_select_keeps_the_weights_within_a_share_and_ranks_to_a_multiple(capsys):
    output = select(capsys, "--params", "0.2", "--multiple", "4", "--layers", "conv2,ip1")
    ranks = re.findall(r"^(conv2|ip1) +(?:channel|spatial) +(\d+) of", output, re.MULTILINE)
    assert len(ranks) == 2 and all(int(rank) % 4 == 0 for _, rank in ranks)
    counts = [
        sum(np.prod(p.shape) for name in ("conv2", "ip1") for p in Net(net).params[name] if len(p.shape) > 1)
        for net in ("low.yaml", "net.yaml")
    ]
    assert 0.1 < counts[0] / counts[1] <= 0.2


def test_a_basis_of_the_data_is_a_scheme_to_choose_from(capsys, folder):
    output = select(capsys, "--flops", "0.5", "--schemes", "data", "--layers", "conv2", "--batches", "6")
    assert re.search(r"^conv2 +basis +\d+ of 500 ", output, re.MULTILINE)
    text = (folder / "low.yaml").read_text()
    assert "target: data" in text and "scheme" not in text
    printed = float(re.search(r"^accuracy (\S+) \(", output, re.MULTILINE)[1])
    scored = run(capsys, "test", "low.yaml", "--weights", "low.npz", "--iterations", "6")
    assert float(re.search(r"^accuracy = (\S+)", scored, re.MULTILINE)[1]) == pytest.approx(printed, abs=1e-4)


@pytest.mark.parametrize("images", [[], DEPLOY[3:5]], ids=["data layers", "pictures"])
def test_a_distilled_net_is_nearer_to_the_dense_one(capsys, photos, images):
    net = ["deploy.yaml", *DEPLOY[1:]] if images else ["net.yaml", *DEPLOY[1:3], "--calibration", "2"]
    goal = ["--flops", "0.06", "--distill", "0.02", "-o", "low.yaml"]
    output = run(capsys, "lowrank", "select", *net, *goal)
    losses = re.findall(r"expected (\S+) ", output)
    assert "Distilled: " in output
    assert (
        float(losses[-1]) >= float(losses[-2]) - 0.5
    )  # points; a second of training, of which it keeps the best


def test_a_net_that_distilling_makes_worse_is_kept_as_it_was_with_a_warning(capsys, photos, monkeypatch):
    def harm(student, teacher, batches, minutes):
        for blob in student.params["conv2"]:
            blob.data[...] = 0

    flags = [*DEPLOY, "--flops", "0.3", "-o", "low.yaml"]
    run(capsys, "lowrank", "select", *flags)
    expected = dict(np.load("low.npz"))
    monkeypatch.setattr(lowrank, "distill", harm)
    output = run(capsys, "lowrank", "select", *flags, "--distill", "1")
    (line,) = [line for line in output.splitlines() if line.startswith("Distilled")]
    assert line.startswith("Distilled on 16 pictures it would lose more on others, agreement 0.")
    assert line.endswith(": the weights from before are kept; give more pictures, thousands, or less time")
    kept = np.load("low.npz")
    for key, array in expected.items():
        np.testing.assert_array_equal(kept[key], array)


def test_apply_fits_factors_to_pictures(capsys, folder, photos):
    with_ranks(folder, conv2="rank: 6, factored: true")
    text = (folder / "deploy.yaml").read_text()
    old = "convolution_param: {num_output: 50, kernel_size: 5}"
    assert old in text
    (folder / "deploy.yaml").write_text(
        text.replace(old, f"{old}\n  low_rank_param: {{rank: 6, factored: true}}")
    )
    run(capsys, "lowrank", "apply", *DEPLOY, "-o", "fitted.npz")
    low = Net("deploy.yaml", weights="fitted.npz")
    assert [blob.shape for blob in low.params["conv2"]] == [(6, 20, 5, 5), (50, 6, 1, 1), (50,)]
    agree = answers("deploy.yaml", "fitted.npz", photos) == answers(
        low_free(folder, text), "lenet.npz", photos
    )
    assert agree.mean() > 0.8


def low_free(folder, text):
    """The path of the deploy net without low rank."""
    (folder / "dense.yaml").write_text(text)
    return folder / "dense.yaml"


def test_an_auxiliary_classifier_is_not_shrunk_unseen(capsys, caplog):
    caplog.set_level("INFO", "minicaffe")
    aux = (
        "- {name: aux, type: InnerProduct, bottom: pool2, inner_product_param: {num_output: 10}}\n"
        "- {name: early, type: Accuracy, bottom: [aux, label], include: {phase: TEST}}\n"
    )
    ip1 = "- name: ip1\n"
    rewrite("net.yaml", (ip1, f"{aux}{ip1}  bottom: pool2\n"))
    with Net("net.yaml", weights="lenet.npz", phase="test") as net:
        net.params["aux"][0].data[...] = net.params["ip2"][0].data.repeat(2, axis=1)[:, :800]
        net.save("aux.npz")
    for accuracy, chosen in ((None, ["ip2"]), ("early", ["aux"])):
        bench = Workbench("net.yaml", "aux.npz", ["?p2", "a?x"], calibration=1, accuracy=accuracy)
        assert list(bench.candidates) == chosen
        bench.close()
    for name in ("aux", "ip2"):
        assert f"Left dense, as what is scored does not depend on it: {name}\n" in caplog.text
    ranked = "num_output: 10}, low_rank_param: {rank: 2, factored: true}}\n"
    rewrite("net.yaml", ("num_output: 10}}\n", ranked))
    flags = ["--weights", "aux.npz", "-o", "applied.npz", "--calibration", "1"]
    run(capsys, "lowrank", "apply", "net.yaml", *flags)
    assert np.load("applied.npz")["aux/1"].shape == (10, 2)  # what the spec says is done


def test_of_several_accuracies_the_last_decides(folder):
    text = (folder / "net.yaml").read_text()
    early = "- {name: early, type: Accuracy, bottom: [ip1, label], include: {phase: TEST}}\n"
    place = text.index("- name: accuracy")
    (folder / "net.yaml").write_text(text[:place] + early + text[place:])
    bench = Workbench("net.yaml", "lenet.npz", calibration=1)
    assert bench.score.accuracy == "accuracy"
    assert Workbench("net.yaml", "lenet.npz", calibration=1, accuracy="early").score.accuracy == "early"
    batches = bench.draw(1)
    bench.approximate({"conv1": LayerRank("CHANNEL", 1)})
    assert bench.measure(batches).expected.mean < 0
