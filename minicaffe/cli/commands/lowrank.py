"""``minicaffe lowrank plan|select|apply``: says what low rank would lose, chooses ranks, fits factors to them."""

from __future__ import annotations

import argparse
import logging
import math
from contextlib import closing
from pathlib import Path

from minicaffe.cli.bench import (
    SELECT_BATCHES,
    add_measuring,
    add_trained_net,
    check_outputs,
    draw_batches,
    journal_of,
    open_bench,
    output_path,
    resumable,
)  # fmt: skip
from minicaffe.cli.command import Command, CommandGroup
from minicaffe.cli.flags import as_share, choose_device, positive, share, shares
from minicaffe.compress import forecast, outputs, selection, shrunk
from minicaffe.compress.batches import Batch, first_images, images_of
from minicaffe.compress.cost import Cost, FlopCost, ParamCost, TimeCost
from minicaffe.compress.distill import distill, own_batches
from minicaffe.compress.gains import gains
from minicaffe.compress.plan import rank_of
from minicaffe.compress.prediction import WAYS, Prediction
from minicaffe.compress.score import Measured
from minicaffe.compress.selection import Selection, Selector
from minicaffe.compress.workbench import CALIBRATION_BATCHES, FEWEST_BATCHES, OwnImages, Workbench
from minicaffe.core.net import Net
from minicaffe.core.table import format_table
from minicaffe.errors import MinicaffeError, SpecError, counted
from minicaffe.files.spec_formats import open_net, open_solver
from minicaffe.low_rank.layers import LowRankLayer

SCHEMES = {"channel": "CHANNEL", "spatial": "SPATIAL", "data": "BASIS"}
LARGE_DROP = 0.1  # a larger one is probably a slip
# 'plan' is to be quick: each layer is tried at two ranks, on two batches, or on one through a large net.
PLAN_BATCHES, PLAN_PROBES = 2, (0.01, 0.1)
PLAN_WORK = 2e11  # multiply-adds of the batches that it fits factors to: three of 32 images through ResNet-18
TIMED_IMAGES = 8
DISTILL_BATCHES = 100  # of pictures, at most, beside those that factors are fitted to
PROBE_BATCHES = 5  # what 'select' predicts from
logger = logging.getLogger("minicaffe")


def plan(args: argparse.Namespace) -> None:
    """Print what low rank is expected to lose and to save, at some shares of the multiply-adds."""
    choose_device(args)
    with open_bench(args, most_work=PLAN_WORK) as bench:
        most = PLAN_BATCHES if len(bench.calibration) > FEWEST_BATCHES else 1
        batches = bench.calibration[:most]
        if args.batches or bench.images.available:
            batches = draw_batches(bench, args.batches, most)
        prediction = Prediction(bench, batches, args.schemes, args.multiple, PLAN_PROBES)
        timed = first_images(batches[0], TIMED_IMAGES)
        rows = forecast.rows(bench, prediction, args.shares, TimeCost(bench, timed))
        print(forecast.table(bench, rows))
        logger.info("The times are those of %s at once", counted(images_of(timed), "image"))
    if any(row.is_beyond for row in rows):
        logger.info(
            "At least: there the answers are off by more than was measured of any layer alone, and layers may lose "
            "more together than one by one"
        )
    logger.info(
        "No plan was measured yet: 'minicaffe lowrank select' with --flops of a row, or --max-drop, measures it "
        "and writes the net"
    )


def _add_plan(sub: argparse.ArgumentParser) -> None:
    add_trained_net(sub, f"{CALIBRATION_BATCHES}, or {FEWEST_BATCHES} of a large net")
    add_measuring(sub, most=PLAN_BATCHES)
    _add_ranks(sub)
    sub.add_argument("--shares", type=shares, default=forecast.SHARES, metavar="0.5,0.3,…",
                     help="of the multiply-adds of the layers (default: 0.8 to 0.1)")  # fmt: skip


def select(args: argparse.Namespace) -> None:
    """Choose a rank for each layer, and write the net with them."""
    goals = [goal for goal in (args.max_drop, args.flops, args.params, args.time) if goal is not None]
    if len(goals) != 1:
        raise MinicaffeError("select: give one of --max-drop, --flops, --params and --time")
    if args.by and args.max_drop is None:
        raise MinicaffeError(
            f"select: --by {args.by} says what --max-drop makes small; leave it out, or give --max-drop"
        )
    if args.max_drop is not None and args.max_drop > LARGE_DROP:
        logger.warning(
            "--max-drop %g allows a loss of %g points of accuracy; for %g points write --max-drop %g%%",
            args.max_drop,
            100 * args.max_drop,
            args.max_drop,
            args.max_drop,
        )
    choose_device(args)
    net, out = Path(args.net), output_path(args.output, args.net, "_lowrank.yaml")
    also = {Path(x): output_path(None, x, "_lowrank.yaml") for x in args.also}
    written = outputs.files_of(out)
    tuned = out.with_name(f"{out.stem}_finetuned.npz")
    check_outputs(args, [*written, tuned, *also.values()])
    if args.finetune and out.suffix not in (".yaml", ".yml"):
        raise MinicaffeError(
            f"select: --finetune trains a YAML spec; give an -o that ends in .yaml, not {out.name}"
        )
    if args.finetune:
        open_solver(args.finetune)
    with resumable() as journals, open_bench(args) as bench:
        outputs.check_output(bench.original, out)
        for other in also:
            spec = open_net(other)
            shrunk.check_layers(other, {x.name: x for x in spec.layer or spec.layers}, bench.candidates)
        batches = draw_batches(bench, args.batches, SELECT_BATCHES)
        cost = _cost(args, bench, batches[0])
        journal = journal_of(args, out, [*bench.calibration, *batches])
        journals.append(journal)
        prediction = Prediction(bench, batches[:PROBE_BATCHES], args.schemes, args.multiple)
        selector = Selector(bench, batches, prediction, cost, journal)
        found = (
            selector.within_drop(args.max_drop)
            if args.max_drop is not None
            else selector.within_cost(goals[0])
        )
        print(selection.table(selector, found))
        if found.plan and args.max_drop is not None:
            _say_if_too_few(selector, found, args.max_drop)
        if not found.plan:
            _say_that_nothing_holds(selector)
        with shrunk.planned_net(bench, found.plan, net, out) as made:
            print(gains(bench.original, made.net, batches[0]).table())
            made.write(out)
            if args.distill and found.plan:
                before = bench.measure(batches, made.net)
                seen = _distill(bench, made.net, args.distill)
                if _is_no_worse(selector, bench.measure(batches, made.net), before, seen):
                    made.write(out)
        for other, path in also.items():
            shrunk.write_spec(found.plan, other, path)
        if args.finetune:
            with shrunk.finetune(args.finetune, out, written[-1], tuned) as trained:
                measured = bench.measure(batches, trained)
            logger.info("Wrote %s: %s", tuned, selector.words(measured))


def _distill(bench: Workbench, student: Net, minutes: float) -> str:
    """Train a net to answer as the dense one does: on its training data, or on pictures not measured with.

    Returns what these are, in words.
    """
    if isinstance(bench.images, OwnImages):
        with closing(own_batches(bench.spec)) as training:
            distill(student, bench.original, training, minutes)
        return "the training images"
    more = bench.images.draw(min(bench.images.available, DISTILL_BATCHES))
    inputs = bench.original.inputs
    training_pictures = [{name: batch[name] for name in inputs} for batch in (*bench.calibration, *more)]
    distill(student, bench.original, training_pictures, minutes)
    return counted(sum(map(images_of, training_pictures)), "picture")


def _is_no_worse(selector: Selector, after: Measured, before: Measured, seen: str) -> bool:
    """Whether a net that was distilled on what it has ``seen`` is no worse on other images; the log says it."""
    words = selector.words(after)
    if selector.drop(after) <= selector.drop(before):
        logger.info("Distilled: %s", words)
        return True
    logger.warning(
        "Distilled on %s it would lose more on others, %s: the weights from before are kept; "
        "give more pictures, thousands, or less time",
        seen,
        words,
    )
    return False


def _say_if_too_few(selector: Selector, found: Selection, max_drop: float) -> None:
    error = found.measured.change_from(selector.dense).error
    if error <= max_drop:
        return
    images, is_one = counted(selector.images, "image"), selector.images == 1
    tell = f"{images} {'tells' if is_one else 'tell'} what is counted only to ± {100 * error:.1f} points"
    if math.isnan(error):
        tell = f"{images} in one batch {'does' if is_one else 'do'} not tell how sure what is counted is"
    logger.warning("%s: give more to be sure of %g", tell, 100 * max_drop)


def _say_that_nothing_holds(selector: Selector) -> None:
    best = selector.least_bad()
    seen = ""
    if best:  # with digits enough to be no zero, where those of the line are
        drop = f"{100 * selector.drop(best.measured):.2g} points to be reckoned as lost"
        seen = f"; the best that was seen: {selector.line(best)}, {drop}"
    logger.warning("No cheaper plan keeps to that: nothing is approximated%s; allow more", seen)


def _add_select(sub: argparse.ArgumentParser) -> None:
    add_trained_net(sub)
    add_measuring(sub, most=SELECT_BATCHES)
    _add_ranks(sub)
    goal = sub.add_argument_group("what is wanted: one of")
    goal.add_argument("--max-drop", type=_drop, metavar="DROP",
                      help="an accuracy to lose, as an aim, or error of the outputs: 2%% or 0.02")  # fmt: skip
    goal.add_argument("--flops", type=share, metavar="0.3",
                      help="multiply-adds of the approximated layers, as a share: 0.3 or 30%%")  # fmt: skip
    goal.add_argument("--params", type=share, metavar="0.3", help="weights of these layers, as a share")
    goal.add_argument("--time", type=share, metavar="0.5",
                      help="time of the whole net, from timed layers, as a share")  # fmt: skip
    sub.add_argument("--by", choices=["flops", "params", "time"],
                     help="what --max-drop makes small (default: flops)")  # fmt: skip
    sub.add_argument("-o", "--output", metavar="FILE",
                     help="what to write: .yaml, .prototxt or .onnx (default: NET_lowrank.yaml)")  # fmt: skip
    sub.add_argument("--also", action="append", default=[], metavar="SPEC",
                     help="write the ranks into this spec's copy too (a deploy net)")  # fmt: skip
    sub.add_argument("--distill", type=_minutes, metavar="MINUTES",
                     help="then train the factors to answer as the dense net does, without labels")  # fmt: skip
    sub.add_argument("--finetune", metavar="SOLVER",
                     help="then train the factors on labels, as this solver spec says")  # fmt: skip


def apply(args: argparse.Namespace) -> None:
    """Factorize weights to the ranks in a net's spec, fitted to its data."""
    choose_device(args)
    out = output_path(args.output, args.net, "_applied.npz")
    check_outputs(args, [out])
    with Net(args.net, phase="test") as net:
        plan = {layer.name: rank_of(layer) for layer in net.layers if isinstance(layer, LowRankLayer)}
        if not plan:
            raise SpecError(
                f"{args.net}: no layer has low_rank_param; 'minicaffe lowrank select' chooses ranks"
            )
        with open_bench(args, net.spec, list(plan), ranks_are_given=True) as bench:
            fits = bench.approximate(plan)
            rows = [(name, str(plan[name].rank), f"{found.energy:.4f}") for name, found in fits.items()]
            print(format_table(("layer", "rank", "energy kept"), rows, right=(1, 2)))
            shrunk.fill(net, bench.original, fits)
        net.save(out)
    logger.info("Wrote %s", out)


def _add_apply(sub: argparse.ArgumentParser) -> None:
    add_trained_net(sub)
    sub.add_argument("-o", "--output", metavar="FILE", help="the weights to write (default: NET_applied.npz)")


def _cost(args: argparse.Namespace, bench: Workbench, batch: Batch) -> Cost:
    """What is made small, or kept within a share."""
    if args.time is not None or args.by == "time":
        return TimeCost(bench, batch)
    return ParamCost(bench) if args.params is not None or args.by == "params" else FlopCost(bench)


def _add_ranks(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--schemes", type=_schemes, default=WAYS, metavar="NAME,…",
                     help="to choose from: channel, spatial, data (default: channel,spatial)")  # fmt: skip
    sub.add_argument("--multiple", type=positive, default=1, metavar="8", help="ranks are multiples of this")


def _schemes(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in SCHEMES:
            raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(SCHEMES)}")
    return [SCHEMES[name] for name in names]


def _drop(text: str) -> float:
    """A share that may be lost: none, but not all."""
    value = as_share(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a share from 0 to below 1, like 2% or 0.02")
    return value


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number of minutes")
    return value


COMMANDS = [
    CommandGroup(
        "lowrank",
        "Make a trained net cheaper by low rank.",
        [
            Command("plan", plan, _add_plan,
                    "lowrank plan deploy.prototxt --weights net.caffemodel --images photos"),
            Command("select", select, _add_select,
                    "lowrank select net.yaml --weights net.npz --max-drop 1% --also deploy.yaml"),
            Command("apply", apply, _add_apply,
                    "lowrank apply net_lowrank.yaml --weights net.npz -o net_lowrank.npz"),
        ],
    )
]  # fmt: skip
