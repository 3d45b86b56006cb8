"""Lstm: long short-term memory over a sequence, in the version of OCR nets: whole sequences, and clipped gradients.

    a_t = W_x · x_t + b + W_h · (cont_t · h_{t−1})
    (c_t, h_t) = LSTMUnit(c_{t−1}, a_t, cont_t), the formulas in ``lstm_unit.py``        y_t = h_t

    da_t ← min(max(da_t, −k), k) with k = ``clipping_threshold``, then as in ``lstm.py``

Shapes, for T steps of N sequences: x (T, N, …) with I numbers per step -> y (T, N, D). Parameters, in this order,
with rows for the gates i, f, o and g one below the other: W_x (4·D, I), W_h (4·D, D), b (4·D,). LSTM, Caffe's own,
has b before W_h. With x (T·N, I), of two axes, N is ``batch_size``, and y is (T·N, D).

Without a second bottom every forward begins with h and c of zero, and cont is 1. With one, of T · N
numbers, it is cont, and the states carry over from one forward to the next, as in ``recurrent.py``.

For dW_h the forks' code leaves out part of the sum at the first step (they add the first sequence's term only), and
counts steps whose cont is 0; here dW_h is the derivative.

The LstmLayer of CTPN's Caffe (Tian et al. 2016, arXiv 1609.03605; tianzhi0549/CTPN), and of junhyukoh/caffe-lstm,
where x has two axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.lstm import LSTM
from minicaffe.layers.recurrent import in_order
from minicaffe.ops.gemm import matmul
from minicaffe.spec.fields import Float, Int, Message, Nested


class LstmParam(Message):
    """``num_output``: D. ``clipping_threshold``: k; 0 clips nothing. ``batch_size``: N, for x with two axes."""

    num_output = Int(required=True, min=1)
    clipping_threshold = Float(0.0, min=0)
    weight_filler = Nested(FillerParam)
    bias_filler = Nested(FillerParam)
    batch_size = Int(1, min=1)


@register_layer
class Lstm(LSTM):
    """The same net as LSTM, with other parameters; with two Reverse layers around it, it runs backward in time."""

    messages = {"lstm_param": LstmParam}
    bottoms = (1, 2)
    tops = (1, 1)
    has_static = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.param = self.spec.message(LstmParam)
        self.size, self.remembers = self.param.num_output, len(bottom) == 2
        *_, self.inputs = self._sizes(bottom)
        if not self.inputs:
            raise self.shape_error(f"bottom of shape {bottom[0].shape} has no inputs")
        rows = 4 * self.size
        self.add_blob((rows, self.inputs), self.param.weight_filler)
        self.add_blob((rows, self.size), self.param.weight_filler)
        self.add_blob((rows,), self.param.bias_filler)
        self.memory = []

    def _sizes(self, bottom: Blobs) -> tuple[int, int, int]:
        """T, N and I. Raises ShapeError if a bottom does not suit."""
        shape, n = bottom[0].shape, self.param.batch_size
        if len(shape) < 2 or 0 in shape[:2]:
            raise self.shape_error(f"bottom has shape {shape}; expected (steps, sequences, …)")
        if len(shape) == 2:
            if shape[0] % n:
                raise self.shape_error(f"bottom has shape {shape}: {shape[0]} steps of batch_size {n}")
            shape = (shape[0] // n, n, shape[1])
        steps, batch = shape[:2]
        cont = bottom[1].shape if self.remembers else (steps, batch)
        if math.prod(cont) != steps * batch or cont[:1] not in ((steps,), (steps * batch,)):
            raise self.shape_error(
                f"cont has shape {cont}; expected one number for each of {steps} × {batch} steps"
            )
        return steps, batch, math.prod(shape[2:])

    @property
    def h_index(self) -> int:
        return 1

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.steps, self.batch, inputs = self._sizes(bottom)
        if inputs != self.inputs:
            raise self.shape_error(
                f"bottom of shape {bottom[0].shape}: the weights are for {self.inputs} inputs per step"
            )
        outer = bottom[0].shape[: 1 if len(bottom[0].shape) == 2 else 2]
        top[0].reshape(*outer, self.size)
        self.make_arrays(self.remembers)
        self.cont = self.xp.ones((self.steps, self.batch, 1), self.dtype)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self.x = in_order(bottom[0].data, self.steps * self.batch)
        if self.remembers:
            self.cont[...] = bottom[1].data.reshape(self.cont.shape)
        matmul(self.x, self.blobs[0].data.T, out=self.a.reshape(len(self.x), -1))
        self.a += self.blobs[2].data
        zeros = self.xp.zeros((2, self.batch, self.size), self.dtype)
        y, ends = self.run(self.a, self.memory or list(zeros))
        if self.remembers:
            self.memory = ends
        top[0].data[...] = y.reshape(top[0].shape)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        dy = self.xp.ascontiguousarray(top[0].diff).reshape(self.h.shape)
        da, _ = self.run_back(dy, list(self.xp.zeros((2, *dy.shape[1:]), self.dtype)))
        rows = da.reshape(self.steps * self.batch, -1)
        self.add_product(0, rows, self.x)
        if self.param_propagate_down[2]:
            self.blobs[2].accumulate(lambda out: rows.sum(axis=0, out=out))
        if propagate_down[0]:
            self.send_down(rows, 0, bottom[0])

    def limit(self, da: Array) -> None:
        k = self.param.clipping_threshold
        if k:
            da.clip(-k, k, out=da)
