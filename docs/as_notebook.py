"""Writes a page of the course as a Jupyter notebook: ``python docs/as_notebook.py docs/course/im2col.md``.

Text becomes cells of Markdown, Python becomes cells of code, commands become "!minicaffe …", and a block that is a
file a cell that writes it. What a block prints on the page is the output of its cell.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$\n?", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w./-]+)\n")
DETAILS = re.compile(r"<details><summary>(.*?)</summary>|</details>")  # HTML cannot go on in the next cell


def cells_of(page: str) -> list[dict[str, Any]]:
    """The cells of a page's text, in order."""
    cells: list[dict[str, Any]] = []
    end = 0
    for block in BLOCK.finditer(page):
        language, text = block[1], block[2]
        cells += _markdown(page[end : block.start()])
        end = block.end()
        source = _source(language, text)
        if language == "text" and cells and cells[-1]["cell_type"] == "code":
            cells[-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": _lines(text)}]
        elif source is None:
            cells += _markdown(block[0])
        else:
            code = {"metadata": {}, "source": source, "outputs": [], "execution_count": None}
            cells.append({"cell_type": "code", **code})
    return [*cells, *_markdown(page[end:])]


def _source(language: str, text: str) -> list[str] | None:
    """The lines of a cell of code, or None for a block that does not run."""
    file_name = FILE_NAME.match(text)
    if file_name:
        return _lines(f"%%writefile {file_name[1]}\n{text}")
    if language == "python":
        return _lines(text)
    if language == "sh":
        return _lines(re.sub(r"^(?=\S)", "!", text.replace("\\\n", " "), flags=re.MULTILINE))
    return None


def _markdown(text: str) -> list[dict[str, Any]]:
    text = DETAILS.sub(lambda found: f"**{found[1]}**" if found[1] else "", text).strip()
    return [{"cell_type": "markdown", "metadata": {}, "source": _lines(text)}] if text else []


def _lines(text: str) -> list[str]:
    return text.rstrip("\n").splitlines(keepends=True)


def notebook(page: str) -> str:
    """The text of a notebook file (format 4.5)."""
    cells = [{"id": f"cell-{number}", **cell} for number, cell in enumerate(cells_of(page), 1)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    whole = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path, help="a page of docs/course/")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE.ipynb", help="default: named after the page"
    )
    args = parser.parse_args()
    output = args.output or Path(args.page.with_suffix(".ipynb").name)
    output.write_text(notebook(args.page.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"Wrote {output}")


if __name__ == "__main__":
    main()
