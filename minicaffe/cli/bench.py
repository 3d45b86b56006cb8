"""A trained net on the bench, as the flags of ``minicaffe lowrank`` say: its images, layers, outputs, journal."""

from __future__ import annotations

import argparse
import logging
import math
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from minicaffe.cli.flags import add_device, add_trust, names, positive
from minicaffe.cli.preparation import add_preparation_flags, make_classifier
from minicaffe.compress.batches import Batch
from minicaffe.compress.journal import Journal, fingerprint
from minicaffe.compress.pictures import Pictures
from minicaffe.compress.workbench import CALIBRATION_BATCHES, Workbench
from minicaffe.core.net import Net
from minicaffe.device.array import current_device
from minicaffe.errors import DataError, SpecError, WriteError, counted
from minicaffe.files.atomic import refuse_overwriting, refuse_unwritable
from minicaffe.files.spec_formats import open_net
from minicaffe.spec import trust
from minicaffe.spec.net import NetSpec

SELECT_BATCHES, SWEEP_BATCHES = 50, 20  # at most, if no number is given
PREPARED = ("mean", "raw_scale", "input_scale", "channel_swap", "image_dims")  # flags that need --images
logger = logging.getLogger("minicaffe")


def open_bench(
    args: argparse.Namespace,
    net: NetSpec | None = None,
    names: Sequence[str] | None = None,
    ranks_are_given: bool = False,
    most_work: float = math.inf,
) -> Workbench:
    """The net of the flags with its weights; ``names``: its layers, if no flag says them.

    ``ranks_are_given`` and ``most_work`` as a Workbench has them.
    """
    given = [name for name in PREPARED if getattr(args, name) is not None]
    if args.images is None and given:
        flag = "--" + given[0].replace("_", "-")
        raise SpecError(f"{flag} is for image files, and --images names none; give it, or leave {flag} out")
    spec = open_net(args.net) if net is None else net
    brings_data = any(layer.brings_data for layer in spec.layer or spec.layers)
    if args.images is None and not brings_data:
        raise SpecError(
            f"{args.net}: has no data layer; give image files, which need no labels, with --images FOLDER"
        )
    if args.images is not None and brings_data:
        raise SpecError(f"{args.net}: reads images itself; leave --images out, or give the deploy net")

    def pictures(net: Net) -> Pictures:
        classifier = make_classifier(net, args)
        net.prepare_as(classifier.preparation)
        return Pictures(classifier, args.images)

    return Workbench(
        spec, args.weights, getattr(args, "layers", names), args.calibration, not args.symmetric,
        most_work=most_work, ranks_are_given=ranks_are_given, without=getattr(args, "without", ()),
        accuracy=getattr(args, "accuracy", None), images=None if args.images is None else pictures,
    )  # fmt: skip


def draw_batches(bench: Workbench, count: int | None, most: int) -> list[Batch]:
    """Test batches: as many as wanted, or what there is, ``most`` at most. Raises DataError for more than that."""
    available = bench.images.available
    if count is not None and count > available:
        raise DataError(
            f"{bench.spec.where.file}: {counted(count, 'different test batch')} wanted, but there "
            f"{'is' if available == 1 else 'are'} {available}; give less with --batches or --calibration, "
            "or a smaller batch_size"
        )
    return bench.draw(count or max(1, min(most, available)))


def output_path(given: str | None, net: str, ending: str) -> Path:
    """The path to write to: the given one, or the net's with another ending. Raises WriteError if it cannot be."""
    out = Path(given) if given else Path(net).with_name(Path(net).stem + ending)
    refuse_unwritable(out)
    return out


def check_outputs(args: argparse.Namespace, outputs: list[Path]) -> None:
    """Raise WriteError if an output would overwrite another, or a file that the command reads."""
    inputs = [args.net, args.weights, *getattr(args, "also", ()), getattr(args, "finetune", None)]
    refuse_overwriting(outputs, inputs)
    refuse_overwriting(outputs, open_net(args.net).files_named())


def journal_of(args: argparse.Namespace, out: Path, batches: list[Batch], *more: str) -> Journal:
    """The journal beside the output, of measurements of this net and these weights on all these batches."""
    sizes = (args.batches, args.calibration, args.layers, args.without, args.accuracy, args.symmetric)
    machine = f"{platform.node()}, {os.cpu_count()} cores, {current_device()}"  # for measured times
    images = [array for batch in batches for array in batch.values()]  # a file of data may have changed
    run = fingerprint(Path(args.net), Path(args.weights), repr(sizes), machine, *more, *images)
    path = out.with_suffix(".journal.jsonl")
    problem = trust.current().problem_of_output(str(path), str(out.parent))  # a link that came with the net
    if problem:
        raise WriteError(f"the journal of measurements, {problem}")
    journal = Journal(path, run)
    if journal.known:
        logger.info("%s taken from %s; delete it to measure anew", _measurements(journal), journal.path)
    return journal


def _measurements(journal: Journal) -> str:
    """How many are known, with the verb: "1 measurement is"."""
    return f"{counted(len(journal.known), 'measurement')} {'is' if len(journal.known) == 1 else 'are'}"


@contextmanager
def resumable() -> Iterator[list[Journal]]:
    """If this block is interrupted, let the program say what the journals that are put into the list have."""
    journals: list[Journal] = []
    try:
        yield journals
    except KeyboardInterrupt:
        for journal in journals:
            if journal.known:
                raise KeyboardInterrupt(
                    f"{_measurements(journal)} kept in {journal.path}, and the same command goes on from there"
                ) from None
        raise KeyboardInterrupt("nothing was measured yet, and the same command begins anew") from None


def add_trained_net(sub: argparse.ArgumentParser, usual: str = str(CALIBRATION_BATCHES)) -> None:
    """Add the flags of ``open_bench``, but for those that choose layers."""
    sub.add_argument(
        "net", help="a net spec with data layers, or a deploy net and --images (YAML or .prototxt)"
    )
    sub.add_argument("--weights", required=True, metavar="FILE",
                     help="its trained weights (.npz or .caffemodel)")  # fmt: skip
    sub.add_argument("--images", metavar="FOLDER|LIST",
                     help="for a deploy net: image files, without labels, or a folder for each class")  # fmt: skip
    add_preparation_flags(sub)
    sub.add_argument("--calibration", type=positive, metavar="N",
                     help=f"training batches, or of the images, that factors are fitted to (default: "
                          f"{usual}, at most half of the images)")  # fmt: skip
    sub.add_argument("--symmetric", action="store_true",
                     help="fit layers to the inputs that they have in the dense net")  # fmt: skip
    add_device(sub)
    add_trust(sub, runs_python=True)


def add_measuring(sub: argparse.ArgumentParser, most: int) -> None:
    """Add the flags that choose layers, and say what is measured."""
    sub.add_argument("--layers", type=names, metavar="NAME,…",
                     help="the layers to approximate: names, 'fc*' (default: all convolutions)")  # fmt: skip
    sub.add_argument("--except", dest="without", type=names, default=[], metavar="NAME,…",
                     help="layers that stay dense: names, 'fc*'")  # fmt: skip
    sub.add_argument("--accuracy", metavar="NAME",
                     help="the Accuracy layer, or output, that is looked at (default: the last one)")  # fmt: skip
    sub.add_argument("--batches", type=positive, metavar="N",
                     help=f"test batches to measure with (default: what there is, at most {most})")  # fmt: skip
