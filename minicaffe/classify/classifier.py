"""Classifier: the probabilities of a net's classes for images of any size (pycaffe's Classifier)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.classify.batches import forward_all
from minicaffe.classify.images import as_image, centre, resize_image
from minicaffe.classify.images import oversample as ten_crops
from minicaffe.classify.transformer import Transformer
from minicaffe.errors import DataError, ShapeError
from minicaffe.net import Net

MAX_SIDE = 10_000  # of an image that is resized: larger ones are a slip, and take gigabytes


class Classifier:
    """A net for images, with what is done to an image before.

    ``net`` is a Net, or what one is made of, with ``weights``. An image is resized to ``image_dims`` (height and
    width; default: the input's), cropped to the input's size, and transformed: ``channel_swap``, ``raw_scale``,
    ``mean`` and ``input_scale`` are those of ``Transformer``. Raises what nets raise, and ShapeError where the net
    does not take images.
    """

    def __init__(
        self,
        net: Net | str | Path,
        weights: str | Path | None = None,
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        output: str | None = None,
    ) -> None:
        self.net = net if isinstance(net, Net) else Net(net, weights=weights, phase="test")
        self.input = image_input(self.net)
        self.output = self.net.outputs[0] if output is None else output
        shape = self.net.blobs[self.input].shape
        self.transformer = transformer_for(self.input, shape, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(shape[2:])
        dims = self.crop_dims if image_dims is None else image_dims
        if np.shape(dims) != (2,) or not all(isinstance(size, Real) for size in dims):
            raise ShapeError(f"image_dims {dims}: give height and width")
        self.image_dims = tuple(dims)
        if any(size < crop for size, crop in zip(self.image_dims, self.crop_dims, strict=True)):
            raise ShapeError(f"image_dims {self.image_dims} are less than the net's input, {shape[2:]}")
        if max(self.image_dims) > max(MAX_SIDE, *self.crop_dims):
            raise ShapeError(f"image_dims {self.image_dims}: an image may have {MAX_SIDE} pixels a side")

    def predict(self, images: Iterable[np.ndarray], oversample: bool = True) -> np.ndarray:
        """The scores, (N, classes), for N images (H, W, K) as ``load_image`` reads them.

        With ``oversample`` the mean over ten crops of each (centre, corners, mirror images), else the centre's.
        Raises ShapeError or DataError, with the image's number, for what is no image that the net takes.
        """
        resized = [resize_image(image, self.image_dims) for image in self._checked(images)]
        if oversample:
            crops = ten_crops(resized, self.crop_dims)
        else:
            crops = np.stack([centre(image, self.crop_dims) for image in resized])
        inputs = np.stack([self.transformer.preprocess(self.input, crop) for crop in crops])
        scores = forward_all(self.net, {self.input: inputs}, [self.output])[self.output]
        return scores.reshape(len(resized), 10, -1).mean(1) if oversample else scores

    def _checked(self, images: Any) -> list[np.ndarray]:
        """The images, if they are what the net takes. Raises ShapeError or DataError."""
        if isinstance(images, np.ndarray) and images.ndim != 4:
            raise ShapeError(
                f"an array of shape {images.shape}, not a list of images (H, W, K); give [image] for one"
            )
        if isinstance(images, (str, bytes, Path)) or not isinstance(images, Iterable):
            raise DataError(
                f"images: {images!r:.60} is no list of arrays (H, W, K); load_image makes them of files"
            )
        arrays = [as_image(image, f"image {i}") for i, image in enumerate(images)]
        channels, swapped = self.net.blobs[self.input].shape[1], self.input in self.transformer.channel_swap
        for i, array in enumerate(arrays):
            held = array.shape[2]
            if held != channels and not (swapped and held > channels):  # the swap takes those that it names
                raise ShapeError(
                    f"image {i} has {held} channels; the net's input '{self.input}' takes {channels}"
                )
        if not arrays:
            raise ShapeError("no images to classify; give a list of at least one")
        return arrays


def transformer_for(
    name: str,
    shape: Sequence[int],
    mean: np.ndarray | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> Transformer:
    """A transformer of images (H, W, K) for one input, with those settings that are given."""
    transformer = Transformer({name: shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer


def image_input(net: Net) -> str:
    shapes = {name: net.blobs[name].shape for name in net.inputs}
    if len(shapes) != 1 or len(next(iter(shapes.values()))) != 4:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"
        raise ShapeError(
            f"net '{net.name}': to classify, it needs one input of images, (N, K, H, W); it has {found}: "
            "use the deploy net"
        )
    name, shape = next(iter(shapes.items()))
    if min(shape) < 1:
        raise ShapeError(f"net '{net.name}': its input '{name}' has shape {shape}; give it a size")
    return name
