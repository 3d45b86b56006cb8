"""Writes a page of the course as a Jupyter notebook: ``python docs/as_notebook.py docs/course/im2col.md``.

Text becomes cells of Markdown, Python becomes cells of code, commands become "!minicaffe …", and a block that is a
file a cell that writes it. What a block prints on the page is the output of its cell. An exercise is a cell that
may raise, so that "Run All" goes on after it. Solutions are folded up, and links lead from the notebook to where
they lead from the page. A notebook runs in the environment of its kernel: what a page installs goes there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```(\w*) ?([^\n]*)\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w./-]+)\n")
DETAILS = re.compile(r"<details><summary>(.*?)</summary>|</details>")
ACTIVATION = re.compile(r"^(?:\.|source) \S+/activate\n", re.MULTILINE)
INSTALLATION = re.compile(r"^python3 -m venv (\S+) && \1/bin/(pip install .*)", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)]+)\)")  # to another file


def cells_of(page: str) -> list[dict[str, Any]]:
    """The cells of a page's text, in order."""
    cells: list[dict[str, Any]] = []
    end, title = 0, ""  # the title of the solution that a cell belongs to
    for block in BLOCK.finditer(page):
        language, note, text = block.groups()
        markdown, title = _markdown(page[end : block.start()], title)
        cells += markdown
        end = block.end()
        source = _source(language, text)
        if language == "text" and cells and cells[-1]["cell_type"] == "code":
            cells[-1]["outputs"] = [_output(text, "tags" in cells[-1]["metadata"])]
        elif source is None:
            cells += _markdown(block[0], title)[0]
        else:
            metadata: dict[str, Any] = {}
            if title:
                metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
            if note == "exercise":
                metadata["tags"] = ["raises-exception"]
            code = {"metadata": metadata, "source": source, "outputs": [], "execution_count": None}
            cells.append({"cell_type": "code", **code})
    return [*cells, *_markdown(page[end:], title)[0]]


def _source(language: str, text: str) -> list[str] | None:
    """The lines of a cell of code, or None for a block that does not run."""
    file_name = FILE_NAME.match(text)
    if file_name:
        return _lines(f"%%writefile {file_name[1]}\n{text}")
    if language == "python":
        return _lines(text)
    if language == "sh":
        return _lines(_commands(text.replace("\\\n", " ")))
    return None


def _commands(text: str) -> str:
    """Commands of a shell in a notebook. Each has a shell of its own, in which activating changes nothing."""
    text = INSTALLATION.sub(r"%\2", ACTIVATION.sub("", text))
    return re.sub(r"^(?=[^\s%])", "!", text, flags=re.MULTILINE)


def _output(text: str, is_error: bool) -> dict[str, Any]:
    """What stands below a cell: what it prints, or the error with which an exercise ends."""
    if not is_error:
        return {"output_type": "stream", "name": "stdout", "text": _lines(text)}
    name, _, message = text.strip().partition(": ")
    return {"output_type": "error", "ename": name, "evalue": message, "traceback": [text.strip()]}


def _markdown(text: str, title: str) -> tuple[list[dict[str, Any]], str]:
    """Cells of text, and the title of the solution in which it ends, or "". ``title`` is that in which it begins.

    The text of a solution is folded up. HTML cannot go on in the next cell, so each cell has a fold of its own.
    """
    before, *parts = DETAILS.split(text)
    pieces = [(title and f"{title}, continued", before)]
    for opened, piece in zip(parts[::2], parts[1::2], strict=True):
        title = opened or ""
        pieces.append((title, piece))
    cells = []
    for heading, piece in pieces:
        shown = piece.strip()
        if heading and shown:
            shown = f"<details><summary><b>{heading}</b></summary>\n\n{shown}\n\n</details>"
        elif heading and heading == title:
            shown = f"**{heading}**: the next cell, which is folded up."
        if shown:
            cells.append({"cell_type": "markdown", "metadata": {}, "source": _lines(shown)})
    return cells, title


def _lines(text: str) -> list[str]:
    return text.rstrip("\n").splitlines(keepends=True)


def notebook(page: str, way: str) -> str:
    """The text of a notebook file (format 4.5). ``way`` leads from its folder to the page's, for the links."""
    cells = [{"id": f"cell-{number}", **cell} for number, cell in enumerate(cells_of(page), 1)]
    for cell in cells:
        if cell["cell_type"] == "markdown":
            cell["source"] = [LINK.sub(lambda link: _link(way, link[1]), line) for line in cell["source"]]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    whole = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _link(way: str, target: str) -> str:
    return f"]({os.path.normpath(os.path.join(way, target))})".replace(os.sep, "/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path, help="a page of docs/course/")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.ipynb", help="default: named after the page"
    )
    args = parser.parse_args()
    output = args.output or Path(args.page.with_suffix(".ipynb").name)
    way = os.path.relpath(args.page.parent, output.parent)
    try:
        page = args.page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        parser.exit(2, f"{args.page}: cannot be read ({_problem(error)}); the pages are docs/course/*.md\n")
    try:
        output.write_text(notebook(page, way), encoding="utf-8")
    except OSError as error:
        parser.exit(2, f"{output}: cannot be written ({_problem(error)}); name another file with -o\n")
    print(f"Wrote {output}")


def _problem(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "not a text file"


if __name__ == "__main__":
    main()
