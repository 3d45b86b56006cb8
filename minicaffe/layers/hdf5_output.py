"""HDF5Output: writes two bottoms, data and labels, to an HDF5 file, batch after batch.

Shapes: both bottoms (rows, C, H, W), also the shapes of the file's data sets ``data`` and ``label``; missing axes
are 1. HDF5Data can read the file if the net's tops have these names.

Each forward appends its rows and leaves a complete, closed file; a net's first forward replaces an HDF5 file that
already exists. There are no tops, and so no gradient. Needs h5py (extra ``hdf5``).

Caffe's HDF5OutputLayer, which fails at its second batch.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import to_host
from minicaffe.errors import DataError, WriteError, one_line
from minicaffe.files.hdf5 import import_h5py
from minicaffe.files.kinds import HDF5, kind_of
from minicaffe.spec.fields import Message, String
from minicaffe.spec.trust import UntrustedError

NAMES = ("data", "label")


class HDF5OutputParam(Message):
    """``file_name``: the file to write, relative to the working directory; ``spec/trust.py`` limits where."""

    file_name = String(required=True)


@register_layer
class HDF5Output(Layer):
    """Saves what a net computes."""

    messages = {"hdf5_output_param": HDF5OutputParam}
    bottoms = (2, 2)
    tops = (0, 0)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.open_file = import_h5py(self.spec.where, DataError).File
        self.mode = "w"

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        first, second = (blob.shape for blob in bottom)
        if not first or first[:1] != second[:1] or max(len(first), len(second)) > 4:
            raise self.shape_error(
                f"bottoms {first} and {second}; expected one batch size, and at most 4 axes"
            )

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if not self.setting.communicator.is_root:
            return  # of ranks that train together one writes the file
        path = self._path()
        try:
            if self.mode == "w" and os.path.exists(path) and not _is_replaceable(path):
                problem = "exists, and is not an HDF5 file; delete it, or choose another file_name"
                raise WriteError(f"{self.spec.where}: {path}: {problem}")
            with self.open_file(path, self.mode) as file:
                for name, blob in zip(NAMES, bottom, strict=True):
                    self._append(file, name, _rows(blob))
        except OSError as error:
            problem = one_line(error)
            raise WriteError(
                f"{self.spec.where}: {path}: cannot be written ({problem}); check the path"
            ) from None
        self.mode = "a"

    def _path(self) -> str:
        """The file to write. Raises UntrustedError if the spec may not write it."""
        param = self.spec.message(HDF5OutputParam)
        problem = self.setting.trust.problem_of_output(param.file_name, self.setting.folder)
        if problem:
            raise UntrustedError(str(param.error("file_name", problem)))
        return param.file_name

    def _append(self, file: Any, name: str, rows: np.ndarray) -> None:
        if name not in file:
            file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]))
            return
        written = file[name]
        if written.shape[1:] != rows.shape[1:]:
            raise self.shape_error(
                f"'{name}' has rows of shape {rows.shape[1:]}, earlier ones {written.shape[1:]}"
            )
        written.resize(len(written) + len(rows), axis=0)
        written[len(written) - len(rows) :] = rows


def _is_replaceable(path: str) -> bool:
    """Whether this layer may have written the file: a wrong name in a spec must not destroy anything else."""
    return os.path.isfile(path) and kind_of(path) in (HDF5, "empty")


def _rows(blob: Blob) -> np.ndarray:
    """The blob's data with four axes."""
    return to_host(blob.data).reshape((*blob.shape, 1, 1, 1)[:4])
