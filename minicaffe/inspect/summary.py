"""What a net is made of: shapes, parameters, multiply-adds."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable

from minicaffe.core.layer import layer_classes
from minicaffe.core.net import Net
from minicaffe.core.table import format_table
from minicaffe.errors import shown
from minicaffe.spec.net import NetSpec, make_state
from minicaffe.train.preview import count_multiply_adds, count_parameters


def summarize(net: Net) -> str:
    """A table of the layers of a net with their top shapes, parameter counts, multiply-adds per image and notes."""
    rows = []
    for step in net.steps:
        layer = step.layer
        shapes = ", ".join("×".join(map(str, blob.shape)) or "scalar" for blob in step.top)
        count = sum(blob.count for blob in layer.blobs)
        work = step.multiply_adds
        numbers = (f"{count:,}" if count else "", f"{work:,}" if work else "")
        rows.append((layer.name, layer.type, shapes, *numbers, layer.note))
    params, fixed = count_parameters(net)
    note = f"{fixed:,} not trained" if fixed else ""
    rows.append(("all layers", "", "", f"{params:,}", f"{count_multiply_adds(net):,}", note))
    head = ("layer", "type", "top", "parameters", "multiply-adds/image", "")
    return f"{shown(net.name)} ({net.state.phase})\n{format_table(head, rows, right=(3, 4))}"


def is_deploy(spec: NetSpec, level: int = 0, stages: Iterable[str] = ()) -> bool:
    """Whether a net is for use only: in phase TRAIN it has neither data layers nor a loss."""
    layers = spec.layers_in(make_state("train", level, [*spec.state.stage, *stages]))
    has_data = any(layer.brings_data for layer in layers)
    return not has_data and not any(layer_classes[x.type].is_loss or any(x.loss_weight) for x in layers)


def layer_type_table() -> str:
    """Every layer type with the first line of its module's docstring: its formula."""
    rows = []
    for name, cls in sorted(layer_classes.items()):
        doc = inspect.getdoc(sys.modules[cls.__module__]) or ""
        rows.append((name, doc.splitlines()[0].partition(": ")[2] or doc.splitlines()[0]))
    return format_table(("type", "what it computes"), rows)
