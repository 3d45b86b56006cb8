"""Low rank on four nets: ranks and accuracy at given losses, and time against dense, PyTorch and Caffe.

    python benchmarks/lowrank.py select NET --drops 0.5% 1% 2%      choose ranks; accuracy on other test images
    python benchmarks/lowrank.py plan NET                           what is predicted to be lost, and what is
    python benchmarks/lowrank.py finetune NET --flops 0.25          a cheaper plan, its factors trained on labels
    python benchmarks/lowrank.py finetune NET --flops 0.25 --distill 1000      or by the dense net
    python benchmarks/lowrank.py peers NET --shares 0.5 0.3         beside SVD, Tucker-2 and AIMET, nothing trained
    python benchmarks/lowrank.py data NET                           the paper's experiment: rank of data matrices
    python benchmarks/lowrank.py time NET [--caffe PYTHON]          forward pass: batch 100 and batch 1
    python benchmarks/lowrank.py train NET                          a training step, and what it keeps for backward

NET is lenet, cifar10_quick, cifar10_full or cifar10_vgg; for ``plan`` also resnet18, with random weights. All but
``time`` and ``train`` need the full data sets in data/ (``minicaffe data get``) and the weights in models/; plans
go to benchmarks/plans/NET.json, where ``time`` and ``train`` find them. These two want an idle machine; PyTorch
and Caffe run in processes of their own, in turns.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from lowrank_peers import Peers, compare
from lowrank_time import time_forward, time_training
from peer_specs import PLANS, PROTOTXT, SHAPES

import minicaffe as mc
from minicaffe.cli.commands.lowrank import PLAN_WORK
from minicaffe.cli.flags import share
from minicaffe.compress import forecast, shrunk
from minicaffe.compress.batches import Batch, first_images, run
from minicaffe.compress.cost import FlopCost, TimeCost
from minicaffe.compress.distill import Lesson, own_batches
from minicaffe.compress.journal import Journal, fingerprint
from minicaffe.compress.pictures import Pictures
from minicaffe.compress.plan import LayerRank, Plan
from minicaffe.compress.prediction import Prediction
from minicaffe.compress.score import Change, Measured
from minicaffe.compress.selection import Selection, Selector
from minicaffe.compress.suitable import PARAM_OF_TYPE
from minicaffe.compress.workbench import Workbench
from minicaffe.core.table import format_table
from minicaffe.files.atomic import write_text
from minicaffe.files.spec_formats import load_net
from minicaffe.spec.edit import set_layer_fields
from minicaffe.spec.net import parse_net

MODELS = PROTOTXT.parent / "models"
TRAIN_SPEC = {"lenet": "train_full.yaml"}
PEERS_CHOSEN_ON = 30  # test batches: each of AIMET's scores takes a pass over them
PROBE_BATCHES = 5  # that losses are predicted from
CHOSEN_ON, UNTOUCHED = 50, 50  # of the 100 test batches; accuracies quoted are of the last


@dataclass
class Study:
    """A net on the bench: plans are chosen on some batches, and accuracies are those of others."""

    bench: Workbench
    selector: Selector
    journal: Journal
    batches: dict[str, list[Batch]]
    seconds: float  # that making all this took

    def measured(self, plan: Plan) -> Measured:
        """What a plan does on the test images that took no part in choosing."""
        key = ["untouched", sorted((name, choice.scheme, choice.rank) for name, choice in plan.items())]
        known = self.journal.get(key)
        if known is None:
            self.bench.approximate(plan)
            known = asdict(self.bench.measure(self.batches["untouched"]))
            self.journal.note(key, known)
        return Measured(**{name: tuple(values) for name, values in known.items()})

    def accuracy(self, plan: Plan) -> float:
        """The accuracy on these."""
        return self.measured(plan).score


def _study(name: str) -> Study:
    start, weights = time.perf_counter(), MODELS / f"{name}.npz"
    bench = Workbench(_train_spec(name), weights)
    batches = {"chosen on": bench.draw(CHOSEN_ON), "untouched": bench.draw(UNTOUCHED)}
    path = Path("snapshots") / f"lowrank_{name}.journal.jsonl"
    journal = Journal(path, fingerprint(weights, _train_spec(name)))
    prediction = Prediction(bench, batches["chosen on"][:PROBE_BATCHES])
    selector = Selector(bench, batches["chosen on"], prediction, FlopCost(bench), journal)
    return Study(bench, selector, journal, batches, time.perf_counter() - start)


def select(args: argparse.Namespace) -> None:
    """Plans at several losses of accuracy, found without any training."""
    study, rows = _study(args.net), []
    bench, selector, dense = study.bench, study.selector, study.measured({})
    kept = {"dense": dense.score, "plans": []}
    for drop in args.drops:
        start = time.perf_counter()
        found = selector.within_drop(drop)
        seconds, measured = time.perf_counter() - start, study.measured(found.plan)
        flops = FlopCost(bench).share(found.plan)
        kept["plans"].append(
            {
                "drop": drop,
                "accuracy": measured.score,
                "flops": flops,
                "plan": _as_json(found),
            }
        )
        ranks = ", ".join(f"{n} {c.scheme[0].lower()}{c.rank}" for n, c in found.plan.items())
        rows.append((f"{100 * drop:g}", f"{flops:.3f}", f"{100 * measured.score:.2f}",
                     _points(measured.change_from(dense)), _points(found.measured.change_from(selector.dense)),
                     _points(found.measured.expected), f"{seconds:.0f}", ranks))  # fmt: skip
    PLANS.mkdir(exist_ok=True)
    write_text(PLANS / f"{args.net}.json", json.dumps(kept, indent=1) + "\n")
    head = ("points asked", "conv FLOPs", "accuracy", "points", "chosen on", "expected there", "seconds",
            "ranks (s: spatial, c: channel)")  # fmt: skip
    print(
        f"{args.net}: dense {100 * dense.score:.2f} % of the {100 * UNTOUCHED} test images that no choice has seen"
    )
    print(format_table(head, rows, right=range(7)))


def _points(change: Change) -> str:
    return str(change).removesuffix(" points")


def finetune(args: argparse.Namespace) -> None:
    """A plan for given FLOPs; the accuracy before and after its factors learn from labels or from the dense net."""
    study = _study(args.net)
    bench, found, dense = study.bench, study.selector.within_cost(args.flops), study.accuracy({})
    before = study.accuracy(found.plan)
    path = _train_spec(args.net)
    text = shrunk.shrunk_text(path.read_text(), load_net(path), found.plan)
    with closing(mc.Net(parse_net(text, str(path)), phase="test")) as net:
        shrunk.fill(net, bench.original, bench.approximate(found.plan))
        start = time.perf_counter()
        how = _distill(bench, net, args.distill) if args.distill else _train(args.net, net)
        minutes = (time.perf_counter() - start) / 60
        after = bench.measure(study.batches["untouched"], net).score
        if args.save:
            net.save(MODELS / f"{args.net}_lowrank.npz")
            write_text(PROTOTXT / args.net / "train_lowrank.yaml", text)
    flops = FlopCost(bench).share(found.plan)
    print(
        f"{args.net} at {flops:.3f} of the convolutions' FLOPs: dense {100 * dense:.2f} %, "
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
    study = _study(args.net)
    dense = study.accuracy({})

    def ours(share: float) -> tuple[float, float]:
        plan = study.selector.within_cost(share).plan
        return FlopCost(study.bench).share(plan), study.accuracy(plan)

    some = {**study.batches, "chosen on": study.batches["chosen on"][:PEERS_CHOSEN_ON]}
    others = Peers(study.bench, some, study.journal)
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
    batches = bench.draw(args.batches)
    names = list(bench.candidates)[1:]
    some = batches[: args.per_batch]
    dense, dense_of_some = (bench.measure(part, bench.original).score for part in (batches, some))
    rows = []
    for fraction in args.fractions:
        ranks = {name: bench.candidates[name].part_of_rank("DATA", fraction) for name in names}
        fields = {name: {"low_rank_param": {"rank": rank, "target": "data"}} for name, rank in ranks.items()}
        text = set_layer_fields(_train_spec(args.net).read_text(), fields)
        with closing(mc.Net(parse_net(text), weights=MODELS / f"{args.net}.npz", phase="test")) as net:
            drops = [bench.measure(some, net).score - dense_of_some]
        for basis in ("DATA", "BASIS"):
            bench.approximate({name: LayerRank(basis, rank) for name, rank in ranks.items()})
            drops.append(bench.measure(batches).score - dense)
        kept = sum(ranks.values()) / sum(bench.candidates[name].full_rank("DATA") for name in names)
        cells = (f"{100 * drop:+.2f}" for drop in drops)
        rows.append((f"{100 * (1 - kept):.1f} %", "-".join(map(str, ranks.values())), *cells))
    head = ("rank removed", "ranks", "each batch's components", "calibration's components", "fitted basis")
    print(f"{args.net}: dense {100 * dense:.2f} %; data matrices of {', '.join(names)}; points of accuracy")
    print(format_table(head, rows, right=(0, 2, 3, 4)))


def plan(args: argparse.Namespace) -> None:
    """What is predicted that plans lose, against what they lose, and how long both take."""
    make, count = partial(Workbench, _train_spec(args.net), MODELS / f"{args.net}.npz"), CHOSEN_ON
    if args.net == "resnet18":
        make, count = _seeded(args.net), 4
    start = time.perf_counter()
    bench = make(most_work=PLAN_WORK)  # as ``minicaffe lowrank plan``
    tried = 1 if args.net == "resnet18" else 2
    batches = bench.draw(tried)
    prediction = Prediction(bench, batches, probed=(0.01, 0.1))
    rows = forecast.rows(bench, prediction, forecast.SHARES, TimeCost(bench, first_images(batches[0], 8)))
    ready = time.perf_counter() - start
    print(f"{forecast.table(bench, rows)}\nthe table took {ready:.0f} s", flush=True)
    bench = make()
    batches = bench.draw(tried + count)[tried:]
    dense, found = bench.measure(batches, bench.original), []
    for row in rows:
        bench.approximate(row.plan)
        found.append(bench.measure(batches))
    cells = []
    for row, m in zip(rows, found, strict=True):
        points = (row.drop, -m.expected.mean, -m.change_from(dense).mean)
        cells.append((f"{row.share:g}", *(f"{100 * x:.2f}" for x in points), f"{m.loss - dense.loss:.4f}"))
    print(format_table(("FLOPs", "predicted points", "expected", "counted", "loss"), cells, right=range(5)))
    predicted, losses = [row.drop for row in rows], [m.loss for m in found]
    errors = [abs(row.drop + m.expected.mean) for row, m in zip(rows, found, strict=True)]
    took = time.perf_counter() - start - ready
    print(
        f"{args.net}: rank correlation of predicted and measured loss {_rank_correlation(predicted, losses):.3f}; "
        f"predicted points are off by {100 * median(errors):.2f} (median), {100 * max(errors):.2f} at most, from "
        f"those that are expected once measured, which took {took:.0f} s more"
    )


def _seeded(name: str) -> Callable[..., Workbench]:
    """What makes a bench of a deploy net with random weights, with the CIFAR-10 test images as pictures for it.

    BatchNorm has the statistics of twenty of them.
    """
    path, weights = PROTOTXT / name / "deploy.yaml", Path("snapshots") / f"{name}_seeded.npz"
    fillers = {
        layer.name: {f"{PARAM_OF_TYPE[layer.type]}.weight_filler": {"type": "msra"}}
        for layer in load_net(path).layer
        if layer.type in PARAM_OF_TYPE
    }
    spec = parse_net(set_layer_fields(path.read_text(), fillers), str(path))

    def pictures(net: mc.Net) -> Pictures:
        return Pictures(net, "data/cifar10/test")

    with closing(mc.Net(spec, phase="train", seed=1)) as net:
        run(net, pictures(net).draw(1)[0])
        net.save(weights)
    return partial(Workbench, spec, weights, images=pictures)


def _rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's."""
    ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def _train_spec(name: str) -> Path:
    return PROTOTXT / name / TRAIN_SPEC.get(name, "train.yaml")


def _as_json(found: Selection) -> dict[str, list[Any]]:
    return {name: [choice.scheme, choice.rank] for name, choice in found.plan.items()}


def main() -> None:
    """Run one of the seven."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, function in (
        ("select", select), ("plan", plan), ("finetune", finetune), ("peers", peers), ("data", data),
        ("time", time_forward), ("train", time_training),
    ):  # fmt: skip
        sub = commands.add_parser(name, help=function.__doc__)
        sub.add_argument("net", choices=[*SHAPES, "resnet18"] if function is plan else list(SHAPES))
        sub.set_defaults(function=function)
        if function is select:
            sub.add_argument("--drops", type=share, nargs="+", default=[0.005, 0.01, 0.02])
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
