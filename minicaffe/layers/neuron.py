"""What layers have in common if each output element depends only on the input element at the same position."""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer
from minicaffe.device.array import Array
from minicaffe.device.workers import elementwise
from minicaffe.layers.in_place import SavedInput
from minicaffe.ops.epilogue import Function, Map


class Neuron(Layer):
    """y = f(x), element by element, for any shape (Caffe's NeuronLayer).

    A subclass computes f in ``compute`` and dx = dy · f′(x) in ``gradient``; both get matching parts of the arrays.
    In place, x and y are the same array, as are dx and dy; x is saved for backward unless ``needs_input`` is false.
    f′ is computed from x, not from y, because a later in-place layer (often Dropout) may have overwritten y.
    """

    in_place = True
    needs_input = True

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape(*bottom[0].shape)
        self.saved_input = SavedInput(bottom, top)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0].stored
        if self.needs_input:
            self.saved_input.save(x)
        elementwise(self.compute, x, top[0].stored)

    def as_map(self) -> Map:
        return Function(lambda y: self.compute(y, y))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            x = self.saved_input.original(bottom[0].stored)
            elementwise(self.gradient, x, top[0].stored_diff, bottom[0].stored_diff)

    def compute(self, x: Array, y: Array) -> None:
        """Write f(x) into y."""
        raise NotImplementedError

    def gradient(self, x: Array, dy: Array, dx: Array) -> None:
        """Write dy · f′(x) into dx."""
        raise NotImplementedError
