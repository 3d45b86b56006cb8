"""Transformer: an image that a person has -> the array that a net takes (``caffe.io.Transformer``).

    x = resize(image) → transposed → channels swapped → · raw_scale → − mean → · input_scale

It is for single images in Python. What the Data layers do to their batches is a ``DataTransformer``
(minicaffe/data/transformer.py), which crops and mirrors, and knows nothing of colours' order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from minicaffe.classify.images import as_image, resize_image
from minicaffe.data.mean import four_axes_hint
from minicaffe.errors import DataError, ShapeError, counted
from minicaffe.spec.reader import nearest

Shape = tuple[int, ...]


class Transformer:
    """Prepares images for a net's inputs, each as ``set_…`` has said for it.

    ``inputs`` maps names of inputs to their shapes, (N, K, H, W). Raises DataError for another name, and for
    settings that do not fit the shape; ShapeError for an image that does not.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs: dict[str, Shape] = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, name: str, image: np.ndarray) -> np.ndarray:
        """What input ``name`` takes of an image (H', W', K): float32 (K, H, W), if transposed so."""
        shape = self._shape(name)
        is_flat = isinstance(image, np.ndarray) and image.shape == shape[2:] and name not in self.transpose
        x = np.array(image if is_flat else as_image(image), np.float32)
        if x.shape[:2] != shape[2:]:
            x = resize_image(x, shape[2:])
        if name in self.transpose:
            x = x.transpose(self.transpose[name])
        if name in self.channel_swap:
            self._check_channels(name, x, len(self.channel_swap[name]))
            x = x[list(self.channel_swap[name])]
        x = x * np.float32(self.raw_scale.get(name, 1))
        if name in self.mean:
            self._check_channels(name, x, len(self.mean[name]))
            x = x - self.mean[name]
        return (x * np.float32(self.input_scale.get(name, 1))).astype(np.float32, copy=False)

    def deprocess(self, name: str, data: np.ndarray) -> np.ndarray:
        """The image that ``preprocess`` made ``data`` (K, H, W) from, at the input's size."""
        self._shape(name)
        x = np.array(data, np.float32).squeeze()
        # grey, or of one pixel: its axes are needed to be put in order
        if x.ndim < 3 and name in self.transpose:
            x = x.reshape(np.shape(data)[-3:])
        x = x / np.float32(self.input_scale.get(name, 1))
        if name in self.mean:
            x = x + self.mean[name]
        x = x / np.float32(self.raw_scale.get(name, 1))
        if name in self.channel_swap:
            x = x[np.argsort(self.channel_swap[name])]
        if name in self.transpose:
            x = x.transpose(np.argsort(self.transpose[name]))
        return x

    def set_transpose(self, name: str, order: Sequence[int]) -> None:
        """The order of axes: (2, 0, 1) makes (K, H, W) of (H, W, K)."""
        if len(order) != len(self._shape(name)) - 1:
            raise DataError(f"transpose {tuple(order)}: input '{name}' has {len(self.inputs[name]) - 1} axes")
        if sorted(order) != list(range(len(order))):
            raise DataError(f"transpose {tuple(order)}: must name each axis once, as (2, 0, 1)")
        self.transpose[name] = order

    def set_channel_swap(self, name: str, order: Sequence[int]) -> None:
        """The order of channels: (2, 1, 0) makes blue, green, red of red, green, blue."""
        channels = self._shape(name)[1]
        if sorted(order) != list(range(channels)):
            raise DataError(
                f"channel swap {tuple(order)}: must name each of the {channels} channels of '{name}'"
            )
        self.channel_swap[name] = order

    def set_raw_scale(self, name: str, scale: float) -> None:
        """What the image is multiplied by before the mean is subtracted: 255 for nets that take 0 … 255."""
        self._shape(name)
        self.raw_scale[name] = scale

    def set_mean(self, name: str, mean: np.ndarray) -> None:
        """What is subtracted: a number for each channel, or an image, which is resized.

        The image is (K, H', W'), or (H', W') for all channels alike.
        """
        channels, *size = self._shape(name)[1:]
        mean = np.asarray(mean, np.float32)
        if mean.ndim == 2:
            mean = mean[None]
        counts = {1: (channels,), 3: (1, channels)}.get(mean.ndim, ())
        if mean.size == 0 or mean.shape[:1] not in [(count,) for count in counts]:
            raise DataError(
                f"a mean of shape {mean.shape} does not fit input '{name}', {self.inputs[name][1:]}: "
                f"it has {counted(channels, 'channel')}"
                f"{four_axes_hint(mean.shape) or '; give a number for each, or an image'}"
            )
        if not np.isfinite(mean).all():
            raise DataError(f"the mean for input '{name}' has nan or infinite values")
        if mean.ndim == 1:
            mean = mean[:, None, None]
        elif mean.shape[1:] != tuple(size):
            mean = resize_image(mean.transpose(1, 2, 0), size).transpose(2, 0, 1)
        self.mean[name] = mean

    def set_input_scale(self, name: str, scale: float) -> None:
        """What is multiplied by after all else."""
        self._shape(name)
        self.input_scale[name] = scale

    def _check_channels(self, name: str, x: np.ndarray, count: int) -> None:
        if len(x) < count:
            raise ShapeError(f"the image has {len(x)} channels; input '{name}' takes {count}")

    def _shape(self, name: str) -> Shape:
        if name not in self.inputs:
            known = ", ".join(self.inputs)
            raise DataError(f"'{name}' is none of the inputs ({known}){nearest(name, self.inputs)}")
        return self.inputs[name]
