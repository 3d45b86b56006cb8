"""``minicaffe check-gradients``: is the backward of a net, or of a layer, the derivative of its forward?"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from minicaffe.cli.command import Command
from minicaffe.cli.flags import add_device, add_rules, add_trust, choose_device, positive
from minicaffe.core.net import Net
from minicaffe.core.table import format_table
from minicaffe.device.array import to_host
from minicaffe.errors import SpecError, counted
from minicaffe.inspect.gradients import Subject, subject_of
from minicaffe.layers.eltwise import EltwiseParam
from minicaffe.layers.pooling import PoolingParam
from minicaffe.layers.reduction import ReductionParam
from minicaffe.testing import BlobGradients, GradientComparison, compare_gradients
from minicaffe.train.progress import Progress

logger = logging.getLogger("minicaffe")
WRONG = 1  # the exit status where a gradient is wrong
TOLERANCE, STEP = 1e-6, 1e-5
BENT = ("AbsVal", "Clip", "HingeLoss", "PReLU", "ReLU", "ReLU6", "ROIPooling", "SPP")


def check_gradients(args: argparse.Namespace) -> int:
    """Compare gradients with central differences; exit status 1 if one is wrong."""
    choose_device(args)
    subject = subject_of(args.checked, args.shape, args.phase, args.level, args.stage)
    with subject.net, subject.named_in_errors(), _without_what_layers_tell():
        progress: list[Progress] = []

        def watch(done: int, total: int) -> None:
            if not progress:
                progress.append(Progress(total, "numbers"))
            progress[0].say_some()

        compared = compare_gradients(
            subject.net, subject.inputs, by=subject.by, most=args.most or subject.most, tolerance=TOLERANCE,
            step=STEP, watch=watch,
        )  # fmt: skip
    if not compared.blobs:
        raise SpecError(f"check-gradients {args.checked}: nothing in it has a gradient")
    wrong = [blob for blob in compared.blobs if _is_wrong(blob)]
    for line in _lines(subject, compared, wrong):
        print(line)
    return WRONG if wrong or all(blob.place is None for blob in compared.blobs) else 0


@contextmanager
def _without_what_layers_tell() -> Iterator[None]:
    """A context in which of what is no warning only progress is logged: forward runs for each number."""

    def is_wanted(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or record.module == "progress"

    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)


def _is_wrong(blob: BlobGradients) -> bool:
    """Not so a gradient of 0 where f has no slope, as that of a bias below BatchNorm."""
    return blob.wrong > 0 or (blob.says_nothing and blob.backward != 0)


def _lines(subject: Subject, compared: GradientComparison, wrong: list[BlobGradients]) -> Iterator[str]:
    yield f"{subject.title}: backward against central differences, h = {STEP:g}, in float64"
    head = ("", "numbers", "tried", "at kinks", "largest error", "there", "backward", "difference", "")
    yield format_table(head, [_row(blob) for blob in compared.blobs], right=(1, 2, 3, 4, 6, 7))
    kinks, near = sum(blob.kinks for blob in compared.blobs), sum(blob.near for blob in compared.blobs)
    bent = _bent_layers(compared.net)
    if kinks:
        where = f" ({bent})" if bent else ""
        yield f"{counted(kinks, 'number')} at a kink, where there is no derivative, stepped over{where}"
    if near:
        yield f"{counted(near, 'number')} beside a kink, compared at smaller steps"
    nothing = [blob.name for blob in compared.blobs if blob.place is None and not _is_wrong(blob)]
    if nothing:
        yield f"Of {', '.join(nothing)} nothing can be said: the result does not depend on them, or has kinks alone"
    for name in _never_written(compared):
        top = "The top" if len(compared.net.outputs) == 1 else f"The top '{name}'"
        yield f"{top} is 0 everywhere: does the forward of its layer write it, as in top[0].data[...] = …?"
    for layer in compared.net.layers:
        if layer.backward_instead:
            where = "" if subject.is_layer else f"{layer.name}: "
            yield (
                f"{where}backward of {layer.type} is not the derivative of its forward, as in its fork: it is "
                f"{layer.backward_instead}; whether the two agree depends on settings and numbers"
            )
    if wrong:
        yield f"WRONG: {', '.join(blob.name for blob in wrong)} (errors above {TOLERANCE:g})"
    elif all(blob.place is None for blob in compared.blobs):
        yield "Neither right nor wrong: no number could be compared"
    else:
        yield f"Right: all errors are below {TOLERANCE:g}"


def _never_written(compared: GradientComparison) -> Iterator[str]:
    """The outputs that are all 0, where some result depends on nothing."""
    if any(blob.says_nothing for blob in compared.blobs):
        for name in compared.net.outputs:
            if not np.any(to_host(compared.net.blobs[name].data)):
                yield name


def _row(blob: BlobGradients) -> tuple[str, ...]:
    counts = (blob.name, f"{blob.count:,}", f"{blob.tried:,}", str(blob.kinks) if blob.kinks else "")
    if blob.place is None:
        verdict = "wrong" if _is_wrong(blob) else ""
        return (*counts, "", "", f"{blob.backward:.6g}" if verdict else "", "0" if verdict else "", verdict)
    place = f"[{', '.join(map(str, blob.place))}]"
    numbers = (f"{blob.error:.1e}", place, f"{blob.backward:.6g}", f"{blob.difference:.6g}")
    return (*counts, *numbers, f"{blob.wrong} wrong" if blob.wrong else "")


def _bent_layers(net: Net) -> str:
    """The layers whose forward has kinks."""
    found = []
    for layer in net.layers:
        pooling, eltwise = layer.spec.find_message(PoolingParam), layer.spec.find_message(EltwiseParam)
        reduction = layer.spec.find_message(ReductionParam)
        if (pooling and pooling.pool == "MAX") or (eltwise and eltwise.operation == "MAX"):
            found.append(f"{layer.name}: equal numbers in a maximum")
        elif layer.type in BENT or (reduction and reduction.operation == "ASUM"):
            found.append(f"{layer.name}: {layer.type}")
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def _shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}': write sizes with commas between them, as in 2,3,8,8")
    return tuple(map(int, parts))


def _add_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "checked",
        metavar="NET|TYPE",
        help="a net spec; a layer type, as Pooling; or the text of a layer, as 'type: ReLU, relu_param: {…}'",
    )
    sub.add_argument("--shape", type=_shape, action="append", default=[], metavar="N,C,H,W",
                     help="of a layer's bottom; once for each (default: those of an example)")  # fmt: skip
    sub.add_argument(
        "--most",
        type=positive,
        metavar="N",
        help="how many numbers of each blob to try (default: of a layer 1000; of a net 50, of large ones fewer)",
    )
    sub.add_argument(
        "--phase", choices=["train", "test"], help="the phase of a net (default: train; of a deploy net test)"
    )
    add_rules(sub)
    add_device(sub)
    add_trust(sub, runs_python=True)


COMMANDS = [
    Command("check-gradients", check_gradients, _add_flags, "check-gradients prototxt/lenet/train.yaml")
]
