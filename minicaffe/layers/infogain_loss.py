"""InfogainLoss: SoftmaxWithLoss with a matrix H of weights for each pair of label and class.

    p = softmax(x)        loss = −Σ Σ_l H[label, l] · log p_l / n
                          dx_l = loss_weight · (p_l · Σ_k H[label, k] − H[label, l]) / n

Shapes: scores x (N, …, L, …) with L classes along ``axis``; labels (N, …) without that axis; H (L, L).

With the identity matrix as H it is SoftmaxWithLoss. H is the third bottom, or is read from the file ``source``.
Probabilities count as at least 1e-20. Caffe's InfogainLossLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.data.mean import load_array
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.device.array import Array
from minicaffe.errors import DataError
from minicaffe.layers.loss import LossParam
from minicaffe.layers.softmax_with_loss import SoftmaxWithLoss
from minicaffe.spec.fields import Int, Message, String

SMALLEST = 1e-20


class InfogainLossParam(Message):
    """``source``: the file of H (.binaryproto, .npy or .npz), unless H is the third bottom."""

    source = String()
    axis = Int(1)


@register_layer
class InfogainLoss(SoftmaxWithLoss):
    """Softmax and cross entropy weighted by H; a second top takes the probabilities."""

    messages = {"infogain_loss_param": InfogainLossParam, "loss_param": LossParam}
    bottoms = (2, 3)
    tops = (1, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param, loss = self.spec.message(InfogainLossParam), self.spec.message(LossParam)
        if loss.has("normalize"):
            raise loss.error("normalize", "InfogainLoss does not take it; use 'normalization'")
        if len(bottom) == 3:
            return
        if not param.source:
            raise param.error(
                "source", "required, but not given; name the file of H, or give H as a third bottom"
            )
        try:
            path = find_path(param.source, lookup_folders(self.setting.folder), "infogain matrix")
            self.matrix = self.setting.device.put(load_array(path, "matrix", "H"), self.dtype)
        except DataError as error:
            raise DataError(f"{self.spec.where}: {error}") from None

    def class_axis(self) -> int:
        return self.spec.message(InfogainLossParam).axis

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        size = bottom[2].count if len(bottom) == 3 else self.matrix.size
        if size != self.classes**2:
            raise self.shape_error(
                f"H has {size} numbers; expected {self.classes} × {self.classes}, one for each pair of classes"
            )

    def total_loss(self, bottom: Blobs) -> Array:
        self.weights = self.xp.take(self._matrix(bottom).T, self.labels, axis=1)
        if self.counts is not None:
            self.weights *= self.counts
        total: Array = -(self.weights * self.xp.log(self.xp.maximum(self.prob, SMALLEST))).sum()
        return total

    def score_grad(self, dx: Array) -> None:
        self.xp.multiply(self.prob, self.weights.sum(axis=0), out=dx)
        dx -= self.weights

    def _matrix(self, bottom: Blobs) -> Array:
        """H as (label, class)."""
        matrix = bottom[2].data if len(bottom) == 3 else self.matrix
        return matrix.reshape(self.classes, self.classes)
