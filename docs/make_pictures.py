"""Makes the README's pictures again: ``python docs/make_pictures.py`` (extra ``test-browser``, and Chromium).

``view_convolution.png`` is view 3 of LeNet's report, as Chromium shows it, and ``googlenet.svg`` is a drawing.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import minicaffe as mc

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
STATE = "view=convolution&layer=conv2&map=7&at=3,4&step=5"


def screenshot(page: Path, state: str, to: Path, size: tuple[int, int] = (1366, 700)) -> None:
    """A picture of a report in one of its states."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("MINICAFFE_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        sys.exit("No Chromium found; install one, or name it in MINICAFFE_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="light")
        tab.goto(f"{page.as_uri()}#{state}")
        tab.wait_for_timeout(3000)
        tab.screenshot(path=str(to))
        browser.close()


def main() -> None:
    """Write the pictures into docs/."""
    net = mc.Net(ROOT / "prototxt/lenet/train.yaml", weights=ROOT / "models/lenet.npz")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "lenet.html"
        mc.report(net).save(report)
        screenshot(report, STATE, DOCS / "view_convolution.png")
    mc.Net(ROOT / "prototxt/googlenet/deploy.yaml").draw(DOCS / "googlenet.svg")


if __name__ == "__main__":
    main()
