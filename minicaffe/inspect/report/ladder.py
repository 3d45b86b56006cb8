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

from minicaffe.inspect.report.facts import rounded, statistics
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


SIZES = [(None, None), (64, 56), (32, 28), (16, 28), (16, 14)]
LAST = [(8, 14), (4, 7)]  # of one picture alone
MAPS_ALONE = [Rung(*size) for size in SIZES + LAST]
RUNGS = [Rung(*size, images) for images in (None, 4, 1) for size in SIZES] + [Rung(*size, 1) for size in LAST]


@dataclass(frozen=True)
class Plan:
    """What is stored: the rung, whether also what is overwritten in place, and gradients of how many images."""

    rung: Rung
    in_place: bool
    gradients: int


def choose(recording: Recording, budget: int, keeps_images: bool = False) -> Plan:
    """What fits ``budget`` bytes of the file: at least each blob as it is at the end, with the first gradient.

    ``keeps_images``: no image may be left out, only maps.
    """
    count = len(recording.images)
    final = _final(recording)
    others = [stage for stage in _stored(recording) if stage.key not in {other.key for other in final}]

    def least(rung: Rung) -> int:
        size = _size(final, rung, rung.images or count, budget)
        return size if size > budget else size + _size(_with_gradients(final), rung, 1, budget)

    rungs = MAPS_ALONE if keeps_images else [rung for rung in RUNGS if (rung.images or 0) < count]
    rung = next((rung for rung in rungs if least(rung) <= budget), rungs[-1])
    images = min(count, rung.images or count)
    left = budget - least(rung)
    size = _size(others, rung, images, left) + _size(_with_gradients(others), rung, 1, left)
    in_place = size <= left
    left -= size if in_place else 0
    stages = _with_gradients([*final, *(others if in_place else [])])
    all_gradients = _size(stages, rung, images - 1, left) <= left
    return Plan(rung, in_place, images if all_gradients else 1)


def _with_gradients(stages: list[Stage]) -> list[Stage]:
    return [stage for stage in stages if stage.diff is not None]


def _stored(recording: Recording) -> list[Stage]:
    """The stages that have arrays of their own."""
    splits = {layer.name for layer in recording.layers if layer.type == "Split"}
    return [stage for stage in recording.stages.values() if stage.layer not in splits]


def _final(recording: Recording) -> list[Stage]:
    """Each blob as it is at the end."""
    return list({stage.blob: stage for stage in _stored(recording)}.values())


def _size(stages: list[Stage], rung: Rung, images: int, limit: int) -> int:
    """About the bytes that stages take in the file, as of the first image; more than ``limit`` if it is more."""
    total = 0.0
    for stage in stages:
        total += _least_size(stage, rung) * images * 4 / 3
    if total > limit:
        return limit + 1
    total = 0.0
    for stage in stages:
        reduced, _ = reduce(stage.values[:1], rung)
        codes = reduced.tobytes() if _is_exact(stage) else as_bytes(reduced)[0].tobytes()
        total += len(zlib.compress(codes, LEVEL)) * images * 4 / 3
        if total > limit:
            return limit + 1
    return int(total)


def _least_size(stage: Stage, rung: Rung) -> float:
    """The bytes that one image's stage takes if it is compressed well."""
    return math.prod(_reduced_shape(stage, rung)) * (4 if _is_exact(stage) else DEFLATED)


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
        indices = evenly(shape[0], count)
        values = values[:, indices]
    step = _step(shape, rung)
    if step > 1:
        values = shrink(values, step)
    notes = [f"{count:,} of {shape[0]:,} {'maps' if len(shape) == 3 else 'numbers'}"] if indices else []
    notes += [f"means of {step} × {step} pixels"] if step > 1 else []
    return np.asarray(values), {"maps": indices, "step": step, "note": ", ".join(notes) or None}


def evenly(total: int, count: int) -> list[int]:
    """Which of ``total`` channels stand for all: those of half the count are among those of the whole."""
    return [i * total // count for i in range(count)]


def shrink(values: np.ndarray, step: int) -> np.ndarray:
    """Means over step × step pixels of the last two axes; at the edges over what is there."""
    rows, columns = (np.arange(0, size, step) for size in values.shape[-2:])
    sums = np.add.reduceat(np.add.reduceat(values, rows, -2, np.float32), columns, -1)
    heights = np.diff(np.append(rows, values.shape[-2]))
    widths = np.diff(np.append(columns, values.shape[-1]))
    return np.asarray(sums / (heights[:, None] * widths), np.float32)


def mean_size(values: np.ndarray) -> float:
    """The mean magnitude of an array."""
    return rounded(np.abs(values).mean(dtype=np.float64)) if values.size else 0.0


def stages(recording: Recording, packer: Packer, plan: Plan, exact_input: bool) -> dict[str, Any]:
    """What the page knows of each stage: its statistics, and its arrays as far as ``plan`` says.

    ``exact_input``: the pictures themselves are stored as float32.
    """
    final = {stage.key for stage in _final(recording)}
    found: dict[str, Any] = {}
    splits = {layer.name: layer for layer in recording.layers if layer.type == "Split"}
    for key, stage in recording.stages.items():
        values = None
        how: dict[str, Any] = {"maps": None, "step": 1, "note": None}
        if stage.layer in splits:
            source = found[splits[stage.layer].bottoms[0]]
            values, how = source["values"], {name: source[name] for name in how}
            numbers = {k: source[k] for k in source if k not in ("values", "diff", "blob", "layer", *how)}
        else:
            numbers = statistics(stage.values)
            if key == recording.input_stage and exact_input:
                values = packer.add(stage.values, "f32", stage.layer)
            elif key in final or plan.in_place:
                reduced, how = reduce(stage.values, plan.rung)
                values = packer.add(reduced, "f32" if _is_exact(stage) else "u8", stage.layer)
        diff = None
        if stage.diff is not None and (key in final or plan.in_place):
            reduced, _ = reduce(stage.diff[: plan.gradients], plan.rung)
            diff = packer.add(reduced, "f32" if _is_exact(stage) else "u8", stage.layer)
        found[key] = {
            "blob": stage.blob, "layer": stage.layer, "shape": list(stage.shape), "values": values, "diff": diff,
            "diff_mean": None if stage.diff is None else [mean_size(diff) for diff in stage.diff],
            **numbers, **how,
        }  # fmt: skip
    return found
