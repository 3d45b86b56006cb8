"""Inputs and responses of a layer over some batches: means and covariances of data matrix columns and responses.

With columns x (K) of the data matrix and the responses y (M) that are wanted for them,

    xx = E[(x − x̄)(x − x̄)ᵀ]     yx = E[(y − ȳ)(x − x̄)ᵀ]

are all that least squares needs. The inputs may be those of a net that is approximated already, while the
responses are the original net's (asymmetric fitting: Zhang et al. 2015, arXiv 1505.06798, section 2.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.compress.batches import Batch, run
from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.device.array import Array, module_of
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.ops.convolution.dense import DenseConvolution


@dataclass
class Moments:
    """Of g groups: x_mean (g, k), y_mean (g, m), xx (g, k, k), yx (g, m, k), and yy (g, m), the variances of y."""

    x_mean: Array
    y_mean: Array
    xx: Array
    yx: Array
    yy: Array

    @property
    def second(self) -> Array:
        """E[x·xᵀ] (g, k, k), not centred: what a basis of the data itself is made of."""
        second: Array = self.xx + self.x_mean[:, :, None] * self.x_mean[:, None, :]
        return second

    def uncentred(self) -> Moments:
        """The same, with means taken as zero: for a layer that has no bias to make up for them."""
        xy = self.y_mean[:, :, None] * self.x_mean[:, None, :]
        return Moments(
            0 * self.x_mean, 0 * self.y_mean, self.second, self.yx + xy, self.yy + self.y_mean * self.y_mean
        )


class MomentSums:
    """Sums over batches, from which the moments follow.

    The means of the first batch are subtracted from x and y, so that little cancels afterwards, in float32 too.
    ``own_weights``: w, of the elements of (g, m, k), where y is the layer's own w·x + b: yx is then w·xx, exactly.
    """

    def __init__(self, own_weights: Array | None = None) -> None:
        self.columns = 0
        self.own_weights = own_weights
        self.sums: list[Array] = []
        self.shifts: tuple[Array, Array] | None = None  # of x (g, k) and y (g, m)

    def add(self, product: DenseConvolution, x: Array, y: Array) -> None:
        """Add a batch: inputs x (C, H, W, N), and the responses y (M, OH, OW, N) that are wanted for them."""
        geometry = product.geometry
        padded = product.pad(x)
        y = y.reshape(geometry.group, geometry.filters // geometry.group, -1)
        if self.shifts is None:
            x_mean = product.moments(padded)[0] / geometry.columns
            self.shifts = x_mean.astype(x.dtype), y.mean(axis=2, dtype=np.float64).astype(y.dtype)
        x_shift, y_shift = self.shifts
        y = y - y_shift[:, :, None]
        x_sum, xx = product.moments(padded, x_shift)
        wide = y.astype(np.float64)
        batch = [x_sum, wide.sum(axis=2), xx, (wide * wide).sum(axis=2)]
        if self.own_weights is None:
            batch.append(self._products(product, padded, y))
        self.sums = [a + b for a, b in zip(self.sums, batch, strict=True)] if self.sums else batch
        self.columns += geometry.columns

    def _products(self, product: DenseConvolution, padded: Array, y: Array) -> Array:
        """y·Xᵀ (g, m, k)."""
        geometry = product.geometry
        yx: Array = module_of(y).empty(geometry.weight_shape, y.dtype)
        product.weight_grad(y.reshape(geometry.filters, -1), padded, yx)
        return yx.reshape(geometry.group, -1, geometry.depth).astype(np.float64)

    def moments(self) -> Moments:
        """The moments of all that was added, which is one batch at least."""
        assert self.shifts is not None
        x_shift, y_shift = self.shifts
        x, y, xx, yy, *yx = (total / self.columns for total in self.sums)
        x_mean, y_mean = x_shift + x, y_shift + y
        centred_xx = xx - x[:, :, None] * x[:, None, :]
        if self.own_weights is None:
            centred_yx = yx[0] - y[:, :, None] * x_mean[:, None, :]  # only y was shifted there
        else:
            centred_yx = self.own_weights.reshape(*y.shape, -1).astype(np.float64) @ centred_xx
        return Moments(x_mean, y_mean, centred_xx, centred_yx, module_of(yy).maximum(yy - y * y, 0))


def dense_product(layer: Layer, bottom: Blob, top: Blob) -> tuple[DenseConvolution, Array, Array]:
    """The product that a Convolution or InnerProduct of two spatial axes is, with its x and y as they are now."""
    assert isinstance(layer, (Convolution, InnerProduct))
    product, x, y = layer.as_product(bottom, top)
    assert isinstance(product, DenseConvolution)
    return product, x, y


def of_layers(net: Net, names: Sequence[str], batches: Sequence[Batch]) -> dict[str, Moments]:
    """The moments of some layers of a net, in one pass over the batches."""
    sums = {name: MomentSums(net.params[name][0].data) for name in names}
    for batch in batches:
        for i, step in enumerate(net.steps):
            run(net, batch, i, i)
            if step.layer.name in sums:
                sums[step.layer.name].add(*dense_product(step.layer, step.bottom[0], step.top[0]))
    return {name: total.moments() for name, total in sums.items()}


def between(original: Net, approximated: Net, name: str, batches: Sequence[Batch]) -> Moments:
    """The moments of one layer with the approximated net's inputs and the original's responses."""
    index = next(i for i, layer in enumerate(original.layers) if layer.name == name)
    sums = MomentSums()
    for batch in batches:
        run(original, batch, 0, index)
        run(approximated, batch, 0, index - 1)
        exact, step = original.steps[index], approximated.steps[index]
        approximated.run_forward(index, index)  # so that the layer has seen the shapes of this batch
        product, x, _ = dense_product(step.layer, step.bottom[0], exact.top[0])
        sums.add(product, x, exact.top[0].stored)
    return sums.moments()
