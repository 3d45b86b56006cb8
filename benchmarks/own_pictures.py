"""How far 200 pictures of one's own go: ``minicaffe new``, ``train``, ``classify`` and ``test`` on folders of them.

    python benchmarks/own_pictures.py [CIFAR10.zip] [--test 250]

The figures of docs/images.md. The zip holds train/<class>/*.jpg and test/<class>/*.jpg. From it come folders of 50
pictures of each of four classes, and of 100 cats and 100 dogs; without it there are only 20 of each digit of the
bundled sample. For each folder it prints how long each command took, and how often the net is right about other
pictures, ``--test`` of each class.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from minicaffe.data.sources.idx import read_idx

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "minicaffe" / "data" / "sample"
FOLDERS = {  # of CIFAR-10: the classes, and how many pictures of each
    "photos of 4 classes": (("airplane", "automobile", "frog", "horse"), 50),
    "cats and dogs": (("cat", "dog"), 100),
}
DIGITS = 20
ACCURACY = re.compile(r"^Accuracy .*", re.MULTILINE)


def main() -> None:
    """Print a line for each folder of pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("zip", nargs="?", help="CIFAR-10 as image files")
    parser.add_argument("--test", type=int, default=250, help="other pictures of each class (default: 250)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name, folder in _folders(Path(temporary), args.zip, args.test):
            print(f"{name}: {_measured(folder)}", flush=True)


def _folders(place: Path, archive: str | None, test: int) -> Iterator[tuple[str, Path]]:
    """Folders with ``train`` and ``test``, each of which has a folder of pictures for each class."""
    if archive is None or not Path(archive).is_file():
        print("photos: left out, as there is no CIFAR-10 as a zip of image files; give its path")
    else:
        for number, (name, (classes, count)) in enumerate(FOLDERS.items()):
            folder = place / f"photos{number}"
            with zipfile.ZipFile(archive) as members:
                for part, most in (("train", count), ("test", test)):
                    for label in classes:
                        _unpack(members, folder, part, label, most)
            yield f"{name}, {count} each", folder
    folder = place / "digits"
    for part, source, most in (("train", "mnist-train", DIGITS), ("test", "mnist-test", test)):
        _write_digits(folder / part, source, most)
    yield f"digits, {DIGITS} each", folder


def _unpack(members: zipfile.ZipFile, folder: Path, part: str, label: str, most: int) -> None:
    names = sorted(name for name in members.namelist() if re.search(rf"(^|/){part}/{label}/[^/]+$", name))
    target = folder / part / label
    target.mkdir(parents=True)
    for name in names[:most]:
        (target / Path(name).name).write_bytes(members.read(name))


def _write_digits(folder: Path, source: str, most: int) -> None:
    images, labels = (
        read_idx(SAMPLE / f"{source}-{what}-ubyte.gz") for what in ("images-idx3", "labels-idx1")
    )
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        for i in np.flatnonzero(labels == digit)[:most]:
            Image.fromarray(images[i]).save(folder / str(digit) / f"{i}.png")


def _measured(folder: Path) -> str:
    """Seconds of each command, and the accuracy on the other pictures."""
    project = folder / "net"
    seconds = {"new": _run("new", project, "--images", folder / "train")[0]}
    seconds["train"] = _run("train", project / "solver.yaml")[0]
    (weights,) = (path for path in project.glob("solver_iter_*.npz") if "solverstate" not in path.name)
    picture = next((folder / "test").glob("*/*"))
    seconds["classify"] = _run("classify", project / "deploy.yaml", "--weights", weights, picture)[0]
    classes = (project / "classes.txt").read_text(encoding="utf-8").split()
    others = (
        f"../test/{label}/{path.name} {number}\n"
        for number, label in enumerate(classes)
        for path in sorted((folder / "test" / label).iterdir())
    )
    (project / "validation.txt").write_text("".join(others), encoding="utf-8")
    _, said = _run("test", project / "train.yaml", "--weights", weights, "--confusion")
    found = ACCURACY.search(said)
    times = ", ".join(f"{command} {took:.1f} s" for command, took in seconds.items())
    return f"{found[0] if found else said}; {times}"


def _run(*words: str | Path) -> tuple[float, str]:
    """The time that a command took, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "minicaffe", *map(str, words)], cwd=ROOT, text=True, capture_output=True
    )
    if done.returncode:
        raise SystemExit(f"minicaffe {' '.join(map(str, words))}: {done.stderr.strip()}")
    return time.perf_counter() - start, done.stdout


if __name__ == "__main__":
    main()
