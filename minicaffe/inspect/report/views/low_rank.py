"""View 4, Low rank: what each layer loses at each rank, in three ways, and what the page rebuilds Ŵ from.

The page gets errors at all ranks, and in place of factors the bases that they follow from (``compress/ways.py``):
U (m × r) of the weights, V (m × r) of the answers, Q (k × r) of the data, with which Ŵ = U·Uᵀ·W and so on.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.compress.moments import Moments
from minicaffe.compress.survey import MatrixLayer, input_moments, matrix_layer
from minicaffe.compress.sweep import ALL, read_rows
from minicaffe.compress.ways import WAYS, Directions
from minicaffe.core.layer import Layer
from minicaffe.core.net import Net
from minicaffe.device import workers
from minicaffe.device.array import module_of, on_cpu, to_host
from minicaffe.errors import DataError, MinicaffeError, counted, listing
from minicaffe.inspect.confusion import Answers, find_answers
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer, Ref
from minicaffe.inspect.report.pictures import has_data
from minicaffe.inspect.report.rank_accuracy import RankAccuracy, first_rank, rank_accuracy
from minicaffe.inspect.report.record import Recording
from minicaffe.inspect.report.seen_images import SeenImages, seen_images, test_images
from minicaffe.inspect.report.weights import F16, precision
from minicaffe.inspect.summary import computed_counts
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.train.preview import count_multiply_adds, count_parameters
from minicaffe.train.progress import Progress
from minicaffe.train.scoring import images_of

logger = logging.getLogger("minicaffe")
DEPTH_CUBED = 4e9  # Σ K³ + M³ of the layers that are looked at: their factorizations take some seconds
DEEPEST = 4608  # K of a layer that is asked for by name: a minute and a half
COLUMN_WORK = 3e10  # multiply-adds for the covariances, and for the passes that give their columns
MOST_IMAGES = 512
SHARE, SHARE_WITH_W = 0.15, 0.08  # of the file, for bases; where W goes with them, as the net is large
ALL_COLUMNS = 128  # of a basis: up to here it is whole; beyond, as far as a rank is cheaper
FEW_COLUMNS = 64  # of a basis of the data, and of all bases where W goes with them
SHARE_OF_CURVES = 0.25  # of the file, for what each rank keeps
SHARE_OF_TEST = 0.1  # of the file, for test images
TEST_IMAGES, TEST_WORK = 200, 20_000_000  # that the page measures on; multiply-adds for an image


def check(net: Net, options: Options) -> None:
    """Read the journal that the view shows later. Raises DataError where it is none, or another net's."""
    layers = list(swept(options.sweep))
    if layers and not {layer.name for layer in net.layers}.intersection(layers):
        raise DataError(f"{options.sweep}: a sweep of another net: it has layers {listing(layers, 3)}")


def data(recording: Recording, packer: Packer, options: Options) -> dict[str, Any]:
    """What the page's view needs, or ``missing``."""
    layers, left_out = choose_layers(recording.net, options.layers)
    for name in _without_room(layers, options):
        left_out.append((name, f"no room in --max-size {options.max_size:g}; --layers {name} shows it"))
        del layers[name]
    if not layers:
        what = left_out[0][1] if left_out else "the net has no Convolution and no InnerProduct"
        return {"missing": what, "out": left_out}
    answers = _answers(recording.net)  # now, while all blobs have the shapes of one batch
    seen = seen_images(recording.net, recording.images, images_for(recording.net, layers))
    layers_are = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
    logger.info("Low rank: %s, on %s", layers_are, seen.text)
    moments = input_moments(recording.net, list(layers.values()), seen.batches)
    for name in [name for name, layer in layers.items() if not _is_finite(layer, moments[name])]:
        left_out.append((name, "its weights, or what goes into it, have nan or infinite numbers"))
        del layers[name]
    if not layers:
        return {"missing": left_out[-1][1], "out": left_out}
    found = _directions(layers, moments)
    accuracy = None
    if answers and options.test:
        accuracy = rank_accuracy(recording.net, answers, layers, moments, found, options.test)
    carried = _bases(recording, packer, options, layers, found)
    return {
        "seen": {"count": seen.count, "text": seen.text},
        "ways": list(WAYS),
        "layers": {
            name: {
                **_numbers(recording.net, layer, seen),
                "notes": _notes(recording.net, layer, seen, found[name]["weights"]),
                "curves": packer.add(_curves(found[name]), "f32", f"{name}/rank"),
                "spectra": packer.add(_spectra(found[name]), "f32", f"{name}/rank"),
                "means": packer.add(to_host(layer.means(moments[name])).reshape(-1), "f32", f"{name}/rank"),
                "bases": carried.get(name),
            }
            for name, layer in layers.items()
        },
        "out": left_out,
        "accuracy": None if accuracy is None else _measured(accuracy),
        "sweep": swept(options.sweep),
        "test": _test_images(recording, packer, options, answers) if answers else None,
    }


def _without_room(layers: Mapping[str, MatrixLayer], options: Options) -> list[str]:
    """The layers whose numbers at all ranks find no room in the file: those with little work for their size first.

    A layer that is asked for by name always has room.
    """
    left, out = options.budget(SHARE_OF_CURVES), []
    for name in sorted(layers, key=lambda name: -_work(layers[name]) / _told(layers[name])):
        size = _told(layers[name])
        fits = size <= left or bool(options.layers)
        left -= size if fits else 0
        if not fits:
            out.append(name)
    return out


def _told(layer: MatrixLayer) -> int:
    """Bytes in the file of a layer's curves, spectra and means: three ways, at ranks 0 … n."""
    ways, depth = len(WAYS), layer.scheme.group * layer.scheme.matrix_shape[1]
    return (ways * (3 * (layer.full_rank + 1) + layer.full_rank) + depth) * 4 * 4 // 3


def _directions(
    layers: Mapping[str, MatrixLayer], moments: Mapping[str, Moments]
) -> dict[str, dict[str, Directions]]:
    """What each way keeps of each layer.

    On a CPU the workers take the factorizations in turns, the largest first. One by one, with as many threads as
    BLAS likes, they wait for each other at every column: on a busy machine that was ten times the work.
    """
    tasks = [(name, way) for way in WAYS for name in layers]
    tasks.sort(key=lambda task: -_way_cube(layers[task[0]], task[1]))
    total = sum(_way_cube(layers[name], way) for name, way in tasks)
    found: dict[tuple[str, str], Directions] = {}
    progress, lock = Progress(100, "% of the spectra"), threading.Lock()

    def find(task: tuple[str, str], worker: int) -> None:
        name, way = task
        directions = layers[name].directions(way, moments[name])
        with lock:
            found[task] = directions
            done = sum(_way_cube(layers[n], w) for n, w in found)
            progress.say_some(int(100 * done / total) - progress.done)

    on_host = all(on_cpu(layer.weights) for layer in layers.values())
    workers.share_products(find, tasks, workers.worker_count if on_host else 1)
    return {name: {way: found[name, way] for way in WAYS} for name in layers}


def _way_cube(layer: MatrixLayer, way: str) -> float:
    """About the work of one way's factorization."""
    m, k = layer.scheme.matrix_shape
    return float(layer.scheme.group) * (k if way == "data" else m) ** 3


def choose_layers(
    net: Net, names: tuple[str, ...] | list[str] | Any = ()
) -> tuple[dict[str, MatrixLayer], list[tuple[str, str]]]:
    """The layers that are looked at, in the net's order, and of the other products (name, why not).

    Without ``names`` those with much work for the size of their matrices come first, until their eigenvectors would
    take too long.
    """
    found, left_out = {}, []
    for step in net.steps:
        layer = matrix_layer(step)
        if isinstance(layer, MatrixLayer):
            found[layer.name] = layer
        elif step.layer.type in ("Convolution", "InnerProduct"):
            left_out.append((step.layer.name, layer))
    budget, chosen = DEPTH_CUBED, set()
    for name, layer in sorted(found.items(), key=lambda item: _cube(item[1]) / _work(item[1])):
        depth = layer.scheme.matrix_shape[1]
        if names:
            if name in names and depth <= DEEPEST:
                chosen.add(name)
            else:
                what = f"K = {depth:,} is more than {DEEPEST:,}" if name in names else "not among --layers"
                left_out.append((name, what))
        elif _cube(layer) <= budget:
            chosen.add(name)
            budget -= _cube(layer)
        else:
            what = f"K = {depth:,}: its principal components would take long; --layers {name} shows it"
            left_out.append((name, what if depth <= DEEPEST else f"K = {depth:,} is more than {DEEPEST:,}"))
    return {name: layer for name, layer in found.items() if name in chosen}, left_out


def _is_finite(layer: MatrixLayer, moments: Moments) -> bool:
    """Whether there are factorizations: of nan there are none, and of weights that diverged."""
    arrays = [layer.weights, moments.xx, moments.yx, moments.yy, moments.x_mean, moments.y_mean]
    return all(bool(module_of(array).isfinite(array).all()) for array in arrays)


def _cube(layer: MatrixLayer) -> float:
    """About the work of the layer's factorizations."""
    m, k = layer.scheme.matrix_shape
    return float(layer.scheme.group) * (k**3 + m**3)


def _work(layer: MatrixLayer) -> int:
    return layer.product.geometry.multiply_adds


def images_for(net: Net, layers: Mapping[str, MatrixLayer]) -> int:
    """How many images the covariances are computed from."""
    one = count_multiply_adds(net) + sum(
        math.prod(layer.product.geometry.output) * layer.scheme.group * layer.scheme.matrix_shape[1] ** 2
        for layer in layers.values()
    )
    return max(8, min(MOST_IMAGES, int(COLUMN_WORK / one)))


# -- numbers -----------------------------------------------------------------------------------------------


def _numbers(net: Net, layer: MatrixLayer, seen: SeenImages) -> dict[str, Any]:
    m, k = layer.scheme.matrix_shape
    geometry = layer.product.geometry
    step = next(step for step in net.steps if step.layer.name == layer.name)
    numbers = sum(computed_counts(step.layer)) - (0 if layer.bias is None else layer.bias.size)
    return {
        "m": m,
        "k": k,
        "group": layer.scheme.group,
        "kernel": list(geometry.window.kernel),
        "full": layer.full_rank,
        "start": first_rank(layer),
        "rank": None if layer.way == "spatial" else layer.rank,
        "shared": _sharers(net, step.layer),
        "way": layer.way,
        "factored": layer.factored,
        "bias": layer.bias is not None,
        "dense": geometry.multiply_adds,
        "now": {"numbers": numbers, "work": step.multiply_adds},
        "cost_of_rank": layer.cost_of_rank,
        "break_even": layer.break_even,
        "columns": _columns(layer, seen),
    }


def _notes(net: Net, layer: MatrixLayer, seen: SeenImages, by_weights: Directions) -> list[str]:
    """What is to be known of a layer before its numbers are believed."""
    columns, name = _columns(layer, seen), layer.name
    step = next(step for step in net.steps if step.layer.name == name)
    notes = []
    if columns < layer.full_rank:
        notes.append(
            f"b and c are fitted to only {counted(columns, 'column')} of X, and the errors are those of these: "
            f"they say nothing of other images. From rank {columns:,} on b is exact."
        )
    if sharers := _sharers(net, step.layer):
        notes.append(
            f"{name} shares its weights with {listing(sharers)}: a rank chosen here is for {name} alone."
        )
    if layer.way == "spatial" and isinstance(step.layer, LowRankLayer):
        notes.append(_spatial_note(layer, step.layer, step.multiply_adds, by_weights))
    return notes


def _spatial_note(layer: MatrixLayer, own: LowRankLayer, work: int, by_weights: Directions) -> str:
    """How a layer of the spatial scheme is split, and the split over filters that is as much work."""
    geometry = layer.product.geometry
    filters, (kh, kw) = geometry.weight_shape[0], geometry.window.kernel
    first = (layer.rank or 0) * layer.scheme.group
    same = min(layer.full_rank, max(1, round(work / layer.cost_of_rank)))
    kept = own.low_rank.energy_kept()
    lost = other = ""
    if kept is not None:
        lost = f", W off by {max(0.0, 1 - kept) ** 0.5:.3g}"
        other = f" (W off by {float(by_weights.weight_errors[same]):.3g} by a)"
    return (
        f"In this net {layer.name} is split in space: {counted(first, 'filter')} of {kh} × 1, then {filters:,} of "
        f"1 × {kw} ({work:,} multiply-adds{lost}). Shown is the other split, W ≈ A·B: as much work gives it rank "
        f"{same:,}{other}."
    )


def _columns(layer: MatrixLayer, seen: SeenImages) -> int:
    return seen.count * math.prod(layer.product.geometry.output)


def _sharers(net: Net, layer: Layer) -> list[str]:
    """The other layers that have the layer's weights."""
    weights = layer.blobs[0].data_owner
    return [
        other.name
        for other in net.layers
        if other is not layer and any(blob.data_owner is weights for blob in other.blobs)
    ]


def _curves(found: Mapping[str, Directions]) -> np.ndarray:
    """(ways, 3, n + 1): errors of the answers and of W, and the energy kept, at ranks 0 … n."""
    return np.stack(
        [[to_host(c) for c in (d.response_errors, d.weight_errors, d.energy)] for d in found.values()]
    )


def _spectra(found: Mapping[str, Directions]) -> np.ndarray:
    """(ways, n): root mean squares over the groups."""
    return np.stack([to_host(((d.spectrum**2).mean(axis=0)) ** 0.5) for d in found.values()])


# -- bases -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Carried:
    """The arrays of one layer, (g, …), and about the bytes that they take in the file."""

    arrays: dict[str, np.ndarray]

    @property
    def size(self) -> float:
        return sum(array.size for array in self.arrays.values()) * 2 * 4 / 3


def _bases(
    recording: Recording,
    packer: Packer,
    options: Options,
    layers: Mapping[str, MatrixLayer],
    found: Mapping[str, Mapping[str, Directions]],
) -> dict[str, dict[str, Ref]]:
    """References to U, V and Q, and to W where the page lacks it, as far as there is room.

    Layers with much work for the size of their bases come first.
    """
    needs_w = precision(recording, options) is None
    carried = {
        name: _arrays(layer, found[name], needs_w or _is_turned(recording.net, name))
        for name, layer in layers.items()
    }
    left = options.budget(SHARE_WITH_W if needs_w else SHARE)
    refs = {}
    for name in sorted(layers, key=lambda n: -_work(layers[n]) / carried[n].size):
        if carried[name].size <= left:
            left -= int(carried[name].size)
            refs[name] = {
                key: packer.add(array, "f16", f"{name}/rank") for key, array in carried[name].arrays.items()
            }
    return refs


def _arrays(layer: MatrixLayer, found: Mapping[str, Directions], with_w: bool) -> _Carried:
    most = layer.full_rank if layer.full_rank <= ALL_COLUMNS else max(layer.break_even, layer.rank or 0)
    few = max(FEW_COLUMNS, layer.rank or 0)
    arrays = {
        way: to_host(d.vectors[..., : min(most, few) if way == "data" or with_w else most])
        for way, d in found.items()
    }
    return _Carried({**arrays, **({"w": to_host(layer.weights)} if with_w else {})})


def _is_turned(net: Net, name: str) -> bool:
    """Whether the layer's first parameter is something else than W row by row."""
    layer = next(layer for layer in net.layers if layer.name == name)
    factored = isinstance(layer, LowRankLayer) and layer.low_rank.param.factored
    return factored or bool(getattr(layer, "transpose", False))


# -- accuracy ----------------------------------------------------------------------------------------------


def _measured(found: RankAccuracy) -> dict[str, Any]:
    return {"count": found.count, "dense": found.dense, "points": found.points}


def swept(path: str | Path | None) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Accuracies against rank by layer and scheme, from a journal of ``lowrank sweep``. Raises DataError."""
    if path is None:
        return {}
    points: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for scheme, rows in read_rows(Path(path)).items():
        for row in rows:
            if row.layer != ALL and len(row.ranks) == 1:
                points.setdefault(row.layer, {}).setdefault(scheme.lower(), []).append(
                    (row.ranks[0], row.accuracy)
                )
    return {layer: {s: sorted(p) for s, p in ways.items()} for layer, ways in points.items()}


def _answers(net: Net) -> Answers | None:
    """Where a net with data has its scores and labels."""
    try:
        return find_answers(net) if has_data(net) else None
    except MinicaffeError:
        return None


def _test_images(
    recording: Recording, packer: Packer, options: Options, answers: Answers
) -> dict[str, Any] | None:
    """Test images that the page may run the net on, 8 bits for each channel, and their labels."""
    net = recording.net
    fitting = (
        options.budget(SHARE_OF_TEST) * 3 // 4 // max(1, net.blobs[recording.input].count // images_of(net))
    )
    small = count_parameters(net)[0] <= F16 and count_multiply_adds(net) <= TEST_WORK
    if not small or not fitting or recording.answer is None:
        return None
    found = test_images(net, answers, recording.input, min(TEST_IMAGES, fitting))
    if found is None:
        return None
    images, labels = found
    planes = [packer.add(images[:, c], "u8", "test images") for c in range(images.shape[1])]
    return {"planes": planes, "labels": labels.tolist(), "count": len(labels)}
