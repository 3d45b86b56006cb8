"""A convolution with weights of low rank, in the cheaper of two orders.

    ``TwoStage``   z = first ∗ x,   y = second ∗ z + b      two thin convolutions, with the filters of a scheme
    ``OneStage``   y = (left · right) ∗ x + b               one convolution, with the product of the factors

What backward needs is kept from the latest forward. Shapes as in ``ops/convolution/geometry.py``: x (C, H, W, N),
z (g·r, OH', OW', N) and y (M, OH, OW, N), for rank r in each of g groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of
from minicaffe.device.workers import Calls
from minicaffe.low_rank.schemes import ChannelScheme, Scheme
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.in_order import vertical_like
from minicaffe.ops.epilogue import Epilogue
from minicaffe.ops.remember import constant, is_same, remembered

Filters = tuple[Array, Array]  # of the first and the second stage: (g·r, …) and (M, r, …)
FilterGradients = tuple[Array | None, Array | None]  # None where no gradient is needed


def cost_of_rank(dense: DenseConvolution, scheme: Scheme) -> float:
    """The multiply-adds of one more rank, as a share of the dense convolution's."""
    return TwoStage(dense, scheme, 1).multiply_adds / dense.geometry.multiply_adds


def rank_within(share: float, cost: float) -> int:
    """The largest rank that costs at most this share of the dense convolution, where ``cost`` is that of each rank.

    A share that is just what a rank costs is enough for it, whatever the rounding. 0: rank 1 costs more.
    """
    return int(share / cost * (1 + 1e-12))


def product_of_rank(dense: DenseConvolution, scheme: Scheme, rank: int) -> TwoStage | OneStage:
    """The cheaper order for this rank."""
    two_stage = TwoStage(dense, scheme, rank)
    return two_stage if two_stage.multiply_adds < dense.geometry.multiply_adds else OneStage(dense, scheme)


class _Stages:
    """What the two orders have in common."""

    def forward(
        self,
        x: Array,
        filters: Filters,
        out: Array,
        bias: Array | None = None,
        epilogue: Epilogue | None = None,
    ) -> None:
        """Write y, or what the epilogue makes of it, into ``out``."""
        workers.make(self.prepare(x, filters, out, bias, epilogue))

    def prepare(
        self,
        x: Array,
        filters: Filters,
        out: Array,
        bias: Array | None = None,
        epilogue: Epilogue | None = None,
    ) -> Calls:
        """The calls that ``forward`` makes."""
        raise NotImplementedError


class TwoStage(_Stages):
    """Two thin convolutions, one after the other.

    z = first ∗ x           dfirst  = dz ∗ x        dx = firstᵀ ∗ dz
    y = second ∗ z + b      dsecond = dy ∗ z        dz = secondᵀ ∗ dy
    """

    def __init__(self, dense: DenseConvolution, scheme: Scheme, rank: int) -> None:
        first_window, second_window = scheme.windows(dense.geometry.window)
        first = replace(dense.geometry, filters=dense.geometry.group * rank, window=first_window)
        second = first.followed_by(dense.geometry.filters, second_window)
        is_vertical = not isinstance(scheme, ChannelScheme)
        self.first = vertical_like(dense, first) if is_vertical else dense.direct(first)
        self.second = dense.direct(second)
        self.geometries = [first, second]
        self.multiply_adds = first.multiply_adds + second.multiply_adds
        self._dz: Array | None = None

    def prepare(
        self,
        x: Array,
        filters: Filters,
        out: Array,
        bias: Array | None = None,
        epilogue: Epilogue | None = None,
    ) -> Calls:
        """The calls that ``forward`` makes."""
        self.filters = filters
        self.padded_hidden, self.hidden = self.second.room_for_padded(x)  # z, which is made where it is read
        self.padded, calls = self.first.prepare(x, filters[0], self.hidden)
        return calls + self.second.prepare_padded(self.padded_hidden, filters[1], out, bias, epilogue)

    def backward(
        self, dy: Array, needed: Sequence[bool], bias_out: Array | None = None, dx: Array | None = None
    ) -> FilterGradients:
        """The gradients of the two filters, those that are needed. Where they are given, db is written into
        ``bias_out`` and the gradient of x into ``dx``."""
        first_grad = second_grad = None
        if needed[1]:
            second_grad = module_of(dy).empty_like(self.filters[1])
            self.second.weight_grad(dy, self.padded_hidden, second_grad, bias_out)
        elif bias_out is not None:
            dy.reshape(len(bias_out), -1).sum(axis=1, out=bias_out)
        if needed[0] or dx is not None:
            dz = self._room_for_dz(dy)
            self.second.input_grad(dy, self.filters[1], dz)
            if needed[0]:
                first_grad = module_of(dy).empty_like(self.filters[0])
                self.first.weight_grad(dz, self.padded, first_grad)
            if dx is not None:
                self.first.input_grad(dz, self.filters[0], dx)
        return first_grad, second_grad

    def _room_for_dz(self, like: Array) -> Array:
        if self._dz is None:
            self._dz = module_of(like).empty(self.second.geometry.shape, like.dtype)
        return self._dz


class OneStage(_Stages):
    """The dense convolution with W = left · right for its weights.

    y = W ∗ x + b       dW = dy ∗ x,    dleft = dW · rightᵀ,    dright = leftᵀ · dW         dx = Wᵀ ∗ dy

    For few images left · right is more work than all else, so it is kept as long as the factors are the same.
    """

    def __init__(self, dense: DenseConvolution, scheme: Scheme) -> None:
        self.dense, self.scheme = dense, scheme
        self.geometries = [dense.geometry]
        self.multiply_adds = dense.geometry.multiply_adds
        self._filters: Filters | None = None  # of which the weights were made

    def prepare(
        self,
        x: Array,
        filters: Filters,
        out: Array,
        bias: Array | None = None,
        epilogue: Epilogue | None = None,
    ) -> Calls:
        """As ``TwoStage.prepare``."""
        self.left, self.right = self.scheme.factors(*filters)
        if self._filters is None or not all(map(is_same, filters, self._filters)):
            self.weights = constant(self.scheme.weights(self.left @ self.right))
            first, second = filters
            self._filters = remembered(first), remembered(second)
        self.padded, calls = self.dense.prepare(x, self.weights, out, bias, epilogue)
        return calls

    def backward(
        self, dy: Array, needed: Sequence[bool], bias_out: Array | None = None, dx: Array | None = None
    ) -> FilterGradients:
        """As ``TwoStage.backward``."""
        first_grad = second_grad = None
        if any(needed):
            dw = module_of(dy).empty_like(self.weights)
            self.dense.weight_grad(dy, self.padded, dw, bias_out)
            matrix = self.scheme.matrix(dw)
            dleft, dright = matrix @ self.right.swapaxes(-1, -2), self.left.swapaxes(-1, -2) @ matrix
            first_grad, second_grad = self.scheme.filters(dleft, dright)
        elif bias_out is not None:
            dy.reshape(len(bias_out), -1).sum(axis=1, out=bias_out)
        if dx is not None:
            self.dense.input_grad(dy, self.weights, dx)
        return first_grad if needed[0] else None, second_grad if needed[1] else None
