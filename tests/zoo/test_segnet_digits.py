"""The small SegNet of prototxt/segnet_digits: it learns, and weights for use do what was learned."""

import runpy

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from tests.docs.pages import blocks_of
from tests.zoo.test_zoo import PROTOTXT

pytestmark = pytest.mark.cpu_only("reads files; its layers have tests that run on a device")
SCENES = runpy.run_path(str(PROTOTXT / "make_digit_scenes.py"))
SCRIPT = runpy.run_path(str(PROTOTXT / "average_bn.py"))
AVERAGE = SCRIPT["average"]
NET = PROTOTXT / "segnet_digits"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("run")
    scenes = made / "data" / "digit_scenes"
    scenes.mkdir(parents=True)
    SCENES["write_scenes"](scenes, "train", 48)
    SCENES["write_scenes"](scenes, "test", 50)
    return made


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_training_lowers_the_loss(here):
    (here / "solver.yaml").write_text(
        f"{{net: {NET / 'train.yaml'}, type: Adam, base_lr: 0.01, lr_policy: fixed, max_iter: 10, random_seed: 1}}"
    )
    losses = []
    with mc.Solver("solver.yaml") as solver:
        for _ in range(10):
            solver.step(1)
            losses.append(float(solver.net.blobs["loss"].data))
    assert np.mean(losses[-3:]) < 0.75 * losses[0]


def test_with_averaged_statistics_the_net_for_use_does_what_the_trained_one_does(here, tmp_path):
    with mc.Net(NET / "train.yaml", phase="train", seed=1) as net:
        net.forward()
        scores, images = (np.array(net.blobs[name].data) for name in ("scores", "data"))
        with mc.Net(NET / "train.yaml", phase="train", seed=1) as averaged:
            averaged.share_with(net)
            AVERAGE(averaged, 1)
            averaged.save(tmp_path / "for_use.npz")
    net = mc.Net(NET / "deploy.yaml", weights=tmp_path / "for_use.npz")
    net.blobs["data"].reshape(*images.shape)
    classes = net.forward(data=images)["classes"]
    # the variance is m / (m − 1) times the batch's, for which a few maxima are other pixels
    assert np.isclose(net.blobs["scores"].data, scores, rtol=0.02, atol=0.01).mean() > 0.95
    assert (classes[:, 0] == scores.argmax(axis=1)).mean() > 0.95
    net.blobs["data"].reshape(1, *images.shape[1:])
    np.testing.assert_array_equal(net.forward(data=images[:1])["classes"], classes[:1])


@pytest.mark.parametrize(
    ("net", "flags", "problem"),
    [
        ("segnet_digits", "--weights no.npz -o made.npz", "no.npz: cannot be read"),
        ("segnet_digits", "--weights other.npz -o made.npz", "other.npz: layer 'conv1' has"),
        ("segnet_digits", "--weights right.npz -o no/made.npz", "no/made.npz: cannot be written"),
        ("segnet_digits", "--weights right.npz -o right.npz", "would be written over"),
        ("lenet", "--weights lenet.npz -o made.npz", "has no BN with 'bn_mode: LEARN'"),
    ],
)
def test_what_cannot_be_averaged_is_one_line(net, flags, problem, here, monkeypatch, capsys):
    with mc.Net(NET / "train.yaml", phase="train", seed=1) as made:
        made.save("right.npz")
    for name in ("other", "lenet"):
        (here / f"{name}.npz").write_bytes((PROTOTXT.parent / "models/lenet.npz").read_bytes())
    given = [str(PROTOTXT / net / "train.yaml"), *flags.split()]
    monkeypatch.setattr("sys.argv", ["average_bn.py", *given, "--batches", "1"])
    assert SCRIPT["main"]() == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1 and not (here / "made.npz").exists()


def test_averaging_says_over_how_many_batches(here, monkeypatch, capsys):
    with mc.Net(NET / "train.yaml", phase="train", seed=1) as made:
        made.save("right.npz")
    given = [str(NET / "train.yaml"), "--weights", "right.npz", "-o", "averaged.npz", "--batches", "1"]
    monkeypatch.setattr("sys.argv", ["average_bn.py", *given])
    assert SCRIPT["main"]() == 0 and "averaged.npz: statistics of 1 batch\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("net", "weights", "picture"),
    [
        ("ssd_digits", "snapshots/ssd_digits_iter_2500.npz", "found.png"),
        ("segnet_digits", "digits.npz", "found_pixels.png"),
    ],
)
def test_a_scene_with_what_a_net_finds_is_drawn_as_the_page_shows(net, weights, picture, here):
    (here / "snapshots").mkdir(exist_ok=True)
    if not (here / "prototxt").exists():
        (here / "prototxt").symlink_to(PROTOTXT)
    mc.Net(f"prototxt/{net}/deploy.yaml", seed=1).save(weights)
    (block,) = (
        block for block in blocks_of(PROTOTXT / "README.md") if f'{net}/deploy.yaml", weights=' in block.text
    )
    exec(block.text, {})  # by itself, with its own imports
    with Image.open(picture) as drawn:
        assert drawn.size == (512, 512) and drawn.mode == "RGB"
