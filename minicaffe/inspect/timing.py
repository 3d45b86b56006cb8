"""Time of each layer, forward and backward, as ``caffe time`` measures it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from minicaffe.core.net import Net
from minicaffe.core.table import format_table
from minicaffe.device.array import synchronize


def time_net(net: Net, iterations: int) -> str:
    """A table of median milliseconds over ``iterations`` passes, after one that is not counted."""
    for name in net.gradient_starts:
        net.blobs[name].diff[...] = 1  # where there is no loss, backward starts at the outputs
    forward: list[list[float]] = [[] for _ in net.layers]
    backward: list[list[float]] = [[] for _ in net.layers]
    whole: list[float] = []
    for _ in range(iterations + 1):
        start = time.perf_counter()
        for i in range(len(net.layers)):
            forward[i].append(_seconds(net.run_forward, i))
        for i in reversed(range(len(net.layers))):
            backward[i].append(_seconds(net.run_backward, i))
        whole.append(time.perf_counter() - start)
    rows = [
        (layer.name, layer.type, _milliseconds(f), _milliseconds(b))
        for layer, f, b in zip(net.layers, forward, backward, strict=True)
    ]
    rows.append(("all layers", "", _sum_of_medians(forward), _sum_of_medians(backward)))
    table = format_table(("layer", "type", "forward ms", "backward ms"), rows, right=(2, 3))
    return f"{table}\nforward and backward: {median(whole[1:]) * 1e3:.3f} ms (medians of {iterations} iterations)"


def _sum_of_medians(layers: list[list[float]]) -> str:
    return f"{sum(median(times[1:]) for times in layers) * 1e3:.3f}"


def _seconds(run: Callable[[int, int], None], index: int) -> float:
    start = time.perf_counter()
    run(index, index)
    synchronize()
    return time.perf_counter() - start


def _milliseconds(times: list[float]) -> str:
    return f"{median(times[1:]) * 1e3:.3f}"
