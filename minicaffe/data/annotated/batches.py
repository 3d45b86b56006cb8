"""Batches of images with boxes: read, augmented, resized, and with labels that list the boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.data.annotated.augmenting import Augmenting, cut_out
from minicaffe.data.annotated.datum import WITH_BOXES, Annotated
from minicaffe.data.annotated.labels import Labels
from minicaffe.data.annotated.masks import Masks, decode_mask
from minicaffe.data.annotated.source import AnnotatedSource
from minicaffe.data.augmentation.boxes import CORNERS, mirrored, seen_from
from minicaffe.data.augmentation.resizing import Resizing
from minicaffe.data.batches import Batch, Ring, evenly
from minicaffe.data.order import AUGMENTATION, SIZE, Order, random_stream
from minicaffe.data.transformer import DataTransformer
from minicaffe.errors import DataError, SpecError

ONE_SIZE = 10  # consecutive batches whose images have the same size, of several


@dataclass(frozen=True)
class _Part:
    """What is trained on of one image: resized; its boxes; its ``size`` before it was resized; its mask."""

    image: np.ndarray
    boxes: np.ndarray
    size: tuple[int, int]
    mask: np.ndarray | None


class AnnotatedBatches:
    """Batch k of images, [(C, h, w, N)], and of what is known of them: labels with boxes, or classes (N,); masks.

    Every random choice for an image is drawn from a stream of its own, so the images of a batch are independent.
    """

    def __init__(
        self,
        source: AnnotatedSource,
        augmenting: Augmenting,
        transformer: DataTransformer,
        order: Order,
        labels: Labels | None,
        kind: int | None,
        slots: int,
        masks: Masks | None = None,
    ) -> None:
        """``labels``: None where only images are wanted. ``kind``: the AnnotationType of all, None: the first's.

        ``slots``: how many batches may be in use at a time. Raises DataError or SpecError.
        """
        self.source, self.augmenting, self.transformer, self.order = source, augmenting, transformer, order
        self.labels, self.masks = labels, masks
        self._resizings = [Resizing(param) for param in transformer.param.resize_param]
        self._ring = Ring(slots)
        self._mask_ring = Ring(slots)
        first = source.read_annotated(order.first())[0]
        self.kind = first.kind if kind is None else kind
        try:
            self._check_kind(first)
        except DataError as error:
            raise DataError(f"{source.describe(int(order.first()[0]))}: {error}") from None
        self.image_shape = transformer.output_shape(first.image.shape)
        self.preparation = transformer.preparation(first.image.shape)
        self._first_boxes = len(first.boxes)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Caffe's shapes of the tops: (N, C, h, w), and that of the label if there were the first image alone."""
        n = self.order.batch_size
        known: list[tuple[int, ...]] = []
        if self.labels is not None:
            known = [(n,) if self.kind is None else self.labels.shape(n, self._first_boxes)]
        if self.masks is not None:
            known.append((n, *self.masks.shape(self.image_shape)))
        return [(n, *self.image_shape), *known]

    def __call__(self, batch: int) -> Batch:
        """Make batch number ``batch``. Raises DataError or SpecError."""
        indices = self.order.indices(batch)
        found = self.source.read_annotated(indices)
        resizing = self._resizing(batch)
        seeds = random_stream(self.order.seed, AUGMENTATION, batch).integers(2**63, size=len(found))
        rngs = [np.random.default_rng(int(seed)) for seed in seeds]
        parts = []
        for index, one, rng in zip(indices, found, rngs, strict=True):
            try:
                self._check_kind(one)
                parts.append(self._part(one, resizing, rng))
            except DataError as error:
                raise DataError(f"{self.source.describe(int(index))}: {error}") from None
        out = self._ring.buffer((*self._one_shape([part.image for part in parts], indices), len(found)))
        planes = None
        if self.masks is not None:
            planes = self._mask_ring.buffer((*self.masks.shape(out.shape[:3]), len(found)))
        boxes = []
        for n, (part, rng) in enumerate(zip(parts, rngs, strict=True)):
            flips, corners = self.transformer.place([part.image], out[..., n : n + 1], rng)
            flip = bool(flips[0])
            boxes.append(self._on(self._view(part.image, corners[0]), part, flip, resizing))
            if planes is not None and self.masks is not None and part.mask is not None:
                self.masks.write(part.mask, flip, planes[..., n])
        known: Batch = []
        if self.labels is not None:
            classes = np.array([one.label for one in found], np.float32)
            known = [classes if self.kind is None else self.labels(boxes)]
        return [out, *known, *([] if planes is None else [planes])]

    def _part(self, one: Annotated, resizing: Resizing | None, rng: np.random.Generator) -> _Part:
        """The part of an image that is trained on, changed at random and resized. Raises DataError."""
        keeps_aspect = resizing is not None and resizing.param.resize_mode == "FIT_LARGE_SIZE_AND_PAD"
        image, boxes, view = self.augmenting(one.image, one.boxes, keeps_aspect, rng)
        mask = None if self.masks is None else cut_out(decode_mask(one.mask)[None], view)[0]
        size = image.shape[1], image.shape[2]
        return _Part(self.transformer.resized(image, rng, resizing), boxes, size, mask)

    def _resizing(self, batch: int) -> Resizing | None:
        """How the images of a batch are resized: of several ways, one is drawn for every ten batches."""
        ways = self._resizings
        if len(ways) < 2:
            return ways[0] if ways else None
        rng = random_stream(self.order.seed, SIZE, batch // ONE_SIZE)
        chances = np.cumsum([way.param.prob for way in ways])
        return ways[min(int(np.searchsorted(chances, rng.uniform(0, chances[-1]))), len(ways) - 1)]

    def _one_shape(self, images: Sequence[np.ndarray], indices: np.ndarray) -> tuple[int, int, int]:
        """The shape that all images of a batch become. Raises DataError naming one that differs."""
        shapes = []
        for index, image in zip(indices, images, strict=True):
            try:
                shapes.append(self.transformer.cropped_shape(image.shape))
            except SpecError as error:
                raise DataError(f"{self.source.describe(int(index))}: {error}") from None
        usual = self.image_shape if self.image_shape in shapes else shapes[0]
        for index, shape in zip(indices, shapes, strict=True):
            if shape != usual:
                size, others = (" × ".join(map(str, sizes)) for sizes in (shape, usual))
                fix = self.source.one_size if shape[0] == usual[0] else "give force_color or force_gray"
                raise DataError(
                    f"{self.source.describe(int(index))}: {size}, but others in its batch are {others}; {fix}"
                )
        return usual

    def _view(self, image: np.ndarray, corner: np.ndarray) -> np.ndarray:
        """The part (4,) of a resized image that the net sees."""
        height, width = image.shape[1:]
        y, x = corner - self.transformer.param.pad
        _, h, w = self.transformer.cropped_shape(image.shape)
        ends = np.array([x, y, x + w, y + h], np.float32)
        view: np.ndarray = ends / np.array([width, height, width, height], np.float32)
        return view

    def _on(self, view: np.ndarray, part: _Part, flip: bool, resizing: Resizing | None) -> np.ndarray:
        """The boxes on what the net sees of a part that is resized, cropped and mirrored."""
        rows, (height, width) = part.boxes.copy(), part.size
        if resizing:
            rows[:, CORNERS] = resizing.boxes(rows[:, CORNERS], height, width)
        rows = seen_from(view, rows, self.transformer.param.emit_constraint)
        rows = mirrored(rows) if flip else rows
        if resizing:
            rows[:, CORNERS] = resizing.extrapolated(rows[:, CORNERS], height, width, view)
        return rows

    def _check_kind(self, one: Annotated) -> None:
        """Raise DataError for an image whose annotation is not of the kind that all have."""
        if self.labels is None or self.kind is None:
            return
        if self.kind not in WITH_BOXES:
            raise DataError(
                f"annotations of type {self.kind}; only boxes (BBOX, 0, and BBOXandSeg, 1) are read"
            )
        if one.kind is None:
            raise DataError("no type of annotation, which others have")

    def samples(self, count: int) -> list[np.ndarray]:
        """``count`` images that lie evenly among all, and their boxes."""
        found = self.source.read_annotated(evenly(self.order.count, count))
        return [array for one in found for array in (one.image, one.boxes)]

    def close(self) -> None:
        """Close the source."""
        self.source.close()
