"""InnerProduct: y = w · x + b, a fully connected layer.

    dw = dy · xᵀ        db = dy · 1        dx = wᵀ · dy

Shapes: x (N, …) with all axes from ``axis`` on flattened to K, stored (K, N); w (M, K), or (K, M) with
``transpose``; b (M,); y (N, M), stored (M, N).

``low_rank_param``, with which w or x is of low rank, is added in ``low_rank/layers.py``. Caffe's InnerProductLayer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from minicaffe.core.blob import Blob
from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, canonical_axis, register_layer
from minicaffe.device.array import Array, to_host
from minicaffe.device.workers import Calls, make
from minicaffe.layers.matrix_product import MatrixProduct, Stage
from minicaffe.ops import gemm
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.products import planar_products_for
from minicaffe.ops.epilogue import Epilogue
from minicaffe.ops.gemm import side_by_side
from minicaffe.spec.fields import Bool, Int, Message, Nested


class InnerProductParam(Message):
    """``axis``: the first axis to flatten; those before it stay."""

    num_output = Int(required=True, min=1)
    bias_term = Bool(True)
    weight_filler = Nested(FillerParam)
    bias_filler = Nested(FillerParam)
    axis = Int(1)
    transpose = Bool(False)


@register_layer
class InnerProduct(MatrixProduct):
    """A matrix product of weights and flattened inputs, with a bias."""

    messages = {"inner_product_param": InnerProductParam}

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(InnerProductParam)
        self.axis = canonical_axis(self, param.axis, len(bottom[0].shape))
        self.depth = math.prod(bottom[0].shape[self.axis :])
        if not self.depth:
            raise self.shape_error(f"bottom of shape {bottom[0].shape} has no inputs")
        self.num_output, self.transpose = param.num_output, param.transpose
        shape = (self.num_output, self.depth)
        self.add_blob(shape[::-1] if self.transpose else shape, param.weight_filler)
        if param.bias_term:
            self.add_blob((self.num_output,), param.bias_filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        depth = math.prod(shape[self.axis :])
        if depth != self.depth:
            raise self.shape_error(
                f"bottom of shape {shape} has {depth} inputs, the weights are for {self.depth}"
            )
        top[0].reshape(*shape[: self.axis], self.num_output)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self.forward_then(bottom, top, None)

    def can_lead(self) -> bool:
        return self.axis == 1

    def forward_then(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> None:
        x = self._columns(bottom[0], bottom[0].stored, self.depth)
        y = self._columns(top[0], top[0].stored, self.num_output)
        make(self._calls(x, y, epilogue))
        self._put_back(y, top[0], top[0].stored)

    def prepare(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> Calls | None:
        if self.axis != 1:
            return None
        x, y = bottom[0].stored.reshape(self.depth, -1), top[0].stored.reshape(self.num_output, -1)
        return self._calls(x, y, epilogue)

    def _calls(self, x: Array, y: Array, epilogue: Epilogue | None) -> Calls:
        """The calls that write y (M, N) of x (K, N), or what the epilogue makes of it."""
        calls = gemm.calls(self._weight(), x, y)
        if len(self.blobs) > 1:
            calls.append(partial(self.xp.add, y, self.blobs[1].values[:, None], out=y))
        return calls + ([] if epilogue is None else epilogue.calls_over(y))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        x, y = bottom[0], top[0]
        dy = self._columns(y, y.stored_diff, self.num_output)
        products = []
        if self.param_propagate_down[0]:
            columns = self._columns(x, x.stored, self.depth)
            a, b = (columns, dy) if self.transpose else (dy, columns)
            products.append(lambda matmul: self.blobs[0].accumulate(lambda out: matmul(a, b.T, out=out)))
        if propagate_down[0]:
            dx = self._columns(x, x.stored_diff, self.depth)
            products.append(lambda matmul: matmul(self._weight().T, dy, out=dx))
        side_by_side(products, like=dy, size=self.depth * dy.size)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].accumulate(lambda out: dy.sum(axis=1, out=out))
        if propagate_down[0]:
            self._put_back(dx, x, x.stored_diff)

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        return top[0].count * self.depth // max(1, top[0].shape[0] if self.axis else 1)

    def stages(self) -> list[Stage]:
        (stage,) = super().stages()
        return [replace(stage, weights=to_host(self._weight()))]

    def along_outputs(self, values: Array, weights: Array) -> Array:
        return values if self.transpose else super().along_outputs(values, weights)

    def as_product(self, bottom: Blob, top: Blob) -> tuple[DenseConvolution, Array, Array]:
        """The layer as a convolution of one-pixel images: the product, x (K, 1, 1, N) and y (M, 1, 1, N)."""
        x, y = self.as_pixels(bottom, top)
        geometry = Geometry(x.shape, self.num_output, Window((1, 1)))
        return planar_products_for(geometry, self.dtype, self.setting.device), x, y

    def as_pixels(self, bottom: Blob, top: Blob) -> tuple[Array, Array]:
        """The current x (K, 1, 1, N) and y (M, 1, 1, N)."""
        x = self._columns(bottom, bottom.stored, self.depth)
        y = self._columns(top, top.stored, self.num_output)
        return x[:, None, None], y[:, None, None]

    def _weight(self) -> Array:
        """w as (M, K)."""
        w = self.blobs[0].values
        return w.T if self.transpose else w

    def _columns(self, blob: Blob, stored: Array, rows: int) -> Array:
        """A blob's array as (rows, columns): a view for axis 1, else a copy in Caffe's order."""
        if self.axis == 1:
            return stored.reshape(rows, -1)
        columns: Array = self.xp.ascontiguousarray(blob.logical(stored).reshape(-1, rows).T)
        return columns

    def _put_back(self, columns: Array, blob: Blob, stored: Array) -> None:
        """Write (rows, columns) back into a blob's array, if ``_columns`` had to copy."""
        if self.axis != 1:
            blob.logical(stored)[...] = columns.T.reshape(blob.shape)
