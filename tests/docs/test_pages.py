"""What a page names is there: files, folders, pages and their headings. The README is one page."""

import re

import pytest

import minicaffe as mc
from tests.docs.pages import PAGES, ROOT, blocks_of, prose_of

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

FOLDERS = ("minicaffe", "tests", "docs", "prototxt", "models", "benchmarks")
MADE = ("prototxt/lenet/train_lowrank", "prototxt/lenet/deploy_lowrank")  # by commands on the pages
page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors_of(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_readme_leads_to_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [str(page.relative_to(ROOT)) for page in PAGES if page.parent.name != "course"]
    pages = [*pages[1:], "docs/course/README.md"]
    assert [page for page in pages if f"]({page})" not in text] == []


@page_by_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", prose_of(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors_of(path), target


@page_by_page
def test_files_that_are_named_exist(page):
    words = re.findall(r"[\w./*-]+", page.read_text(encoding="utf-8"))
    examples = {block.file_name for block in blocks_of(page)}
    for word in {word.strip(".") for word in words if word.startswith(tuple(f"{name}/" for name in FOLDERS))}:
        if "*" not in word and word not in examples and not word.startswith(MADE):
            assert (ROOT / word).exists(), word


@page_by_page
def test_modules_of_the_tests_that_are_named_exist(page):
    for name in re.findall(r"python -m (tests[\w.]+)", page.read_text(encoding="utf-8")):
        assert (ROOT / f"{name.replace('.', '/')}.py").is_file(), name


def test_the_drawing_of_folders_is_what_the_linter_of_imports_checks():
    drawing = next(b.text for b in blocks_of(ROOT / "docs" / "architecture.md") if b.text.startswith("cli "))
    drawn = [re.split(r", ", re.split(r"  +", line)[0]) for line in drawing.splitlines() if line[0] != " "]
    contract = re.search(r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)[1]
    lines = re.findall(r'"(.+)"', contract)
    checked = [
        [room.removeprefix("minicaffe.").replace(".", "/") for room in line.split(" | ")] for line in lines
    ]
    assert drawn == checked


@page_by_page
def test_methods_that_are_named_exist(page):
    for cls, name in re.findall(r"`(Net|Solver|Blob|Layer|blob)\.(?!hpp)(\w+)", prose_of(page)):
        assert hasattr(getattr(mc, cls.capitalize()), name), f"{cls}.{name}"
