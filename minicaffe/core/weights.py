"""Copying weights from a file into a net: arrays are matched to layers by name, as ``caffe train --weights`` does.

What did not match is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.data.preparation import Preparation, read_preparation
from minicaffe.errors import WeightError, listing
from minicaffe.files.weight_formats import open_weights
from minicaffe.files.weight_reader import WeightReader

LEARN_ANEW = "; rename the layer in the net to learn it from scratch"
Converter = Callable[[list[tuple[int, ...]]], Callable[[list[np.ndarray]], list[np.ndarray]] | None]


@dataclass
class CopyReport:
    """Which layers got weights from a file, which of the net did not, and which of the file were not used.

    What has its numbers from elsewhere is not missing: from a layer that it shares them with, or from the spec.
    ``preparation``: what the file says of the net's pictures. ``giver``: what it is, if not a file.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    preparation: Preparation | None = None
    giver: str = "the file"

    @classmethod
    def of(cls, wanted: Iterable[str], held: Iterable[str], giver: str = "the file") -> CopyReport:
        """The report of layers that a net has and layers that it is given."""
        wanted, held = list(wanted), list(held)
        return cls(
            matched=[name for name in wanted if name in held],
            missing=[name for name in wanted if name not in held],
            unused=[name for name in held if name not in wanted],
            giver=giver,
        )

    def problem(self, path: str | Path | WeightReader) -> str:
        """What is wrong with weights that lack layers, as a line; "" where they lack none."""
        if not self.missing:
            return ""
        file = path.path if isinstance(path, WeightReader) else path
        what = "layer" if len(self.missing) == 1 else f"{len(self.missing)} layers:"
        return f"{file}: has no weights for {what} {listing(self.missing, 8)}"

    def __str__(self) -> str:
        parts = [
            ("copied", self.matched),
            (f"left as initialised (not in {self.giver})", self.missing),
            ("ignored (not in the net)", self.unused),
        ]
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)


def copy_into(
    params: Mapping[str, list[Blob]],
    path: str | Path | WeightReader,
    converters: Mapping[str, Converter] | None = None,
) -> CopyReport:
    """Copy a file's arrays into the parameters of the same layer name; nothing changes unless all fit.

    ``converters`` say, by layer name, what to do with arrays of other shapes (``Layer.converter``).

    Raises WeightError for a file that is not one of such arrays, for a layer whose number or shapes of parameters
    differ, and where no layer at all has a name that the file has.
    """
    with path if isinstance(path, WeightReader) else open_weights(path) as file:
        layers = file.layers()
        report = CopyReport.of(params, layers)
        if params and not report.matched:
            has = listing(list(layers), 3) or "no layers"
            raise WeightError(
                f"{file.path}: has no layer of this net (it has {has}); these are another net's weights"
            )
        found = {
            name: _read_layer(file, name, params[name], layers[name], (converters or {}).get(name))
            for name in report.matched
        }
        report.preparation = read_preparation(file)
    for name, arrays in found.items():
        for blob, array in zip(params[name], arrays, strict=True):
            blob.data[...] = blob.device.put(array, blob.dtype)
    return report


def _read_layer(
    file: WeightReader, name: str, blobs: list[Blob], keys: list[str], converter: Converter | None
) -> list[np.ndarray]:
    shapes = [file.shapes[key] for key in keys]
    convert = converter(shapes) if converter and shapes != [blob.shape for blob in blobs] else None
    if convert is not None:
        return convert([file.read(key, shape) for key, shape in zip(keys, shapes, strict=True)])
    if len(keys) != len(blobs):
        raise WeightError(
            f"{file.path}: layer '{name}' has {len(keys)} arrays, the net's layer {len(blobs)} parameters"
            f"{LEARN_ANEW}"
        )
    for i, blob in enumerate(blobs):
        file.check(f"{name}/{i}", blob.shape, LEARN_ANEW)
    return [file.read(f"{name}/{i}", blob.shape) for i, blob in enumerate(blobs)]
