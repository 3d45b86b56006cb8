"""``minicaffe draw``: a net as a picture."""

from __future__ import annotations

import argparse

from minicaffe.cli.command import Command
from minicaffe.cli.flags import add_net, add_trust
from minicaffe.files.atomic import refuse_overwriting
from minicaffe.files.spec_formats import open_net
from minicaffe.inspect.drawing import check_ending, draw_spec
from minicaffe.spec.net import unknown_types_allowed


def draw(args: argparse.Namespace) -> None:
    """Draw a net: its layers, how they are connected, where its work and its parameters are."""
    check_ending(args.output)
    refuse_overwriting([args.output], [args.net, args.weights])
    with unknown_types_allowed():
        spec = open_net(args.net)
    drawing = draw_spec(
        spec,
        args.phase,
        weights=args.weights,
        level=args.level,
        stages=args.stage,
        direction=args.direction,
        unfold=args.unfold,
    )
    drawing.save(args.output)
    print(f"Wrote {args.output}: {drawing.contents}")


def _add_flags(sub: argparse.ArgumentParser) -> None:
    add_net(sub)
    sub.add_argument("-o", "--output", metavar="FILE", required=True,
                     help="the file to write: .svg, .png, or .dot for Graphviz")  # fmt: skip
    sub.add_argument("--phase", choices=["train", "test", "both"],
                     help="the phase that is drawn (default: train; of a net without data and loss, test); "
                     "with 'both', layers of one phase are dashed")  # fmt: skip
    sub.add_argument("--direction", choices=["TB", "LR"], default="TB",
                     help="from top to bottom, or from left to right (default: TB)")  # fmt: skip
    sub.add_argument("--unfold", action="store_true",
                     help="draw all blocks that a large net repeats, not one with their number")  # fmt: skip
    sub.add_argument(
        "--weights", metavar="FILE", help="weights (.npz or .caffemodel), for ranks that depend on them"
    )
    add_trust(sub, runs_python=False)


COMMANDS = [Command("draw", draw, _add_flags, "draw prototxt/lenet/deploy.yaml -o lenet.svg")]
