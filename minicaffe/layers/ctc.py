"""What the layers of connectionist temporal classification have in common: scores (T, N, C), and labels as lists.

The arithmetic is in ``ops/ctc.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, Layer
from minicaffe.device.array import Array, to_host
from minicaffe.errors import DataError
from minicaffe.layers.loss import LossLayer
from minicaffe.ops.ctc import Integers, Targets, forward_backward, log_softmax

logger = logging.getLogger("minicaffe")


def sizes_of(layer: Layer, blob: Blob) -> tuple[int, int, int]:
    """T, N and C of scores (T, N, C) or (T, N, C, 1). Raises ShapeError if they have another shape."""
    shape = blob.shape
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,)) or 0 in shape:
        raise layer.shape_error(f"scores have shape {shape}; expected (steps, sequences, classes)")
    steps, batch, classes = shape[:3]
    return steps, batch, classes


def whole_numbers(blob: Blob) -> Integers:
    """A blob's data as whole numbers on the host, rounded half up as the forks do."""
    return np.floor(to_host(blob.data) + 0.5).astype(np.int64)


def row_count(layer: Layer, blob: Blob, what: str, batch: int) -> int:
    """The rows of a blob (rows, N) or (rows, N, 1, 1). Raises ShapeError if it has not N = ``batch`` columns."""
    shape = blob.shape
    if len(shape) < 2 or shape[1] != batch or blob.count != shape[0] * batch:
        raise layer.shape_error(f"{what} of shape {shape}; expected (steps, {batch} sequences)")
    return shape[0]


def check_cont(layer: Layer, blob: Blob, steps: int, batch: int) -> None:
    """Raise ShapeError if a blob is not cont (T, N), or (T, N, 1, 1)."""
    if row_count(layer, blob, "cont", batch) != steps:
        raise layer.shape_error(f"cont of shape {blob.shape}; expected ({steps}, {batch})")


def lengths_by_breaks(cont: Integers) -> Integers:
    """The steps (N,) before the first 0 of cont (T, N) after its first row: a 0 there begins another sequence."""
    return first_rows(cont[1:] == 0) + 1


def first_rows(found: NDArray[np.bool_]) -> Integers:
    """The first row where each column is true; the number of rows where it nowhere is."""
    bounded = np.concatenate([found, np.ones((1, found.shape[1]), bool)])
    rows: Integers = bounded.argmax(axis=0)
    return rows


def until_negative(labels: Integers) -> list[Integers]:
    """The labels of each column of (L, N) before its first negative number."""
    return [column[:end] for column, end in zip(labels.T, first_rows(labels < 0), strict=True)]


def check_classes(layer: Layer, rows: list[Integers], classes: int) -> None:
    """Raise DataError for a label that is not a class."""
    for n, row in enumerate(rows):
        wrong = row[(row < 0) | (row >= classes)]
        if wrong.size:
            raise DataError(
                f"{layer.spec.where}: label {wrong[0]} of sequence {n}, but there are {classes} classes, "
                f"0 to {classes - 1}; mend the labels, or num_output"
            )


def steps_of_labelled(layer: Layer, rows: list[Integers], steps: Integers, delay: int = 0) -> Integers:
    """The steps of each sequence, 0 of those without labels; the first ``delay`` ones are not in ``steps``.

    Raises DataError for more labels than steps, and for no labels at more than one step.
    """
    lengths = np.array([len(row) for row in rows])
    for n in np.flatnonzero((lengths > steps) | ((lengths == 0) & (steps + delay > 1))):
        raise DataError(
            f"{layer.spec.where}: sequence {n} has {lengths[n]} labels and {steps[n]} steps; expected at most "
            "one label for each step, and one step where there is no label"
        )
    return np.where(lengths > 0, steps, 0)


class CTCLossLayer(LossLayer):
    """Base of the CTC losses: −log p(labels) of each sequence, and p_t(c) minus what γ says.

    A subclass sets ``sizes``: T, N and C, ``axes``: the axes of x that they are, then all others, and in forward
    ``slope`` (T, N, C), dx for a loss weight of 1.
    """

    sizes: tuple[int, int, int]
    axes: list[int]
    slope: Array

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def costs(
        self, x: Array, targets: Targets, blank: int, *, merges: bool = True
    ) -> tuple[Array, Array, Array]:
        """−log p(labels) (N,), inf where no path spells them, then p_t and Σ γ, both (T, N, C).

        p_t is 0 after the last step of a sequence.
        """
        logs = log_softmax(x)
        log_p, counts = forward_backward(logs, targets, blank, merges=merges)
        lasts = self.xp.arange(len(x))[:, None] < self.xp.asarray(targets.steps)
        return -log_p, self.xp.where(lasts[..., None], self.xp.exp(logs), 0), counts

    def warn_of_few_steps(self, targets: Targets, consequence: str, merges: bool = True) -> None:
        """Warn once of a sequence that is too short for its labels."""
        needed = targets.steps_needed(merges)
        short = np.flatnonzero((needed > targets.steps) & (targets.lengths > 0))
        if short.size and "few steps" not in self.setting.told:
            self.setting.told.add("few steps")
            n = short[0]
            logger.warning(
                "%s: the %d labels of sequence %d need %d steps, but it has %d; %s",
                *(self.spec.where, targets.lengths[n], n, needed[n], targets.steps[n], consequence),
            )

    def scores(self, blob: Blob) -> Array:
        """x as (T, N, C), contiguous."""
        x: Array = self.xp.ascontiguousarray(blob.data.transpose(self.axes)).reshape(self.sizes)
        return x

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            dx = bottom[0].diff.transpose(self.axes)
            dx[...] = (self.slope * top[0].stored_diff).reshape(dx.shape)


class WarpCTCLayer(CTCLossLayer):
    """Base of the losses around warp-ctc: a sequence too short for its labels costs 0, and gets no gradient.

    The loss is the sum of the costs by the number of sequences with labels or steps. A subclass sets ``blank`` too.
    """

    blank: int

    def targets(self, bottom: Blobs) -> Targets:
        """What the sequences should spell. Raises DataError for labels that cannot be."""
        raise NotImplementedError

    def check_label_rows(self, blob: Blob) -> None:
        """Raise ShapeError if labels are not (N, L)."""
        shape, batch = blob.shape, self.sizes[1]
        if shape[:1] != (batch,) or len(shape) < 2:
            raise self.shape_error(f"labels have shape {shape}; expected ({batch} sequences, labels)")

    def label_rows(self, blob: Blob) -> list[Integers]:
        """The labels of (N, L) that are not blank, wherever they stand."""
        labels = whole_numbers(blob).reshape(self.sizes[1], -1)
        return [row[row != self.blank] for row in labels]

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp = self.xp
        x = self.scores(bottom[0])
        targets = self.targets(bottom)
        self.warn_of_few_steps(targets, "it counts as a loss of 0")
        costs, probabilities, counts = self.costs(x, targets, self.blank)
        exists = xp.asarray(targets.steps_needed() <= targets.steps) & xp.asarray(targets.steps > 0)
        self.slope = xp.where(exists[:, None], probabilities - counts, 0)
        number = np.count_nonzero((targets.steps > 0) | (targets.lengths > 0))
        top[0].stored[...] = xp.where(exists, costs, 0).sum() / max(1, number)
