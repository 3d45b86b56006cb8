"""The moments of a layer's inputs and responses (``moments.py``), summed over batches that go through a net.

As long as there are fewer columns than rows, the columns themselves are kept (``columns.py``). Where there are many
more than are needed, a sample of them is enough (Zhang et al. 2015, arXiv 1505.06798, sample them too).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from minicaffe.compress.batches import Batch, run
from minicaffe.compress.columns import Columns
from minicaffe.compress.moments import Moments
from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.device.array import Array, module_of
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.ops import gemm
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry
from minicaffe.train.progress import Progress

# Least squares fitted to n columns of k rows miss about k / n more, of what is missed, than those fitted to all:
# a hundredth, with so many columns for each row.
COLUMNS_PER_ROW = 80
ENOUGH_COLUMNS = 20_000  # at least so many: columns of one image are alike, and tell less
WORTH_SAMPLING = 0.25  # of the columns: to take one is more work than to go on with the next
PIECE = 1 << 13  # columns that are taken together
SEED = 1701


class MomentSums:
    """Sums over batches, from which the moments follow.

    The means of the first batch are subtracted from x and y, so that little cancels afterwards, in float32 too.
    ``own_weights``: w, of the elements of (g, m, k), where y is the layer's own w·x + b: yx is then w·xx, exactly.
    ``batches``: how many will be added, if a sample of their columns is to do; else all columns count.
    """

    def __init__(self, own_weights: Array | None = None, batches: int | None = None) -> None:
        self.columns = 0
        self.own_weights, self.batches = own_weights, batches
        self.sums: list[Array] = []
        self.shifts: tuple[Array, Array] | None = None  # of x (g, k) and y (g, m)
        self._kept: list[tuple[Array, Array]] = []  # columns of x, with the shift subtracted, and of y
        self._rng = np.random.default_rng(SEED)

    def add(self, product: DenseConvolution, x: Array, y: Array) -> None:
        """Add a batch: inputs x (C, H, W, N), and the responses y (M, OH, OW, N) that are wanted for them."""
        geometry = product.geometry
        x = x.reshape(geometry.shape)
        y = y.reshape(geometry.group, geometry.filters // geometry.group, -1)
        chosen = self._sample(geometry)
        is_short = not self.sums and self.columns + len(chosen) < geometry.depth
        if is_short or len(chosen) < geometry.columns:
            for numbers in np.array_split(chosen, max(1, -(-len(chosen) // PIECE))):
                own = y[:, :, module_of(y).asarray(numbers)]
                self._add_columns(columns_at(x, geometry, numbers), own, is_short)
        else:
            self._fold()
            self._add_all(product, x, y)
        self.columns += len(chosen)

    def _sample(self, geometry: Geometry) -> np.ndarray:
        """Numbers of the columns of X that are taken from this batch, in order."""
        if self.batches is not None:
            most = max(ENOUGH_COLUMNS, COLUMNS_PER_ROW * geometry.depth)
            wanted = -(-most // self.batches)
            if wanted <= WORTH_SAMPLING * geometry.columns:
                return np.sort(self._rng.choice(geometry.columns, wanted, replace=False))
        return np.arange(geometry.columns)

    def _add_columns(self, x: Array, y: Array, is_short: bool) -> None:
        """Add columns x (g, k, n) and y (g, m, n): keep them while there are fewer than rows."""
        if self.shifts is None:
            x_mean, y_mean = (a.mean(axis=2, dtype=np.float64).astype(a.dtype) for a in (x, y))
            self.shifts = x_mean, y_mean
        x -= self.shifts[0][:, :, None]
        self._kept.append((x, y))
        if not is_short:
            self._fold()

    def _fold(self) -> None:
        """Add the columns that were kept to the sums."""
        for x, y in self._kept:
            assert self.shifts is not None
            y = y - self.shifts[1][:, :, None]
            wide = y.astype(np.float64)
            xx = _product(x, x.swapaxes(1, 2)).astype(np.float64)
            batch = [x.sum(axis=2, dtype=np.float64), wide.sum(axis=2), xx, (wide * wide).sum(axis=2)]
            if self.own_weights is None:
                batch.append(_product(y, x.swapaxes(1, 2)).astype(np.float64))
            self._add_sums(batch)
        self._kept.clear()

    def _add_all(self, product: DenseConvolution, x: Array, y: Array) -> None:
        """Add all columns of a batch, block by block."""
        geometry = product.geometry
        if self.shifts is None:
            x_mean = column_mean(x, geometry)
            self.shifts = x_mean.astype(x.dtype), y.mean(axis=2, dtype=np.float64).astype(y.dtype)
        x_shift, y_shift = self.shifts
        y = y - y_shift[:, :, None]
        padded = product.pad(x)
        x_sum, xx = product.moments(padded, x_shift)
        wide = y.astype(np.float64)
        y_sum = wide.sum(axis=2)
        batch = [x_sum, y_sum, xx, (wide * wide).sum(axis=2)]
        if self.own_weights is None:
            yx = self._products(product, padded, y) - y_sum[:, :, None] * x_shift[:, None, :]
            batch.append(yx)
        self._add_sums(batch)

    def _add_sums(self, batch: list[Array]) -> None:
        self.sums = [a + b for a, b in zip(self.sums, batch, strict=True)] if self.sums else batch

    def _products(self, product: DenseConvolution, padded: Array, y: Array) -> Array:
        """y·Xᵀ (g, m, k)."""
        geometry = product.geometry
        yx: Array = module_of(y).empty(geometry.weight_shape, y.dtype)
        product.weight_grad(y.reshape(geometry.filters, -1), padded, yx)
        return yx.reshape(geometry.group, -1, geometry.depth).astype(np.float64)

    def moments(self) -> Moments:
        """The moments of all that was added, which is one batch at least."""
        assert self.shifts is not None
        if self._kept:
            return self._kept_columns()
        x_shift, y_shift = self.shifts
        x, y, xx, yy, *yx = (total / self.columns for total in self.sums)
        x_mean, y_mean = x_shift + x, y_shift + y
        centred_xx = xx - x[:, :, None] * x[:, None, :]
        own = self._own(y)
        if own is None:
            centred_yx = yx[0] - y[:, :, None] * x[:, None, :]
        else:
            centred_yx = _product(own.astype(np.float64), centred_xx)
        yy = module_of(yy).maximum(yy - y * y, 0)
        return Moments(x_mean, y_mean, centred_xx, centred_yx, yy, own, self.columns)

    def _kept_columns(self) -> Columns:
        assert self.shifts is not None
        x, y = (module_of(parts[0]).concatenate(parts, axis=2) for parts in zip(*self._kept, strict=True))
        self._kept = [(x, y)]
        y_mean = y.mean(axis=2, dtype=np.float64)
        yy = ((y - y_mean[:, :, None]) ** 2).mean(axis=2)
        own = self._own(y)
        shift = self.shifts[0].astype(np.float64)
        return Columns(x, y if own is None else None, shift, y_mean, yy, own, self.columns)

    def _own(self, y: Array) -> Array | None:
        """The layer's own weights as (g, m, k), for y (g, m, …)."""
        return None if self.own_weights is None else self.own_weights.reshape(*y.shape[:2], -1)


def _product(a: Array, b: Array) -> Array:
    """a·b, on all workers."""
    out: Array = module_of(a).empty((*a.shape[:2], b.shape[2]), a.dtype)
    gemm.matmul(a, b, out)
    return out


def columns_at(x: Array, geometry: Geometry, numbers: np.ndarray) -> Array:
    """Columns (g, K/g, n) of the data matrix of x (C, H, W, N), by their numbers."""
    xp, window = module_of(x), geometry.window
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = window.kernel, window.stride, window.pad, window.dilation
    if ph or pw:
        x = xp.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    row, column, image = np.unravel_index(numbers, (*geometry.output, geometry.batch))
    rows = np.arange(kh)[:, None, None] * dh + row * sh  # (kh, 1, n)
    columns = np.arange(kw)[:, None] * dw + column * sw  # (kw, n)
    where = np.ravel_multi_index((rows, columns, np.broadcast_to(image, columns.shape)), x.shape[1:])
    taken: Array = x.reshape(len(x), -1)[:, xp.asarray(where)]  # (C, kh, kw, n)
    return taken.reshape(geometry.group, geometry.depth, -1)


def column_mean(x: Array, geometry: Geometry) -> Array:
    """The mean (g, K/g) of the columns of the data matrix of x (C, H, W, N)."""
    xp, window = module_of(x), geometry.window
    total = x.sum(axis=3, dtype=np.float64)
    if any(window.pad):
        (ph, pw) = window.pad
        total = xp.pad(total, ((0, 0), (ph, ph), (pw, pw)))
    sums = [
        total[(slice(None), *window.under(place, geometry.output))].sum(axis=(1, 2))
        for place in window.positions()
    ]
    mean: Array = xp.stack(sums, axis=1).reshape(geometry.group, geometry.depth) / geometry.columns
    return mean


def dense_product(layer: Layer, bottom: Blob, top: Blob) -> tuple[DenseConvolution, Array, Array]:
    """The product that a Convolution or InnerProduct of two spatial axes is, with its x and y as they are now."""
    assert isinstance(layer, (Convolution, InnerProduct))
    product, x, y = layer.as_product(bottom, top)
    assert isinstance(product, DenseConvolution)
    return product, x, y


def of_layers(net: Net, names: Sequence[str], batches: Sequence[Batch]) -> dict[str, Moments]:
    """The moments of some layers of a net, in one pass over the batches."""
    return summed(net, {name: MomentSums(net.params[name][0].data, len(batches)) for name in names}, batches)


def summed(net: Net, sums: Mapping[str, MomentSums], batches: Sequence[Batch]) -> dict[str, Moments]:
    """What sums of some layers of a net, by name, are after one pass over the batches. It logs how far it is."""
    last = max((i for i, layer in enumerate(net.layers) if layer.name in sums), default=-1)
    progress, steps = Progress(100, "% of the covariances"), len(batches) * (last + 1)
    for n, batch in enumerate(batches):
        for i, step in enumerate(net.steps[: last + 1]):
            run(net, batch, i, i)
            if step.layer.name in sums:
                sums[step.layer.name].add(*dense_product(step.layer, step.bottom[0], step.top[0]))
            progress.say_some(100 * (n * (last + 1) + i + 1) // steps - progress.done)
    return {name: total.moments() for name, total in sums.items()}


def between(original: Net, approximated: Net, name: str, batches: Sequence[Batch]) -> Moments:
    """The moments of one layer with the approximated net's inputs and the original's responses."""
    index = next(i for i, layer in enumerate(original.layers) if layer.name == name)
    sums = MomentSums(batches=len(batches))
    for batch in batches:
        run(original, batch, 0, index)
        run(approximated, batch, 0, index - 1)
        exact, step = original.steps[index], approximated.steps[index]
        approximated.run_forward(index, index)  # so that the layer has seen the shapes of this batch
        product, x, _ = dense_product(step.layer, step.bottom[0], exact.top[0])
        sums.add(product, x, exact.top[0].stored)
    return sums.moments()
