"""Time of each layer, forward and backward, as ``caffe time`` measures it; and the work and memory that it is for.

    share     of the time of all layers, forward and backward
    GFLOP/s   2 · multiply-adds / time; backward counts a product for each gradient, of weights and of bottoms
    MiB       what forward reads and writes at least: bottoms, parameters, tops

Layers are timed one by one, and the whole net at once, which may take less than its layers together: several that
are computed in one pass, or share memory, cannot be timed one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.core.table import format_table
from minicaffe.device.array import synchronize
from minicaffe.inspect.summary import batch_of, share_text
from minicaffe.inspect.truths import fill_truths

HEAD = ("layer", "type", "forward ms", "backward ms", "share", "GFLOP/s", "backward", "MiB")


def time_net(net: Net, iterations: int) -> str:
    """A table of median milliseconds over ``iterations`` passes, after one that is not counted."""
    (times,) = _measured([net], iterations)
    rows = [*times.rows(), times.total()]
    return f"{format_table(HEAD, rows, right=range(2, 8))}\n{times.whole_text(iterations)}"


def compare_nets(net: Net, other: Net, name: str, iterations: int) -> str:
    """Each layer's milliseconds beside those in another net with the same layers, called ``name``; they take turns.

    Ratios are this net's time / the other's, medians of those of neighbouring passes: below 1 this net is faster.
    """
    own, others = _measured([net, other], iterations)
    rows = [
        [layer.name, layer.type, *_beside(own.forward[i], others.forward[i]),
         *_beside(own.backward[i], others.backward[i])]
        for i, layer in enumerate(net.layers)
    ]  # fmt: skip
    sums = [_sums(times) for times in (own.forward, others.forward, own.backward, others.backward)]
    rows.append(["all layers", "", *_beside(*sums[:2]), *_beside(*sums[2:])])
    head = ("layer", "type", "forward ms", name, "ratio", "backward ms", name, "ratio")
    _, milliseconds, ratio = _beside(own.whole, others.whole)
    return "\n".join(
        [
            format_table(head, rows, right=range(2, 8)),
            own.whole_text(iterations),
            f"{name}: {milliseconds} ms; ratio {ratio}",
        ]
    )


def _measured(nets: Sequence[Net], iterations: int) -> list[_Times]:
    """The times of nets in turns: whole passes first, as a net that runs in parts shares no memory after it."""
    times = [_Times(net) for net in nets]
    for run in (_Times.run_whole, _Times.run_layers):
        for _ in range(iterations + 1):
            for each in times:
                run(each)
    for each in times:
        each.drop_first()
    return times


class _Times:
    """Seconds of each pass: of every layer, and of the whole net at once."""

    def __init__(self, net: Net) -> None:
        self.net = net
        fill_truths(net)  # a detector's loss refuses zeros
        for name in net.gradient_starts:
            net.blobs[name].diff[...] = 1  # where there is no loss, backward starts at the outputs
        self.forward: list[list[float]] = [[] for _ in net.layers]
        self.backward: list[list[float]] = [[] for _ in net.layers]
        self.whole: list[float] = []

    def run_whole(self) -> None:
        """A pass at once."""
        self.whole.append(_seconds(self.net.run_forward) + _seconds(self.net.run_backward))

    def run_layers(self) -> None:
        """A pass layer by layer."""
        layers = range(len(self.net.layers))
        for i in layers:
            self.forward[i].append(_seconds(partial(self.net.run_forward, i, i)))
        for i in reversed(layers):
            self.backward[i].append(_seconds(partial(self.net.run_backward, i, i)))

    def drop_first(self) -> None:
        """The first passes do not count."""
        for times in (*self.forward, *self.backward, self.whole):
            del times[0]

    def rows(self) -> list[list[str]]:
        """The lines of the table."""
        batch = batch_of(self.net)
        medians = [(median(f), median(b)) for f, b in zip(self.forward, self.backward, strict=True)]
        total = sum(map(sum, medians))
        rows = []
        for step, (forward, backward) in zip(self.net.steps, medians, strict=True):
            work = step.multiply_adds * batch
            rows.append(
                [
                    step.layer.name,
                    step.layer.type,
                    _milliseconds(forward),
                    _milliseconds(backward),
                    share_text((forward + backward) / total),
                    _speed(work, forward),
                    _speed(work * _gradients(step), backward),
                    f"{_bytes(step) / 2**20:.2f}",
                ]
            )
        return rows

    def total(self) -> list[str]:
        """The last line of the table."""
        batch = batch_of(self.net)
        work = sum(step.multiply_adds for step in self.net.steps) * batch
        back = sum(step.multiply_adds * _gradients(step) for step in self.net.steps) * batch
        forward, backward = (sum(map(median, times)) for times in (self.forward, self.backward))
        size = sum(map(_bytes, self.net.steps)) / 2**20
        return [
            "all layers", "", _milliseconds(forward), _milliseconds(backward), "", _speed(work, forward),
            _speed(back, backward), f"{size:.2f}",
        ]  # fmt: skip

    def whole_text(self, iterations: int) -> str:
        """The line below the table."""
        whole = _milliseconds(median(self.whole))
        return f"forward and backward: {whole} ms (medians of {iterations} iterations)"


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"


def _speed(multiply_adds: int, seconds: float) -> str:
    return f"{2e-9 * multiply_adds / seconds:.1f}" if multiply_adds and seconds else ""


def _gradients(step: Step) -> int:
    """How many products backward has for each one of forward."""
    return (any(step.needs) + any(step.layer.param_propagate_down)) * step.is_active


def _bytes(step: Step) -> int:
    """Bottoms, parameters and tops; nothing where the tops are the bottoms' memory by other names."""
    owners = {id(blob.data_owner) for blob in step.bottom}
    by_other_names = [id(t.data_owner) in owners and t not in step.bottom for t in step.top]
    if by_other_names and all(by_other_names):
        return 0
    return sum(blob.count * blob.dtype.itemsize for blob in (*step.bottom, *step.layer.blobs, *step.top))


def _sums(times: list[list[float]]) -> list[float]:
    """Of each pass, the time of all layers."""
    return [sum(layers) for layers in zip(*times, strict=True)]


def _beside(own: list[float], other: list[float]) -> list[str]:
    """The milliseconds of both, and their ratio."""
    ratio = median(a / b for a, b in zip(own, other, strict=True))
    return [_milliseconds(median(own)), _milliseconds(median(other)), f"{ratio:.2f}"]
