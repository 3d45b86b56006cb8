"""A convolution with weights of low rank, in the cheaper of two orders.

``TwoStage``   y = second ∗ (first ∗ x) + b       two thin convolutions, with the filters of a scheme
``OneStage``     y = (left · right) ∗ x + b         the factors multiplied first, then the dense convolution

Both have the three products that a layer needs: forward, the gradients of the filters, the gradient of the input.
What backward needs is kept from the latest forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minicaffe.device.array import Array, module_of
from minicaffe.low_rank.schemes import ChannelScheme, Scheme
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.vertical import VerticalConvolution

Filters = tuple[Array, Array]  # of the first and the second stage
FilterGrads = tuple[Array | None, Array | None]  # None: not needed


def cost_of_rank(dense: DenseConvolution, scheme: Scheme) -> float:
    """The multiply-adds of one more rank, as a share of the dense convolution's."""
    return TwoStage(dense, scheme, 1).multiply_adds / dense.geometry.multiply_adds


def product_of_rank(dense: DenseConvolution, scheme: Scheme, rank: int) -> TwoStage | OneStage:
    """The cheaper order for this rank."""
    two_stage = TwoStage(dense, scheme, rank)
    return two_stage if two_stage.multiply_adds < dense.geometry.multiply_adds else OneStage(dense, scheme)


class TwoStage:
    """Two convolutions, one after the other; filters (g·r, …) and (M, r, …)."""

    def __init__(self, dense: DenseConvolution, scheme: Scheme, rank: int) -> None:
        first_window, second_window = scheme.windows(dense.geometry.window)
        first = replace(dense.geometry, filters=dense.geometry.group * rank, window=first_window)
        second = first.followed_by(dense.geometry.filters, second_window)
        kind = DenseConvolution if isinstance(scheme, ChannelScheme) else VerticalConvolution
        self.first = kind(first, dense.dtype, dense.device)
        self.second = DenseConvolution(second, dense.dtype, dense.device)
        self.multiply_adds = first.multiply_adds + second.multiply_adds
        self._dz: Array | None = None

    def forward(self, x: Array, filters: Filters, out: Array, bias: Array | None = None) -> None:
        """Write y (M, OH, OW, N) into ``out``."""
        self.filters = filters
        self.padded_hidden, self.hidden = self.second.room_for_padded(x)  # z, which is made where it is read
        self.padded = self.first.forward(x, filters[0], self.hidden)
        self.second.forward_padded(self.padded_hidden, filters[1], out, bias)

    def backward(
        self, dy: Array, wanted: Sequence[bool], bias_out: Array | None = None, dx: Array | None = None
    ) -> FilterGrads:
        """The gradients of the two filters, those that are wanted; where they are given, db is written into
        ``bias_out`` and the input's gradient into ``dx``."""
        first_grad = second_grad = None
        if wanted[1]:
            second_grad = module_of(dy).empty_like(self.filters[1])
            self.second.weight_grad(dy, self.padded_hidden, second_grad, bias_out)
        elif bias_out is not None:
            dy.reshape(self.second.geometry.filters, -1).sum(axis=1, out=bias_out)
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
        return module_of(like).empty(self.second.geometry.shape, like.dtype) if buffer is None else buffer


class OneStage:
    """The dense convolution, with the product of the factors as its weights."""

    def __init__(self, dense: DenseConvolution, scheme: Scheme) -> None:
        self.dense, self.scheme = dense, scheme
        self.multiply_adds = dense.geometry.multiply_adds

    def forward(self, x: Array, filters: Filters, out: Array, bias: Array | None = None) -> None:
        """Write y (M, OH, OW, N) into ``out``."""
        self.left, self.right = self.scheme.factors(*filters)
        self.weights = self.scheme.weights(self.left @ self.right)
        self.padded = self.dense.forward(x, self.weights, out, bias)

    def backward(
        self, dy: Array, wanted: Sequence[bool], bias_out: Array | None = None, dx: Array | None = None
    ) -> FilterGrads:
        """As ``TwoStage.backward``."""
        first_grad = second_grad = None
        if any(wanted):
            grad = module_of(dy).empty_like(self.weights)
            self.dense.weight_grad(dy, self.padded, grad, bias_out)
            grad = self.scheme.matrix(grad)
            first_grad, second_grad = self.scheme.filters(
                grad @ self.right.swapaxes(-1, -2), self.left.swapaxes(-1, -2) @ grad
            )
        elif bias_out is not None:
            dy.reshape(self.dense.geometry.filters, -1).sum(axis=1, out=bias_out)
        if dx is not None:
            self.dense.input_grad(dy, self.weights, dx)
        return first_grad if wanted[0] else None, second_grad if wanted[1] else None
