"""LSTM: long short-term memory over a sequence, with gates that decide what is remembered from step to step.

    a_t = W_xc · x_t + b_c + W_static · x_static + W_hc · (cont_t · h_{t−1})
    (c_t, h_t) = LSTMUnit(c_{t−1}, a_t, cont_t), the formulas in ``lstm_unit.py``        y_t = h_t

    dh_t = dy_t + cont_{t+1} · W_hcᵀ · da_{t+1}        dW_hc = Σ da_t · (cont_t · h_{t−1})ᵀ, and so on

Shapes, for T steps of N sequences: x (T, N, …) with I numbers per step; cont (T, N); optionally a static input
(N, …) with S numbers; y (T, N, D). With ``expose_hidden``, h_0 and c_0 (1, N, D) are the last bottoms, h_T and c_T
the last tops. Parameters, in this order, with rows for the gates i, f, o and g one below the other: W_xc (4·D, I),
b_c (4·D,), W_static (4·D, S) if there is a static input, W_hc (4·D, D).

See ``recurrent.py``. In Caffe no gradient passes through exposed hidden states; here it does.

Caffe's LSTMLayer; Donahue et al. 2015 (arXiv 1411.4389).
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.device.array import Array
from minicaffe.layers.lstm_unit import step, step_grad
from minicaffe.layers.recurrent import RecurrentLayer


@register_layer
class LSTM(RecurrentLayer):
    """A recurrent net with gates, which can learn over many steps."""

    states = 2
    gates = 4

    def make_arrays(self, remembers: bool) -> None:
        super().make_arrays(remembers)
        shape = (self.steps, self.batch, self.size)
        self.before, self.h, self.c = (self.new_array(shape) for _ in range(3))

    def run(self, a: Array, starts: list[Array]) -> tuple[Array, list[Array]]:
        xp, (h, c) = self.xp, starts
        self.first_c, self.acts = c, a
        for t in range(self.steps):
            xp.multiply(h, self.cont[t], out=self.before[t])
            a[t] += self.before[t] @ self.w_h.T
            step(a[t], c, self.cont[t], self.c[t], self.h[t])
            h, c = self.h[t], self.c[t]
        return self.h, [h.copy(), c.copy()]

    def run_back(self, dy: Array, d_ends: list[Array]) -> tuple[Array, list[Array]]:
        da = self.xp.empty_like(self.acts)
        dh, dc = d_ends
        for t in reversed(range(self.steps)):
            old = self.c[t - 1] if t else self.first_c
            dc = step_grad(self.acts[t], old, self.cont[t], self.c[t], dc, dy[t] + dh, da[t])
            self.limit(da[t])
            dh = (da[t] @ self.w_h) * self.cont[t]
        rows = da.reshape(-1, da.shape[-1])
        self.add_product(self.h_index, rows, self.before.reshape(len(rows), -1))
        return da, [dh, dc]

    def limit(self, da: Array) -> None:
        """Change a step's da (N, 4·D) before it goes on to the weights, x and the step before; not here."""
