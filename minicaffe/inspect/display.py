"""What core shows of a net, entered in its tables. What does the work is imported when it is first asked for."""

from __future__ import annotations

from minicaffe.core.display import Drawing, draw_net
from minicaffe.core.net import Net


@draw_net.register
def _draw_net(net: Net, *, phase: str | None = None, direction: str = "TB", unfold: bool = False) -> Drawing:
    from minicaffe.inspect.drawing.drawing import draw

    return draw(net, phase=phase, direction=direction, unfold=unfold)
