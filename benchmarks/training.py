"""A training step against another state of minicaffe: ``python benchmarks/training.py CHECKOUT``.

Dense nets and nets of low rank. Each state trains in a process of its own, and they take turns in short rounds. A
row has the median step of each and the median ratio of the paired rounds. (Beside PyTorch: ``peers.py``.)
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from peer_specs import SHAPES, training_spec
from peers import ROOT, Peer, machine, write_ours

LOW_RANK: dict[str, tuple[str, dict[str, Any]]] = {  # a net, and what all its convolutions but the first have
    "lenet": ("lenet", {}),
    "cifar10_quick": ("cifar10_quick", {}),
    "cifar10_quick: channel": ("cifar10_quick", {"rank": 16}),
    "cifar10_quick: spatial": ("cifar10_quick", {"rank": 16, "scheme": "spatial", "factored": True}),
    "cifar10_quick: data": ("cifar10_quick", {"rank": 32, "target": "data"}),
}


def compare(net: str, low_rank: dict[str, Any], args: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Seconds of a step of ours and of the other, one of each a round, after a round that does not count."""
    spec = training_spec(net, SHAPES[net][0])
    for layer in [layer for layer in spec["layer"] if layer["type"] == "Convolution"][1:]:
        layer.update({"low_rank_param": low_rank} if low_rank else {})
    with tempfile.TemporaryDirectory() as name:
        write_ours(Path(name), spec, is_training=True)
        peers = [
            Peer("ours", Path(name), PYTHONPATH=str(ROOT)),
            Peer("before", Path(name), PYTHONPATH=args.checkout),
        ]
        rounds = [[peer.run(args.seconds) for peer in peers] for _ in range(args.rounds + 1)][1:]
        for peer in peers:
            peer.close()
    own, other = zip(*rounds, strict=True)
    return list(own), list(other)


def main() -> None:
    """Print the table, a line as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", help="the folder of the other state, which has minicaffe/")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each in a round")
    args = parser.parse_args()
    print(f"{machine()}\n\n| net | batch | ms | before ms | ratio |\n|---|--:|--:|--:|--:|", flush=True)
    for title, (net, low_rank) in LOW_RANK.items():
        own, other = compare(net, low_rank, args)
        ratio = median(a / b for a, b in zip(own, other, strict=True))
        times = " | ".join(f"{median(seconds) * 1e3:.2f}" for seconds in (own, other))
        print(f"| {title} | {SHAPES[net][0]} | {times} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
