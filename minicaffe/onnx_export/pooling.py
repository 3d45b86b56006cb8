"""Pooling as Caffe has it: the last window may reach beyond the image, and beyond its border."""

from __future__ import annotations

import numpy as np

from minicaffe.blob import Blob
from minicaffe.layer import Layer
from minicaffe.onnx_export.graph import Graph, writes


@writes("Pooling")
def pooling(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """MaxPool; or AveragePool, with a factor at places whose window is cut off by the padded image's end."""
    param, image, output = layer.spec.pooling_param, bottom[0].shape[2:], top[0].shape[2:]
    if param.pool == "STOCHASTIC":
        raise param.error("pool", "STOCHASTIC cannot be exported; MAX and AVE can")
    if len(top) > 1:
        raise layer.spec.error("top", "a second top, the places of the maxima, cannot be exported")
    window = param.window(image)
    ends = [  # how far the last window reaches beyond the image
        max(0, (out - 1) * stride + kernel - size - pad)
        for out, stride, kernel, size, pad in zip(
            output, window.stride, window.kernel, image, window.pad, strict=True
        )
    ]
    attributes = {
        "kernel_shape": list(window.kernel), "strides": list(window.stride), "pads": [*window.pad, *ends],
    }  # fmt: skip
    if param.pool == "MAX":
        return [graph.add("MaxPool", x[0], **attributes)]
    y = graph.add("AveragePool", x[0], count_include_pad=1, **attributes)
    shares = [
        np.minimum(kernel, size + 2 * pad - np.arange(out) * stride) / kernel
        for out, stride, kernel, size, pad in zip(
            output, window.stride, window.kernel, image, window.pad, strict=True
        )
    ]
    factor = 1 / np.outer(*shares)
    return [y if (factor == 1).all() else graph.add("Mul", y, graph.constant(factor))]
