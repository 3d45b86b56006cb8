"""A net, with its weights -> an .onnx file."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import minicaffe.onnx_export  # noqa: F401  the table of writers
from minicaffe.blob import Blob
from minicaffe.caffe.messages import MAX_BYTES
from minicaffe.errors import DataError, SpecError, WriteError
from minicaffe.files import atomic_write
from minicaffe.layer import Layer
from minicaffe.net import Net, expect_net
from minicaffe.onnx_export.graph import Graph, writers

OPSET = 18
IR_VERSION = 9  # that of the releases of ONNX that brought this opset


def export_onnx(net: Net, path: str | Path) -> None:
    """Write a net (phase TEST) with its weights as an ONNX model, atomically; low rank as pairs of plain layers.

    Inputs and outputs have the names and shapes of the net's blobs (an output that is an input too, ``x_output``).
    The number of images is free, unless a layer of the net depends on it. Raises MinicaffeError for what is no net,
    SpecError for a layer that ONNX has not, DataError without the package onnx, WriteError.
    """
    expect_net(net, "export_onnx")
    onnx = _import_onnx()
    if net.state.phase != "TEST":
        raise SpecError(f"{net.spec.where}: an ONNX model is for use: export the net of phase 'test'")
    if not net.outputs:
        raise SpecError(
            f"{net.spec.where}: no blob comes out of this net, and ONNX wants one; take a Silence out"
        )
    graph = Graph(onnx, net.blobs)
    names = _add_layers(graph, net)
    if graph.bytes > MAX_BYTES:
        raise WriteError(f"{path}: more than 2 GiB, which protobuf cannot hold; make layers of lower rank")
    inputs = [_info(onnx, name, net.blobs[name], graph) for name in net.inputs]
    outputs = []
    for name in net.outputs:
        output = graph.unused(f"{name}_output") if name in net.inputs else name
        graph.nodes.append(onnx.helper.make_node("Identity", [names[name]], [output], f"{name}/output"))
        outputs.append(_info(onnx, output, net.blobs[name], graph))
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
    graph.needs_batch = len({net.blobs[name].shape[:1] for name in net.inputs}) > 1
    for layer, bottom, top in net.steps():
        if layer.type == "Input":
            continue
        if layer.phase != "TEST":
            raise layer.spec.error("phase", "TRAIN: an ONNX model is for use; leave it out")
        graph.begin(layer)
        writer = writers.get(layer.type)
        if writer is None:
            raise _unknown(layer)
        made = writer(graph, layer, [names[name] for name in layer.spec.bottom], bottom, top)
        names.update(zip(layer.spec.top, made, strict=True))
    return names


def _unknown(layer: Layer) -> SpecError:
    if not layer.spec.bottom:
        return layer.spec.error(
            "type", f"{layer.type} brings data; export a deploy net, whose inputs are Input layers"
        )
    return layer.spec.error(
        "type", f"{layer.type} cannot be exported to ONNX; these can: {', '.join(sorted(writers))}"
    )


def _info(onnx: ModuleType, name: str, blob: Blob, graph: Graph) -> Any:
    """Name and shape of an input or output."""
    dims = list(blob.shape)
    if dims and not graph.needs_batch:
        dims[0] = "N"
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)


def _import_onnx() -> ModuleType:
    try:
        import onnx
    except ImportError:
        raise DataError("ONNX models need the onnx package; pip install 'minicaffe[onnx]'") from None
    return onnx
