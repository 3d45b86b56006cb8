"""LeNet, begun by Caffe and stopped at iteration 500, goes on here as it went on there.

golden/caffe/record_lenet.py recorded it.

python tests/test_caffe_resume.py FOLDER    the same of a run in FOLDER, with LeNet's own numbers of filters
"""

import shutil
import sys
from pathlib import Path

import numpy as np

import minicaffe as mc
from minicaffe.array import to_device, to_host
from minicaffe.data.backends import open_source

FILES = ("lenet.prototxt", "lenet_solver.prototxt", "lenet_iter_500.caffemodel", "lenet_iter_500.solverstate")
GOLDEN = Path(__file__).parent / "golden" / "caffe"
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


def test_lenet_that_caffe_began_goes_on_as_it_did_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where its log is written
    for name in FILES:
        shutil.copy(GOLDEN / name, tmp_path)
    expected = np.load(GOLDEN / "lenet_losses.npy")
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(losses_from_500_on(tmp_path), expected, rtol=0, atol=1e-3)


if __name__ == "__main__":
    there = np.load(Path(sys.argv[1]) / "lenet_losses.npy")
    here = losses_from_500_on(Path(sys.argv[1]))
    print(f"losses of 100 iterations: at most {np.abs(here - there).max():.1e} from Caffe's")
