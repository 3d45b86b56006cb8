"""Low rank on four nets: ranks and accuracy at given losses, and time against dense, PyTorch and Caffe.

    python benchmarks/lowrank.py select NET --drops 0.5% 1% 2%      choose ranks; accuracy on other test images
    python benchmarks/lowrank.py finetune NET --flops 0.25          a cheaper plan, its factors trained on labels
    python benchmarks/lowrank.py finetune NET --flops 0.25 --distill 1000      or by the dense net
    python benchmarks/lowrank.py peers NET --shares 0.5 0.3         beside SVD, Tucker-2 and AIMET, nothing trained
    python benchmarks/lowrank.py data NET                           the paper's experiment: rank of data matrices
    python benchmarks/lowrank.py time NET [--caffe PYTHON]          forward pass: batch 100 and batch 1
    python benchmarks/lowrank.py train NET                          a training step, and what it keeps for backward

NET is lenet, cifar10_quick, cifar10_full or cifar10_vgg. ``select``, ``finetune`` and ``peers`` need the full
data sets in data/ (``minicaffe data get``) and the weights in models/; plans go to benchmarks/plans/NET.json, where
``time`` and ``train`` find them. ``time`` and ``train`` want an idle machine; PyTorch and Caffe run in processes of
their own, in turns.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from lowrank_peers import Peers, compare
from lowrank_time import time_forward, time_training
from peer_specs import PLANS, PROTOTXT, SHAPES

import minicaffe as mc
from minicaffe.compress import shrunk
from minicaffe.compress.batches import draw
from minicaffe.compress.cost import FlopCost
from minicaffe.compress.distill import Lesson, own_batches
from minicaffe.compress.journal import Journal, fingerprint
from minicaffe.compress.selection import Selection, Selector
from minicaffe.compress.workbench import LayerRank, Workbench
from minicaffe.core.table import format_table
from minicaffe.files.atomic import write_text
from minicaffe.files.spec_formats import load_net
from minicaffe.spec.edit import set_layer_fields
from minicaffe.spec.net import parse_net

MODELS = PROTOTXT.parent / "models"
TRAIN_SPEC = {"lenet": "train_full.yaml"}
CHOSEN_ON, HELD_OUT, UNTOUCHED = 30, 20, 50  # of the 100 test batches; accuracies quoted are of the last


def select(args: argparse.Namespace) -> None:
    """Plans at several losses of accuracy, found without any training."""
    bench, selector = _selector(args.net)
    dense, rows = _accuracy(selector, {}), []
    kept = {"dense": dense, "plans": []}
    for drop in args.drops:
        found = selector.within_drop(drop)
        accuracy = _accuracy(selector, found.plan)
        kept["plans"].append(
            {"drop": drop, "accuracy": accuracy, "flops": bench.share(found.plan), "plan": _as_json(found)}
        )
        ranks = ", ".join(f"{n} {c.scheme[0].lower()}{c.rank}" for n, c in found.plan.items())
        held_out = found.held_out.accuracy - selector.dense["held out"].accuracy
        rows.append((f"{100 * drop:g}", f"{bench.share(found.plan):.3f}", f"{100 * accuracy:.2f}",
                     f"{100 * (accuracy - dense):+.2f}", f"{100 * held_out:+.2f}", ranks))  # fmt: skip
    PLANS.mkdir(exist_ok=True)
    write_text(PLANS / f"{args.net}.json", json.dumps(kept, indent=1) + "\n")
    head = ("points asked", "conv FLOPs", "accuracy", "points", "held out", "ranks (s: spatial, c: channel)")
    print(
        f"{args.net}: dense {100 * dense:.2f} % of the {100 * UNTOUCHED} test images that no choice has seen"
    )
    print(format_table(head, rows, right=(0, 1, 2, 3, 4)))


def finetune(args: argparse.Namespace) -> None:
    """A plan for given FLOPs; the accuracy before and after its factors learn from labels or from the dense net."""
    bench, selector = _selector(args.net)
    found, dense = selector.within_cost(args.flops), _accuracy(selector, {})
    before = _accuracy(selector, found.plan)
    path = _train_spec(args.net)
    text = shrunk.shrunk_text(path.read_text(), load_net(path), found.plan)
    with closing(mc.Net(parse_net(text, str(path)), phase="test")) as net:
        shrunk.fill(net, bench.original, bench.approximate(found.plan))
        start = time.perf_counter()
        how = _distill(bench, net, args.distill) if args.distill else _train(args.net, net)
        minutes = (time.perf_counter() - start) / 60
        after = bench.measure(selector.batches["untouched"], net).accuracy
        if args.save:
            net.save(MODELS / f"{args.net}_lowrank.npz")
            write_text(PROTOTXT / args.net / "train_lowrank.yaml", text)
    print(
        f"{args.net} at {bench.share(found.plan):.3f} of the convolutions' FLOPs: dense {100 * dense:.2f} %, "
        f"fitted {100 * before:.2f} ({100 * (before - dense):+.2f}), {how} {100 * after:.2f} "
        f"({100 * (after - dense):+.2f}) in {minutes:.1f} minutes"
    )


def _train(name: str, net: mc.Net) -> str:
    """Train a net on labels."""
    with mc.Solver(PROTOTXT / name / "solver_finetune.yaml", net=net.spec) as solver:
        solver.net.share_with(net)
        solver.solve()
        return f"fine-tuned for {solver.iter:,} iterations"


def _distill(bench: Workbench, net: mc.Net, iterations: int) -> str:
    """Train a net to answer as the dense one does."""
    with closing(own_batches(bench.spec)) as batches:
        Lesson(net, bench.original, batches).learn(iterations)
    return f"distilled for {iterations:,} iterations"


def peers(args: argparse.Namespace) -> None:
    """Ours beside other ways to low rank, at given FLOPs, without any training."""
    bench, selector = _selector(args.net)
    dense = _accuracy(selector, {})

    def ours(share: float) -> tuple[float, float]:
        plan = selector.within_cost(share).plan
        return bench.share(plan), _accuracy(selector, plan)

    others = Peers(bench, selector.batches, selector.journal)
    table = compare(others, args.shares, "untouched", dense, ours)
    print(
        f"{args.net}: dense {100 * dense:.2f} %; points of accuracy on {100 * UNTOUCHED} test images that no "
        "choice has seen (share of the convolutions' FLOPs)"
    )
    print(table)


def data(args: argparse.Namespace) -> None:
    """Data matrices of low rank, all convolutions but the first at the same fraction, nothing trained.

    Points of accuracy lost with the principal components of each batch (Osawa et al. 2017), with those of the
    calibration images, and with a basis fitted to the responses.
    """
    bench = Workbench(_train_spec(args.net), MODELS / f"{args.net}.npz")
    batches = draw(bench.original, args.batches)
    names = list(bench.candidates)[1:]
    some = batches[: args.per_batch]
    dense, dense_of_some = (bench.measure(part, bench.original).accuracy for part in (batches, some))
    rows = []
    for fraction in args.fractions:
        ranks = {name: bench.candidates[name].part_of_rank("DATA", fraction) for name in names}
        fields = {name: {"low_rank_param": {"rank": rank, "target": "data"}} for name, rank in ranks.items()}
        text = set_layer_fields(_train_spec(args.net).read_text(), fields)
        with closing(mc.Net(parse_net(text), weights=MODELS / f"{args.net}.npz", phase="test")) as net:
            drops = [bench.measure(some, net).accuracy - dense_of_some]
        for basis in ("DATA", "BASIS"):
            bench.approximate({name: LayerRank(basis, rank) for name, rank in ranks.items()})
            drops.append(bench.measure(batches).accuracy - dense)
        kept = sum(ranks.values()) / sum(bench.candidates[name].full_rank("DATA") for name in names)
        cells = (f"{100 * drop:+.2f}" for drop in drops)
        rows.append((f"{100 * (1 - kept):.1f} %", "-".join(map(str, ranks.values())), *cells))
    head = ("rank removed", "ranks", "each batch's components", "calibration's components", "fitted basis")
    print(f"{args.net}: dense {100 * dense:.2f} %; data matrices of {', '.join(names)}; points of accuracy")
    print(format_table(head, rows, right=(0, 2, 3, 4)))


def _train_spec(name: str) -> Path:
    return PROTOTXT / name / TRAIN_SPEC.get(name, "train.yaml")


def _selector(name: str) -> tuple[Workbench, Selector]:
    weights = MODELS / f"{name}.npz"
    bench = Workbench(_train_spec(name), weights)
    chosen_on, held_out, untouched = (draw(bench.original, n) for n in (CHOSEN_ON, HELD_OUT, UNTOUCHED))
    journal = Journal(
        Path("snapshots") / f"lowrank_{name}.journal.jsonl", fingerprint(weights, _train_spec(name))
    )
    selector = Selector(bench, chosen_on, held_out, FlopCost(bench), journal)
    selector.batches["untouched"] = untouched
    return bench, selector


def _accuracy(selector: Selector, plan: dict[str, LayerRank]) -> float:
    """Accuracy on the test images that took no part in choosing."""
    return selector.measure(plan, "untouched").accuracy


def _as_json(found: Selection) -> dict[str, list[Any]]:
    return {name: [choice.scheme, choice.rank] for name, choice in found.plan.items()}


def main() -> None:
    """Run one of the six."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, function in (
        ("select", select), ("finetune", finetune), ("peers", peers), ("data", data), ("time", time_forward),
        ("train", time_training),
    ):  # fmt: skip
        sub = commands.add_parser(name, help=function.__doc__)
        sub.add_argument("net", choices=list(SHAPES))
        sub.set_defaults(function=function)
        if function is select:
            sub.add_argument("--drops", nargs="+", default=[0.005, 0.01, 0.02],
                             type=lambda text: float(text.removesuffix("%")) / 100)  # fmt: skip
        if function is finetune:
            sub.add_argument("--flops", type=float, required=True)
            sub.add_argument(
                "--distill", type=int, metavar="ITERATIONS", help="by the dense net; default: on labels"
            )
            sub.add_argument("--save", action="store_true", help="into models/ and prototxt/")
        if function is peers:
            sub.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.3, 0.2, 0.15])
        if function is data:
            sub.add_argument("--fractions", type=float, nargs="+", default=[0.06, 0.08, 0.1, 0.15, 0.2, 0.3])
            sub.add_argument("--batches", type=int, default=50)
            sub.add_argument(
                "--per-batch", type=int, default=10, help="of them, for bases of each batch: slow"
            )
        if function in (time_forward, time_training):
            sub.add_argument("--rounds", type=int, default=15)
        if function is time_forward:
            sub.add_argument("--caffe", metavar="PYTHON", help="a Python that can import caffe")
        if function is time_training:
            sub.add_argument("--data-ranks", type=float, nargs="+", default=[0.02, 0.05])
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
