"""CtcLoss: how improbable labels are, given scores at each of a fixed number of steps, without an alignment.

    loss = Σ_n cost_n / N,  cost_n = −log p(labels of n), the formula in ``ops/ctc.py``
    dx_t(c) = loss_weight · (p_t(c) − Σ_{s: ℓ_s = c} γ_t(s)), not divided by N, as in the fork

Shapes: scores x (T, N, C) for T = ``time_step`` steps of N sequences, before the softmax, with C =
``alphabet_size`` classes; labels (N, L), of which those that are not ``blank_label`` count, wherever they stand.

A sequence that is too short for its labels costs 0, and gets no gradient (in the fork, what lay in the memory).

The CtcLossLayer of xmfbit/warpctc-caffe, around warp-ctc (baidu-research/warp-ctc); WarpCTCLoss with two bottoms is
the same, and takes the sizes from the scores.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.layers.ctc import WarpCTCLayer, check_classes, sizes_of
from minicaffe.ops.ctc import Targets, padded
from minicaffe.spec.fields import Int, Message


class CtcLossParam(Message):
    """``alphabet_size``: C, blank among them. ``time_step``: T. ``blank_label``: the class of blank."""

    alphabet_size = Int(required=True, min=1)
    time_step = Int(required=True, min=1)
    blank_label = Int(0, min=0)


@register_layer
class CtcLoss(WarpCTCLayer):
    """A loss for nets that read captchas and the like: short texts in images of one size."""

    messages = {"ctc_loss_param": CtcLossParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape()
        self.axes = list(range(len(bottom[0].shape)))
        param = self.spec.message(CtcLossParam)
        steps, _, classes = self.sizes = sizes_of(self, bottom[0])
        for field, given, found in (
            ("time_step", param.time_step, steps),
            ("alphabet_size", param.alphabet_size, classes),
        ):
            if given != found:
                raise param.error(field, f"{given}, but the scores have shape {bottom[0].shape}: {found}")
        if param.blank_label >= classes:
            raise param.error("blank_label", f"{param.blank_label}, but there are {classes} classes")
        self.check_label_rows(bottom[1])
        self.blank = param.blank_label

    def targets(self, bottom: Blobs) -> Targets:
        steps, batch, classes = self.sizes
        rows = self.label_rows(bottom[1])
        check_classes(self, rows, classes)
        return Targets(*padded(rows), np.full(batch, steps))
