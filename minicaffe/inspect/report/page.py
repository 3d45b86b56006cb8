"""The page: its HTML, style and scripts (``page/``) put together with the data of a report.

Whatever comes from a user's files is data: in the JSON every ``<`` is escaped, in HTML ``html.escape`` is used, and
the scripts write text with ``textContent`` alone. A Content-Security-Policy lets the page load nothing.
"""

from __future__ import annotations

import html
import json
import math
import re
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
SCRIPTS = [
    "pack", "state", "values", "maps", "curves", "graph", "live",
    "net", "layer", "product", "conv", "rank", "pad", "answer", "walk", "weight", "backward", "training", "tests",
    "frame",
]  # fmt: skip


def page(title: str, report: dict[str, Any], graph: str, packs: Iterable[str]) -> str:
    """The whole page. ``graph`` is a drawing of the net as SVG, or "" for none."""
    parts = {
        "title": html.escape(title),
        "style": _file("style.css"),
        "report": as_json(report),
        "graph": graph,
        "packs": "\n".join(packs),
        "engine": _file("engine.js"),
        "script": "\n".join(_file(f"{name}.js") for name in SCRIPTS),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _file("page.html"))


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
