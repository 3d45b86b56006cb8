"""What Convolution and InnerProduct have in common: y = w · x + b, as one plain layer or, with low rank, as two.

    dense               the layer itself
    channel, data       kh × kw windows to g·r channels, then 1 × 1       InnerProduct: K to r numbers, then r to M
    spatial             kh × 1 windows to g·r channels, then 1 × kw

These plain layers are what is exported to other frameworks, which know nothing of low rank.
"""

from __future__ import annotations

from dataclasses import dataclass

from minicaffe.core.layer import Layer
from minicaffe.device.array import Array, to_host
from minicaffe.ops.convolution.geometry import Window

POINT = Window((1, 1))


@dataclass(frozen=True)
class Stage:
    """One plain layer. ``weights``: (M, C/g, kh, kw), with as many spatial axes as the images have, or (M, K)."""

    weights: Array
    bias: Array | None = None
    window: Window = POINT
    group: int = 1


class MatrixProduct(Layer):
    """A layer whose blobs are weights, (M, …) for M outputs, and optionally a bias.

    ``output_weights`` is the index of the blob that has separate weights for each output; None if no blob has.
    """

    axis: int  # the first axis that is summed over
    num_output: int
    window: Window = POINT
    group: int = 1
    output_weights: int | None = 0

    def stages(self) -> list[Stage]:
        """The plain layers that, one after the other, compute what this one does in a test net.

        Raises SpecError if they would be different for every batch.
        """
        weights, *bias = (to_host(blob.data) for blob in self.blobs)
        return [Stage(weights, bias[0] if bias else None, self.window, self.group)]

    def along_outputs(self, values: Array, weights: Array) -> Array:
        """One value for each output, given as many axes as the weights have, so that the two can be multiplied."""
        return values.reshape(-1, *[1] * (weights.ndim - 1))
