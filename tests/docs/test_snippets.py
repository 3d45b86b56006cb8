"""The code on the pages of the documentation runs."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.docs.pages import PAGES, ROOT, RUN, blocks_of
from tests.docs.run_page import shorten

pytestmark = pytest.mark.cpu_only("pages are about the CPU, but where they say so")

WITH_A_COPY_OF_THE_PACKAGE = {"architecture.md"}  # their blocks add files to it, and change some
EXPLANATIONS = {"text", ""}  # what a command prints, and formulas


def with_code(pages):
    return [
        page
        for page in pages
        if any(block.language in RUN and not block.not_run for block in blocks_of(page))
    ]


@pytest.fixture
def folder(tmp_path):
    """Where a page runs: the nets, the models, and a few pictures."""
    shutil.copytree(ROOT / "prototxt", tmp_path / "prototxt")
    shorten(tmp_path / "prototxt")
    (tmp_path / "models").symlink_to(ROOT / "models")
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("cat", "dog", "fox"):
            (tmp_path / "photos" / part / name).mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / part / name / f"{number}.jpg")
    Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8)).save(tmp_path / "digit.png")
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "cat.jpg")
    lines = [
        f"{name}/{number}.jpg {label}\n"
        for label, name in enumerate(("cat", "dog", "fox"))
        for number in (0, 1)
    ]
    (tmp_path / "train.txt").write_text("".join(lines))
    return tmp_path


def start(package, *page, **options):
    path = f"{package}{os.pathsep}{ROOT}"
    return subprocess.Popen(
        [sys.executable, "-m", "tests.docs.run_page", *page],
        env={**os.environ, "PYTHONPATH": path, "MINICAFFE_DEVICE": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a page, and returns its status and what it printed; one process has the imports of all pages."""
    printed = tmp_path_factory.mktemp("printed") / "all"

    def run(page, folder):
        print(page, folder, printed, sep="\t", file=server.stdin, flush=True)
        return int(server.stdout.readline()), printed.read_text(errors="replace")

    with start(ROOT, cwd=ROOT, stdin=subprocess.PIPE) as server:
        yield run


@pytest.mark.parametrize("page", with_code(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_runs(page, folder, run):
    name = str(page.relative_to(ROOT))
    if page.name in WITH_A_COPY_OF_THE_PACKAGE:
        shutil.copytree(ROOT / "minicaffe", folder / "minicaffe")
        with start(folder, name, cwd=folder, stderr=subprocess.STDOUT) as own:
            printed = own.communicate()[0]
        status = own.returncode
    else:
        status, printed = run(name, folder)
    assert status == 0, printed[-9000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_its_language_and_one_that_is_not_run_says_why(page):
    for block in blocks_of(page):
        assert block.language in EXPLANATIONS or block.language in RUN, block.place
        assert block.not_run is None or block.language in RUN, f"{block.place}: is never run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_block_that_is_a_file_is_used_on_its_page(page):
    blocks = blocks_of(page)
    for block in blocks:
        if (name := block.file_name) and not block.not_run:
            module = name.removesuffix(".py").replace("/", ".")
            others = "".join(x.text for x in blocks if x is not block and not x.not_run)
            assert name in others or module.rpartition(".")[2] in others, block.place


def test_few_blocks_are_not_run():
    blocks = [block for page in PAGES for block in blocks_of(page) if block.language in RUN]
    left_out = [block.place for block in blocks if block.not_run]
    assert len(left_out) <= len(blocks) // 5, left_out
