"""Reads an LMDB file without the lmdb library, which maps it into memory, where a damaged page crashes the process.

meta      pages 0 and 1: the size of a page, and the tree; the one with the later transaction counts
branch    a header, and where its nodes are; a node: the number of a page below
leaf      a header, and where its nodes are; a node: a key, and its value or the page where that begins
overflow  a header, and a long value, on as many pages as it needs

Opening walks the branches and leaves and notes where each node is, in 8 bytes per value. Everything that a page
says is checked before it is used: a damaged, truncated or hostile file gives a one-line error, and never takes much
more memory than its size.
"""

from __future__ import annotations

import os
import struct
import weakref
from pathlib import Path

import numpy as np

from minicaffe.errors import DataError
from minicaffe.files.atomic import unreadable

HEADER = np.dtype(
    [("number", "<u8"), ("pad", "<u2"), ("kind", "<u2"), ("lower", "<u2"), ("upper", "<u2")]
)  # an overflow page has its number of pages in place of lower and upper
TREE = np.dtype(
    [
        ("page_size", "<u4"),  # in the first of a meta page's two trees, which holds the free pages
        ("flags", "<u2"),
        ("depth", "<u2"),
        *((name, "<u8") for name in ("branches", "leaves", "overflow", "entries", "root")),
    ]
)
META = np.dtype(
    [
        ("header", HEADER),
        ("magic", "<u4"),
        ("version", "<u4"),
        ("address", "<u8"),
        ("map_size", "<u8"),
        ("free", TREE),
        ("main", TREE),
        ("last", "<u8"),  # page
        ("transaction", "<u8"),
    ]
)
# A node: size of the value (two halves) or number of a page (three parts), flags, size of the key.
NODE = struct.Struct("<4H")
MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW, META_PAGE, KINDS = 1, 2, 4, 8, 0x6F
# Flags of a node: its value is on overflow pages, is a database, is several values.
ELSEWHERE, NAMED, SEVERAL = 1, 2, 4
DEEPEST = 32  # as in the library
NONE = 2**64 - 1  # the root of an empty tree
LEAST_NODE = 10  # bytes, including its entry in the page's list of nodes
AT_ONCE = 1 << 20  # bytes of pages that are examined together


class LmdbFile:
    """The values of an LMDB, numbered in the order of their keys.

    ``path`` is its folder or its file. It may be open elsewhere, also in this process; once it is written to, what
    was opened before cannot be trusted, and ``check_unchanged`` says so. Raises DataError if it is not an LMDB or
    is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        data = path / "data.mdb" if path.is_dir() else path
        if not data.is_file():
            raise DataError(f"{path}: no data.mdb in this folder; is it an LMDB?")
        try:
            file = open(data, "rb", buffering=0)  # noqa: SIM115 (it stays open)
        except OSError as error:
            raise DataError(unreadable(data, error)) from None
        self.close = weakref.finalize(self, file.close)
        self._file = file
        self._opened = self._stamp()
        self._transactions: list[int] = []
        metas = self._metas()
        self._transactions = [int(meta["transaction"]) for meta in metas]
        meta = max(metas, key=lambda meta: meta["transaction"])
        self._page_size, self._last = int(meta["free"]["page_size"]), int(meta["last"])
        self._places = self._find_values(meta["main"])

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> tuple[bytes, bytes]:
        """The key and the value with this number. Raises DataError."""
        place = int(self._places[index])
        node = self._read(place, self._page_size - place % self._page_size)
        low, high, flags, key_size = NODE.unpack_from(node)
        start, size = NODE.size + key_size, low | high << 16
        key, value = node[NODE.size : start], node[start : start + size]
        if flags & (NAMED | SEVERAL):
            raise DataError(
                f"{self.name}: has named databases, or several values per key, which Caffe's do not have"
            )
        if flags & ELSEWHERE:
            value = self._read_overflow(int.from_bytes(node[start : start + 8], "little"), size)
        if len(key) != key_size or len(value) != size:
            raise self._damaged(place // self._page_size)
        return key, value

    def check_unchanged(self) -> None:
        """Raise DataError if the file was written to since it was opened: its pages may have been reused.

        Some file systems note no time for a file that is written through a memory map.
        """
        same = self._stamp() == self._opened
        if same and self._transactions:
            same = self._transactions == [int(meta["transaction"]) for meta in self._metas()]
        if not same:
            raise DataError(f"{self.name}: was written to while it was open; read it again when that is done")

    def _read_overflow(self, number: int, size: int) -> bytes:
        start = number * self._page_size
        end = (self._last + 1) * self._page_size
        if not 2 <= number <= self._last or start + HEADER.itemsize + size > end:
            raise self._damaged(number)
        its_number, _, kind, _ = struct.unpack("<Q2HI", self._read(start, HEADER.itemsize))
        if its_number != number or kind & KINDS != OVERFLOW:
            raise self._damaged(number)
        return self._read(start + HEADER.itemsize, size)

    def _metas(self) -> list[np.void]:
        first = self._meta(0)
        return [first, self._meta(int(first["free"]["page_size"]))]

    def _meta(self, start: int) -> np.void:
        """The meta page at ``start``, after checking that its sizes make sense. Raises DataError."""
        if start + META.itemsize > self._opened[0]:
            raise self._no_lmdb("it is too short")
        meta: np.void = np.frombuffer(self._read(start, META.itemsize), META)[0]
        size, main = int(meta["free"]["page_size"]), meta["main"]
        depth, root = int(main["depth"]), int(main["root"])
        if meta["magic"] != MAGIC or not meta["header"]["kind"] & META_PAGE:
            raise self._no_lmdb("it does not begin like one")
        if meta["version"] != VERSION:
            raise self._no_lmdb(f"version {meta['version']}, not {VERSION}")
        if size & (size - 1) or not 256 <= size <= 1 << 16 or int(meta["last"]) > 1 << 46:
            raise self._no_lmdb("damaged, or written on a machine with other sizes")
        if depth > DEEPEST or (root == NONE) != (depth == 0) or (depth and not 2 <= root <= meta["last"]):
            raise self._no_lmdb("its first pages are damaged")
        return meta

    def _find_values(self, tree: np.void) -> np.ndarray:
        """The positions in the file of all leaf nodes, in the order of their keys."""
        if int(tree["root"]) == NONE:
            return np.empty(0, np.int64)
        pages, depth = np.array([tree["root"]], np.int64), int(tree["depth"])
        for _ in range(depth - 1):
            pages = self._find_in(pages, BRANCH, most=self._last)
            if len(np.unique(pages)) != len(pages):
                raise self._damaged(int(pages[0]))
        places = self._find_in(pages, LEAF, most=int(tree["entries"]))
        if len(places) != tree["entries"]:
            raise self._damaged(int(tree["root"]))
        return places

    def _find_in(self, pages: np.ndarray, kind: int, most: int) -> np.ndarray:
        """What the nodes on all pages of a level point to: the pages below, or for leaves the nodes' positions."""
        found: list[np.ndarray] = []
        step = max(1, AT_ONCE // self._page_size)
        for first in range(0, len(pages), step):
            found.append(self._nodes(pages[first : first + step], kind))
            most -= len(found[-1])
            if most < 0:
                raise self._damaged(int(pages[first]))
        return np.concatenate(found)

    def _nodes(self, pages: np.ndarray, kind: int) -> np.ndarray:
        size = self._page_size
        block = np.stack([np.frombuffer(self._read(page * size, size), np.uint8) for page in pages.tolist()])
        header = block[:, : HEADER.itemsize].copy().view(HEADER)[:, 0]
        lower, upper = header["lower"].astype(np.int64), header["upper"]
        counts = (lower - HEADER.itemsize) // 2
        good = (header["number"] == pages) & (header["kind"] & KINDS == kind)
        good &= (counts > 0) & (counts * LEAST_NODE <= size) & (lower <= upper) & (upper <= size)
        if not good.all():
            raise self._damaged(int(pages[~good][0]))
        places = block[:, HEADER.itemsize : HEADER.itemsize + 2 * counts.max()].copy().view("<u2")
        row, column = np.nonzero(np.arange(places.shape[1]) < counts[:, None])
        places = places[row, column].astype(np.int64)
        good = (places >= lower[row]) & (places + NODE.size <= size)
        if not good.all():
            raise self._damaged(int(pages[row[~good][0]]))
        if kind == LEAF:
            self._check_values(pages, block, row, places)
            values: np.ndarray = pages[row] * size + places
            return values
        below = np.zeros((len(row), 8), np.uint8)
        below[:, :6] = block[row[:, None], places[:, None] + np.arange(6)]
        numbers = below.view("<i8")[:, 0]
        good = (numbers >= 2) & (numbers <= self._last)
        if not good.all():
            raise self._damaged(int(pages[row[~good][0]]))
        return numbers

    def _check_values(
        self, pages: np.ndarray, block: np.ndarray, row: np.ndarray, places: np.ndarray
    ) -> None:
        """Raise DataError if long values lie beyond the end of the file.

        The file itself may end before the last page that was allocated: a page freed in the same transaction is
        never written.
        """
        nodes = block[row[:, None], places[:, None] + np.arange(NODE.size)].view("<u2").astype(np.int64)
        far = np.flatnonzero(nodes[:, 2] & ELSEWHERE)
        row, nodes, starts = row[far], nodes[far], places[far] + NODE.size + nodes[far, 3]
        good = starts + 8 <= self._page_size
        if not good.all():
            raise self._damaged(int(pages[row[~good][0]]))
        numbers = block[row[:, None], starts[:, None] + np.arange(8)].view("<u8")[:, 0]
        good = (numbers >= 2) & (numbers <= self._last)
        if not good.all():
            raise self._damaged(int(pages[row[~good][0]]))
        sizes = nodes[:, 0] | nodes[:, 1] << 16
        ends = numbers.astype(np.int64) * self._page_size + HEADER.itemsize + sizes
        if len(ends) and ends.max() > self._opened[0]:
            raise DataError(
                f"{self.name}: the file ends after {self._opened[0]} of {ends.max()} bytes; copy it again"
            )

    def _read(self, start: int, size: int) -> bytes:
        """Bytes of the file. Raises DataError if it has fewer, for instance because it was truncated since."""
        try:
            if hasattr(os, "pread"):  # does not move the file position, which forked processes share
                data = os.pread(self._file.fileno(), size, start)
            else:
                self._file.seek(start)
                data = self._file.read(size)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.name}: cannot be read ({error})") from None
        if len(data) != size:
            self.check_unchanged()
            raise DataError(
                f"{self.name}: the file ends after {self._opened[0]} bytes, before what it points at; copy it again"
            )
        return data

    def _stamp(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _no_lmdb(self, problem: str) -> DataError:
        return DataError(f"{self.name}: not a readable LMDB ({problem}); write it again")

    def _damaged(self, page: int) -> DataError:
        self.check_unchanged()
        return DataError(f"{self.name}: the database is damaged (page {page}); write it again")
