"""Convolution: y = w ∗ x + b, computed as one GEMM over the im2col data matrix.

Shapes: x (C, H, W, N), w (M, C/g, kh, kw) in g groups, b (M), y (M, OH, OW, N), with
OH = floor((H + 2·pad − (dilation·(kh − 1) + 1)) / stride) + 1, and OW alike.

    y  = w · X + b          X = im2col(x), K = C·kh·kw rows, P = OH·OW·N columns
    dw = dy · Xᵀ
    db = dy · 1
    dx = col2im(wᵀ · dy)

Caffe's ConvolutionLayer; the blocked products are in ``ops/convolution.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.fillers import FillerParam
from minicaffe.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.ops.convolution import Convolution2d
from minicaffe.ops.im2col import Window
from minicaffe.spec.fields import Bool, Enum, Int, Message, Nested


class ConvolutionParam(Message):
    """Sizes are given for both axes at once (``kernel_size: 5`` or ``[3, 5]``), or with ``_h`` and ``_w``."""

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
    engine = Enum("DEFAULT", "CAFFE", "CUDNN", default="DEFAULT")
    axis = Int(1)
    force_nd_im2col = Bool(False)

    def check(self) -> None:
        if not self.has("kernel_size") and not (self.has("kernel_h") and self.has("kernel_w")):
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
        """The kernel's sizes and steps as (height, width) pairs; with one spatial axis the height is 1."""
        kernel = self._sizes("kernel_size", "kernel", 1, spatial_axes)
        stride = self._sizes("stride", "stride", 1, spatial_axes)
        pad = self._sizes("pad", "pad", 0, spatial_axes)
        dilation = self._sizes("dilation", "", 1, spatial_axes)
        return Window(kernel, stride, pad, dilation)

    def _sizes(self, name: str, prefix: str, default: int, spatial_axes: int) -> tuple[int, int]:
        if prefix and (self.has(f"{prefix}_h") or self.has(f"{prefix}_w")):
            pair = getattr(self, f"{prefix}_h"), getattr(self, f"{prefix}_w")
            return tuple(default if value is None else value for value in pair)
        values = getattr(self, name) or [default]
        if len(values) not in (1, spatial_axes):
            raise self.error(name, f"{len(values)} values for {spatial_axes} spatial axes; give one, or one for each")
        if spatial_axes == 1:
            return (0 if default == 0 else 1), values[0]
        return values[0], values[-1]


@register_layer
class Convolution(Layer):
    """2-D convolution with stride, padding, dilation and groups; several bottoms share the weights."""

    messages = {"convolution_param": ConvolutionParam}
    bottoms = (1, None)
    tops = (1, None)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.convolution_param
        self.check_bottoms(bottom, top)
        self.spatial_axes = len(bottom[0].shape) - 2
        self.window = param.window(self.spatial_axes)
        self.group, self.num_output = param.group, param.num_output
        self.channels = bottom[0].shape[1]
        if self.channels % self.group:
            raise param.error("group", f"{self.group} does not divide the bottom's {self.channels} channels")
        self.add_blob(self.weight_shape(), param.weight_filler)
        if param.bias_term:
            self.add_blob((self.num_output,), param.bias_filler)

    def check_bottoms(self, bottom: Blobs, top: Blobs) -> None:
        """Raises ShapeError unless every bottom is (N, C, H, W) or (N, C, W), and there is a top for each."""
        if len(bottom) != len(top):
            raise self.shape_error(f"{len(bottom)} bottoms but {len(top)} tops; give one top for each bottom")
        for name, blob in zip(self.spec.bottom, bottom, strict=True):
            if len(blob.shape) not in (3, 4):
                raise self.shape_error(f"bottom '{name}' has shape {blob.shape}; expected (N, C, H, W) or (N, C, W)")
            if canonical_axis(self, self.spec.convolution_param.axis, len(blob.shape)) != 1:
                raise self.spec.convolution_param.error("axis", "only axis 1 (the channels) is supported")

    def weight_shape(self) -> tuple[int, ...]:
        """(M, C/g, kh, kw)."""
        kernel = self.window.kernel[2 - self.spatial_axes :]
        return (self.num_output, self.channels // self.group, *kernel)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.check_bottoms(bottom, top)
        self.products = []
        for x, y in zip(bottom, top, strict=True):
            if x.shape[1] != self.channels:
                raise self.shape_error(
                    f"a bottom has {x.shape[1]} channels, the weights are for {self.channels}"
                )
            self.products.append(self.make_product(x.shape))
            size = self.output_size(self.products[-1])
            y.reshape(x.shape[0], self.num_output, *size[2 - self.spatial_axes :])

    def make_product(self, shape: tuple[int, ...]) -> Convolution2d:
        """The blocked products for a bottom of shape (N, C, H, W). Raises ShapeError where no window fits."""
        height_and_width = (1, *shape[2:])[-2:]
        stored = (shape[1], *height_and_width, shape[0])
        try:
            return Convolution2d(stored, self.num_output, self.window, self.group, self.dtype)
        except ValueError as error:
            raise self.shape_error(f"bottom of shape {shape}: {error}") from None

    def output_size(self, product: Convolution2d) -> tuple[int, int]:
        """(OH, OW)."""
        return product.output

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        w = self.blobs[0].data
        b = self.blobs[1].data if len(self.blobs) > 1 else None
        self.padded = [
            product.forward(x.stored, w, y.stored, b)
            for product, x, y in zip(self.products, bottom, top, strict=True)
        ]

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        w = self.blobs[0]
        for i, (product, y, x) in enumerate(zip(self.products, top, bottom, strict=True)):
            dy, padded = y.stored_diff, self.padded[i]
            if self.param_propagate_down[0]:
                w.accumulate(lambda out: product.weight_grad(dy, padded, out))  # noqa: B023
            if len(self.blobs) > 1 and self.param_propagate_down[1]:
                self.blobs[1].accumulate(lambda out: dy.reshape(len(dy), -1).sum(axis=1, out=out))  # noqa: B023
            if propagate_down[i]:
                product.input_grad(dy, w.data, x.stored_diff)

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        return sum(p.depth * p.filters * p.output[0] * p.output[1] for p in self.products)
