"""Drawing: a net as a picture, in one of three formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minicaffe.core.net import Net


@dataclass(frozen=True)
class Drawing:
    """A net as a picture; a notebook shows it."""

    net: Net

    def svg(self) -> str:
        """The picture as SVG."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write the picture as .svg, .png or .dot. Raises WriteError."""
        raise NotImplementedError


def draw(net: Net, *, phase: str | None = None, direction: str = "TB", unfold: bool = False) -> Drawing:
    """A drawing of a net."""
    return Drawing(net)
