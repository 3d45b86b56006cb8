"""Images as float arrays, (H, W, K): read, resized, and cropped into ten (``caffe.io``).

Colours are red, green, blue, and numbers 0 … 1, as pycaffe has them; a ``Transformer`` makes a net's input of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.data.decode import BAD_IMAGE, decode_image
from minicaffe.errors import DataError, ShapeError, one_line
from minicaffe.files.atomic import check_name

# of red, green, blue: scikit-image's, so pycaffe's
LUMINANCE = np.array([0.2125, 0.7154, 0.0721], np.float32)


def load_image(file: str | Path, color: bool = True) -> np.ndarray:
    """The image of a file, float32 (H, W, 3) in red, green, blue, or (H, W, 1) without ``color``; 0 … 1.

    It stands upright, as its EXIF data say. Raises DataError if the file is not an image.
    """
    try:
        check_name(file)
        pixels = decode_image(file)
    except FileNotFoundError:
        raise DataError(f"{file}: no such image; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{file}: is a folder; name its images, as in {Path(file) / '*.jpg'}") from None
    except BAD_IMAGE as error:
        problem = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
        raise DataError(f"{file}: cannot be read as an image ({problem})") from None
    image = pixels[::-1].transpose(1, 2, 0).astype(np.float32) / np.float32(255)
    if color:
        return image
    is_grey = (pixels == pixels[:1]).all()
    return image[:, :, :1] if is_grey else (image @ LUMINANCE)[:, :, None]


def as_image(image: Any, name: str = "the image") -> np.ndarray:
    """An array (H, W, K), float32; ``name`` says in an error which one it is.

    Raises DataError for what is not an array of numbers, ShapeError for other numbers of axes, and for no pixels.
    """
    if isinstance(image, (str, bytes, Path)):
        raise DataError(
            f"{name} is the text {str(image)[:60]!r}, not an array; load_image reads a file as one"
        )
    try:
        array = np.asarray(image, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} is not an array of numbers ({one_line(error)})") from None
    if array.ndim != 3:
        fix = "; image[:, :, None] has the third" if array.ndim == 2 else ""
        raise ShapeError(f"{name} has shape {array.shape}; expected (height, width, channels){fix}")
    if array.size == 0:
        raise ShapeError(f"{name} has shape {array.shape}, and no pixels")
    return array


def resize_image(image: np.ndarray, new_dims: Sequence[int], interp_order: int = 1) -> np.ndarray:
    """An image (H, W, K) resized to ``new_dims`` (height, width): float32, bilinear, or nearest for order 0.

    Nothing is averaged, also where it shrinks: so did pycaffe's when nets were trained. For one or three channels
    pixel centres lie half a step in, and what is beyond the edge is the image's least value; for other numbers of
    channels corners stay corners (scikit-image's ``resize`` and SciPy's ``zoom``). Raises DataError or ShapeError.
    """
    if interp_order not in (0, 1):
        raise DataError(
            f"interp_order {interp_order}: 0 (nearest) and 1 (bilinear) are there; use one of them"
        )
    image = as_image(image)
    if np.shape(new_dims) != (2,) or min(int(size) for size in new_dims) < 0:
        raise ShapeError(f"new_dims {new_dims}: give height and width")
    centred = image.shape[2] in (1, 3)
    outside = image.min() if centred else np.float32(0)
    rows, columns = (
        _weights(old, int(new), centred, interp_order)
        for old, new in zip(image.shape, new_dims, strict=False)
    )
    resized: np.ndarray = np.einsum("ih,hwk,jw->ijk", rows, image - outside, columns, optimize=True)
    return np.asarray(resized + outside, np.float32)


def _weights(old: int, new: int, centred: bool, order: int) -> np.ndarray:
    """What each of ``new`` pixels of a line takes of each of ``old`` ones: (new, old)."""
    pixels = np.arange(new, dtype=np.float64)
    positions = (pixels + 0.5) * old / new - 0.5 if centred else pixels * ((old - 1) / max(new - 1, 1))
    if order == 1:
        weights: np.ndarray = np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(old)))
        return weights
    nearest = np.clip(np.floor(positions + 0.5), 0, old - 1)
    return np.asarray(nearest[:, None] == np.arange(old), np.float64)


def oversample(images: Sequence[np.ndarray], crop_dims: Sequence[int]) -> np.ndarray:
    """Of each image (H, W, K) the four corners and the centre, and the mirror images of these: (10·N, h, w, K).

    Raises ShapeError if there are none, or if one is smaller.
    """
    height, width = (int(size) for size in crop_dims)
    crops = []
    for number, image in enumerate(images):
        if np.ndim(image) != 3 or image.shape[0] < height or image.shape[1] < width:
            raise ShapeError(
                f"image {number} has shape {np.shape(image)}; ({height}, {width}, channels) is the least to crop"
            )
        down, right = image.shape[0] - height, image.shape[1] - width
        corners = [(0, 0), (0, right), (down, 0), (down, right)]
        five = [image[y : y + height, x : x + width] for y, x in corners]
        five.append(centre(image, crop_dims))
        crops += [*five, *(crop[:, ::-1] for crop in five)]
    if not crops:
        raise ShapeError("no images to crop; give a list of at least one")
    return np.stack(crops).astype(np.float32)


def centre(image: np.ndarray, crop_dims: Sequence[int]) -> np.ndarray:
    """The middle of an image, (h, w, K)."""
    (y, x), (height, width) = (
        ((image.shape[axis] - int(crop_dims[axis])) // 2 for axis in (0, 1)),
        (int(size) for size in crop_dims),
    )
    return image[y : y + height, x : x + width]
