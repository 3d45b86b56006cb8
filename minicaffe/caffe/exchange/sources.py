"""Layers that read files, for Caffe: where it does not know a source's format, an Input takes the layer's place."""

from __future__ import annotations

from pathlib import Path

from minicaffe.caffe.exchange.plain_fields import unknown_names
from minicaffe.caffe.exchange.plain_layers import CaffeLayer, PlainLayers, conversions
from minicaffe.caffe.formats.spec_tree import number, text
from minicaffe.caffe.formats.tree import Tree
from minicaffe.data.sources.backends import locate
from minicaffe.data.sources.source import find_path
from minicaffe.data.transformer import TransformParam
from minicaffe.errors import DataError
from minicaffe.layers.data import DataParam
from minicaffe.layers.image_data import ImageDataParam
from minicaffe.layers.infogain_loss import InfogainLossParam
from minicaffe.layers.python import PythonParam

READ_BY_CAFFE = ("", ".binaryproto")  # the endings of arrays; "" where no file is named
CAFFE_BACKENDS = ("LMDB", "LEVELDB")
DATA_MESSAGES = ("data_param", "image_data_param", "window_data_param", "transform_param")


@conversions.of("Data")
def data(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """A database, whose backend is written out."""
    param = plain.spec.message(DataParam)
    try:
        _, backend = locate(param.source, param.backend, export.folders)
    except DataError as error:
        return _without_source(export, plain, error)
    plain.tree.child("data_param").set("backend", text(backend))
    return _data(export, plain, "" if backend in CAFFE_BACKENDS else f"a source of format {backend}")


@conversions.of("ImageData")
def image_data(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """A list of images; Caffe reads no folder, and names no classes."""
    if plain.tree.child("image_data_param").pop("class_names"):
        export.note(plain, "Caffe does not know class_names: they are left out")
    try:
        is_folder = find_path(plain.spec.message(ImageDataParam).source, export.folders).is_dir()
    except DataError as error:
        return _without_source(export, plain, error)
    return _data(export, plain, "a folder as source" if is_folder else "")


@conversions.of("AnnotatedData")
def annotated_data(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """As it is, for SSD's Caffe, with its backend written out, and the type of annotation as its forks spell it."""
    plain.tree.child("data_param").set("backend", text("LMDB"))
    for param in plain.tree.trees("annotated_data_param"):
        if param.text("anno_type") == "BBOXANDSEG":
            param.set("anno_type", text("BBOXandSeg"))
    return [plain]


@conversions.of("WindowData")
def window_data(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """A list of windows, which Caffe reads too."""
    return _data(export, plain, "")


def _without_source(export: PlainLayers, plain: CaffeLayer, error: DataError) -> list[CaffeLayer]:
    """A layer of the other phase stays as it is where its data are not there. Raises the error for any other."""
    if plain.layer is not None:
        raise error
    export.note(plain, f"is written as it is: its data are not here ({error})")
    return [plain]


def _data(export: PlainLayers, plain: CaffeLayer, problem: str) -> list[CaffeLayer]:
    """The layer as it is; or an Input, where its source has a ``problem`` or another of its settings has."""
    problems = [*unknown_names(plain.tree, "LayerParameter"), *([problem] if problem else [])]
    mean = Path(plain.spec.message(TransformParam).mean_file).suffix
    problems += [] if mean in READ_BY_CAFFE else [f"a mean_file of format {mean}"]
    if not problems:
        return [plain]
    export.note(plain, f"Caffe does not know {', '.join(problems)}; it is an Input of the same shape")
    for name in DATA_MESSAGES:
        plain.tree.pop(name)
    plain.tree.set("type", text("Input"))
    for top in plain.spec.top:
        dims = [number(dim) for dim in export.net_with(plain).blobs[top].shape]
        plain.tree.child("input_param").add("shape", Tree(0, {"dim": list(dims)}))
    return [plain]


@conversions.of("InfogainLoss")
def infogain_loss(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """As it is; Caffe reads its matrix from a .binaryproto."""
    ending = Path(plain.spec.message(InfogainLossParam).source or "").suffix
    if ending not in READ_BY_CAFFE:
        export.note(plain, f"Caffe does not read its source, of format {ending}; make it a .binaryproto")
    return [plain]


@conversions.of("Python")
def python(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """As it is, with the user's own module."""
    module = plain.spec.message(PythonParam).module
    export.note(plain, f"in Caffe its module '{module}' has to import caffe")
    return [plain]
