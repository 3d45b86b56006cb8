"""The small SSD of prototxt/ssd_digits: it learns from scenes that are drawn, and its two nets compute the same."""

import runpy

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.files.spec_formats import open_solver
from minicaffe.spec.edit import set_layer_fields
from minicaffe.train.preview import count_parameters
from minicaffe.train.scoring import score
from tests import ROOT

FOLDER = ROOT / "prototxt/ssd_digits"
DRAW = runpy.run_path(str(ROOT / "prototxt/make_digit_scenes.py"))
SOURCES = "data_param: {source: data/digit_scenes/%s_lmdb, batch_size: %d"


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """24 scenes to train on and 8 to test on, where the net looks for them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/digit_scenes"
    folder.mkdir(parents=True)
    (folder / "labelmap.prototxt").write_text(DRAW["label_map"]())
    for part, count in (("train", 24), ("test", 8)):
        DRAW["write_scenes"](folder, part, count)
        given = ["--root", str(folder), "--label-map", str(folder / "labelmap.prototxt"), "--gray"]
        argv = ["data", "annotated", str(folder / f"{part}_boxes.txt"), *given]
        assert main([*argv, "-o", str(folder / f"{part}_lmdb")]) == 0
    return tmp_path


def small_batches(images):
    """The text of train.yaml with so many images a batch."""
    text = (FOLDER / "train.yaml").read_text()
    for part, batch in (("train", 32), ("test", 50)):
        assert SOURCES % (part, batch) in text
        text = text.replace(SOURCES % (part, batch), SOURCES % (part, images))
    return text


def test_the_loss_falls_while_it_trains(scenes):
    (scenes / "train.yaml").write_text(small_batches(4))
    spec = open_solver(FOLDER / "solver.yaml")
    spec.net, spec.max_iter, spec.test_iter, spec.display, spec.base_lr = "train.yaml", 20, [1], 0, 0.01
    solver = mc.Solver(spec)
    solver.step(20)
    losses = [float(loss) for loss in solver.losses]
    assert np.mean(losses[-5:]) < 0.9 * losses[0]


def test_it_is_scored_by_the_mean_average_precision_of_its_ten_digits(scenes):
    (scenes / "train.yaml").write_text(small_batches(8))
    with mc.Net("train.yaml", phase="test", seed=1) as net:
        result = score(net, 1, lambda _: True)
    assert list(result.precisions["detection_eval"]) == list(range(1, 11))
    assert result.outputs["detection_eval"].shape == ()


def test_the_net_for_use_finds_what_the_training_net_finds(scenes):
    (scenes / "train.yaml").write_text(small_batches(8))
    with mc.Net("train.yaml", phase="test", seed=1) as trained:
        trained.save("w.npz")
        trained.forward()
        images, expected = (np.array(trained.blobs[name].data) for name in ("data", "detection_out"))
    threshold = {"detection_out": {"detection_output_param.confidence_threshold": 0.01}}
    net = mc.Net.from_text(set_layer_fields((FOLDER / "deploy.yaml").read_text(), threshold))
    report = net.copy_from("w.npz")
    assert not report.missing
    np.testing.assert_allclose(net.forward(images)["detection_out"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.cpu_only("sizes are counted, nothing is computed")
def test_it_has_fewer_than_ten_thousand_parameters():
    assert count_parameters(mc.Net(FOLDER / "deploy.yaml"))[0] == 9854
