"""The ladder: how many maps of each stage a report carries, and at what size, so that its file stays small.

Rungs are tried from the top: all maps at their full size, then fewer and smaller ones. What is left out is said on
the picture ("64 of 96 maps, every 4th pixel averaged").
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicaffe.inspect.report.facts import statistics
from minicaffe.inspect.report.pack import LEVEL, Packer, as_bytes
from minicaffe.inspect.report.record import Recording, Stage

EXACT = 1024  # numbers: stages up to this size are stored as float32, whatever the rung
DEFLATED = 0.15  # about the least that a stage's bytes are compressed to


@dataclass(frozen=True)
class Rung:
    """At most ``maps`` maps of at most ``side`` pixels, of the first ``images`` pictures; None: all."""

    maps: int | None
    side: int | None
    images: int | None = None


SIZES = [(None, None), (64, 56), (32, 28), (16, 28), (16, 14), (8, 14), (4, 7)]


def choose(recording: Recording, budget: int) -> tuple[Rung, bool, bool]:
    """The first rung that fits ``budget`` bytes of the file, and whether stages in place and gradients fit too."""
    kept = _final(recording)
    rungs = [Rung(m, s, i) for i in (None, 4, 1) for m, s in SIZES[: 7 if i == 1 else 5]]
    rung = next((r for r in rungs if _size(recording, kept, r, budget) <= budget), rungs[-1])
    left = budget - _size(recording, kept, rung, budget)
    others = [s for s in _stored(recording) if s.key not in {k.key for k in kept}]
    in_place = _size(recording, others, rung, left)
    if in_place <= left:
        left -= in_place
    shown = [*kept, *(others if in_place <= left else [])]
    diffs = _size(recording, [s for s in shown if s.diff is not None], Rung(rung.maps, rung.side, 1), left)
    return rung, in_place <= budget and in_place <= left + in_place, diffs <= left


def _stored(recording: Recording) -> list[Stage]:
    """The stages that have arrays of their own."""
    splits = {layer.name for layer in recording.layers if layer.type == "Split"}
    return [stage for stage in recording.stages.values() if stage.layer not in splits]


def _final(recording: Recording) -> list[Stage]:
    """Each blob as it is at the end."""
    return list({stage.blob: stage for stage in _stored(recording)}.values())


def _size(recording: Recording, stages: list[Stage], rung: Rung, limit: int) -> int:
    """The bytes that stages take in the file at a rung; any number beyond ``limit`` if it is more than that."""
    images = rung.images or len(recording.images)
    shapes = [_reduced_shape(stage, rung) for stage in stages]
    least = sum(
        4 * math.prod(s) if _is_exact(t) else DEFLATED * math.prod(s)
        for s, t in zip(shapes, stages, strict=True)
    )
    if least * images * 4 / 3 > limit:
        return limit + 1
    total = 0
    for stage in stages:
        reduced, _ = reduce(stage.values[:images], rung)
        codes = reduced.tobytes() if _is_exact(stage) else as_bytes(reduced)[0].tobytes()
        total += len(zlib.compress(codes, LEVEL)) * 4 // 3
        if total > limit:
            break
    return total


def _is_exact(stage: Stage) -> bool:
    return math.prod(stage.shape) <= EXACT


def _step(stage_shape: tuple[int, ...], rung: Rung) -> int:
    if rung.side is None or len(stage_shape) != 3:
        return 1
    return max(1, math.ceil(max(stage_shape[1:]) / rung.side))


def _reduced_shape(stage: Stage, rung: Rung) -> tuple[int, ...]:
    shape = stage.shape
    if _is_exact(stage) or not shape:
        return shape
    if len(shape) == 3:
        step = _step(shape, rung)
        maps = min(shape[0], rung.maps or shape[0])
        return maps, math.ceil(shape[1] / step), math.ceil(shape[2] / step)
    return (min(shape[0], 64 * rung.maps if rung.maps else shape[0]), *shape[1:])


def reduce(values: np.ndarray, rung: Rung) -> tuple[np.ndarray, dict[str, Any]]:
    """Values (n, …) at a rung, and how they were reduced: ``maps`` (indices; None: all), ``step``, ``note``."""
    shape = values.shape[1:]
    everything = {"maps": None, "step": 1, "note": None}
    if math.prod(shape) <= EXACT or not shape:
        return np.asarray(values), everything
    most = rung.maps if len(shape) == 3 else 64 * rung.maps if rung.maps else None
    count = shape[0] if most is None else min(shape[0], most)
    indices = None
    if count < shape[0]:
        indices = [i * shape[0] // count for i in range(count)]
        values = values[:, indices]
    step = _step(shape, rung)
    if step > 1:
        values = shrink(values, step)
    notes = [f"{count:,} of {shape[0]:,} {'maps' if len(shape) == 3 else 'numbers'}"] if indices else []
    notes += [f"means of {step} × {step} pixels"] if step > 1 else []
    return np.asarray(values), {"maps": indices, "step": step, "note": ", ".join(notes) or None}


def shrink(values: np.ndarray, step: int) -> np.ndarray:
    """Means over step × step pixels of the last two axes; at the edges over what is there."""
    rows, columns = (np.arange(0, size, step) for size in values.shape[-2:])
    sums = np.add.reduceat(np.add.reduceat(values, rows, -2, np.float32), columns, -1)
    heights = np.diff(np.append(rows, values.shape[-2]))
    widths = np.diff(np.append(columns, values.shape[-1]))
    return np.asarray(sums / (heights[:, None] * widths), np.float32)


def mean_size(values: np.ndarray) -> float:
    """The mean magnitude of an array."""
    return float(np.abs(values).mean(dtype=np.float64)) if values.size else 0.0


def stages(recording: Recording, packer: Packer, budget: int, exact_input: bool) -> dict[str, Any]:
    """What the page knows of each stage: its statistics, and its arrays as far as they fit ``budget`` bytes.

    ``exact_input``: the pictures themselves are stored as float32.
    """
    rung, with_in_place, with_diffs = choose(recording, budget)
    final = {stage.key for stage in _final(recording)}
    found: dict[str, Any] = {}
    splits = {layer.name: layer for layer in recording.layers if layer.type == "Split"}
    images = rung.images or len(recording.images)
    all_diffs = with_diffs and rung.maps is None and images == len(recording.images)
    for key, stage in recording.stages.items():
        values = None
        how: dict[str, Any] = {"maps": None, "step": 1, "note": None}
        if stage.layer in splits:
            source = found[splits[stage.layer].bottoms[0]]
            values, how = source["values"], {name: source[name] for name in how}
            numbers = {k: source[k] for k in source if k not in ("values", "diff", "blob", "layer", *how)}
        else:
            numbers = statistics(stage.values)
            if key == recording.input and exact_input:
                values = packer.add(stage.values, "f32", stage.layer)
            elif key in final or with_in_place:
                reduced, how = reduce(stage.values[:images], rung)
                values = packer.add(reduced, "f32" if _is_exact(stage) else "u8", stage.layer)
        diff = None
        if stage.diff is not None and with_diffs and (key in final or with_in_place):
            reduced, _ = reduce(stage.diff if all_diffs else stage.diff[:1], rung)
            diff = packer.add(reduced, "f32" if _is_exact(stage) else "u8", stage.layer)
        found[key] = {
            "blob": stage.blob, "layer": stage.layer, "shape": list(stage.shape), "values": values, "diff": diff,
            "diff_mean": None if stage.diff is None else [mean_size(diff) for diff in stage.diff],
            **numbers, **how,
        }  # fmt: skip
    return found
