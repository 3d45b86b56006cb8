"""What a net's input shows: the pixels of the pictures it was made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minicaffe.data.preparation import Preparation


def as_pixels(images: NDArray[np.float32], preparation: Preparation | None) -> NDArray[np.uint8]:
    """Red, green and blue, (n, H, W, 3), of prepared images (n, C, H, W) with C = 1 or 3.

    Where ``preparation`` is None, or is of images of another size, each image is stretched from its least to its
    largest number.
    """
    pixels = _undone(images, preparation) if preparation is not None else None
    if pixels is None:
        lo, hi = images.min(axis=(1, 2, 3), keepdims=True), images.max(axis=(1, 2, 3), keepdims=True)
        pixels = (images - lo) / np.maximum(hi - lo, 1e-12) * 255
        if len(images[0]) == 3 and preparation is None:
            pixels = pixels[:, ::-1]  # Caffe's channels are blue, green, red
    codes = np.rint(np.nan_to_num(pixels).clip(0, 255)).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(np.broadcast_to(codes, (*codes.shape[:3], 3)))


def _undone(images: NDArray[np.float32], preparation: Preparation) -> NDArray[np.float32] | None:
    """The pixels, 0 … 255, before the steps of ``preparation``; None if its mean does not fit."""
    mean = preparation.mean
    pixels = images / np.float32(preparation.input_scale or 1)
    if mean is not None:
        mean = mean.reshape(-1, 1, 1) if mean.ndim == 1 else mean
        if mean.shape not in ((1, 1, 1), (len(images[0]), 1, 1), images.shape[1:]):
            return None
        pixels = pixels + mean
    pixels = pixels * np.float32(255 / (preparation.raw_scale or 1))
    if preparation.channel_swap is not None:
        pixels = pixels[:, np.argsort(preparation.channel_swap)]
    return pixels


def shrunk(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Pictures (…, h, w, 3) of at most ``side`` pixels a side: the mean of every k × k pixels, with the least k."""
    h, w = pixels.shape[-3:-1]
    k = -(-max(h, w) // side)
    if k == 1:
        return pixels
    k = min(k, h, w)
    blocks = pixels[..., : h // k * k, : w // k * k, :].reshape(*pixels.shape[:-3], h // k, k, w // k, k, 3)
    means: NDArray[np.uint8] = np.rint(blocks.mean(axis=(-4, -2))).astype(np.uint8)
    return means
