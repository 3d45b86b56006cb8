"""MarginInnerProduct: y = w · x with w of length 1, where the angle to the label's class counts m times.

    θ: the angle of x and w_j, |w_j| = 1        y_j = |x| · cos θ, but of the label's class j

    y_j = |x| · (ψ(θ) + λ · cos θ) / (1 + λ),   ψ(θ) = (−1)^k · cos(m·θ) − 2k  for θ from kπ/m to (k + 1)π/m

    dw_j = dy_j · x        dx = Σ_j dy_j · w_j, where for the label's class w_j is (g + λ · w_j) / (1 + λ),
    with g = a · w_j + b · x, the derivative of |x| · ψ by x, divided by √(a² + b²)

Shapes: x (N, …) with all axes from ``axis`` on flattened to K, as many images as labels; labels (N,); w (M, K);
y (N, M). A second top takes λ.

``type`` says m: SINGLE 1, DOUBLE 2, TRIPLE 3, QUADRUPLE 4. Each forward first divides the rows of w by their
lengths, in the parameter itself. In forward number i, counted from ``iteration`` on, λ = max(``lambda_min``,
``base`` · (1 + ``gamma`` · i)^−``power``): training begins with plain cosines. dw is that of a plain product, and g
is scaled, both as the fork has it; neither is a derivative of y.

The MarginInnerProductLayer of wy1iu/sphereface; Liu, Wen, Yu, Li, Raj and Song 2017 (SphereFace, arXiv 1704.08063).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer, canonical_axis, register_layer
from minicaffe.device.array import Array
from minicaffe.layers.loss import check_label_count, read_labels
from minicaffe.ops.gemm import matmul
from minicaffe.spec.fields import Enum, Float, Int, Message, Nested

MULTIPLES = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "QUADRUPLE": 4}
LARGEST = 1e18  # of λ: times a score it fits into a float32
SHORTEST = 1e-10  # of x; a shorter one, which has no direction, is taken for one of this length


class MarginInnerProductParam(Message):
    """``type``: how often the angle counts. The others but ``axis`` say how λ falls, see above."""

    num_output = Int(required=True, min=1)
    type = Enum(*MULTIPLES, default="SINGLE")
    weight_filler = Nested(FillerParam)
    axis = Int(1)
    base = Float(1.0, min=0, max=LARGEST)
    gamma = Float(0.0, min=0)
    power = Float(1.0, min=0)
    iteration = Int(0, min=0)
    lambda_min = Float(0.0, min=0, max=LARGEST)


@register_layer
class MarginInnerProduct(Layer):
    """The scores of a classifier by angle, with a margin between classes: for a SoftmaxWithLoss (A-Softmax)."""

    messages = {"margin_inner_product_param": MarginInnerProductParam}
    bottoms = (2, 2)
    tops = (1, 2)
    backward_instead = "for w that of a plain product, and for x a scaled one"

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.param = param = self.spec.message(MarginInnerProductParam)
        self.axis = canonical_axis(self, param.axis, len(bottom[0].shape))
        self.multiple, self.iteration = MULTIPLES[param.type], param.iteration
        self.depth = math.prod(bottom[0].shape[self.axis :])
        if not self.depth:
            raise self.shape_error(f"bottom of shape {bottom[0].shape} has no inputs")
        self.add_blob((param.num_output, self.depth), param.weight_filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape, outputs = bottom[0].shape, self.param.num_output
        if math.prod(shape[self.axis :]) != self.depth:
            raise self.shape_error(f"bottom of shape {shape}, but the weights are for {self.depth} inputs")
        self.outer = shape[: self.axis]
        check_label_count(self, bottom[1], self.outer, outputs)
        top[0].reshape(*self.outer, outputs)
        for blob in top[1:]:
            blob.reshape(1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, param, count = self.xp, self.param, math.prod(self.outer)
        self.iteration += 1
        self.mix = max(param.base * (1 + param.gamma * self.iteration) ** -param.power, param.lambda_min)
        for blob in top[1:]:
            blob.stored[...] = self.mix
        w = self.blobs[0].values
        self.blobs[0].write(w / xp.sqrt((w * w).sum(axis=1, keepdims=True)))
        self.x = xp.ascontiguousarray(bottom[0].data.reshape(count, self.depth).T)
        labels, _ = read_labels(self, bottom[1], (count,), param.num_output, None)
        self.is_label = xp.arange(param.num_output)[:, None] == labels
        y = self.new_array((param.num_output, count))
        matmul(self.blobs[0].values, self.x, out=y)
        if self.multiple > 1:
            self.length = xp.maximum(xp.sqrt((self.x * self.x).sum(axis=0)), SHORTEST)
            psi, self.slope, self.pull = self._margin(y / self.length)
            y = xp.where(self.is_label, (self.length * psi + self.mix * y) / (1 + self.mix), y)
        top[0].data[...] = y.T.reshape(top[0].shape)

    def _margin(self, c: Array) -> tuple[Array, Array, Array]:
        """Of cos θ: ψ; its derivative by cos θ, which is the share a of w in g; and b · |x|."""
        sign = self.xp.sign
        if self.multiple == 2:
            psi, slope = 2 * sign(c) * c**2 - 1, 4 * sign(c) * c
        elif self.multiple == 3:
            outer = sign(self.xp.absolute(c) - 0.5)
            psi = outer * (4 * c**3 - 3 * c) + sign(c) * (1 + outer) - 2
            slope = outer * (12 * c**2 - 3)
        else:
            outer = sign(c) * sign(2 * c**2 - 1)
            psi = outer * (8 * c**4 - 8 * c**2 + 1) + 2 * sign(c) + outer - 3
            slope = outer * (32 * c**3 - 16 * c)
        return psi, slope, psi - slope * c

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        w, dy = self.blobs[0].values, top[0].diff.reshape(-1, self.param.num_output).T
        if self.param_propagate_down[0]:
            self.blobs[0].accumulate(lambda out: matmul(dy, self.x.T, out=out))
        if not propagate_down[0]:
            return
        dx, of_w = self.new_array(self.x.shape), dy
        if self.multiple > 1:
            along_x = self.pull / self.length
            norm = self.xp.sqrt(self.slope**2 + along_x**2)
            of_w = self.xp.where(self.is_label, dy * (self.slope / norm + self.mix) / (1 + self.mix), dy)
        matmul(w.T, self.xp.ascontiguousarray(of_w), out=dx)
        if self.multiple > 1:
            of_x = self.xp.where(self.is_label, dy * along_x / norm, 0).sum(axis=0)
            dx += self.x * (of_x / (1 + self.mix))
        bottom[0].diff[...] = dx.T.reshape(bottom[0].shape)

    def state(self) -> dict[str, Any]:
        return {"iteration": self.iteration}

    def restore(self, state: dict[str, Any]) -> None:
        self.iteration = self.count_in(state, "iteration")
