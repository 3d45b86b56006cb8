"""The one door for image files: any bytes become the array that Caffe would get from OpenCV, or an error.

Caffe's channels are OpenCV's: blue, green, red. Weights trained with Caffe, and the mean values in its examples
(104, 117, 123), are in that order, so it is the order here too.

Pillow decodes, and only a list of plain formats: it hands others to external programs (EPS to Ghostscript), or has
rarely tested code for them. The number of pixels is limited, which limits the work done here.
"""

from __future__ import annotations

import io
import logging
import os
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from minicaffe.data.resize import resize
from minicaffe.errors import one_line

logger = logging.getLogger("minicaffe")

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
BAD_IMAGE = (OSError, ValueError)

END_OF_JPEG = b"\xff\xd9"
# For each EXIF orientation, the steps through rows and columns; for a sideways one, these are swapped first.
UPRIGHT = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}
SIDEWAYS = {5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
# Grey is (r · red + g · green + b · blue + half) >> bits. Each of OpenCV's readers has its own numbers.
LUMINANCE = {"PNG": (9797, 19234, 3737, 0, 15), "GIF": (9798, 19235, 3735, 1 << 14, 15)}
LUMINANCE["WEBP"] = LUMINANCE["GIF"]
OTHERS_LUMINANCE = (4899, 9617, 1868, 1 << 13, 14)

ENCODINGS = {"jpg": ("JPEG", {"quality": 95}), "png": ("PNG", {})}
MOST_WARNINGS = 20
_warned_of: set[str] = set()


class _Refused(ValueError):
    """An error raised here, as opposed to one of Pillow's."""


def decode_image(
    file: str | Path | BinaryIO, color: bool | None = True, size: tuple[int, int] | None = None
) -> np.ndarray:
    """The image of a file: uint8, (3, h, w) in the order blue, green, red, or (1, h, w) if grey.

    ``color``: True makes it three channels, False one, None as many as the file has (alpha is dropped); with
    True and False it stands upright, as its EXIF data say (OpenCV's flags COLOR, GRAYSCALE and UNCHANGED).
    ``size``: (height, width) to resize to. If a file has several images, the first is taken. A JPEG that ends too
    early is filled up, with a warning. Raises one of ``BAD_IMAGE`` if Caffe could not read the file as an image.
    """
    pixels = _decode(file, color)
    if size and size != pixels.shape[:2]:
        pixels = resize(pixels, *size)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1))


def encode_image(image: np.ndarray, kind: str) -> bytes:
    """An image, (3, h, w) in blue, green, red, or (1, h, w), as a file in one of ``ENCODINGS``."""
    pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image[::-1].transpose(1, 2, 0))
    file = io.BytesIO()
    form, options = ENCODINGS[kind]
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def _decode(file: str | Path | BinaryIO, color: bool | None) -> np.ndarray:
    """(H, W) or (H, W, 3) in red, green, blue."""
    try:
        if isinstance(file, (str, Path)):
            with open(plain_file(file), "rb") as opened:
                return _pixels(opened, color)
        return _pixels(file, color)
    except UnidentifiedImageError:
        raise _Refused("cannot identify it; JPEG, PNG, BMP, GIF, TIFF, WebP and PPM are read") from None
    except Image.DecompressionBombError:
        raise _Refused(f"too many pixels; an image may have {MAX_PIXELS:,}") from None
    except OSError as error:
        if error.errno is None:
            raise ValueError(one_line(error)) from None
        raise  # from the system, for example for a missing file
    except (MemoryError, _Refused):
        raise
    except Exception as error:  # on damaged files Pillow's readers raise errors of any type
        raise ValueError(f"damaged ({one_line(error)})") from None


def plain_file(path: str | Path) -> str | Path:
    """The path, unless reading it might never end. Raises OSError or ValueError."""
    found = os.stat(path)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise _Refused("not a file, but a device or a pipe")
    if found.st_size > MAX_BYTES:
        raise _Refused(f"{found.st_size:,} bytes; an image file may have {MAX_BYTES:,}")
    return path


def _pixels(file: BinaryIO, color: bool | None) -> np.ndarray:
    with Image.open(file, formats=FORMATS) as image:
        _check_size(image)
        if color is False and image.mode == "RGB" and image.format in ("JPEG", "MPO"):
            image.draft("L", None)  # use the luminance stored in the file
        try:
            image.load()
        except OSError:
            file.seek(0)
            data = file.read()
            if image.format not in ("JPEG", "MPO") or data.endswith(END_OF_JPEG):
                raise
            pixels = _pixels(io.BytesIO(data + END_OF_JPEG), color)
            _warn_of_truncation(str(getattr(file, "name", "a JPEG in a database")))
            return pixels
        pixels = _bytes_of(image)
        if color is True and pixels.ndim == 2:
            pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        elif color is False and pixels.ndim == 3:
            pixels = _grey(pixels, image.format)
        return pixels if color is None else _upright(pixels, image)


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _Refused(f"{image.width} × {image.height} pixels; an image may have {MAX_PIXELS:,}")


def _warn_of_truncation(name: str) -> None:
    """Once for each of the first few files."""
    if name not in _warned_of and len(_warned_of) < MOST_WARNINGS:
        _warned_of.add(name)
        more = "; further files are not named" if len(_warned_of) == MOST_WARNINGS else ""
        logger.warning("%s: a JPEG that ends too early; what is missing is grey, as in Caffe%s", name, more)


def _bytes_of(image: Image.Image) -> np.ndarray:
    """(H, W), or (H, W, 3) in red, green, blue; the upper 8 bits of 16 per pixel. Raises ValueError for more."""
    if image.mode.startswith("I"):
        if image.format == "TIFF" and max(image.tag_v2.get(258, (16,))) > 16:  # type: ignore[attr-defined]  # of TIFF
            raise _Refused("32 bits per pixel, which OpenCV and Caffe refuse; write it with 8 or 16")
        return (np.asarray(image) >> 8 & 255).astype(np.uint8)
    if image.mode == "F":
        raise _Refused("floating point, which OpenCV and Caffe refuse; HDF5Data reads arrays of floats")
    if image.mode == "CMYK" and image.format != "TIFF":
        return _from_cmyk(255 - np.asarray(image))
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    # convert would copy even an image of this mode
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _from_cmyk(inverted: np.ndarray) -> np.ndarray:
    """(H, W, 3) from (H, W, 4), where 255 means no ink."""
    black = inverted[:, :, 3:].astype(np.uint16)
    pixels: np.ndarray = black - ((255 - inverted[:, :, :3]) * black >> 8)
    return pixels.astype(np.uint8)


def _grey(pixels: np.ndarray, kind: str | None) -> np.ndarray:
    *weights, half, bits = LUMINANCE.get(kind or "", OTHERS_LUMINANCE)
    sums: np.ndarray = np.einsum(
        "hwc,c->hw", pixels, np.array(weights, np.int32), dtype=np.int32, casting="unsafe"
    )
    sums += half
    sums >>= bits
    return sums.astype(np.uint8)


def _upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """The pixels, turned as the EXIF data say; Pillow has already turned those of a TIFF."""
    data = image.info.get("exif") if image.format != "TIFF" else None
    if not data:
        return pixels
    exif = Image.Exif()
    try:
        exif.load(data)
        orientation = exif.get(0x0112, 1)
    except Exception:  # damaged ones are ignored, as in OpenCV
        return pixels
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    down, right = {**UPRIGHT, **SIDEWAYS}.get(orientation, (1, 1))
    return pixels[::down, ::right]
