"""The page: its HTML, style and scripts (``page/``) put together with the data of a report.

The scripts travel packed, as the arrays do.

Whatever comes from a user's files is data: in the JSON every ``<`` is escaped, in HTML ``html.escape`` is used, and
the scripts write text with ``textContent`` alone. A Content-Security-Policy lets the page load nothing.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
import zlib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

VIEWS = [
    ("net", "Net"),
    ("layer", "Layer"),
    ("convolution", "Convolution"),
    ("low_rank", "Low rank"),
    ("answer", "Answer"),
    ("backward", "Backward"),
    ("training", "Training"),
    ("test_set", "Test set"),
]
SCRIPTS = [  # in this order: a script uses those before it as soon as it is read
    "report", "state", "elements", "format", "pack", "values",
    "colours", "theme", "maps", "map_grid", "map_pixels",
    "chart", "line_chart", "bar_chart", "histogram", "share_chart", "matrix_chart",
    "graph", "live",
    "net",
    "layer_maps", "layer_weights", "layer_types", "layer_tested", "layer",
    "product", "figure", "choice", "layout", "frames", "window_tables", "staggered", "sums", "play", "conv",
    "rank", "mix", "plan", "low_rank",
    "pad", "over_picture", "cover", "grad_cam", "answer",
    "walk", "weight", "backward",
    "training", "tests",
    "keys", "header", "frame",
]  # fmt: skip


def page(title: str, report: dict[str, Any], graph: str, unfolded: str, packs: Iterable[str]) -> str:
    """The whole page. ``graph`` is a drawing of the net as SVG, and ``unfolded`` with all that is repeated."""
    parts = {
        "title": html.escape(title),
        "report": as_json(report),
        "graph": graph,
        "unfolded": unfolded,
        "packs": "\n".join(packs),
        "code": _code(),
    }
    template = re.sub(r"(?m)^// .*\n", "", _file("page.html"))
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


@cache
def _code() -> str:
    """The style and the scripts, packed: base 85 of deflate of JSON; v stands for <, which would end an element."""
    style = "".join(_file(f"{name}.css") for name in ("style", *SCRIPTS))
    style = " ".join(re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL).split())
    style = re.sub(r" ?([{};>]) ?|([:,]) ", r"\1\2", style)
    script = "\n".join(_file(f"{name}.js") for name in SCRIPTS)
    code = {"style": style, "engine": _bare(_file("engine.js")), "script": f'"use strict";\n{_bare(script)}'}
    return base64.a85encode(zlib.compress(json.dumps(code).encode(), 9)).decode("ascii").replace("<", "v")


def _bare(script: str) -> str:
    """A script without indentation and comments, and in fewer lines: what a line begins or ends with shows that it
    goes on. A line with // in a string stays as it is, and so do spaces in a line with a string.
    """
    lines = [re.sub(r" // [^\"'`]*$", "", line.strip()) for line in script.splitlines()]
    lines = [
        line if re.search("[\"'`/]", line) else re.sub(r" ?([,:=<>?*&|]+) ", r"\1", line) for line in lines
    ]
    text = "\n".join(line for line in lines if line and not line.startswith("//"))
    text = re.sub(r"(?m)^(?!.*//)(.*[,(\[{;])\n", r"\1", text)
    return re.sub(r"(?m)^(?!.*//)(.*)\n(?=[.?:)\]}]|&&|\|\||\+ )", r"\1", text)


def as_json(value: Any) -> str:
    """JSON that is safe within a script element. Numbers that are not finite become null."""
    text = json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    """The same with numbers that are not finite replaced, and NumPy's numbers turned into Python's."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _file(name: str) -> str:
    """A file of the page; "" for a script that is not there."""
    path = resources.files("minicaffe.inspect.report") / "page" / name
    return path.read_text("utf-8") if path.is_file() else ""
