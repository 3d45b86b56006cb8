"""Embed: y = w[x] + b, a row of a table for each index.

    dw[k] = Σ dy where x = k        db = Σ dy

Shapes: x (…) with whole numbers in [0, K), K = ``input_dim``; w (K, M); b (M,); y (…, M).

It is an InnerProduct of one-hot vectors, without building them. x gets no gradient. Caffe's EmbedLayer.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.ops.select import check_indices
from minicaffe.spec.fields import Bool, Int, Message, Nested


class EmbedParam(Message):
    """``input_dim``: K, one more than the largest index."""

    num_output = Int(required=True, min=1)
    input_dim = Int(required=True, min=1)
    bias_term = Bool(True)
    weight_filler = Nested(FillerParam)
    bias_filler = Nested(FillerParam)


@register_layer
class Embed(Layer):
    """A learned vector for each word, or other class."""

    messages = {"embed_param": EmbedParam}

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.param = param = self.spec.message(EmbedParam)
        self.add_blob((param.input_dim, param.num_output), param.weight_filler)
        if param.bias_term:
            self.add_blob((param.num_output,), param.bias_filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape(*bottom[0].shape, self.param.num_output)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        index = bottom[0].data.astype(self.xp.int64)
        param = self.param
        check_indices(index, param.input_dim, self.spec.where, "input_dim")
        rows = self.blobs[0].data[index]
        top[0].data[...] = rows + self.blobs[1].data if param.bias_term else rows

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        dy = top[0].diff.reshape(-1, self.param.num_output)
        if self.param_propagate_down[0]:
            index = bottom[0].data.reshape(-1).astype(self.xp.int64)
            self.blobs[0].accumulate(lambda out: self._add_rows(index, dy, out))
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].accumulate(lambda out: dy.sum(axis=0, out=out))

    def _add_rows(self, index: Array, rows: Array, out: Array) -> None:
        """out[k] = Σ of the rows whose index is k."""
        out.fill(0)
        self.xp.add.at(out, index, rows)
