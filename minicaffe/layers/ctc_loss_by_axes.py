"""CTCLoss: how improbable labels are, given scores whose axes are named, without an alignment of the two.

    loss = Σ_n cost_n / N,  cost_n = −log p(labels of n), the formula in ``ops/ctc.py``
    dx_t(c) = loss_weight · (p_t(c) − Σ_{s: ℓ_s = c} γ_t(s)) / N

Shapes: scores x (N, C, T), of 3 or 4 axes, before the softmax, and labels (N, L) that end with the first negative;
``nct_axis`` says which axes of x are N and C, and if N is axis 1, labels are (L, N). Or x (T, N, C), cont (T, N),
of which T_n steps count, up to its last 1, and labels (L, N).

The class of blank is ``blank_index``, by default the last. A sequence that is too short for its labels has an
infinite loss, and dx_t(c) = p_t(c) / N.

The CTCLossLayer of hzli-ucas/caffe, branch ctc. A layer is this one if it has two bottoms or ``ctc_param``.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, Layer, register_fork
from minicaffe.errors import DataError
from minicaffe.layers.ctc import (
    CTCLossLayer,
    check_classes,
    check_cont,
    first_rows,
    row_count,
    sizes_of,
    until_negative,
    whole_numbers,
)
from minicaffe.ops.ctc import Targets, forward_backward, padded
from minicaffe.spec.fields import Bool, Enum, Float, Int, Message


class CTCParam(Message):
    """``blank_index``: the class of blank; negative: counted from the last. ``nct_axis``: the axes of N and of C.

    ``already_softmax``, of the fork's first version: x are probabilities, and dx_t(c) = −Σ γ_t(s) / x_t(c). If it
    is given, as true or false, dx is divided by Σ T_n, as in that version. ``decode``, of CTCDecoder: IN_PLACE is
    the best class of each step, BEST_PATH the labels that these spell.

    ``beam_width`` is for BEAM_SEARCH, which is not there. Nor are the other weights of classes and steps that
    ``alpha``, ``gamma`` and ``label_width`` give to the gradient, in the fork on a GPU only; without them
    ``balanced`` and ``stepvalue`` have no effect.
    """

    blank_index = Int(-1)
    already_softmax = Bool(False)
    nct_axis = Int(repeated=True, min=0)
    decode = Enum("IN_PLACE", "BEST_PATH", "BEAM_SEARCH", default="BEST_PATH")
    beam_width = Int(10, min=1)
    alpha = Float(repeated=True, min=0, max=1)
    gamma = Float(repeated=True)
    balanced = Bool(True)
    label_width = Float(0.0)
    stepvalue = Int(repeated=True, min=1)

    def check(self) -> None:
        if len(self.nct_axis) not in (0, 2) or len(set(self.nct_axis)) < len(self.nct_axis):
            raise self.error("nct_axis", f"{self.nct_axis}: give the axis of N and that of C, or neither")
        for name in ("alpha", "gamma", "label_width"):
            if self.has(name) and np.any(getattr(self, name)):
                raise self.error(name, "other weights in the gradient are not there; leave it out")


def axes_of(layer: Layer, blob: Blob, param: CTCParam) -> list[int]:
    """The axes of T, N and C of scores, by ``nct_axis``, and one of size 1 if there are four.

    Raises ShapeError if there are several for T.
    """
    shape = blob.shape
    batch, classes = param.nct_axis or (0, 1)
    rest = [axis for axis in range(len(shape)) if axis not in (batch, classes)]
    long = [axis for axis in rest if shape[axis] != 1] or rest[-1:]
    if len(shape) not in (3, 4) or 0 in shape or max(batch, classes) >= len(shape) or len(long) > 1:
        raise layer.shape_error(
            f"scores have shape {shape}; expected 3 or 4 axes, of which all but {batch} (sequences), {classes} "
            "(classes) and one for the steps have size 1"
        )
    return [long[0], batch, classes, *(axis for axis in rest if axis != long[0])]


def blank_of(layer: Layer, param: CTCParam, classes: int) -> int:
    """The class of blank, where a negative index counts from the last. Raises SpecError."""
    if not -classes <= param.blank_index < classes:
        raise param.error("blank_index", f"{param.blank_index}, but there are {classes} classes")
    return param.blank_index % classes


@register_fork("CTCLoss", lambda spec: len(spec.bottom) == 2 or spec.has("ctc_param"))
class CTCLossByAxes(CTCLossLayer):
    """A loss for nets that read text, whatever the order of their axes."""

    messages = {"ctc_param": CTCParam}
    bottoms = (2, 3)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if self.spec.has("ctc_loss_param"):
            raise self.spec.error(
                "ctc_loss_param", "is of the layer with cont and three bottoms; give 'ctc_param'"
            )
        top[0].reshape()
        self.param = self.spec.message(CTCParam)
        if len(bottom) == 3:
            self._reshape_with_cont(bottom)
        else:
            self._reshape(bottom)
        self.blank = blank_of(self, self.param, self.sizes[2])

    def _reshape_with_cont(self, bottom: Blobs) -> None:
        if self.param.nct_axis:
            raise self.param.error("nct_axis", "with cont, the scores are (steps, sequences, classes)")
        self.axes = list(range(len(bottom[0].shape)))
        steps, batch, _ = self.sizes = sizes_of(self, bottom[0])
        check_cont(self, bottom[1], steps, batch)
        row_count(self, bottom[2], "labels", batch)

    def _reshape(self, bottom: Blobs) -> None:
        shape, labels = bottom[0].shape, bottom[1].shape
        self.axes = axes_of(self, bottom[0], self.param)
        steps, batch, classes = self.axes[:3]
        if batch > 1:
            raise self.param.error("nct_axis", f"{batch} for the sequences; labels have axes 0 and 1")
        self.sizes = shape[steps], shape[batch], shape[classes]
        if len(labels) != 2 or labels[batch] != shape[batch]:
            raise self.shape_error(
                f"labels have shape {labels}; expected 2 axes, with {shape[batch]} sequences on axis {batch}"
            )

    def targets(self, bottom: Blobs) -> Targets:
        """What the sequences should spell. Raises DataError for labels that cannot be."""
        steps_in_all, batch, classes = self.sizes
        labels = whole_numbers(bottom[-1])
        if len(bottom) == 3:
            labels = labels.reshape(-1, batch)
        elif self.axes[1] == 0:
            labels = labels.T
        rows = until_negative(labels)
        check_classes(self, rows, classes)
        for n, row in enumerate(rows):
            if self.blank in row:
                raise DataError(
                    f"{self.spec.where}: label {self.blank} of sequence {n} is blank; leave it out"
                )
        steps = np.full(batch, steps_in_all)
        if len(bottom) == 3:
            goes_on = whole_numbers(bottom[1]).reshape(-1, batch)[:0:-1] != 0  # the first step counts anyway
            steps = steps_in_all - first_rows(goes_on)
        return Targets(*padded(rows), steps)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, targets = self.xp, self.targets(bottom)
        self.warn_of_few_steps(targets, "its loss is infinite")
        x = self.scores(bottom[0])
        if self.param.already_softmax:
            with np.errstate(divide="ignore"):
                log_p, counts = forward_backward(xp.log(x), targets, self.blank)
            costs, slope = -log_p, -counts / xp.where(counts > 0, x, 1)
        else:
            costs, probabilities, counts = self.costs(x, targets, self.blank)
            slope = probabilities - counts
        self.slope = slope / self._divisor(targets)
        top[0].stored[...] = costs.sum() / len(targets.steps)

    def _divisor(self, targets: Targets) -> int:
        """What the gradient is divided by."""
        return int(targets.steps.sum()) if self.param.has("already_softmax") else len(targets.steps)
