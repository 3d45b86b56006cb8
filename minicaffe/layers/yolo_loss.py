"""What the losses of YOLO v2 and v3 have in common: grids of predictions, truths, and what they tell about both."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs
from minicaffe.device.array import Array, to_host
from minicaffe.errors import DataError
from minicaffe.layers.loss import LossLayer
from minicaffe.ops.detection import yolo

logger = logging.getLogger("minicaffe")
Overlap: TypeAlias = Callable[[Array, Array], Array]


@dataclass
class Truths:
    """The true boxes of a batch, M of them: their image, label (from 0), and box (4, M): centre, width and height.

    ``column`` and ``row`` are those of the cell that has the centre. ``shown`` says which of them boxes without an
    object are compared with: darknet stops at the first x of 0, and elsewhere at the first width of 0.
    """

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    column: np.ndarray
    row: np.ndarray
    shown: np.ndarray


@dataclass
class Score:
    """Sums over ``count`` boxes that are to find a truth: see ``YoloLoss.tell``."""

    count: int
    obj: float
    iou: float
    cat: float
    recall: int
    recall75: int

    @classmethod
    def of(cls, s: np.ndarray, label: np.ndarray, overlap: np.ndarray) -> Score:
        """Of boxes with s (E, 5 + K), the labels (E,) of their truths, and the overlaps (E,) with them."""
        return cls(
            count=len(s),
            obj=float(s[:, 4].sum()),
            iou=float(overlap.sum()),
            cat=float(s[np.arange(len(s)), 5 + label].sum()),
            recall=int((overlap > 0.5).sum()),
            recall75=int((overlap > 0.75).sum()),
        )


class YoloLoss(LossLayer):
    """Base: x (N, A · (5 + K), H, W) and labels (N, …) of 5 numbers each, (label, x, y, w, h), up to one of 0."""

    tells_every = 10  # batches

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.batches, self.noobj = 0, self.xp.zeros((), self.dtype)
        self.scores: list[Score] = []

    def reshape_grid(self, bottom: Blobs, top: Blobs, anchors: int, classes: int) -> None:
        """Checks the shapes; makes s and δ of the shape ``grid``, (A, 5 + K, H, W, N)."""
        super().reshape(bottom, top)
        shape, labels = bottom[0].shape, bottom[1]
        if len(shape) != 4 or shape[1] != anchors * (5 + classes):
            raise self.shape_error(
                f"bottom '{self.spec.bottom[0]}' has shape {shape}; expected (N, {anchors} · {5 + classes}, H, W), "
                f"for {anchors} anchors and {classes} classes"
            )
        if labels.count % (5 * max(1, shape[0])):
            raise self.shape_error(
                f"labels have shape {labels.shape}; expected 5 numbers (label, x, y, w, h) for each box"
            )
        images, _, height, width = shape
        if not height * width:
            raise self.shape_error(
                f"bottom '{self.spec.bottom[0]}' has shape {shape}; expected at least one cell"
            )
        self.grid = (anchors, 5 + classes, height, width, images)
        self.truths_each = labels.count // (5 * max(1, images))
        self.s, self.delta = self.new_array(self.grid), self.new_array(self.grid)

    def read_truths(self, labels: Blob) -> Truths:
        """The boxes before the first of no width. Raises DataError for one that is none."""
        _, channels, height, width, images = self.grid
        rows = to_host(labels.data).reshape(images, self.truths_each, 5)
        real = np.logical_and.accumulate(rows[:, :, 3] != 0, axis=1)
        shown = np.logical_and.accumulate(rows[:, :, 1] != 0, axis=1)
        image, place = np.nonzero(real)
        label, *box = rows[image, place].T
        x, y, w, h = box
        classes = channels - 5
        fits = (label >= 0) & (label < classes) & (w > 0) & (h > 0)
        fits &= (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
        if not fits.all():
            m = int(fits.argmin())
            values = ", ".join(f"{value[m]:g}" for value in (label, *box))
            raise DataError(
                f"{self.spec.where}: box {place[m]} of image {image[m]} is (label, x, y, w, h) = ({values}); "
                f"expected a label below {classes}, a centre in [0, 1], and sides above 0"
            )
        column, row = (x * width).astype(int), (y * height).astype(int)
        return Truths(
            image=image,
            label=label.astype(int),
            box=np.stack(box),
            column=np.minimum(column, width - 1),
            row=np.minimum(row, height - 1),
            shown=shown[image, place],
        )

    def best_overlap(self, truths: Truths, anchors: np.ndarray, overlap: Overlap) -> Array:
        """The largest overlap (A, H, W, N) of each box with a shown truth of its image, or 0."""
        s, xp = self.s, self.xp
        boxes = yolo.grid_boxes(s[:, 0], s[:, 1], s[:, 2], s[:, 3], anchors)
        best = xp.zeros(boxes.shape[1:], self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # of boxes too large for numbers
            for truth, counts in self._by_image(truths):
                xp.maximum(best, xp.where(counts, overlap(boxes, truth), 0), out=best)
        found: Array = best
        return found

    def _by_image(self, truths: Truths) -> Iterator[tuple[Array, Array]]:
        """The first shown truth of each image, then the second, …: boxes (4, 1, 1, 1, N), and which have one."""
        images, put = self.grid[-1], self.setting.device.put
        image, box = truths.image[truths.shown], truths.box[:, truths.shown]
        place = np.arange(len(image)) - np.searchsorted(image, image)
        for t in range(int(place.max(initial=-1)) + 1):
            boxes, counts = np.ones((4, images)), np.zeros(images, bool)
            boxes[:, image[place == t]] = box[:, place == t]
            counts[image[place == t]] = True
            yield put(boxes, self.dtype)[:, None, None, None], put(counts)

    def boxes_at(self, places: np.ndarray, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of E places (4, E), anchor, row, column and image: s (E, 5 + K), and the boxes (4, E), on the host.

        ``anchors`` (2, E) are those of the places.
        """
        s = to_host(self.s[_at(places)]).astype(np.float64)  # few numbers
        x, y, width, height = s[:, :4].T
        _, _, rows, columns, _ = self.grid
        centre = [(places[2] + x) / columns, (places[1] + y) / rows]
        return s, np.stack([*centre, np.exp(width) * anchors[0], np.exp(height) * anchors[1]])

    def targets_at(self, places: np.ndarray, anchors: np.ndarray, box: np.ndarray) -> np.ndarray:
        """What s_0 … s_3 (4, E) would have to be at these places for the boxes (4, E)."""
        _, _, rows, columns, _ = self.grid
        centre = [box[0] * columns - places[2], box[1] * rows - places[1]]
        return np.stack([*centre, *np.log(box[2:] / anchors)])

    def put_at(self, places: np.ndarray, delta: np.ndarray) -> None:
        """Writes δ (E, 5 + K) at places (4, E), all different."""
        self.delta[_at(places)] = self.setting.device.put(delta, self.dtype)

    def tell(self, score: Score) -> None:
        """Logs, after every few batches, what the last of them scored, as darknet names it.

        noobj is the mean probability of an object in all boxes. Of the boxes that are to find a truth: obj,
        this probability; iou, the overlap with the truth; cat, the probability of the label; recall and
        recall75, the shares with an overlap above 0.5 and 0.75; count, how many there are in a batch.
        """
        self.batches += 1
        self.noobj = self.noobj + self.s[:, 4].sum() / max(1, self.s[:, 4].size)
        if score.count:
            self.scores.append(score)
        if self.batches % self.tells_every:
            return
        if self.scores:
            means = {
                name: float(np.mean([getattr(s, name) / s.count for s in self.scores]))
                for name in ("obj", "iou", "cat", "recall", "recall75")
            }
            logger.info(
                "%s: noobj: %.4g %s count: %.4g",
                self.name,
                float(self.noobj) / self.tells_every,
                " ".join(f"{name}: {mean:.4g}" for name, mean in means.items()),
                sum(s.count for s in self.scores) / len(self.scores),
            )
        self.scores, self.noobj = [], self.xp.zeros((), self.dtype)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            dx = bottom[0].stored_diff.reshape(self.grid)
            self.xp.multiply(self.delta, top[0].stored_diff / max(1, self.grid[-1]), out=dx)


def _at(places: np.ndarray) -> tuple[Any, ...]:
    """The index of all channels (E, 5 + K) at places (4, E)."""
    anchor, row, column, image = places
    return anchor, slice(None), row, column, image
