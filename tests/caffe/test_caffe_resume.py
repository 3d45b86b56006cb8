"""LeNet, begun by Caffe and stopped at iteration 500, goes on here as it went on there.

golden/caffe/record_lenet.py recorded it.

python tests/caffe/test_caffe_resume.py FOLDER    the same of a run in FOLDER, with LeNet's own numbers of filters
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.data.sources.backends import open_source
from minicaffe.device.array import to_device, to_host

GOLDEN = Path(__file__).parents[1] / "golden" / "caffe"
BATCH = 64


def losses_from_500_on(folder):
    """The losses of iterations 501 to 600, from the state in a folder."""
    solver = mc.Solver(folder / "lenet_solver.prototxt")
    solver.restore(folder / "lenet_iter_500.solverstate")
    assert solver.iter == 500
    source, losses = open_source("sample/mnist-train"), []
    for iteration in range(500, 600):
        places = np.arange(iteration * BATCH, (iteration + 1) * BATCH) % len(source)
        images, labels = source.read(places)
        solver.net.blobs["data"].data[...] = to_device(np.asarray(images, np.float32) / 256)
        solver.net.blobs["label"].data[...] = to_device(np.asarray(labels, np.float32))
        solver.step(1)
        losses.append(float(to_host(solver.net.blobs["loss"].data)))
    solver.close()
    return np.array(losses)


def distance_from_caffe(folder):
    """How far the losses are from those that Caffe recorded there; the log is written into a folder that goes."""
    there, before = np.load(folder / "lenet_losses.npy"), Path.cwd()
    assert np.ptp(there) > 0.05
    with tempfile.TemporaryDirectory() as place:
        try:
            os.chdir(place)
            return np.abs(losses_from_500_on(folder) - there).max()
        finally:
            os.chdir(before)


@pytest.mark.cpu_only("test_gpu.py trains LeNet on the double, test_caffe_solver.py restores states of Caffe")
def test_lenet_that_caffe_began_goes_on_as_it_did_there_and_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held = sorted(path.name for path in GOLDEN.iterdir())
    assert distance_from_caffe(GOLDEN) < 1e-3
    assert sorted(path.name for path in GOLDEN.iterdir()) == held and not list(tmp_path.iterdir())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(
            "usage: python tests/caffe/test_caffe_resume.py FOLDER (that golden/caffe/record_lenet.py wrote)"
        )
    found = distance_from_caffe(Path(sys.argv[1]).resolve())
    print(f"losses of 100 iterations: at most {found:.1e} from Caffe's")
