"""``batch_sampler``: parts of an image that SSD trains on, drawn at random until they show enough of an object.

A box of scale s and aspect ratio a, both drawn uniformly, has the width s · √a and the height s / √a in units of
the image's sides, with s² ≤ a ≤ 1 / s² so that it fits in; then its place is drawn. It is kept if it meets the
constraint with at least one object. Of the kinds of constraint, overlap, coverage of the sample, coverage of the
object, only the first that is given counts: so it is in ``sampler.cpp`` of weiliu89/caffe, branch ssd.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.data.augmentation.boxes import WHOLE, coverage
from minicaffe.ops.detection.boxes import overlaps
from minicaffe.spec.fields import Bool, Float, Int, Message, Nested

AT_ONCE = 50  # trials
JITTERS = np.cumsum([0.2, 0.2, 0.6])  # how often an image is left as it is, moved by half as much, by all


class Sampler(Message):
    """The range of scales, as shares of the image, and of aspect ratios, width / height in these units."""

    min_scale = Float(1.0, above=0, max=1)
    max_scale = Float(1.0, above=0, max=1)
    min_aspect_ratio = Float(1.0, above=0)
    max_aspect_ratio = Float(1.0, above=0)

    def check(self) -> None:
        for low, high in (("min_scale", "max_scale"), ("min_aspect_ratio", "max_aspect_ratio")):
            if getattr(self, low) > getattr(self, high):
                raise self.error(high, f"is less than {low}; exchange them")

    def boxes(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """``count`` boxes (count, 4)."""
        drawn = rng.random((4, count), np.float32)
        scale = _between(self.min_scale, self.max_scale, drawn[0])
        aspect = _between(self.min_aspect_ratio, self.max_aspect_ratio, drawn[1])
        square = scale * scale
        aspect = np.minimum(np.maximum(aspect, square), 1 / square)
        sides = np.stack([scale * np.sqrt(aspect), scale / np.sqrt(aspect)], axis=1)
        first = drawn[2:].T * np.maximum(1 - sides, 0)
        return np.concatenate([first, first + sides], axis=1)


class SampleConstraint(Message):
    """What a box must have in common with at least one object.

    ``jaccard_overlap``: intersection over union; ``sample_coverage``: the part of the box that the object covers;
    ``object_coverage``: the part of the object that the box covers.
    """

    min_jaccard_overlap = Float()
    max_jaccard_overlap = Float()
    min_sample_coverage = Float()
    max_sample_coverage = Float()
    min_object_coverage = Float()
    max_object_coverage = Float()

    def met_by(self, samples: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """Whether each of the boxes (s, 4) meets it with one of the objects (n, 4): (s,)."""
        boxes = samples[:, None]
        for kind, share_of, pair in (
            ("jaccard_overlap", overlaps, (boxes, objects)),
            ("sample_coverage", coverage, (boxes, objects)),
            ("object_coverage", coverage, (objects, boxes)),
        ):
            low, high = (getattr(self, f"{end}_{kind}") for end in ("min", "max"))
            if low is None and high is None:
                continue
            shares = share_of(*pair)
            meets = np.ones(shares.shape, bool)
            if low is not None:
                meets &= shares >= np.float32(low)
            if high is not None:
                meets &= shares <= np.float32(high)
            return np.asarray(meets.any(axis=1))
        return np.ones(len(samples), bool)


class BatchSampler(Message):
    """Draws boxes, ``max_trials`` times at most, or until ``max_sample`` have met the constraint."""

    use_original_image = Bool(True)
    sampler = Nested(Sampler)
    sample_constraint = Nested(SampleConstraint)
    max_sample = Int(min=0)
    max_trials = Int(100, min=0)

    def samples(self, objects: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The boxes that have met the constraint with objects (n, 4): (s, 4)."""
        found = np.zeros((0, 4), np.float32)
        if not self.use_original_image:
            return found
        most = self.max_trials if self.max_sample is None else self.max_sample
        for begin in range(0, self.max_trials, AT_ONCE):
            if len(found) >= most:
                break
            boxes = self.sampler.boxes(min(AT_ONCE, self.max_trials - begin), rng)
            found = np.concatenate([found, boxes[self.sample_constraint.met_by(boxes, objects)]])
        return found[:most]


def draw_sample(
    samplers: Sequence[BatchSampler], objects: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """One of the boxes that all samplers have found, (4,), cut off at the image's border; None if there is none."""
    found = np.concatenate([sampler.samples(objects, rng) for sampler in samplers])
    if not len(found):
        return None
    chosen: np.ndarray = found[rng.integers(len(found))].clip(0, 1)
    return chosen


def draw_jitter(jitter: float, keeps_aspect: bool, rng: np.random.Generator) -> np.ndarray:
    """A part of an image, (4,), whose sides are smaller by up to ``jitter``, as MobileNet-YOLO's Caffe draws it.

    ``keeps_aspect``: both by as much. One time in five it is the whole image, one in five ``jitter`` is halved.
    """
    change = int(np.searchsorted(JITTERS, rng.random() * JITTERS[-1]))
    if change == 0:
        return WHOLE
    least = 1 - (jitter / 2 if change == 1 else jitter)
    width = rng.uniform(least, 1)
    height = width if keeps_aspect else rng.uniform(least, 1)
    x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return np.array([x, y, x + width, y + height], np.float32).clip(0, 1)


def _between(low: float, high: float, drawn: np.ndarray) -> np.ndarray:
    """Numbers of [0, 1) as numbers from ``low`` on."""
    return np.float32(low) + np.float32(high - low) * drawn
