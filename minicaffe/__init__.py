"""minicaffe: a Caffe-style mini deep learning framework. Nets from YAML specs, on NumPy or CuPy arrays."""

from minicaffe import startup  # noqa: F401, I001  (before all else: it acts when imported)
from typing import TYPE_CHECKING
import minicaffe.caffe.formats  # (this registers Caffe's files, and the next the low-rank layers)
import minicaffe.low_rank.layers
import minicaffe.inspect.display  # noqa: F401  (and this how nets are shown)
from minicaffe import layers
from minicaffe.device.array import set_device, to_device, to_host
from minicaffe.device.launch import communicator
from minicaffe.core.blob import Blob
from minicaffe.caffe.exchange.convert import convert
from minicaffe.caffe.exchange.export import export
from minicaffe.classify.classifier import Classifier
from minicaffe.classify.transformer import Transformer
from minicaffe.errors import (
    DataError,
    DeviceError,
    MinicaffeError,
    ShapeError,
    SpecError,
    TrainingError,
    WeightError,
    WriteError,
)
from minicaffe.core.layer import Layer, register_layer
from minicaffe.core.net import Net
from minicaffe.onnx.model import export_onnx
from minicaffe.train import solvers
from minicaffe.train.solver import Solver

if TYPE_CHECKING:
    from minicaffe.inspect.report.make import report

__version__ = "0.1.0"
__all__ = [
    "Blob",
    "Classifier",
    "DataError",
    "DeviceError",
    "Layer",
    "MinicaffeError",
    "Net",
    "ShapeError",
    "Solver",
    "SpecError",
    "TrainingError",
    "Transformer",
    "WeightError",
    "WriteError",
    "communicator",
    "convert",
    "export",
    "export_onnx",
    "layers",
    "register_layer",
    "report",
    "set_device",
    "solvers",
    "to_device",
    "to_host",
]


def __getattr__(name: str) -> object:
    """``report``, imported when it is first asked for: every command would wait for its hundred modules."""
    if name != "report":
        raise AttributeError(f"module 'minicaffe' has no attribute '{name}'")
    from minicaffe.inspect.report.make import report

    globals()[name] = report
    return report


def __dir__() -> list[str]:
    return sorted({*globals(), "report"})
