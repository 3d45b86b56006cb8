"""The live page of a training (``train --live``): its curves and first filters, in a browser, while they grow.

``<prefix>.live.html`` is written once. Each event becomes a line ``mc({…})`` of ``<prefix>.live.js``, which the
page reads anew every two seconds, as a script: browsers let a page from a disk load nothing else. No server is
needed.
"""

from __future__ import annotations

import base64
import html
import logging
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from minicaffe.core.net import Net
from minicaffe.errors import MinicaffeError
from minicaffe.files.atomic import atomic_write, write_text
from minicaffe.inspect.report.first_filters import first_filters
from minicaffe.inspect.report.pack import as_bytes
from minicaffe.inspect.report.page import as_json
from minicaffe.train.log import event_of

logger = logging.getLogger("minicaffe")
MOST_EVENTS, MOST_BYTES = 20_000, 4_000_000  # of the .js, which the page reads anew again and again
FILTERS_EVERY = 10.0  # seconds
RATIOS = 40  # parameters whose updates are shown
FEW = ("start", "resume", "end")  # events that are not thinned
NOT_SHOWN = {"start": ("solver", "net_spec", "weights"), "train": ("outputs",), "norms": ("params",)}
SCRIPTS = ["state", "maps", "curves", "training", "watch"]
NO_NET: dict[str, Any] = {  # what the scripts of a report find of its net
    "layers": [{"name": "net", "type": "", "kind": "other", "params": [], "tops": []}],
    "images": [{"name": ""}],
    "classes": [],
    "order": ["training"],
    "views": {"training": {"runs": [], "smooth": 1, "snapshots": []}},
}
LINE = re.compile(rb"mc\((\{.*\})\);\s*")


class LivePage:
    """Takes the events of a solver's log (``Solver.listeners``), and writes them for the page.

    A training goes on whatever happens here: where a file cannot be written, that is said once, and the page stays
    as it is.
    """

    def __init__(self, prefix: str, net: Net, last: int | None = None) -> None:
        """``net`` is the one that is trained, up to iteration ``last``."""
        self.page, self.script = Path(f"{prefix}.live.html"), Path(f"{prefix}.live.js")
        self._net, self._last = net, last
        self._lines: list[tuple[str, bytes]] = []  # the kind of event, and what the .js has of it
        self._size = 0
        self._works = True
        self._filters_at = float("-inf")

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Add an event of the log."""
        if not self._works:
            return
        try:
            self._add(event)
        except (OSError, MinicaffeError) as error:
            self._works = False
            logger.warning("The live page stays as it is: %s", error)
            with suppress(OSError):  # a line that was written in part would keep the page from reading any
                os.truncate(self.script, self._size)

    def close(self) -> None:
        """Tell the page that no more will come."""
        if self._lines:
            self({"event": "end", "time": round(time.time(), 3)})

    def _add(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "start":
            self._begin(event)
        elif kind == "norms":
            event = {**event, "ratios": _ratios(event["params"])}
        self._append(kind, event)
        if kind == "train" and time.monotonic() - self._filters_at >= FILTERS_EVERY:
            self._filters_at = time.monotonic()
            filters = _filters(self._net)
            if filters is not None:
                self._append("filters", {"event": "filters", "iteration": event["iteration"], **filters})
        if len(self._lines) > MOST_EVENTS or self._size > MOST_BYTES:
            self._thin()

    def _begin(self, start: Mapping[str, Any]) -> None:
        """Write the page; keep the events that are there if this run has written them."""
        self.script.parent.mkdir(parents=True, exist_ok=True)
        found = _lines_of(self.script)
        first = next((event for kind, event, _ in found if kind == "start"), {})
        goes_on = bool(start.get("resumed")) and first.get("run") == start.get("run")
        self._lines = [(kind, line) for kind, _, line in found] if goes_on else []
        self._write_all()
        title = f"{self._net.name or 'net'}: training"
        write_text(self.page, page_of(title, quote(self.script.name), self._last))
        logger.info("Live page: %s; open it in a browser", self.page)

    def _append(self, kind: str, event: Mapping[str, Any]) -> None:
        told = {key: value for key, value in event.items() if key not in NOT_SHOWN.get(kind, ())}
        line = f"mc({as_json(told)});\n".encode("ascii")
        with self.script.open("ab", buffering=0) as file:  # in one piece: the page may read at any time
            file.write(line)
        self._lines.append((kind, line))
        self._size += len(line)

    def _thin(self) -> None:
        """Drop all filters but the last; if that is not enough, every second event of each kind."""
        last = max((i for i, (kind, _) in enumerate(self._lines) if kind == "filters"), default=-1)
        kept = [entry for i, entry in enumerate(self._lines) if entry[0] != "filters" or i == last]
        if len(kept) > MOST_EVENTS or sum(len(line) for _, line in kept) > MOST_BYTES // 2:
            seen: dict[str, int] = {}
            for kind, _ in kept:
                seen[kind] = seen.get(kind, 0) + 1
            left, kept = kept, []
            for kind, line in left:
                seen[kind] -= 1
                if kind in FEW or kind == "filters" or seen[kind] % 2 == 0:  # which keeps the newest
                    kept.append((kind, line))
        self._lines = kept
        self._write_all()

    def _write_all(self) -> None:
        with atomic_write(self.script) as file:
            file.writelines(line for _, line in self._lines)
        self._size = sum(len(line) for _, line in self._lines)


def _lines_of(script: Path) -> list[tuple[str, dict[str, Any], bytes]]:
    """The kind, the event and the line of all whole lines of a .js; none if there is no such file."""
    found = []
    with suppress(OSError):
        for line in script.read_bytes().splitlines(keepends=True):
            match = LINE.fullmatch(line)
            event = event_of(match[1]) if match else {}
            if isinstance(event.get("event"), str) and event["event"] != "end":
                found.append((event["event"], event, line))
    return found


def _ratios(params: Mapping[str, list[float | None]]) -> dict[str, float]:
    """‖Δw‖ / ‖w‖ by parameter: of each layer's first one before others, if they are many."""
    ordered = sorted(params, key=lambda key: not key.endswith("/0"))[:RATIOS]
    return {
        key: float(f"{change / size:.4g}")
        for key in params
        if key in ordered and (size := params[key][0]) and (change := params[key][2]) is not None
    }


def _filters(net: Net) -> dict[str, Any] | None:
    """The first convolution's filters in 8 bits, as base64."""
    found = first_filters(net)
    if found is None:
        return None
    codes, lo, hi = as_bytes(found.values)
    return {
        "layer": found.layer,
        "note": found.note,
        "shape": list(codes.shape),
        "lo": lo,
        "hi": hi,
        "codes": base64.b64encode(codes.tobytes()).decode("ascii"),
    }


def page_of(title: str, source: str, last: int | None) -> str:
    """The page, which reads ``source``, an address beside it."""
    folder = resources.files("minicaffe.inspect.report") / "page"
    parts = {
        "title": html.escape(title),
        "style": (folder / "style.css").read_text("utf-8"),
        "data": as_json({**NO_NET, "title": title, "source": source, "last": last}),
        "script": "\n".join((folder / f"{name}.js").read_text("utf-8") for name in SCRIPTS),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], (folder / "live.html").read_text("utf-8"))
