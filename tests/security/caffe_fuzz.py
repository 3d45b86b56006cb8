"""Caffe's files with random damage: each is read, or refused with one clear line. As a script, as many as you like:

python -m tests.security.caffe_fuzz 10000 [first seed]
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

import minicaffe as mc
from minicaffe.caffe.formats.messages import parse_message
from minicaffe.caffe.formats.specs import net_tree
from minicaffe.caffe.formats.yaml_text import yaml_text
from minicaffe.core import graph
from minicaffe.core.layer import layer_classes
from minicaffe.data.mean import load_mean
from minicaffe.errors import MinicaffeError
from minicaffe.files.spec_formats import open_net, open_solver
from minicaffe.spec.net import make_state, parse_net
from tests.security.peak_memory import begin_peak, peak_memory

GOLDEN = Path(__file__).parents[1] / "golden" / "caffe"
SECONDS = 5
WORDS = [
    b"{",
    b"}",
    b"<",
    b">",
    b"[",
    b"]",
    b":",
    b",",
    b"-",
    b'"',
    b"'",
    b"\\",
    b"#",
    b"\n",
    b"\0",
    b"\xff",
    b"0x",
    b"1e999",
    b"99999999999999999999",
    b"-1",
    b"nan",
    b"layer {",
    b"layers {",
    b"type: CONVOLUTION",
    b'name: ""',
    b"dim: 0",
    b"input: 'data'",
    b"input_dim: 1",
    b"param {",
    b"layer { type: 'padding' }",
    b"\\377",
    b"\\ud800",
]
CODES = [
    b"\xff" * 9 + b"\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\x80" * 11,
    b"\x0b",
    b"\x0c",
    b"\x06",
    b"\x00",
    b"\x7f",
    b"\xfa\x01",
]
SOLVER = (
    b"net: 'net.prototxt' type: 'Adam' base_lr: 0.1 lr_policy: 'multistep' gamma: 0.5 stepvalue: 3 stepvalue: 9\n"
    b"test_net_param { layers { name: 'r' type: RELU } } test_iter: 1 test_interval: 0x10\n"
    b"solver_mode: CPU display: 010"
)


FORKS = b"""name: "forks" default_forward_type: FLOAT16
input: "data" input_dim: 1 input_dim: 2 input_dim: 6 input_dim: 6
layer { name: "c" type: "Convolution" bottom: "data" top: "c" quantization_param { scale_in: 0.5 }
        convolution_param { num_output: 4 kernel_size: 1 engine: MKL2017 } }
layer { name: "n" type: "Normalize" bottom: "c" top: "n"
        norm_param { scale_filler { value: 20 } channel_shared: 0 } }
layer { name: "p" type: "PriorBox" bottom: "n" bottom: "data" top: "p" prior_box_param { min_size: 3 clip: 1 } }
layer { name: "l" type: "Permute" bottom: "c" top: "l" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "f" type: "Flatten" bottom: "l" top: "f" }
layer { name: "d" type: "DetectionOutput" bottom: "f" bottom: "f" bottom: "p" top: "d"
        detection_output_param { num_classes: 4 code_type: 2 clip: 1 nms_param { top_k: 9 }
                                 save_output_param { output_directory: "x" resize_param { resize_mode: WARP } } } }
"""
CROP = b"""name: "crop" input: "data" input_dim: 1 input_dim: 1 input_dim: 9 input_dim: 9
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c"
         convolution_param { num_output: 1 kernel_size: 3 pad: 7 } }
layers { name: "p" type: POOLING bottom: "c" top: "p" pooling_param { kernel_h: 2 kernel_w: 2 stride: 2 } }
layers { name: "u" type: DECONVOLUTION bottom: "p" top: "u"
         convolution_param { num_output: 1 kernel_size: 4 stride: 2 } }
layers { name: "y" type: CROP bottom: "u" bottom: "data" top: "y" }
layers { name: "z" type: INTERP bottom: "y" top: "z" interp_param { zoom_factor: 2 } }
"""


def forks_model(net: mc.Net) -> bytes:
    """The net's layers and weights, these as bytes of 16 and 32 bits, as forks write them."""
    with tempfile.TemporaryDirectory() as folder:
        net.save(Path(folder, "n.caffemodel"))
        model = parse_message("NetParameter", Path(folder, "n.caffemodel").read_bytes())
    for layer in model.layer:
        for i, blob in enumerate(layer.blobs):
            array = np.array(blob.data, "<f4" if i else "<f2")
            blob.ClearField("data")
            blob.raw_data, blob.raw_data_type = array.tobytes(), 1 if i else 2
    return model.SerializeToString()


def damaged(data: bytes, rng: np.random.Generator, words: list[bytes]) -> bytes:
    """The bytes with one to three wounds."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        place = int(rng.integers(0, len(data) + 1))
        length = int(rng.integers(0, 1 + rng.choice([4, 40, len(data)])))
        before, piece, after = data[:place], data[place : place + length], data[place + length :]
        word = words[rng.integers(len(words))]
        flipped = bytes(byte ^ 1 << rng.integers(8) for byte in piece[:1])
        wounds = {
            before: 0.1,
            before + after: 0.15,
            before + piece + piece + after: 0.1,
            before + word + piece + after: 0.15,
            before + word + after: 0.1,
            before + 3000 * word + piece + after: 0.05,
            before + flipped + piece[1:] + after: 0.3,
            before + rng.bytes(len(piece[:64])) + piece[64:] + after: 0.05,
        }
        odds = np.array([*wounds.values()])
        data = [*wounds][rng.choice(len(wounds), p=odds / odds.sum())]
    return data


def read_net(path: Path) -> None:
    """All that a net goes through before its layers are made; and its YAML twin."""
    spec = open_net(path)
    parse_net(yaml_text(net_tree(path), spec, "damaged"))
    for phase in ("train", "test"):
        graph.connect(spec.layers_in(make_state(phase)), layer_classes)


class Reader:
    """What reads each kind of file; nets and a solver are made once, from good files."""

    def __init__(self) -> None:
        nets = {name: mc.Net(GOLDEN / f"{name}.prototxt") for name in ("v0", "v1", "current")}
        text = f"net: '{GOLDEN / 'train.prototxt'}' type: 'Adam' base_lr: 0.1 lr_policy: 'fixed'"
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "solver.prototxt").write_text(text)
            solver = mc.Solver(Path(folder, "solver.prototxt"))
            Path(folder, "forks.prototxt").write_bytes(FORKS)
            detector = mc.Net(Path(folder, "forks.prototxt"), phase="test")
        forks = forks_model(detector)
        weights = GOLDEN / "Adam_iter_6.caffemodel"
        self.kinds: list[tuple[str, bytes, Callable[[Path], object]]] = [
            *(
                (f"{n}.prototxt", (GOLDEN / f"{n}.prototxt").read_bytes(), read_net)
                for n in ("v0", "v1", "current")
            ),
            ("solver.prototxt", SOLVER, open_solver),
            *(
                (f"{n}.caffemodel", (GOLDEN / f"{n}.caffemodel").read_bytes(), net.copy_from)
                for n, net in nets.items()
            ),
            ("current.caffemodel", (GOLDEN / "current.caffemodel").read_bytes(), open_net),
            (
                "Adam.solverstate",
                (GOLDEN / "Adam_iter_6.solverstate").read_bytes(),
                lambda path: solver.restore(path, weights),
            ),
            ("mean.binaryproto", (GOLDEN / "mean.binaryproto").read_bytes(), load_mean),
            ("forks.prototxt", FORKS, read_net),
            ("crop.prototxt", CROP, read_net),
            ("forks.caffemodel", forks, open_net),
            ("raw.caffemodel", forks, detector.copy_from),
        ]
        with tempfile.TemporaryDirectory() as folder:
            for name, good, read in self.kinds:
                Path(folder, name).write_bytes(good)
                read(Path(folder, name))

    def read(self, seed: int, folder: Path) -> tuple[str, str]:
        """Damage a file by this seed and read it; its name, and what was said of it ("" if it was read).

        Raises AssertionError for anything but a clear line in time.
        """
        rng = np.random.default_rng(seed)
        name, good, read = self.kinds[seed % len(self.kinds)]
        path = folder / name
        path.write_bytes(damaged(good, rng, WORDS if name.endswith(".prototxt") else CODES))
        start, said = time.process_time(), ""  # of this process, however busy the machine is
        try:
            read(path)
        except MinicaffeError as error:
            said = str(error)
        except Exception as error:
            raise AssertionError(
                f"seed {seed}, {name}: {type(error).__name__}: {str(error)[:300]}"
            ) from error
        assert time.process_time() - start < SECONDS, f"seed {seed}, {name}: too slow"
        shown = f"seed {seed}, {name}: {said[:300]}"
        assert len(said) < 3000, shown
        assert not said or said.startswith(str(path)) or name == "solver.prototxt", shown
        return name, said


def main(count: int, first: int = 0) -> None:
    """Read so many damaged files, and print how many of each kind were refused."""
    logging.disable(logging.CRITICAL)
    reader, read, refused = Reader(), Counter(), Counter()
    before = begin_peak()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + count):
            name, said = reader.read(seed, Path(folder))
            read[name] += 1
            refused[name] += bool(said)
    for name, number in read.items():
        print(f"{name}: {refused[name]} of {number} refused")
    print(f"memory grew by {peak_memory() - before:.0f} MiB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
