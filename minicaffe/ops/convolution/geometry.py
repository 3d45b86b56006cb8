"""The shapes of a convolution: the input, how the window moves over it, and what follows from these.

Names used in this package, for two spatial axes (with three, a depth D, OD, kd comes first):

    x (C, H, W, N)         input: C channels, H × W pixels, N images
    w (M, C/g, kh, kw)     filters, in g groups
    y (M, OH, OW, N)       output
    K = C·kh·kw            rows of the data matrix X, K/g in each group
    P = OH·OW·N            columns of X

Stride s, pad p and dilation d are one number per spatial axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import NamedTuple


class ReceptiveField(NamedTuple):
    """The pixels of the image that output o of some layer depends on, along each axis.

    They are ``size`` pixels, from number o · ``stride`` + ``offset`` on, which is less than 0 in the padding.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: tuple[int, ...]

    def under(self, window: Window) -> ReceptiveField:
        """The field of an output of ``window``, which moves over outputs that have this one."""
        axes = [*zip(*self, window.extent, window.stride, window.pad, strict=True)]
        return ReceptiveField(
            tuple(size + (extent - 1) * step for size, step, _, extent, _, _ in axes),
            tuple(step * stride for _, step, _, _, stride, _ in axes),
            tuple(offset - pad * step for _, step, offset, _, _, pad in axes),
        )

    def joined(self, other: ReceptiveField) -> ReceptiveField | None:
        """The least field around this and another of the same stride, as of a sum; None if the strides differ."""
        if self.stride != other.stride:
            return None
        begin = tuple(map(min, self.offset, other.offset))
        ends = (tuple(map(sum, zip(field.offset, field.size, strict=True))) for field in (self, other))
        size = tuple(end - start for end, start in zip(map(max, *ends), begin, strict=True))
        return ReceptiveField(size, self.stride, begin)


@dataclass(frozen=True)
class Window:
    """How a kernel moves over an image. Sizes are (height, width), or (depth, height, width) for a volume."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    pad: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)

    @cached_property
    def extent(self) -> tuple[int, ...]:
        """The pixels that the dilated kernel spans along each axis: d·(k − 1) + 1."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))

    def padded_size(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """The size of an image with its border: H + 2p."""
        return tuple(size + 2 * p for size, p in zip(image, self.pad, strict=True))

    def output_size(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """(OH, OW) for an image (H, W): floor((H + 2p − extent) / s) + 1. Not positive where no window fits."""
        padded = self.padded_size(image)
        return tuple((p - e) // s + 1 for p, e, s in zip(padded, self.extent, self.stride, strict=True))

    def inside(self, image: tuple[int, ...]) -> tuple[slice, ...]:
        """Where an image (H, W) lies in the padded one: a slice for each axis."""
        return tuple(slice(p, p + size) for size, p in zip(image, self.pad, strict=True))

    @staticmethod
    def receptive_field(windows: Iterable[Window], axes: int = 2) -> ReceptiveField:
        """What an output of the last of ``windows`` sees of the image that the first one moves over.

        Without windows it is the pixel of the same place, along each of ``axes``.
        """
        field = ReceptiveField((1,) * axes, (1,) * axes, (0,) * axes)
        for window in windows:
            field = field.under(window)
        return field

    def positions(self) -> Iterator[tuple[int, ...]]:
        """The kernel's positions (i, j), row by row."""
        return product(*map(range, self.kernel))

    def under(self, position: tuple[int, ...], output: tuple[int, ...]) -> tuple[slice, ...]:
        """The padded image's pixels under a kernel position (i, j), one for each output: a slice for each axis."""
        return tuple(map(self.pixels, range(len(output)), position, output))

    def pixels(self, axis: int, position: int, outputs: int, first: int = 0) -> slice:
        """The same along one axis: o·s + position·d for each of ``outputs`` outputs o, from the ``first`` on."""
        start = first * self.stride[axis] + position * self.dilation[axis]
        return slice(start, start + (outputs - 1) * self.stride[axis] + 1, self.stride[axis])


@dataclass(frozen=True)
class Geometry:
    """The shapes of one convolution: ``shape`` is the input's, (C, H, W, N); M ``filters`` in g groups.

    Raises ValueError where no window fits the image.
    """

    shape: tuple[int, ...]
    filters: int
    window: Window
    group: int = 1

    def __post_init__(self) -> None:
        if min(self.output) < 1:
            raise ValueError(f"a window of {self.window.extent} does not fit a padded image of {self.padded}")

    @cached_property
    def channels(self) -> int:
        """C."""
        return self.shape[0]

    @cached_property
    def image(self) -> tuple[int, ...]:
        """(H, W)."""
        return self.shape[1:-1]

    @cached_property
    def batch(self) -> int:
        """N."""
        return self.shape[-1]

    @cached_property
    def padded(self) -> tuple[int, ...]:
        """(H, W) with the border."""
        return self.window.padded_size(self.image)

    @cached_property
    def output(self) -> tuple[int, ...]:
        """(OH, OW)."""
        return self.window.output_size(self.image)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """(M, OH, OW, N)."""
        return (self.filters, *self.output, self.batch)

    @cached_property
    def weight_shape(self) -> tuple[int, ...]:
        """(M, C/g, kh, kw)."""
        return (self.filters, self.channels // self.group, *self.window.kernel)

    @cached_property
    def depth(self) -> int:
        """K/g: the number of terms in each element of y."""
        return self.channels // self.group * math.prod(self.window.kernel)

    @cached_property
    def columns(self) -> int:
        """P."""
        return math.prod(self.output) * self.batch

    @cached_property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image's forward."""
        return self.filters * self.depth * math.prod(self.output)

    @cached_property
    def is_pointwise(self) -> bool:
        """Whether X is x itself: a 1 × 1 kernel with stride 1 and no padding."""
        return {*self.window.kernel, *self.window.stride} == {1} and not any(self.window.pad)

    def followed_by(self, filters: int, window: Window) -> Geometry:
        """The geometry of a convolution of this one's output, with as many groups."""
        return Geometry(self.output_shape, filters, window, self.group)

    @cached_property
    def turned(self) -> Geometry | None:
        """The convolution that takes dy to dx, with the filters turned by 180°; None if the stride is not 1."""
        window = self.window
        pad = tuple(e - 1 - p for e, p in zip(window.extent, window.pad, strict=True))
        if set(window.stride) != {1} or min(pad) < 0:
            return None
        return self.followed_by(self.channels, replace(window, pad=pad))
