"""The course: exercises have solutions, a page's index is complete, and pages become notebooks."""

import json
import re
import subprocess
import sys

import pytest

from tests.docs.pages import PAGES, ROOT, blocks_of
from tests.docs.run_page import is_shown

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

COURSE = ROOT / "docs" / "course"
COURSE_PAGES = [page for page in PAGES if page.parent == COURSE]
page_by_page = pytest.mark.parametrize("page", COURSE_PAGES, ids=lambda page: page.stem)


def test_the_index_of_the_course_leads_to_every_page():
    text = (COURSE / "README.md").read_text(encoding="utf-8")
    assert [
        page.name for page in COURSE_PAGES if page.stem != "README" and f"]({page.name})" not in text
    ] == []


@page_by_page
def test_every_exercise_has_a_solution(page):
    text = page.read_text(encoding="utf-8")
    exercises = text.partition("\n## Exercises\n")[2]
    parts = re.split(r"^\*\*\d+\. ", exercises, flags=re.M)[1:]
    assert [part[:40] for part in parts if "<details><summary>Solution</summary>" not in part] == []
    assert text.count("<details>") == text.count("</details>")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("loss 0.4321 of 7\n", "loss 0.43 of 7\n"),
        ("a\nb\nc\n", "a\n…\n"),
        ("-0.0312 (3, 4)\n", "-0.031 (3, 4)\n"),
        ("SpecError: net.yaml:3: 'x'; did you mean 'y'?\n", "SpecError: …'x'…'y'…\n"),
    ],
)
def test_a_text_shows_what_is_printed_with_rounded_numbers_and_gaps(printed, shown):
    assert is_shown(printed, shown)


@pytest.mark.parametrize(
    ("printed", "shown"),
    [("loss 0.4391\n", "loss 0.43\n"), ("7\n", "8\n"), ("a\nb\n", "a\n"), ("a 1.5\n", "b 1.5\n")],
)
def test_a_text_does_not_show_something_else(printed, shown):
    assert not is_shown(printed, shown)


def test_a_page_whose_exercise_leaves_nothing_to_do_does_not_run(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python exercise\nx = 1\n```\n")
    run = subprocess.run(
        [sys.executable, "-m", "tests.docs.run_page", str(page)], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "leaves nothing to do" in run.stderr


@page_by_page
def test_a_notebook_has_the_blocks_of_its_page_in_order(page, tmp_path):
    written = tmp_path / "page.ipynb"
    command = [sys.executable, str(ROOT / "docs" / "as_notebook.py"), str(page), "-o", str(written)]
    subprocess.run(command, check=True, capture_output=True)
    notebook = json.loads(written.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    expected = []
    for block in blocks_of(page):
        text = block.text.rstrip("\n")
        if name := block.file_name:
            expected.append(f"%%writefile {name}\n{text}")
        elif block.language == "python":
            expected.append(text)
        elif block.language == "sh":
            expected.append("\n".join(f"!{line}" for line in text.replace("\\\n", " ").splitlines()))
    assert cells == expected
    shown = [
        "".join(output["text"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
    ]
    assert shown == [b.text.rstrip("\n") for b in blocks_of(page) if b.language == "text"]
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
