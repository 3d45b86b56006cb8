"""The direct sum and Winograd's convolution, layer by layer: ``python benchmarks/engines.py [--quick|--errors]``.

It times forward and dw of 3 × 3 layers both ways, in turns, and fits the costs by which ``engine: DEFAULT`` chooses
(``ops/convolution/winograd.py``). It prints the layers, the costs, and what the choice loses against the better of
the two. Nothing else may run on the machine. ``--window 5``: of 5 × 5 layers (``winograd_rows.py``). ``--errors``:
how far float32 is from float64.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from datetime import date
from statistics import median
from types import ModuleType

import numpy as np

from minicaffe.core.table import format_table
from minicaffe.device import workers
from minicaffe.ops.convolution import winograd, winograd_rows
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.winograd import Costs, WinogradConvolution
from minicaffe.ops.convolution.winograd_rows import RowWinogradConvolution

MOST, LEAST = 2e9, 4e6  # multiply-adds of a layer
MODULES = {3: winograd, 5: winograd_rows}
KINDS = {3: WinogradConvolution, 5: RowWinogradConvolution}
USUAL_POINTS = {3: (0, 1, -1, 2, -2), 5: (0, 1, -1, 2, -2, 3, -3)}


def window_of(size: int) -> Window:
    return Window((size, size), pad=(size // 2, size // 2))


def geometries(size: int, is_quick: bool) -> Iterator[Geometry]:
    """Layers as nets have them: of many pixels and few channels, or the other way round, for one image or many."""
    for batch in (1, 8, 64) if is_quick else (1, 4, 8, 16, 64):
        for image in (7, 14, 28, 56, 112, 224):
            for channels in (16, 64, 256) if is_quick else (16, 32, 64, 128, 256, 512):
                for filters in sorted({channels // 2, channels, min(512, 2 * channels)} - {8}):
                    geometry = Geometry((channels, image, image, batch), filters, window_of(size))
                    if LEAST < geometry.multiply_adds * batch < MOST:
                        yield geometry


def timed(geometry: Geometry, rounds: int) -> np.ndarray:
    """Milliseconds (2 ways, 2 products): forward and dw, direct and of Winograd; medians of rounds in turns."""
    rng = np.random.default_rng(0)
    shapes = geometry.shape, geometry.weight_shape, geometry.output_shape
    x, w, y = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    kind = KINDS[geometry.window.kernel[0]]
    direct, ours = DenseConvolution(geometry, np.float32), kind(geometry, np.float32)
    dw, (direct_x, our_x) = np.empty_like(w), (product.forward(x, w, y) for product in (direct, ours))
    calls = [
        lambda: direct.forward(x, w, y),
        lambda: direct.weight_grad(y, direct_x, dw),
        lambda: ours.forward(x, w, y),
        lambda: ours.weight_grad_by_tiles(y, our_x, dw),
    ]
    times = [[milliseconds(call) for call in calls] for _ in range(rounds + 1)][1:]
    return np.array([median(column) for column in zip(*times, strict=True)]).reshape(2, 2)


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def fitted(terms: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The costs, none below 0, with the least sum of squares of relative errors."""
    matrix = terms / times[:, None]
    kept = list(range(matrix.shape[1]))
    while True:
        costs = np.linalg.lstsq(matrix[:, kept], np.ones(len(matrix)), rcond=None)[0]
        if (costs >= 0).all():
            break
        kept.pop(int(costs.argmin()))
    result = np.zeros(matrix.shape[1])
    result[kept] = costs
    return result


def errors(size: int, depth: int) -> list[str]:
    """The largest errors of y, dx and dw in float32, as shares of the largest value.

    Direct, of Winograd, and of Winograd with the usual points.
    """
    rng = np.random.default_rng(0)
    geometry = Geometry((depth, 28, 28, 4), depth, window_of(size))
    shapes = geometry.shape, geometry.weight_shape, geometry.output_shape
    arrays = [rng.standard_normal(shape) for shape in shapes]
    arrays[0] = arrays[0].clip(0)  # as after a ReLU
    exact = products(DenseConvolution(geometry, np.float64), arrays)
    module, winograds = MODULES[size], KINDS[size]
    found, own = [], module.POINTS
    for kind, points in ((DenseConvolution, own), (winograds, own), (winograds, USUAL_POINTS[size])):
        module.POINTS = points
        ours = products(kind(geometry, np.float32), [array.astype(np.float32) for array in arrays])
        found += [f"{np.abs(a - b).max() / np.abs(b).max():.1e}" for a, b in zip(ours, exact, strict=True)]
    module.POINTS = own
    return found


def products(product: DenseConvolution, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """y, dx and dw."""
    x, w, dy = arrays
    y, dx, dw = (np.empty_like(like) for like in (dy, x, w))
    padded = product.forward(x, w, y)
    product.input_grad(dy, w, dx)
    if isinstance(product, tuple(KINDS.values())):
        product.weight_grad_by_tiles(dy, padded, dw)
    else:
        product.weight_grad(dy, padded, dw)
    return [y, dx, dw]


def main() -> None:
    """Time the layers and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer layers")
    parser.add_argument("--window", type=int, choices=sorted(MODULES), default=3, help="its height and width")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--errors", action="store_true", help="errors in place of times")
    arguments = parser.parse_args()
    if arguments.errors:
        heads = ["channels", "y, direct", "dx", "dw", "y, Winograd", "dx", "dw", "usual points", "dx", "dw"]
        print(
            format_table(heads, [[str(depth), *errors(arguments.window, depth)] for depth in (16, 64, 256)])
        )
        return
    layers = list(geometries(arguments.window, arguments.quick))
    found = np.array([timed(geometry, arguments.rounds) for geometry in layers])
    print(f"{date.today()}, {platform.machine()}, {workers.worker_count} cores, NumPy {np.__version__}")
    print_layers(layers, found)
    module = MODULES[arguments.window]
    for i, (name, used) in enumerate((("forward", module.FORWARD), ("dw", module.WEIGHT_GRAD))):
        print_costs(name, used, module, layers, found[:, :, i])


def print_layers(layers: list[Geometry], found: np.ndarray) -> None:
    """A line for each layer."""
    rows = [
        [f"{g.channels}, {g.image[0]}, {g.batch} → {g.filters}", *(f"{ms:.2f}" for ms in times.T.flat)]
        + [f"{ratio:.2f}" for ratio in times[1] / times[0]]
        for g, times in zip(layers, found, strict=True)
    ]
    heads = ["C, H, N → M", "forward ms", "Winograd", "dw ms", "Winograd", "ratio", "ratio of dw"]
    print(format_table(heads, rows))


def print_costs(
    name: str, used: Costs, module: ModuleType, layers: list[Geometry], times: np.ndarray
) -> None:
    """The fitted costs beside those that are used, and what a choice by these loses."""
    terms = (
        np.array([module.counts(geometry) for geometry in layers]) / 1e6
    )  # times nanoseconds: milliseconds
    costs = [*fitted(terms[:, :2], times[:, 0]), *fitted(terms[:, 2:], times[:, 1])]
    best = times.min(axis=1)
    chosen = np.where([module.is_faster(geometry, used) for geometry in layers], times[:, 1], times[:, 0])
    print(f"\n{name}: fitted {', '.join(f'{cost:.3g}' for cost in costs)}; used {', '.join(map(str, used))}")
    shares = [np.mean(way / best) for way in (chosen, times[:, 0], times[:, 1])]
    print(
        "  of the better one's time: the choice {:.3f}, always direct {:.3f}, always Winograd {:.3f}".format(
            *shares
        )
    )
    print(f"  the choice at most {max(chosen / best):.2f}")


if __name__ == "__main__":
    main()
