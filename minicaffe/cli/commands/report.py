"""``minicaffe report``: one HTML file that shows what a net computes, and in which small nets run."""

from __future__ import annotations

import argparse
import logging
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from minicaffe.cli.command import Command
from minicaffe.cli.commands.classify import add_picture_flags, check_labels, read_labels
from minicaffe.cli.flags import (
    add_allow_missing,
    add_device,
    add_rules,
    add_trust,
    choose_device,
    is_stdout,
    log_to_stderr,
    positive,
    trained_net,
)
from minicaffe.cli.preparation import make_classifier
from minicaffe.core.net import Net
from minicaffe.errors import DataError, listing
from minicaffe.files.atomic import refuse_overwriting, refuse_unwritable
from minicaffe.files.spec_formats import has_weights
from minicaffe.inspect.report.make import make_report
from minicaffe.inspect.report.options import MB, Options
from minicaffe.inspect.report.pictures import Pictures, from_data, from_images, has_data
from minicaffe.inspect.report.record import copy_of

logger = logging.getLogger("minicaffe")


def report(args: argparse.Namespace) -> None:
    """Write one HTML file that shows what a net computes, layer by layer; small nets run in it."""
    if is_stdout(args.output):  # -o /dev/stdout: the page alone goes there
        log_to_stderr()
    choose_device(args)
    inputs = [args.net, *args.images, args.weights, args.labels, args.sweep, *args.log, *args.snapshots]
    refuse_overwriting([args.output], inputs)
    refuse_unwritable(args.output)
    names = read_labels(args.labels) if args.labels is not None else []
    with _net(args) as given, copy_of(given) as net:
        pictures = _pictures(net, names, args)
        options = Options(
            args.count, names, args.test, args.log, args.snapshots, args.sweep, args.layers, args.time,
            args.max_size, labels_from=f"--labels {args.labels}",
        )  # fmt: skip
        made = make_report(net, pictures, options, _weights_name(args))
    made.save(args.output)
    logger.info("Wrote %s (%.2f MB); open it in a browser", args.output, len(made.html) / MB)
    if args.open:
        webbrowser.open(Path(args.output).resolve().as_uri())


def _add_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("net", help="a net spec (YAML or .prototxt)")
    sub.add_argument("images", nargs="*", metavar="IMAGE",
                     help="image files to show the net (default: spread evenly over its test data)")  # fmt: skip
    sub.add_argument(
        "--weights", metavar="FILE", help="its weights (.npz or .caffemodel; default: as it begins)"
    )
    sub.add_argument("-o", "--output", default="report.html", metavar="FILE", help="the file to write")
    sub.add_argument("--images", dest="count", type=positive, default=8, metavar="N",
                     help="how many images of the test data")  # fmt: skip
    add_picture_flags(sub)
    sub.add_argument("--test", type=_whole, default=1000, metavar="N",
                     help="how many test images to score; 0 for none")  # fmt: skip
    for flag, metavar, text in (
        ("--log", "LOG", "training logs, for their curves"),
        ("--snapshots", "FILE", "weights of one training, in order"),
    ):
        sub.add_argument(flag, nargs="+", action="extend", default=[], metavar=metavar, help=text)
    sub.add_argument(
        "--sweep", metavar="JOURNAL", help="a journal of 'lowrank sweep', for accuracy at each rank"
    )
    sub.add_argument("--layers", type=_names, default=(), metavar="A,B",
                     help="the layers that the views of single layers show (default: as many as fit)")  # fmt: skip
    sub.add_argument("--time", type=_whole, default=0, metavar="N", help="time each layer, over N passes")
    sub.add_argument("--max-size", type=_size, default=10.0, metavar="MB", help="of the file")
    sub.add_argument("--open", action="store_true", help="open it in a browser")
    add_rules(sub)
    add_allow_missing(sub)
    add_device(sub)
    add_trust(sub, runs_python=True)


def _net(args: argparse.Namespace) -> Net:
    """The net in phase test, with its weights if there are some."""
    if args.weights is not None:
        return trained_net(args)
    return Net(args.net, phase="test", level=args.level, stages=args.stage, seed=0)


def _weights_name(args: argparse.Namespace) -> str | None:
    if args.weights is None:
        return Path(args.net).name if has_weights(args.net) else None
    return Path(args.weights).name


def _pictures(net: Net, names: Sequence[str], args: argparse.Namespace) -> Pictures:
    """The images to show: those that are named, or the net's own. Raises DataError or ShapeError."""
    if args.images and has_data(net):
        raise DataError(
            f"{args.net}: has data layers, so it takes no image files; name none, or give the deploy net"
        )
    if len(net.inputs) > 1:
        raise DataError(
            f"{args.net}: has {len(net.inputs)} inputs ({listing(net.inputs)}); image files fill one. Fill their "
            "blobs in Python, and mc.report(net) shows that"
        )
    if args.images:
        classifier = make_classifier(net, args)
        if names:
            check_labels(names, net.blobs[classifier.output], args.labels)
        return from_images(classifier, args.images, ())
    if not has_data(net):
        raise DataError(
            f"{args.net}: nothing to show it, as it has no data layers in phase test; name image files "
            "(minicaffe report NET IMAGE …), or give the net with its data (train.yaml)"
        )
    return from_data(net, args.count)


def _whole(text: str) -> int:
    return 0 if text == "0" else positive(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _size(text: str) -> float:
    """A size of at least 0.2 MB: a page needs its scripts."""
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0.2 <= size <= 1000:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number of megabytes from 0.2 to 1000, as 10")
    return size


COMMANDS = [
    Command("report", report, _add_flags,
            "report prototxt/lenet/train.yaml --weights models/lenet.npz --layers conv2 -o report.html"),
]  # fmt: skip
