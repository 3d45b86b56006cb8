"""What core shows of a net, entered in its tables. What does the work is imported when it is first asked for."""

from __future__ import annotations

from minicaffe.core.blob import Blob
from minicaffe.core.display import Drawing, draw_net, html_of
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.train.solver import Solver


@draw_net.register
def _draw_net(net: Net, *, phase: str | None = None, direction: str = "TB", unfold: bool = False) -> Drawing:
    from minicaffe.inspect.drawing.drawing import draw

    return draw(net, phase=phase, direction=direction, unfold=unfold)


@html_of.register
def _net(net: Net) -> str:
    from minicaffe.inspect.reprs import html_of_net

    return html_of_net(net)


@html_of.register
def _layer(layer: Layer) -> str:
    from minicaffe.inspect.reprs import html_of_layer

    return html_of_layer(layer)


@html_of.register
def _blob(blob: Blob) -> str:
    from minicaffe.inspect.reprs import html_of_blob

    return html_of_blob(blob)


@html_of.register
def _solver(solver: Solver) -> str:
    from minicaffe.inspect.reprs import html_of_solver

    return html_of_solver(solver)
