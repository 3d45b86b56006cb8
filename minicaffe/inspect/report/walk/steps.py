"""The chain rule, walked for one picture from the loss down to the picture, one number after another.

Each line computes the gradient of one number x from the gradients above it, as the layer's backward does:

    dL/dx = Σ (what y changes by, if x grows by 1) · dL/dy        over the y that x goes into

The next line takes this x as its y. Of the numbers below a y the walk takes the one with the largest gradient, so
it never ends at a shut gate while another is open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minicaffe.inspect.report.record import RecordedLayer, Recording
from minicaffe.inspect.report.walk import branches, elements, pooling, products  # noqa: F401  (for their lines)
from minicaffe.inspect.report.walk.line import Index, Line, Spot, line_of
from minicaffe.inspect.report.walk.losses import cross_entropy
from minicaffe.inspect.report.walk.windows import in_image, largest_in_windows
from minicaffe.layers.convolution import Convolution
from minicaffe.ops.convolution.geometry import Window

PASSING = {  # layers whose dx at a number is dy there, times something
    "ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "Dropout", "BatchNorm", "Scale", "Bias", "ReLU6", "Swish", "Power",
    "Split", "Flatten", "Reshape",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A line of the walk: through ``layer``, from dL/dy of ``above`` to dL/dx of ``below`` (stage, index).

    ``said`` is dL/dx as the net's backward has computed it, ``dy`` likewise dL/dy (None for the first line).
    """

    layer: RecordedLayer
    above: tuple[str, Index] | None
    below: tuple[str, Index]
    line: Line
    said: float
    dy: float | None


def walk(recording: Recording, image: int) -> list[Step]:
    """The lines for one of the recorded pictures, from the loss down; [] for a net without gradients."""
    return _Walk(recording, image).run()


class _Walk:
    def __init__(self, recording: Recording, image: int) -> None:
        self.recording, self.image = recording, image
        self.maker = {key: layer for layer in recording.layers for key in layer.tops}
        self.users = {key: layer for layer in recording.layers for key in layer.bottoms}

    def run(self) -> list[Step]:
        first = self._first()
        if first is None:
            return []
        steps = [first]
        while (step := self._next(*steps[-1].below)) is not None:
            steps.append(step)
        return steps

    def _first(self) -> Step | None:
        """The line of the loss: of the last layer with a loss weight, or of −log p of the answer."""
        recording = self.recording
        weighted = [
            key
            for layer in recording.layers
            for key, weight in zip(layer.tops, layer.layer.spec.loss_weight, strict=True)
            if weight
        ]
        if recording.no_gradient:
            return None
        if weighted:
            return self._line_of_loss(weighted[-1])
        if recording.answer is None:
            return None
        last = self.maker[recording.answer]
        if last.type != "Softmax" or self._diff(last.bottoms[0]) is None:
            return self._step(last, self._largest(last, 0, None, of_tops=True))
        z, dz = self._values(last.bottoms[0]), self._diff(last.bottoms[0])
        dy = self._diff(recording.answer)
        assert dz is not None and dy is not None
        at = self._largest(last, 0, None)
        flat = int(np.ravel_multi_index(at, z.shape))
        line = cross_entropy(z.ravel().astype(np.float64), dz.ravel(), int(dy.ravel().argmin()), (flat,))
        return Step(last, None, (last.bottoms[0], at), line, float(dz[at]), None)

    def _line_of_loss(self, key: str) -> Step:
        """The line of the layer that made a weighted top; if it is no loss, of the largest number of the top."""
        layer = self.maker[key]
        if layer.type == "Split":  # of which one top is the loss
            key = layer.bottoms[0]
            layer = self.maker[key]
        if layer.layer.is_loss:
            return self._step(layer, None)
        top = layer.tops.index(key)
        return self._step(layer, self._largest(layer, top, None, of_tops=True), top)

    def _next(self, key: str, at: Index) -> Step | None:
        """The line through the layer that made a number, if a gradient goes on below it."""
        layer = self.maker[key]
        while layer.type == "Split" and sum(self._diff(top) is not None for top in layer.tops) == 1:
            key = layer.bottoms[0]  # the other users have no gradient: an accuracy
            layer = self.maker[key]
        if all(self._diff(bottom) is None for bottom in layer.bottoms):
            return None
        return self._step(layer, at, layer.tops.index(key))

    def _step(self, layer: RecordedLayer, at: Index | None, top: int = 0) -> Step:
        spot = Spot(
            layer.layer,
            [self._values(key) for key in layer.bottoms],
            [self._values(key) for key in layer.tops],
            [self._diff(key) for key in layer.bottoms],
            [self._diff(key) for key in layer.tops],
            layer.params,
            top,
            at or (),
            lambda bottom, mask: self._largest(layer, bottom, mask),
            [self.users[key].name if key in self.users else "the loss" for key in layer.tops],
            [self.maker[key].step for key in layer.bottoms],
        )
        line = line_of(spot)
        dx = spot.dx[line.bottom]
        said = 0.0 if dx is None else float(dx[line.at])
        above = None if at is None else (layer.tops[top], at)
        return Step(
            layer,
            above,
            (layer.bottoms[line.bottom], line.at),
            line,
            said,
            None if at is None else spot.above,
        )

    def _largest(
        self, layer: RecordedLayer, number: int, mask: np.ndarray | None, of_tops: bool = False
    ) -> Index:
        """Where, in a blob, the gradient is largest that gets through the gates below it."""
        size = self._reach((layer.tops if of_tops else layer.bottoms)[number])
        size = size if mask is None else np.where(mask, size, -1.0)
        if not size.size:
            return (0,) * size.ndim
        return tuple(int(i) for i in np.unravel_index(int(size.argmax()), size.shape))

    def _reach(self, key: str) -> np.ndarray:
        """The largest |dL/dx| that each number of a stage passes on to, down to the next layer that mixes."""
        layer, values, diff = self.maker[key], self._values(key), self._diff(key)
        below = [bottom for bottom in layer.bottoms if self._diff(bottom) is not None]
        found = self._reach_below(layer, below, values.shape) if below else None
        if found is not None:
            return found
        if diff is None:
            return np.zeros(values.shape)
        size = np.abs(diff.astype(np.float64))
        if isinstance(layer.layer, Convolution) and values.ndim == 3 and layer.layer.spatial_axes == 2:
            image = self._values(layer.bottoms[layer.tops.index(key)]).shape
            size *= in_image(layer.layer.window, image[1:], size.shape[1:])
        return size

    def _reach_below(
        self, layer: RecordedLayer, below: list[str], shape: tuple[int, ...]
    ) -> np.ndarray | None:
        """The reach of a layer's top, of ``shape``, by that of the bottoms ``below``; None for one that mixes."""
        if layer.type == "Eltwise":
            return self._reach(max(below, key=lambda key: self.maker[key].step))
        if layer.type == "Concat" and below == layer.bottoms:
            return joined([self._reach(key) for key in below], shape)
        if len(layer.bottoms) > 1:
            return None
        if layer.type == "Pooling":
            window = getattr(layer.layer, "window", None)
            if not isinstance(window, Window) or len(shape) != 3:
                return None
            return largest_in_windows(self._reach(below[0]), window, shape[1:])
        same_size = self._values(below[0]).size == math.prod(shape)
        return self._reach(below[0]).reshape(shape) if layer.type in PASSING and same_size else None

    def _values(self, key: str) -> np.ndarray:
        return np.asarray(self.recording.stages[key].values[self.image])

    def _diff(self, key: str) -> np.ndarray | None:
        diff = self.recording.stages[key].diff
        return None if diff is None else diff[self.image]


def joined(parts: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Arrays joined along the axis in which they are shorter than ``shape``."""
    axis = next((k for k, size in enumerate(shape) if parts[0].shape[k] != size), 0)
    return np.concatenate(parts, axis)
