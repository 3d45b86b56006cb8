"""Pooling as Caffe has it: the last window may reach beyond the image, and beyond its border, or lie there."""

from __future__ import annotations

import numpy as np

from minicaffe.blob import Blob
from minicaffe.layer import Layer
from minicaffe.onnx_export.graph import Graph, writes
from minicaffe.ops.pooling import LOWEST


@writes("Pooling")
def pooling(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """MaxPool; or AveragePool, with a factor at places whose window is cut off by the padded image's end."""
    param, image, output = layer.spec.pooling_param, bottom[0].shape[2:], top[0].shape[2:]
    if param.pool == "STOCHASTIC":
        raise param.error("pool", "STOCHASTIC cannot be exported; MAX and AVE can")
    if len(top) > 1:
        raise layer.spec.error("top", "a second top, the places of the maxima, cannot be exported")
    window = param.window(image)
    axes = list(zip(image, window.kernel, window.stride, window.pad, output, strict=True))
    seeing = [min(out, (size + pad - 1) // stride + 1) for size, _, stride, pad, out in axes]
    ends = [  # how far the last window that sees the image reaches beyond it
        max(0, (n - 1) * stride + kernel - size - pad)
        for n, (size, kernel, stride, pad, _) in zip(seeing, axes, strict=True)
    ]
    attributes = {
        "kernel_shape": list(window.kernel), "strides": list(window.stride), "pads": [*window.pad, *ends],
    }  # fmt: skip
    blind = [out - n for out, n in zip(output, seeing, strict=True)]
    if param.pool == "MAX":
        return [_padded(graph, graph.add("MaxPool", x[0], **attributes), blind, LOWEST)]
    y = graph.add("AveragePool", x[0], count_include_pad=1, **attributes)
    shares = [
        np.minimum(kernel, size + 2 * pad - np.arange(n) * stride) / kernel
        for n, (size, kernel, stride, pad, _) in zip(seeing, axes, strict=True)
    ]
    factor = 1 / np.outer(*shares)
    y = y if (factor == 1).all() else graph.add("Mul", y, graph.constant(factor))
    return [_padded(graph, y, blind, 0.0)]


def _padded(graph: Graph, y: str, blind: list[int], value: float) -> str:
    """y with so many lines and columns more, of windows that see nothing of the image: ONNX has none."""
    return graph.add("Pad", y, graph.numbers([0] * 6 + blind), graph.constant(value)) if any(blind) else y
