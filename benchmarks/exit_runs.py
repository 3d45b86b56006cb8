"""Commands and scripts that leave their nets open, over every kind of data: each must end by itself, with status 0.

python benchmarks/exit_runs.py [runs, default 200] [processes at a time, default 2]

``test``, ``time``, ``classify``, ``lowrank select``, scripts and pycaffe scripts run over photos of 1200 × 900 (a
list with ``new_height``), an LMDB of photos, two HDF5 files and IDX digits: while a process ends, its net's thread
is in the middle of a batch.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import h5py
import lmdb
import numpy as np
from PIL import Image

import minicaffe as mc
from minicaffe.caffe.formats.messages import message_class

PHOTOS, SIZE = 20, (900, 1200)
SECONDS = 120  # what takes longer is taken to hang
CLASSIFIER = """
- name: conv
  type: Convolution
  bottom: data
  convolution_param: {num_output: 4, kernel_size: 3, weight_filler: {type: xavier}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 10, weight_filler: {type: xavier}}}
"""
SCORED = """
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
- {name: accuracy, type: Accuracy, bottom: [ip, label]}
"""
SOURCES = {  # of each kind of data its layer, and the shape of an image
    "photos": (
        "ImageData, image_data_param: {source: photos.txt, batch_size: 20, new_height: 32, new_width: 32}",
        (3, 32, 32),
    ),
    "lmdb": (
        "Data, data_param: {source: photos_lmdb, backend: LMDB, batch_size: 16}, transform_param: {crop_size: 64}",
        (3, 64, 64),
    ),
    "hdf5": ("HDF5Data, hdf5_data_param: {source: hdf5.txt, batch_size: 12}", (3, 64, 64)),
    "idx": ("Data, data_param: {source: sample/mnist-test, batch_size: 20}", (1, 28, 28)),
}
SCRIPTS = {
    "forward": "import minicaffe as mc; mc.Net('{kind}.yaml').forward(end='data')",
    "train": "import minicaffe as mc; s = mc.Solver('{kind}_solver.yaml'); s.step(2)",
    "sys.exit": "import minicaffe as mc, sys; n = mc.Net('{kind}.yaml', phase='train'); n.forward(); sys.exit(0)",
    "pycaffe": "from minicaffe import pycaffe as caffe; n = caffe.Net('{kind}.yaml', caffe.TEST); n.forward()",
}


def make_data(folder: Path) -> None:
    """Photos, and the other files made of them, with a net, weights and a solver for each kind."""
    rng = np.random.default_rng(0)
    photos = []
    for number in range(PHOTOS):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(file, "jpeg", quality=90)
        photos.append(file.getvalue())
        Path(folder, f"{number}.jpg").write_bytes(photos[-1])
    Path(folder, "photos.txt").write_text("".join(f"{i % PHOTOS}.jpg {i % 10}\n" for i in range(60)))
    with lmdb.open(str(folder / "photos_lmdb"), map_size=1 << 30) as base, base.begin(write=True) as writing:
        for number in range(60):
            datum = message_class("Datum")(encoded=True, data=photos[number % PHOTOS], label=number % 10)
            writing.put(b"%08d" % number, datum.SerializeToString())
    for name in ("one.h5", "two.h5"):
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("data", data=rng.normal(size=(20, 3, 64, 64)), compression="gzip")
            file["label"] = np.arange(20) % 10
    Path(folder, "hdf5.txt").write_text("one.h5\ntwo.h5\n")
    for kind, (layer, shape) in SOURCES.items():
        Path(folder, f"{kind}.yaml").write_text(
            f"name: {kind}\nlayer:\n- {{name: data, top: [data, label], type: {layer}}}{CLASSIFIER}{SCORED}"
        )
        dims = ", ".join(map(str, (1, *shape)))
        Path(folder, f"{kind}_deploy.yaml").write_text(
            f"layer:\n- {{name: data, type: Input, input_param: {{shape: {{dim: [{dims}]}}}}}}{CLASSIFIER}"
        )
        Path(folder, f"{kind}_solver.yaml").write_text(
            f"net: {kind}.yaml\nbase_lr: 1.0e-9\nlr_policy: fixed\nmax_iter: 3\ntest_iter: 1\ntest_interval: 1\n"
        )
        with mc.Net(folder / f"{kind}.yaml") as net:
            net.save(folder / f"{kind}.npz")


def commands() -> Iterator[tuple[str, list[str]]]:
    """All kinds of commands and data in turn, for ever: what it is, and the command line."""
    lowrank = ["--batches", "1", "--calibration", "1", "--flops", "0.5"]
    given = {
        "test": ["test", "{kind}.yaml", "--weights", "{kind}.npz", "--iterations", "2"],
        "time": ["time", "{kind}.yaml", "--iterations", "2"],
        "classify": ["classify", "{kind}_deploy.yaml", "0.jpg", "--weights", "{kind}.npz"],
        "select": [
            "lowrank",
            "select",
            "{kind}.yaml",
            "--weights",
            "{kind}.npz",
            "-o",
            "{run}.yaml",
            *lowrank,
        ],
    }
    kinds = {f"minicaffe {name}": ["-m", "minicaffe.cli", *words] for name, words in given.items()}
    kinds |= {f"script: {name}": ["-c", code] for name, code in SCRIPTS.items()}
    for run in cycle(range(10**6)):
        for name, words in kinds.items():
            for kind in SOURCES:
                yield (
                    f"{name}, {kind}",
                    [word.replace("{kind}", kind).replace("{run}", f"low{run}") for word in words],
                )


def outcome(words: list[str], folder: Path) -> str:
    """ "" where the process ended by itself with status 0; or what it did."""
    environment = os.environ | {"MINICAFFE_DEVICE": "cpu"}
    try:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    return "" if done.returncode == 0 else f"status {done.returncode}: {done.stderr[-300:].strip()}"


def main(runs: int = 200, at_a_time: int = 2) -> int:
    """Run so many; print what failed. Returns their number."""
    start, failed, count = time.perf_counter(), Counter(), Counter()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(at_a_time) as pool:
        folder = Path(name)
        make_data(folder)
        chosen = list(islice(commands(), runs))
        for (what, _), problem in zip(chosen, pool.map(lambda c: outcome(c[1], folder), chosen), strict=True):
            count[what.partition(",")[0]] += 1
            if problem:
                failed[what] += 1
                print(f"{what}: {problem}", flush=True)
    print(", ".join(f"{number} {what}" for what, number in count.items()))
    print(f"{failed.total()} of {runs} runs failed ({time.perf_counter() - start:.0f} s)")
    return failed.total()


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])) > 0)
