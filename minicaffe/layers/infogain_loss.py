"""InfogainLoss: SoftmaxWithLoss where a matrix H says how much each pair of label and class counts.

Shapes: scores x (N, …, L, …) with L classes along ``axis``, a label for each place that is left, H (L × L).

    p = softmax(x)        loss = −Σ_places Σ_l H[label, l] · log p_l / n
                          dx_l = loss_weight · (p_l · Σ_k H[label, k] − H[label, l]) / n

With H = 1 it is SoftmaxWithLoss. H is a third bottom, or the file ``source``. Probabilities count as at least
1e-20. Caffe's InfogainLossLayer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.array import Array
from minicaffe.data.mean import load_mean
from minicaffe.data.npz import BAD_ARCHIVE
from minicaffe.data.source import find_path, lookup_folders
from minicaffe.errors import DataError
from minicaffe.layer import Blobs, canonical_axis, register_layer
from minicaffe.layers.loss import LossLayer, LossParam, check_label_count, read_labels
from minicaffe.ops.softmax import softmax
from minicaffe.spec.fields import Int, Message, String

SMALLEST = 1e-20


class InfogainLossParam(Message):
    """``source``: the file of H, .binaryproto, .npy or .npz, where H is not the third bottom."""

    source = String()
    axis = Int(1)


@register_layer
class InfogainLoss(LossLayer):
    """Softmax and cross entropy weighted by H; a second top takes the probabilities."""

    messages = {"infogain_loss_param": InfogainLossParam, "loss_param": LossParam}
    bottoms = (2, 3)
    tops = (1, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.infogain_loss_param
        if self.spec.loss_param.has("normalize"):
            raise self.spec.loss_param.error(
                "normalize", "InfogainLoss does not take it; use 'normalization'"
            )
        if len(bottom) == 3:
            return
        if not param.source:
            raise param.error("source", "required, but not given; name H's file, or give H as a third bottom")
        try:
            path = find_path(param.source, lookup_folders(self.setting.folder), "infogain matrix")
            self.matrix = self.setting.device.put(load_matrix(path), self.dtype)
        except DataError as error:
            raise DataError(f"{self.spec.where}: {error}") from None

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        shape = bottom[0].shape
        self.axis = canonical_axis(self, self.spec.infogain_loss_param.axis, len(shape))
        self.classes = shape[self.axis]
        self.places = shape[: self.axis] + shape[self.axis + 1 :]
        self.outer = int(np.prod(shape[: self.axis]))
        self.prob = self.new_array((self.classes, *self.places))
        size = bottom[2].count if len(bottom) == 3 else self.matrix.size
        if size != self.classes**2:
            raise self.shape_error(
                f"H has {size} numbers; expected {self.classes} × {self.classes}, by classes"
            )
        if len(top) > 1:
            top[1].reshape(*shape)
        check_label_count(self, bottom[1], self.places)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, param = self.xp, self.spec.loss_param
        softmax(xp.moveaxis(bottom[0].data, self.axis, 0), out=self.prob)
        labels, self.counts = read_labels(self, bottom[1], self.places, self.classes, param.ignore_label)
        self.weights = xp.take(self._matrix(bottom).T, labels, axis=1)
        if self.counts is not None:
            self.weights *= self.counts
        valid = None if self.counts is None else self.counts.sum()
        self.divisor = self.normalizer(param.mode(), self.outer, labels.size, valid)
        log_prob = xp.log(xp.maximum(self.prob, SMALLEST))
        top[0].stored[...] = -(self.weights * log_prob).sum() / self.divisor
        if len(top) > 1:
            top[1].data[...] = xp.moveaxis(self.prob, 0, self.axis)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        dx = self.xp.moveaxis(bottom[0].diff, self.axis, 0)
        self.xp.multiply(self.prob, self.weights.sum(axis=0), out=dx)
        dx -= self.weights
        dx *= top[0].stored_diff / self.divisor

    def _matrix(self, bottom: Blobs) -> Array:
        """H as (label, class)."""
        matrix = bottom[2].data if len(bottom) == 3 else self.matrix
        return matrix.reshape(self.classes, self.classes)


def load_matrix(path: Path) -> np.ndarray:
    """H from a file. Raises DataError where it cannot be read."""
    if path.suffix == ".binaryproto":
        return load_mean(path)
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as archive:
            return archive[archive.files[0]]
    except (*BAD_ARCHIVE, IndexError) as error:
        problem = " ".join(str(error).split())
        raise DataError(f"{path}: not a matrix ({problem}); use .binaryproto, .npy or .npz") from None
