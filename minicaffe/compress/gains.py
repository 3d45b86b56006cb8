"""What low rank gains: the size of a net, its multiply-adds, and the time of a forward pass, before and after.

The times are measured in pairs: both nets run in turns, in changing order, so that a machine that gets slower
meanwhile slows both; the ratio is the median of the pairs' ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from minicaffe.compress import stopwatch
from minicaffe.compress.batches import Batch, feed
from minicaffe.compress.stopwatch import seconds, spread, warn_of_noise
from minicaffe.core.net import Net
from minicaffe.core.table import format_table
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.train.preview import count_multiply_adds, count_parameters

NUMBER_BYTES = 4  # float32, as in a file of weights
WARM_UP, LEAST_ROUNDS, MOST_ROUNDS = 3, 5, 50  # pairs of passes; in the first ones nets prepare themselves
MOST_SECONDS = 10.0  # after the least rounds
HEAD = ("", "before", "after", "ratio")


@dataclass(frozen=True)
class Pair:
    """A number before and after."""

    before: float
    after: float

    @property
    def ratio(self) -> float:
        """After / before; 1 where there is nothing before."""
        return self.after / self.before if self.before else 1.0


@dataclass(frozen=True)
class Gains:
    """What a net has before and after: numbers in its weights, and multiply-adds of one image.

    ``layers_multiply_adds``: those of the layers that are of low rank after. ``milliseconds``: medians of a forward
    pass of a batch of ``images``; ``time_ratio``: the median of the ratios of neighbouring passes;
    ``time_spread``: of the times of the net whose times scatter more (``stopwatch.spread``). ``rounds``: how many
    passes there were of each.
    """

    parameters: Pair
    multiply_adds: Pair
    layers_multiply_adds: Pair
    milliseconds: Pair
    time_ratio: float
    time_spread: float
    rounds: int
    images: int

    @property
    def megabytes(self) -> Pair:
        """The size of the weights as float32, in 10⁶ bytes."""
        return Pair(
            *(NUMBER_BYTES * count / 1e6 for count in (self.parameters.before, self.parameters.after))
        )

    def table(self) -> str:
        """A line for each, as a text table, and what the times are."""
        of_layers = self.layers_multiply_adds
        rows = [
            _row("parameters", self.parameters, "{:,.0f}"),
            _row("size, MB", self.megabytes, "{:.3g}"),
            _row("multiply-adds an image", self.multiply_adds, "{:,.0f}"),
            *([_row("  of the layers of low rank", of_layers, "{:,.0f}")] if of_layers.before else []),
            [*_row("forward pass, ms", self.milliseconds, "{:.3g}")[:3], f"{self.time_ratio:.3f}"],
        ]
        times = (
            f"Times: medians of {self.rounds} passes of a batch of {self.images}, which scatter by up to "
            f"{self.time_spread:.0%}; the ratio is that of neighbouring passes."
        )
        return f"{format_table(HEAD, rows, right=(1, 2, 3))}\n{times}"


def gains(before: Net, after: Net, batch: Batch) -> Gains:
    """Measure both nets on a batch. Warns where the times scatter so much that they say nothing.

    This takes at least 5 pairs of passes, and else 10 seconds at most.
    """
    shortened = {layer.name for layer in after.layers if isinstance(layer, LowRankLayer)}
    first, second = _times(_pass(before, batch), _pass(after, batch))
    worse = max(first, second, key=spread)
    warn_of_noise(worse, "a forward pass")
    return Gains(
        parameters=Pair(count_parameters(before)[0], count_parameters(after)[0]),
        multiply_adds=Pair(count_multiply_adds(before), count_multiply_adds(after)),
        layers_multiply_adds=Pair(_work_of(before, shortened), _work_of(after, shortened)),
        milliseconds=Pair(1e3 * median(first), 1e3 * median(second)),
        time_ratio=median(b / a if a else 1.0 for a, b in zip(first, second, strict=True)),
        time_spread=spread(worse),
        rounds=len(first),
        images=_images_of(before, batch),
    )


def _pass(net: Net, batch: Batch) -> Callable[[], None]:
    """A forward pass of a net on a batch, without the data layers that it begins with."""
    feed(net, batch)
    brings_data = [layer.spec.brings_data for layer in net.layers]
    first = brings_data.index(False) if False in brings_data else 0
    return lambda: net.run_forward(first)


def _times(one: Callable[[], None], other: Callable[[], None]) -> tuple[list[float], list[float]]:
    """Seconds of two calls that take turns, after some that are not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    start = stopwatch.clock()
    while len(times[0]) < WARM_UP + MOST_ROUNDS:
        for which, call in [(0, one), (1, other)][:: 1 if len(times[0]) % 2 else -1]:
            times[which].append(seconds(call))
        if len(times[0]) >= WARM_UP + LEAST_ROUNDS and stopwatch.clock() - start > MOST_SECONDS:
            break
    return times[0][WARM_UP:], times[1][WARM_UP:]


def _work_of(net: Net, names: set[str]) -> int:
    return sum(step.multiply_adds for step in net.steps if step.layer.name in names)


def _images_of(net: Net, batch: Batch) -> int:
    """How many images a batch has: the first axis of what the net takes of it."""
    return next((len(array) for name, array in batch.items() if name in net.blobs), 1)


def _row(name: str, pair: Pair, form: str) -> list[str]:
    return [name, form.format(pair.before), form.format(pair.after), f"{pair.ratio:.3f}"]
