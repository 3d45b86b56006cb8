"""A convolution with weights of low rank, in the cheaper of two orders.

``TwoStage``   y = second ∗ (first ∗ x) + b       two thin convolutions, with the filters of a scheme
``Merged``     y = (left · right) ∗ x + b         the factors multiplied first, then the dense convolution

Both have the three products that a layer needs: forward, the gradients of the filters, the gradient of the input.
What backward needs is kept from the latest forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.device.array import Array, module_of
from minicaffe.low_rank.schemes import ChannelScheme, Scheme
from minicaffe.ops.convolution.dense import Convolution2d
from minicaffe.ops.convolution.vertical import VerticalConvolution

Pair = tuple[Array | None, Array | None]


def cost_of_rank(dense: Convolution2d, scheme: Scheme) -> float:
    """The multiply-adds of one more rank, as a share of the dense convolution's."""
    return TwoStage(dense, scheme, 1).multiply_adds / multiply_adds(dense)


def multiply_adds(product: Convolution2d) -> int:
    """Multiply-adds of one image."""
    return product.filters * product.depth * math.prod(product.output)


def product_of_rank(dense: Convolution2d, scheme: Scheme, rank: int) -> TwoStage | Merged:
    """The cheaper order for this rank."""
    two_stage = TwoStage(dense, scheme, rank)
    return two_stage if two_stage.multiply_adds < multiply_adds(dense) else Merged(dense, scheme)


class TwoStage:
    """Two convolutions, one after the other; filters (g·r, …) and (M, r, …)."""

    def __init__(self, dense: Convolution2d, scheme: Scheme, rank: int) -> None:
        first, second = scheme.windows(dense.window)
        hidden = dense.group * rank
        kind = Convolution2d if isinstance(scheme, ChannelScheme) else VerticalConvolution
        self.first = kind(dense.shape, hidden, first, dense.group, dense.dtype, dense.device)
        middle = (hidden, *self.first.output, dense.batch)
        self.second = Convolution2d(middle, dense.filters, second, dense.group, dense.dtype, dense.device)
        self.multiply_adds = multiply_adds(self.first) + multiply_adds(self.second)
        self._dz: Array | None = None

    def forward(self, x: Array, filters: Pair, out: Array, bias: Array | None = None) -> None:
        """Write y (M, OH, OW, N) into ``out``."""
        self.filters = filters
        self.padded_hidden, self.hidden = self.second.room_for_padded(x)  # z, which is made where it is read
        self.padded = self.first.forward(x, filters[0], self.hidden)
        self.second.forward_padded(self.padded_hidden, filters[1], out, bias)

    def backward(
        self, dy: Array, wanted: Sequence[bool], bias_out: Array | None = None, dx: Array | None = None
    ) -> Pair:
        """The gradients of the two filters, those that are wanted; where they are given, db is written into
        ``bias_out`` and the input's gradient into ``dx``."""
        first_grad = second_grad = None
        if wanted[1]:
            second_grad = module_of(dy).empty_like(self.filters[1])
            self.second.weight_grad(dy, self.padded_hidden, second_grad, bias_out)
        elif bias_out is not None:
            dy.reshape(self.second.filters, -1).sum(axis=1, out=bias_out)
        if wanted[0] or dx is not None:
            self._dz = self._buffer(self._dz, dy)
            self.second.input_grad(dy, self.filters[1], self._dz)
        if wanted[0]:
            first_grad = module_of(dy).empty_like(self.filters[0])
            self.first.weight_grad(self._dz, self.padded, first_grad)
        if dx is not None:
            self.first.input_grad(self._dz, self.filters[0], dx)
        return first_grad, second_grad

    def _buffer(self, buffer: Array | None, like: Array) -> Array:
        return module_of(like).empty(self.second.shape, like.dtype) if buffer is None else buffer


class Merged:
    """The dense convolution, with the product of the factors as its weights."""

    def __init__(self, dense: Convolution2d, scheme: Scheme) -> None:
        self.dense, self.scheme = dense, scheme
        self.multiply_adds = multiply_adds(dense)

    def forward(self, x: Array, filters: Pair, out: Array, bias: Array | None = None) -> None:
        """Write y (M, OH, OW, N) into ``out``."""
        self.left, self.right = self.scheme.factors(*filters)
        self.weights = self.scheme.weights(self.left @ self.right)
        self.padded = self.dense.forward(x, self.weights, out, bias)

    def backward(
        self, dy: Array, wanted: Sequence[bool], bias_out: Array | None = None, dx: Array | None = None
    ) -> Pair:
        """As ``TwoStage.backward``."""
        filters: Pair = (None, None)
        if any(wanted):
            grad = module_of(dy).empty_like(self.weights)
            self.dense.weight_grad(dy, self.padded, grad, bias_out)
            grad = self.scheme.matrix(grad)
            filters = self.scheme.filters(
                grad @ self.right.swapaxes(-1, -2), self.left.swapaxes(-1, -2) @ grad
            )
        elif bias_out is not None:
            dy.reshape(self.dense.filters, -1).sum(axis=1, out=bias_out)
        if dx is not None:
            self.dense.input_grad(dy, self.weights, dx)
        return filters
