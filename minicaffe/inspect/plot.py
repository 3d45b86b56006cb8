"""The curves of training runs as a picture (extra ``plot``): loss, scores, learning rate, sizes of the updates.

Several runs are told apart by their dashes, shades and marks, which a legend names, and by names at the ends of the
lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from minicaffe.compress.plot import check
from minicaffe.errors import DataError, shown
from minicaffe.files.atomic import atomic_write
from minicaffe.inspect.logs import NAN, Run, Series, running_mean

TRAIN, TEST, SCORES, RATE = "#2f6db3", "#b23a48", "#2a7353", "#a85a14"  # blue, red, green, brown
RUN = "#333333"  # of a run's mark in the legend, whatever the curve
DASHES = ["solid", (0, (4, 2.5)), (0, (1, 2.5)), (0, (7, 2.5, 1, 2.5)), (0, (3, 2, 1, 2, 1, 2)), (0, (9, 4))]
MARKERS = "os^Dvp"
SHADES = [0.0, 0.4, 0.2]  # how far the colour of a run is on the way to white
USUAL = (1e-4, 1e-2)  # ‖Δw‖ / ‖w‖ of a training that goes well lies between
UNITS = [
    (7200.0, "hours", 3600.0),
    (300.0, "minutes", 60.0),
    (0.0, "seconds", 1.0),
]  # from how many seconds on
SMALL = 8.0  # points, of what stands at the lines
POINTS = 4000  # of a curve
DOT_SIZE = 3.5
LABEL_AT = -0.095  # of the width of the axes: where the names of y axes stand, whatever stands at their ticks
OUTLIER = 20  # times the largest loss that follows: a first loss above that is left out of the axis
LONGEST = 60  # letters of a name
MOST_NAMES = 8  # of parameters, at the ends of their lines
REPRODUCIBLE: Any = {"svg.hashsalt": "minicaffe"}  # ids in an SVG are random otherwise


@dataclass(frozen=True)
class _Across:
    """What goes from left to right: the name of the axis, and where the points of a series are on it."""

    name: str
    places: Callable[[Series], Sequence[float]]


def plot_runs(runs: Sequence[Run], path: str | Path, x: str = "iteration", smooth: int | None = None) -> None:
    """Draw runs into a PNG or SVG file, over the "iteration" or the "time".

    ``smooth``: how many losses the thick line is the mean of; by default a 20th of them. Raises MinicaffeError
    without matplotlib or for another kind of file, and DataError if a run does not have the times.
    """
    new_figure, kind = check(path)
    import matplotlib

    across = _across(runs, x)
    parts: list[tuple[float, Callable[[Any, Sequence[Run], _Across], None]]] = []
    if any(run.loss for run in runs):
        parts.append((2.9, lambda axes, runs, across: _loss(axes, runs, across, smooth)))
    if any(run.scores for run in runs):
        parts.append((2.2, _scores))
    if any(run.rate for run in runs):
        parts.append((0.9, _rate))
    if any(run.norms for run in runs):
        parts.append((2.8, _ratios))
    with matplotlib.rc_context(REPRODUCIBLE):
        figure, all_axes = _lay_out(new_figure, [height for height, _ in parts], _longest_name(runs))
        for axes, (_, draw) in zip(all_axes, parts, strict=True):
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(x=0.01)
            draw(axes, runs, across)
            axes.tick_params(labelbottom=axes is all_axes[-1])
            axes.yaxis.set_label_coords(LABEL_AT, 0.5)
        all_axes[-1].set_xlabel(across.name)
        metadata = {"Date": None} if kind == "svg" else None
        with atomic_write(path) as file:
            figure.savefig(file, format=kind, dpi=120, metadata=metadata)


def _lay_out(new_figure: Callable[..., Any], heights: Sequence[float], letters: int) -> tuple[Any, list[Any]]:
    """A figure with axes below each other, so many inches high, and room at the right for names of some letters.

    Matplotlib's own layouts solve equations, whose last bits differ from run to run.
    """
    left, right, top, bottom, between = 0.95, 0.2 + 0.6 * SMALL / 72 * letters, 0.4, 0.55, 0.45
    width, height = left + 7.3 + right, top + sum(heights) + between * (len(heights) - 1) + bottom
    figure = new_figure(figsize=(width, height))
    found: list[Any] = []
    y = height - top
    for each in heights:
        place = (left / width, (y - each) / height, 7.3 / width, each / height)
        found.append(figure.add_axes(place, sharex=found[0] if found else None))
        y -= each + between
    return figure, found


def _longest_name(runs: Sequence[Run]) -> int:
    """The letters of the longest name at the end of a line."""
    whats = (
        [
            *run.loss,
            *(f"{name} ({phase})" if phase != "test" else name for phase, name in run.scores),
            *run.norms,
        ]
        for run in runs
    )
    names = (_named(runs, run, what) for run, of_run in zip(runs, whats, strict=True) for what in of_run)
    return max((len(name) for name in names), default=max(len(run.name) for run in runs))


def smooth_width(points: int) -> int:
    """Of so many losses, how many a running mean takes where nothing is given: odd, 1 for few."""
    return min(points // 20 // 2 * 2 + 1, 101)


def _across(runs: Sequence[Run], x: str) -> _Across:
    if x == "iteration":
        return _Across("iteration", lambda series: series.iterations)
    for run in runs:
        if not all(math.isfinite(time) for series in run.loss.values() for time in series.seconds):
            raise DataError(f"{run.file}: has no times; draw it over the iterations (--x iteration)")
    times = [time for run in runs for series in run.loss.values() for time in series.seconds]
    longest = max(times, default=0.0)  # not the last: clocks are set back
    _, unit, length = next(entry for entry in UNITS if longest >= entry[0])
    return _Across(f"{unit} of training", lambda series: [time / length for time in series.seconds])


def _look(number: int, colour: str, marked: bool = False) -> dict[str, Any]:
    """Colour and dash of a run's line, and its mark at each point."""
    from matplotlib.colors import to_rgb

    white = SHADES[number % len(SHADES)]
    shade = tuple(part + (1 - part) * white for part in to_rgb(colour))
    mark = {"marker": MARKERS[number % len(MARKERS)], "markersize": DOT_SIZE} if marked else {}
    return {"color": shade, "linestyle": DASHES[number % len(DASHES)], **mark}


def _named(runs: Sequence[Run], run: Run, what: str) -> str:
    """What stands at the end of a line."""
    return shown(f"{run.name}, {what}" if len(runs) > 1 else what, LONGEST)


def _loss(axes: Any, runs: Sequence[Run], across: _Across, smooth: int | None) -> None:
    """Training losses thin and their running means thick; test losses with dots; snapshots as ticks."""
    longest = max((len(run.loss["train"]) for run in runs if "train" in run.loss), default=0)
    width = smooth or smooth_width(longest)
    ends = []
    for number, run in enumerate(runs):
        for phase, series in run.loss.items():
            if phase == "train":
                mean = replace(series, values=tuple(running_mean(series.values, width)))
                if width > 1:
                    _line(
                        axes,
                        across,
                        series,
                        color=TRAIN,
                        linewidth=0.6,
                        alpha=0.45 if len(runs) == 1 else 0.2,
                    )
                _line(axes, across, mean, linewidth=2, **_look(number, TRAIN))
                ends.append((_last(mean.values), _named(runs, run, "train"), TRAIN))
            else:
                _line(axes, across, series, linewidth=1, **_look(number, TEST, marked=True))
                ends.append((_last(series.values), _named(runs, run, phase), TEST))
        ticks = [across.places(Series((s.iteration,), (s.seconds,), (0.0,)))[0] for s in run.snapshots]
        axes.plot(ticks, [0.0] * len(ticks), "|", color="black", markersize=9, clip_on=False,
                  transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set(ylabel="loss", title="Does the loss still fall?")
    limits, above = loss_limits(runs)
    if limits is not None:
        axes.set_ylim(limits)
        axes.annotate("\n".join(above), (0.25, 1), (0, -4), xycoords="axes fraction", textcoords="offset points",
                      va="top", fontsize=SMALL, parse_math=False)  # fmt: skip
    _legend(axes, runs, width)
    _write_ends(axes, ends)


def loss_limits(runs: Sequence[Run]) -> tuple[tuple[float, float] | None, list[str]]:
    """Where an axis of losses begins and ends, and what lies above: "test: 65.5 at iteration 0 is above".

    None and nothing, unless a first loss is so large that all others would lie flat on the axis.
    """
    named = [(_named(runs, run, phase), series) for run in runs for phase, series in run.loss.items()]
    later = [v for _, series in named for v in series.values[1:] if math.isfinite(v)]
    most = OUTLIER * max(later, default=math.inf)
    high = [(name, s) for name, s in named if s and math.isfinite(s.values[0]) and s.values[0] > most]
    if not high or most <= 0:
        return None, []
    others = [v for _, series in named for v in series.values if v <= most]
    room = 0.05 * (max(others) - min(others))
    told = [f"{name}: {s.values[0]:.3g} at iteration {s.iterations[0]:,} is above" for name, s in high]
    return (min(others) - room, max(others) + room), told


def _line(axes: Any, across: _Across, series: Series, **style: Any) -> None:
    """One curve; of many points only as many as can be seen."""
    shown = series.thinned(POINTS)
    axes.plot(across.places(shown), shown.values, **style)


def _legend(axes: Any, runs: Sequence[Run], width: int) -> None:
    """What thick and thin lines, dots and ticks mean; which run is which; and which have diverged."""
    from matplotlib.lines import Line2D

    kinds: list[tuple[str, dict[str, Any]]] = []
    if any("train" in run.loss for run in runs):
        if width > 1:
            kinds.append((f"train, mean of {width} shown", {"color": TRAIN, "linewidth": 2}))
            kinds.append(("train, as shown", {"color": TRAIN, "linewidth": 0.6, "alpha": 0.6}))
        else:
            kinds.append(("train", {"color": TRAIN, "linewidth": 2}))
    if any(phase != "train" for run in runs for phase in run.loss):
        kinds.append(("test", {"color": TEST, "linewidth": 1, "marker": MARKERS[0], "markersize": DOT_SIZE}))
    if any(run.snapshots for run in runs):
        kinds.append(("snapshot", {"color": "black", "marker": "|", "linestyle": "none", "markersize": 9}))
    for number, run in enumerate(runs):
        if len(runs) > 1:
            kinds.append((shown(run.name, LONGEST), {"linewidth": 1.5, **_look(number, RUN, marked=True)}))
        if run.diverged_at is not None:
            whose = f"{run.name} " if len(runs) > 1 else ""
            kinds.append(
                (shown(f"{whose}diverged at iteration {run.diverged_at:,}", LONGEST), {"linewidth": 0})
            )
    lines = [Line2D([], [], label=label, **style) for label, style in kinds]
    legend = axes.legend(handles=lines, fontsize=SMALL, loc="upper right", framealpha=0.8)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names may have a $


def _scores(axes: Any, runs: Sequence[Run], across: _Across) -> None:
    ends = []
    for number, run in enumerate(runs):
        for (phase, name), series in run.scores.items():
            _line(axes, across, series, linewidth=1.2, **_look(number, SCORES, marked=True))
            of_phase = name if phase == "test" else f"{name} ({phase})"
            ends.append((_last(series.values), _named(runs, run, of_phase), SCORES))
    axes.set(ylabel="score", title="How well does it do?")
    _write_ends(axes, ends)


def _rate(axes: Any, runs: Sequence[Run], across: _Across) -> None:
    ends = []
    values = [value for run in runs for value in run.rate.values if value > 0]
    is_log = bool(values) and max(values) > 30 * min(values)
    for number, run in enumerate(runs):
        rate = _positive(run.rate) if is_log else run.rate
        _line(axes, across, rate, linewidth=1.5, **_look(number, RATE))
        if len(runs) > 1 and rate:
            ends.append((_last(rate.values), shown(run.name, LONGEST), RATE))
    axes.set(ylabel=f"rate{' (log)' if is_log else ''}", yscale="log" if is_log else "linear",
             title="Where was the learning rate cut?")  # fmt: skip
    if not is_log:
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))  # long numbers would run into the axis's name
    _write_ends(axes, ends)


def _ratios(axes: Any, runs: Sequence[Run], across: _Across) -> None:
    """‖Δw‖ / ‖w‖: of each layer's first parameter, from the first layer, dark, to the last; of others thin."""
    import matplotlib

    axes.axhspan(*USUAL, color=SCORES, alpha=0.12, linewidth=0)
    colours = matplotlib.colormaps["viridis"]
    ends = []
    for number, run in enumerate(runs):
        ratios = {key: norms.ratio for key, norms in run.norms.items()}
        first = {key: series for key, series in ratios.items() if key.endswith("/0")}
        named = set(_names_to_show(first))
        for i, (key, series) in enumerate(ratios.items()):
            colour = colours(0.8 * i / max(1, len(ratios) - 1))
            positive = _positive(series)
            weight = {"linewidth": 1.6} if key in first else {"linewidth": 0.5, "alpha": 0.6}
            _line(axes, across, positive, color=colour, linestyle=DASHES[number % len(DASHES)], **weight)
            if key in named:
                ends.append((_last(positive.values), _named(runs, run, key.removesuffix("/0")), colour))
    axes.set(ylabel="‖Δw‖ / ‖w‖ (log)", yscale="log",
             title="How large is an update beside the weights? Usual: the green band. Thin: biases")  # fmt: skip
    _write_ends(axes, ends)


def _names_to_show(ratios: Mapping[str, Series]) -> list[str]:
    """All of them, if they are few; else the first, the last, and those that change most and least."""
    if len(ratios) <= MOST_NAMES:
        return [*ratios]
    by_size = sorted(ratios, key=lambda key: _last(ratios[key].values))
    return [next(iter(ratios)), [*ratios][-1], by_size[0], by_size[-1]]


def _positive(series: Series) -> Series:
    """The series for a logarithmic axis: nan in the place of numbers that it does not have."""
    return replace(series, values=tuple(value if value > 0 else NAN for value in series.values))


def _last(values: Sequence[float]) -> float:
    """The last value that is a number, or nan."""
    return next((value for value in reversed(values) if math.isfinite(value)), NAN)


def _write_ends(axes: Any, ends: Sequence[tuple[float, str, Any]]) -> None:
    """Write names right of the axes, each at the height of its line's end but apart from the others."""
    axes.autoscale_view()  # the heights are those of the axes as they will be, with all that is in them
    to_axes = axes.transData + axes.transAxes.inverted()
    placed = sorted((float(to_axes.transform((1, y))[1]), text, colour) for y, text, colour in _finite(ends))
    gap = 1.25 * SMALL / (axes.get_position().height * axes.figure.get_figheight() * 72)
    heights = spread([y for y, _, _ in placed], gap)
    for y, (_, text, colour) in zip(heights, placed, strict=True):
        axes.annotate(text, (1, y), (4, 0), xycoords="axes fraction", textcoords="offset points", va="center",
                      color=colour, fontsize=SMALL, annotation_clip=False, parse_math=False)  # fmt: skip


def _finite(ends: Sequence[tuple[float, str, Any]]) -> list[tuple[float, str, Any]]:
    return [end for end in ends if math.isfinite(end[0])]


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Sorted places, moved to be at least ``gap`` apart: those that would touch stand around their middle."""
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1:
            below, above = groups[-2:]
            room = fmean(above) - fmean(below) - gap * (len(below) + len(above)) / 2
            if room >= -1e-12:
                break
            groups[-2:] = [below + above]
    return [fmean(group) + gap * (i - (len(group) - 1) / 2) for group in groups for i in range(len(group))]
