"""HDF5 files, .npz and .npy files and training states with random damage: each is read, or refused with one line.

    python -m tests.security.file_fuzz 10000 [first seed] [kind …]

reads so many damaged files of each kind. A library may crash or hang, so a child process reads them, many files
each, and says which it reads; where it dies or is silent, that file is the culprit, and another child goes on.
"""

from __future__ import annotations

import io
import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minicaffe as mc
from minicaffe.caffe.formats import solverstate
from minicaffe.data.mean import load_mean
from minicaffe.data.sources.hdf5 import open_hdf5
from minicaffe.data.sources.npz import open_npz
from minicaffe.errors import MinicaffeError
from tests import ROOT
from tests.security.caffe_fuzz import damaged
from tests.security.peak_memory import begin_peak, peak_memory

SECONDS = 300  # of silence, after which a reader counts as hanging; machines may be busy
GOLDEN = ROOT / "tests" / "golden" / "caffe"
WORDS = [
    b"\0",
    b"\xff",
    b"\xff" * 8,
    b"\0" * 8,
    b"\xff\xff\xff\x7f",
    b"\0\0\0\0\1\0\0\0",
    b"\0\0\1",
    b"TREE",
    b"SNOD",
    b"HEAP",
    b"GCOL",
    b"OHDR",
    b"PK\1\2",
    b"PK\3\4",
    b"PK\5\6",
    b"(True, 3)",
    b"(((((((",
    b"'descr': '|O'",
    b"'<f8'",
    b"'|S99999999'",
    b"(99999999999,)",
    b"-1",
    b"\x93NUMPY\2\0",
]
VALUES = [
    None,
    True,
    -1,
    0,
    10**30,
    -(10**30),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\0",
    "\ud800",
    "../x",
]
VALUES += [[], [[]], {}, {"state": None}, [1, "x"], "A" * 5000, [{}], [None]]
SPEC = """
layer:
- {name: data, type: DummyData, top: [data, cont], dummy_data_param: {shape: [{dim: [3, 2, 4]}, {dim: [3, 2]}],
   data_filler: {type: gaussian}}}
- {name: drop, type: Dropout, bottom: data}
- {name: rnn, type: RNN, bottom: [drop, cont], recurrent_param: {num_output: 3, weight_filler: {type: xavier}}}
- {name: ip, type: InnerProduct, bottom: rnn,
   inner_product_param: {num_output: 5, weight_filler: {type: xavier}}, low_rank_param: {rank: 2}}
- {name: sum, type: Reduction, loss_weight: 1}
"""
SOLVER = "net: net.yaml\ntype: Adam\nbase_lr: 0.01\nlr_policy: fixed\nrandom_seed: 1\nmax_iter: 9\n"
SOLVER += (
    "test_iter: 1\ntest_interval: 100\ntest_initialization: false\naverage_loss: 2\nsnapshot_prefix: run\n"
)
Damage = Callable[[bytes, np.random.Generator], bytes]


def raw(data: bytes, rng: np.random.Generator) -> bytes:
    """Wounds anywhere in the file."""
    return damaged(data, rng, WORDS)


def header(data: bytes, rng: np.random.Generator) -> bytes:
    """Wounds in the first bytes, where what is said of the numbers stands."""
    return damaged(data[:160], rng, WORDS) + data[160:]


def structure(data: bytes, rng: np.random.Generator) -> bytes:
    """Fields of one to eight bytes with other numbers, as many as are near: small, large, or places in the file."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        size = int(rng.choice([1, 2, 4, 8]))
        place = int(rng.integers(0, len(data) // size)) * size
        value = int(rng.choice([0, 1, 2, 3, 255, len(data), 2**31 - 1, 2**32 - 1, rng.integers(len(data))]))
        changed[place : place + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(changed)


def members(data: bytes, rng: np.random.Generator) -> bytes:
    """A whole archive, with a damaged array in it, or with arrays packed in another way."""
    out = io.BytesIO()
    packing = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2],
                         p=[0.4, 0.4, 0.1, 0.1])  # fmt: skip
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", int(packing)) as new:
        names = old.namelist()
        for name in names:
            content = old.read(name)
            if rng.random() < 1.5 / len(names):
                content = (header if rng.random() < 0.8 else raw)(content, rng)
            new.writestr(name if rng.random() < 0.97 else name[::-1], content)
    return out.getvalue()


def meta(data: bytes, rng: np.random.Generator) -> bytes:
    """A whole state, with something else in what it says of the run."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = dict(archive)
    text = str(arrays["meta"])
    held = json.loads(text)
    for _ in range(rng.choice([1, 1, 2])):
        _change(held, rng)
    kind = rng.random()
    changed = json.dumps(held)
    if kind < 0.1:
        changed = damaged(text.encode(), rng, [b"[", b"{", b'"', b"NaN", b"1e999", b"\\ud800"]).decode(
            errors="replace"
        )
    elif kind < 0.12:
        changed = "[" * int(rng.choice([10, 1000, 100000]))
    out = io.BytesIO()
    np.savez(out, **{**arrays, "meta": np.array(changed)})
    return out.getvalue()


def _change(held: Any, rng: np.random.Generator) -> None:
    """Put another value, or nothing, somewhere into dictionaries and lists."""
    places = [*held] if isinstance(held, dict) else range(len(held))
    if not len(places):
        return
    place = places[int(rng.integers(len(places)))]
    if isinstance(held[place], (dict, list)) and held[place] and rng.random() < 0.8:
        _change(held[place], rng)
    elif rng.random() < 0.2:
        del held[place]
    else:
        held[place] = VALUES[int(rng.integers(len(VALUES)))]


def hdf5_bytes(**options: Any) -> bytes:
    """Rows of images and labels, and a group with more."""
    import h5py

    out = io.BytesIO()
    numbers = np.arange(7 * 2 * 5, dtype=np.float64).reshape(7, 2, 5)
    with h5py.File(out, "w", libver=options.pop("libver", "earliest")) as file:
        file.create_dataset("data", data=numbers, **options)
        file.create_dataset("label", data=np.arange(7, dtype=np.int16), **options)
        file["more/data"] = numbers[0]
        file["soft"] = h5py.SoftLink("/more/data")
    return out.getvalue()


def npz_bytes(packed: bool = False, **arrays: np.ndarray) -> bytes:
    """An .npz file."""
    out = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(out, **arrays)
    return out.getvalue()


class Reader:
    """All kinds of files: good ones, the damage that is done to them, and what reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "net.yaml").write_text(SPEC)
        (folder / "solver.yaml").write_text(SOLVER)
        os.chdir(folder)  # where snapshots go
        self.solver = mc.Solver(folder / "solver.yaml")
        self.solver.step(2)
        state = self.solver.snapshot().read_bytes()
        weights_h5 = (GOLDEN / "current.caffemodel.h5").read_bytes()
        weights = (folder / "run_iter_2.npz").read_bytes()
        self.solver.step(1)
        (folder / "list.txt").write_text("data.h5\n")
        self.net = mc.Net(GOLDEN / "current.prototxt", phase="test")
        self.net.save(folder / "good.npz")
        images = {"data": np.arange(60, dtype=np.uint8).reshape(5, 3, 4), "label": np.arange(5)}
        mean = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        npy = io.BytesIO()
        np.save(npy, mean)
        self.kinds: dict[str, list[tuple[str, bytes, tuple[Damage, ...], Callable[[Path], object]]]] = {
            "hdf5-data": [
                ("data.h5", hdf5_bytes(**options), (raw, structure), self.read_data)
                for options in (
                    {},
                    {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True},
                    {"chunks": True, "compression": "lzf"},
                    {"chunks": True, "compression": "gzip", "libver": "latest"},
                )
            ],
            "hdf5-weights": [
                ("w.caffemodel.h5", weights_h5, (raw, structure), self.net.copy_from)
            ],
            "npz": [
                ("w.npz", (folder / "good.npz").read_bytes(), (raw, structure, members), self.net.copy_from),
                ("data.npz", npz_bytes(**images), (raw, structure, members), self.read_images),
                ("data.npz", npz_bytes(True, **images), (raw, structure, members), self.read_images),
                ("mean.npz", npz_bytes(mean=mean), (raw, structure, members), load_mean),
                ("mean.npy", npy.getvalue(), (raw, structure, header), load_mean),
            ],
            "states": [
                ("run_iter_2.solverstate.npz", state, (raw, structure, members, meta, meta, meta), self.restore),
                ("s.solverstate.h5", (GOLDEN / "SGD_iter_6.solverstate.h5").read_bytes(), (raw, structure),
                 solverstate.read_state),
            ],
        }  # fmt: skip
        (folder / "run_iter_2.npz").write_bytes(weights)
        for cases in self.kinds.values():
            for name, good, _, read in cases:
                (folder / name).write_bytes(good)
                read(folder / name)
        self.before = self.snapshot()

    def read_data(self, path: Path) -> None:
        """As the layer HDF5Data does, all rows of two data sets."""
        source = open_hdf5("list.txt", ["data", "label"], path.parent)
        source.read(np.arange(len(source))[:1000])

    def read_images(self, path: Path) -> None:
        """As the layer Data does."""
        source = open_npz(path)
        source.read(np.arange(len(source))[:1000])

    def restore(self, path: Path) -> None:
        """Go on from a state; where it is refused, nothing may have changed."""
        try:
            self.solver.restore(path)
        except MinicaffeError:
            assert self.snapshot() == self.before, "it was refused after something had changed"
            raise
        self.solver.step(1)  # what was taken can be trained with
        self.before = self.snapshot()

    def snapshot(self) -> str:
        """All that a restore may change."""
        solver = self.solver
        arrays = [blob.data for blobs in solver.net.params.values() for blob in blobs]
        arrays += [array for history in solver.history.values() for array in history]
        told = [mc.to_host(array).tobytes().hex() for array in arrays]
        nets = [net.state_dict() for net in (solver.net, *solver.test_nets)]
        return repr((told, nets, solver.iter, solver.seed, [float(loss) for loss in solver.losses]))

    def read(self, kind: str, seed: int) -> str:
        """Read the file of this seed; what was said of it, "" if it was read. Raises AssertionError for a fault."""
        rng = np.random.default_rng(seed)
        cases = self.kinds[kind]
        name, good, wounds, read = cases[seed % len(cases)]
        wound = wounds[int(rng.integers(len(wounds)))]
        path = self.folder / name
        path.write_bytes(wound(good, rng))
        said = ""
        try:
            read(path)
        except MinicaffeError as error:
            said = str(error)
        except Exception as error:
            raise AssertionError(
                f"{name}, {wound.__name__}: {type(error).__name__}: {str(error)[:300]}"
            ) from error
        assert len(said) < 1000 and "\n" not in said, f"{name}, {wound.__name__}: {said[:300]}"
        assert not said or said.startswith(str(self.folder)), f"{name}, {wound.__name__}: {said[:300]}"
        return said


def child(kind: str, first: int, last: int) -> None:
    """Read files, a line on each before and after."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(Path(folder))
        before = begin_peak()
        for seed in range(first, last):
            print(seed, end=" ", flush=True)
            try:
                said = reader.read(kind, seed)
                print("refused" if said else "read", flush=True)
            except AssertionError as error:
                print(f"fault {' '.join(str(error).split())}", flush=True)
        print(f"end {peak_memory() - before:.0f}", flush=True)
        os.chdir("/")


def run(kind: str, first: int, count: int) -> tuple[Counter[str], list[str], int]:
    """How many files were read and refused; the faults; the MiB by which memory grew at most."""
    found, faults, memory = Counter(), [], 0
    seed, last = first, first + count
    while seed < last:
        command = [
            sys.executable,
            "-m",
            "tests.security.file_fuzz",
            "--child",
            kind,
            str(seed),
            str(min(last, seed + 2500)),
        ]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            seed, grown, died = _listen(process, seed, found, faults)
            memory = max(memory, grown)
        if process.returncode == 1:
            raise AssertionError(f"the reader itself failed: {' '.join(command)}")
        if died:
            faults.append(f"{kind} {seed}: {died} (status {process.returncode})")
            seed += 1
    return found, faults, memory


def _listen(process: Any, seed: int, found: Counter[str], faults: list[str]) -> tuple[int, int, str]:
    """Follow a child to its end: the seed that comes next, or was its last; MiB grown; how it died, or ""."""
    handle, text, grown, ended = process.stdout.fileno(), b"", 0, False
    while True:
        if not select.select([handle], [], [], SECONDS)[0]:
            process.kill()
            return seed, grown, f"silent for {SECONDS} seconds"
        piece = os.read(handle, 65536)
        *lines, text = (text + piece).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == "end":
                grown, ended = int(rest), True
            else:
                seed = int(word) + 1
                found[rest.split()[0]] += 1
                faults += [f"{word}: {rest}"] if rest.startswith("fault") else []
        if not piece:
            return seed, grown, "" if ended else "died"


KINDS = ("hdf5-data", "hdf5-weights", "npz", "states")


def main(count: int, first: int = 0, kinds: tuple[str, ...] = KINDS) -> list[str]:
    """Print what became of so many files of each kind; return the faults."""
    faults = []
    for kind in kinds:
        start = time.perf_counter()
        found, bad, memory = run(kind, first, count)
        print(
            f"{kind}: {sum(found.values())} files, {found['refused']} refused, {found['read']} read, "
            f"{len(bad)} faults; memory grew by {memory} MiB; {time.perf_counter() - start:.0f} s",
            flush=True,
        )
        for fault in bad[:40]:
            print(f"  {fault}")
        faults += bad
    return faults


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        sys.exit(
            bool(
                main(
                    int(sys.argv[1]),
                    *map(int, sys.argv[2:3]),
                    *([tuple(sys.argv[3:])] if sys.argv[3:] else []),
                )
            )
        )
