"""What a net is made of: shapes, parameters, multiply-adds."""

from __future__ import annotations

import inspect
import sys

from minicaffe.inspect.table import format_table
from minicaffe.layer import layer_classes
from minicaffe.net import Net


def summarize(net: Net) -> str:
    """A table of the layers of a net with their top shapes, parameter counts, multiply-adds per image and notes."""
    rows = []
    for layer, bottom, top in net.steps():
        shapes = ", ".join("×".join(map(str, blob.shape)) or "scalar" for blob in top)
        count = sum(blob.count for blob in layer.blobs)
        work = layer.multiply_adds(bottom, top)
        numbers = (f"{count:,}" if count else "", f"{work:,}" if work else "")
        rows.append((layer.name, layer.type, shapes, *numbers, layer.note))
    params = sum(param.blob.count for param in net.learnable)
    work = sum(layer.multiply_adds(bottom, top) for layer, bottom, top in net.steps())
    rows.append(("all layers", "", "", f"{params:,}", f"{work:,}", ""))
    head = ("layer", "type", "top", "parameters", "multiply-adds/image", "")
    return f"{net.name} ({net.state.phase})\n{format_table(head, rows, right=(3, 4))}"


def layer_type_table() -> str:
    """Every layer type with the first line of its module's docstring: its formula."""
    rows = []
    for name, cls in sorted(layer_classes.items()):
        doc = inspect.getdoc(sys.modules[cls.__module__]) or ""
        rows.append((name, doc.splitlines()[0].partition(": ")[2] or doc.splitlines()[0]))
    return format_table(("type", "what it computes"), rows)
