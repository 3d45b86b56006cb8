"""A net, with its weights -> an .onnx file."""

from __future__ import annotations

from contextlib import closing
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

from minicaffe.caffe.formats.messages import MAX_BYTES
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net, expect_net
from minicaffe.errors import DataError, MinicaffeError, SpecError, WriteError
from minicaffe.files.atomic import atomic_write
from minicaffe.onnx.graph import Graph, writers
from minicaffe.onnx.shapes import size_error

OPSET = 18
AXES = {2: "height", 3: "width"}
LARGER = (0, 0, 64, 128)  # by how much: multiples of what nets shrink images by
IR_VERSION = 9  # that of the releases of ONNX that brought this opset


def export_onnx(net: Net, path: str | Path, *, free_size: bool = False) -> None:
    """Write a net (phase TEST) with its weights as an ONNX model, atomically; low rank as pairs of plain layers.

    Inputs and outputs have the names and shapes of the net's blobs (an output that is an input too, ``x_output``).
    The number of images is free, unless a layer of the net depends on it; with ``free_size`` height and width of
    images (N, C, H, W) are free too. Raises MinicaffeError for what is no net, SpecError for a layer that ONNX has
    not or that depends on what shall be free, DataError without the package onnx, WriteError.
    """
    expect_net(net, "export_onnx")
    onnx = _import_onnx()
    if net.state.phase != "TEST":
        raise SpecError(f"{net.spec.where}: an ONNX model is for use: export the net of phase 'test'")
    if not net.outputs:
        raise SpecError(
            f"{net.spec.where}: no blob comes out of this net, and ONNX wants one; take a Silence out"
        )
    graph = Graph(onnx, net.blobs, _larger_shapes(net) if free_size else None)
    names = _add_layers(graph, net)
    if graph.bytes > MAX_BYTES:
        raise WriteError(f"{path}: more than 2 GiB, which protobuf cannot hold; make layers of lower rank")
    inputs = [_info(onnx, name, name, net, graph) for name in net.inputs]
    outputs = []
    for name in net.outputs:
        output = graph.unused(f"{name}_output") if name in net.inputs else name
        graph.nodes.append(onnx.helper.make_node("Identity", [names[name]], [output], f"{name}/output"))
        outputs.append(_info(onnx, output, name, net, graph))
    made = onnx.helper.make_graph(graph.nodes, net.name or "net", inputs, outputs, graph.constants)
    model = onnx.helper.make_model(
        made, producer_name="minicaffe", opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )  # fmt: skip
    with atomic_write(path) as file:
        file.write(model.SerializeToString())


def _add_layers(graph: Graph, net: Net) -> dict[str, str]:
    """Add every layer's nodes; the names in the graph of what the blobs hold at the end."""
    names = {name: name for name in net.inputs}
    graph.regions = _regions(net)
    of_images = [name for name in net.inputs if name not in graph.regions]
    graph.needs_batch = len({net.blobs[name].shape[:1] for name in of_images}) > 1
    for step in net.steps:
        layer = step.layer
        if layer.type == "Input":
            continue
        if layer.phase != "TEST":
            raise layer.spec.error("phase", "TRAIN: an ONNX model is for use; leave it out")
        graph.begin(layer)
        writer = writers.get(layer.type)
        if writer is None:
            raise _unknown(layer)
        made = writer(graph, layer, [names[name] for name in layer.spec.bottom], step.bottom, step.top)
        names.update(zip(layer.spec.top, made, strict=True))
        if not graph.regions.isdisjoint(layer.spec.bottom):
            graph.regions.update(layer.spec.top)
    return names


def _regions(net: Net) -> set[str]:
    """The blobs that layers which pool regions take as regions, also where they come from other blobs unchanged."""
    found = {layer.spec.bottom[1] for layer in net.layers if layer.type in ("ROIPooling", "PSROIPooling")}
    for layer in reversed(net.layers):
        if layer.type == "Split" and not found.isdisjoint(layer.spec.top):
            found.update(layer.spec.bottom)
    return found


def _larger_shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """The shapes of the net's blobs for larger images. Raises SpecError where there are none, or weights change."""
    images = {name: net.blobs[name].shape for name in net.inputs if len(net.blobs[name].shape) == 4}
    if not images:
        raise SpecError(f"{net.spec.where}: no input is of images, (N, C, H, W), whose size could be free")
    spec = deepcopy(net.spec)
    spec.set_input_shapes(
        {
            name: tuple(size + more for size, more in zip(shape, LARGER, strict=True))
            for name, shape in images.items()
        }
    )
    state = net.state
    try:
        other = Net(spec, phase=state.phase, level=state.level, stages=state.stage)
    except MinicaffeError as error:
        raise SpecError(f"height and width cannot be free: with others, {error}") from None
    with closing(other):
        for layer, its in zip(net.layers, other.layers, strict=True):
            if [blob.shape for blob in layer.blobs] != [blob.shape for blob in its.blobs]:
                raise size_error(layer)
        return {name: blob.shape for name, blob in other.blobs.items()}


def _unknown(layer: Layer) -> SpecError:
    if not layer.spec.bottom:
        return layer.spec.error(
            "type", f"{layer.type} brings data; export a deploy net, whose inputs are Input layers"
        )
    return layer.spec.error(
        "type", f"{layer.type} cannot be exported to ONNX; these can: {', '.join(sorted(writers))}"
    )


def _info(onnx: ModuleType, name: str, blob: str, net: Net, graph: Graph) -> Any:
    """Name and shape of an input or output, which is a blob of the net."""
    if blob in graph.dims:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, graph.dims[blob])
    dims: list[int | str] = list(net.blobs[blob].shape)
    for axis in graph.free_axes(blob, net.blobs[blob].shape):
        dims[axis] = f"{name}_{AXES.get(axis, axis) if len(dims) == 4 else axis}"
    if blob in graph.regions:
        dims[0] = "regions"
    elif dims and not graph.needs_batch:
        dims[0] = "N"
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)


def _import_onnx() -> ModuleType:
    try:
        import onnx
    except ImportError:
        raise DataError("ONNX models need the onnx package; pip install 'minicaffe[onnx]'") from None
    package: ModuleType = onnx
    return package
