"""Memory and time of a forward pass with ``share_memory``, beside without: ``python benchmarks/memory.py [NET …]``.

Blobs in MiB as the net's shapes say; seconds are medians of passes in turns, the ratio the median of their pairs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

import minicaffe as mc

PROTOTXT = Path(__file__).parent.parent / "prototxt"
ROWS = [
    "googlenet 1",
    "squeezenet_v1.1 1",
    "resnet50 1",
    "densenet121 1",
    "mobilenet_v2 1",
    "vgg16 1",
    "cifar10_vgg 100",
]
PASSES = 11


def net_of(name: str, batch: int, share: bool) -> mc.Net:
    """The net with random weights, for a batch of this size."""
    net = mc.Net(PROTOTXT / name / "deploy.yaml", seed=1, share_memory=share)
    rng = np.random.default_rng(1)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = (
                rng.standard_normal(blob.shape, np.float32) * (2 * blob.shape[0] / blob.count) ** 0.5
            )
    (only,) = net.inputs
    net.blobs[only].reshape(batch, *net.blobs[only].shape[1:])
    net.reshape()
    net.blobs[only].data[...] = rng.standard_normal(net.blobs[only].shape)
    return net


def seconds(net: mc.Net) -> float:
    """Of one pass."""
    start = time.perf_counter()
    net.run_forward()
    return time.perf_counter() - start


def row(name: str, batch: int) -> str:
    """A line of the table."""
    plain, shared = (net_of(name, batch, share) for share in (False, True))
    for net in (plain, shared):
        net.run_forward()
    with np.errstate(all="ignore"):
        times = [(seconds(plain), seconds(shared)) for _ in range(PASSES)]
    owners = {blob.data_owner for blob in plain.blobs.values()}
    blobs = sum(
        blob.stored.nbytes for blob in owners if blob.stored.base is None
    )  # the rest are parts of others
    ratio = median(b / a for a, b in times)
    ms = [median(column) * 1e3 for column in zip(*times, strict=True)]
    mib = [blobs / 2**20, shared.shared_bytes / 2**20]
    return f"| {name}, {batch} | {mib[0]:.1f} | {mib[1]:.1f} | {ms[0]:.1f} | {ms[1]:.1f} | {ratio:.2f} |"


def main() -> None:
    """Print the table."""
    print("| net, batch | blobs, MiB | shared | ms | shared | ratio |\n|---|---|---|---|---|---|")
    for given in sys.argv[1:] or ROWS:
        name, _, batch = given.partition(" ")
        print(row(name, int(batch or 1)), flush=True)


if __name__ == "__main__":
    main()
