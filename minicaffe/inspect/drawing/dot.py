"""DOT, the language of Graphviz, for those who have it."""

from __future__ import annotations

from minicaffe.inspect.drawing.boxes import Box
from minicaffe.inspect.drawing.fold import fold_words, shape_after
from minicaffe.inspect.drawing.ink import LIGHT, edge_width
from minicaffe.inspect.drawing.layout import Layout
from minicaffe.inspect.drawing.parts import boxes_in


def dot_text(layout: Layout, name: str) -> str:
    """The boxes and edges of a layout as a graph; Graphviz places them itself."""
    number = {box: f"b{i}" for i, box in enumerate(layout.boxes)}
    lines = [
        f"digraph {_quoted(name)} {{",
        f"  rankdir={layout.direction};",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=10];',
    ]
    stacked: set[Box] = set()
    for i, stack in enumerate(layout.folds):
        inside = list(boxes_in(stack.fold))
        stacked.update(inside)
        label = _quoted(fold_words(stack.fold).on_one_line()[0])
        lines += [f"  subgraph cluster{i} {{", f"    label={label};"]
        lines += [f"    {_node(number[box], box)}" for box in inside]
        lines.append("  }")
    lines += [f"  {_node(number[box], box)}" for box in layout.boxes if box not in stacked]
    ends = {stack.fold.hidden[-1][0]: shape_after(stack.fold) for stack in layout.folds}
    for edge in layout.ways:
        words = ends.get(edge.source) or edge.source.shape
        shape = f", label={_quoted(words)}" if words else ""
        style = ", style=dashed" if edge.is_partial else ""
        way = f"{number[edge.source]} -> {number[edge.target]}"
        lines.append(f"  {way} [penwidth={edge_width(edge.size):.1f}{shape}{style}];")
    return "\n".join([*lines, "}", ""])


def _node(number: str, box: Box) -> str:
    label = "\n".join([box.name, *box.lines, *box.tops, *box.tags])
    color = LIGHT[box.kind]
    dashed = ', style="rounded,filled,dashed"' if box.badge else ""
    return f'{number} [label={_quoted(label)}, color="{color}", fillcolor="{color}1a"{dashed}];'


def _quoted(text: str) -> str:
    """A text in quotes, with its line breaks as DOT writes them."""
    return '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
