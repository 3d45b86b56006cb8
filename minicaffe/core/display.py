"""How nets, and what they are made of, show themselves.

``minicaffe.inspect``, which stands above this package, enters here what it knows: ``html_of.register`` for one more
class in notebooks, ``draw_net.register`` for drawings.
"""

from __future__ import annotations

from functools import singledispatch
from pathlib import Path
from typing import Protocol

from minicaffe.errors import MinicaffeError


class Drawing(Protocol):
    """A net as a picture; a notebook shows it."""

    def svg(self) -> str:
        """The picture as SVG."""

    def save(self, path: str | Path) -> None:
        """Write the picture as .svg, .png or .dot. Raises WriteError."""


@singledispatch
def html_of(shown: object) -> str | None:
    """An object as HTML for a notebook; None if nothing better than its ``repr`` is known."""
    return None


@singledispatch
def draw_net(
    net: object, *, phase: str | None = None, direction: str = "TB", unfold: bool = False
) -> Drawing:
    """A drawing of a net: ``Net.draw`` says what the arguments mean."""
    raise MinicaffeError(f"{type(net).__name__}: is not a net, and cannot be drawn")
