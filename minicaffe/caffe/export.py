"""The weights of a net -> a .caffemodel, as Caffe's own tools read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from minicaffe.array import to_host
from minicaffe.caffe.blobs import fill_blob
from minicaffe.caffe.messages import message_class
from minicaffe.files import atomic_write

if TYPE_CHECKING:
    from minicaffe.net import Net


def write_caffemodel(net: Net, path: str | Path) -> None:
    """Write each layer's name, type and parameters, in the current format, atomically. Raises WriteError."""
    message = message_class("NetParameter")(name=net.name)
    for layer in net.layers:
        added = message.layer.add(name=layer.name, type=layer.type)
        for blob in layer.blobs:
            fill_blob(added.blobs.add(), to_host(blob.data))
    with atomic_write(path) as file:
        file.write(message.SerializeToString())
