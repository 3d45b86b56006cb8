"""DepthwiseConvolution: a Convolution in which every channel has its own filters.

Shapes: x (N, C, H, W), stored (C, H, W, N); w (C·m, 1, kh, kw); b (C·m,); y (N, C·m, OH, OW).

It is a Convolution with ``group`` C, and is computed like one (``ops/convolution/depthwise.py``); ``group`` may be
left out. MobileNet (Howard et al. 2017, arXiv 1704.04861); the layer of this name in Caffe's forks
(yonghenglh6/DepthwiseConvolution), also named ConvolutionDepthwise (BVLC/caffe #5665).
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.layers.convolution import Convolution, ConvolutionParam


@register_layer("ConvolutionDepthwise")
@register_layer
class DepthwiseConvolution(Convolution):
    """Convolution with as many groups as channels; takes ``convolution_param``."""

    messages = {"convolution_param": ConvolutionParam}

    def groups(self, channels: int) -> int:
        param = self.spec.message(ConvolutionParam)
        if param.has("group") and param.group != channels:
            raise param.error("group", f"{param.group}, but the bottom has {channels} channels; leave it out")
        if param.num_output % channels:
            raise param.error(
                "num_output", f"{param.num_output} is not a multiple of the {channels} channels"
            )
        return channels
