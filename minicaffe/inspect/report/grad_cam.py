"""Grad-CAM: where the maps of a convolution raise the score of a class (Selvaraju et al. 2017, arXiv 1610.02391).

    map = Σ_c α_c · A_c, cut at 0, with α_c = mean over H, W of d log p / dA_c

A (C, H, W) are the convolution's outputs as the layers in place leave them. (In the paper it is the gradient of the
score itself; log p is what occlusion looks at, too.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import MinicaffeError
from minicaffe.inspect.report.occlusion import BEST, best_classes
from minicaffe.inspect.report.record import RecordedLayer, Recording, Stage
from minicaffe.inspect.report.scorer import Scorer
from minicaffe.layers.convolution import Convolution

MOST_MULTIPLY_ADDS = 50e9  # of all passes: some seconds on two cores
LARGEST = 32  # pixels a side; of larger maps squares of pixels are averaged


def grad_cams(recording: Recording, room: int) -> tuple[list[list[int]], dict[str, np.ndarray]]:
    """The classes of each picture, and each convolution's maps (n, h, w): picture by picture, class by class.

    The classes are the best ones and the label, or the best one and the label if all maps are to be ``room``
    numbers at most. Where these would take too long or too much room, it is the one of the picture's loss.
    """
    found = ((layer.name, _stage(recording, layer)) for layer in recording.layers)
    stages = {name: stage for name, stage in found if stage is not None}
    try:
        classes, alphas = _of_best_classes(recording, stages, room)
    except MinicaffeError:  # the scores depend on more than the picture
        classes, alphas = _of_losses(recording, stages)
    counts = [len(each) for each in classes]
    return classes, {
        name: _averaged(np.maximum(_sums(stages[name].values, np.array(alphas[name]), counts), 0))
        for name in stages
    }


def _sums(values: np.ndarray, alphas: np.ndarray, counts: list[int]) -> np.ndarray:
    """Σ_c α_c · A_c (n, h, w) for alphas (n, c), of which ``counts[i]`` are of picture i of values (…, c, h, w)."""
    ends = np.cumsum(counts)
    parts = [
        np.einsum("kc,chw->khw", alphas[end - count : end], picture)
        for picture, count, end in zip(values, counts, ends, strict=True)
    ]
    return np.concatenate(parts)


def _averaged(maps: np.ndarray) -> np.ndarray:
    """Maps (n, h, w) of at most LARGEST pixels a side: means of squares."""
    step = -(-max(maps.shape[1:]) // LARGEST)
    (a, height), (b, width) = ((min(step, size), max(1, size // step)) for size in maps.shape[1:])
    squares = maps[:, : a * height, : b * width].reshape(len(maps), height, a, width, b)
    return np.asarray(squares.mean((2, 4)))


def _stage(recording: Recording, layer: RecordedLayer) -> Stage | None:
    """What a convolution's first top becomes by the layers in place; None where Grad-CAM has no map of it."""
    if not isinstance(layer.layer, Convolution):
        return None
    stage = recording.stages[last_in_place(recording, layer.tops[0])]
    if stage.diff is None or stage.values.ndim != 4 or stage.values[0, 0].size == 1:
        return None
    return stage


def last_in_place(recording: Recording, key: str) -> str:
    """The stage that a blob has after the layers in place that follow."""
    blob = recording.stages[key].blob
    while True:
        after = [layer for layer in recording.layers if key in layer.bottoms]
        tops = [top for layer in after for top in layer.tops if recording.stages[top].blob == blob]
        if not tops:
            return key
        key = tops[0]


# -- the α ----------------------------------------------------------------------------------------------------


def _of_losses(
    recording: Recording, stages: dict[str, Stage]
) -> tuple[list[list[int]], dict[str, list[np.ndarray]]]:
    """Of each picture's loss, whose gradients were recorded: that of its label, or else of its best class."""
    assert recording.scores is not None
    classes = []
    for scores, image in zip(recording.scores, recording.images, strict=True):
        label = image.label
        classes.append([int(scores.argmax()) if label is None or label >= len(scores) else label])
    alphas = {}
    for name, stage in stages.items():
        assert stage.diff is not None
        alphas[name] = list(-stage.diff.mean(axis=(2, 3), dtype=np.float64))
    return classes, alphas


def _of_best_classes(
    recording: Recording, stages: dict[str, Stage], room: int
) -> tuple[list[list[int]], dict[str, list[np.ndarray]]]:
    """Of the best classes and the label, by a pass backward for each. Raises MinicaffeError if that is too much."""
    assert recording.answer is not None
    net, blob = recording.net, recording.stages[recording.answer].blob
    scorer = Scorer(net, recording.input, blob, recording.softmax)
    count = len(recording.images)
    size = sum(_averaged(np.empty((1, *stage.shape[1:]))).size for stage in stages.values())
    for best in (BEST, 1):
        work = scorer.multiply_adds * count * (best + 2)  # a pass forward, and one backward for each class
        if size * count * (best + 1) <= room and work <= MOST_MULTIPLY_ADDS:
            break
    else:
        raise MinicaffeError("too large")
    by_layer = {stage.layer: name for name, stage in stages.items()}
    classes: list[list[int]] = []
    alphas: dict[str, list[np.ndarray]] = {name: [] for name in stages}
    with scorer, _without_parameters(net):
        for image in recording.images:
            scores = scorer(image.arrays[recording.input])[0]
            classes.append(best_classes(scores, image.label, best))
            for chosen in classes[-1]:
                for each in net.blobs.values():
                    each.clear_diff()
                diff = -np.exp(scores, dtype=np.float64) if scorer.is_log_p else np.zeros(scores.shape)
                diff[chosen] = -np.expm1(scores[chosen], dtype=np.float64) if scorer.is_log_p else 1
                start = net.blobs[scorer.scores]
                start.diff[...] = net.setting.device.put(diff.reshape(start.shape), net.setting.dtype)
                for i in reversed(scorer.steps):
                    name = by_layer.get(net.layers[i].name)
                    if name is not None:  # its gradient is whole now
                        top = to_host(net.blobs[stages[name].blob].diff)
                        alphas[name].append(top[0].mean(axis=(1, 2), dtype=np.float64))
                    net.run_backward(i, i)
    return classes, alphas


@contextmanager
def _without_parameters(net: Net) -> Iterator[None]:
    """Backward leaves the gradients of the parameters alone."""
    wanted = [layer.param_propagate_down for layer in net.layers]
    for layer in net.layers:
        layer.param_propagate_down = [False] * len(layer.param_propagate_down)
    try:
        yield
    finally:
        for layer, flags in zip(net.layers, wanted, strict=True):
            layer.param_propagate_down = flags
