"""Local response normalisation of x (C, H, W, N): over n neighbouring channels, or n × n neighbouring pixels.

    s = k + α · Σ x² over the window around each element        (α is divided by the window's size already)
    y = x · s^−β
    dx = dy · s^−β − 2 · α · β · x · Σ (dy · x · s^−β / s) over the same window

A window sum is n shifted additions of whole blocks, each in cache: for the n of practice that is faster than a
running sum over single channels, and it subtracts nothing. s is not kept: backward computes it again.
ACROSS channels the blocks are columns, since channels meet; WITHIN a channel they are channels. On a GPU a thread
has one element, and reads its window; backward takes two kernels, since each element needs its neighbours' ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.kernel import kernels_beside
from minicaffe.device.workers import CHUNK, scratch

KERNELS = kernels_beside(__file__)


@dataclass(frozen=True)
class LocalResponse:
    """A window of 2 · half + 1 along each of the stored ``axes``, (0,) or (1, 2), and the formula's constants."""

    half: int
    axes: tuple[int, ...]
    alpha: float
    beta: float
    k: float

    def forward(self, x: Array, out: Array) -> None:
        """out = y."""
        if not on_cpu(x):
            KERNELS["lrn_forward"](x.size, x, out, *self._constants, *x.shape, *self._halves)
            return
        self._in_blocks(self._forward, x, out)

    def backward(self, x: Array, dy: Array, out: Array) -> None:
        """out = dx."""
        if not on_cpu(x):
            ratio = module_of(x).empty_like(x)
            KERNELS["lrn_ratio"](x.size, x, dy, ratio, out, *self._constants, *x.shape, *self._halves)
            KERNELS["lrn_backward"](
                x.size, x, ratio, out, 2.0 * self.alpha * self.beta, *x.shape, *self._halves
            )
            return
        self._in_blocks(self._backward, x, dy, out)

    @property
    def _constants(self) -> tuple[float, float, float]:
        return float(self.alpha), float(self.beta), float(self.k)

    @property
    def _halves(self) -> tuple[int, ...]:
        """Half the window along C, H and W."""
        return tuple(self.half if axis in self.axes else 0 for axis in range(3))

    def _in_blocks(self, function: Callable[..., None], *arrays: Array) -> None:
        if self.axes == (0,):
            columnwise(function, *[a.reshape(len(a), -1) for a in arrays])
        else:
            workers.channelwise(function, *arrays)

    def _forward(self, x: Array, y: Array) -> None:
        s, power = self._scale(x)
        inverse_power(s, self.beta, out=power)
        module_of(x).multiply(x, power, out=y)

    def _backward(self, x: Array, dy: Array, dx: Array) -> None:
        xp = module_of(x)
        s, power = self._scale(x)
        inverse_power(s, self.beta, out=power)
        power *= dy
        ratio = scratch(x, x.shape, 2)
        xp.multiply(power, x, out=ratio)
        ratio /= s
        sums = self._window_sums(ratio, out=s)
        sums *= x
        sums *= 2 * self.alpha * self.beta
        xp.subtract(power, sums, out=dx)

    def _scale(self, x: Array) -> tuple[Array, Array]:
        """s, and a work array of its shape."""
        s, square = scratch(x, x.shape, 0), scratch(x, x.shape, 1)
        module_of(x).multiply(x, x, out=square)
        self._window_sums(square, out=s)
        s *= self.alpha
        s += self.k
        return s, square

    def _window_sums(self, values: Array, out: Array) -> Array:
        """out = Σ values over the window around each element; returns out. Uses scratch slot 3."""
        xp = module_of(values)
        for axis in self.axes:
            if axis != self.axes[0]:
                values = scratch(out, out.shape, 3)
                values[...] = out
            add_neighbours(xp.moveaxis(values, axis, 0), self.half, xp.moveaxis(out, axis, 0))
        return out


def add_neighbours(values: Array, half: int, out: Array) -> None:
    """out[i] = values[i − half] + … + values[i + half], without those beyond the ends."""
    out[...] = values
    for shift in range(1, min(half, len(values) - 1) + 1):
        out[shift:] += values[:-shift]
        out[:-shift] += values[shift:]


def inverse_power(s: Array, beta: float, out: Array) -> None:
    """out = s^−β; for ¾, the β of AlexNet, by square roots, which are faster."""
    xp = module_of(s)
    if beta != 0.75:
        xp.power(s, -beta, out=out)
        return
    xp.sqrt(s, out=out)
    root = scratch(s, s.shape, 3)
    xp.sqrt(out, out=root)
    out *= root
    xp.reciprocal(out, out=out)


def columnwise(function: Callable[..., None], *arrays: Array) -> None:
    """Call ``function(*arrays)``, which treats all columns of (C, P) alike, on cache-sized parts on all workers."""
    first = arrays[0]
    channels, columns = first.shape
    if not on_cpu(first) or first.size <= CHUNK:
        function(*arrays)
        return
    step = max(16, CHUNK // (4 * channels))  # seven arrays are in use
    starts = range(0, columns, step)
    used = min(workers.worker_count, len(starts))

    workers.share(lambda lo, worker: function(*[a[:, lo : lo + step] for a in arrays]), starts, used)
