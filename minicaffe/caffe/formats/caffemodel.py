"""A .caffemodel: a whole net in protobuf, of any generation, with each layer's arrays."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.caffe.formats.binary import (
    fill_message,
    read_message,
    text_of,
    unknown_numbers,
    warn_of_unknown,
)
from minicaffe.caffe.formats.blobs import Shape, blob_array, blob_shape, fill_blob, is_legacy
from minicaffe.caffe.formats.messages import MAX_BYTES, message_class
from minicaffe.caffe.formats.schema import schema
from minicaffe.caffe.formats.spec_tree import spec_tree
from minicaffe.caffe.formats.tree import MAX_NAME, Scalar, Tree
from minicaffe.caffe.formats.upgrade import TYPES_0
from minicaffe.errors import DataError, WeightError, WriteError, listing
from minicaffe.files.atomic import atomic_write
from minicaffe.files.weight_formats import SavedNet, WeightFormat, register_weight_format
from minicaffe.files.weight_reader import WeightReader
from minicaffe.spec.net import LayerSpec

logger = logging.getLogger("minicaffe")
NET_STARTS = (b"\n", b"\x12", b"\xa2\x06")  # protobuf's tags of a net's name, old layers, and layers


class CaffemodelReader(WeightReader):
    """A .caffemodel of any generation."""

    def __init__(self, path: str | Path) -> None:
        """Raises WeightError where the file is none; warns of fields that Caffe 1.0 has not."""
        super().__init__(path)
        self._blobs: dict[str, Any] = {}
        unknown = []
        try:
            for layer, kind in _layers(read_message("NetParameter", path, WeightError)):
                name = text_of(layer.name) or _first_top(layer)  # as the net calls a layer without a name
                unknown += [f"layer '{name[:MAX_NAME]}': {number}" for number in unknown_numbers(layer)]
                for i, blob in enumerate(layer.blobs):
                    self._add(name, i, blob, kind)
        except UnicodeDecodeError:
            raise WeightError(f"{path}: a layer's name or type is not UTF-8; the file is damaged") from None
        warn_of_unknown(path, unknown)

    def _add(self, name: str, index: int, blob: Any, kind: str) -> None:
        try:
            shape = blob_shape(blob)
        except DataError as error:
            raise WeightError(f"{self.path}: layer '{name[:MAX_NAME]}': parameter {index}: {error}") from None
        key = f"{name}/{index}"
        self._blobs[key] = blob
        self.shapes[key] = _modern(shape, index, kind) if is_legacy(blob) else shape

    def check(self, key: str, shape: Shape | None = None, advice: str = "") -> None:
        if shape == () and self.shapes.get(key) == (1,) and is_legacy(self._blobs[key]):
            self.shapes[key] = ()  # four old axes of 1 are no axes too
        super().check(key, shape, advice)

    def _array(self, key: str) -> np.ndarray:
        return blob_array(self._blobs[key]).reshape(self.shapes[key])


def _first_top(layer: Any) -> str:
    return text_of(layer.top[0]) if getattr(layer, "top", ()) else ""


def _layers(net: Any) -> Iterator[tuple[Any, str]]:
    """The layer messages of a net of any generation, each with its type (generation 1's name, or today's)."""
    types = {number: name for name, number in schema()["V1LayerParameter"]["type"].values.items()}
    for old in net.layers:
        if old.HasField("layer"):
            yield old.layer, TYPES_0.get(text_of(old.layer.type), "")
        else:
            yield old, types.get(old.type, "")
    for layer in net.layer:
        yield layer, text_of(layer.type).upper()


def _modern(shape: Shape, index: int, kind: str) -> Shape:
    """The shape that a parameter of four old axes has today: (1, 1, N, K) -> (N, K), (1, 1, 1, N) -> (N,)."""
    if index == 0 and kind in ("CONVOLUTION", "DECONVOLUTION"):
        return shape
    if index == 0 and kind in ("INNER_PRODUCT", "INNERPRODUCT"):
        return shape[2:] if shape[:2] == (1, 1) else shape
    return shape[3:] if shape[:3] == (1, 1, 1) else shape


def write_caffemodel(net: SavedNet, path: str | Path) -> None:
    """Write a net's layers, as they run, with their parameters, in the current format, atomically.

    Warns of settings that the format has no field for, such as low rank: without the spec, another net is read.
    Raises WriteError, also for more than protobuf holds; DataError where it is not installed.
    """
    layers = ((_as_run(layer.spec, net.phase), layer.arrays) for layer in net.layers)
    left_out = write_layers(net.name, layers, path)
    if left_out:
        lost = "; ".join(f"{name} of {listing(layers, 5)}" for name, layers in left_out.items())
        logger.warning("%s: cannot hold %s; keep the spec, or use mc.export", path, lost)


def _as_run(spec: LayerSpec, phase: str) -> Tree:
    """The layer's spec as Caffe saves it: with the phase that it runs in, and no loss weights that say nothing.

    Pooling that rounds down says so by the one field that Caffe's own have for it, since its release 1.0.
    """
    tree = spec_tree(spec)
    for param in tree.trees("pooling_param"):
        if param.text("ceil_mode") == "false":
            param.set("round_mode", Scalar("FLOOR"))
        param.pop("ceil_mode")
    tree.set("phase", Scalar(phase))
    if not (spec.is_loss or any(spec.loss_weight)):
        tree.pop("loss_weight")
    return tree


def write_layers(
    net_name: str, layers: Iterable[tuple[Tree, Sequence[np.ndarray]]], path: str | Path
) -> dict[str, list[str]]:
    """Write a .caffemodel of layers, each with its parameters, as ``write_caffemodel`` does.

    Returns the fields that it could not hold, each with the names of the layers that have it.
    """
    message, size = message_class("NetParameter")(name=net_name), 0
    left_out: dict[str, list[str]] = {}
    for tree, arrays in layers:
        added = message.layer.add()
        for name in fill_message(added, tree, "LayerParameter"):
            left_out.setdefault(name, []).append(tree.text("name"))
        for array in arrays:
            size += array.nbytes
            if size > MAX_BYTES:
                raise WriteError(
                    f"{path}: more than 2 GiB, which protobuf cannot hold; write a .caffemodel.h5"
                )
            fill_blob(added.blobs.add(), array)
    with atomic_write(path) as file:
        file.write(message.SerializeToString())
    return left_out


register_weight_format(WeightFormat(".caffemodel", NET_STARTS, CaffemodelReader, write_caffemodel))
