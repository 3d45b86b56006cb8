"""Convolution: y = w ∗ x + b, computed as one matrix product with the im2col data matrix.

    y  = w · X + b          X = im2col(x), K = C·kh·kw rows, P = OH·OW·N columns
    dw = dy · Xᵀ
    db = dy · 1
    dx = col2im(wᵀ · dy)

Shapes: x (N, C, H, W), stored (C, H, W, N); w (M, C/g, kh, kw) for g groups; b (M,); y (N, M, OH, OW), stored
(M, OH, OW, N), with OH = floor((H + 2·pad − (dilation·(kh − 1) + 1)) / stride) + 1, and OW likewise.

Images may have one to three spatial axes. If ``axis`` is not 1, all axes before it count as the batch.
``low_rank_param``, with which w or X is of low rank, is added in ``low_rank/layers.py``.

``ops/convolution/reference.py`` has these products just as the formulas state them; the fast implementations are
listed in ``products.py`` beside it. Caffe's ConvolutionLayer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.blob import Blob
from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, canonical_axis, register_layer
from minicaffe.device.array import Array
from minicaffe.device.workers import Calls
from minicaffe.layers.matrix_product import MatrixProduct
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.products import Products, has_winograd, products_for
from minicaffe.ops.epilogue import Epilogue, Folding
from minicaffe.spec.fields import Bool, Enum, Int, Message, Nested


class ConvolutionParam(Message):
    """Sizes are one field for all axes (``kernel_size: 5`` or ``[3, 5]``), or a pair with ``_h`` and ``_w``."""

    num_output = Int(required=True, min=1)
    bias_term = Bool(True)
    pad = Int(repeated=True, min=0)
    kernel_size = Int(repeated=True, min=1)
    stride = Int(repeated=True, min=1)
    dilation = Int(repeated=True, min=1)
    pad_h = Int(0, min=0)
    pad_w = Int(0, min=0)
    kernel_h = Int(min=1)
    kernel_w = Int(min=1)
    stride_h = Int(min=1)
    stride_w = Int(min=1)
    group = Int(1, min=1)
    weight_filler = Nested(FillerParam)
    bias_filler = Nested(FillerParam)
    engine = Enum("DEFAULT", "CAFFE", "CUDNN", "WINOGRAD", default="DEFAULT")
    axis = Int(1)
    force_nd_im2col = Bool(False)

    def check(self) -> None:
        if not self.kernel_size and not (self.has("kernel_h") and self.has("kernel_w")):
            raise self.error(
                "kernel_size", "required, but not given; add 'kernel_size: …', or kernel_h and kernel_w"
            )
        if self.num_output % self.group:
            raise self.error("group", f"{self.group} does not divide num_output {self.num_output}")
        for name in ("kernel", "stride", "pad"):
            base = "kernel_size" if name == "kernel" else name
            if self.has(base) and (self.has(f"{name}_h") or self.has(f"{name}_w")):
                raise self.error(base, f"give either {base}, or {name}_h and {name}_w, not both")

    def window(self, spatial_axes: int) -> Window:
        """The kernel's sizes and steps, one per axis; a single spatial axis gets a height of 1 in front."""
        kernel = self._sizes("kernel_size", "kernel", 1, spatial_axes)
        stride = self._sizes("stride", "stride", 1, spatial_axes)
        pad = self._sizes("pad", "pad", 0, spatial_axes)
        dilation = self._sizes("dilation", "", 1, spatial_axes)
        return Window(kernel, stride, pad, dilation)

    def _sizes(self, name: str, prefix: str, default: int, spatial_axes: int) -> tuple[int, ...]:
        if prefix and (self.has(f"{prefix}_h") or self.has(f"{prefix}_w")):
            if spatial_axes != 2:
                raise self.error(
                    f"{prefix}_h", f"is for two spatial axes, not {spatial_axes}; use '{name}: …'"
                )
            pair = getattr(self, f"{prefix}_h"), getattr(self, f"{prefix}_w")
            return tuple(default if value is None else value for value in pair)
        values = getattr(self, name) or [default]
        if len(values) not in (1, spatial_axes):
            raise self.error(
                name, f"{len(values)} values for {spatial_axes} spatial axes; give one, or one for each"
            )
        sizes = tuple(values) if len(values) == spatial_axes else (values[0],) * spatial_axes
        return sizes if spatial_axes > 1 else (default, *sizes)


@register_layer
class Convolution(MatrixProduct):
    """Convolution with stride, padding, dilation and groups; several bottoms share the weights."""

    messages = {"convolution_param": ConvolutionParam}
    bottoms = (1, None)
    tops = (1, None)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(ConvolutionParam)
        self.axis = canonical_axis(self, param.axis, len(bottom[0].shape))
        self.spatial_axes = len(bottom[0].shape) - self.axis - 1
        self.check_bottoms(bottom, top)
        self.window = param.window(self.spatial_axes)
        if param.engine == "WINOGRAD" and not has_winograd(self.window):
            raise param.error(
                "engine",
                "WINOGRAD is for windows of 3 × 3, or 5 wide, with stride and dilation 1; leave it out",
            )
        self.num_output, self.channels, self.engine = (
            param.num_output,
            bottom[0].shape[self.axis],
            param.engine,
        )
        if not self.channels:
            raise self.shape_error(f"bottom of shape {bottom[0].shape} has no channels")
        self.group = self.groups(self.channels)
        self._folding = Folding()
        self.add_blob(self.weight_shape(), param.weight_filler)
        if param.bias_term:
            self.add_blob((self.num_output,), param.bias_filler)

    def groups(self, channels: int) -> int:
        """The number of groups for a bottom with ``channels``. Raises SpecError if it does not divide them."""
        param = self.spec.message(ConvolutionParam)
        if channels % param.group:
            raise param.error("group", f"{param.group} does not divide the bottom's {channels} channels")
        return param.group

    def check_bottoms(self, bottom: Blobs, top: Blobs) -> None:
        """Raises ShapeError unless every bottom has channels, 1 to 3 spatial axes, and a top of its own."""
        if len(bottom) != len(top):
            raise self.shape_error(f"{len(bottom)} bottoms but {len(top)} tops; give one top for each bottom")
        for name, blob in zip(self.spec.bottom, bottom, strict=True):
            axes = len(blob.shape) - self.axis - 1
            if axes != self.spatial_axes or axes not in (1, 2, 3):
                raise self.shape_error(
                    f"bottom '{name}' has shape {blob.shape}: {axes} axes after the channels (axis {self.axis}); "
                    "expected 2, as in (N, C, H, W), or 1 or 3, and the same number in all bottoms"
                )

    def weight_shape(self) -> tuple[int, ...]:
        """(M, C/g, kh, kw)."""
        return (self.num_output, self.channels // self.group, *self.window.kernel[-self.spatial_axes :])

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.check_bottoms(bottom, top)
        self.products: list[Products] = []
        for x, y in zip(bottom, top, strict=True):
            batch, channels = x.shape[: self.axis], x.shape[self.axis]
            if channels != self.channels:
                raise self.shape_error(
                    f"a bottom has {channels} channels, the weights are for {self.channels}"
                )
            spatial = x.shape[self.axis + 1 :]
            image = spatial if self.spatial_axes > 1 else (1, *spatial)
            size = self.output_size(image)
            try:
                if min(size) > 0:  # first, since it refuses a size that would not fit in memory
                    y.reshape(*batch, self.num_output, *size[-self.spatial_axes :])
                geometry = self.geometry(image, math.prod(batch))
            except ValueError as error:
                raise self.shape_error(f"bottom of shape {x.shape}: {error}") from None
            self.products.append(products_for(geometry, self.dtype, self.setting.device, self.engine))

    def geometry(self, image: tuple[int, ...], batch: int) -> Geometry:
        """The shapes for ``batch`` images of size (H, W). Raises ValueError if no window fits."""
        return Geometry((self.channels, *image, batch), self.num_output, self.window, self.group)

    def output_size(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """(OH, OW) for an image of size (H, W)."""
        return self.window.output_size(image)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self.forward_then(bottom, top, None)

    def can_lead(self) -> bool:
        return self.axis == 1 and self.engine != "CAFFE"

    def forward_then(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> None:
        w = self.blobs[0].values
        b = self.blobs[1].values if len(self.blobs) > 1 else None
        w, b, epilogue = self._folding.folded(w, b, epilogue, top[0].count // self.num_output)
        self.padded = []
        for product, x, y in zip(self.products, bottom, top, strict=True):
            out = self.images(y, y.stored)
            self.padded.append(product.forward(self.images(x, x.stored), w, out, b, epilogue))
            self.put_back(out, y, y.stored)

    def prepare(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> Calls | None:
        products = [product for product in self.products if isinstance(product, DenseConvolution)]
        if self.axis != 1 or len(products) < len(self.products):
            return None
        w = self.blobs[0].values
        b = self.blobs[1].values if len(self.blobs) > 1 else None
        w, b, epilogue = self._folding.folded(w, b, epilogue, top[0].count // self.num_output)
        prepared = [
            product.prepare(x.stored, w, y.stored, b, epilogue)
            for product, x, y in zip(products, bottom, top, strict=True)
        ]
        self.padded = [padded for padded, _ in prepared]
        return [call for _, calls in prepared for call in calls]

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for i, (product, y, x) in enumerate(zip(self.products, top, bottom, strict=True)):
            dy = self.images(y, y.stored_diff)
            self.add_param_grads(product, dy, self.padded[i])
            if propagate_down[i]:
                dx = self.images(x, x.stored_diff)
                product.input_grad(dy, self.blobs[0].values, dx)
                self.put_back(dx, x, x.stored_diff)

    def add_param_grads(self, product: Products, dy: Array, padded: Array) -> None:
        """Add dw and db where they are wanted; if both are, db is a by-product of dw."""
        wants_w, wants_b = (*self.param_propagate_down, False)[:2]
        weight, *biases = self.blobs
        if wants_w and wants_b:
            bias = biases[0]
            bias.accumulate(lambda db: weight.accumulate(lambda dw: product.weight_grad(dy, padded, dw, db)))
        elif wants_w:
            weight.accumulate(lambda dw: product.weight_grad(dy, padded, dw))
        elif wants_b:
            biases[0].accumulate(lambda db: dy.reshape(self.num_output, -1).sum(axis=1, out=db))

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        return sum(product.geometry.multiply_adds for product in self.products)

    def as_product(self, bottom: Blob, top: Blob) -> tuple[Products, Array, Array]:
        """The dense product of the first bottom, with the current x (C, H, W, N) and y (M, OH, OW, N)."""
        return self.products[0], self.images(bottom, bottom.stored), self.images(top, top.stored)

    def images(self, blob: Blob, stored: Array) -> Array:
        """A blob's array as (C, H, W, images): itself for axis 1, else a copy, as axes before it join the batch."""
        if self.axis == 1:
            return stored
        merged = blob.logical(stored).reshape(-1, *blob.shape[self.axis :])
        images: Array = self.xp.ascontiguousarray(self.xp.moveaxis(merged, 0, -1))
        return images

    def put_back(self, images: Array, blob: Blob, stored: Array) -> None:
        """Write (C, H, W, images) back into a blob's array, if ``images`` had to copy."""
        if self.axis != 1:
            blob.logical(stored)[...] = self.xp.moveaxis(images, -1, 0).reshape(blob.shape)
