"""Pooling as in Caffe, where the last window may reach beyond the image and its padding, or lie all outside."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.layers.pooling import Pooling
from minicaffe.onnx.graph import FLOAT, Graph, writers
from minicaffe.onnx.shapes import size_error
from minicaffe.ops.pooling import LOWEST


@writers.of("Pooling")
def pooling(graph: Graph, layer: Pooling, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """MaxPool; or AveragePool, with a factor where the window is cut off at the end of the padded image."""
    param, (height, width), output = layer.param, bottom[0].shape[2:], top[0].shape[2:]
    if param.pool == "STOCHASTIC":
        raise param.error("pool", "STOCHASTIC cannot be exported; MAX and AVE can")
    if graph.free_axes(layer.spec.bottom[0], bottom[0].shape):
        return _of_any_size(graph, layer, x[0], len(top))
    window = param.window((height, width))
    axes = list(zip((height, width), window.kernel, window.stride, window.pad, output, strict=True))
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
        if any(blind) and len(top) > 1:
            raise layer.spec.error(
                "top", "a window that sees nothing has no maximum whose place could be exported"
            )
        y, *places = _maxima(graph, x[0], len(top), attributes)
        return [_padded(graph, y, blind, LOWEST), *places]
    if not any(window.pad):  # OpenCV counts no padding, whatever it is told
        y = graph.add("AveragePool", x[0], count_include_pad=0, **attributes)
        return [_padded(graph, y, blind, 0.0)]
    y = graph.add("AveragePool", x[0], count_include_pad=1, **attributes)
    shares = [
        np.minimum(kernel, size + 2 * pad - np.arange(n) * stride) / kernel
        for n, (size, kernel, stride, pad, _) in zip(seeing, axes, strict=True)
    ]
    factor = 1 / np.outer(*shares)
    y = y if (factor == 1).all() else graph.add("Mul", y, graph.constant(factor))
    return [_padded(graph, y, blind, 0.0)]


def _maxima(graph: Graph, x: str, tops: int, attributes: dict[str, Any]) -> list[str]:
    """The maxima, and for a second top their places h · W + w."""
    if tops == 1:
        return [graph.add("MaxPool", x, **attributes)]
    y, places = graph.add_several("MaxPool", 2, x, **attributes)  # ONNX counts on from channel to channel
    pixels = graph.add("ReduceProd", graph.sizes(x, (2, 3)), keepdims=1)
    return [y, graph.add("Cast", graph.add("Mod", places, pixels), to=FLOAT)]


def _of_any_size(graph: Graph, layer: Pooling, x: str, tops: int) -> list[str]:
    """Pooling of images of any size: all windows that fit, or with ``stride`` − 1 more pixels, all that begin.

    Every window then sees the image, if pad + stride is no more than the kernel's size.
    """
    param = layer.param
    if param.global_pooling and tops > 1:
        raise size_error(layer)
    if param.global_pooling:
        return [graph.add("GlobalMaxPool" if param.pool == "MAX" else "GlobalAveragePool", x)]
    window = param.window((1, 1))
    if param.rounds_up and any(
        pad + stride > kernel
        for kernel, stride, pad in zip(window.kernel, window.stride, window.pad, strict=True)
    ):
        raise size_error(layer)
    more = [stride - 1 if param.rounds_up else 0 for stride in window.stride]
    attributes: dict[str, Any] = {"kernel_shape": list(window.kernel), "strides": list(window.stride)}
    pads = [*window.pad, *(pad + n for pad, n in zip(window.pad, more, strict=True))]
    if param.pool == "MAX":
        return _maxima(graph, x, tops, {"pads": pads, **attributes})
    attributes["count_include_pad"] = int(any(window.pad))
    y = graph.add("AveragePool", x, pads=pads, **attributes)
    if not any(window.pad):
        return [y]
    if not any(more):
        return [y]
    padded = graph.add("Add", graph.sizes(x, (2, 3)), graph.numbers([2 * pad for pad in window.pad]))
    shape = graph.add("Concat", graph.numbers([1, 1]), padded, axis=0)
    ones = graph.add("Expand", graph.constant([[[[1.0]]]]), shape)
    return [graph.add("Div", y, graph.add("AveragePool", ones, pads=[0, 0, *more], **attributes))]


def _padded(graph: Graph, y: str, blind: list[int], value: float) -> str:
    """y with additional rows and columns, for windows that see nothing of the image: ONNX has no such windows."""
    return graph.add("Pad", y, graph.numbers([0] * 6 + blind), graph.constant(value)) if any(blind) else y
