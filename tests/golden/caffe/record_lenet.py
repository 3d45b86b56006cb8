"""Record a run of LeNet in the real Caffe: stopped at iteration 500, then 100 iterations further.

Run with a Python that can import Caffe 1.0:

    GLOG_minloglevel=2 python tests/golden/caffe/record_lenet.py

The net has fewer filters than LeNet, so that its files are small; the digits are the bundled sample's, in their
order, 64 at a time. Writes lenet.prototxt, lenet_solver.prototxt, lenet_iter_500.caffemodel and .solverstate, and
lenet_losses.npy (of iterations 501 to 600). ``--full FOLDER`` writes LeNet with its own numbers of filters, 3.4 MB,
into a folder that is not kept here.
"""

import gzip
import os
import shutil
import sys
import tempfile
from pathlib import Path

import caffe
import numpy as np

FOLDER = Path(__file__).resolve().parent
SAMPLE = FOLDER.parents[2] / "minicaffe" / "data" / "sample"
BATCH = 64
NET = """name: "LeNet"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 64 dim: 1 dim: 28 dim: 28 }} }} }}
layer {{ name: "label" type: "Input" top: "label" input_param {{ shape {{ dim: 64 }} }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
  convolution_param {{ num_output: {conv1} kernel_size: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
layer {{ name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
  convolution_param {{ num_output: {conv2} kernel_size: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
  pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
layer {{ name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
  inner_product_param {{ num_output: {ip1} weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }}
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" param {{ lr_mult: 1 }} param {{ lr_mult: 2 }}
  inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }}
"""
SOLVER = """net: "lenet.prototxt"
base_lr: 0.01
momentum: 0.9
weight_decay: 0.0005
lr_policy: "inv"
gamma: 0.0001
power: 0.75
max_iter: 10000
snapshot_prefix: "lenet"
random_seed: 1
solver_mode: CPU
"""


def digits():
    """The sample's training digits, scaled as in Caffe's example, and their labels."""
    (images,) = SAMPLE.glob("*train-images*")
    (labels,) = SAMPLE.glob("*train-labels*")
    pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16)
    return pixels.reshape(-1, 1, 28, 28) * np.float32(1 / 256), np.frombuffer(
        gzip.decompress(labels.read_bytes()), np.uint8, offset=8
    )


def main():
    """Train, snapshot at 500, go on, and copy what is kept."""
    full = "--full" in sys.argv
    target = Path(sys.argv[sys.argv.index("--full") + 1]).resolve() if full else FOLDER
    sizes = {"conv1": 20, "conv2": 50, "ip1": 500} if full else {"conv1": 6, "conv2": 12, "ip1": 40}
    images, labels = digits()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("lenet.prototxt").write_text(NET.format(**sizes))
        Path("lenet_solver.prototxt").write_text(SOLVER)
        solver = caffe.get_solver("lenet_solver.prototxt")
        losses = []
        for iteration in range(600):
            if iteration == 500:
                solver.snapshot()
            batch = np.arange(iteration * BATCH, (iteration + 1) * BATCH) % len(images)
            solver.net.blobs["data"].data[...] = images[batch]
            solver.net.blobs["label"].data[...] = labels[batch]
            solver.step(1)
            losses.append(float(solver.net.blobs["loss"].data))
        for name in (
            "lenet.prototxt",
            "lenet_solver.prototxt",
            "lenet_iter_500.caffemodel",
            "lenet_iter_500.solverstate",
        ):
            shutil.copy(name, target / name)
    np.save(target / "lenet_losses.npy", np.array(losses[500:], np.float32))
    print(f"losses {losses[0]:.3f}, {losses[500]:.3f}, {losses[-1]:.3f}; written to {target}")


if __name__ == "__main__":
    main()
