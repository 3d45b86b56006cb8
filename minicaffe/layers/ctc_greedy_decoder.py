"""CTCGreedyDecoder: the labels that the best class of each step spells.

    y_n = spelled(argmax_c x_t(c))        score_n = −Σ_t max_c x_t(c)
    accuracy = 1 − mean of (edits from y_n to the labels of n) / (the longer of the two)

Shapes: scores x (T, N, C) for T steps of N sequences; cont (T, N), 0 where a sequence begins and 1 where it goes
on; labels (L, N) that end with the first negative. y (N, T, 1, 1), −1 after the last label; score (N, 1, 1, 1);
accuracy (1, 1, 1, 1).

- x, cont -> y, or y and score
- x, cont, labels -> y, or y and accuracy, or y, score and accuracy
- x alone -> y, and x, labels (N, L) -> (1, 2, 1, 1): accuracy, and the share of sequences without a mistake. Labels
  that are blank do not count here. Two bottoms are these if the second has not the shape (T, N).

The class of blank is ``blank_index``, by default the last; for x alone, and x with labels (N, L), it is 0 by
default, and ``blank_label`` of ``ctc_loss_param`` says it too. Of equal scores the first class counts. What a
path of classes spells is in ``ops/ctc.py``. There is no gradient.

The CTCGreedyDecoderLayer of ChWick/caffe (BVLC/caffe #4681), with y as MhLiao/TextBoxes_plusplus and OpenVINO
have it; x alone, or with labels (N, L), is of kasyoukin/caffe_ocr_for_linux and dlunion/CC4.0.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import to_host
from minicaffe.layers.ctc import (
    check_cont,
    lengths_by_breaks,
    row_count,
    sizes_of,
    until_negative,
    whole_numbers,
)
from minicaffe.layers.warp_ctc_loss import WarpCTCLossParam
from minicaffe.ops.ctc import Integers, edit_distances, padded, spelled
from minicaffe.spec.fields import Bool, Int, Message


class CTCDecoderParam(Message):
    """``blank_index``: the class of blank; negative: the last.

    ``ctc_merge_repeated``: equal neighbours are one label; if false, each is a label.
    """

    blank_index = Int(-1)
    ctc_merge_repeated = Bool(True)


TOPS = {1: {1: "y"}, 2: {1: "y", 2: "ys"}, 3: {1: "y", 2: "ya", 3: "ysa"}}  # by bottoms and tops


@register_layer
class CTCGreedyDecoder(Layer):
    """Text from scores; a beam search would weigh more than one path."""

    messages = {"ctc_decoder_param": CTCDecoderParam, "ctc_loss_param": WarpCTCLossParam}
    bottoms = (1, 3)
    tops = (1, 3)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.sizes = steps, batch, classes = sizes_of(self, bottom[0])
        self.takes_rows = len(bottom) == 2 and bottom[1].shape[:2] != (steps, batch)
        self.what = "r" if self.takes_rows and len(top) == 1 else TOPS[len(bottom)].get(len(top), "")
        if self.takes_rows and (self.what != "r" or len(bottom[1].shape) != 2 or bottom[1].shape[0] != batch):
            raise self.shape_error(
                f"second bottom of shape {bottom[1].shape}; expected cont ({steps}, {batch}), or labels ({batch}, "
                "labels) and one top"
            )
        if not self.what:
            raise self.spec.error(
                "top", f"{len(top)} given; with {len(bottom)} bottom(s) {self.type} has fewer"
            )
        self._check_rows(bottom)
        shapes = {"y": (batch, steps, 1, 1), "s": (batch, 1, 1, 1), "a": (1, 1, 1, 1), "r": (1, 2, 1, 1)}
        for blob, what in zip(top, self.what, strict=True):
            blob.reshape(*shapes[what])
        self.merges = self.spec.message(CTCDecoderParam).ctc_merge_repeated
        self.blank = self._blank(len(bottom), classes)

    def _check_rows(self, bottom: Blobs) -> None:
        steps, batch, _ = self.sizes
        if self.takes_rows:
            return
        for cont in bottom[1:2]:
            check_cont(self, cont, steps, batch)
        for labels in bottom[2:]:
            row_count(self, labels, "labels", batch)

    def _blank(self, bottoms: int, classes: int) -> int:
        param, of_loss = self.spec.message(CTCDecoderParam), self.spec.message(WarpCTCLossParam)
        blank = param.blank_index
        if not param.has("blank_index") and (bottoms == 1 or self.takes_rows):
            blank = of_loss.blank_label
        if blank >= classes:
            raise param.error("blank_index", f"blank is class {blank}, but there are {classes} classes")
        return blank if blank >= 0 else classes - 1

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        steps_in_all, batch, _ = self.sizes
        x = to_host(bottom[0].data).reshape(self.sizes)
        steps = np.full(batch, steps_in_all)
        if len(bottom) > 1 and not self.takes_rows:
            # not rounded: another sequence begins where cont is exactly 0
            steps = lengths_by_breaks((to_host(bottom[1].data) != 0).astype(np.int64).reshape(-1, batch))
        found, lengths = spelled(x.argmax(axis=2), steps, self.blank, merges=self.merges)
        counted = np.arange(steps_in_all)[:, None] < steps
        for blob, what in zip(top, self.what, strict=True):
            if what == "y":
                values: np.ndarray = found
            elif what == "s":
                values = -(x.max(axis=2) * counted).sum(axis=0)
            else:
                values = np.array(self._accuracies(found, lengths, bottom[-1]))[: blob.count]
            blob.data[...] = self.setting.device.put(values.astype(self.dtype).reshape(blob.shape))

    def _accuracies(self, found: Integers, lengths: Integers, blob: Blob) -> list[float]:
        """One minus the mean of edits per label, and the share of sequences without a mistake."""
        labels, wanted = padded(self._rows(blob))
        longer = np.maximum(lengths, wanted)
        edits = edit_distances(labels, wanted, found, lengths)
        shares = edits / np.maximum(longer, 1)
        right = (edits == 0) & (longer > 0)  # two empty sequences are no mistake, but not counted as right
        return [1 - float(shares.mean()), float(right.mean())]

    def _rows(self, blob: Blob) -> list[Integers]:
        labels = whole_numbers(blob)
        if not self.takes_rows:
            return until_negative(labels.reshape(-1, self.sizes[1])[: self.sizes[0]])
        return [row[row != self.blank] for row in until_negative(labels.T)]
