"""How well the small SegNet of prototxt/segnet_digits names the pixels of scenes of digits that it has not seen.

    python benchmarks/segnet_digits.py

Draws the scenes into data/digit_scenes unless they are there, trains with prototxt/segnet_digits/solver.yaml, makes
weights for use, and scores both on the 1,000 test scenes: the share of pixels that are right, and the mean over the
classes of the share of each one's pixels. As trained, the net normalises batches of 50 scenes by their own
statistics; for use it does not, and an answer depends on its scene alone. Run it from the top of the repository.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import minicaffe as mc

SCENES, NET = Path("data/digit_scenes"), Path("prototxt/segnet_digits")
WEIGHTS, FOR_USE = Path("snapshots/segnet_digits.npz"), Path("snapshots/segnet_digits_for_use.npz")
CLASSES, BATCHES = 11, 20


def main() -> None:
    """Train and score."""
    if not SCENES.exists():
        subprocess.run([sys.executable, "prototxt/make_digit_scenes.py", "-o", str(SCENES)], check=True)
    start, used = time.perf_counter(), time.process_time()
    with mc.Solver(NET / "solver.yaml") as solver:
        solver.solve()
        solver.net.save(WEIGHTS)
        parameters = sum(blob.count for blobs in solver.net.params.values() for blob in blobs)
    minutes, used = (time.perf_counter() - start) / 60, (time.process_time() - used) / 60
    print(f"{parameters:,} parameters, trained in {minutes:.1f} minutes, {used:.1f} of processor time")
    with mc.Net(NET / "train.yaml", weights=WEIGHTS, phase="train", seed=1) as net:
        runpy.run_path("prototxt/average_bn.py")["average"](net, 100)
        net.save(FOR_USE)
    for_use = mc.Net(NET / "deploy.yaml", weights=FOR_USE)
    counts = np.zeros((2, CLASSES, CLASSES), int)  # pixels, by their class and by that which a net gives them
    with mc.Net(NET / "train.yaml", weights=WEIGHTS, phase="test") as net:
        for _ in range(BATCHES):
            net.forward()
            images, labels = (net.blobs[name].data for name in ("data", "label"))
            for_use.blobs["data"].reshape(*images.shape)
            given = net.blobs["scores"].data.argmax(axis=1), for_use.forward(data=images)["classes"]
            for count, classes in zip(counts, given, strict=True):
                np.add.at(count, (labels.astype(int).reshape(-1), classes.astype(int).reshape(-1)), 1)
    for name, count in zip(("as trained", "for use"), counts, strict=True):
        of_class = count.diagonal() / count.sum(axis=1)
        print(
            f"{name}: pixels {count.diagonal().sum() / count.sum():.4f}, mean of classes {of_class.mean():.4f}"
        )
        print("  of each class: " + " ".join(f"{share:.3f}" for share in of_class))


if __name__ == "__main__":
    main()
