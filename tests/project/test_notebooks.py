"""benchmarks/notebooks.py, which runs Caffe's notebooks, on a small one."""

import json
import os
import subprocess
import sys

import pytest

from tests import ROOT

SCRIPT = ROOT / "benchmarks" / "notebooks.py"
CELLS = [
    "%matplotlib inline\nfrom pylab import *\nimport caffe\nfrom caffe import layers as L",
    "%%timeit\ncaffe = 5\nprint 'inside', caffe",
    "n = caffe.NetSpec()\nn.data = L.Input(shape=dict(dim=[2, 3]))",
    "with open('net.prototxt', 'w') as f:\n    f.write(str(n.to_proto()))",
    "!cat net.prototxt",
    "import os\nos.chdir('..')\n!examples/mnist/create_mnist.sh\nos.listdir('examples/mnist')",
    "net = caffe.Net('examples/net.prototxt', caffe.TEST)",
    "plot([1, 2]); title('Test Accuracy: {:.2f}'.format(net.blobs['data'].num))",
]


@pytest.mark.cpu_only("runs a program of its own")
def test_a_notebooks_cells_run_with_our_caffe(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("lmdb")
    pytest.importorskip("google.protobuf")
    examples, digits = tmp_path / "examples", tmp_path / "digits"
    examples.mkdir()
    digits.mkdir()
    sample = ROOT / "minicaffe" / "data" / "sample"
    for ours, theirs in (("mnist-train", "train"), ("mnist-test", "t10k")):
        for what in ("images-idx3", "labels-idx1"):
            (digits / f"{theirs}-{what}-ubyte.gz").symlink_to(sample / f"{ours}-{what}-ubyte.gz")
    cells = [{"cell_type": "code", "source": [source], "outputs": []} for source in CELLS]
    cells[1]["outputs"] = [{"text": ["Accuracy: 0.1\nAccuracy: 0.25\n"]}]
    (examples / "small.ipynb").write_text(json.dumps({"cells": cells}))
    command = [sys.executable, str(SCRIPT), str(tmp_path), "examples/small.ipynb", "--mnist", str(digits)]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "inside 5",
        "the notebook's own run: Accuracy: 0.25",
        '  name: "data"',
        "Wrote 4000 images to examples/mnist/mnist_train_lmdb",
        "Wrote 1000 images to examples/mnist/mnist_test_lmdb",
        "figure: Test Accuracy: 2.00",
        "all cells run",
    ):
        assert line in done.stdout.splitlines(), line
