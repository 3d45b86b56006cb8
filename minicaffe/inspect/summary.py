"""What a net is made of: shapes, parameters, multiply-adds, memory, ranks; as a table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer, fork_classes, layer_classes
from minicaffe.core.net import Net
from minicaffe.core.table import format_table
from minicaffe.errors import named, shown
from minicaffe.inspect.formula import sentence_of
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.spec.net import NetSpec, make_state
from minicaffe.train.preview import count_multiply_adds

LONGEST_SPLIT = 31  # characters of the name of a Split, which nobody has written


@dataclass(frozen=True)
class LayerRow:
    """One layer of a net.

    ``tops``: the names and shapes of its tops, for the batch that the net has. ``params``: the numbers that it
    computes with, which are those in its parameter blobs, or of low rank those of its factors; ``params_dense``:
    those that a low-rank layer would have without, else None. ``params_share``: its part of the net's, 0 … 1, where
    a shared parameter belongs to the layer that has it first. ``multiply_adds``: of one image, and
    ``multiply_adds_share`` its part of the net's.
    ``activation_bytes``: the memory of its tops for one image, without gradients and work space; what lies in
    another blob's memory (in place, Split, Flatten, …) is 0 bytes; a top whose first axis is not the batch (a loss)
    counts whole.
    ``rank``, ``full_rank``: of a low-rank layer; ``rank`` is None while ``energy`` has not found it.
    ``energy``: the share of ‖W‖² that the factors keep (``energies_kept``). ``note``: what else there is to say.
    """

    name: str
    type: str
    tops: tuple[tuple[str, tuple[int, ...]], ...]
    params: int
    params_dense: int | None
    params_share: float
    multiply_adds: int
    multiply_adds_share: float
    activation_bytes: int
    rank: int | None
    full_rank: int | None
    energy: float | None
    note: str


def layer_rows(net: Net, energies: Mapping[str, float] | None = None) -> list[LayerRow]:
    """A row for each layer of a net; ``energies``: the energy kept, by layer, as ``energies_kept`` returns it."""
    params, work = count_computed(net)[0], count_multiply_adds(net)
    batch, seen, first_with = batch_of(net), set[int](), dict[int, str]()
    rows = []
    for step in net.steps:
        layer = step.layer
        owners = {id(blob.data_owner): blob for blob in step.top}
        own = [blob for owner, blob in owners.items() if owner not in seen]
        seen |= owners.keys()
        shared = [first_with.setdefault(id(blob.data_owner), layer.name) for blob in layer.blobs]
        counts = computed_counts(layer)
        owned = sum(n for n, owner in zip(counts, shared, strict=True) if owner == layer.name)
        others = dict.fromkeys(owner for owner in shared if owner != layer.name)
        low_rank = layer.low_rank if isinstance(layer, LowRankLayer) else None
        dense = layer.dense_count if isinstance(layer, LowRankLayer) else None
        notes = [
            layer.note,
            f"dense: {dense:,} parameters" if dense and dense != sum(counts) else "",
            f"shares parameters with {', '.join(map(named, others))}" if others else "",
        ]
        rows.append(
            LayerRow(
                name=layer.name,
                type=layer.type,
                tops=tuple((n, b.shape) for n, b in zip(layer.spec.top, step.top, strict=True)),
                params=sum(counts),
                params_dense=dense,
                params_share=owned / params if params else 0.0,
                multiply_adds=step.multiply_adds,
                multiply_adds_share=step.multiply_adds / work if work else 0.0,
                activation_bytes=sum(_bytes_of_one(blob, batch) for blob in own),
                rank=low_rank.rank if low_rank is not None and low_rank.is_rank_known else None,
                full_rank=low_rank.full_rank if low_rank is not None else None,
                energy=(energies or {}).get(layer.name),
                note="; ".join(filter(None, notes)),
            )
        )
    return rows


def count_computed(net: Net) -> tuple[int, int]:
    """How many numbers a net computes with, as the rows' ``params``, and how many of them have ``lr_mult: 0``."""
    counts: dict[int, int] = {}
    for layer in net.layers:
        for blob, count in zip(layer.blobs, computed_counts(layer), strict=True):
            counts.setdefault(id(blob.data_owner), count)
    fixed = sum(counts[id(param.blob.data_owner)] for param in net.learnable if param.lr_mult == 0)
    return sum(counts.values()), fixed


def computed_counts(layer: Layer) -> list[int]:
    """Of each parameter of a layer, with how many numbers it computes."""
    return layer.computed_counts() if isinstance(layer, LowRankLayer) else [b.count for b in layer.blobs]


def energies_kept(net: Net) -> dict[str, float]:
    """The share of ‖W‖² that the low-rank layers of weights keep, by name, for the weights as they are.

    This factorizes them, and finds the ranks of layers that have an ``energy``. Raises TrainingError for weights
    that are not finite.
    """
    low_rank = [layer for layer in net.layers if isinstance(layer, LowRankLayer)]
    found = {layer.name: layer.low_rank.energy_kept() for layer in low_rank}
    return {name: energy for name, energy in found.items() if energy is not None}


def batch_of(net: Net) -> int:
    """The number of images in a batch: the first axis of the first blob that has axes; 1 without such a blob."""
    return next((blob.shape[0] for blob in net.blobs.values() if blob.shape), 1) or 1


def _bytes_of_one(blob: Blob, batch: int) -> int:
    """The bytes of one image's part of a blob, or of all of it where its first axis is not the batch."""
    has_batch = blob.shape[:1] == (batch,)
    return blob.count // (batch if has_batch else 1) * blob.dtype.itemsize


def summarize(net: Net, energies: Mapping[str, float] | None = None, why: str = "") -> str:
    """A table of the layers of a net, of ``layer_rows``; ``why`` says why it is shown in this phase."""
    rows = layer_rows(net, energies)
    params, fixed = count_computed(net)
    head = ("layer", "type", "top", "parameters", "share", "multiply-adds", "share", "memory", "rank")
    memory = in_bytes(sum(row.activation_bytes for row in rows))
    lines = [_cells(row) for row in rows]
    lines.append(["all layers", "", "", f"{params:,}", "", f"{count_multiply_adds(net):,}", "", memory, ""])
    shown_columns = len(head) if any(row.full_rank for row in rows) else len(head) - 1
    table = format_table(
        head[:shown_columns], [line[:shown_columns] for line in lines], right=range(3, len(head))
    )
    notes = [f"{row.name}: {note_of(row)}" for row in rows if row.note]
    notes += [f"{fixed:,} of the parameters are not trained"] if fixed else []
    notes.append("Multiply-adds and memory are of one image; memory is that of the tops.")
    return "\n".join([f"{title_of(net)} ({net.state.phase}{why and f': {why}'})", table, *notes])


def title_of(net: Net) -> str:
    """The name of a net, or of its file if it has none."""
    return shown(net.name or Path(net.spec.where.file).name)


def _cells(row: LayerRow) -> list[str]:
    params, work = row.params, row.multiply_adds
    return [
        shown(row.name, LONGEST_SPLIT - 3) if row.type == "Split" else row.name,
        row.type,
        tops_text(row.tops),
        f"{params:,}" if params else "",
        share_text(row.params_share) if params else "",
        f"{work:,}" if work else "",
        share_text(row.multiply_adds_share) if work else "",
        in_bytes(row.activation_bytes) if row.activation_bytes else "",
        rank_text(row),
    ]


def as_json(net: Net, energies: Mapping[str, float] | None = None, why: str = "") -> str:
    """What ``summarize`` shows as one JSON object, for programs; docs/cli.md lists its keys."""
    rows = layer_rows(net, energies)
    params, fixed = count_computed(net)
    found: dict[str, Any] = {
        "net": net.name,
        "phase": net.state.phase,
        "why": why,
        "batch": batch_of(net),
        "inputs": net.inputs,
        "outputs": net.outputs,
        "params": params,
        "params_not_trained": fixed,
        "multiply_adds": count_multiply_adds(net),
        "activation_bytes": sum(row.activation_bytes for row in rows),
        "layers": [{**asdict(row), "tops": dict(row.tops)} for row in rows],
    }
    return json.dumps(found, indent=1, ensure_ascii=False)


def note_of(row: LayerRow) -> str:
    """The note of a layer, with the energy that it keeps where that is known."""
    return f"{row.note}, {row.energy:.1%} of the energy" if row.energy is not None else row.note


def in_bytes(count: int) -> str:
    """A number of bytes in words, with three digits: "796 B", "45.0 KiB", "1.25 MiB"."""
    size, units = float(count), ["B", "KiB", "MiB", "GiB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1024, units[1:]
    digits = 0 if units[0] == "B" or size >= 100 else 1 if size >= 10 else 2
    return f"{size:.{digits}f} {units[0]}"


def rank_text(row: LayerRow) -> str:
    """The rank of a layer and its full rank: "12/50", "?/50", or "" for a layer without low rank."""
    if row.full_rank is None:
        return ""
    return f"{'?' if row.rank is None else row.rank}/{row.full_rank}"


def share_text(part: float) -> str:
    """A share in percent."""
    return f"{part:.1%}" if part >= 0.0005 or not part else "<0.1%"


def tops_text(tops: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    """The shapes of tops; several equal ones once, with their number."""
    words = [shape_text(shape) for _, shape in tops]
    is_same = len(words) > 1 and len(set(words)) == 1
    return f"{words[0]} (×{len(words)})" if is_same else ", ".join(words)


def shape_text(shape: Sequence[int]) -> str:
    """A shape as it is shown: "64×20×24×24", or "scalar"."""
    return "×".join(map(str, shape)) or "scalar"


def phase_for(spec: NetSpec, level: int = 0, stages: Iterable[str] = ()) -> tuple[str, str]:
    """The phase that a net is shown in if none is asked for, "test" for a deploy net, else "train"; and why."""
    if is_deploy(spec, level, stages):
        return "test", "it has neither data nor a loss, so it is for use"
    return "train", "it has data or a loss; --phase test shows how it is tested"


def is_deploy(spec: NetSpec, level: int = 0, stages: Iterable[str] = ()) -> bool:
    """Whether a net is for use only: in phase TRAIN it has neither data layers nor a loss."""
    layers = spec.layers_in(make_state("train", level, [*spec.state.stage, *stages]))
    has_data = any(layer.brings_data for layer in layers)
    return not has_data and not any(layer.is_loss or any(layer.loss_weight) for layer in layers)


def layer_type_table() -> str:
    """Every layer type with the first line of its docstring: its formula."""
    return format_table(("type", "what it computes"), list(_layer_types().items()))


def layer_types_as_json() -> str:
    """What ``layer_type_table`` shows as one JSON object: the types, each with what it computes."""
    return json.dumps(_layer_types(), indent=1, ensure_ascii=False)


def _layer_types() -> dict[str, str]:
    return {
        name: " Or: ".join(map(sentence_of, [cls, *fork_classes.get(name, [])]))
        for name, cls in sorted(layer_classes.items())
    }
