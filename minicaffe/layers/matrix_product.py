"""What Convolution and InnerProduct have in common: y = w · x + b, in one plain layer or, of low rank, in two.

    dense               itself
    channel, data       kh × kw windows to g·r channels, then 1 × 1       InnerProduct: K to r numbers, then r to M
    spatial             kh × 1 windows to g·r channels, then 1 × kw

These plain layers are what is written for other frameworks, which know no low rank.
"""

from __future__ import annotations

from dataclasses import dataclass

from minicaffe.core.layer import Layer
from minicaffe.device.array import Array, to_host
from minicaffe.ops.convolution.geometry import Window

POINT = Window((1, 1))


@dataclass(frozen=True)
class Stage:
    """One plain layer. ``weights``: (M, C/g, kh, kw) with as many axes as the images have, or (M, K)."""

    weights: Array
    bias: Array | None = None
    window: Window = POINT
    group: int = 1


class MatrixProduct(Layer):
    """A layer whose blobs are weights, (M, …) for M outputs, and perhaps a bias.

    ``output_weights`` is the place of the blob that has weights of its own for each output, before the bias; None
    where no blob has.
    """

    axis: int  # the first that is summed over
    num_output: int
    window: Window = POINT
    group: int = 1
    output_weights: int | None = 0

    def stages(self) -> list[Stage]:
        """The plain layers, one after the other, that compute what this one does in a test net.

        Raises SpecError where they would be other ones for every batch.
        """
        weights, *bias = (to_host(blob.data) for blob in self.blobs)
        return [Stage(weights, bias[0] if bias else None, self.window, self.group)]

    def along_outputs(self, values: Array, weights: Array) -> Array:
        """One value for each output, with as many axes as the layer's weights, to multiply them with."""
        return values.reshape(-1, *[1] * (weights.ndim - 1))
