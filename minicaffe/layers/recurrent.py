"""What RNN and LSTM have in common: sequences, hidden states, and products over all steps at once.

    a_t = W_x · x_t + b + W_static · x_static + W_h · (cont_t · h_{t−1})        h_t = f(a_t)

Shapes, for T steps of N sequences: x (T, N, …) with I numbers per step, cont (T, N), static input (N, …), hidden
states (1, N, D), y (T, N, D). Arrays are in that order here, time first: a step is one block of memory.

W_x · x is one product for all steps, and so are the gradients of all weights. Only h_t has to wait for h_{t−1}, so
the steps are a loop. ``cont`` is 0 where a sequence begins and 1 elsewhere, so sequences of any length can follow
one another.

Hidden states start as zeros and carry over from one forward to the next (as in Caffe: long sequences come in pieces
of T); a snapshot saves them. With ``expose_hidden`` they are additional bottoms and tops. Caffe's RecurrentLayer.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer
from minicaffe.device.array import Array, to_host
from minicaffe.errors import DataError
from minicaffe.ops.gemm import matmul
from minicaffe.spec.fields import Bool, Int, Message, Nested


class RecurrentParam(Message):
    """``num_output``: D. ``expose_hidden``: the first and last hidden states are bottoms and tops.

    ``debug_info`` is ignored: unlike Caffe's, this layer has no net inside.
    """

    num_output = Int(required=True, min=1)
    weight_filler = Nested(FillerParam)
    bias_filler = Nested(FillerParam)
    debug_info = Bool(False)
    expose_hidden = Bool(False)


class RecurrentLayer(Layer):
    """Base of the recurrent layers.

    In a subclass, ``states`` is the number of arrays that a step passes on, and a_t has ``gates`` · D numbers. It
    adds its own parameters after W_h in ``add_output_blobs``, and loops over the steps in ``run`` and ``run_back``.
    """

    messages = {"recurrent_param": RecurrentParam}
    bottoms: ClassVar[tuple[int, int | None]] = (2, None)
    tops: ClassVar[tuple[int, int | None]] = (1, None)
    states: ClassVar[int] = 1
    gates: ClassVar[int] = 1

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index != 1

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(RecurrentParam)
        self.size, self.is_exposed = param.num_output, param.expose_hidden
        self._check_counts(bottom, top)
        self._check_input(bottom)
        self.inputs = math.prod(bottom[0].shape[2:])
        self.static_inputs = math.prod(bottom[2].shape[1:]) if self.has_static else 0
        if not self.inputs:
            raise self.shape_error(f"bottom of shape {bottom[0].shape} has no inputs")
        rows = self.gates * self.size
        self.add_blob((rows, self.inputs), param.weight_filler)
        self.add_blob((rows,), param.bias_filler)
        if self.has_static:
            self.add_blob((rows, self.static_inputs), param.weight_filler)
        self.add_blob((rows, self.size), param.weight_filler)
        self.add_output_blobs(param)
        self.memory: list[Array] = []

    def _check_counts(self, bottom: Blobs, top: Blobs) -> None:
        exposed = self.states if self.is_exposed else 0
        self.has_static = len(bottom) == 3 + exposed
        if len(bottom) - exposed not in (2, 3):
            raise self.spec.error(
                "bottom",
                f"{len(bottom)} given; {self.type} takes x, cont, optionally a static input"
                + f", and with expose_hidden {exposed} hidden state(s)" * self.is_exposed,
            )
        if len(top) != 1 + exposed:
            raise self.spec.error("top", f"{len(top)} given; {self.type} has {1 + exposed} here")

    def add_output_blobs(self, param: RecurrentParam) -> None:
        """Add the parameters that come after W_h."""

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self._check_input(bottom)
        self.steps, self.batch = bottom[0].shape[:2]
        self._check_sizes(bottom)
        state = (1, self.batch, self.size)
        top[0].reshape(self.steps, self.batch, self.size)
        for blob in top[1:]:
            blob.reshape(*state)
        self.make_arrays(remembers=not self.is_exposed)

    def make_arrays(self, remembers: bool) -> None:
        """Make the arrays of a forward, and the hidden states if the layer remembers them."""
        self.a = self.new_array((self.steps, self.batch, self.gates * self.size))
        state = (self.batch, self.size)
        if remembers and [a.shape for a in self.memory] != [state] * self.states:
            self.memory = [self.xp.zeros(state, self.dtype) for _ in range(self.states)]

    def _check_input(self, bottom: Blobs) -> None:
        x, cont = bottom[0].shape, bottom[1].shape
        if len(x) < 2 or cont != x[:2] or 0 in cont:
            raise self.shape_error(
                f"bottoms {x} and {cont}; expected x (steps, sequences, …) and cont (steps, sequences)"
            )

    def _check_sizes(self, bottom: Blobs) -> None:
        shape = bottom[0].shape
        if math.prod(shape[2:]) != self.inputs:
            raise self.shape_error(
                f"bottom of shape {shape}: the weights are for {self.inputs} inputs per step"
            )
        if self.has_static:
            static = bottom[2].shape
            if static[:1] != (self.batch,) or math.prod(static[1:]) != self.static_inputs:
                raise self.shape_error(
                    f"static input has shape {static}; expected {self.batch} sequences "
                    f"with {self.static_inputs} numbers each"
                )
        for name, blob in zip(self._exposed(self.spec.bottom), self._exposed(bottom), strict=True):
            if blob.shape != (1, self.batch, self.size):
                raise self.shape_error(
                    f"hidden state '{name}' has shape {blob.shape}; expected {(1, self.batch, self.size)}"
                )

    def _exposed(self, bottom: Sequence[Any]) -> Sequence[Any]:
        """The items that belong to hidden states, out of a list with one item for each bottom."""
        return bottom[3:] if self.has_static else bottom[2:]

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self.x = in_order(bottom[0].data, self.steps * self.batch)
        self.cont = self.xp.ascontiguousarray(bottom[1].data)[..., None]
        w_x, b, *_ = (blob.data for blob in self.blobs)
        matmul(self.x, w_x.T, out=self.a.reshape(len(self.x), -1))
        self.a += b
        if self.has_static:
            self.static = in_order(bottom[2].data, self.batch)
            self.a += self.static @ self.blobs[2].data.T
        exposed = [self.xp.ascontiguousarray(blob.data[0]) for blob in self._exposed(bottom)]
        y, ends = self.run(self.a, exposed or self.memory)
        top[0].data[...] = y
        if not self.is_exposed:
            self.memory = ends
        for blob, end in zip(top[1:], ends, strict=False):
            blob.data[0] = end

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        dy, *d_ends = [self._gradient(i, blob) for i, blob in enumerate(top)]
        da, d_starts = self.run_back(dy, d_ends or [self.xp.zeros_like(dy[0]) for _ in range(self.states)])
        rows = da.reshape(self.steps * self.batch, -1)
        self.add_product(0, rows, self.x)
        if self.param_propagate_down[1]:
            self.blobs[1].accumulate(lambda out: rows.sum(axis=0, out=out))
        if propagate_down[0]:
            self.send_down(rows, 0, bottom[0])
        if self.has_static:
            per_sequence = da.sum(axis=0)
            self.add_product(2, per_sequence, self.static)
            if propagate_down[2]:
                self.send_down(per_sequence, 2, bottom[2])
        states = zip(self._exposed(bottom), self._exposed(propagate_down), d_starts, strict=False)
        for blob, wanted, gradient in states:
            if wanted:
                blob.diff[0] = gradient

    def _gradient(self, index: int, top: Blob) -> Array:
        """A top's gradient, time first: (T, N, D), or (N, D) for a hidden state; zeros if it gets none."""
        diff: Array = self.xp.ascontiguousarray(top.diff if index == 0 else top.diff[0])
        gradient: Array = diff if self.top_has_gradient[index] else self.xp.zeros_like(diff)
        return gradient

    def send_down(self, da: Array, index: int, bottom: Blob) -> None:
        """Write the gradient of the bottom that parameter ``index`` multiplies."""
        w = self.blobs[index].data
        dx = self.new_array((len(da), w.shape[1]))
        matmul(da, w, out=dx)
        bottom.diff[...] = dx.reshape(bottom.shape)

    def add_product(self, index: int, da: Array, inputs: Array) -> None:
        """Add daᵀ · inputs, both (steps, numbers), to the gradient of parameter ``index``, if that is wanted."""
        if self.param_propagate_down[index]:
            self.blobs[index].accumulate(lambda out: matmul(da.T, inputs, out=out))

    @property
    def w_h(self) -> Array:
        """W_h (gates · D, D)."""
        return self.blobs[self.h_index].data

    @property
    def h_index(self) -> int:
        """The index of W_h among the parameters."""
        return 3 if self.has_static else 2

    def run(self, a: Array, starts: list[Array]) -> tuple[Array, list[Array]]:
        """y (T, N, D) and the last states, from the first states and a (T, N, gates · D) without the W_h terms.

        y is valid until the next ``run``; the states are copies.
        """
        raise NotImplementedError

    def run_back(self, dy: Array, d_ends: list[Array]) -> tuple[Array, list[Array]]:
        """da and the gradients of the first states, from dy and those of the last states.

        Adds the gradients of W_h and of the parameters after it.
        """
        raise NotImplementedError

    def reset(self) -> None:
        """Forget the hidden states (Caffe's ``RecurrentLayer::Reset``)."""
        for array in self.memory:
            array.fill(0)

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        once = self.blobs[2].count if self.has_static else 0
        return once + self.steps * (sum(blob.count for blob in self.blobs if len(blob.shape) == 2) - once)

    def state(self) -> dict[str, Any]:
        arrays = [to_host(array) for array in self.memory]
        return {"hidden": [base64.b64encode(a.tobytes()).decode() for a in arrays]} if arrays else {}

    def restore(self, state: dict[str, Any]) -> None:
        texts: Any = state.get("hidden")
        try:
            arrays = [np.frombuffer(base64.b64decode(text), self.dtype) for text in texts]
            self.memory = [
                self.setting.device.put(new.reshape(old.shape).copy())
                for old, new in zip(self.memory, arrays, strict=True)
            ]
        except (TypeError, ValueError):
            raise DataError(
                f"{self.spec.where}: snapshot has no hidden states for {self.batch} sequences of {self.size}"
            ) from None


def in_order(data: Array, rows: int) -> Array:
    """A blob's data in Caffe's order, as (rows, numbers in each)."""
    return data.reshape(rows, -1)
