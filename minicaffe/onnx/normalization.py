"""Normalisation, and what scales and shifts."""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer, canonical_axis
from minicaffe.device.array import to_host
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.bias import Bias, BiasParam
from minicaffe.layers.bn import BN
from minicaffe.layers.lrn import LRN, LRNParam
from minicaffe.layers.mvn import MVN
from minicaffe.layers.normalize import Normalize
from minicaffe.layers.scale import Scale, ScaleParam
from minicaffe.layers.scaled_batch_norm import ScaledBatchNorm
from minicaffe.layers.segnet_bn import VAR_EPS, SegNetBN
from minicaffe.layers.softmax import Softmax, SoftmaxParam
from minicaffe.onnx.graph import Graph, writers
from minicaffe.onnx.shapes import size_error


@writers.of("BatchNorm")
def batch_norm(
    graph: Graph, layer: BatchNorm | ScaledBatchNorm, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """By the statistics that the blobs hold, with a scale and a bias if the layer has them."""
    if isinstance(layer, ScaledBatchNorm):
        moving_mean, moving_variance, _, *learned = (graph.param(blob, (-1,)) for blob in layer.blobs)
        inputs = x[0], *learned, moving_mean, moving_variance
        return [graph.add("BatchNormalization", *inputs, epsilon=layer.eps)]
    if not layer.uses_global_stats:
        raise layer.spec.error("batch_norm_param", "use_global_stats: false cannot be exported")
    mean, variance, total = (to_host(blob.data) for blob in layer.blobs)
    factor = 1 / total[0] if total[0] else 0
    ones, zeros = graph.constant(mean * 0 + 1), graph.constant(mean * 0)
    moving = graph.constant(mean * factor), graph.constant(variance * factor)
    return [graph.add("BatchNormalization", x[0], ones, zeros, *moving, epsilon=layer.param.eps)]


@writers.of("BN")
def bn(graph: Graph, layer: BN, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Slope, bias, moving mean and variance. SegNet's: scale and shift, perhaps after the batch is normalised."""
    if isinstance(layer, SegNetBN):
        return [_segnet_bn(graph, layer, x[0])]
    blobs = [graph.param(blob, (-1,)) for blob in layer.blobs]
    return [graph.add("BatchNormalization", x[0], *blobs, epsilon=layer.param.eps)]


def _segnet_bn(graph: Graph, layer: SegNetBN, x: str) -> str:
    ones = [1] * (len(layer.bottom_blobs[0].shape) - 2)
    if layer.learns:
        axes = graph.numbers([0, *range(2, len(ones) + 2)])
        centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes, keepdims=1))
        variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes, keepdims=1)
        x = graph.add("Div", centred, graph.add("Sqrt", graph.scaled(variance, 1.0, VAR_EPS)))
    scale, shift = (graph.param(blob, (-1, *ones)) for blob in layer.blobs)
    return graph.add("Add", graph.add("Mul", x, scale), shift)


@writers.of("Scale")
def scale(graph: Graph, layer: Scale, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """A factor, then perhaps a bias, along some axes."""
    return _along_axis(graph, layer, layer.spec.message(ScaleParam).axis, x, bottom, ["Mul", "Add"])


@writers.of("Bias")
def bias(graph: Graph, layer: Bias, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """A bias along some axes."""
    return _along_axis(graph, layer, layer.spec.message(BiasParam).axis, x, bottom, ["Add"])


def _along_axis(
    graph: Graph, layer: Layer, axis: int, x: list[str], bottom: list[Blob], operations: list[str]
) -> list[str]:
    """Operations with the second bottom, where there is one, and then with the parameters, from an axis on."""
    shape, y = bottom[0].shape, x[0]
    axis = canonical_axis(layer, axis, len(shape))
    graph.needs_batch |= len(layer.blobs) > 0 if axis == 0 else len(bottom) > 1
    if len(bottom) == 2:
        own = len(bottom[1].shape)
        after, second = len(shape) - axis - own, x[1]
        if after:
            second = graph.add("Unsqueeze", second, graph.numbers(range(own, own + after)))
        y = graph.add(operations.pop(0), y, second)
    for operation, blob in zip(operations, layer.blobs, strict=False):
        aligned = (*blob.shape, *[1] * (len(shape) - axis - len(blob.shape)))
        y = graph.add(operation, y, graph.param(blob, aligned))
    return [y]


@writers.of("LRN")
def lrn(graph: Graph, layer: LRN, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Across channels ONNX has it; within one, by a mean of squares."""
    param = layer.spec.message(LRNParam)
    n = param.local_size
    if param.norm_region == "ACROSS_CHANNELS":
        return [graph.add("LRN", x[0], size=n, alpha=param.alpha, beta=param.beta, bias=param.k)]
    squares, pads = graph.add("Mul", x[0], x[0]), [n // 2] * 4
    mean = graph.add("AveragePool", squares, kernel_shape=[n, n], pads=pads, count_include_pad=1)
    power = graph.add("Pow", graph.scaled(mean, param.alpha, 1.0), graph.constant(param.beta))
    return [graph.add("Div", x[0], power)]


@writers.of("Normalize")
def normalize(graph: Graph, layer: Normalize, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """x / √(Σ x² + ε), over the channels or all, with a scale."""
    axes = range(1, len(bottom[0].shape)) if layer.param.across_spatial else [1]
    square = graph.add("ReduceSumSquare", x[0], graph.numbers(axes), keepdims=1)
    y = graph.add("Div", x[0], graph.add("Sqrt", graph.scaled(square, 1.0, layer.param.eps)))
    blob = layer.blobs[0]
    shape = (blob.count, *[1] * (len(bottom[0].shape) - 2))
    return [graph.add("Mul", y, graph.param(blob, shape))]


@writers.of("MVN")
def mvn(graph: Graph, layer: MVN, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """x less its mean, over its standard deviation."""
    param, y = layer.param, x[0]
    if len(bottom[0].shape) < 4:
        if graph.free_axes(layer.spec.bottom[0], bottom[0].shape):
            raise size_error(layer)
        y = graph.reshaped(y, top[0].shape, bottom[0].shape)
    axes = graph.numbers([1, 2, 3] if param.across_channels else [2, 3])
    centred = graph.add("Sub", y, graph.add("ReduceMean", y, axes, keepdims=1))
    if not param.normalize_variance:
        return [centred]
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes, keepdims=1)
    return [graph.add("Div", centred, graph.scaled(graph.add("Sqrt", variance), 1.0, param.eps))]


@writers.of("Softmax")
def softmax(graph: Graph, layer: Softmax, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Softmax along an axis."""
    axis = canonical_axis(layer, layer.spec.message(SoftmaxParam).axis, len(bottom[0].shape))
    return [graph.add("Softmax", x[0], axis=axis)]
