"""View 8, Test set: which classes the net takes for which, and the images behind each cell."""

from __future__ import annotations

import math
from typing import Any

from minicaffe.inspect.report.answered import MOST_CLASSES, MOST_PAIRS, Example
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.pictures import has_data
from minicaffe.inspect.report.record import Recording
from minicaffe.inspect.report.test_pass import tested

PAIRS = 5  # mistakes that are listed beside a matrix
DIGITS = 6  # of probabilities


def data(recording: Recording, packer: Packer, options: Options) -> dict[str, Any]:
    """Counts, mistakes and their pictures, from the test pass; "missing" where there is none."""
    if not has_data(recording.net):
        return {"missing": "the net with its test data and labels, as train.yaml, in place of the deploy net"}
    found = tested(recording, options)
    if found is None:
        return {"missing": "--test 1000"}
    confusion = found.confusion
    if confusion is None:
        return {"missing": f"a net that says one class for each image ({found.no_confusion})"}
    is_small = len(confusion.counts) <= MOST_CLASSES
    pairs = confusion.pairs(PAIRS if is_small else MOST_PAIRS)
    return {
        "count": confusion.count,
        "accuracy": confusion.accuracy,
        "interval": list(confusion.interval),
        "classes": len(confusion.counts),
        "counts": confusion.counts.tolist() if is_small else None,
        "pairs": pairs,
        "as_frequent": confusion.as_frequent(pairs),
        "in_class": confusion.counts.sum(axis=1).tolist(),
        "recall": [None if math.isnan(share) else share for share in confusion.recall.tolist()],
        "examples": [_example(example) for example in found.examples],
        "cells": {f"{true},{said}": places for (true, said), places in found.cells.items()},
        "mistakes": list(found.mistakes),
        "pictures": packer.add(found.pictures, "u8", "tests") if len(found.pictures) else None,
    }


def _example(example: Example) -> list[float]:
    """Number in the test data, true class, class said, and the probabilities of these: said, true."""
    shares = (round(share, DIGITS) for share in (example.share, example.own))
    return [example.number, example.true, example.said, *shares]
