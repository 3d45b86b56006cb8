"""Eltwise: the sum, product or maximum of blobs of the same shape, element by element.

    SUM     y = Σ c_i · x_i        dx_i = c_i · dy
    PROD    y = Π x_i              dx_i = dy · Π_{j≠i} x_j,  or dy · y / x_i with stable_prod_grad: false
    MAX     y = max x_i            dx_i = dy where x_i is the maximum

Ties of MAX: of the first two the second wins; a later one must be larger.

Caffe's EltwiseLayer. In Caffe the top may be in place, but by then that bottom is lost (a sum leaves it out), so it
is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import Calls, elementwise
from minicaffe.ops.epilogue import Epilogue
from minicaffe.spec.fields import Bool, Enum, Float, Message


class EltwiseParam(Message):
    """``coeff``: for SUM, one for each bottom; ``stable_prod_grad``: multiply the others, not divide y by x_i."""

    operation = Enum("PROD", "SUM", "MAX", default="SUM")
    coeff = Float(repeated=True)
    stable_prod_grad = Bool(True)

    def check(self) -> None:
        if self.coeff and self.operation != "SUM":
            raise self.error("coeff", f"for SUM only, not {self.operation}; leave it out")


@register_layer
class Eltwise(Layer):
    """Combines blobs of the same shape into one."""

    messages = {"eltwise_param": EltwiseParam}
    bottoms = (2, None)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.param = param = self.spec.message(EltwiseParam)
        if param.coeff and len(param.coeff) != len(bottom):
            raise param.error("coeff", f"{len(param.coeff)} for {len(bottom)} bottoms; give one for each")
        self.coeff = param.coeff or [1.0] * len(bottom)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        for name, blob in zip(self.spec.bottom, bottom, strict=True):
            if blob.shape != shape:
                raise self.shape_error(
                    f"bottom '{name}' has shape {blob.shape}, the first {shape}; expected one shape"
                )
        top[0].reshape(*shape)
        if self.param.operation == "MAX":
            self.winner = self.new_array(top[0].stored_shape, np.uint8 if len(bottom) < 256 else np.int32)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        operation = self.param.operation
        arrays = top[0].stored, *(blob.stored for blob in bottom)
        if operation == "SUM":
            elementwise(self._sum, *arrays)
        elif operation == "PROD":
            elementwise(self._product, *arrays)
        else:
            elementwise(self._maximum, arrays[0], self.winner, *arrays[1:])

    def can_lead(self) -> bool:
        return self.param.operation != "MAX"

    def forward_then(self, bottom: Blobs, top: Blobs, epilogue: Epilogue) -> None:
        combine = self._sum if self.param.operation == "SUM" else self._product
        epilogue.over(top[0].stored, *(blob.stored for blob in bottom), write=combine)

    def prepare(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> Calls | None:
        if epilogue is None:
            return [partial(self.forward, bottom, top)]
        return [partial(self.forward_then, bottom, top, epilogue)]

    def _sum(self, y: Array, *xs: Array) -> None:
        terms = [x if c == 1 else c * x for c, x in zip(self.coeff, xs, strict=True)]
        self.xp.add(terms[0], terms[1], out=y)
        for term in terms[2:]:
            y += term

    def _product(self, y: Array, *xs: Array) -> None:
        self.xp.multiply(xs[0], xs[1], out=y)
        for x in xs[2:]:
            y *= x

    def _maximum(self, y: Array, winner: Array, *xs: Array) -> None:
        xp = self.xp
        winner[...] = xs[0] <= xs[1]
        xp.maximum(xs[0], xs[1], out=y)
        for i, x in enumerate(xs[2:], 2):
            xp.maximum(winner, (x > y) * winner.dtype.type(i), out=winner)
            xp.maximum(y, x, out=y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        param = self.param
        if param.operation == "PROD":
            gradient = self._product_grad if param.stable_prod_grad else self._quotient_grad
        else:
            gradient = self._sum_grad if param.operation == "SUM" else self._maximum_grad
        for i, wanted in enumerate(propagate_down):
            if wanted:
                gradient(i, top[0], bottom)

    def _sum_grad(self, i: int, y: Blob, bottom: Blobs) -> None:
        xp, c = self.xp, self.coeff[i]
        elementwise(lambda dy, dx: xp.multiply(dy, c, out=dx), y.stored_diff, bottom[i].stored_diff)

    def _product_grad(self, i: int, y: Blob, bottom: Blobs) -> None:
        def product(dx: Array, dy: Array, first: Array, *rest: Array) -> None:
            self.xp.multiply(dy, first, out=dx)
            for x in rest:
                dx *= x

        others = [blob.stored for j, blob in enumerate(bottom) if j != i]
        elementwise(product, bottom[i].stored_diff, y.stored_diff, *others)

    def _quotient_grad(self, i: int, y: Blob, bottom: Blobs) -> None:
        def quotient(dx: Array, dy: Array, y: Array, x: Array) -> None:
            self.xp.divide(y, x, out=dx)
            dx *= dy

        elementwise(quotient, bottom[i].stored_diff, y.stored_diff, y.stored, bottom[i].stored)

    def _maximum_grad(self, i: int, y: Blob, bottom: Blobs) -> None:
        xp = self.xp
        elementwise(
            lambda dy, winner, dx: xp.multiply(dy, winner == i, out=dx),
            y.stored_diff,
            self.winner,
            bottom[i].stored_diff,
        )
