"""A net -> Caffe's files: a .prototxt, and a .caffemodel, as Caffe's own tools and OpenCV read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minicaffe.array import to_host
from minicaffe.caffe.blobs import fill_blob
from minicaffe.caffe.messages import message_class
from minicaffe.caffe.prototxt_text import prototxt_text
from minicaffe.caffe.spec_tree import text
from minicaffe.caffe.tree import Scalar, Tree
from minicaffe.errors import WriteError
from minicaffe.files import atomic_write, write_text

if TYPE_CHECKING:
    from minicaffe.net import Net

MAX_BYTES = 2**31 - 2**20  # of a protobuf message, with room for what is not numbers
Named = tuple[str, str, Sequence[np.ndarray]]


def export(net: Net, prototxt: str | Path, caffemodel: str | Path) -> list[str]:
    """Write a net, with its weights, for Caffe; returns a line on each thing that is not of Caffe 1.0.

    Layers of low rank become pairs of plain ones. Levels and stages are those of the net; what is of one phase
    alone is written with a rule on it. Weights are those of the net, so of its phase. Raises MinicaffeError for
    what is no net, SpecError for what Caffe's files cannot say, DataError without protobuf, WriteError.
    """
    from minicaffe.caffe.plain_layers import PlainLayers  # which needs nets and layers, that need this room
    from minicaffe.net import expect_net

    expect_net(net, "export")
    if Path(prototxt).resolve() == Path(caffemodel).resolve():
        raise WriteError(f"{prototxt}: given for the net and for its weights; give each a file of its own")
    plain = PlainLayers(net)
    tree = Tree(0, {"name": [text(net.name)]} if net.name else {})
    if net.spec.force_backward:
        tree.set("force_backward", Scalar("true"))
    tree.fields["layer"] = [layer.tree for layer in plain.layers]
    written = prototxt_text(tree)
    arrays = [(x.tree.text("name"), x.tree.text("type"), x.arrays) for x in plain.layers if x.is_in_net]
    write_layers(net.name, arrays, caffemodel)
    write_text(prototxt, written)
    return plain.notes


def write_caffemodel(net: Net, path: str | Path) -> None:
    """Write each layer's name, type and parameters as they are, in the current format, atomically.

    Raises WriteError, also for more than protobuf holds; DataError where it is not installed.
    """
    layers = ((layer.name, layer.type, [to_host(blob.data) for blob in layer.blobs]) for layer in net.layers)
    write_layers(net.name, layers, path)


def write_layers(net_name: str, layers: Iterable[Named], path: str | Path) -> None:
    """Write a .caffemodel of layers (name, type, arrays), as ``write_caffemodel`` does."""
    message, size = message_class("NetParameter")(name=net_name), 0
    for name, kind, arrays in layers:
        added = message.layer.add(name=name, type=kind)
        for array in arrays:
            size += array.nbytes
            if size > MAX_BYTES:
                raise WriteError(
                    f"{path}: more than 2 GiB, which protobuf cannot hold; write a .caffemodel.h5"
                )
            fill_blob(added.blobs.add(), array)
    with atomic_write(path) as file:
        file.write(message.SerializeToString())
