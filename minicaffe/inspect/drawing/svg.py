"""SVG, with colours that a page may set, by variables named as ``ink.LIGHT`` names them: --conv, --ink, …

Names are data, and are escaped.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence

from minicaffe.inspect.drawing.fold import fold_sentence
from minicaffe.inspect.drawing.ink import DARK, LIGHT, Group, Path, Picture, Shape, Text
from minicaffe.inspect.drawing.parts import boxes_in

CLASS = "mc-net"
FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML
SPACES = re.compile(r"[\t\n\r]")  # of which an attribute would make blanks


def svg_text(picture: Picture, label: str, for_page: bool = False) -> str:
    """The picture as SVG. ``for_page``: its boxes are buttons, and the page has its own colours and paper."""
    width, height = _number(picture.width), _number(picture.height)
    paper = "" if for_page else f'<rect class="paper" width="{width}" height="{height}"/>'
    role = "group" if for_page else "img"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{CLASS}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="{role}" aria-label="{_quoted(label)}">'
    )
    groups = "\n".join(_group(group, for_page) for group in picture.groups)
    return f"{head}\n<style>{_style(for_page)}</style>{paper}\n{groups}\n</svg>\n"


def _style(for_page: bool) -> str:
    """The colours, each with its light value for where variables are not known."""
    rules = [f".{CLASS}{{font-family:system-ui,'DejaVu Sans',sans-serif}}"]
    if not for_page:
        for colors, query in ((LIGHT, ""), (DARK, "@media (prefers-color-scheme:dark)")):
            values = ";".join(f"--{name}:{value}" for name, value in colors.items())
            rule = f".{CLASS}{{{values}}}"
            rules.append(f"{query}{{{rule}}}" if query else rule)
    for name, value in LIGHT.items():
        color = f"{value};fill:var(--{name},{value})"
        rules.append(f".{CLASS} .f-{name}{{fill:{color}}}")
        rules.append(f".{CLASS} .s-{name}{{stroke:{color.replace('fill:', 'stroke:')};fill:none}}")
        rules.append(f".{CLASS} .a-{name}{{fill:{color};stroke:{color.replace('fill:', 'stroke:')}}}")
    rules.append(f".{CLASS} .paper{{fill:{LIGHT['paper']};fill:var(--paper,{LIGHT['paper']})}}")
    if for_page:
        rules.append(f".{CLASS} .box,.{CLASS} .fold{{cursor:pointer}}")
    return "".join(rules)


def _group(group: Group, for_page: bool) -> str:
    items = "".join(_shape(item) if isinstance(item, Shape) else _text(item) for item in group.items)
    if group.box is not None:
        box = group.box
        names = f'data-layer="{_quoted(box.name)}" data-layers="{_quoted(json.dumps(box.layers))}"'
        return f'<g class="box {box.kind}" {names}{_told(box.sentence, for_page)}{items}</g>'
    if group.fold is not None:
        fold = group.fold
        layers = [name for same in fold.hidden for each in same for name in each.layers]
        first = next(boxes_in(fold)).name
        data = f'data-fold="{_quoted(first)}" data-layers="{_quoted(json.dumps(layers))}"'
        return f'<g class="fold" {data}{_told(fold_sentence(fold), for_page)}{items}</g>'
    return f"<g>{items}</g>"


def _told(sentence: str, for_page: bool) -> str:
    """The end of a group's tag, and what says in words what it is."""
    button = f' role="button" tabindex="-1" aria-label="{_quoted(sentence)}"' if for_page else ""
    return f"{button}><title>{_quoted(sentence)}</title>"


def _shape(shape: Shape) -> str:
    filled, lined = shape.tint > 0, shape.width > 0
    name = ("a-" if filled and lined else "f-" if filled else "s-") + shape.color
    role = f"{name} {shape.role}" if shape.role else name
    more = f' fill-opacity="{shape.tint:g}"' if 0 < shape.tint < 1 else ""
    more += f' stroke-width="{_number(shape.width)}"' if lined and shape.width != 1 else ""
    more += ' stroke-dasharray="4 3"' if shape.is_dashed else ""
    return f'<path class="{role}"{more} d="{_d(shape.path)}{"z" if shape.is_closed else ""}"/>'


def _d(path: Path) -> str:
    """A path with each point relative to the one before, which is shorter."""
    x, y = _tenths(path[0])
    steps = [f"M{_pair((x, y))}"]
    for step in path[1:]:
        points = _tenths(step)
        near = [value - (y if i % 2 else x) for i, value in enumerate(points)]
        if len(near) > 2:
            steps.append(f"c{_joined(near)}")
        elif near[1] == 0:
            steps.append(f"h{_number(near[0])}")
        else:
            steps.append(f"v{_number(near[1])}" if near[0] == 0 else f"l{_joined(near)}")
        x, y = points[-2:]
    return "".join(steps)


def _tenths(point: Sequence[float]) -> list[float]:
    """Coordinates as they are written: differences of these do not add up to more than they should."""
    return [round(value, 1) for value in point]


def _joined(values: Sequence[float]) -> str:
    """Numbers with a blank between them, where a minus does not part them."""
    return " ".join(_number(value) for value in values).replace(" -", "-")


def _text(text: Text) -> str:
    more = ' font-weight="bold"' if text.is_bold else ""
    more += f' text-anchor="{text.anchor}"' if text.anchor != "start" else ""
    return (
        f'<text class="f-{text.color}" x="{_number(text.x)}" y="{_number(text.y)}" '
        f'font-size="{_number(text.size)}"{more}>{_quoted(text.text)}</text>'
    )


def _pair(point: Sequence[float]) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _quoted(text: str) -> str:
    """A text in which nothing means anything: characters that XML does not allow become "?"."""
    escaped = html.escape(FORBIDDEN.sub("?", text), quote=True)
    return SPACES.sub(lambda found: f"&#{ord(found[0])};", escaped)
