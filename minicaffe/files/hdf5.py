"""HDF5 files (extra ``hdf5``, h5py): written at once, and read without trusting them.

A data set may lie in other files, by external storage or as a virtual one, and a link may lead to another file: the
author would choose what is read on this machine. So links are checked before they are followed, and data sets
before they are read; no other file is opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minicaffe.errors import MinicaffeError, WriteError
from minicaffe.files.atomic import atomic_write, check_room, reading
from minicaffe.files.kinds import HDF5, kind_of

Shape = tuple[int, ...]
NO_HDF5 = "not a readable HDF5 file ({})"
MAX_DEPTH = 64  # of groups in groups, and of links to links
MAX_RATIO = 1000  # numbers are not compressed better than this; a larger size is declared, not there
LEAST_BYTES = {3: 5, 4: 5, 6: 22}  # of a chunk with the filter Fletcher's checksum, szip, or scale and offset


class _MissingError(Exception):
    """There is nothing of that name."""


class Hdf5File:
    """An HDF5 file, opened for reading; paths in it look like ``data/conv1/0``. Problems are raised as ``error``.

    ``problem`` is the message for a damaged file, with ``{}`` for the library's words.
    """

    def __init__(self, path: str | Path, error: type[MinicaffeError], problem: str = NO_HDF5) -> None:
        """Raises ``error`` where this is not an HDF5 file, and where h5py is not installed."""
        self.path, self.error, self.problem = path, error, problem
        self._h5py = import_h5py(path, error)
        self._declared = 0
        with self.reading(NO_HDF5):
            if (kind := kind_of(path)) and kind != HDF5:
                raise error(f"{path}: is {kind}, not an HDF5 file")
            self._file = self._h5py.File(path, "r")

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def names(self, group: str = "/") -> list[str]:
        """The names of the groups and data sets in a group. Raises ``error`` where there is no such group."""
        with self.reading():
            return [name.decode() for name in self._links(self._find(group))]

    def shape(self, name: str) -> Shape | None:
        """The shape of a data set of numbers; None where there is none of that name."""
        with self.reading():
            try:
                found = self._find(name)
            except _MissingError:
                return None
            return self._numbers(found, name).shape if self._is_data(found) else None

    def shapes(self, group: str) -> dict[str, Shape]:
        """All data sets below a group, by their paths from there."""
        with self.reading():
            found = {name: self._data_set(item, name).shape for name, item in self._walk(self._find(group))}
            return {name: shape for name, shape in found.items() if shape is not None}

    def read(self, name: str) -> np.ndarray:
        """The numbers of a data set, as float32."""
        with self.reading(f"'{name}' cannot be read ({{}}); write it again"):
            data_set = self._numbers(self._find(name), name)
            self._check_size(data_set)
            return np.asarray(data_set[...], np.float32)

    def whole_number(self, name: str) -> int:
        """The first number of a data set, a whole one."""
        with self.reading():
            data_set = self._numbers(self._find(name), name)
            if data_set.dtype.kind not in "iu":
                raise TypeError(f"'{name}' holds {data_set.dtype}, not a whole number")
            self._check_size(data_set)
            return int(data_set[...].reshape(-1)[0])

    def text(self, name: str) -> str:
        """The text in a data set; "" where there is none of that name."""
        with self.reading():
            try:
                data_set = self._data_set(self._find(name), name)
            except _MissingError:
                return ""
            self._check_size(data_set)
            value = data_set[()]
            return value if isinstance(value, str) else bytes(value).decode()

    def reading(self, problem: str = "") -> AbstractContextManager[None]:
        """While it is entered, what the library raises becomes ``error``."""
        return reading(self.path, self.error, problem or self.problem)

    # -- finding, without opening what lies elsewhere ------------------------------------------------------

    def _find(self, path: str) -> Any:
        """The group or data set of a path (h5py's low-level object). Raises _MissingError where there is none."""
        return self._follow(self._file.id, [part.encode() for part in path.split("/")])

    def _follow(self, group: Any, parts: list[bytes]) -> Any:
        """From ``group`` on by hard links, and by soft ones, whose paths are looked at in the same way."""
        links, todo, followed = self._h5py.h5l, parts[::-1], 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if not isinstance(group, self._h5py.h5g.GroupID) or not group.links.exists(part):
                raise _MissingError(f"no '{part.decode(errors='replace')}'")
            kind = group.links.get_info(part).type
            if kind == links.TYPE_SOFT:
                target, followed = group.links.get_val(part), followed + 1
                if followed > MAX_DEPTH:
                    raise ValueError("links that lead to one another")
                group = self._file.id if target.startswith(b"/") else group
                todo += target.split(b"/")[::-1]
            elif kind == links.TYPE_HARD:
                group = self._h5py.h5o.open(group, part)
            else:
                name = part.decode(errors="replace")
                raise self.error(f"{self.path}: '{name}' is a link to another file; copy it into this one")
        return self._root() if group is self._file.id else group

    def _root(self) -> Any:
        return self._h5py.h5g.open(self._file.id, b"/")

    def _links(self, group: Any) -> list[bytes]:
        if not isinstance(group, self._h5py.h5g.GroupID):
            raise _MissingError("no such group")
        found: list[bytes] = []
        group.links.iterate(found.append)
        return found

    def _walk(self, group: Any) -> Iterator[tuple[str, Any]]:
        """The data sets below a group. Each group is visited once, as links may lead back."""
        info = self._h5py.h5o.get_info
        todo, seen = [("", group, 0)], {info(group).addr}
        while todo:
            path, group, depth = todo.pop()
            for name in self._links(group):
                found, below = self._follow(group, [name]), f"{path}{name.decode()}"
                if self._is_data(found):
                    yield below, found
                elif isinstance(found, self._h5py.h5g.GroupID) and info(found).addr not in seen:
                    if depth == MAX_DEPTH:
                        raise ValueError(f"groups that lie more than {MAX_DEPTH} deep")
                    seen.add(info(found).addr)
                    todo.append((f"{below}/", found, depth + 1))

    def _is_data(self, found: Any) -> bool:
        return isinstance(found, self._h5py.h5d.DatasetID)

    def _numbers(self, found: Any, name: str) -> Any:
        data_set = self._data_set(found, name)
        if data_set.dtype.kind not in "buif" or data_set.shape is None:
            raise TypeError(f"'{name}' holds {data_set.dtype}, not numbers")
        return data_set

    def _data_set(self, found: Any, name: str) -> Any:
        """The data set, if its numbers are in this file. Raises ``error`` where they are not."""
        if not self._is_data(found):
            raise _MissingError(f"'{name}' is no data set")
        made = found.get_create_plist()
        if made.get_external_count() or made.get_layout() == self._h5py.h5d.VIRTUAL:
            how = "external storage" if made.get_external_count() else "a virtual data set"
            raise self.error(
                f"{self.path}: '{name}' has its numbers in other files ({how}); write them into this one"
            )
        return self._h5py.Dataset(found)

    def _check_size(self, data_set: Any) -> None:
        """Raise ValueError where the file cannot hold what the data set declares."""
        stored, size = data_set.id.get_storage_size(), Path(self.path).stat().st_size
        chunk = data_set.chunks or ()
        chunk_bytes = math.prod(chunk) * data_set.dtype.itemsize if chunk else 0
        chunks = math.prod(-(-n // c) for n, c in zip(data_set.shape, chunk, strict=True)) if chunk else 0
        if data_set.nbytes > MAX_RATIO * max(stored, 4096) or chunks > max(size, 4096):
            raise ValueError(f"declares {data_set.shape} numbers, but has {stored} bytes")
        filters = data_set.id.get_create_plist()
        used = [filters.get_filter(i)[0] for i in range(filters.get_nfilters())]
        if len(set(used)) < len(used):  # what is compressed twice grows a millionfold
            raise ValueError("is compressed twice")
        if chunk and hasattr(data_set.id, "chunk_iter"):
            self._check_chunks(
                data_set, max([1, *(LEAST_BYTES.get(number, 1) for number in used)]), chunk_bytes
            )
        self._declared += max(data_set.nbytes, chunk_bytes)
        check_room(self.path, self._declared)

    def _check_chunks(self, data_set: Any, least: int, most: int) -> None:
        """Raise ValueError where a chunk has so few bytes that a filter would read beyond them, and crash."""
        bad = []

        def look(chunk: Any) -> bool | None:
            if least <= chunk.size <= 2 * most + 1024:
                return None  # go on
            bad.append(chunk.size)
            return True

        data_set.id.chunk_iter(look)
        if bad:
            raise ValueError(f"has a piece of {bad[0]} bytes; the file is damaged")


def import_h5py(where: object, error: type[MinicaffeError]) -> ModuleType:
    """The package h5py. Raises ``error``, which begins with ``where``, if it is not installed."""
    try:
        return import_module("h5py")
    except ImportError:
        raise error(f"{where}: HDF5 files need the h5py package; pip install 'minicaffe[hdf5]'") from None


def write_h5(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write data sets by their names (``a/b`` is b in the group a), atomically. Raises WriteError."""
    h5py = import_h5py(path, WriteError)
    with atomic_write(path) as file, h5py.File(file, "w") as archive:
        for name, array in arrays.items():
            archive[name] = array
