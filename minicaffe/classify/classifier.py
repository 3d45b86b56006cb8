"""Classifier: the probabilities of a net's classes for images of any size (pycaffe's Classifier)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.classify.batches import forward_all
from minicaffe.classify.images import as_image, centre, resize_image
from minicaffe.classify.images import oversample as ten_crops
from minicaffe.classify.transformer import Transformer
from minicaffe.core.net import Net
from minicaffe.data.preparation import Preparation, default_preparation
from minicaffe.data.resize import resize
from minicaffe.errors import DataError, ShapeError

logger = logging.getLogger("minicaffe")

BOXES = ("DetectionEvaluate", "DetectionOutput", "Proposal", "YoloDetectionOutput", "Yolov3DetectionOutput")
MAX_SIDE = 10_000  # of an image that is resized: larger ones are a slip, and take gigabytes


class Classifier:
    """A net for images, with the preparation of an image for it.

    ``net`` is a Net, or what one is made of, with ``weights``. An image is resized to ``image_dims`` (height and
    width), cropped to the input's size, and transformed: ``channel_swap``, ``raw_scale``, ``mean`` and
    ``input_scale`` are those of ``Transformer``. What is not given is as in ``preparation``: by default the one
    that came with the weights, or where none came (``is_assumed``), what Caffe's nets are used to: blue, green, red
    in 0 … 255, and grey in 0 … 1. ``output`` has the scores (default: what a Softmax makes, or the first output).

    ``class_names`` are those that came with the weights. Raises what nets raise, and ShapeError if the net does
    not take images.
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
        *,
        preparation: Preparation | None = None,
    ) -> None:
        self.net = net if isinstance(net, Net) else Net(net, weights=weights, phase="test")
        self.input = image_input(self.net)
        self.output = _scores_of(self.net) if output is None else output
        shape = self.net.blobs[self.input].shape
        self.crop_dims = np.array(shape[2:])
        self.preparation = _merged(
            self._default(preparation),
            image_dims=image_dims,
            mean=mean,
            input_scale=input_scale,
            raw_scale=raw_scale,
            channel_swap=channel_swap,
        )
        self.transformer = transformer_for(
            self.input,
            shape,
            self.preparation.mean,
            self.preparation.input_scale,
            self.preparation.raw_scale,
            self.preparation.channel_swap,
        )
        dims = self.crop_dims if self.preparation.image_dims is None else self.preparation.image_dims
        if np.shape(dims) != (2,) or not all(isinstance(size, Real) for size in dims):
            raise ShapeError(f"image_dims {dims}: give height and width, as 256,256")
        self.image_dims = tuple(dims)
        if any(size < crop for size, crop in zip(self.image_dims, self.crop_dims, strict=True)):
            raise ShapeError(
                f"image_dims {self.image_dims} are less than the net's input, {shape[2:]}; give at least these"
            )
        if max(self.image_dims) > max(MAX_SIDE, *self.crop_dims):
            raise ShapeError(f"image_dims {self.image_dims}: an image may have {MAX_SIDE} pixels a side")

    def _default(self, given: Preparation | None) -> Preparation:
        """The preparation that holds unless something else is given."""
        found = self.net.preparation if given is None else given
        self.is_assumed = found is None
        if found is None:
            return default_preparation(self.net.blobs[self.input].channels)
        dims = found.image_dims  # of the net that was trained, which may have had smaller images
        fits = dims is not None and all(size >= crop for size, crop in zip(dims, self.crop_dims, strict=True))
        return found if fits else replace(found, image_dims=None)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, if the weights have them; otherwise ()."""
        return self.preparation.class_names

    def predict(self, images: Iterable[np.ndarray], oversample: bool = False) -> np.ndarray:
        """The scores, (N, classes), for N images (H, W, K) as ``load_image`` reads them.

        Those of the centre, or with ``oversample`` the mean over ten crops of each: centre, corners, mirror images.
        Raises ShapeError or DataError, with the image's number, for what is no image that the net takes.
        """
        resized = [self._resized(image) for image in self._checked(images)]
        if oversample:
            crops = ten_crops(resized, self.crop_dims.tolist())
        else:
            crops = self._centres(resized)
        inputs = self._inputs(crops)
        scores = forward_all(self.net, {self.input: inputs}, [self.output])[self.output]
        return scores.reshape(len(resized), 10, -1).mean(1) if oversample else scores

    def prepare(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """What the net's input takes of the centres of N images, (N, K, H, W). Raises what ``predict`` raises."""
        return self._inputs(self._centres([self._resized(image) for image in self._checked(images)]))

    def _centres(self, images: Iterable[np.ndarray]) -> np.ndarray:
        return np.stack([centre(image, self.crop_dims.tolist()) for image in images])

    def _inputs(self, crops: np.ndarray) -> np.ndarray:
        return np.stack([self.transformer.preprocess(self.input, crop) for crop in crops])

    def _resized(self, image: np.ndarray) -> np.ndarray:
        if self.preparation.as_bytes and image.shape[:2] != self.image_dims:
            pixels = np.rint(255 * image).clip(0, 255).astype(np.uint8)
            return resize(pixels, *map(int, self.image_dims)).astype(np.float32) / np.float32(255)
        return resize_image(image, self.image_dims)

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
            given = array.shape[2]
            if given != channels and not (swapped and given > channels):  # the swap takes those that it names
                raise ShapeError(
                    f"image {i} has {given} channels; the net's input '{self.input}' takes {channels}"
                )
        if not arrays:
            raise ShapeError("no images to classify; give a list of at least one")
        return arrays


def _merged(default: Preparation, **given: Any) -> Preparation:
    """A preparation in which what is given, and is not None, takes the place of what is there."""
    changed = {name: value for name, value in given.items() if value is not None}
    if "raw_scale" in changed or default.raw_scale is None:  # then images need not be 0 … 1
        changed["as_bytes"] = False
    return replace(default, **changed)


def _scores_of(net: Net) -> str:
    """Of several outputs the one that a Softmax makes, or else the first, as pycaffe's Classifier takes it."""
    made = {name for layer in net.layers if layer.type == "Softmax" for name in layer.spec.top}
    chosen = next((name for name in net.outputs if name in made), net.outputs[0])
    if len(net.outputs) > 1:
        logger.info("Of the outputs %s, '%s' has the scores", ", ".join(net.outputs), chosen)
    return chosen


def check_scores(net: Net, output: str) -> None:
    """Raise ShapeError unless an output of a net has one score for each class: (N, C), or (N, C, 1, …)."""
    maker = next((layer for layer in net.layers if output in layer.spec.top), None)
    shape = net.blobs[output].shape
    if maker is not None and maker.type in BOXES:
        what = "boxes"
    elif sum(size > 1 for size in shape[1:]) > 1:
        what = "a map"
    elif maker is not None and maker.type == "ArgMax":
        what = "numbers of classes"
    else:
        return
    raise ShapeError(
        f"net '{net.name}': its output '{output}', of shape {shape}, is {what}, not a score for each class; "
        "'net.forward' in Python gives it as it is"
    )


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
