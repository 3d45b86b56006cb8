"""WarpCTCLoss: how improbable labels are, given scores at every step, without an alignment of the two.

    loss = Σ_n cost_n / M,  cost_n = −log p(labels of n), the formula in ``ops/ctc.py``
    dx_t(c) = loss_weight · (p_t(c) − Σ_{s: ℓ_s = c} γ_t(s)), not divided by M, as in the forks

Shapes: scores x (T, N, C) for T steps of N sequences, before the softmax, and one of
- labels (N, L): those that are not blank count, wherever they stand; every sequence has T steps;
- cont (T, N), 0 where a sequence begins and 1 where it goes on, and labels (L, N) that end with the first negative;
- lengths of the sequences (N,), numbers of labels (N,), and labels (L, N).

The class of blank is ``blank_index`` (or ``blank_label``), by default 0. With cont and the default, labels count
from 0 without blank, and class k + 1 is label k; otherwise labels are classes.

M is N, less the sequences without labels and steps: with cont, those without labels. A sequence that is too short
for its labels costs 0, and gets no gradient.

The WarpCTCLossLayer of Caffe's forks around warp-ctc (baidu-research/warp-ctc; ChWick/caffe with three or four
bottoms, kasyoukin/caffe_ocr_for_linux and dlunion/CC4.0 with two). In them ``loss_weight`` does not change the
gradient; here it does. The gradient of such a sequence is what lay in the memory there.
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import to_host
from minicaffe.errors import DataError
from minicaffe.layers.ctc import (
    WarpCTCLayer,
    check_classes,
    check_cont,
    lengths_by_breaks,
    row_count,
    sizes_of,
    steps_of_labelled,
    until_negative,
    whole_numbers,
)
from minicaffe.ops.ctc import Targets, padded
from minicaffe.spec.fields import Bool, Int, Message


class WarpCTCLossParam(Message):
    """``blank_index``, or ``blank_label`` in some forks: the class of blank; negative: 0.

    The other fields are of CTCLoss and CtcLoss, which share the message, and have no effect on this type.
    """

    blank_index = Int(-1)
    blank_label = Int(0)
    alphabet_size = Int(0, min=0)
    time_step = Int(0, min=0)
    output_delay = Int(0)
    preprocess_collapse_repeated = Bool(False)
    ctc_merge_repeated = Bool(True)
    loss_calculation_t = Int(0)


@register_layer
class WarpCTCLoss(WarpCTCLayer):
    """A loss for nets that read text."""

    messages = {"ctc_loss_param": WarpCTCLossParam}
    bottoms = (2, 4)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape()
        self.axes = list(range(len(bottom[0].shape)))
        steps, batch, classes = self.sizes = sizes_of(self, bottom[0])
        param = self.spec.message(WarpCTCLossParam)
        self.blank = max(0, param.blank_index if param.has("blank_index") else param.blank_label)
        self.offset = int(len(bottom) == 3 and self.blank == 0 and param.blank_index < 0)
        if self.blank >= classes:
            raise param.error("blank_index", f"blank is class {self.blank}, but there are {classes} classes")
        *others, labels = bottom[1:]
        if len(bottom) == 2:
            self.check_label_rows(labels)
            return
        row_count(self, labels, "labels", batch)
        if len(bottom) == 3:
            check_cont(self, others[0], steps, batch)
        if len(bottom) == 4 and any(math.prod(blob.shape) != batch for blob in others):
            raise self.shape_error(
                f"lengths have shapes {others[0].shape} and {others[1].shape}; expected {batch} numbers each"
            )

    def targets(self, bottom: Blobs) -> Targets:
        """What the sequences should spell. Raises DataError for labels that cannot be."""
        steps_in_all, batch, classes = self.sizes
        steps = np.full(batch, steps_in_all)
        labels = whole_numbers(bottom[-1])
        if len(bottom) == 2:
            rows = self.label_rows(bottom[1])
        elif len(bottom) == 3:
            rows = until_negative(labels.reshape(-1, batch))
            steps = lengths_by_breaks(whole_numbers(bottom[1]).reshape(-1, batch))
            steps = steps_of_labelled(self, rows, steps)
            rows = [row + self.offset for row in rows]
        else:
            steps, lengths = (to_host(blob.data).astype(np.int64).reshape(batch) for blob in bottom[1:3])
            for what, given, most in (("steps", steps, steps_in_all), ("labels", lengths, len(labels))):
                if given.min() < 0 or given.max() > most:
                    raise DataError(
                        f"{self.spec.where}: sequences of {given.min()} to {given.max()} {what}, "
                        f"but there are at most {most}; mend the lengths"
                    )
            rows = [column[:n] for column, n in zip(labels.reshape(-1, batch).T, lengths, strict=True)]
        check_classes(self, rows, classes)
        return Targets(*padded(rows), steps)
