"""NumPy's files, .npy and .npz, read without trust in them: no pickle, and sizes are checked first."""

from __future__ import annotations

import math
import zipfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from minicaffe.errors import MinicaffeError
from minicaffe.files.atomic import check_room, reading
from minicaffe.files.kinds import NPY, NPZ, kind_of

NUMBERS = "buif"  # the kinds of NumPy's types that are numbers
SAVED_BY_NUMPY = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MAX_TEXT = 1 << 20  # bytes; or the size of the file: NumPy's savez compresses nothing
WHOLE = ""  # the name of the one array of an .npy


@dataclass(frozen=True)
class Header:
    """What a file says about an array, before its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """The bytes that the numbers take."""
        return math.prod(self.shape) * self.dtype.itemsize


class NumpyFile:
    """The arrays of an .npz by name, or the one of an .npy, ``WHOLE``; ``headers`` say what they are.

    What is wrong with the file is raised as ``error``, with the message ``problem``, where ``{}`` says what it is.
    """

    def __init__(self, path: str | Path, error: type[MinicaffeError], problem: str) -> None:
        self.path, self.error, self.problem = path, error, problem
        self.headers: dict[str, Header] = {}
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._zip: zipfile.ZipFile | None = None
        with self._reading():
            kind = kind_of(path)
            if kind == NPY:
                with open(path, "rb") as file:
                    self.headers[WHOLE] = _read_header(file)
            elif kind == NPZ:
                self._zip = zipfile.ZipFile(path)
                self._read_headers(self._zip)
            else:  # NumPy would take it for a pickle, and advise how to load that
                raise ValueError("the file is empty" if kind == "empty" else "none of NumPy's files")
        self._declared = sum(header.nbytes for header in self.headers.values())

    def _read_headers(self, archive: zipfile.ZipFile) -> None:
        for member in archive.infolist():
            if member.filename.endswith(".npy"):
                name = member.filename.removesuffix(".npy")
                if member.compress_type not in SAVED_BY_NUMPY or member.flag_bits & 1:
                    raise ValueError(f"'{name}' is packed in a way that NumPy does not save arrays")
                with archive.open(member) as file:
                    self.headers[name] = _read_header(file)
                self._members[name] = member

    def __enter__(self) -> NumpyFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._zip is not None:
            self._zip.close()

    def numbers(self, name: str) -> np.ndarray:
        """The array of that name. Raises ``error`` where it is damaged, or holds no numbers."""
        with self._reading():
            self._check(name)
            dtype = self.headers[name].dtype
            if dtype.kind not in NUMBERS:
                raise self.error(f"{self.path}: {_called(name)} holds {dtype}, not numbers")
            return self._read(name)

    def text(self, name: str) -> str:
        """The text of that name. Raises ``error`` where it is none, or longer than the file."""
        with self._reading():
            self._check(name)
            header = self.headers[name]
            if header.dtype.kind != "U" or header.shape:
                raise ValueError(f"'{name}' is no text")
            if header.nbytes > max(MAX_TEXT, Path(self.path).stat().st_size):
                raise ValueError(f"'{name}' declares a text longer than the file")
            return str(self._read(name))

    def _check(self, name: str) -> None:
        """Raise ValueError unless the file can hold the array that it declares, and all of them together."""
        check_room(self.path, self._declared)
        held = self._members[name].file_size if self._zip else Path(self.path).stat().st_size
        if self.headers[name].nbytes > held:
            raise ValueError(f"{_called(name)} is cut off")

    def _read(self, name: str) -> np.ndarray:
        with self._zip.open(self._members[name]) if self._zip else open(self.path, "rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    def _reading(self) -> AbstractContextManager[None]:
        return reading(self.path, self.error, self.problem)


def _called(name: str) -> str:
    return f"'{name}'" if name else "the array"


def _read_header(file: IO[bytes]) -> Header:
    """Raises whatever NumPy does where it is damaged, and ValueError for a shape that is none."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array of shape {shape}")
    return Header(shape, dtype)
