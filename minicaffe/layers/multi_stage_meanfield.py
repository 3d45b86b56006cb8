"""MultiStageMeanfield: labels of pixels made consistent with the image, by mean field inference in a CRF (CRF-RNN).

    x_0 = x₀    q_t = softmax(x_t)    m_t = W_s · S(q_t) + W_b · B(q_t)    x_{t+1} = u − K · m_t    y = x_T

    dx_t = the softmax's gradient of S'(W_sᵀ · dm_t) + B'(W_bᵀ · dm_t), with dm_t = −Kᵀ · dx_{t+1}
    du = Σ dx_{t+1}    dK = −Σ dx_{t+1} · m_tᵀ    dW_s = Σ dm_t · S(q_t)ᵀ    dW_b = Σ dm_t · B(q_t)ᵀ

S and B are filters over all pixels: Gaussians of the distance of pixels (``theta_gamma`` wide), and of distance
(``theta_alpha``) and colour (``theta_beta``) at once. Each is a filter by a lattice (``ops/permutohedral.py``),
divided by what it makes of ones. S' and B' are their transposes.

Shapes: unary scores u (N, C, H, W), first scores x₀ (N, C, H, W), usually the same, and the image (N, 3, H, W),
which gets no gradient -> y (N, C, H, W), before the softmax. Parameters, each (1, 1, C, C): W_s, W_b, and K, the
compatibility of labels, which starts as −1 on the diagonal (the Potts model).

T = ``num_iterations``. Zheng et al. 2015 (arXiv 1502.03240); the MultiStageMeanfieldLayer of torrvision/crfasrnn,
whose build for a CPU with SSE adds a black pixel in the corner to the lattice where H · W is not a multiple of 4:
that moves y a little, and is not done here. In some forks it begins with W_s and W_b from files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicaffe.core.fillers import FillerParam
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import Array, to_host
from minicaffe.errors import DataError
from minicaffe.ops.permutohedral import Lattice, lattice_of
from minicaffe.ops.softmax import softmax
from minicaffe.spec.fields import Bool, Enum, Float, Int, Message, String


class MultiStageMeanfieldParam(Message):
    """``num_iterations``: T. ``theta_…``: the widths of the filters, in pixels and in steps of colour.

    ``spatial_filter_weight``, ``bilateral_filter_weight``: the diagonals of W_s and W_b at the start; in their
    place ``…_weights_str`` gives a number for each label, or one for all, separated by spaces.
    ``compatibility_mode``: only POTTS is there. ``threshold``, ``forced_…`` and ``force_cpu`` have no effect, the
    first two in the forks either.
    """

    compatibility_mode = Enum("POTTS", default="POTTS")
    threshold = Float(0.0)
    theta_alpha = Float(required=True, above=0)
    theta_beta = Float(required=True, above=0)
    theta_gamma = Float(required=True, above=0)
    num_iterations = Int(required=True, min=2)
    spatial_filter_weight = Float(1.0)
    bilateral_filter_weight = Float(1.0)
    forced_spatial_filter_weight = Float(0.0)
    forced_bilateral_filter_weight = Float(0.0)
    spatial_filter_weights_str = String("")
    bilateral_filter_weights_str = String("")
    force_cpu = Bool(False)

    def diagonal(self, name: str, labels: int) -> list[float]:
        """The first diagonal of W_s ("spatial") or W_b ("bilateral"). Raises SpecError for too many numbers."""
        field = f"{name}_filter_weights_str"
        try:
            given = [float(word) for word in str(getattr(self, field)).split()]
        except ValueError:
            raise self.error(
                field, f"'{getattr(self, field)}': expected numbers separated by spaces"
            ) from None
        given = given or [float(getattr(self, f"{name}_filter_weight"))]
        if len(given) not in (1, labels):
            raise self.error(
                field, f"{len(given)} numbers for {labels} labels; give one for each, or one for all"
            )
        return given * (labels // len(given))


class Filter:
    """A lattice, and 1 / (its filter of ones) at each pixel."""

    def __init__(self, lattice: Lattice, ones: Array) -> None:
        self.lattice = lattice
        self.scale = 1 / (lattice.filtered(ones) + 1e-20)

    def __call__(self, q: Array) -> Array:
        """The filter of q (C, P)."""
        filtered: Array = self.lattice.filtered(q) * self.scale
        return filtered

    def transposed(self, d: Array) -> Array:
        """Its transpose: the gradient by q from that by the filter of q."""
        return self.lattice.filtered(d * self.scale, transposed=True)


@register_layer
class MultiStageMeanfield(Layer):
    """A conditional random field, as a recurrent net of T steps with shared parameters."""

    messages = {"multi_stage_meanfield_param": MultiStageMeanfieldParam}
    bottoms = (3, 3)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.param = self.spec.message(MultiStageMeanfieldParam)
        self._check_shapes(bottom)
        self.labels = bottom[0].shape[1]
        self.size: tuple[int, ...] = ()
        diagonals = [self.param.diagonal(name, self.labels) for name in ("spatial", "bilateral")]
        for diagonal in (*diagonals, [-1.0] * self.labels):
            blob = self.add_blob((1, 1, self.labels, self.labels), FillerParam())
            blob.data[...] = self.setting.device.put(np.diag(diagonal).astype(self.dtype))

    def _check_shapes(self, bottom: Blobs) -> None:
        shapes = [blob.shape for blob in bottom]
        u = shapes[0]
        if len(u) != 4 or 0 in u or shapes[1] != u or shapes[2] != (u[0], 3, *u[2:]):
            raise self.shape_error(
                f"bottoms have shapes {shapes[0]}, {shapes[1]} and {shapes[2]}; expected scores (N, C, H, W) "
                "twice, and images (N, 3, H, W)"
            )

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self._check_shapes(bottom)
        if bottom[0].shape[1] != self.labels:
            raise self.shape_error(
                f"bottom has shape {bottom[0].shape}: the parameters are for {self.labels} labels"
            )
        top[0].reshape(*bottom[0].shape)
        if self.size != bottom[0].shape[2:]:
            self.size = height, width = bottom[0].shape[2:]
            rows, columns = np.divmod(np.arange(height * width), width)
            self.places = np.stack([columns, rows], axis=1).astype(self.dtype)
            self.ones = self.xp.ones((1, height * width), self.dtype)
            self.spatial = Filter(self._lattice(self.places / self.param.theta_gamma), self.ones)

    def _lattice(self, points: Array) -> Lattice:
        try:
            return lattice_of(points.astype(self.dtype), self.setting.device)
        except DataError as error:
            raise DataError(f"{self.spec.where}: {error}; raise the theta that is too small") from None

    def _bilateral(self, image: Array) -> Filter:
        """The filter by place and colour of an image (3, H, W)."""
        colours = to_host(image).reshape(3, -1).T / self.param.theta_beta
        points = np.concatenate([self.places / self.param.theta_alpha, colours], axis=1)
        return Filter(self._lattice(points), self.ones)

    def _matrices(self) -> list[Array]:
        return [blob.data[0, 0] for blob in self.blobs]

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        xp, (w_s, w_b, compatibility) = self.xp, self._matrices()
        self.bilateral = [self._bilateral(image) for image in bottom[2].data]
        self.q = xp.empty(
            (len(self.bilateral), self.param.num_iterations, self.labels, self.ones.size), self.dtype
        )
        for n, bilateral in enumerate(self.bilateral):
            u, x = (xp.ascontiguousarray(blob.data[n]).reshape(self.labels, -1) for blob in bottom[:2])
            for q in self.q[n]:
                softmax(x, out=q)
                x = u - compatibility @ (w_s @ self.spatial(q) + w_b @ bilateral(q))
            top[0].data[n] = x.reshape(top[0].shape[1:])

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        xp, (w_s, w_b, compatibility) = self.xp, self._matrices()
        gradients = xp.zeros((3, self.labels, self.labels), self.dtype)
        for n, bilateral in enumerate(self.bilateral):
            dx = xp.ascontiguousarray(top[0].diff[n]).reshape(self.labels, -1)
            du = xp.zeros_like(dx)
            for q in self.q[n, ::-1]:
                du += dx
                s, b = self.spatial(q), bilateral(q)
                dm = -compatibility.T @ dx
                gradients[0] += dm @ s.T
                gradients[1] += dm @ b.T
                gradients[2] -= dx @ (w_s @ s + w_b @ b).T
                dq = self.spatial.transposed(w_s.T @ dm) + bilateral.transposed(w_b.T @ dm)
                dx = q * (dq - (q * dq).sum(axis=0))
            for blob, wanted, gradient in zip(bottom, propagate_down, (du, dx), strict=False):
                if wanted:
                    blob.diff[n] = gradient.reshape(blob.shape[1:])
        for blob, wanted, gradient in zip(self.blobs, self.param_propagate_down, gradients, strict=True):
            if wanted:
                blob.add_to_diff(gradient[None, None])
