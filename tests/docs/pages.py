"""The pages of the documentation, and the blocks of code on them.

A block between ``` fences says its language. A block that cannot be run has a comment on the line above it that
says why: <!-- not run: needs a GPU -->. A block whose first line is a comment with a file's name is that file.
A block of ``python exercise`` is one that the reader has to complete or to mend. Of a block of ``text roughly`` the
numbers may differ from what is printed: between machines, or since the tests have fewer images.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests import ROOT

PAGES = [
    *(path for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md") if (path := ROOT / name).exists()),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "course").glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("models", "prototxt", "benchmarks")),
]
RUN = ("python", "yaml", "sh", "diff")
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
FILE_NAME = re.compile(r"# ([\w./-]+\.(?:py|yaml|prototxt|txt))\b.*")


@dataclass(frozen=True)
class Block:
    """What stands between two fences; ``line`` is that of its first line of code."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None
    note: str = ""  # what stands after the language

    @property
    def is_exercise(self) -> bool:
        """Whether the reader has to complete or to mend it."""
        return self.note == "exercise"

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """The file that it is, if it is one."""
        first = FILE_NAME.fullmatch(self.text.partition("\n")[0])
        return first[1] if first else None


def blocks_of(page: Path) -> list[Block]:
    """All blocks of code of a page, in order."""
    blocks, lines = [], page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        if lines[number].startswith("```"):
            end = next(i for i in range(number + 1, len(lines)) if lines[i].startswith("```"))
            reason = NOT_RUN.fullmatch(lines[number - 1]) if number else None
            text = "\n".join(lines[number + 1 : end]) + "\n"
            language, _, note = lines[number][3:].partition(" ")
            blocks.append(Block(page, number + 2, language, text, reason and reason[1], note))
            number = end
        number += 1
    return blocks


def prose_of(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def table_rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of all tables below a heading, until the next heading of its level or above; no heads, no rules."""
    level = heading.partition(" ")[0]
    text = "\n" + page.read_text(encoding="utf-8")
    section = text[text.index(f"\n{heading}\n") + len(heading) + 2 :]
    section = re.split(rf"^#{{1,{len(level)}}} ", section, flags=re.MULTILINE)[0]
    rows, lines = [], [*section.splitlines(), ""]
    for line, following in pairwise(lines):
        if line.startswith("|") and not line.startswith("|-") and not following.startswith("|-"):
            rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows
