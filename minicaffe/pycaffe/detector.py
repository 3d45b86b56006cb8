"""caffe.Detector: a net run on windows of images, each warped to the net's input (R-CNN, Girshick et al. 2014)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.classify.classifier import transformer_for
from minicaffe.classify.images import load_image, resize_image
from minicaffe.errors import ShapeError
from minicaffe.ops.rounding import round_half_away
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
        self.context_pad = context_pad or 0
        if self.context_pad and shape[2] != shape[3]:
            raise ShapeError(f"context_pad: the net's input must be square; it is {shape[2]} × {shape[3]}")
        nothing = np.zeros(shape[1:], np.float32)  # what the net takes for the mean, or for black
        self._background = self.transformer.deprocess(name, nothing).reshape(*shape[2:], shape[1])

    def detect_windows(
        self, images_windows: Iterable[tuple[str, Sequence[Sequence[int]]]]
    ) -> list[dict[str, Any]]:
        """Run the net on (image file, windows) pairs; a window is (ymin, xmin, ymax, xmax), the last two not in it.

        Returns for each window a dict with ``filename``, ``window`` and ``prediction``, in the order given.
        """
        found = [
            {"window": window, "filename": file, "crop": self.crop(image, np.asarray(window))}
            for file, windows in images_windows
            for image in [load_image(file)]
            for window in windows
        ]
        if not found:
            return []
        name = self.inputs[0]
        inputs = np.stack([self.transformer.preprocess(name, one.pop("crop")) for one in found])
        predictions = self.forward_all(**{name: inputs})[self.outputs[0]]
        return [{**one, "prediction": scores} for one, scores in zip(found, predictions, strict=True)]

    def crop(self, image: np.ndarray, window: np.ndarray) -> np.ndarray:
        """The window of an image (H, W, K), with its context, at the input's size, where it has one."""
        if not self.context_pad:
            return image[window[0] : window[2], window[1] : window[3]]
        size = self.blobs[self.inputs[0]].width
        half = (window[2:] - window[:2] + 1) / 2
        centre, half = window[:2] + half, half * size / (size - 2 * self.context_pad)
        low, high = np.round(centre - half), np.round(centre + half)
        scale = size / (high - low + 1)
        start = round_half_away(np.maximum(0, -low) * scale).astype(int)
        limit = np.array(image.shape[:2])
        low, high = (np.clip(corner, 0, limit).astype(int) for corner in (low, high))
        room = np.minimum(round_half_away((high - low + 1) * scale).astype(int), size - start)
        part = image[low[0] : high[0], low[1] : high[1]]
        out = self._background.copy()
        place = tuple(slice(a, a + b) for a, b in zip(start, room, strict=True))
        out[place] = resize_image(part, room)
        return out
