"""CTCLoss: how improbable labels are, given scores at every step, without an alignment of the two.

    loss = Σ_n cost_n / N,  cost_n = −log p(labels of n), the formula in ``ops/ctc.py``
    dx_t(c) = loss_weight · (p_t(c) − Σ_{s: ℓ_s = c} γ_t(s)), not divided by N, as in the fork

Shapes: scores x (T, N, C) for T steps of N sequences, before the softmax; cont (T, N), 0 where a sequence begins
and 1 where it goes on; labels (L, N) that end with the first negative, or the first that is no class.

The class of blank is ``blank_index``, by default the last. A sequence without labels counts as a loss of 0. One
that is too short for its labels has an infinite loss, and dx_t(c) = p_t(c).

With two bottoms, or ``ctc_param``, it is another fork's: x (N, C, T), of 3 or 4 axes, and labels (N, L);
``nct_axis`` says which axes of x are N and C, and if N is axis 1, labels are (L, N). There dx is divided by N.
With ``ctc_param``, cont may be the second of three bottoms, T_n is up to its last 1, and x is (T, N, C).

The CTCLossLayer of ChWick/caffe (BVLC/caffe #4681; MhLiao/TextBoxes_plusplus has it too), in which
``loss_weight`` does not change the gradient; here it does. The other one is that of hzli-ucas/caffe, branch ctc.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.errors import DataError
from minicaffe.layers.ctc import (
    CTCLossLayer,
    check_classes,
    first_rows,
    lengths_by_breaks,
    row_count,
    sizes_of,
    until_negative,
    whole_numbers,
)
from minicaffe.ops.ctc import Integers, Targets, forward_backward, padded
from minicaffe.spec.fields import Bool, Enum, Float, Int, Message


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


def blank_of(layer: Layer, param: CTCParam | CTCLossParam, classes: int) -> int:
    """The class of blank, where a negative index counts from the last. Raises SpecError."""
    if not -classes <= param.blank_index < classes:
        raise param.error("blank_index", f"{param.blank_index}, but there are {classes} classes")
    return param.blank_index % classes


@register_layer
class CTCLoss(CTCLossLayer):
    """A loss for nets that read text or speech."""

    messages = {"ctc_loss_param": CTCLossParam, "ctc_param": CTCParam}
    bottoms = (2, 3)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape()
        self.axes = list(range(len(bottom[0].shape)))
        self.is_by_axes = len(bottom) == 2 or self.spec.has("ctc_param")
        (self._reshape_by_axes if self.is_by_axes else self._reshape)(bottom)

    def _reshape(self, bottom: Blobs) -> None:
        param = self.spec.message(CTCLossParam)
        steps, _, classes = self.sizes = sizes_of(self, bottom[0])
        self.blank = classes - 1 if param.blank_index < 0 else blank_of(self, param, classes)
        self.delay, self.merges = param.output_delay, param.ctc_merge_repeated
        if self.delay >= steps:
            raise param.error("output_delay", f"{self.delay}, but there are {steps} steps")
        self._check_rows(bottom)

    def _check_rows(self, bottom: Blobs) -> None:
        steps, batch, _ = self.sizes
        if row_count(self, bottom[1], "cont", batch) != steps:
            raise self.shape_error(f"cont of shape {bottom[1].shape}; expected ({steps}, {batch})")
        row_count(self, bottom[2], "labels", batch)

    def _reshape_by_axes(self, bottom: Blobs) -> None:
        if self.spec.has("ctc_loss_param"):
            raise self.spec.error(
                "ctc_loss_param", "is of the layer with cont and three bottoms; give 'ctc_param'"
            )
        param, shape = self.spec.message(CTCParam), bottom[0].shape
        self.delay, self.merges = 0, True
        if len(bottom) == 3:
            if param.nct_axis:
                raise param.error("nct_axis", "with cont, the scores are (steps, sequences, classes)")
            self.sizes = sizes_of(self, bottom[0])
            self._check_rows(bottom)
        else:
            self.axes = axes_of(self, bottom[0], param)
            steps, batch, classes = self.axes[:3]
            if batch > 1:
                raise param.error("nct_axis", f"{batch} for the sequences; labels have axes 0 and 1")
            self.sizes, labels = (shape[steps], shape[batch], shape[classes]), bottom[1].shape
            if len(labels) != 2 or labels[batch] != shape[batch]:
                raise self.shape_error(
                    f"labels have shape {labels}; expected 2 axes, with {shape[batch]} sequences on axis {batch}"
                )
        self.blank = blank_of(self, param, self.sizes[2])

    def targets(self, bottom: Blobs) -> Targets:
        """What the sequences should spell. Raises DataError for labels that cannot be."""
        steps_in_all, batch, classes = self.sizes
        labels = whole_numbers(bottom[-1])
        if not self.is_by_axes:
            rows = until_negative(labels.reshape(-1, batch))
            steps = lengths_by_breaks(whole_numbers(bottom[1]).reshape(-1, batch)) - self.delay
            self._check_lengths(rows, steps)
            return Targets(*padded([self._cleared(n, row) for n, row in enumerate(rows)]), steps)
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

    def _check_lengths(self, rows: list[Integers], steps: Integers) -> None:
        for n, row in enumerate(rows):
            if len(row) > steps[n] or (len(row) == 0 and steps[n] + self.delay > 1):
                raise DataError(
                    f"{self.spec.where}: sequence {n} has {len(row)} labels and {steps[n]} steps; expected at most "
                    "one label for each step, and one step where there is no label"
                )
            if len(row) == 0:
                steps[n] = 0

    def _cleared(self, n: int, row: Integers) -> Integers:
        """The labels of a sequence up to the first that is no class, without repetitions if so asked."""
        if self.spec.message(CTCLossParam).preprocess_collapse_repeated:
            row = row[np.diff(row, prepend=-1) != 0]
        is_none = (row >= self.sizes[2]) | (row == self.blank)
        end = int(is_none.argmax()) if is_none.any() else len(row)
        if not is_none[end:].all():
            raise DataError(
                f"{self.spec.where}: label {row[end]} of sequence {n} ends it, but others follow; mend the labels"
            )
        return row[:end]

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, by_axes = self.xp, self.is_by_axes
        targets = self.targets(bottom)
        self.warn_of_few_steps(targets, "its loss is infinite", self.merges)
        x = self.scores(bottom[0])[self.delay :]
        if by_axes and self.spec.message(CTCParam).already_softmax:
            with np.errstate(divide="ignore"):
                log_p, counts = forward_backward(xp.log(x), targets, self.blank)
            costs, slope = -log_p, -counts / xp.where(counts > 0, x, 1)
        else:
            costs, probabilities, counts = self.costs(x, targets, self.blank, merges=self.merges)
            slope = probabilities - counts
        self.slope = xp.zeros(self.sizes, slope.dtype)
        self.slope[self.delay :] = slope / (self._divisor(targets) if by_axes else 1)
        costs = xp.where(xp.asarray(targets.steps > 0), costs, 0)
        top[0].stored[...] = costs.sum() / len(targets.steps)

    def _divisor(self, targets: Targets) -> int:
        """What the gradient is divided by, where axes have names."""
        is_first_version = self.spec.message(CTCParam).has("already_softmax")
        return int(targets.steps.sum()) if is_first_version else len(targets.steps)
