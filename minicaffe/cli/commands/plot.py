"""``minicaffe plot``: the curves of training logs, as a picture or for TensorBoard."""

from __future__ import annotations

import argparse
import logging

from minicaffe.cli.command import Command
from minicaffe.cli.flags import positive
from minicaffe.errors import counted
from minicaffe.files.atomic import refuse_overwriting
from minicaffe.inspect.logs import read_logs
from minicaffe.inspect.plot import plot_runs
from minicaffe.inspect.tensorboard import write_events

MANY = 6  # lines of one kind that still can be told apart
logger = logging.getLogger("minicaffe")


def plot(args: argparse.Namespace) -> None:
    """Draw the curves of training logs: ours, or Caffe's."""
    out = args.output or (None if args.tensorboard else "curves.svg")
    refuse_overwriting([out] if out else [], args.log)
    runs = read_logs(args.log, args.last)
    if args.tensorboard:
        write_events(runs, args.tensorboard)
        logger.info(
            "Events of %s in %s; look at them with: tensorboard --logdir %s",
            counted(len(runs), "run"),
            args.tensorboard,
            args.tensorboard,
        )
    if out:
        if len(runs) > MANY:
            logger.warning("%d runs are many in one picture; --last 1 draws the last of each log", len(runs))
        plot_runs(runs, out, args.x, args.smooth)
        logger.info("Curves of %s in %s", ", ".join(run.name for run in runs), out)


def _add_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("log", nargs="+", help="<prefix>.log.jsonl, or what Caffe or 'train' has printed")
    sub.add_argument("-o", "--output", metavar="FILE", help="a .svg or .png file (default: curves.svg)")
    sub.add_argument("--x", choices=["iteration", "time"], default="iteration",
                     help="what goes from left to right (default: iteration)")  # fmt: skip
    sub.add_argument("--smooth", type=positive, metavar="N",
                     help="the thick line is the mean of N losses (default: of a 20th of them)")  # fmt: skip
    sub.add_argument("--last", type=positive, metavar="N",
                     help="only the last N runs of each log (default: all)")  # fmt: skip
    sub.add_argument("--tensorboard", metavar="DIR", help="write events for TensorBoard there instead")


COMMANDS = [Command("plot", plot, _add_flags, "plot snapshots/lenet.log.jsonl -o curves.png")]
