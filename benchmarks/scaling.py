"""How the cost grows: ``python benchmarks/scaling.py batch|size|rank [--only NETS] [--mode training]``.

    batch   milliseconds an image, 1 to 256 images at once
    size    nanoseconds a pixel, images of 32 × 32 to 256 × 256 pixels
    rank    milliseconds a pass, convolutions but the first at 2 to 40 % of their rank (spatial), in inference

with one core and with two. Nothing should grow faster than its work: for twice the images no image should cost
more, for four times the pixels no pixel, and a rank no more than its multiply-adds. All points of a line take
turns, each in a process of its own, and a point is compared with the one before it by the median of the paired
ratios. Where it costs more than ``--allowed`` of what its work asks for, a line below says so, with the layers that
grew most in forward.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from peer_specs import image_shape, inference_spec, training_spec
from peers import ROOT, Peer, machine, write_ours

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SIZES = (32, 64, 128, 256)
RANKS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)  # beyond that the dense layer has less work
NETS = {
    "batch": [
        "lenet",
        "cifar10_quick",
        "cifar10_full",
        "cifar10_vgg",
        "caffenet",
        "resnet18",
        "mobilenet_v1",
    ],
    "size": ["cifar10_vgg", "squeezenet_v1.1"],  # whose last pooling takes an image of any size
    "rank": ["cifar10_vgg"],
}
LARGE = 128  # pixels: of larger images no more than MOST_LARGE at once
MOST_LARGE = 32
UNITS = {"batch": "ms an image", "size": "ns a pixel", "rank": "ms a pass"}


@dataclass
class Point:
    """A net of a line. ``work``: what its cost is held against; ``unit``: what its seconds are divided by."""

    label: str
    spec: dict[str, Any]
    work: float
    unit: float


def points(what: str, net: str, mode: str) -> Iterator[Point]:
    """The nets of a line."""
    make = training_spec if mode == "training" else inference_spec
    if what == "batch":
        is_large = image_shape(net)[-1] > LARGE
        for batch in BATCHES:
            if not is_large or batch <= MOST_LARGE:
                yield Point(str(batch), make(net, batch), batch, 1e-3 * batch)
    elif what == "size":
        for size in SIZES:
            spec = make(net, 1)
            spec["layer"][0]["input_param"]["shape"][0]["dim"][2:] = [size, size]
            yield Point(f"{size}²", spec, size**2, 1e-9 * size**2)
    else:
        dense = make(net, 64)
        yield Point("dense", dense, 0, 1e-3)
        for rank in RANKS:
            yield Point(f"{rank:.0%}", with_rank(dense, rank), 0, 1e-3)


def with_rank(dense: dict[str, Any], rank: float) -> dict[str, Any]:
    """The net with all its convolutions but the first of a rank, a share of the full one."""
    spec = copy.deepcopy(dense)
    for layer in [x for x in spec["layer"] if x["type"] == "Convolution"][1:]:
        layer["low_rank_param"] = {"rank": rank, "scheme": "spatial", "method": "randomized"}
    return spec


def measure(what: str, net: str, mode: str, args: argparse.Namespace) -> None:
    """Print the lines of a net, one for each number of cores, and what grew faster than its work."""
    found = list(points(what, net, mode))
    with ExitStack() as stack:
        peers: dict[int, list[Peer]] = {cores: [] for cores in args.cores}
        for point in found:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            work = write_ours(folder, point.spec, mode == "training")
            point.work = point.work or work
            for cores, own in peers.items():
                own.append(Peer("ours", folder, cores=cores, PYTHONPATH=str(ROOT)))
                stack.callback(own[-1].close)
        rounds = [
            {cores: [peer.run(args.seconds) for peer in own] for cores, own in peers.items()}
            for _ in range(args.rounds + 1)
        ][1:]
        notes = []
        for cores, own in peers.items():
            times = list(zip(*(each[cores] for each in rounds), strict=True))
            costs = [f"{median(t) / point.unit:.3g}" for t, point in zip(times, found, strict=True)]
            print(f"| {net} | {mode} | {cores} | {' | '.join(costs)} |", flush=True)
            first = 2 if what == "rank" else 1
            for i in range(first, len(found)):
                ratio = median(b / a for a, b in zip(times[i - 1], times[i], strict=True))
                growth = ratio / (found[i].work / found[i - 1].work)
                if growth > args.allowed:
                    step = f"{found[i - 1].label} → {found[i].label}"
                    layers = grown(own[i - 1], own[i], found[i].work / found[i - 1].work)
                    notes.append(f"{net}, {mode}, {cores} cores, {step}: {growth:.2f} ({layers})")
    print("\n".join(notes), end="\n" if notes else "", flush=True)


def grown(less: Peer, more: Peer, work: float) -> str:
    """The three layers that lose most by growing faster than the work."""
    before, after = less.ask("layers"), more.ask("layers")
    total = sum(after.values())
    lost = sorted(((after[name] - work * before[name]) / total, name) for name in after)[:-4:-1]
    return ", ".join(
        f"{name} {after[name] / before[name] / work:.2f}, {share:.0%} of forward" for share, name in lost
    )


def main() -> None:
    """Print a table, a line as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=list(NETS))
    parser.add_argument("--only", default="", metavar="NETS", help="cifar10_vgg,lenet")
    parser.add_argument("--mode", choices=["training", "inference"], help="default: both")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each point in a round")
    parser.add_argument("--allowed", type=float, default=1.1)
    args = parser.parse_args()
    print(f"{machine()}; {UNITS[args.what]}\n", flush=True)
    modes = [args.mode] if args.mode else ["inference"] if args.what == "rank" else ["inference", "training"]
    nets = args.only.split(",") if args.only else NETS[args.what]
    last: list[str] = []
    for net in nets:
        for mode in modes:
            labels = [point.label for point in points(args.what, net, mode)]
            if labels != last:
                print(f"| net | | cores | {' | '.join(labels)} |\n|---|---|{'--:|' * (len(labels) + 1)}")
            last = labels
            measure(args.what, net, mode, args)


if __name__ == "__main__":
    main()
