"""What the tests of ``minicaffe lowrank`` share: LeNet, its weights and a few digits, and commands run on them."""

import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from minicaffe.cli.program import main
from minicaffe.compress import cost, fitting, selection
from minicaffe.compress.workbench import Workbench
from tests import ROOT

SAMPLE = ROOT / "minicaffe" / "data" / "sample"
SIZES = ["--batches", "3", "--calibration", "2"]
SOLVER = """net: net.yaml
base_lr: 0.0005
momentum: 0.9
lr_policy: fixed
max_iter: 4
snapshot_prefix: snap/run
random_seed: 7
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with some of the sample's digits, and LeNet on them: the test set is six batches."""
    folder = tmp_path_factory.mktemp("digits")
    for name, count in (("train", 640), ("test", 180)):
        arrays = {}
        for what, kind, header in (("data", "images-idx3", 16), ("label", "labels-idx1", 8)):
            with gzip.open(SAMPLE / f"mnist-{name}-{kind}-ubyte.gz") as file:
                arrays[what] = np.frombuffer(file.read(), np.uint8, offset=header)
        arrays["data"] = arrays["data"].reshape(-1, 1, 28, 28)
        np.savez(folder / f"{name}.npz", **{what: array[-count:] for what, array in arrays.items()})
    text = (ROOT / "prototxt" / "lenet" / "train.yaml").read_text()
    for name, size, batch in (("train", 64, 16), ("test", 100, 30)):
        old, new = f"sample/mnist-{name}, batch_size: {size}", f"{name}.npz, batch_size: {batch}"
        text = text.replace(old, new)
    (folder / "net.yaml").write_text(text)
    (folder / "solver.yaml").write_text(SOLVER)
    shutil.copy(ROOT / "prototxt" / "lenet" / "deploy.yaml", folder)
    shutil.copy(ROOT / "models" / "lenet.npz", folder)
    return folder


@pytest.fixture(autouse=True)
def folder(digits, tmp_path, monkeypatch):
    """The working directory of a test: a copy of that folder. To be quick, less is tried, fitted and timed."""
    monkeypatch.setattr(cost, "REPEATS", 1)
    monkeypatch.setattr(selection, "SHARES", (0.05, 0.1, 0.2, 0.5))
    monkeypatch.setattr(fitting, "SWEEPS", 2)
    shutil.copytree(digits, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def measured(monkeypatch):
    """What ``Workbench.measure`` has returned so far; it fails, as if interrupted, when ``limit`` is reached."""
    results, measure = Calls(), Workbench.measure

    def count(self, *args):
        if len(results) == results.limit:
            raise KeyboardInterrupt
        results.append(measure(self, *args))
        return results[-1]

    monkeypatch.setattr(Workbench, "measure", count)
    return results


class Calls(list):
    limit = -1


def run(capsys, *arguments):
    """What a command prints, without the time that is left, which a slow machine shows; it must succeed."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 0, capsys.readouterr().err
    return re.sub(r" \([\d:]+( s)? left\)$", "", capsys.readouterr().out, flags=re.MULTILINE)


def select(capsys, *arguments, net="net.yaml", out="low.yaml"):
    more = ["--weights", "lenet.npz", "-o", out, "--held-out", "3", *SIZES, *arguments]
    return run(capsys, "lowrank", "select", net, *more)


def with_ranks(folder, **ranks):
    """Write ``low.yaml``: the net with ``low_rank_param`` in some layers."""
    text = (folder / "net.yaml").read_text()
    for name, param in ranks.items():
        text = re.sub(
            rf"(- name: {name}\n(?:  .*\n)*?)  param: .*\n", rf"\1  low_rank_param: {{{param}}}\n", text
        )
    (folder / "low.yaml").write_text(text)
    assert text.count("low_rank_param") == len(ranks)


def take_biases():
    """Let the convolutions of the net and its weights have no biases."""
    text = Path("net.yaml").read_text().replace(", kernel_size: 5,", ", kernel_size: 5, bias_term: false,")
    text = re.sub(r"  param: \[\{lr_mult: 1\}, .*\n(  conv)", r"  param: [{lr_mult: 1}]\n\1", text)
    Path("net.yaml").write_text(text)
    weights = {key: array for key, array in np.load("lenet.npz").items() if key not in ("conv1/1", "conv2/1")}
    np.savez("lenet.npz", **weights)


def rewrite(path, *edits):
    """Change pieces of a text file, each of which it has."""
    text = Path(path).read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    Path(path).write_text(text)
