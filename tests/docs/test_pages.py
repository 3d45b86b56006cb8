"""What a page names is there: files, folders, pages and their headings. The README is one page."""

import re

import pytest

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
    pages = [str(page.relative_to(ROOT)) for page in PAGES if page != ROOT / "README.md"]
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


def rooms_by_line():
    """The folders that docs/architecture.md draws, the top line first."""
    drawing = next(b for b in blocks_of(ROOT / "docs" / "architecture.md") if b.text.startswith("cli "))
    return [re.split(r", ", re.split(r"\s{2,}", line)[0]) for line in drawing.text.splitlines()]


def room_of(module):
    """The folder of a module: its first part, or two in caffe/; "" for a public name."""
    parts = module.split(".")[1:]
    return "/".join(parts[:2] if parts[:1] == ["caffe"] else parts[:1])


def test_folders_import_only_from_below_as_drawn():
    height = {room: -i for i, line in enumerate(rooms_by_line()) for room in line}
    folders = {path.name for path in (ROOT / "minicaffe").iterdir() if (path / "__init__.py").exists()}
    assert {room.partition("/")[0] for room in height} - {"errors"} == folders
    upward = []
    for path in (ROOT / "minicaffe").rglob("*.py"):
        room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name in re.findall(r"^ *(?:from|import) (minicaffe\.[\w.]+)", path.read_text(), re.MULTILINE):
            other = room_of(name)
            if room in height and other in height and room != other and height[other] >= height[room]:
                upward.append(f"{path.relative_to(ROOT)} imports {name}")
    assert upward == []
