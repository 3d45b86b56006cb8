"""Drawing: a net as a picture, in one of three formats."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from minicaffe.core import graph
from minicaffe.core.layer import layer_classes
from minicaffe.core.net import Net
from minicaffe.errors import MinicaffeError, SpecError, WeightError, either, listing
from minicaffe.files.atomic import atomic_write
from minicaffe.inspect.drawing.boxes import NARROW, WIDTH, Boxes, boxes_of
from minicaffe.inspect.drawing.dot import dot_text
from minicaffe.inspect.drawing.ink import picture
from minicaffe.inspect.drawing.layout import Layout, lay_out
from minicaffe.inspect.drawing.measure import Measure
from minicaffe.inspect.drawing.png import png_bytes, png_width
from minicaffe.inspect.drawing.sketch import Sketch, without_problems
from minicaffe.inspect.drawing.svg import svg_text
from minicaffe.inspect.drawing.wires import View
from minicaffe.inspect.drawing.words import count
from minicaffe.inspect.summary import count_computed, is_deploy
from minicaffe.spec.net import NetSpec, make_state
from minicaffe.train.preview import count_multiply_adds

logger = logging.getLogger("minicaffe")
DIRECTIONS = ("TB", "LR")
PHASES = ("train", "test", "both")


@dataclass(frozen=True, repr=False)
class Drawing:
    """A net as a picture; a notebook shows it. ``title`` and ``subtitle`` stand above it."""

    boxes: Boxes
    title: str
    subtitle: str
    direction: str = "TB"
    unfold: bool = False

    @cached_property
    def layout(self) -> Layout:
        """Where everything lies."""
        return lay_out(self.boxes, self.direction, self.unfold)

    @property
    def contents(self) -> str:
        """How much is drawn, in words."""
        layers = sum(len(box.layers) for box in self.boxes.boxes)
        count = len(self.layout.folds)
        which = "one of them a stack" if count == 1 else f"{count} of them stacks"
        stacks = f", {which} of equal blocks" if count else ""
        return f"{layers} layers in {len(self.layout.boxes)} boxes{stacks}"

    def svg(self, for_page: bool = False) -> str:
        """The picture as SVG; ``for_page`` without title and legend, and with boxes that are buttons."""
        title, subtitle = ("", "") if for_page else (self.title, self.subtitle)
        label = f"{self.title}: {self.subtitle}"
        return svg_text(picture(self.layout, self.boxes, title, subtitle), label, for_page)

    def png(self) -> bytes:
        """The picture as a PNG file."""
        measure: Measure = png_width
        return png_bytes(picture(self.layout, self.boxes, self.title, self.subtitle, measure))

    def dot(self) -> str:
        """The graph in the language of Graphviz."""
        return dot_text(self.layout, self.title)

    def save(self, path: str | Path) -> None:
        """Write the picture as .svg, .png or .dot, atomically. Raises WriteError; SpecError for other endings."""
        write = check_ending(path)
        with atomic_write(path) as file:
            file.write(write(self))

    def __repr__(self) -> str:
        return f"Drawing of {self.title}: {self.contents}"

    def _repr_svg_(self) -> str:
        return self.svg()


WRITERS: dict[str, Callable[[Drawing], bytes]] = {
    ".svg": lambda drawing: drawing.svg().encode(),
    ".png": lambda drawing: drawing.png(),
    ".dot": lambda drawing: drawing.dot().encode(),
}


def check_ending(path: str | Path) -> Callable[[Drawing], bytes]:
    """What writes a file of this name. Raises SpecError where nothing does."""
    write = WRITERS.get(Path(path).suffix.lower())
    if write is None:
        raise SpecError(f"{path}: a drawing is {either(list(WRITERS))}; let the name end so")
    return write


def draw(net: Net, *, phase: str | None = None, direction: str = "TB", unfold: bool = False) -> Drawing:
    """A drawing of a net: as it is, or in a phase ("train", "test"), or with the layers of "both".

    ``direction``: "TB" or "LR". Raises SpecError for other words.
    """
    own = net.state.phase.lower()
    wanted = own if phase is None else phase.lower()
    _check(wanted, direction)
    if wanted == own:
        return _drawing([net], own, direction, unfold)
    stages = [stage for stage in net.state.stage if stage not in net.spec.state.stage]
    names = net.class_names
    with Net(net.spec, phase="test" if own == "train" else "train", level=net.state.level, stages=stages,
             class_names=names, trusted=net.trusted) as other:  # fmt: skip
        nets = (
            [other]
            if wanted != "both"
            else sorted([net, other], key=lambda each: each.state.phase != "TRAIN")
        )
        return _drawing(nets, wanted, direction, unfold)


def draw_spec(
    spec: NetSpec,
    phase: str | None = None,
    *,
    weights: str | None = None,
    level: int = 0,
    stages: Iterable[str] = (),
    direction: str = "TB",
    unfold: bool = False,
) -> Drawing:
    """A drawing of a spec: of its net, or, if that cannot be made, of its layers, with the shapes that are known.

    Without ``phase`` it is TRAIN, or of a net without data and loss TEST. A warning says what is missing: data,
    code that is not run, or a type that is not known, if the spec was read with ``unknown_types_allowed``.
    Raises SpecError where the layers cannot be connected, and WeightError for weights that do not fit them.
    """
    phase = phase or _phase_of(spec, level, stages)
    _check(phase, direction)
    try:
        with Net(spec, weights, "train" if phase == "both" else phase, level=level, stages=stages) as net:
            return draw(net, phase=phase, direction=direction, unfold=unfold)
    except WeightError:
        raise
    except MinicaffeError as error:
        reason = error
    views, problems = list[View](), dict[str, MinicaffeError]()
    for each in ["train", "test"] if phase == "both" else [phase]:
        sketch = Sketch(spec, weights, each, level, stages)
        sketch.close()
        views.append(sketch.view)
        problems.update(sketch.problems)
    is_known = any(step and step.bottom for view in views for step in view.steps or ())
    for problem in problems.values():
        logger.warning("%s; drawn without %s", problem, "the shapes after it" if is_known else "shapes")
    if not problems:
        logger.warning("%s; drawn all the same", reason)
    words = f"no shapes are known after {listing(list(problems))}" if is_known else "shapes are not known"
    words = words if problems else "this net cannot be made"
    return Drawing(boxes_of(views), _title(spec.name, phase), words, direction, unfold)


def _phase_of(spec: NetSpec, level: int, stages: Iterable[str]) -> str:
    """The phase that a net is drawn in if none is asked for; of types that are not known it is a guess."""
    unknown = [layer for layer in spec.layer or spec.layers if layer.problem]
    if any(not layer.bottom or layer.type.endswith("Loss") for layer in unknown):
        return "train"
    return "test" if is_deploy(without_problems(spec), level, stages) else "train"


def view_of(spec: NetSpec, phase: str, level: int = 0, stages: Iterable[str] = ()) -> View:
    """The layers of a spec in a phase, connected, without a net. Raises SpecError."""
    state = make_state(phase, level, [*spec.state.stage, *stages])
    layers = graph.connect(spec.layers_in(state), layer_classes, spec.layers_left_out(state))
    return View(state.phase, layers)


def svg_of(net: Net, *, unfold: bool = False, for_page: bool = True, room: float = math.inf) -> str:
    """A net's drawing as SVG; ``for_page``: its boxes are buttons, and the page has colours and paper.

    Where it would be wider than ``room`` its boxes are narrower, down to NARROW.
    """

    def drawn(width: float) -> Drawing:
        return _drawing([net], net.state.phase.lower(), "TB", unfold, width)

    usual = drawn(WIDTH)
    wide = usual.layout.width
    if wide <= room:
        return usual.svg(for_page)
    narrow = drawn(NARROW).layout.width
    columns = (wide - narrow) / (WIDTH - NARROW)
    return drawn(max(NARROW, NARROW + (room - narrow) // columns)).svg(for_page)


def _check(phase: str, direction: str) -> None:
    if phase not in PHASES:
        raise SpecError(f"phase '{phase}': must be {either(list(PHASES))}")
    if direction not in DIRECTIONS:
        raise SpecError(f"direction '{direction}': must be {either(list(DIRECTIONS))}")


def _drawing(nets: list[Net], phase: str, direction: str, unfold: bool, width: float = WIDTH) -> Drawing:
    net = nets[0]
    weights = count_computed(net)[0]
    views = [View(each.state.phase, [layer.spec for layer in each.layers], each.steps) for each in nets]
    words = f"{count(weights)} parameters · {count(count_multiply_adds(net))} multiply-adds an image"
    return Drawing(boxes_of(views, weights, width), _title(net.name, phase), words, direction, unfold)


def _title(name: str, phase: str) -> str:
    return f"{name or 'net'} ({'both phases' if phase == 'both' else phase.upper()})"
