"""Reports that the tests share: one for each net and session, and pages in Chromium that are reused.

A browser test takes ``lenet_page`` (or ``open_page(name)``), a ``Page``: ``page.at("view=layer&layer=ip1")`` shows
a state and waits until it is drawn. Any console error, refused resource or exception in the page fails the test.
"""

import os
import shutil
from functools import cache

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.errors import either
from minicaffe.inspect.report.make import make_report
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pictures import from_data, from_images, has_data
from minicaffe.inspect.report.record import copy_of, record
from tests import ROOT

NETS = {
    "lenet": ("prototxt/lenet/train.yaml", "models/lenet.npz"),
    "quick": ("prototxt/cifar10_quick/deploy.yaml", "models/cifar10_quick.npz"),
    "rnet": ("prototxt/mtcnn/rnet.yaml", None),
}
CHROMIUMS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
)  # the first opens a tab in a tenth of the time
OPTIONS = Options(test=200)
WAIT = 20_000  # ms


def photos(count=2, size=64):
    """Smooth colour pictures, (H, W, 3) in 0 … 1."""
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    resized = [np.asarray(Image.fromarray(s).resize((size, size), Image.Resampling.BICUBIC)) for s in small]
    return [image.astype(np.float32) / 255 for image in resized]


def shown_to(net):
    """What a net's report shows it: its own data, or two pictures."""
    return from_data(net, 4) if has_data(net) else from_images(mc.Classifier(net), photos(), ())


@cache
def net_of(name):
    spec, weights = NETS[name]
    return mc.Net(ROOT / spec, weights and ROOT / weights, phase="test", seed=0)


@cache
def recording_of(name):
    twin = copy_of(net_of(name))
    return record(twin, shown_to(twin))


@cache
def report_of(name):
    with copy_of(net_of(name)) as twin:
        return make_report(twin, shown_to(twin), OPTIONS, NETS[name][1] and "weights.npz")


@pytest.fixture(scope="session")
def lenet_recording():
    """What LeNet computes for four digits."""
    return recording_of("lenet")


@pytest.fixture(scope="session")
def report_named():
    """``report_named("lenet")``: the report of a net, made once."""
    return report_of


@pytest.fixture(scope="session")
def browser():
    """Chromium, or a skip that says what is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs the extra test-browser (playwright)"
    )
    named = (os.environ.get("MINICAFFE_CHROMIUM"), *map(shutil.which, CHROMIUMS))
    chromium = next(filter(None, named), None)
    if not chromium:
        pytest.skip(f"needs Chromium: {either(CHROMIUMS)} on the path, or named by MINICAFFE_CHROMIUM")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


class Page:
    """A report in Chromium. ``tab`` is Playwright's page; ``problems`` what the page complained of."""

    def __init__(self, browser, path, **options):
        self.path, self.problems = path, []
        self.context = browser.new_context(
            offline=True, **{"viewport": {"width": 1366, "height": 700}, "reduced_motion": "reduce"} | options
        )
        self.tab = self.context.new_page()
        self.tab.on("console", lambda message: self._note(message.type, message.text))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("requestfailed", lambda request: self.problems.append(f"asked for {request.url[:100]}"))
        self.tab.goto(path.as_uri())
        self.tab.locator("body[data-drawn]").wait_for(timeout=WAIT)
        self.tab.evaluate("() => Live.ready")  # after its check the page draws itself once more
        self.settled()

    def _note(self, kind, text):
        if kind in ("error", "warning") or "Content Security Policy" in text:
            self.problems.append(text)

    def at(self, state):
        """Show a state ("view=layer&layer=conv2"), and wait until it is drawn."""
        self.tab.evaluate(
            "state => { delete document.body.dataset.drawn; history.replaceState(null, '', '#' + state); "
            "State.load(); State.redraw(); }",
            state,
        )
        return self.drawn()

    def drawn(self):
        """Wait until the view is drawn as the state says."""
        self.tab.locator("body[data-drawn]").wait_for(timeout=WAIT)
        return self

    def settled(self):
        """Wait until what changed just now is drawn."""
        self.tab.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        return self.drawn()

    def press(self, *keys):
        """Press keys, waiting after each until the page is drawn again."""
        for key in keys:
            self.tab.keyboard.press(key)
            self.settled()
        return self

    def numbers(self, chart):
        """The rows of a chart's "as table", header first, as texts."""
        figure = self.tab.locator(f'[data-chart="{chart}"]').first
        figure.locator("details.as-table").evaluate("details => { details.open = true; }")
        figure.locator("details.as-table table").wait_for(timeout=WAIT)
        return figure.evaluate(
            "node => [...node.querySelectorAll('details table tr')].map(r => [...r.cells].map(c => c.textContent))"
        )

    def js(self, expression, argument=None):
        """The value of a JavaScript expression, or of a function of ``argument``; promises are awaited."""
        return self.tab.evaluate(expression, argument)


@pytest.fixture(scope="session")
def make_page(browser, tmp_path_factory):
    """``make_page(report, **context options)``: a report in a tab of its own."""
    folder, pages = tmp_path_factory.mktemp("reports"), []

    def make(report, **options):
        path = folder / f"{len(pages)}.html"
        report.save(path)
        pages.append(Page(browser, path, **options))
        return pages[-1]

    yield make
    for page in pages:
        page.context.close()


@pytest.fixture(scope="session")
def page_named(make_page):
    """``page_named("lenet")``: the page of a net's report, one for all tests."""
    return cache(lambda name: make_page(report_of(name)))


@pytest.fixture
def open_page(page_named):
    """``open_page("lenet")``: the shared page of a net; the test fails if it complains of anything."""
    opened = []

    def open_(name):
        page = page_named(name)
        opened.append((page, len(page.problems)))
        return page

    yield open_
    for page, before in opened:
        assert page.problems[before:] == []


@pytest.fixture
def lenet_page(open_page):
    """The page of LeNet with its trained weights."""
    return open_page("lenet")
