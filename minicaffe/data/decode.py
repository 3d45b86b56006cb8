"""Decoding an image file with Pillow into the array that Caffe would have from OpenCV.

Caffe's channels are OpenCV's: blue, green, red. Weights that were trained with Caffe, and the mean values in
its examples (104, 117, 123), are in that order, so it is the order here too.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from minicaffe.data.resize import resize

BAD_IMAGE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def decode_image(
    file: str | Path | BinaryIO, color: bool | None = True, size: tuple[int, int] | None = None
) -> np.ndarray:
    """The image of a file: uint8, (3, h, w) in the order blue, green, red, or (1, h, w) if grey.

    ``color``: True makes it three channels, False one, None as many as the file has (alpha is dropped).
    ``size``: (height, width) to resize to. Raises one of ``BAD_IMAGE`` where the file is no image.
    """
    with Image.open(file) as opened:
        image = _eight_bit(opened)
        grey = image.mode in ("1", "L", "LA") if color is None else not color
        image = image.convert("L" if grey else "RGB")
    pixels = np.asarray(image)
    if size and size != pixels.shape[:2]:
        pixels = resize(pixels, *size)
    return pixels[None] if grey else np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Of 16 bits a pixel keep the upper 8; Pillow's own conversion would clip."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
