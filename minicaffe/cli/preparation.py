"""The flags that say what image files go through before a net sees them, and the classifier that they make."""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path

import numpy as np

from minicaffe.classify.classifier import Classifier
from minicaffe.core.net import Net
from minicaffe.data.mean import load_mean
from minicaffe.errors import DataError

logger = logging.getLogger("minicaffe")
MAX_NUMBER = 1e38  # of float32, about


def add_preparation_flags(sub: argparse.ArgumentParser) -> None:
    """Add --mean, --raw-scale, --input-scale, --channel-swap and --image-dims, for ``make_classifier``."""
    sub.add_argument(
        "--mean", metavar="FILE|B,G,R", help="a mean image, or numbers (default: as in the weights)"
    )
    sub.add_argument("--raw-scale", type=_number, metavar="X",
                     help="what pixels, 0 … 1, are multiplied by (default: as in the weights)")  # fmt: skip
    sub.add_argument("--input-scale", type=_number, metavar="X", help="the same, after the mean")
    sub.add_argument("--channel-swap", type=_whole_numbers, metavar="2,1,0",
                     help="the order of red, green, blue (default: as in the weights)")  # fmt: skip
    sub.add_argument("--image-dims", type=_whole_numbers, metavar="H,W",
                     help="resize to this, then crop the input's size (default: as in the weights)")  # fmt: skip


def make_classifier(net: Net, args: argparse.Namespace) -> Classifier:
    """A classifier as the flags say; logs how images are prepared, which the weights or defaults may say."""
    classifier = Classifier(
        net,
        image_dims=args.image_dims,
        mean=None if args.mean is None else _read_mean(args.mean),
        input_scale=args.input_scale,
        raw_scale=args.raw_scale,
        channel_swap=args.channel_swap,
    )
    assumed = "The weights do not say what pictures go through; taken to be"
    logger.info("%s: %s", assumed if classifier.is_assumed else "Pictures", classifier.preparation)
    return classifier


def _read_mean(text: str) -> np.ndarray:
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        if not Path(text).is_file():
            raise DataError(
                f"--mean {text or repr(text)}: neither a file nor numbers; write 104,117,123"
            ) from None
        return load_mean(Path(text))
    if not all(abs(number) < MAX_NUMBER for number in numbers):
        raise DataError(f"--mean {text}: not numbers that can be subtracted; write 104,117,123")
    return np.array(numbers, np.float32)


def _number(text: str) -> float:
    """A number that is neither nan nor infinite, in float32."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) < MAX_NUMBER:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number, as 255 or 0.017")
    return number


def _whole_numbers(text: str) -> tuple[int, ...]:
    """2,1,0."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(
            f"'{text}': write whole numbers with commas between them, as in 2,1,0"
        )
    return tuple(int(part) for part in text.split(","))
