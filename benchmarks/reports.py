"""Size of the report of every net in prototxt/, how long it takes to make, and how long Chromium takes to open it.

    python benchmarks/reports.py [NET …]

Nets without weights in models/ have random ones, from one seed: with the zeros that a deploy net starts from, every
map would be one colour, and the file small. They see eight smooth random pictures; LeNet sees eight digits of its
data. ``opens`` is the median of five times from the request until the first view is drawn (extra ``test-browser``,
and Chromium), beside the same for a page of equal size that holds nothing.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

import minicaffe as mc
from minicaffe.core.fillers import FillerParam, fill
from minicaffe.core.table import format_table

ROOT = Path(__file__).resolve().parent.parent
HEAD = ("net", "MB", "CPU s", "opens ms", "empty page ms")


def specs() -> list[Path]:
    """The deploy nets; of LeNet the net with its data."""
    found = sorted(ROOT.glob("prototxt/*/deploy.yaml")) + sorted(ROOT.glob("prototxt/mtcnn/?net.yaml"))
    lenet = ROOT / "prototxt/lenet"
    return [lenet / "train.yaml" if path.parent == lenet else path for path in found]


def pictures(count: int = 8) -> list[np.ndarray]:
    """Smooth colour pictures, (256, 256, 3), 0 … 1."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    large = (Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC) for pixels in small)
    return [np.asarray(image, np.float32) / 255 for image in large]


def randomize(net: mc.Net) -> None:
    """Fill weights that are 0 so that values keep their size from layer to layer; BatchNorm changes nothing."""
    rng = np.random.default_rng(0)
    for layer in net.layers:
        if layer.type == "BatchNorm":
            for blob, value in zip(layer.blobs, (0, 1, 1), strict=True):  # mean, variance, factor
                blob.data[...] = value
        elif layer.blobs and len(layer.blobs[0].shape) > 1 and not np.any(layer.blobs[0].data):
            fill(layer.blobs[0], FillerParam(type="msra"), rng)


def make(spec: Path, to: Path) -> float:
    """Write the report of a net; returns seconds of CPU."""
    weights = ROOT / "models" / f"{spec.parent.name}.npz"
    begun = time.process_time()
    with mc.Net(spec, weights=weights if weights.exists() else None, phase="test", seed=0) as net:
        if not weights.exists():
            randomize(net)
        mc.report(net, images=None if spec.name == "train.yaml" else pictures()).save(to)
    return time.process_time() - begun


@contextmanager
def chromium() -> Iterator[Callable[[Path], str] | None]:
    """A function that opens a page and says how long that took, or None where there is no Chromium."""
    program = os.environ.get("MINICAFFE_CHROMIUM") or shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield lambda page: f"{median(_opens(browser, page) for _ in range(5)):.0f}"
        browser.close()


def _opens(browser: Any, page: Path) -> float:
    """Milliseconds until the first view is drawn; of an empty page, until it is loaded."""
    tab = browser.new_page(viewport={"width": 1366, "height": 700})
    begun = time.perf_counter()
    tab.goto(page.as_uri())
    if "minicaffe-empty" not in page.name:
        tab.locator("main table").first.wait_for()
    taken = time.perf_counter() - begun
    tab.close()
    return taken * 1000


def main() -> None:
    """Print a row for each net."""
    logging.getLogger("minicaffe").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("nets", nargs="*", metavar="NET", help="names of folders in prototxt/ (default: all)")
    names = parser.parse_args().nets
    rows = []
    with tempfile.TemporaryDirectory() as folder, chromium() as opens:
        page, empty = Path(folder) / "report.html", Path(folder) / "minicaffe-empty.html"
        for spec in specs():
            if names and spec.parent.name not in names:
                continue
            seconds = make(spec, page)
            size = page.stat().st_size
            empty.write_text(f"<!doctype html><script type='text/plain'>{'x' * size}</script><p>empty")
            times = (opens(page), opens(empty)) if opens else ("", "")
            name = str(spec.relative_to(ROOT / "prototxt").with_suffix(""))
            rows.append((name, f"{size / 1e6:.2f}", f"{seconds:.0f}", *times))
            print(*rows[-1], file=sys.stderr, flush=True)
    print(format_table(HEAD, rows, right=(1, 2, 3, 4)))


if __name__ == "__main__":
    main()
