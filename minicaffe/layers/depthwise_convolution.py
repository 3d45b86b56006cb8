"""DepthwiseConvolution: a Convolution with as many groups as channels: each has filters of its own.

Shapes: x (C, H, W, N), w (C·m, 1, kh, kw), b (C·m), y (C·m, OH, OW, N); ``group`` may be left out, and is C.

The same as a Convolution with ``group`` C, whose products are those of ``ops/convolution/depthwise.py`` too.
MobileNet (Howard et al. 2017, arXiv 1704.04861); the layer of Caffe's forks by this name
(yonghenglh6/DepthwiseConvolution), and by the name of ConvolutionDepthwise (BVLC/caffe #5665).
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.layers.convolution import Convolution, ConvolutionParam


@register_layer("ConvolutionDepthwise")
@register_layer
class DepthwiseConvolution(Convolution):
    """Takes ``convolution_param``."""

    messages = {"convolution_param": ConvolutionParam}

    def groups(self, channels: int) -> int:
        param = self.spec.message(ConvolutionParam)
        if param.has("group") and param.group != channels:
            raise param.error("group", f"{param.group}, but the bottom has {channels} channels; leave it out")
        if param.num_output % channels:
            raise param.error("num_output", f"{param.num_output} is no multiple of the {channels} channels")
        return channels
