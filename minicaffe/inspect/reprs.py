"""What a notebook shows of a net, a layer, a blob and a solver: HTML that needs no JavaScript, at most 200 KB.

Colours are seen on a light page and on a dark one; text has the page's own.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import DataError, shown
from minicaffe.inspect import tiles
from minicaffe.inspect.formula import formula_of
from minicaffe.inspect.logs import Series, read_log
from minicaffe.inspect.report.facts import BINS, kind_of, settings_of, statistics
from minicaffe.inspect.summary import (
    LayerRow,
    count_computed,
    in_bytes,
    layer_rows,
    note_of,
    rank_text,
    shape_text,
    share_text,
    title_of,
    tops_text,
)
from minicaffe.train.preview import count_multiply_adds
from minicaffe.train.solver import Solver

LARGEST = 90_000  # characters of a drawing, and of a table
MOST_PICTURES = 150_000  # characters of all pictures of a layer
MOST_NOTES = 20
MOST_NUMBERS = 2_000_000  # that statistics are made of; of larger arrays some are taken
FEW = 20  # numbers that are written out
COLORS = "#4a8fd6", "#cf5560"  # of lines
STYLE = """<style>
.minicaffe{font:14px/1.4 system-ui,sans-serif;max-width:1200px;print-color-adjust:exact}
.minicaffe p{margin:4px 0}
.minicaffe .side{display:flex;gap:16px;align-items:flex-start;flex-wrap:wrap}
.minicaffe .scroll{max-height:720px;max-width:100%;overflow:auto}
.minicaffe pre{font-size:13px;margin:6px 0;padding:4px 8px;background:#8882}
.minicaffe table{border-collapse:collapse;margin:4px 0;font-variant-numeric:tabular-nums}
.minicaffe th,.minicaffe td{padding:1px 7px;border:0;border-bottom:1px solid #8885;background:none}
.minicaffe th,.minicaffe td{text-align:left;white-space:nowrap}
.minicaffe td.n,.minicaffe th.n{text-align:right}
.minicaffe .quiet{opacity:.75}
.minicaffe img{display:block;margin:4px 0;max-width:100%;height:auto}
.minicaffe td:first-child{border-left:4px solid #808a94}
.minicaffe .conv td:first-child{border-left-color:#4a8fd6}
.minicaffe .ip td:first-child{border-left-color:#9a72d0}
.minicaffe .pool td:first-child{border-left-color:#c8772e}
.minicaffe .data td:first-child{border-left-color:#3d9a72}
.minicaffe .loss td:first-child{border-left-color:#cf5560}
.minicaffe td.n span{display:block;padding-left:62px}
.minicaffe td.n span{background:linear-gradient(#4a8fd699,#4a8fd699) no-repeat left/0 60%}
@media print{.minicaffe .scroll{max-height:none;overflow:visible}.minicaffe table{font-size:11px}}
@media print{.minicaffe th,.minicaffe td{padding:0 4px}.minicaffe td.n span{padding-left:0;background:none}}
</style>"""


@singledispatch
def page_of(shown: object) -> str:
    """The HTML of a net, a layer, a blob or a solver. Raises TypeError for anything else."""
    raise TypeError(f"{type(shown).__name__}: has no page")


@page_of.register
def _net(net: Net) -> str:
    """The drawing of a net, and its table of layers."""
    params, fixed = count_computed(net)
    rows = [row for row in layer_rows(net) if row.type != "Split"]  # which nobody has written
    memory = sum(row.activation_bytes for row in rows)
    facts = [net.state.phase, f"{params:,} parameters", f"{fixed:,} of them not trained" if fixed else ""]
    facts += [f"{count_multiply_adds(net):,} multiply-adds and {in_bytes(memory)} of tops an image"]
    kinds = {layer.name: kind_of(layer) for layer in net.layers}
    return _page(_head(title_of(net), facts), f'<div class="side">{_drawing(net)}{_table(rows, kinds)}</div>')


def _drawing(net: Net) -> str:
    svg = net.draw().svg()
    if len(svg) > LARGEST:
        return '<p class="quiet">The drawing is too large for here: net.draw() shows it.</p>'
    return f'<div class="scroll">{svg}</div>'


def _table(rows: Sequence[LayerRow], kinds: dict[str, str]) -> str:
    has_ranks = any(row.full_rank for row in rows)
    heads = ["layer", "type", "top", "parameters", "share", "multiply-adds", "share", "memory"]
    heads += ["rank"] * has_ranks
    lines = [_tr([_cell(head, 3 <= i < 9, "th") for i, head in enumerate(heads)])]
    size = 0
    for row in rows:
        params, work = row.params, row.multiply_adds
        cells = [_cell(row.name), _cell(row.type), _cell(tops_text(row.tops))]
        cells += [_cell(f"{params:,}" if params else "", True), _share(row.params_share if params else None)]
        cells += [_cell(f"{work:,}" if work else "", True), _share(row.multiply_adds_share if work else None)]
        cells += [_cell(in_bytes(row.activation_bytes) if row.activation_bytes else "", True)]
        cells += [_cell(rank_text(row), True)] * has_ranks
        lines.append(_tr(cells, kinds[row.name]))
        size += len(lines[-1])
        if size > LARGEST:
            break
    more = len(rows) + 1 - len(lines)
    rest = f'<p class="quiet">and {more} layers more, which "minicaffe summary" shows</p>' if more else ""
    noted = [f"{row.name}: {note_of(row)}" for row in rows if row.note]
    noted[MOST_NOTES:] = [f"and {len(noted) - MOST_NOTES} such layers more"] * (len(noted) > MOST_NOTES)
    notes = "".join(f'<p class="quiet">{_text(note)}</p>' for note in noted)
    return f'<div class="scroll"><table>{"".join(lines)}</table>{rest}{notes}</div>'


@page_of.register
def _layer(layer: Layer) -> str:
    """What a layer computes, with its settings, the shapes around it, and its parameters and top as pictures."""
    ends = ((layer.spec.bottom, layer.bottom_blobs), (layer.spec.top, layer.top_blobs))
    rows = [("from", "to")[i] for i, (_, blobs) in enumerate(ends) for _ in blobs]
    names = [(name, blob) for names, blobs in ends for name, blob in zip(names, blobs, strict=False)]
    table = [(side, f"{name} {_shape(blob)}") for side, (name, blob) in zip(rows, names, strict=True)]
    parts = [_head(layer.name, [layer.type, layer.note]), f"<pre>{_text(formula_of(layer))}</pre>"]
    parts.append(_facts([*table, *settings_of(layer)]))
    shown_blobs = [(f"params[{layer.name!r}][{i}]", blob) for i, blob in enumerate(layer.blobs)]
    shown_blobs += [
        (f"blobs[{name!r}]", blob) for name, blob in zip(layer.spec.top, layer.top_blobs, strict=False)
    ]
    room = MOST_PICTURES
    for i, (name, blob) in enumerate(shown_blobs):
        if blob.has_data and blob.count:
            parts.append(f"<p><b>{_text(name)}</b> {_shape(blob)}{_range(blob)}</p>")
            is_parameter = i < len(layer.blobs)
            picture = _picture_of_parameter(layer, blob) if is_parameter else _picture_of_blob(_numbers(blob))
            room -= len(picture)
            parts.append(picture if room > 0 else "")
    return _page(*parts)


def _picture_of_parameter(layer: Layer, blob: Blob) -> str:
    """Kernels as pictures; the weights of an InnerProduct as maps, where its bottom is of maps."""
    values = _numbers(blob)
    bottom = layer.bottom_blobs[0].shape if layer.bottom_blobs else ()
    if values.ndim == 2 and len(bottom) == 4 and bottom[3] > 1 and values[0].size == math.prod(bottom[1:]):
        values = values.reshape(len(values), *bottom[1:])
    return _picture_of_kernels(values) if values.ndim == 4 else _picture_of_blob(values)


def _picture_of_kernels(w: np.ndarray) -> str:
    """Kernels (M, C, kh, kw): one tile a filter for one or three slices, else a row of slices a filter."""
    filters, slices = w.shape[:2]
    if w[0, 0].size == 1:
        return _picture(
            tiles.tiles_of(w[None, :, :, 0, 0]), f"{filters} filters down, {slices} slices across"
        )
    if slices in (1, 3):
        count = min(filters, tiles.MOST)
        found = tiles.tiles_of(w[:count, 0]) if slices == 1 else tiles.color_tiles_of(w[:count])
        return _picture(found, _some(count, filters, "filters"))
    across, down = min(slices, 16), min(filters, 8)
    found = tiles.tiles_of(w[:down, :across].reshape(-1, *w.shape[2:]), columns=across)
    return _picture(
        found, f"{_some(down, filters, 'filters')} down, {_some(across, slices, 'slices')} across"
    )


@page_of.register
def _blob(blob: Blob) -> str:
    """The shape of a blob, what numbers it holds and how they are spread, and its maps."""
    head = _head("Blob", [_shape(blob), str(blob.dtype), f"on {blob.device}"])
    if not blob.has_data or not blob.count:
        return _page(head, f'<p class="quiet">{"empty" if not blob.count else "no data yet"}</p>')
    values = _numbers(blob)
    picture = (
        _picture_of_kernels(values) if values.ndim == 4 and not blob.batch_last else _picture_of_blob(values)
    )
    return _page(head, _statistics(values), picture)


def _statistics(values: np.ndarray) -> str:
    """Least, mean and largest number with a histogram, or the numbers themselves if they are few."""
    flat = values.ravel()
    every = -(-flat.size // MOST_NUMBERS)
    found = statistics(flat[::every])
    bad = found.get("not_finite", 0)
    parts = [f'<p class="quiet">of one number in {every}:</p>'] if every > 1 else []
    if bad:
        parts.append(f"<p><b>{bad:,} of {found['count']:,} numbers are not finite</b></p>")
    if flat.size <= FEW:
        parts.append(f"<pre>{_text(np.array2string(values, precision=4))}</pre>")
    if bad < found["count"] > 1:
        total = found["count"]
        words = [f"{name} {found[name]:.4g}" for name in ("min", "mean", "max", "std")]
        words += [f"{found['zeros'] / total:.1%} zeros", f"{found['not_positive'] / total:.1%} ≤ 0"]
        parts.append(f"<p>{_text(' · '.join(words))}</p>")
        if flat.size > FEW:
            parts.append(_histogram(found["histogram"]))
    return "".join(parts)


def _histogram(found: dict[str, Any]) -> str:
    """Bars of how many numbers, zeros apart, lie in each 64th of the range."""
    counts, lo, hi = found["counts"], found["lo"], found["hi"]
    top = max(max(counts), 1)
    bars = "".join(
        f'<rect x="{5 * i}" y="{60 - 60 * n / top:.1f}" width="4" height="{60 * n / top:.1f}"/>'
        for i, n in enumerate(counts)
        if n
    )
    zero = 5 * BINS * -lo / (hi - lo) if lo < 0 < hi else None
    line = "" if zero is None else f'<path d="M{zero:.1f} 0V64" stroke="#cf5560" stroke-width="1"/>'
    at_zero = f'<text x="{zero:.1f}" y="76" text-anchor="middle">0</text>' if zero and 60 < zero < 260 else ""
    return (
        f'<svg width="340" height="80" viewBox="-5 0 340 80" fill="currentColor" font-size="12" role="img" '
        f'aria-label="histogram from {lo:.4g} to {hi:.4g}"><g fill="#4a8fd6">{bars}</g>'
        f'<path d="M0 60.5H320" stroke="currentColor" opacity=".6"/>{line}{at_zero}'
        f'<text x="0" y="76">{lo:.4g}</text><text x="320" y="76" text-anchor="end">{hi:.4g}</text></svg>'
    )


def _picture_of_blob(values: np.ndarray) -> str:
    """Up to 64 images of one or three channels, or else maps of the first image; a table of numbers as one tile."""
    if values.ndim == 4 and values[0, 0].size > 1:
        images, maps = values.shape[:2]
        if maps in (1, 3):
            count = min(images, tiles.MOST)
            found = tiles.tiles_of(values[:count, 0]) if maps == 1 else tiles.color_tiles_of(values[:count])
            return _picture(found, _some(count, images, "images"))
        count = min(maps, tiles.MOST)
        return _picture(tiles.tiles_of(values[0, :count]), f"{_some(count, maps, 'maps')} of image 0")
    if values.ndim >= 2 and values.size > FEW:
        rows = values.reshape(len(values), -1) if values.ndim != 3 else values[0]
        if min(rows.shape) > 1:
            return _picture(tiles.table_of(rows), f"{len(rows)} rows, {rows.shape[1]} columns")
    return ""


@page_of.register
def _solver(solver: Solver) -> str:
    """Where a training is: its iteration, learning rate and loss; and the net that it trains."""
    spec, last = solver.spec, solver.spec.max_iter
    facts = [spec.type, f"iteration {solver.iter:,}" + (f" of {last:,}" if last is not None else "")]
    bar = f'<progress max="{last}" value="{min(solver.iter, last)}"></progress>' if last else ""
    mean = f" (mean of {len(solver.losses)})" if len(solver.losses) > 1 else ""
    rows = [("learning rate", f"{solver.learning_rate():.6g}")]
    rows += [("last loss", f"{solver.smoothed_loss():.6g}{mean}")] if solver.losses else []
    rows += [("test nets", str(len(solver.test_nets)))] if solver.test_nets else []
    rows += [("snapshots", f"{solver.prefix}_iter_…")] if solver.prefix else []
    rows += [("log", str(solver.log.path))] if solver.log.path is not None else []
    parts = [_head(f"Solver of {title_of(solver.net)}", facts), bar, _facts(rows), _losses(solver)]
    net = f"<details><summary>{_text(repr(solver.net))}</summary>{_net(solver.net)}</details>"
    return _page(*parts, net)


def _losses(solver: Solver) -> str:
    """The losses of this training so far, as its log has them."""
    if solver.log.path is None or not solver.losses:
        return ""
    try:
        run = read_log(solver.log.path)[-1]
    except DataError:  # nothing was shown yet
        return ""
    return _curve(run.loss)


def _curve(found: Mapping[str, Series]) -> str:
    """Loss over iterations, a line for each phase that has at least two finite numbers."""
    points = {
        phase: [(x, y) for x, y in zip(series.iterations, series.values, strict=True) if math.isfinite(y)]
        for phase, series in sorted(found.items(), key=lambda one: one[0] != "train")
    }
    lines = {phase: each for phase, each in points.items() if len(each) > 1}
    if not lines:
        return ""
    end = max(x for each in lines.values() for x, _ in each) or 1
    top = max(y for each in lines.values() for _, y in each) or 1.0
    drawn, told = [], []
    for i, (phase, each) in enumerate(lines.items()):
        path = " ".join(f"{30 + 400 * x / end:.1f},{105 - 100 * max(y, 0) / top:.1f}" for x, y in each)
        dash = f' stroke-dasharray="{2 + 3 * i} 3"' if i else ""
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{COLORS[i % 2]}" stroke-width="2"{dash}/>'
        )
        told.append(f"{phase} loss {each[-1][1]:.4g}{' (red, dashed)' if i else ''}")
    return (
        f'<svg width="440" height="124" viewBox="0 0 440 124" fill="currentColor" font-size="12" role="img" '
        f'aria-label="loss over iterations"><path d="M30.5 5V105.5H430" fill="none" stroke="currentColor" '
        f'opacity=".6"/>{"".join(drawn)}<text x="26" y="14" text-anchor="end">{top:.2g}</text>'
        f'<text x="26" y="108" text-anchor="end">0</text><text x="430" y="120" text-anchor="end">iteration {end:,}'
        f"</text></svg><p>{_text(' · '.join(told))}</p>"
    )


# -- pieces ----------------------------------------------------------------------------------------------------


def _numbers(blob: Blob) -> np.ndarray:
    return np.asarray(to_host(blob.data))


def _shape(blob: Blob) -> str:
    return f"({shape_text(blob.shape)})"


def _range(blob: Blob) -> str:
    """The least and the largest number of a blob that holds data."""
    values = _numbers(blob)
    lo, hi = float(values.min()), float(values.max())
    return f" = {lo:.4g}" if blob.count == 1 else f" · {lo:.4g} … {hi:.4g}"


def _picture(found: tiles.Tiles, caption: str) -> str:
    width, height = found.size
    ends = ""
    if found.lo is not None and found.hi is not None:
        minus = f"red {found.lo:.4g} … " if found.lo < 0 else ""
        ends = f"; {minus}0 … {found.hi:.4g} blue"
    text = _text(caption + ends)
    return (
        f'<img src="{found.uri}" width="{width}" height="{height}" alt="{text}"><p class="quiet">{text}</p>'
    )


def _some(count: int, whole: int, what: str) -> str:
    """How many of something: "20 maps", "1 map", "64 of 96 maps"."""
    if count < whole:
        return f"{count} of {whole} {what}"
    return f"{whole} {what if whole > 1 else what.removesuffix('s')}"


def _head(title: str, facts: Iterable[str]) -> str:
    return f"<p><b>{_text(title)}</b> {_text(' · '.join(filter(None, facts)))}</p>"


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    lines = [_tr([_cell(name, kind="th"), _cell(value)], "plain") for name, value in rows]
    return f"<table>{''.join(lines)}</table>" if lines else ""


def _tr(cells: Iterable[str], kind: str = "") -> str:
    return f"<tr{f' class={kind}' if kind else ''}>{''.join(cells)}</tr>"


def _cell(text: str, is_number: bool = False, kind: str = "td") -> str:
    return f"<{kind}{' class=n' if is_number else ''}>{_text(text)}</{kind}>"


def _share(part: float | None) -> str:
    """A share, with a bar as long as it is."""
    if part is None:
        return "<td></td>"
    bar = f' style="background-size:{60 * part:.0f}px 60%"' if part >= 0.005 else ""
    return f"<td class=n><span{bar}>{share_text(part)}</span></td>"


def _text(text: str) -> str:
    return html.escape(shown(text, 400))


def _page(*parts: str) -> str:
    return f'<div class="minicaffe">{STYLE}{"".join(parts)}</div>'
