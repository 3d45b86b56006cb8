"""LSTMUnit: one step of an LSTM: the new cell and output from the old cell and the inputs of the four gates.

    i = σ(a_i)    f = cont · σ(a_f)    o = σ(a_o)    g = tanh(a_g)
    c = f · c′ + i · g                 h = o · tanh(c)

    dc_all = dc + dh · o · (1 − tanh²(c))        dc′ = dc_all · f        da_g = dc_all · i · (1 − g²)
    da_i = dc_all · g · i · (1 − i)              da_o = dh · tanh(c) · o · (1 − o)
    da_f = dc_all · c′ · cont · σ(a_f) · (1 − σ(a_f))

Shapes, for N sequences: old cell c′ (1, N, D); a (1, N, 4·D) in the order i, f, o, g; cont (1, N); c, h (1, N, D).

``cont`` is 0 where a sequence begins, so that the old cell is forgotten, else 1; it gets no gradient.

Caffe's LSTMUnitLayer, a part of its LSTMLayer; Hochreiter and Schmidhuber 1997; Zaremba and Sutskever 2014 (arXiv
1410.4615).
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array, module_of
from minicaffe.ops.sigmoid import sigmoid
from minicaffe.spec.net import LayerSpec


@register_layer
class LSTMUnit(Layer):
    """One step; an LSTM layer runs it over a whole sequence."""

    bottoms = (3, 3)
    tops = (2, 2)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index < 2

    @classmethod
    def reads_top(cls, spec: LayerSpec) -> str:
        return "values"

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        cell, gates, cont = (blob.shape for blob in bottom)
        fits = len(cell) == 3 and cell[0] == 1 and gates == (1, cell[1], 4 * cell[2]) and cont == cell[:2]
        if not fits:
            raise self.shape_error(
                f"bottoms {cell}, {gates} and {cont}; expected the cell (1, N, D), gates (1, N, 4·D), cont (1, N)"
            )
        for blob in top:
            blob.reshape(*cell)
        self.size = cell[1:]
        self.gates = self.new_array((cell[1], 4 * cell[2]))

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        old, inputs, cont = bottom
        self.gates[...] = inputs.stored.reshape(self.gates.shape)
        cell, hidden = (blob.stored.reshape(self.size) for blob in top)
        step(self.gates, old.stored.reshape(self.size), cont.stored, cell, hidden)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        old, inputs, cont = bottom
        d_cell, d_hidden = (blob.stored_diff.reshape(self.size) for blob in top)
        cell, old_cell = top[0].stored.reshape(self.size), old.stored.reshape(self.size)
        d_gates = self.xp.empty_like(self.gates)
        d_old = step_grad(self.gates, old_cell, cont.stored, cell, d_cell, d_hidden, d_gates)
        if propagate_down[0]:
            old.stored_diff[...] = d_old[..., None]
        if propagate_down[1]:
            inputs.stored_diff[...] = d_gates[..., None]


def step(gates: Array, old: Array, cont: Array, cell: Array, hidden: Array) -> None:
    """Write c and h (N, D) into ``cell`` and ``hidden``, and replace ``gates`` (N, 4·D) by their σ or tanh.

    ``old`` is c′ (N, D), ``cont`` (N, 1).
    """
    xp, size = module_of(gates), old.shape[1]
    sigmoid(gates[:, : 3 * size], out=gates[:, : 3 * size])
    i, f, o, g = parts(gates, size)
    xp.tanh(g, out=g)
    xp.multiply(f, old, out=cell)
    cell *= cont
    cell += i * g
    xp.tanh(cell, out=hidden)
    hidden *= o


def step_grad(
    gates: Array, old: Array, cont: Array, cell: Array, d_cell: Array, d_hidden: Array, out: Array
) -> Array:
    """Write da (N, 4·D) into ``out`` and return dc′, from dc and dh; ``gates`` are as ``step`` left them."""
    xp, size = module_of(gates), old.shape[1]
    i, f, o, g = parts(gates, size)
    d_i, d_f, d_o, d_g = parts(out, size)
    tanh_cell = xp.tanh(cell)
    total = d_cell + d_hidden * o * (1 - tanh_cell * tanh_cell)
    d_old: Array = total * f
    d_old *= cont
    xp.multiply(d_old * old, 1 - f, out=d_f)
    xp.multiply(total * g, i * (1 - i), out=d_i)
    xp.multiply(d_hidden * tanh_cell, o * (1 - o), out=d_o)
    xp.multiply(total * i, 1 - g * g, out=d_g)
    return d_old


def parts(gates: Array, size: int) -> list[Array]:
    """The gates i, f, o and g, each (N, D), as parts of an array (N, 4·D)."""
    return [gates[:, k * size : (k + 1) * size] for k in range(4)]
