"""Preparation: what a picture goes through before a net sees it. It is stored with the net's weights.

    x = crop(resize(picture)) → channels swapped → · raw_scale → − mean → · input_scale

Pictures are (H, W, K), in red, green, blue, from 0 to 1. The settings are those of pycaffe's Classifier.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicaffe.files.weight_reader import WeightReader

KEY, MEAN_KEY = "preparation", "preparation_mean"  # in the .npz; the keys of layers have a /number
LARGEST = 1e38  # about the largest number that float32 holds


@dataclass(frozen=True, eq=False)
class Preparation:
    """``image_dims``: the size, (height, width), before the crop to the net's input; None: the input's size.

    ``mean`` has a number for each channel, (K,), or is an image of the input's size, (K, h, w). ``as_bytes``:
    resize as the data layers do, in whole numbers, not as pycaffe does. A step that is None is skipped.
    ``class_names`` are the names of the classes, from 0 on, if they are known.
    """

    image_dims: tuple[int, int] | None = None
    channel_swap: tuple[int, ...] | None = None
    raw_scale: float | None = None
    mean: np.ndarray | None = None
    input_scale: float | None = None
    as_bytes: bool = False
    class_names: tuple[str, ...] = ()

    def arrays(self) -> dict[str, np.ndarray]:
        """What an .npz stores of it: its settings as JSON, and the mean."""
        settings = {
            name: getattr(self, name)
            for name in ("image_dims", "channel_swap", "raw_scale", "input_scale", "as_bytes", "class_names")
        }
        mean = {} if self.mean is None else {MEAN_KEY: np.asarray(self.mean, np.float32)}
        return {KEY: np.array(json.dumps(settings)), **mean}

    def __str__(self) -> str:
        """The steps that a picture goes through, in words."""
        dims = "{} × {}, and cropped".format(*self.image_dims) if self.image_dims else "the net's input"
        words = [f"resized to {dims}"]
        if self.channel_swap is None:
            words.append("channels as they are")
        elif sorted(self.channel_swap) == [0, 1, 2]:
            words.append(", ".join(("red", "green", "blue")[channel] for channel in self.channel_swap))
        else:
            words.append("channels " + ", ".join(map(str, self.channel_swap)))
        words.append(f"0 … {1 if self.raw_scale is None else self.raw_scale:g}")
        if self.mean is None:
            words.append("no mean")
        elif self.mean.ndim == 1:
            words.append(f"less {', '.join(f'{value:g}' for value in self.mean)}")
        else:
            words.append("less the mean image")
        words += [f"times {self.input_scale:g}"] if self.input_scale is not None else []
        return ", ".join(words)


def default_preparation(channels: int) -> Preparation:
    """The preparation for a net of which nothing is known: colour as Caffe's nets expect it, grey as LeNet does."""
    if channels == 3:
        return Preparation(channel_swap=(2, 1, 0), raw_scale=255.0)
    return Preparation(raw_scale=1.0)


def read_preparation(file: WeightReader) -> Preparation | None:
    """The preparation in a weight file, or None if it has none. Raises the reader's error."""
    if KEY not in file.shapes:
        return None
    try:
        settings = json.loads(file.text(KEY))
        mean = _checked_mean(file.read(MEAN_KEY)) if MEAN_KEY in file.shapes else None
        return _checked(settings, mean)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise file.error(
            f"{file.path}: its '{KEY}' cannot be understood ({error!s:.100}); save the net again"
        ) from None


def _checked(settings: Mapping[str, Any], mean: np.ndarray | None) -> Preparation:
    """The preparation with these settings. Raises ValueError, KeyError or TypeError if they are not valid."""
    dims, swap = _whole(settings["image_dims"], 1), _whole(settings["channel_swap"], 0)
    if dims is not None and len(dims) != 2:
        raise ValueError(f"image_dims {dims}")
    names = settings["class_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names are not strings")
    scales = [_scale(settings[name]) for name in ("raw_scale", "input_scale")]
    return Preparation(
        image_dims=dims,
        channel_swap=swap,
        raw_scale=scales[0],
        mean=mean,
        input_scale=scales[1],
        as_bytes=settings["as_bytes"] is True,
        class_names=tuple(names),
    )


def _checked_mean(mean: np.ndarray) -> np.ndarray:
    if mean.dtype.kind != "f" or mean.ndim not in (1, 3) or not mean.size or not np.isfinite(mean).all():
        raise ValueError(f"a mean of {mean.dtype}, {mean.shape}")
    return mean


def _whole(values: Sequence[int] | None, least: int) -> tuple[int, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or not all(type(x) is int and least <= x < 2**31 for x in values):
        raise ValueError(f"{values!r:.60} are not whole numbers")
    return tuple(values)


def _scale(value: float | None) -> float | None:
    if value is not None and not (type(value) in (int, float) and abs(value) < LARGEST):
        raise ValueError(f"{value!r:.60} is not a scale")
    return value
