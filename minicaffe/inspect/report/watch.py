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
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from minicaffe.core.net import Net
from minicaffe.errors import one_line
from minicaffe.files.atomic import atomic_write, make_folder, write_text
from minicaffe.inspect.report.first_filters import first_filters
from minicaffe.inspect.report.pack import as_bytes
from minicaffe.inspect.report.page import as_json
from minicaffe.train.log import event_of, log_path

logger = logging.getLogger("minicaffe")
MOST_EVENTS, MOST_BYTES = 20_000, 4_000_000  # of the .js, which the page reads anew again and again
FILTERS_EVERY = 10.0  # seconds
RATIOS = 40  # parameters whose updates are shown
FEW = ("start", "resume", "filters", "end")  # events that are not thinned
NOT_SHOWN = {"start": ("solver", "net_spec", "weights"), "train": ("outputs",), "norms": ("params",)}
SCRIPTS = [
    "report", "state", "elements", "format", "colours", "theme", "maps", "map_grid", "chart", "line_chart",
    "training", "watch",
]  # fmt: skip
NO_NET: dict[str, Any] = {  # what the scripts of a report find of its net
    "layers": [{"name": "net", "type": "", "kind": "other", "params": [], "tops": []}],
    "stages": {},
    "images": [{"name": ""}],
    "classes": [],
    "order": ["training"],
    "views": {"training": {"runs": [], "smooth": 1, "snapshots": []}},
}


class LivePage:
    """Takes the events of a solver's log (``Solver.listeners``), and writes them for the page.

    A training goes on whatever happens here: where a file cannot be written, that is said once, and the page stays
    as it is.
    """

    def __init__(self, prefix: str, net: Net, last: int | None = None) -> None:
        """``net`` is the one that is trained, up to iteration ``last``."""
        self.page, self.script = Path(f"{prefix}.live.html"), Path(f"{prefix}.live.js")
        self._prefix, self._net, self._last = prefix, net, last
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
        except Exception as error:  # of any kind: a training does not end because of its page
            self._works = False
            logger.warning("The live page stays as it is: %s", one_line(error))
            with suppress(OSError):  # a line that was written in part would keep the page from reading any
                os.truncate(self.script, self._size)

    def close(self) -> None:
        """Tell the page that no more will come, unless the log has told it."""
        if self._lines and self._lines[-1][0] != "end":
            self({"event": "end", "time": round(time.time(), 3)})

    def _add(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "start":
            self._begin(event)
        self._append(event)
        if kind == "train" and time.monotonic() - self._filters_at >= FILTERS_EVERY:
            self._filters_at = time.monotonic()
            filters = _filters(self._net)
            if filters is not None:
                self._append({"event": "filters", "iteration": event["iteration"], **filters})
        if len(self._lines) > MOST_EVENTS or self._size > MOST_BYTES:
            self._thin()

    def _begin(self, start: Mapping[str, Any]) -> None:
        """Write the page, and of a run that is resumed what the log has of it."""
        make_folder(self.script.parent)
        earlier = _earlier(log_path(self._prefix), start["run"]) if start.get("resumed") else []
        self._lines = [(event["event"], _line(event)) for event in earlier]
        self._thin()
        title = f"{self._net.name or 'net'}: training"
        write_text(self.page, page_of(title, quote(self.script.name), self._last))
        logger.info("Live page: %s; open it in a browser", self.page)

    def _append(self, event: Mapping[str, Any]) -> None:
        line = _line(event)
        with self.script.open("ab", buffering=0) as file:  # in one piece: the page may read at any time
            file.write(line)
        self._lines.append((event["event"], line))
        self._size += len(line)

    def _thin(self) -> None:
        """Drop all filters but the last; while that is not enough, every second event of each kind."""
        last = max((i for i, (kind, _) in enumerate(self._lines) if kind == "filters"), default=-1)
        kept = [entry for i, entry in enumerate(self._lines) if entry[0] != "filters" or i == last]
        while len(kept) > MOST_EVENTS // 2 or sum(len(line) for _, line in kept) > MOST_BYTES // 2:
            before, kept = kept, _halved(kept)
            if len(kept) == len(before):
                break
        with atomic_write(self.script) as file:
            file.writelines(line for _, line in kept)
        self._lines, self._size = kept, sum(len(line) for _, line in kept)


def _earlier(log: Path, run: str) -> list[dict[str, Any]]:
    """The events of a run in a log, before its last start."""
    found: list[dict[str, Any]] = []
    is_its, last_start = False, 0
    with log.open("rb") as file:
        for line in file:
            event = event_of(line)
            if event.get("event") == "start":
                is_its, last_start = event.get("run") == run, len(found)
            if is_its and isinstance(event.get("event"), str):
                found.append(event)
    return found[:last_start]


def _line(event: Mapping[str, Any]) -> bytes:
    """The line of the .js for an event, without what the page does not show."""
    kind = event["event"]
    told = {key: value for key, value in event.items() if key not in NOT_SHOWN.get(kind, ())}
    if kind == "norms":
        told["ratios"] = _ratios(event["params"])
    return f"mc({as_json(told)});\n".encode("ascii")


def _halved(lines: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Every second line of each kind that is many, the newest among them."""
    left = Counter(kind for kind, _ in lines)
    kept = []
    for kind, line in lines:
        left[kind] -= 1
        if kind in FEW or left[kind] % 2 == 0:
            kept.append((kind, line))
    return kept


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
