"""RNN: a simple recurrent net over a sequence: each step sees its input and the previous step.

    h_t = tanh(W_xh · x_t + b_h + W_static · x_static + W_hh · (cont_t · h_{t−1}))
    y_t = tanh(W_ho · h_t + b_o)

    da_t = (W_hoᵀ · do_t + cont_{t+1} · W_hhᵀ · da_{t+1}) · (1 − h_t²)        do_t = dy_t · (1 − y_t²)
    dW_hh = Σ da_t · (cont_t · h_{t−1})ᵀ, and so on: products over all steps

Shapes, for T steps of N sequences: x (T, N, …) with I numbers per step; cont (T, N); optionally a static input
(N, …) with S numbers; y (T, N, D). With ``expose_hidden``, h_0 (1, N, D) is the last bottom and h_T the last top.
Parameters, in this order: W_xh (D, I), b_h (D,), W_static (D, S) if there is a static input, W_hh (D, D), W_ho
(D, D), b_o (D,).

See ``recurrent.py``. In Caffe no gradient passes through exposed hidden states; here it does. Caffe's RNNLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.recurrent import RecurrentLayer, RecurrentParam
from minicaffe.ops.gemm import matmul


@register_layer
class RNN(RecurrentLayer):
    """A simple recurrent net."""

    def add_output_blobs(self, param: RecurrentParam) -> None:
        self.add_blob((self.size, self.size), param.weight_filler)
        self.add_blob((self.size,), param.bias_filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.before, self.y = self.xp.empty_like(self.a), self.xp.empty_like(self.a)

    def run(self, a: Array, starts: list[Array]) -> tuple[Array, list[Array]]:
        xp, h = self.xp, starts[0]
        for t in range(self.steps):
            xp.multiply(h, self.cont[t], out=self.before[t])
            a[t] += self.before[t] @ self.w_h.T
            h = xp.tanh(a[t], out=a[t])
        self.h = a
        w_o, b_o = (blob.data for blob in self.blobs[-2:])
        matmul(_rows(a), w_o.T, out=_rows(self.y))
        self.y += b_o
        xp.tanh(self.y, out=self.y)
        return self.y, [a[-1].copy()]

    def run_back(self, dy: Array, d_ends: list[Array]) -> tuple[Array, list[Array]]:
        do = dy * (1 - self.y * self.y)
        dh = self.xp.empty_like(do)
        matmul(_rows(do), self.blobs[-2].data, out=_rows(dh))
        da, after = self.xp.empty_like(do), d_ends[0]
        for t in reversed(range(self.steps)):
            dh[t] += after
            self.xp.multiply(dh[t], 1 - self.h[t] * self.h[t], out=da[t])
            after = (da[t] @ self.w_h) * self.cont[t]
        self.add_product(self.h_index, _rows(da), _rows(self.before))
        self.add_product(len(self.blobs) - 2, _rows(do), _rows(self.h))
        if self.param_propagate_down[-1]:
            self.blobs[-1].accumulate(lambda out: _rows(do).sum(axis=0, out=out))
        return da, [after]


def _rows(steps: Array) -> Array:
    """(T, N, D) as (T · N, D)."""
    return steps.reshape(-1, steps.shape[-1])
