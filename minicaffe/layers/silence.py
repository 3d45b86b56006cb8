"""Silence: takes blobs that no other layer takes, so that they are not outputs of the net.

No gradient starts here, so there is no backward. Caffe's SilenceLayer.
"""

from __future__ import annotations

from minicaffe.core.layer import Blobs, Layer, register_layer


@register_layer
class Silence(Layer):
    """An end for unused blobs."""

    bottoms = (1, None)
    tops = (0, 0)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """There are no tops."""

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """There is nothing to compute."""
