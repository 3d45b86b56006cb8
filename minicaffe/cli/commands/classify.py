"""``minicaffe classify``: the five likeliest classes of each image file."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from minicaffe.classify.classifier import Classifier, check_scores
from minicaffe.classify.images import load_image
from minicaffe.cli.command import Command
from minicaffe.cli.flags import (
    add_allow_missing,
    add_device,
    add_rules,
    add_trust,
    choose_device,
    trained_net,
)
from minicaffe.cli.preparation import add_preparation_flags, make_classifier
from minicaffe.core.blob import Blob
from minicaffe.core.net import Net
from minicaffe.errors import DataError, named, report
from minicaffe.files.atomic import check_name, unreadable
from minicaffe.train.scoring import first_not_finite

logger = logging.getLogger("minicaffe")
TOP = 5
NO_LABELS = "--labels {}: not a text file (UTF-8); give one with the name of a class on each line"


def classify(args: argparse.Namespace) -> int:
    """Name the likeliest classes of images; exit status 2 if one of them is none."""
    choose_device(args)
    labels = read_labels(args.labels) if args.labels is not None else []
    with trained_net(args) as net:
        return _name_classes(net, labels, args)


def _add_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("net", help="a net with one input of images: the deploy net (YAML or .prototxt)")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    sub.add_argument("--weights", metavar="FILE", required=True, help="its weights (.npz or .caffemodel)")
    add_picture_flags(sub)
    sub.add_argument(
        "--oversample",
        action="store_true",
        help="the mean over ten crops: corners, centre, and mirror images",
    )
    add_rules(sub)
    add_allow_missing(sub)
    add_device(sub)
    add_trust(sub, runs_python=True)


def add_picture_flags(sub: argparse.ArgumentParser) -> None:
    """Add --labels, and the flags that say what image files go through."""
    sub.add_argument(
        "--labels",
        metavar="FILE",
        help="a text file with the name of each class on a line (default: as in the weights)",
    )
    add_preparation_flags(sub)


def _name_classes(net: Net, labels: Sequence[str], args: argparse.Namespace) -> int:
    """Print the likeliest classes of each image, or what keeps it from being read; return the exit status.

    Raises DataError where the net gives nan.
    """
    classifier = make_classifier(net, args)
    check_scores(net, classifier.output)
    if labels:
        check_labels(labels, net.blobs[classifier.output], args.labels)
    else:
        labels = _known_names(classifier)
    blob = net.blobs[classifier.input]
    blob.reshape(10 if args.oversample else 1, *blob.shape[1:])  # images come one by one
    color, status = blob.channels == 3, 0
    for path in args.images:
        try:
            image = load_image(path, color)
        except DataError as error:  # others may be sound
            sys.stdout.flush()
            status = report(error)
            continue
        scores = classifier.predict([image], args.oversample).ravel()
        if np.isnan(scores).any():
            raise DataError(
                f"{path}: the net gives nan ({first_not_finite(net)} is the first that is not finite); "
                "check its weights, the mean and the scales"
            )
        print(path)
        for line in top_lines(scores, labels):
            print(f"  {line}")
    return status


def _known_names(classifier: Classifier) -> Sequence[str]:
    """The names of classes that came with the weights, unless the net has fewer classes."""
    output, names = classifier.net.blobs[classifier.output], classifier.class_names
    if len(names) > output.count // output.num:
        logger.warning(
            "The weights name %d classes, but the net has %d", len(names), output.count // output.num
        )
        return ()
    return names


def top_lines(scores: np.ndarray, labels: Sequence[str]) -> list[str]:
    """The five highest scores, each with the name of its class, or with its number if ``labels`` has none."""
    best = np.argsort(-scores, kind="stable")[:TOP]
    return [f"{scores[i]:.4f}  {named(labels[i]) if i < len(labels) else i}" for i in best]


def read_labels(path: str) -> list[str]:
    """The lines of a text file. Raises DataError if it is not a text file, or is empty."""
    try:
        check_name(path)
        text = Path(path).read_text(encoding="utf-8-sig").rstrip()
    except OSError as error:
        raise DataError(f"--labels {unreadable(path, error)}") from None
    except UnicodeDecodeError:
        raise DataError(NO_LABELS.format(path)) from None
    if "\0" in text:
        raise DataError(NO_LABELS.format(path))
    if not text:
        raise DataError(f"--labels {path}: the file is empty; it needs the name of a class on each line")
    return text.splitlines()


def check_labels(labels: Sequence[str], output: Blob, path: str) -> None:
    """Raise DataError unless there is one name for each class, as Caffe's classification.cpp requires."""
    classes = output.count // output.num
    if len(labels) != classes:
        raise DataError(f"--labels {path}: {len(labels)} names, but the net has {classes} classes")


COMMANDS = [
    Command("classify", classify, _add_flags,
            "classify prototxt/lenet/deploy.yaml --weights models/lenet.npz digit.png"),
]  # fmt: skip
