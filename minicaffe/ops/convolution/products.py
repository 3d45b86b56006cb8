"""What every implementation of convolution offers, and which one is used for which shapes.

``reference.py``      the formulas as they stand: the page to read first
``dense.py``          one GEMM over the data matrix, block by block: for all shapes with two spatial axes
``winograd.py``       3 × 3 windows: a quarter of the products; used where that is faster, see ``engine.py``
``winograd_rows.py``  windows 5 wide: 2/5 of the products; used in the same way
``depthwise.py``      a group for each channel: no data matrix
``channels_last.py``  the same for few pixels
``vertical.py``       kh × 1 windows: no data matrix; used for the first stage of a spatial low-rank convolution
``volume.py``         three spatial axes, as a convolution over two
``in_order.py``       ``engine: CAFFE``: dense, vertical and depthwise with sums in a fixed order
"""

from __future__ import annotations

from typing import Protocol

from numpy.typing import DTypeLike

from minicaffe.device.array import CPU, Array, Device
from minicaffe.ops.convolution import channels_last, winograd, winograd_rows
from minicaffe.ops.convolution.channels_last import ChannelsLastConvolution
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.ops.convolution.depthwise import DepthwiseConvolution
from minicaffe.ops.convolution.geometry import Geometry, Window
from minicaffe.ops.convolution.in_order import InOrderConvolution, InOrderDepthwise
from minicaffe.ops.convolution.volume import VolumeConvolution
from minicaffe.ops.convolution.winograd import WinogradConvolution
from minicaffe.ops.convolution.winograd_rows import RowWinogradConvolution
from minicaffe.ops.engine import engine_for
from minicaffe.ops.epilogue import Epilogue


class Products(Protocol):
    """The products that a convolution consists of: one for forward, two for backward. Shapes: ``geometry.py``."""

    geometry: Geometry

    def forward(
        self, x: Array, w: Array, out: Array, bias: Array | None = None, epilogue: Epilogue | None = None
    ) -> Array:
        """Write y = w ∗ x + b, or what the epilogue makes of it, into ``out``; return what ``weight_grad`` takes in
        place of x."""

    def pad(self, x: Array) -> Array:
        """What ``forward`` returns. It may be a buffer that the next call overwrites."""

    def weight_grad(self, dy: Array, padded: Array, out: Array, bias_out: Array | None = None) -> None:
        """Write dw into ``out`` and, where given, db into ``bias_out``."""

    def input_grad(self, dy: Array, w: Array, out: Array) -> None:
        """Write dx into ``out``."""


def products_for(
    geometry: Geometry, dtype: DTypeLike, device: Device = CPU, engine: str = "DEFAULT"
) -> Products:
    """The implementation for these shapes that the engine asks for: by default the fastest."""
    if len(geometry.image) == 3:
        kind = InOrderConvolution if engine_for(engine) == "CAFFE" else DenseConvolution
        return VolumeConvolution(geometry, dtype, device, kind)
    return planar_products_for(geometry, dtype, device, engine)


def planar_products_for(
    geometry: Geometry, dtype: DTypeLike, device: Device = CPU, engine: str = "DEFAULT"
) -> DenseConvolution:
    """The implementation for two spatial axes; all also compute the moments of the data matrix.

    If a depthwise kernel moves several pixels at a time, its windows hardly overlap: then a data matrix is faster
    on a CPU.
    """
    window, engine = geometry.window, engine_for(engine)
    is_depthwise = geometry.group == geometry.channels > 1
    has_overlap = window.kernel != (1, 1) and max(window.stride) <= 2
    if is_depthwise and (has_overlap or device != CPU):
        return depthwise_kind_for(geometry, device, engine)(geometry, dtype, device)
    return kind_for(geometry, device, engine)(geometry, dtype, device)


def has_winograd(window: Window) -> bool:
    """Whether ``engine: WINOGRAD`` can be asked for."""
    return winograd.can_convolve(window) or winograd_rows.can_convolve(window)


def depthwise_kind_for(geometry: Geometry, device: Device, engine: str) -> type[DepthwiseConvolution]:
    """How an engine computes a depthwise convolution."""
    if engine == "CAFFE":
        return InOrderDepthwise
    is_small = device == CPU and channels_last.suits(geometry)
    return ChannelsLastConvolution if is_small else DepthwiseConvolution


def kind_for(geometry: Geometry, device: Device, engine: str) -> type[DenseConvolution]:
    """How an engine computes a convolution that is not depthwise; by rows only on a CPU."""
    is_forced, window = engine == "WINOGRAD", geometry.window
    if engine == "CAFFE":
        return InOrderConvolution
    if device != CPU and not is_forced:
        return DenseConvolution
    if winograd.can_convolve(window) and (is_forced or winograd.is_faster(geometry)):
        return WinogradConvolution
    has_rows = device == CPU and winograd_rows.can_convolve(window)
    if has_rows and (is_forced or winograd_rows.is_faster(geometry)):
        return RowWinogradConvolution
    return DenseConvolution
