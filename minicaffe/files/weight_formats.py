"""The file formats of weights: who opens a file, told by its name or its first bytes, and who writes one.

A format enters the table with ``register_weight_format``: .npz is there, Caffe's enter in ``caffe/formats/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minicaffe.errors import WeightError, either
from minicaffe.files.atomic import check_name
from minicaffe.files.npz import NpzReader, save_arrays
from minicaffe.files.state_formats import STATE_KEY, is_state
from minicaffe.files.weight_reader import WeightReader
from minicaffe.spec.net import LayerSpec


@dataclass(frozen=True)
class SavedLayer:
    """A layer as a file keeps it: its spec, with bottoms and tops written out, and its parameters."""

    spec: LayerSpec
    arrays: Sequence[np.ndarray]


@dataclass(frozen=True)
class SavedNet:
    """A net as a file keeps it. ``extra`` are arrays beside the parameters; not every format has room for them."""

    name: str
    phase: str
    layers: Sequence[SavedLayer]
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        """All parameters, by ``<layer>/<index>``."""
        return {
            f"{layer.spec.name}/{i}": array for layer in self.layers for i, array in enumerate(layer.arrays)
        }


@dataclass(frozen=True)
class WeightFormat:
    """A file format: its names end in ``ending``, its files begin with one of ``starts``.

    ``name`` is what an error calls it, where it is more than the ending.
    """

    ending: str
    starts: tuple[bytes, ...]
    open: Callable[[str | Path], WeightReader]
    write: Callable[[SavedNet, str | Path], None]
    keeps_extra: bool = False
    name: str = ""


def _open_npz(path: str | Path) -> NpzReader:
    return NpzReader(
        path, WeightError, f"weights ({either([known.name or known.ending for known in _formats])})"
    )


def _write_npz(net: SavedNet, path: str | Path) -> None:
    save_arrays({**net.arrays(), **net.extra}, path)


NPZ = WeightFormat(".npz", (b"PK",), _open_npz, _write_npz, keeps_extra=True)
_formats = [NPZ]


def register_weight_format(added: WeightFormat) -> None:
    """Let weights be read from, and written to, one more kind of files."""
    _formats.append(added)


def format_to_write(path: str | Path) -> WeightFormat:
    """The format that a new file of this name is written in: .npz, unless its ending says otherwise."""
    return _format_of_name(path) or NPZ


def open_weights(path: str | Path) -> WeightReader:
    """The reader of a file of any format. Raises WeightError.

    A file of another name is what its first bytes say: pycaffe gives a .caffemodel any name.
    """
    no_weights = f"{path}: a solver state, not weights; give the weights that were written beside it"
    if is_state(path):
        raise WeightError(no_weights)
    reader = (_format_of_name(path) or _format_of_content(path)).open(path)
    if STATE_KEY in reader.shapes:
        with reader:
            raise WeightError(no_weights)
    return reader


def _format_of_name(path: str | Path) -> WeightFormat | None:
    return next((known for known in _formats if str(path).endswith(known.ending)), None)


def _format_of_content(path: str | Path) -> WeightFormat:
    try:
        check_name(path)
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError:
        return NPZ  # whose reader says what is wrong
    return next((known for known in _formats if start.startswith(known.starts)), NPZ)
