"""caffe.Detector: a net run on windows of images, each warped to the net's input (R-CNN, Girshick et al. 2014)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.classify.classifier import transformer_for
from minicaffe.classify.images import load_image, resize_image
from minicaffe.errors import DataError, ShapeError
from minicaffe.pycaffe.net import Net
from minicaffe.pycaffe.proto.caffe_pb2 import TEST


class Detector(Net):
    """A net with the preprocessing of its windows, as for ``Classifier``.

    ``context_pad`` pixels of what the net sees, on each side, show what lies around a window; beyond the image they
    show the mean.
    """

    def __init__(
        self,
        model_file: str | Path,
        pretrained_file: str | Path | None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        name = self.inputs[0]
        shape = tuple(self.blobs[name].shape)
        self.transformer = transformer_for(name, shape, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def configure_crop(self, context_pad: int | None) -> None:
        """Choose how much context a window has, and find what lies beyond the image. Raises ShapeError."""
        name = self.inputs[0]
        _, channels, height, width = self.blobs[name].shape
        if context_pad and height != width:
            raise ShapeError(f"context_pad: the net's input must be square; it is {height} × {width}")
        if context_pad and not 0 < 2 * context_pad < width:
            raise ShapeError(f"context_pad {context_pad}: must be less than half of the net's input, {width}")
        self.context_pad = context_pad or 0
        self.crop_dims = np.array([height, width, channels])
        # what the net sees as the mean, or as black
        nothing = np.zeros((channels, height, width), np.float32)
        self.crop_mean = self.transformer.deprocess(name, nothing).reshape(self.crop_dims)

    def detect_windows(
        self, images_windows: Iterable[tuple[str, Sequence[Sequence[int]]]]
    ) -> list[dict[str, Any]]:
        """Run the net on (image file, windows) pairs; a window is (ymin, xmin, ymax, xmax), the last two not in it.

        Returns for each window a dict with ``filename``, ``window`` and ``prediction``, in the order given.
        """
        found: list[dict[str, Any]] = [
            {"window": window, "filename": file, "crop": self.crop(image, window)}
            for file, windows in images_windows
            for image in [load_image(file)]
            for window in windows
        ]
        if not found:
            return []
        name = self.inputs[0]
        inputs = np.stack([self.transformer.preprocess(name, one.pop("crop")) for one in found])
        given: dict[str, Any] = {name: inputs}
        predictions = self.forward_all(**given)[self.outputs[0]]
        return [{**one, "prediction": scores} for one, scores in zip(found, predictions, strict=True)]

    def detect_selective_search(self, image_fnames: Iterable[str]) -> list[dict[str, Any]]:
        """``detect_windows`` on windows that Selective Search proposes. Raises DataError without it."""
        try:
            import selective_search_ijcv_with_python as selective_search
        except ImportError:
            raise DataError(
                "detect_selective_search needs Matlab and github.com/sergeyk/selective_search_ijcv_with_python "
                "on Python's path; or give windows of your own to detect_windows"
            ) from None
        files = [os.path.abspath(name) for name in image_fnames]  # Matlab runs in another folder
        windows = selective_search.get_windows(files, cmd="selective_search_rcnn")
        return self.detect_windows(zip(files, windows, strict=True))

    def crop(self, image: np.ndarray, window: Sequence[float]) -> np.ndarray:
        """The window of an image (H, W, K), with its context, at the input's size if it has one.

        Without context, fractions of pixels are cut off. Raises ShapeError if it shows nothing of the image.
        """
        edges = np.asarray(window)
        if edges.shape != (4,) or edges.dtype.kind not in "fiu" or not np.isfinite(edges).all():
            raise ShapeError(f"window {edges.tolist()}: give four numbers, (ymin, xmin, ymax, xmax)")
        if self.context_pad:
            return self._crop_with_context(image, edges)
        return _part(image, edges.astype(int), edges)

    def _crop_with_context(self, image: np.ndarray, window: np.ndarray) -> np.ndarray:
        size = self.blobs[self.inputs[0]].width
        half = (window[2:] - window[:2] + 1) / 2
        centre, half = window[:2] + half, half * size / (size - 2 * self.context_pad)
        low, high = np.rint(centre - half), np.rint(centre + half)
        scale = size / np.maximum(high - low + 1, 1)
        start = np.rint(np.maximum(0, -low) * scale).astype(int)
        limit = np.array(image.shape[:2])
        low, high = (np.clip(corner, 0, limit).astype(int) for corner in (low, high))
        part = _part(image, np.concatenate([low, high]), window)
        room = np.minimum(np.rint((high - low + 1) * scale).astype(int), size - start)
        out = self.crop_mean.copy()
        place = tuple(slice(a, a + b) for a, b in zip(start, room, strict=True))
        out[place] = resize_image(part, room)
        return out


def _part(image: np.ndarray, corners: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Rows and columns of an image (H, W, K). Raises ShapeError if there are none of them."""
    part = image[corners[0] : corners[2], corners[1] : corners[3]]
    if not part.size:
        raise ShapeError(
            f"window {window.tolist()}: shows nothing of the image, {image.shape[0]} × {image.shape[1]}; "
            "a window is (ymin, xmin, ymax, xmax)"
        )
    return part
