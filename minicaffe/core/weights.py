"""Copying weights from a file into a net, matched by layer name, as ``caffe train --weights`` does.

A report names what matched and what did not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.data.preparation import Preparation, read_preparation
from minicaffe.errors import WeightError, listing
from minicaffe.files.weight_formats import open_weights
from minicaffe.files.weight_reader import WeightReader

LEARN_ANEW = "; give weights of this net, or rename the layer in it to learn it from scratch"
Reader = Callable[[], list[np.ndarray]]
Converter = Callable[[list[tuple[int, ...]]], Callable[[list[np.ndarray]], list[np.ndarray]] | None]


@contextmanager
def used_as_they_are(advice: str) -> Iterator[None]:
    """Weights that do not fit are a WeightError with ``advice``: a net that is not trained learns no layer anew."""
    try:
        yield
    except WeightError as error:
        text = str(error)
        if not text.endswith(LEARN_ANEW):
            raise
        raise WeightError(f"{text.removesuffix(LEARN_ANEW)}; {advice}") from None


@dataclass
class CopyReport:
    """Which layers got weights from a file, which layers of the net did not, and which of the file were not used.

    A layer is not missing if it gets its parameters elsewhere: from a layer it shares them with, or from the spec.
    ``preparation`` is what the file says about the net's pictures. ``source`` names where the weights come from.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    preparation: Preparation | None = None
    source: str = "the file"

    @classmethod
    def of(cls, wanted: Iterable[str], given: Iterable[str], source: str = "the file") -> CopyReport:
        """The report for the layers that a net wants and the layers that it is given."""
        wanted, given = list(wanted), list(given)
        return cls(
            matched=[name for name in wanted if name in given],
            missing=[name for name in wanted if name not in given],
            unused=[name for name in given if name not in wanted],
            source=source,
        )

    def problem(self, path: str | Path | WeightReader) -> str:
        """One line that names the layers without weights, or "" if there are none."""
        if not self.missing:
            return ""
        file = path.path if isinstance(path, WeightReader) else path
        what = "layer" if len(self.missing) == 1 else f"{len(self.missing)} layers:"
        return f"{file}: has no weights for {what} {listing(self.missing, 8)}"

    def __str__(self) -> str:
        parts = [
            ("copied", self.matched),
            (f"left as initialised (not in {self.source})", self.missing),
            ("ignored (not in the net)", self.unused),
        ]
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)


def copy_into(
    params: Mapping[str, list[Blob]],
    path: str | Path | WeightReader,
    converters: Mapping[str, Converter] | None = None,
) -> CopyReport:
    """Copy a file's arrays into the parameters of layers of the same name. Nothing changes unless all of them fit.

    ``converters`` turn arrays of other shapes into parameters, by layer name (``Layer.converter``).

    Raises WeightError if the file cannot be read, if a layer has another number of parameters or other shapes, and
    if no layer of the net is in the file.
    """
    with path if isinstance(path, WeightReader) else open_weights(path) as file:
        report, readers = _fit(params, file, converters or {})
        found = {name: read() for name, read in readers.items()}
        report.preparation = read_preparation(file)
    for name, arrays in found.items():
        for blob, array in zip(params[name], arrays, strict=True):
            blob.write(blob.device.put(array, blob.dtype))
    return report


def check_fit(
    params: Mapping[str, list[Blob]], path: str | Path, converters: Mapping[str, Converter] | None = None
) -> CopyReport:
    """What ``copy_into`` would report, by the shapes in the file; raises as it does, but copies nothing."""
    with open_weights(path) as file:
        return _fit(params, file, converters or {})[0]


def _fit(
    params: Mapping[str, list[Blob]], file: WeightReader, converters: Mapping[str, Converter]
) -> tuple[CopyReport, dict[str, Reader]]:
    """What matches, and for each layer that does a function that reads its arrays. Raises WeightError."""
    layers = file.layers()
    report = CopyReport.of(params, layers)
    if params and not report.matched:
        has = listing(list(layers), 3) or "no layers"
        raise WeightError(
            f"{file.path}: has no layer of this net (it has {has}); these are another net's weights"
        )
    readers = {
        name: _reader(file, name, params[name], layers[name], converters.get(name)) for name in report.matched
    }
    return report, readers


def _reader(
    file: WeightReader, name: str, blobs: list[Blob], keys: list[str], converter: Converter | None
) -> Reader:
    shapes = [file.shapes[key] for key in keys]
    convert = converter(shapes) if converter and shapes != [blob.shape for blob in blobs] else None
    if convert is not None:
        return lambda: convert([file.read(key, shape) for key, shape in zip(keys, shapes, strict=True)])
    if len(keys) != len(blobs):
        raise WeightError(
            f"{file.path}: layer '{name}' has {len(keys)} arrays, the net's layer {len(blobs)} parameters"
            f"{LEARN_ANEW}"
        )
    for i, blob in enumerate(blobs):
        file.check(f"{name}/{i}", blob.shape, LEARN_ANEW)
    return lambda: [file.read(f"{name}/{i}", blob.shape) for i, blob in enumerate(blobs)]
