"""Image files: named by Caffe's list file, or found in a folder that has a sub-folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicaffe.data.decode import BAD_IMAGE, decode_image
from minicaffe.data.source import Images, Source, find_path, lookup_folders, stack
from minicaffe.errors import DataError, one_line
from minicaffe.files import unreadable

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".gif", ".tif", ".tiff", ".webp"}
KEPT_BYTES = 1 << 30  # decoded images are kept in memory up to this size


@dataclass(frozen=True)
class Entry:
    """One image: its file, its label, and the place that names it (``list.txt:12``), for errors."""

    file: str
    label: float
    named_at: str = ""


class ImageListSource(Source):
    """Images that are decoded at first use, and kept while all have one size and fit into memory."""

    def __init__(
        self,
        name: str,
        entries: Sequence[Entry],
        color: bool | None = True,
        size: tuple[int, int] | None = None,
        keep_bytes: int = KEPT_BYTES,
    ) -> None:
        """``color`` and ``size`` as in ``decode_image``. Decodes the first image. Raises DataError."""
        self.name = name
        self.entries = entries
        self.color = color
        self.size = size
        self.labels = np.array([entry.label for entry in entries], np.float32)
        first = self._decode(0)
        self._kept: np.ndarray | None = None
        self._is_kept = np.zeros(len(entries), bool)
        if first.nbytes * len(entries) <= keep_bytes:
            self._kept = np.empty((len(entries), *first.shape), np.uint8)

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, indices: np.ndarray) -> tuple[Images, np.ndarray]:
        labels = self.labels[indices]
        if self._keep(indices) and self._kept is not None:
            return self._kept[indices], labels
        return stack([self._decode(i) for i in indices]), labels

    def _keep(self, indices: np.ndarray) -> bool:
        """Decode what is not in memory yet; False where memory is no longer used, as sizes differ."""
        for i in np.unique(indices[~self._is_kept[indices]]) if self._kept is not None else ():
            image = self._decode(i)
            if image.shape != self._kept.shape[1:]:
                self._kept = None
                return False
            self._kept[i] = image
            self._is_kept[i] = True
        return self._kept is not None

    def _decode(self, index: int) -> np.ndarray:
        entry = self.entries[index]
        named = f" (named at {entry.named_at})" if entry.named_at else ""
        try:
            return decode_image(entry.file, self.color, self.size)
        except FileNotFoundError:
            raise DataError(f"{entry.file}: no such image{named}; check root_folder and the list") from None
        except BAD_IMAGE as error:
            problem = one_line(error)
            raise DataError(
                f"{entry.file}: cannot be decoded{named}: {problem}; replace or remove it"
            ) from None


def open_images(
    source: str | Path,
    folder: str | Path = ".",
    root_folder: str = "",
    color: bool | None = True,
    size: tuple[int, int] | None = None,
) -> ImageListSource:
    """The images of a list file or of a folder of classes; relative paths: beside the spec, then the cwd.

    ``folder`` is the spec's; ``root_folder`` goes before every path of the list. Raises DataError.
    """
    path = find_path(source, lookup_folders(folder), "image list or folder")
    entries = scan_folder(path) if path.is_dir() else _resolve(read_list(path), path, folder, root_folder)
    return ImageListSource(str(path), entries, color, size)


def read_list(path: Path) -> list[Entry]:
    """The lines "path label" of a list file; a path may hold spaces, the label is after the last one.

    Raises DataError, with the line, where a label is missing or no number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; it must list 'path label', one image a line") from None
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    entries = [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not entries:
        raise DataError(f"{path}: lists no images; it must list 'path label', one image a line")
    return entries


def _parse(line: str, where: str) -> Entry:
    file, _, label = line.strip().rpartition(" ")
    try:
        return Entry(file.rstrip(), float(label), where)
    except ValueError:
        raise DataError(f"{where}: '{line.strip()}' does not end in a label; write 'path label'") from None


def _resolve(entries: list[Entry], path: Path, folder: str | Path, root_folder: str) -> list[Entry]:
    """The entries with full paths. Whichever place has the first image of the list has them all."""
    bases = [base / root_folder for base in (*lookup_folders(folder), path.parent)]
    bases = list(dict.fromkeys(bases))
    base = next((base for base in bases if (base / entries[0].file).exists()), None)
    if base is None:
        places = " and in ".join(dict.fromkeys(str(base.resolve()) for base in bases))
        raise DataError(f"{entries[0].named_at}: no image {entries[0].file} in {places}; set root_folder")
    return [Entry(str(base / entry.file), entry.label, entry.named_at) for entry in entries]


def scan_folder(path: Path) -> list[Entry]:
    """The images ``path``/<class>/<file>, by sorted class and file; a label is the number of its class.

    Raises DataError where there are none.
    """
    classes = class_names(path)
    entries = [
        Entry(str(file), label)
        for label, name in enumerate(classes)
        for file in sorted((path / name).iterdir())
        if file.suffix.lower() in SUFFIXES
    ]
    if not entries:
        raise DataError(
            f"{path}: no images in sub-folders; expected one folder for each class, with image files"
        )
    return entries


def class_names(path: Path) -> list[str]:
    """The sub-folders of a folder of classes, sorted: label k is number k."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
