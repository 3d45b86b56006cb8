"""View 6, Backward: the chain rule of each picture, number by number, and the gradients that products need."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import numpy as np

from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import LEVEL, Packer, Ref
from minicaffe.inspect.report.record import Recording
from minicaffe.inspect.report.test_pass import FEWEST, tested
from minicaffe.inspect.report.walk.steps import Step, walk

MOST_LINES = 1500  # of all walks: of deep nets fewer pictures have one
SHARE = 0.05  # of the file, for exact gradients
LISTED = 40  # dead units of a layer
KEPT_EXACT = 1024  # numbers: gradients of smaller stages are exact in the page anyway


def data(recording: Recording, packer: Packer, options: Options) -> dict[str, Any]:
    """The walks, gradients of products' tops in float32, and dead units; "missing" where there is no gradient."""
    if recording.no_gradient:
        return {"missing": recording.no_gradient}
    exact = _exact(recording, packer, options.budget(SHARE))
    return {"walks": _walks(recording, packer), "exact": exact, **_units(recording, options)}


# -- the walks -------------------------------------------------------------------------------------------------


def _walks(recording: Recording, packer: Packer) -> list[Ref]:
    """For each picture, as far as there is room, its walk: the bytes of a JSON list of lines."""
    refs: list[Ref] = []
    lines = 0
    for image in range(len(recording.images)):
        steps = walk(recording, image)
        lines += len(steps)
        if refs and lines > MOST_LINES:
            break
        text = json.dumps([_line(step) for step in steps], separators=(",", ":"), ensure_ascii=False)
        refs.append(packer.add(np.frombuffer(text.encode(), np.uint8), "u8", "walk"))
    return refs


def _line(step: Step) -> dict[str, Any]:
    """A line of the walk for the page. Terms are [name, factors, whether the line above is in it]."""
    line = step.line
    found: dict[str, Any] = {
        "layer": step.layer.name,
        "below": [step.below[0], list(step.below[1])],
        "formula": line.formula,
        "said": _number(step.said),
        "note": line.note,
    }
    if step.above is not None:
        found["above"] = [step.above[0], list(step.above[1])]
        found["dy"] = _number(step.dy)
    if line.total is not None:
        found["total"] = _number(line.total)
    if line.terms:
        found["terms"] = [[t.name, [_number(f) for f in t.factors], t.is_before] for t in line.terms]
        found["count"], found["rest"] = line.count, _number(line.rest)
    if line.table:
        found["head"], found["row"] = line.head, line.row
        found["table"] = [[int(row[0]), *map(_number, row[1:])] for row in line.table]
    return found


def _number(value: float | None) -> float | None:
    """With 7 significant digits, as float32 has them; None for what is no number."""
    return float(f"{value:.7g}") if value is not None and math.isfinite(value) else None


# -- exact gradients -------------------------------------------------------------------------------------------


def _exact(recording: Recording, packer: Packer, budget: int) -> dict[str, Ref]:
    """dL/dY of convolutions and inner products, by stage, (n, …) for the first n pictures that fit the budget."""
    diffs = {
        key: diff
        for layer in recording.layers
        for key in layer.tops
        if layer.params and (diff := recording.stages[key].diff) is not None and diff[0].size > KEPT_EXACT
    }
    for count in (len(recording.images), 4, 1):
        parts = {key: diff[:count] for key, diff in diffs.items()}
        if sum(part.size for part in parts.values()) > budget:  # they compress to a quarter at best
            continue
        if sum(len(zlib.compress(part.tobytes(), LEVEL)) for part in parts.values()) * 4 // 3 <= budget:
            return {key: packer.add(part, "f32", recording.stages[key].layer) for key, part in parts.items()}
    return {}


# -- dead units ------------------------------------------------------------------------------------------------


def _units(recording: Recording, options: Options) -> dict[str, Any]:
    """The dead units of each ReLU, or why they are not known."""
    result = tested(recording, options)
    if result is None:
        return {"no_units": "Needs test images: a net with its data (train.yaml), and --test 1000."}
    if result.count < FEWEST:
        needs = f"Needs {FEWEST} test images to tell"
        if result.count < options.test:
            return {"no_units": f"{needs}; the net's test data have only {result.count}."}
        return {"no_units": f"{needs}; it was given {result.count}: --test 1000."}
    if not result.dead:
        return {"no_units": "The net has no ReLU that can be 0."}
    layers = [
        {
            "name": name,
            "dead": share,
            "always_on": result.always_on[name],
            "units": result.dead_units[name][:LISTED],
            "more": max(0, len(result.dead_units[name]) - LISTED),
        }
        for name, share in result.dead.items()
    ]
    return {"units": {"count": result.count, "layers": layers}}
