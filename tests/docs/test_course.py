"""The course: exercises have solutions and refuse wrong answers, its index is complete, pages become notebooks."""

import json
import os
import re
import runpy
import subprocess
import sys

import pytest

from tests.docs.pages import PAGES, ROOT, blocks_of
from tests.docs.run_page import is_roughly_shown, is_shown, run_exercise
from tests.docs.wrong_answers import TO_DO, WRONG_ANSWERS, number_of

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

COURSE = ROOT / "docs" / "course"
COURSE_PAGES = [page for page in PAGES if page.parent == COURSE]
page_by_page = pytest.mark.parametrize("page", COURSE_PAGES, ids=lambda page: page.stem)
INSTALLATION = re.compile(r"^python3 -m venv \.venv && \.venv/bin/(pip install .*)", re.MULTILINE)
ACTIVATION = re.compile(r"^\. \.venv/bin/activate\n", re.MULTILINE)
notebook_of = runpy.run_path(str(ROOT / "docs" / "as_notebook.py"))["notebook"]


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
        ("-0.0312 (3, 4)\n", "-0.031 (3, 4)\n"),
        ("SpecError: net.yaml:3: 'x'\n", "SpecError: net.yaml:3: 'x'\n"),
    ],
)
def test_a_text_shows_what_is_printed_with_rounded_numbers(printed, shown):
    assert is_shown(printed, shown)


@pytest.mark.parametrize(
    ("printed", "shown"),
    [("loss 0.4391\n", "loss 0.43\n"), ("7\n", "8\n"), ("a\nb\n", "a\n"), ("a 1.5\n", "b 1.5\n")],
)
def test_a_text_does_not_show_something_else(printed, shown):
    assert not is_shown(printed, shown)


def test_a_text_of_which_the_numbers_may_differ_shows_all_else():
    assert is_roughly_shown("conv1: 0.0031, 61% of -2e-05\n", "conv1: 0.0007, 9% of 3.1e-04\n")
    assert not is_roughly_shown("conv2: 0.0007\n", "conv1: 0.0007\n")
    assert not is_roughly_shown("True 61%\n", "False 61%\n")


@page_by_page
def test_a_page_shows_real_texts_and_no_patterns_of_tests(page):
    assert [block.place for block in blocks_of(page) if block.language == "text" and "…" in block.text] == []


def checks_of(block):
    """The lines of a block that say whether an answer is right."""
    return re.findall(r"^\s*(?:assert|check_gradients\().*", block.text, re.M)


@page_by_page
def test_every_exercise_checks_its_answer_as_its_solution_does(page):
    blocks = blocks_of(page)
    for number, block in enumerate(blocks):
        if block.is_exercise and not blocks[number + 1].text.startswith(("SpecError: ", "ShapeError: ")):
            solutions = [other.text for other in blocks[number + 1 :] if not other.is_exercise]
            assert checks_of(block), block.place
            assert any(all(line in text for line in checks_of(block)) for text in solutions), block.place


def test_every_exercise_with_something_to_complete_is_tried_with_a_wrong_answer():
    unfinished = {
        (page.stem, number_of(block))
        for page in COURSE_PAGES
        for block in blocks_of(page)
        if block.is_exercise and TO_DO.search(block.text)
    }
    assert unfinished == set(WRONG_ANSWERS)


def test_an_exercise_that_takes_a_wrong_answer_fails_its_test(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text('```python exercise\nraise NotImplementedError("your turn")\nprint(x)\n```\n')
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    monkeypatch.setitem(WRONG_ANSWERS, ("page", 1), ["x = 0"])
    with pytest.raises(AssertionError, match="takes a wrong answer"):
        run_exercise(blocks_of(page)[0], {}, None)


def test_a_page_whose_exercise_leaves_nothing_to_do_does_not_run(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python exercise\nx = 1\n```\n")
    run = subprocess.run(
        [sys.executable, "-m", "tests.docs.run_page", str(page)], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "leaves nothing to do" in run.stderr


@page_by_page
def test_a_notebook_has_the_blocks_of_its_page_in_order(page):
    notebook = json.loads(notebook_of(page.read_text(encoding="utf-8"), "."))
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
            text = INSTALLATION.sub(r"%\1", ACTIVATION.sub("", text))
            lines = text.replace("\\\n", " ").splitlines()
            expected.append("\n".join(line if line.startswith("%") else f"!{line}" for line in lines))
    assert cells == expected
    shown = [
        "".join(output["text"] if output["output_type"] == "stream" else output["traceback"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
    ]
    assert shown == [b.text.rstrip("\n") for b in blocks_of(page) if b.language == "text"]
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@page_by_page
def test_a_notebook_may_run_on_after_an_exercise_and_after_nothing_else(page):
    cells = json.loads(notebook_of(page.read_text(encoding="utf-8"), "."))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    may_raise = ["raises-exception" in cell["metadata"].get("tags", []) for cell in code]
    assert may_raise == [
        block.is_exercise for block in blocks_of(page) if block.language in ("python", "sh", "yaml")
    ]
    for cell in code:
        for output in cell["outputs"]:
            assert (output["output_type"] == "error") == ("tags" in cell["metadata"])


def test_a_notebook_installs_into_its_kernel_and_activates_nothing():
    install = "python3 -m venv .venv && .venv/bin/pip install '.[cpu]'\n. .venv/bin/activate"
    page = f"```sh\n{install}\nminicaffe device\n```\n"
    (cell,) = json.loads(notebook_of(page, "."))["cells"]
    assert "".join(cell["source"]) == "%pip install '.[cpu]'\n!minicaffe device"


def test_an_error_of_an_exercise_is_the_error_of_its_cell():
    page = "```python exercise\nraise ValueError('a: b')\n```\n```text\nValueError: a: b\n```\n"
    (cell,) = json.loads(notebook_of(page, "."))["cells"]
    (output,) = cell["outputs"]
    assert (output["ename"], output["evalue"], output["traceback"]) == (
        "ValueError",
        "a: b",
        ["ValueError: a: b"],
    )


@page_by_page
def test_a_notebook_folds_up_the_solutions_and_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    lines = text.splitlines()
    in_solutions = []
    for block in blocks_of(page):
        if block.language in ("python", "sh", "yaml"):
            above = "\n".join(lines[: block.line - 1])
            in_solutions.append(above.count("<details>") > above.count("</details>"))
    cells = json.loads(notebook_of(text, "."))["cells"]
    code = [cell["metadata"] for cell in cells if cell["cell_type"] == "code"]
    assert [metadata.get("jupyter", {}).get("source_hidden", False) for metadata in code] == in_solutions
    for cell in cells:
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            assert source.count("<details>") == source.count("</details>") == source.startswith("<details>")


@page_by_page
def test_the_links_of_a_notebook_lead_somewhere_from_where_it_lies(page, tmp_path):
    way = os.path.relpath(page.parent, tmp_path)
    cells = json.loads(notebook_of(page.read_text(encoding="utf-8"), way))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    for target in re.findall(r"\]\(([^)]+)\)", "".join(texts)):
        assert target.startswith("https://") or (tmp_path / target.partition("#")[0]).exists(), target


def test_a_notebook_is_named_after_its_page_and_lies_where_the_command_was_given(tmp_path):
    command = [sys.executable, str(ROOT / "docs" / "as_notebook.py"), str(COURSE / "inside.md")]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    written = (tmp_path / "inside.ipynb").read_text(encoding="utf-8")
    assert written == notebook_of(
        (COURSE / "inside.md").read_text("utf-8"), os.path.relpath(COURSE, tmp_path)
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["docs/course/nix.md"], "docs/course/nix.md: cannot be read (No such file or directory)"),
        (["docs/course/net.md", "-o", "nix/net.ipynb"], "nix/net.ipynb: cannot be written"),
    ],
)
def test_a_page_that_is_not_there_is_told_in_one_line(arguments, problem):
    run = subprocess.run(
        [sys.executable, "docs/as_notebook.py", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.startswith(problem)
    assert run.stderr.count("\n") == 1
