"""The weights of a net -> a .caffemodel, or a .caffemodel.h5, as Caffe's own tools read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from minicaffe.array import to_host
from minicaffe.caffe.blobs import fill_blob
from minicaffe.caffe.hdf5 import write_h5
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


def write_hdf5(net: Net, path: str | Path) -> None:
    """Write the data sets ``data/<layer>/<index>``, atomically. Raises WriteError."""
    arrays = {
        f"data/{name}/{i}": to_host(blob.data)
        for name, blobs in net.params.items()
        for i, blob in enumerate(blobs)
    }
    write_h5(path, arrays)
