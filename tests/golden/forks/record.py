"""Records what the layers of Caffe's forks compute, in the forks' own code: <family>.npz for the cases of cases.py.

    python tests/golden/forks/record.py HARNESSES [FAMILY …]

HARNESSES is a folder with a program for each fork, made of harness.cpp as README.md says; numpy and PyYAML are all
that is needed besides. The keys are those of ../README.md.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from cases import FAMILIES, Case  # noqa: E402

Arrays = dict[str, np.ndarray]
ENUM = re.compile(r"[A-Z][A-Z0-9_]*")
TEXTS = ("name", "type", "bottom", "top")


class Refused(Exception):
    """The fork's layer stops at one of its own checks."""


def text_format(message: dict[str, Any], indent: str = "") -> Iterator[str]:
    """A message in the text format of protobuf; words in capitals are enums, but for those of the layer."""
    for key, value in message.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield f"{indent}{key} {{"
                yield from text_format(item, indent + "  ")
                yield f"{indent}}}"
            elif isinstance(item, str) and not (ENUM.fullmatch(item) and (indent or key not in TEXTS)):
                yield f'{indent}{key}: "{item}"'
            else:
                yield f"{indent}{key}: {str(item).lower() if isinstance(item, bool) else item}"


def numbers(array: np.ndarray) -> str:
    """The numbers of a float32 array, each with as many digits as it needs."""
    return " ".join(repr(float(x)) for x in array.astype(np.float32).ravel())


def layer_of(case: Case) -> dict[str, Any]:
    """The layer L under test, with bottoms x0, x1, … and tops y0, y1, …"""
    bottoms = [f"x{i}" for i in range(len(case.inputs))]
    tops = bottoms[:1] if case.in_place else [f"y{i}" for i in range(case.tops)]
    return {"name": "L", "type": case.type, "bottom": bottoms, "top": tops, **case.fields}


def net_of(case: Case) -> str:
    """The net of a case in YAML: Input layers and L."""
    inputs = [
        {"name": f"x{i}", "type": "Input", "input_param": {"shape": {"dim": list(x.shape)}}}
        for i, x in enumerate(case.inputs)
    ]
    layer = layer_of(case) | case.ours
    return yaml.safe_dump(
        {"force_backward": True, "layer": [*inputs, layer]}, sort_keys=False, default_flow_style=None
    )


def run(program: Path, case: Case, params: list[np.ndarray]) -> dict[str, Arrays]:
    """What the harness writes, by its first word and name."""
    seed = zlib.crc32(case.name.encode()) % 2**31
    lines = [f"phase {case.phase}", f"seed {seed}", f"backward {int(case.backward)}"]
    lines += [f"index_tops {case.index_tops}", f"down {case.down}"]
    for i, x in enumerate(case.inputs):
        lines += [" ".join(["bottom", f"x{i}", *map(str, x.shape)]), numbers(x)]
    for i, x in enumerate(params):
        lines += [" ".join(["param", str(i), *map(str, x.shape)]), numbers(x)]
    layer = layer_of(case)
    lines += [f"top {top}" for top in layer["top"]]
    lines += ["layer", *text_format(layer)]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "in"), Path(folder, "out")
        given.write_text("\n".join(lines) + "\n", encoding="utf-8")
        done = subprocess.run([program, given, made], capture_output=True, text=True)
        if done.returncode:
            raise Refused(f"{case.name}: {done.stderr.strip()[:600]}")
        return read(made.read_text(encoding="utf-8"))


def read(text: str) -> dict[str, Arrays]:
    """The arrays that a harness wrote: a line of what, name and shape, then one of numbers."""
    found: dict[str, Arrays] = {}
    lines = text.split("\n")
    for head, values in zip(lines[0::2], lines[1::2], strict=False):
        what, name, *shape = head.split()
        array = np.array(values.split(), np.float32).reshape([int(n) for n in shape])
        found.setdefault(what, {})[name] = array
    return found


def record(program: Path, case: Case) -> Arrays:
    """All that the fork computes for a case: see ../README.md."""
    params: list[np.ndarray] = []
    if case.params is not None:
        shapes = [array.shape for array in run(program, case, []).get("param", {}).values()]
        params = case.params(shapes)
    made = run(program, case, params)
    result = {"net": np.array(net_of(case)), "phase": np.array(case.phase)}
    result |= {f"in_x{i}": x.astype(np.float32) for i, x in enumerate(case.inputs)}
    before = made.get("param", {})
    result |= {f"p_L_{i}": array for i, array in before.items()}
    changed = {i: array for i, array in made.get("w", {}).items() if not np.array_equal(array, before[i])}
    result |= {f"w_L_{i}": array for i, array in changed.items()}
    result |= {f"{what}_{name}": a for what in ("out", "gout") for name, a in made.get(what, {}).items()}
    reached = {name: a for name, a in made.get("gin", {}).items() if not np.isnan(a).all()}
    result |= {f"gin_{name}": array for name, array in reached.items()}
    result |= {f"gp_L_{i}": array for i, array in made.get("gp", {}).items()}
    for key, array in result.items():
        if key.startswith(case.leave_out):
            continue
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise ValueError(f"{case.name}: {key} is not finite")
    return {key: array for key, array in result.items() if not key.startswith(case.leave_out)}


def main(harnesses: str, *families: str) -> None:
    """Record the families, or all."""
    for family in families or FAMILIES:
        recorded: Arrays = {}
        for case in FAMILIES[family]():
            made = record(Path(harnesses, case.fork, "harness"), case)
            recorded |= {f"{case.name}/{key}": array for key, array in made.items()}
        np.savez_compressed(HERE / f"{family}.npz", **recorded)
        print(f"{family}: {len({key.split('/')[0] for key in recorded})} cases")


if __name__ == "__main__":
    main(*sys.argv[1:])
