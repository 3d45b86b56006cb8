"""How the priors of a batch are matched and mined: ``matching.py`` and ``mining.py``, image after image.

Of N images, P priors and R true boxes, matches are arrays (N, L, P) of indices of true boxes, NONE or IGNORED: L is
1, or the number of classes if each has locations of its own. Loops are over images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from minicaffe.ops.detection import Array
from minicaffe.ops.detection.ground_truth import GroundTruth
from minicaffe.ops.detection.matching import NONE, match
from minicaffe.ops.detection.mining import hardest, hardest_apart


@dataclass(frozen=True)
class MatchRules:
    """``threshold`` and ``ignore_outside`` as ``match`` has them.

    ``by_class``: each class has candidates of its own, which are matched with the boxes of its label only.
    """

    threshold: float | None
    ignore_outside: bool
    by_class: bool = False

    def match_some(self, candidates: Array, truth: GroundTruth, own: Array) -> tuple[Array, Array]:
        """Match candidates (P, 4) with the true boxes of these indices: indices (P,), and highest overlaps (P,)."""
        found, highest = match(candidates, truth.boxes[own], self.threshold, self.ignore_outside)
        return np.where(found > NONE, own[found.clip(0)], found), highest


def match_images(
    truth: GroundTruth,
    candidates: Callable[[int, int], Array],
    shape: tuple[int, int, int],
    rules: MatchRules,
    dtype: np.dtype,
) -> tuple[Array, Array]:
    """Matches (N, L, P), ``shape``, and the highest overlap of each candidate with a true box (N, L, P).

    ``candidates(image, class)`` are boxes (P, 4); without ``by_class`` those of class 0 are for all. A match is
    then in the row of its label, if there is one for each class.
    """
    matches, highest = np.full(shape, NONE), np.zeros(shape, dtype)
    for image in np.unique(truth.images):
        own = np.arange(len(truth.labels))[truth.of(image)]
        labels = truth.labels[own]
        if rules.by_class:
            for c in np.unique(labels):
                some = rules.match_some(candidates(image, c), truth, own[labels == c])
                matches[image, c], highest[image, c] = some
            continue
        found, highest[image] = rules.match_some(candidates(image, 0), truth, own)
        if shape[1] > 1:
            label = np.where(found > NONE, truth.labels[found.clip(0)], NONE)
            found = np.where(np.arange(shape[1])[:, None] == label, found, NONE)
        matches[image] = found
    return matches, highest


@dataclass(frozen=True)
class MiningRules:
    """Which priors become examples.

    With ``negatives_per_match`` they are the matches, and for each so many of the hardest priors that overlap every
    box by less than ``neg_overlap``; else the ``most`` hardest of all. ``threshold`` and ``top_k``: see
    ``hardest_apart``; no threshold, or 0, is none.
    """

    negatives_per_match: float | None
    neg_overlap: float
    most: int
    threshold: float | None
    top_k: int

    def hardest(self, losses: Array, eligible: Array, most: int, boxes: Callable[[], Array]) -> Array:
        """Indices of the hardest priors of one image; ``boxes`` (P, 4) are those that have to lie apart."""
        if not self.threshold:
            return hardest(losses, eligible, most)
        return hardest_apart(losses, eligible, most, boxes(), self.threshold, self.top_k)


def mine(
    rules: MiningRules,
    images: Array,
    losses: Array,
    matches: Array,
    highest: Array,
    is_object: Array | None,
    boxes: Callable[[int], Array],
) -> Array:
    """Which priors (N, P) of these images are examples, by losses, matches and highest overlaps (N, P).

    Without ``negatives_per_match``, matches that are no examples are taken back, in place. ``is_object``: which
    priors (N, P) are looked at (None: all); ``boxes(image)``: see ``MiningRules.hardest``.
    """
    examples = np.zeros(losses.shape, bool)
    for image in images:
        found = matches[image]
        is_matched = found > NONE
        if rules.negatives_per_match is not None:
            eligible = (found == NONE) & (highest[image] < rules.neg_overlap)
            most = int(np.float32(rules.negatives_per_match) * np.float32(is_matched.sum()))
        else:
            eligible, most = np.ones(len(found), bool), rules.most
        if is_object is not None:
            eligible &= is_object[image]
        chosen = np.zeros(len(found), bool)
        chosen[rules.hardest(losses[image], eligible, most, partial(boxes, image))] = True
        examples[image] = chosen & (found == NONE)
        if rules.negatives_per_match is None:
            found[is_matched & ~chosen] = NONE
        examples[image] |= found > NONE
    return examples
