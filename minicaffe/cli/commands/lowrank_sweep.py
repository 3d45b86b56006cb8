"""``minicaffe lowrank sweep|errors``: what each rank loses, in accuracy and in the answers of each layer."""

from __future__ import annotations

import argparse
import logging
from contextlib import closing

from minicaffe.cli.bench import (
    SWEEP_BATCHES,
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
from minicaffe.cli.flags import add_device, add_trust, choose_device, names, positive, share, shares
from minicaffe.compress import plot, sweep
from minicaffe.compress.batches import Batch, batches_in_epoch, draw, images_of
from minicaffe.compress.suitable import chosen_steps
from minicaffe.compress.survey import MatrixLayer, input_moments, matrix_layer
from minicaffe.compress.trained import trained
from minicaffe.compress.ways import WAYS
from minicaffe.compress.workbench import CALIBRATION_BATCHES, shuffled
from minicaffe.core.net import Net
from minicaffe.core.table import format_table
from minicaffe.low_rank.param import to_rank
from minicaffe.spec.net import NetSpec

logger = logging.getLogger("minicaffe")


def sweep_ranks(args: argparse.Namespace) -> None:
    """Measure accuracy, energy, multiply-adds and time against rank; print a table, draw a plot."""
    choose_device(args)
    if args.plot:
        plot.check(args.plot)
    out = output_path(args.plot, args.net, f"_sweep_{args.target}.png")
    check_outputs(args, [out])
    with resumable() as journals, open_bench(args) as bench:
        batches = draw_batches(bench, args.batches, SWEEP_BATCHES)
        scheme = {"data": "DATA", "data-fitted": "BASIS"}.get(args.target, args.scheme.upper())
        journal = journal_of(args, out, [*bench.calibration, *batches], args.target, args.scheme)
        journals.append(journal)
        rows = sweep.sweep(bench, batches, scheme, journal, args.ranks)
        print(sweep.table(rows, bench.score.name))
        if args.plot:
            plot.plot(rows, f"{bench.original.name}, {scheme.lower()}", out)
            logger.info("Wrote %s", out)


def _add_sweep(sub: argparse.ArgumentParser) -> None:
    add_trained_net(sub)
    add_measuring(sub, most=SWEEP_BATCHES)
    sub.add_argument("--target", choices=["weights", "data", "data-fitted"], default="weights",
                     help="data: its principal components; data-fitted: a basis for the responses")  # fmt: skip
    sub.add_argument("--scheme", choices=["channel", "spatial"], default="spatial",
                     help="into which two layers a convolution is taken apart")  # fmt: skip
    sub.add_argument("--ranks", type=shares, default=sweep.FRACTIONS, metavar="0.1,0.2,…",
                     help="fractions of the full rank (default: nine, 0.02 to 0.7)")  # fmt: skip
    sub.add_argument("--plot", metavar="FILE", help="a .png or .svg file to draw (extra 'plot')")


def errors(args: argparse.Namespace) -> None:
    """Print how far the answers of each layer are off at some ranks, for factors found in three ways."""
    choose_device(args)
    with trained(args.net, args.weights) as net:
        layers = _matrix_layers(net, args.layers)
        calibration, others = _batches(net.spec, args.calibration)
        fitted = input_moments(net, layers, calibration)
        seen = input_moments(net, layers, others) if others else fitted
    rows, notes = [], []
    for layer in layers:
        own, its = fitted[layer.name], seen[layer.name]
        found = {way: layer.directions(way, own) for way in WAYS}
        if not others and own.count is not None and own.count <= layer.product.geometry.depth:
            logger.warning(
                "%s: the errors are those of the images that factors are fitted to, which are too few to say "
                "anything of others (%d columns of %d rows); give less with --calibration, or more training data",
                layer.name, own.count, layer.product.geometry.depth,
            )  # fmt: skip
        ranks = dict.fromkeys(min(layer.full_rank, to_rank(given, layer.full_rank)) for given in args.ranks)
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
            lost = [layer.error(way, found[way], rank, own, its) for way in WAYS]
            shares = (f"{part:.3f}" for part in (*lost, cost))
            rows.append((layer.name, str(rank), str(layer.full_rank), *shares))
    print(format_table(("layer", "rank", "of", *WAYS, "multiply-adds"), rows, right=range(1, 7)))
    images, more = (sum(map(images_of, batches)) for batches in (calibration, others))
    print(
        f"Fitted to {images} training images, and measured on {f'{more} others' if others else 'the same'}."
    )
    for note in notes:
        print(note)


def _batches(spec: NetSpec, count: int) -> tuple[list[Batch], list[Batch]]:
    """Training batches to fit to, and to measure with as many others, or as many as an epoch has."""
    with closing(Net(shuffled(spec), phase="train", seed=0)) as trainer:
        others = min(count, max(0, batches_in_epoch(trainer) - count))
        return draw(trainer, count), draw(trainer, others)


def _matrix_layers(net: Net, patterns: list[str] | None) -> list[MatrixLayer]:
    """The layers that are named (None: all convolutions) and can be of low rank. Raises SpecError."""
    layers = [matrix_layer(step) for step in chosen_steps(net, patterns)]
    return [layer for layer in layers if isinstance(layer, MatrixLayer)]


def _add_errors(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("net", help="a net spec with data layers (YAML or .prototxt)")
    sub.add_argument(
        "--weights", required=True, metavar="FILE", help="its trained weights (.npz or .caffemodel)"
    )
    sub.add_argument("--layers", type=names, metavar="NAME,…",
                     help="the layers to look at: names, 'fc*' (default: all convolutions)")  # fmt: skip
    sub.add_argument("--ranks", type=_ranks, default=(0.1, 0.25, 0.5), metavar="12,0.5,…",
                     help="ranks, or fractions of the full rank (default: 0.1, 0.25 and 0.5)")  # fmt: skip
    sub.add_argument("--calibration", type=positive, default=CALIBRATION_BATCHES, metavar="N",
                     help="training batches to fit to, and as many others to measure with")  # fmt: skip
    add_device(sub)
    add_trust(sub, runs_python=True)


def _ranks(text: str) -> list[int | float]:
    return [positive(part) if part.isdecimal() else share(part) for part in text.split(",")]


COMMANDS = [
    CommandGroup(
        "lowrank",
        "Make a trained net cheaper by low rank.",
        [
            Command("sweep", sweep_ranks, _add_sweep,
                    "lowrank sweep net.yaml --weights net.npz --layers conv2,ip1 --plot sweep.png"),
            Command("errors", errors, _add_errors,
                    "lowrank errors net.yaml --weights net.npz --layers conv2 --ranks 6,12,24"),
        ],
    )
]  # fmt: skip
