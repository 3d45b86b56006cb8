"""Layers that cut, reorder, repeat and pick, and compute nothing."""

from __future__ import annotations

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer, canonical_axis
from minicaffe.device.array import to_host
from minicaffe.errors import MinicaffeError, SpecError
from minicaffe.layers.argmax import ArgMax
from minicaffe.layers.crop import Crop, CropParam
from minicaffe.layers.flatten import Flatten
from minicaffe.layers.interp import Interp
from minicaffe.layers.permute import Permute
from minicaffe.layers.reorg import Reorg, ReorgParam
from minicaffe.layers.reshape import Reshape
from minicaffe.layers.reverse import Reverse, ReverseParam
from minicaffe.layers.segnet_upsample import SegNetUpsample
from minicaffe.layers.shuffle_channel import ShuffleChannel, ShuffleChannelParam
from minicaffe.layers.slice import Slice, SliceParam
from minicaffe.layers.tile import Tile, TileParam
from minicaffe.layers.upsample import Upsample, UpsampleParam
from minicaffe.onnx.graph import FLOAT, INT64, Graph, writers

TO_THE_FIRST = -(2**31)  # an end of a Slice that goes backward


@writers.of("Split")
def split(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """The same for each top."""
    return x * len(top)


@writers.of("Silence")
def silence(graph: Graph, layer: Layer, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Nothing."""
    return []


@writers.of("Slice")
def slices(graph: Graph, layer: Slice, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Parts along an axis."""
    param = layer.spec.message(SliceParam)
    given = param.slice_dim if param.has("slice_dim") else param.axis
    axis = canonical_axis(layer, given, len(bottom[0].shape))
    graph.needs_batch |= axis == 0
    if axis in graph.free_axes(layer.spec.bottom[0], bottom[0].shape):
        raise size_error(layer)
    sizes = graph.numbers([blob.shape[axis] for blob in top])
    return graph.add_several("Split", len(top), x[0], sizes, axis=axis)


@writers.of("Flatten")
def flatten(graph: Graph, layer: Flatten, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Some axes become one."""
    if graph.larger:
        return [_reshaped_freely(graph, layer, x[0], bottom[0].shape, top[0].shape)]
    return [graph.reshaped(x[0], top[0].shape, bottom[0].shape)]


@writers.of("Reshape")
def reshape(graph: Graph, layer: Reshape, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Another shape; the batch is free where the layer takes one image more."""
    old, new = bottom[0].shape, top[0].shape
    graph.needs_batch |= not _follows(layer, old, new)
    if graph.larger:
        return [_reshaped_freely(graph, layer, x[0], old, new)]
    return [graph.reshaped(x[0], new, old)]


def _reshaped_freely(graph: Graph, layer: Layer, x: str, old: tuple[int, ...], new: tuple[int, ...]) -> str:
    """x in another shape: a free size is that of an axis of x, or, for one axis, what is left."""
    old_free = _free_sizes(graph, layer.spec.bottom[0], old)
    new_free = _free_sizes(graph, layer.spec.top[0], new)
    source = {i: j for i, size in new_free.items() for j in old_free if old_free[j] == size}
    if len(new_free) - len(source) > 1:
        raise size_error(layer)
    keeps_batch = new[:1] == old[:1] and 0 not in old_free
    graph.needs_batch |= not keeps_batch
    sizes = [-1 if i in new_free else size for i, size in enumerate(new)]
    if keeps_batch:
        sizes[0] = 0
    parts = [
        graph.sizes(x, (source[i],)) if i in source else graph.numbers([size]) for i, size in enumerate(sizes)
    ]
    return graph.add("Reshape", x, graph.add("Concat", *parts, axis=0) if source else graph.numbers(sizes))


def _free_sizes(graph: Graph, name: str, shape: tuple[int, ...]) -> dict[int, tuple[int, int]]:
    """Of the axes whose sizes depend on the image's: the size, and that for larger images."""
    return {i: (shape[i], graph.larger[name][i]) for i in graph.free_axes(name, shape)}


def size_error(layer: Layer) -> SpecError:
    """The error for a layer that works only for images of one size."""
    return layer.spec.error(
        "type", f"{layer.type} as it is here needs to know the image's size; leave height and width fixed"
    )


def _follows(layer: Reshape, old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether a Reshape makes one more image from one more."""
    if not (old and new):
        return False
    try:
        return layer.new_shape((old[0] + 1, *old[1:])) == (new[0] + 1, *new[1:])
    except MinicaffeError:  # the number of images is written out
        return False


@writers.of("Permute", "Transpose")
def permute(graph: Graph, layer: Permute, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Axes in another order."""
    order = layer.axes(bottom[0].shape)
    graph.needs_batch |= order[0] != 0
    return [graph.add("Transpose", x[0], perm=order)]


@writers.of("Reverse")
def reverse(graph: Graph, layer: Reverse, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """An axis in reverse order."""
    axis = canonical_axis(layer, layer.spec.message(ReverseParam).axis, len(bottom[0].shape))
    range_of_axis = [graph.numbers([n]) for n in (-1, TO_THE_FIRST, axis, -1)]
    return [graph.add("Slice", x[0], *range_of_axis)]


@writers.of("Crop")
def crop(graph: Graph, layer: Crop, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """A part, from an offset on, of the size that the top has."""
    shape = top[0].shape
    axis = canonical_axis(layer, layer.spec.message(CropParam).axis, len(shape))
    graph.needs_batch |= axis == 0
    parts = (layer.part[-1], *layer.part[:-1])[axis:]
    starts = [part.start for part in parts]
    if graph.free_axes(layer.spec.top[0], shape):
        start, axes = graph.numbers(starts), range(axis, len(shape))
        end = graph.add("Add", start, graph.sizes(x[1], axes))
        return [graph.add("Slice", x[0], start, end, graph.numbers(axes))]
    ends = [part.stop for part in parts]
    return [graph.add("Slice", x[0], *map(graph.numbers, (starts, ends, range(axis, len(shape)))))]


@writers.of("Tile")
def tile(graph: Graph, layer: Tile, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Copies along an axis."""
    param, repeats = layer.spec.message(TileParam), [1] * len(bottom[0].shape)
    repeats[canonical_axis(layer, param.axis, len(repeats))] = param.tiles
    graph.needs_batch |= repeats[0] > 1
    return [graph.add("Tile", x[0], graph.numbers(repeats))]


@writers.of("ShuffleChannel")
def shuffle(
    graph: Graph, layer: ShuffleChannel, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """Channels of the groups in turn."""
    n, channels, *image = shape = bottom[0].shape
    group = layer.spec.message(ShuffleChannelParam).group
    apart, mixed = (n, group, channels // group, *image), (n, channels // group, group, *image)
    if graph.free_axes(layer.spec.bottom[0], shape):
        y = graph.add("Reshape", x[0], graph.numbers([0, group, channels // group, -1]))
        return [graph.add("Reshape", graph.add("Transpose", y, perm=[0, 2, 1, 3]), graph.add("Shape", x[0]))]
    order = [0, 2, 1, *range(3, len(apart))]
    y = graph.add("Transpose", graph.reshaped(x[0], apart, shape), perm=order)
    return [graph.reshaped(y, shape, mixed)]


@writers.of("Upsample")
def upsample(
    graph: Graph, layer: Upsample | SegNetUpsample, x: list[str], bottom: list[Blob], top: list[Blob]
) -> list[str]:
    """Each pixel several times; or, by a mask, at its place."""
    if isinstance(layer, SegNetUpsample):
        return [_unpooled(graph, layer, x, bottom[0].shape, top[0].shape)]
    scale = layer.spec.message(UpsampleParam).scale
    mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return [graph.add("Resize", x[0], "", graph.constant([1, 1, scale, scale]), **mode)]


def _unpooled(
    graph: Graph, layer: SegNetUpsample, x: list[str], old: tuple[int, ...], new: tuple[int, ...]
) -> str:
    """Zeros (N, C, UH, UW), but the pixels at the places that the mask has."""
    size = graph.numbers(new[2:])
    if graph.free_axes(layer.spec.top[0], new):
        param = layer.spec.message(UpsampleParam)
        odd = (param.pad_out_h, param.pad_out_w)
        factors = [(size + less) // pixels for size, less, pixels in zip(new[2:], odd, old[2:], strict=True)]
        size = graph.add("Mul", graph.sizes(x[0], (2, 3)), graph.numbers(factors))
        size = graph.add("Sub", size, graph.numbers(odd)) if any(odd) else size
    images = graph.sizes(x[0], (0, 1))
    places = graph.add("ReduceProd", size, keepdims=1)
    zeros = graph.add("Expand", graph.constant([0]), graph.add("Concat", images, places, axis=0))
    pixels, mask = (graph.add("Reshape", each, graph.numbers([0, 0, -1])) for each in x)
    put = graph.add("ScatterElements", zeros, graph.add("Cast", mask, to=INT64), pixels, axis=2)
    return graph.add("Reshape", put, graph.add("Concat", images, size, axis=0))


@writers.of("Reorg")
def reorg(graph: Graph, layer: Reorg, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Pixels into channels, of an array that is read in another shape; or DepthToSpace."""
    s, (images, channels, height, width) = layer.spec.message(ReorgParam).stride, bottom[0].shape
    if layer.reverse:
        return [graph.add("DepthToSpace", x[0], blocksize=s, mode="DCR")]
    if graph.free_axes(layer.spec.bottom[0], bottom[0].shape):
        raise size_error(layer)
    apart = (images, channels // s**2, height, s, width, s)
    y = graph.add("Transpose", graph.reshaped(x[0], apart, bottom[0].shape), perm=[0, 3, 5, 1, 2, 4])
    return [graph.reshaped(y, top[0].shape, (images, s, s, channels // s**2, height, width))]


@writers.of("ArgMax")
def argmax(graph: Graph, layer: ArgMax, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """TopK, backward along the axis, since of equal values the last is the first here."""
    param, axis, y = layer.param, 1, x[0]
    if param.axis is None:
        y = graph.add("Flatten", y, axis=1)
    else:
        axis = layer.axis
        graph.needs_batch |= axis == 0
    backward = graph.add("Slice", y, *(graph.numbers([n]) for n in (-1, TO_THE_FIRST, axis, -1)))
    values, places = graph.add_several("TopK", 2, backward, graph.numbers([param.top_k]), axis=axis)
    last = graph.add("Sub", graph.sizes(y, (axis,)), graph.constant(1, np.int64))
    indices = graph.add("Cast", graph.add("Sub", last, places), to=FLOAT)
    if param.axis is not None:
        return [values if param.out_max_val else indices]
    rows = [graph.add("Unsqueeze", each, graph.numbers([1])) for each in (indices, values)]
    y = graph.add("Concat", *rows, axis=1) if param.out_max_val else rows[0]
    more = len(top[0].shape) - 3
    return [graph.add("Unsqueeze", y, graph.numbers(range(3, 3 + more))) if more else y]


@writers.of("Interp")
def interp(graph: Graph, layer: Interp, x: list[str], bottom: list[Blob], top: list[Blob]) -> list[str]:
    """Bilinear, by the layer's own matrices: rows of weights for the lines, and for the columns."""
    if graph.free_axes(layer.spec.bottom[0], bottom[0].shape):
        raise size_error(layer)
    lines = graph.add("MatMul", graph.constant(to_host(layer.down)), x[0])
    return [graph.add("MatMul", lines, graph.constant(to_host(layer.across).T))]
