"""CTCLoss: how improbable labels are, given scores at every step, without an alignment of the two.

    loss = Σ_n cost_n / N,  cost_n = −log p(labels of n), the formula in ``ops/ctc.py``
    dx_t(c) = loss_weight · (p_t(c) − Σ_{s: ℓ_s = c} γ_t(s)), not divided by N, as in the fork

Shapes: scores x (T, N, C) for T steps of N sequences, before the softmax; cont (T, N), 0 where a sequence begins
and 1 where it goes on; labels (L, N) that end with the first negative, or the first that is no class.

The class of blank is ``blank_index``, by default the last. A sequence without labels counts as a loss of 0. One
that is too short for its labels has an infinite loss, and dx_t(c) = p_t(c).

The CTCLossLayer of ChWick/caffe (BVLC/caffe #4681; MhLiao/TextBoxes_plusplus has it too), in which
``loss_weight`` does not change the gradient; here it does. That of hzli-ucas/caffe is in ``ctc_loss_by_axes.py``.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.errors import DataError
from minicaffe.layers.ctc import (
    CTCLossLayer,
    check_cont,
    lengths_by_breaks,
    row_count,
    sizes_of,
    steps_of_labelled,
    until_negative,
    whole_numbers,
)
from minicaffe.layers.ctc_loss_by_axes import CTCParam
from minicaffe.ops.ctc import Integers, Targets, padded
from minicaffe.spec.fields import Bool, Int, Message


class CTCLossParam(Message):
    """``blank_index``: the class of blank; negative: the last.

    ``output_delay``: the steps before the first that counts. ``preprocess_collapse_repeated``: equal neighbours
    in the labels become one. ``ctc_merge_repeated``: equal neighbours in a path are one label; if false, each is
    a label. ``loss_calculation_t`` has no effect, in the fork either: p is the same computed at any step.
    """

    output_delay = Int(0, min=0)
    blank_index = Int(-1)
    preprocess_collapse_repeated = Bool(False)
    ctc_merge_repeated = Bool(True)
    loss_calculation_t = Int(0)


@register_layer
class CTCLoss(CTCLossLayer):
    """A loss for nets that read text or speech."""

    messages = {"ctc_loss_param": CTCLossParam, "ctc_param": CTCParam}
    bottoms = (2, 3)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape()
        self.axes = list(range(len(bottom[0].shape)))
        self.param = self.spec.message(CTCLossParam)
        steps, batch, classes = self.sizes = sizes_of(self, bottom[0])
        self.blank = self.param.blank_index if self.param.blank_index >= 0 else classes - 1
        if self.blank >= classes:
            raise self.param.error("blank_index", f"{self.blank}, but there are {classes} classes")
        if self.param.output_delay >= steps:
            raise self.param.error("output_delay", f"{self.param.output_delay}, but there are {steps} steps")
        check_cont(self, bottom[1], steps, batch)
        row_count(self, bottom[2], "labels", batch)

    def targets(self, bottom: Blobs) -> Targets:
        """What the sequences should spell. Raises DataError for labels that cannot be."""
        batch, delay = self.sizes[1], self.param.output_delay
        rows = until_negative(whole_numbers(bottom[2]).reshape(-1, batch))
        steps = lengths_by_breaks(whole_numbers(bottom[1]).reshape(-1, batch)) - delay
        steps = steps_of_labelled(self, rows, steps, delay)
        return Targets(*padded([self._cleared(n, row) for n, row in enumerate(rows)]), steps)

    def _cleared(self, n: int, row: Integers) -> Integers:
        """The labels of a sequence up to the first that is no class, without repetitions if so asked."""
        if self.param.preprocess_collapse_repeated:
            row = row[np.diff(row, prepend=-1) != 0]
        is_none = (row >= self.sizes[2]) | (row == self.blank)
        end = int(is_none.argmax()) if is_none.any() else len(row)
        if not is_none[end:].all():
            raise DataError(
                f"{self.spec.where}: label {row[end]} of sequence {n} ends it, but others follow; mend the labels"
            )
        return row[:end]

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, delay, merges = self.xp, self.param.output_delay, self.param.ctc_merge_repeated
        targets = self.targets(bottom)
        self.warn_of_few_steps(targets, "its loss is infinite", merges)
        x = self.scores(bottom[0])[delay:]
        costs, probabilities, counts = self.costs(x, targets, self.blank, merges=merges)
        self.slope = xp.zeros(self.sizes, counts.dtype)
        self.slope[delay:] = probabilities - counts
        costs = xp.where(xp.asarray(targets.steps > 0), costs, 0)
        top[0].stored[...] = costs.sum() / len(targets.steps)
