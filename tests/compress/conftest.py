"""LeNet, its weights and a few digits, in the working directory of a test."""

import gzip
import shutil

import numpy as np
import pytest

from minicaffe.compress import cost, gains, spatial_fits
from minicaffe.compress.workbench import Workbench
from tests import ROOT

SAMPLE = ROOT / "minicaffe" / "data" / "sample"
SOLVER = """net: net.yaml
base_lr: 0.0005
momentum: 0.9
lr_policy: fixed
max_iter: 4
snapshot_prefix: snap/run
random_seed: 7
"""


class Calls(list):
    """Results of calls, of which there may be ``limit`` (-1: any number)."""

    limit = -1


@pytest.fixture(scope="session")
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


@pytest.fixture
def folder(digits, tmp_path, monkeypatch):
    """The working directory of a test: a copy of that folder. To be quick, less is tried, fitted and timed."""
    monkeypatch.setattr(cost, "REPEATS", 1)
    monkeypatch.setattr(gains, "LEAST_ROUNDS", 1)
    monkeypatch.setattr(gains, "MOST_SECONDS", 0.0)
    monkeypatch.setattr(spatial_fits, "SWEEPS", 2)
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
