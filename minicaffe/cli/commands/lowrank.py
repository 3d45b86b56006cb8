"""``minicaffe lowrank select|apply|sweep|errors``: makes a trained net cheaper, and measures what that loses."""

from __future__ import annotations

import argparse
import logging
import os
import platform
from pathlib import Path

from minicaffe.cli.command import Command, CommandGroup
from minicaffe.cli.flags import add_device, add_trust, choose_device, positive
from minicaffe.compress import plot, selection, shrunk, sweep
from minicaffe.compress.batches import Batch, batches_in_epoch, draw
from minicaffe.compress.cost import FlopCost, TimeCost
from minicaffe.compress.journal import Journal, fingerprint
from minicaffe.compress.selection import Selector
from minicaffe.compress.suitable import chosen_steps
from minicaffe.compress.survey import MatrixLayer, input_moments, matrix_layer
from minicaffe.compress.ways import WAYS
from minicaffe.compress.workbench import CALIBRATION_BATCHES, Workbench, calibration_batches, rank_of
from minicaffe.core.net import Net
from minicaffe.core.table import format_table
from minicaffe.device.array import current_device
from minicaffe.errors import DataError, MinicaffeError, SpecError, WriteError, counted
from minicaffe.files.atomic import refuse_overwriting, refuse_unwritable
from minicaffe.files.spec_formats import load_net, load_solver
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.spec import trust

SELECT_BATCHES, SWEEP_BATCHES = 50, 20  # at most, if no number is given
LARGE_DROP = 0.1  # a larger one is probably a slip
logger = logging.getLogger("minicaffe")


def select(args: argparse.Namespace) -> None:
    """Choose a rank for each layer, and write the net with them."""
    goals = [goal for goal in (args.max_drop, args.flops, args.time) if goal is not None]
    if len(goals) != 1:
        raise MinicaffeError("select: give one of --max-drop, --flops and --time")
    if args.max_drop is not None and args.max_drop > LARGE_DROP:
        logger.warning(
            "--max-drop %g allows a loss of %g points of accuracy; for %g points write --max-drop %g%%",
            args.max_drop,
            100 * args.max_drop,
            args.max_drop,
            args.max_drop,
        )
    choose_device(args)
    net, out = Path(args.net), _out(args.output, args.net, "_lowrank.yaml")
    weights, also = out.with_suffix(".npz"), {Path(x): _out(None, x, "_lowrank.yaml") for x in args.also}
    tuned = weights.with_name(f"{weights.stem}_finetuned.npz")
    _check_outputs(args, [out, weights, tuned, *also.values()])
    if args.finetune:
        load_solver(args.finetune)
    bench = _bench(args)
    for other in also:
        spec = load_net(other)
        shrunk.check_layers(other, [x.name for x in spec.layer or spec.layers], bench.candidates)
    chosen_on, held_out = _draw(bench, SELECT_BATCHES, args.batches, args.held_out)
    cost = TimeCost(bench, chosen_on[0]) if args.time is not None or args.by == "time" else FlopCost(bench)
    journal = _journal(args, out, [*bench.calibration, *chosen_on, *held_out])
    selector = Selector(bench, chosen_on, held_out, cost, journal)
    if args.max_drop is not None:
        found = selector.within_drop(args.max_drop)
    else:
        found = selector.within_cost(args.flops if args.flops is not None else args.time)
    print(selection.table(selector, found))
    if not found.plan:
        logger.warning(
            "No cheaper plan keeps the accuracy: nothing is approximated; allow more, or measure on more --batches"
        )
    shrunk.write_net(bench, found.plan, net, out)
    for other, path in also.items():
        shrunk.write_spec(found.plan, other, path)
    if args.finetune:
        with shrunk.finetune(args.finetune, out, weights, tuned) as trained:
            accuracy = bench.measure(held_out, trained).accuracy
        logger.info("Wrote %s: accuracy on batches held out: %.4f", tuned, accuracy)
    bench.close()


def _add_select(sub: argparse.ArgumentParser) -> None:
    _add_net(sub)
    _add_measuring(sub, most=SELECT_BATCHES)
    goal = sub.add_argument_group("what is wanted: one of")
    goal.add_argument(
        "--max-drop", type=_percent, metavar="DROP", help="the most accuracy to lose: 2%% or 0.02"
    )
    goal.add_argument(
        "--flops", type=_share, metavar="0.3", help="multiply-adds of the approximated layers, as a share"
    )
    goal.add_argument(
        "--time", type=_share, metavar="0.5", help="time of the whole net, from timed layers, as a share"
    )
    sub.add_argument("--by", choices=["flops", "time"], default="flops", help="what --max-drop makes small")
    sub.add_argument("--held-out", type=positive, metavar="N",
                     help=f"others, to verify with (default: as many, at most {SELECT_BATCHES})")  # fmt: skip
    sub.add_argument("-o", "--output", metavar="SPEC", help="the spec to write (default: NET_lowrank.yaml)")
    sub.add_argument("--also", action="append", default=[], metavar="SPEC",
                     help="write the ranks into this spec's copy too (a deploy net)")  # fmt: skip
    sub.add_argument("--finetune", metavar="SOLVER", help="then train the factors as this solver spec says")


def apply(args: argparse.Namespace) -> None:
    """Factorize weights to the ranks in a net's spec, fitted to its data."""
    choose_device(args)
    out = _out(args.output, args.net, "_applied.npz")
    _check_outputs(args, [out])
    net = Net(args.net, phase="test")
    plan = {layer.name: rank_of(layer) for layer in net.layers if isinstance(layer, LowRankLayer)}
    if not plan:
        raise SpecError(f"{args.net}: no layer has low_rank_param; 'minicaffe lowrank select' chooses ranks")
    bench = Workbench(net.spec, args.weights, plan, args.calibration, not args.symmetric, adds_biases=False)
    fits = bench.approximate(plan)
    rows = [(name, str(plan[name].rank), f"{found.energy:.4f}") for name, found in fits.items()]
    print(format_table(("layer", "rank", "energy kept"), rows, right=(1, 2)))
    shrunk.fill(net, bench.original, fits)
    net.save(out)
    logger.info("Wrote %s", out)
    bench.close()
    net.close()


def _add_apply(sub: argparse.ArgumentParser) -> None:
    _add_net(sub)
    sub.add_argument("-o", "--output", metavar="FILE", help="the weights to write (default: NET_applied.npz)")


def sweep_ranks(args: argparse.Namespace) -> None:
    """Measure accuracy, energy, multiply-adds and time against rank; print a table, draw a plot."""
    choose_device(args)
    if args.plot:
        plot.check(args.plot)
    out = _out(args.plot, args.net, f"_sweep_{args.target}.png")
    bench = _bench(args)
    (batches,) = _draw(bench, SWEEP_BATCHES, args.batches)
    scheme = {"data": "DATA", "data-fitted": "BASIS"}.get(args.target, args.scheme.upper())
    journal = _journal(args, out, [*bench.calibration, *batches], args.target, args.scheme)
    rows = sweep.sweep(bench, batches, scheme, journal, args.ranks)
    print(sweep.table(rows))
    if args.plot:
        plot.plot(rows, f"{bench.original.name}, {scheme.lower()}", out)
        logger.info("Wrote %s", out)
    bench.close()


def _add_sweep(sub: argparse.ArgumentParser) -> None:
    _add_net(sub)
    _add_measuring(sub, most=SWEEP_BATCHES)
    sub.add_argument("--target", choices=["weights", "data", "data-fitted"], default="weights",
                     help="data: its principal components; data-fitted: a basis for the responses")  # fmt: skip
    sub.add_argument("--scheme", choices=["channel", "spatial"], default="spatial",
                     help="into which two layers a convolution is taken apart")  # fmt: skip
    sub.add_argument("--ranks", type=_fractions, default=sweep.FRACTIONS, metavar="0.1,0.2,…",
                     help="fractions of the full rank (default: nine, 0.02 to 0.7)")  # fmt: skip
    sub.add_argument("--plot", metavar="FILE", help="a .png or .svg file to draw (extra 'plot')")


def errors(args: argparse.Namespace) -> None:
    """Print how far the answers of each layer are off at some ranks, for factors found in three ways."""
    choose_device(args)
    with Net(args.net, weights=args.weights, phase="test", seed=0) as net:
        layers = _matrix_layers(net, args.layers)
        batches = calibration_batches(net.spec, args.calibration)
        moments = input_moments(net, layers, batches)
    rows, notes = [], []
    for layer in layers:
        lost = [layer.directions(way, moments[layer.name]).response_errors for way in WAYS]
        ranks = dict.fromkeys(_rank(given, layer.full_rank) for given in args.ranks)
        if max(args.ranks) > layer.full_rank:
            logger.warning(
                "%s: no rank is above %d, its full rank, which is shown", layer.name, layer.full_rank
            )
        if max(ranks) > layer.break_even:
            notes.append(
                f"{layer.name}: above rank {layer.break_even} two factors are no less work than the layer"
            )
        for rank in ranks:
            cost = min(1.0, rank * layer.cost_of_rank / layer.product.geometry.multiply_adds)
            shares = (*(f"{float(e[rank]):.3f}" for e in lost), f"{cost:.3f}")
            rows.append((layer.name, str(rank), str(layer.full_rank), *shares))
    print(format_table(("layer", "rank", "of", *WAYS, "multiply-adds"), rows, right=range(1, 7)))
    for note in notes:
        print(note)


def _matrix_layers(net: Net, patterns: list[str] | None) -> list[MatrixLayer]:
    """The layers that are named (None: all convolutions) and can be of low rank. Raises SpecError."""
    layers = [matrix_layer(step) for step in chosen_steps(net, patterns)]
    return [layer for layer in layers if isinstance(layer, MatrixLayer)]


def _rank(given: float, full_rank: int) -> int:
    """A rank, or a fraction of the full one."""
    return min(full_rank, int(given)) if given >= 1 else max(1, round(given * full_rank))


def _add_errors(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("net", help="a net spec with data layers (YAML or .prototxt)")
    sub.add_argument(
        "--weights", required=True, metavar="FILE", help="its trained weights (.npz or .caffemodel)"
    )
    sub.add_argument("--layers", type=lambda text: text.split(","), metavar="NAME,…",
                     help="the layers to look at: names, 'fc*' (default: all convolutions)")  # fmt: skip
    sub.add_argument("--ranks", type=_ranks, default=(0.1, 0.25, 0.5), metavar="12,0.5,…",
                     help="ranks, or fractions of the full rank (default: 0.1, 0.25 and 0.5)")  # fmt: skip
    sub.add_argument("--calibration", type=positive, default=CALIBRATION_BATCHES, metavar="N",
                     help="training batches that the answers are those of")  # fmt: skip
    add_device(sub)
    add_trust(sub, runs_python=True)


def _draw(bench: Workbench, most: int, *counts: int | None) -> list[list[Batch]]:
    """Draw test batches for each purpose: as many as given, or else an even share, ``most`` at most.

    Raises DataError if they would have images in common.
    """
    available = batches_in_epoch(bench.original)
    shared = max(1, min(most, available // len(counts)))
    wanted = [count or shared for count in counts]
    if sum(wanted) > available:
        raise DataError(
            f"{bench.spec.where.file}: {sum(wanted)} different test batches wanted, but there are {available}; "
            "give less with --batches and --held-out, or a smaller batch_size"
        )
    return [draw(bench.original, count) for count in wanted]


def _bench(args: argparse.Namespace) -> Workbench:
    return Workbench(args.net, args.weights, args.layers, args.calibration, not args.symmetric)


def _out(given: str | None, net: str, ending: str) -> Path:
    """The path to write to: the given one, or the net's with another ending. Raises WriteError if it cannot be."""
    out = Path(given) if given else Path(net).with_name(Path(net).stem + ending)
    refuse_unwritable(out)
    return out


def _check_outputs(args: argparse.Namespace, outputs: list[Path]) -> None:
    """Raise WriteError if an output would overwrite another, or a file that the command reads."""
    inputs = [args.net, args.weights, *getattr(args, "also", ()), getattr(args, "finetune", None)]
    refuse_overwriting(outputs, inputs)
    refuse_overwriting(outputs, load_net(args.net).files_named())


def _journal(args: argparse.Namespace, out: Path, batches: list[Batch], *more: str) -> Journal:
    """The journal beside the output, of measurements of this net and these weights on all these batches."""
    sizes = (args.batches, args.calibration, getattr(args, "held_out", 0), args.layers, args.symmetric)
    machine = f"{platform.node()}, {os.cpu_count()} cores, {current_device()}"  # for measured times
    images = [array for batch in batches for array in batch.values()]  # a file of data may have changed
    run = fingerprint(Path(args.net), Path(args.weights), repr(sizes), machine, *more, *images)
    path = out.with_suffix(".journal.jsonl")
    problem = trust.current().problem_of_output(str(path), str(out.parent))  # a link that came with the net
    if problem:
        raise WriteError(f"the journal of measurements, {problem}")
    journal = Journal(path, run)
    if journal.known:
        found, are = counted(len(journal.known), "measurement"), "is" if len(journal.known) == 1 else "are"
        logger.info("%s %s taken from %s; delete it to measure anew", found, are, journal.path)
    return journal


def _add_net(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("net", help="a net spec with data layers, a loss and an Accuracy (YAML)")
    sub.add_argument("--weights", required=True, metavar="FILE", help="an .npz file with its trained weights")
    sub.add_argument("--calibration", type=positive, default=CALIBRATION_BATCHES, metavar="N",
                     help="training batches that factors are fitted to")  # fmt: skip
    sub.add_argument("--symmetric", action="store_true",
                     help="fit layers to the inputs that they have in the dense net")  # fmt: skip
    add_device(sub)
    add_trust(sub, runs_python=True)


def _add_measuring(sub: argparse.ArgumentParser, most: int) -> None:
    sub.add_argument("--layers", type=lambda text: text.split(","), metavar="NAME,…",
                     help="the layers to approximate: names, 'fc*' (default: all convolutions)")  # fmt: skip
    sub.add_argument("--batches", type=positive, metavar="N",
                     help=f"test batches to measure with (default: what there is, at most {most})")  # fmt: skip


def _percent(text: str) -> float:
    """2% and 0.02 alike."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be like 2% or 0.02")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a share above 0 and at most 1")
    return value


def _ranks(text: str) -> list[float]:
    return [float(positive(part)) if part.isdecimal() else _share(part) for part in text.split(",")]


def _fractions(text: str) -> list[float]:
    return [_share(part) for part in text.split(",")]


COMMANDS = [
    CommandGroup(
        "lowrank",
        "Make a trained net cheaper by low rank.",
        [
            Command("select", select, _add_select,
                    "lowrank select net.yaml --weights net.npz --max-drop 1% --also deploy.yaml"),
            Command("apply", apply, _add_apply,
                    "lowrank apply net_lowrank.yaml --weights net.npz -o net_lowrank.npz"),
            Command("sweep", sweep_ranks, _add_sweep,
                    "lowrank sweep net.yaml --weights net.npz --layers conv2,ip1 --plot sweep.png"),
            Command("errors", errors, _add_errors,
                    "lowrank errors net.yaml --weights net.npz --layers conv2 --ranks 6,12,24"),
        ],
    )
]  # fmt: skip
