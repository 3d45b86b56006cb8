"""Convolution, Deconvolution and InnerProduct, and Embed; layers of low rank as pairs of plain ones."""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.layer import canonical_axis
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.deconvolution import Deconvolution
from minicaffe.layers.embed import Embed
from minicaffe.layers.inner_product import InnerProduct, InnerProductParam
from minicaffe.layers.matrix_product import Stage
from minicaffe.onnx.graph import Graph, writers
from minicaffe.ops.convolution.geometry import Window


@writers.of("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise")
def convolution(
    graph: Graph, layer: Convolution, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """One Conv for each stage."""
    _check_axis(layer)
    for stage in layer.stages():
        x = _each(graph, "Conv", stage, x, layer.spatial_axes)
    return x


@writers.of("Deconvolution")
def deconvolution(
    graph: Graph, layer: Deconvolution, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """A ConvTranspose."""
    _check_axis(layer)
    (stage,) = layer.stages()
    return _each(graph, "ConvTranspose", stage, x, layer.spatial_axes)


def _check_axis(layer: Convolution) -> None:
    if layer.axis != 1:
        raise layer.spec.error("convolution_param", f"axis {layer.axis}: ONNX has channels at axis 1")


def _each(graph: Graph, op: str, stage: Stage, x: list[str], axes: int) -> list[str]:
    constants = [graph.constant(stage.weights)]
    if stage.bias is not None:
        constants.append(graph.constant(stage.bias))
    attributes = {**_window(stage.window, axes), "group": stage.group}
    return [graph.add(op, name, *constants, **attributes) for name in x]


def _window(window: Window, axes: int) -> dict[str, list[int]]:
    pads = list(window.pad[-axes:])
    return {
        "kernel_shape": list(window.kernel[-axes:]),
        "strides": list(window.stride[-axes:]),
        "pads": pads + pads,
        "dilations": list(window.dilation[-axes:]),
    }


@writers.of("InnerProduct")
def inner_product(
    graph: Graph, layer: InnerProduct, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """All axes from ``axis`` on become one, which is multiplied by each stage's weights."""
    shape = bottom[0].shape
    axis = canonical_axis(layer, layer.spec.message(InnerProductParam).axis, len(shape))
    graph.needs_batch |= axis == 0
    y = graph.add("Reshape", x[0], graph.numbers([0] * axis + [-1]))
    for stage in layer.stages():
        y = graph.add("MatMul", y, graph.constant(stage.weights.T))
        if stage.bias is not None:
            y = graph.add("Add", y, graph.constant(stage.bias))
    return [y]


@writers.of("Embed")
def embed(graph: Graph, layer: Embed, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Rows of the weights, by number."""
    index = graph.add("Cast", x[0], to=7)  # int64
    rows = graph.add("Gather", graph.param(layer.blobs[0]), index, axis=0)
    return [graph.add("Add", rows, graph.param(layer.blobs[1])) if len(layer.blobs) > 1 else rows]
