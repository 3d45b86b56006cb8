"""The picture of a sweep (extra ``plot``): accuracy against rank for each layer, and what all together cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minicaffe.compress.sweep import ALL, Row
from minicaffe.errors import MinicaffeError
from minicaffe.files.atomic import atomic_write


def check(path: str | Path) -> tuple[Callable[..., Any], str]:
    """What makes a figure, and the kind of the file. Raises MinicaffeError, as ``plot`` does."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in ("png", "svg"):
        raise MinicaffeError(f"{path}: a plot is a .png or .svg file; give one of these endings")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MinicaffeError("plots need matplotlib: pip install 'minicaffe[plot]'") from None
    return Figure, kind


def plot(rows: Sequence[Row], title: str, path: str | Path) -> None:
    """Draw a sweep into a PNG or SVG file. Raises MinicaffeError without matplotlib or for another kind of file."""
    new_figure, kind = check(path)
    figure = new_figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _accuracy(left, rows)
    _cost(right, [row for row in rows if row.layer == ALL])
    figure.suptitle(title)
    with atomic_write(path) as file:
        figure.savefig(file, format=kind, dpi=120)


def _accuracy(axes: Any, rows: Sequence[Row]) -> None:
    """One line for each layer alone, a thick one for all at once."""
    for layer in dict.fromkeys(row.layer for row in rows):
        own = [row for row in rows if row.layer == layer]
        style = {"color": "black", "linewidth": 2.5} if layer == ALL else {"linewidth": 1.2}
        axes.plot([100 * r.fraction for r in own], [100 * r.accuracy for r in own], "o-", markersize=3,
                  label=layer, **style)  # fmt: skip
    axes.set(xlabel="rank kept, %", ylabel="accuracy, %", title="each layer alone, and all")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _cost(axes: Any, rows: Sequence[Row]) -> None:
    """Energy, multiply-adds and time of all layers at once, each as a share of what it is in the dense net."""
    dense = next(row.milliseconds for row in rows if row.fraction == 1)
    x = [100 * row.fraction for row in rows]
    for label, values in (
        ("energy, of the layer that keeps least", [row.energy for row in rows]),
        ("multiply-adds of these layers", [row.flops for row in rows]),
        ("time of the whole net, from timed layers", [row.milliseconds / dense for row in rows]),
    ):
        axes.plot(x, [100 * value for value in values], "o-", markersize=3, label=label)
    axes.set(xlabel="rank kept, %", ylabel="share of what it is when dense, %", title="all layers at once")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
