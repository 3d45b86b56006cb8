"""The rows of docs/layers.md: ``python -m tests.docs.layer_rows`` writes them anew, from what the layers say.

A row says what a layer's module says first, the fields of its type, its file, and where it comes from. That last
cell, and in which table a row stands, is written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import minicaffe  # noqa: F401  (which registers the layers)
from minicaffe.core.layer import fork_classes, layer_classes
from minicaffe.inspect.summary import layer_type_table
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "layers.md"
FORMULAS = {
    name: formula.strip()
    for name, _, formula in (row.strip().partition(" ") for row in layer_type_table().splitlines()[2:])
}


def cells(layer_type: str) -> list[str]:
    """The cells of a type's row, but for the last."""
    cls = layer_classes[layer_type]
    modules = [sys.modules[each.__module__] for each in [cls, *fork_classes.get(layer_type, [])]]
    files = [Path(inspect.getfile(module)).name for module in modules]
    fields = ", ".join(f"`{name}`" for name in cls.messages if name != "low_rank_param")
    links = ", ".join(f"[{file}](../minicaffe/layers/{file})" for file in files)
    return [layer_type, FORMULAS[layer_type], fields, links]


def main() -> None:
    """Write the rows that stand there."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        name = re.match(r"\| (\w+) \|", line)
        if name and name[1] in layer_classes:
            last = re.split(r"(?<!\\)\|", line)[-2].strip()
            row = [cell.replace("|", "\\|") for cell in [*cells(name[1]), last]]
            lines[number] = f"| {' | '.join(row)} |"
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
