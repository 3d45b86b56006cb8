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


@html_of.register(Net)
@html_of.register(Layer)
@html_of.register(Blob)
@html_of.register(Solver)
def _html_of(shown: Net | Layer | Blob | Solver) -> str:
    from minicaffe.inspect.reprs import page_of

    return page_of(shown)
