"""Transpose: all the axes in another order.

    y = x with its axes in the order ``dim``        dx = dy with its axes back in place

Shapes: with ``dim`` [3, 2, 0, 1], x (N, C, H, W) -> y (W, H, N, C).

The TransposeLayer of CTPN's Caffe (Tian et al. 2016, arXiv 1609.03605; tianzhi0549/CTPN). Permute does the same,
and lets axes be left out.
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.layers.permute import Permute
from minicaffe.spec.fields import Int, Message


class TransposeParam(Message):
    """``dim``: which axis of the bottom comes first, second, …; it names every axis once."""

    dim = Int(repeated=True, min=0)


@register_layer
class Transpose(Permute):
    """A blob with its axes in another order; cannot be in place."""

    messages = {"transpose_param": TransposeParam}

    def axes(self, shape: tuple[int, ...]) -> list[int]:
        param = self.spec.message(TransposeParam)
        if not shape or sorted(param.dim) != list(range(len(shape))):
            raise param.error(
                "dim", f"{param.dim}: expected each axis of bottom {shape} once, counted from 0"
            )
        return param.dim
