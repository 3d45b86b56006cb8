"""How well the small SSD of prototxt/ssd_digits finds and reads the digits of scenes that it has not seen.

    python benchmarks/ssd_digits.py

Draws the scenes into data/digit_scenes and writes them as LMDBs, unless they are there, trains with
prototxt/ssd_digits/solver.yaml, and scores the weights on the 1,000 test scenes: the mean average precision of the
ten digits, of boxes that overlap the true ones by half or more, as each version computes it. Run it from the top of
the repository.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import minicaffe as mc
from minicaffe.cli.program import main as minicaffe
from minicaffe.device.workers import worker_count
from minicaffe.spec.solver import AP_VERSIONS
from minicaffe.train.scoring import score

SCENES, NET = Path("data/digit_scenes"), Path("prototxt/ssd_digits")
WEIGHTS = Path("snapshots/ssd_digits.npz")
BATCHES = 20


def write_scenes() -> None:
    """Draw the scenes and write the LMDBs that are not there."""
    if not SCENES.exists():
        subprocess.run([sys.executable, "prototxt/make_digit_scenes.py", "-o", str(SCENES)], check=True)
    for part in ("train", "test"):
        lmdb = SCENES / f"{part}_lmdb"
        given = ["--root", str(SCENES), "--label-map", str(SCENES / "labelmap.prototxt"), "--gray"]
        if not lmdb.exists() and minicaffe(
            ["data", "annotated", str(SCENES / f"{part}_boxes.txt"), *given, "-o", str(lmdb)]
        ):
            sys.exit(f"{lmdb} could not be written")


def main() -> None:
    """Train and score."""
    write_scenes()
    start = time.perf_counter()
    with mc.Solver(NET / "solver.yaml") as solver:
        solver.solve()
        solver.net.save(WEIGHTS)
        parameters = sum(blob.count for blobs in solver.net.params.values() for blob in blobs)
    minutes = (time.perf_counter() - start) / 60
    print(f"{parameters:,} parameters, trained in {minutes:.1f} minutes with {worker_count} workers")
    for version in AP_VERSIONS:
        with mc.Net(NET / "train.yaml", weights=WEIGHTS, phase="test") as net:
            found = score(net, BATCHES, lambda batch: True, version)
        assert found is not None
        (precisions,) = found.precisions.values()
        mean = sum(precisions.values()) / len(precisions)
        digits = " ".join(f"{label - 1}: {value:.3f}" for label, value in precisions.items())
        print(f"{version}: mAP {mean:.4f} ({digits})")


if __name__ == "__main__":
    main()
