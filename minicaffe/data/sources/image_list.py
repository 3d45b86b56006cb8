"""Image files: named in Caffe's list file, or found in a folder that has a sub-folder for each class.

A list may have millions of lines, and a training net and a test net may read the same one, so its contents are
packed and shared.
"""

from __future__ import annotations

import math
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np

from minicaffe.data.decode import BAD_IMAGE, decode_image, plain_file
from minicaffe.data.sources.source import Images, Source, find_path, lookup_folders, stack
from minicaffe.errors import DataError, listing, named, one_line
from minicaffe.files.atomic import unreadable

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".gif", ".tif", ".tiff", ".webp"}
CACHE_BYTES = 1 << 30  # decoded images are kept in memory up to this size
LIST_FORM = "it must list 'path label', one image per line"


class PackedNames:
    """Many names, packed into one bytearray."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def append(self, name: str) -> None:
        """Add a name at the end."""
        self._bytes += os.fsencode(name)
        self._ends.append(len(self._bytes))

    def hashes(self, before: str = "") -> np.ndarray:
        """A hash of each name, with ``before`` put in front of it."""
        start, data = os.fsencode(before), bytes(self._bytes)
        numbers = (hash(start + data[a:b]) for a, b in pairwise(self._ends))
        return np.fromiter(numbers, np.int64, len(self))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(bytes(self._bytes[self._ends[index] : self._ends[index + 1]]))


@dataclass(frozen=True, eq=False)
class ImageList:
    """Image files and their labels: (n,), or (n, L) if a line has L of them, or None.

    ``base`` goes before each name. ``lines`` are the line numbers in the list ``source``, None for a folder. Where
    there are ``class_names``, a label is the number of one: of a folder, or of a list with a file of names.
    """

    source: str
    names: PackedNames
    labels: np.ndarray | None
    lines: array[int] | None = None
    class_names: list[str] = field(default_factory=list)
    base: str = ""
    shared: ImageList | None = None  # kept alive for the next net that reads the same list

    def __len__(self) -> int:
        return len(self.names)

    def file(self, index: int) -> str:
        """The path of an image."""
        return os.path.join(self.base, self.names[index])

    def place(self, index: int) -> str:
        """Where an image is named: ``list.txt:12``, or "" for a folder."""
        return f"{self.source}:{self.lines[index]}" if self.lines is not None else ""


class ImageListSource(Source):
    """Images that are decoded on first use, and cached as long as all have one size and fit into memory."""

    one_size = "give new_height and new_width in image_data_param"

    def __init__(
        self,
        listed: ImageList,
        color: bool | None = True,
        size: tuple[int, int] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """``color`` and ``size`` as in ``decode_image``. Unless ``cache_bytes`` is 0, decodes the first image, to
        see whether all can be cached. Raises DataError."""
        self.name = listed.source
        self.no_labels = f"{listed.place(0)} has only a path, but 'path label' is expected"
        self.listed = listed
        self.color = color
        self.size = size
        self._cache: np.ndarray | None = None
        self._is_cached = np.zeros(len(listed), bool)
        shape = self._decode(0).shape if cache_bytes else ()
        if shape and math.prod(shape) * len(listed) <= cache_bytes:
            self._cache = np.empty((len(listed), *shape), np.uint8)

    def __len__(self) -> int:
        return len(self.listed)

    @property
    def labels(self) -> np.ndarray | None:
        """The labels of all images, as ``ImageList`` has them."""
        return self.listed.labels

    @property
    def class_names(self) -> list[str]:
        """The classes, label 0 first; [] for a list without a file of names."""
        return self.listed.class_names

    def name_classes(self, class_names: list[str]) -> None:
        """Give the labels 0, 1, … of a list these names. Raises DataError for a label that has none."""
        labels = self.listed.labels
        if labels is None or labels.ndim > 1:
            raise DataError(
                f"{self.name}: class_names are for a list with one label on each line; leave them out"
            )
        beyond = (labels != np.round(labels)) | (labels < 0) | (labels >= len(class_names))
        if beyond.any():
            first = int(beyond.argmax())
            raise DataError(
                f"{self.listed.place(first) or self.name}: label {labels[first]:g}, but class_names has "
                f"{len(class_names)} names, for labels from 0 on; add its name, or change the label"
            )
        self.listed = replace(self.listed, class_names=class_names)

    def number_as(self, class_names: list[str]) -> list[str]:
        """Renumber the labels by these classes; return those that no image is of.

        Raises DataError if there are images of another class.
        """
        own_names, labels = self.listed.class_names, self.listed.labels
        assert labels is not None  # classes have labels
        used = {own_names[int(label)] for label in np.unique(labels)}
        if unknown := sorted(used - set(class_names)):
            fix = (
                "rename or remove the folder" if self.listed.lines is None else "use the class_names of these"
            )
            raise DataError(
                f"{self.name}: class {listing(unknown)} is not one of the classes trained on "
                f"({listing(class_names)}); {fix}"
            )
        numbers = [class_names.index(name) if name in class_names else -1 for name in own_names]
        labels = np.array(numbers, np.float32)[labels.astype(np.int64)]
        self.listed = replace(self.listed, labels=labels, class_names=list(class_names))
        return [name for name in class_names if name not in used]

    def read(self, indices: np.ndarray) -> tuple[Images, np.ndarray | None]:
        labels = None if self.labels is None else self.labels[indices]
        if self._fill_cache(indices) and self._cache is not None:
            return self._cache[indices], labels
        return stack([self._decode(i) for i in indices]), labels

    def shared_with(self, other: Source) -> int:
        if not isinstance(other, ImageListSource):
            return 0
        mine, its = (
            source.listed.names.hashes(os.path.realpath(source.listed.base) + os.sep)
            for source in (self, other)
        )
        return int(np.isin(mine, its).sum())

    def describe(self, index: int) -> str:
        place = self.listed.place(index)
        return named(self.listed.file(index)) + (f" (named at {place})" if place else "")

    def decode(self, file: str) -> np.ndarray:
        """The pixels of a file, uint8 (C, h, w). Raises one of ``BAD_IMAGE``."""
        return decode_image(file, self.color, self.size)

    def _fill_cache(self, indices: np.ndarray) -> bool:
        """Decode the images that are not cached yet; return False if there is no cache, or no longer one."""
        if self._cache is None:
            return False
        for i in np.unique(indices[~self._is_cached[indices]]):
            image = self._decode(i)
            if image.shape != self._cache.shape[1:]:
                self._cache = None
                return False
            self._cache[i] = image
            self._is_cached[i] = True
        return True

    def _decode(self, index: int) -> np.ndarray:
        place = self.listed.place(index)
        listed = f" (named at {place})" if place else ""
        file = self.listed.file(index)
        try:
            return self.decode(file)
        except FileNotFoundError:
            raise DataError(f"{named(file)}: no such image{listed}; check root_folder and the list") from None
        except BAD_IMAGE as error:
            problem = (isinstance(error, OSError) and error.strerror) or one_line(error)
            raise DataError(
                f"{named(file)}: cannot be decoded{listed}: {problem}; replace or remove it"
            ) from None


def open_images(
    source: str | Path,
    folder: str | Path = ".",
    root_folder: str = "",
    color: bool | None = True,
    size: tuple[int, int] | None = None,
) -> ImageListSource:
    """The images of a list file or a folder of classes, looked up beside the spec, then in the working directory.

    ``folder`` is the spec's; ``root_folder`` goes before every path of the list. Raises DataError.
    """
    return ImageListSource(find_images(source, folder, root_folder), color, size)


def find_images(
    source: str | Path, folder: str | Path = ".", root_folder: str = "", advice: str = "set root_folder"
) -> ImageList:
    """What ``open_images`` opens. The place that has the first image of a list has them all.

    Raises DataError, with ``advice`` where no place has it.
    """
    path = find_path(source, lookup_folders(folder), "image list or folder")
    if path.is_dir():
        return scan_folder(path)
    bases = list(dict.fromkeys(base / root_folder for base in (*lookup_folders(folder), path.parent)))

    def base_of(name: str) -> Path | None:
        return next((base for base in bases if os.path.exists(base / name)), None)

    listed = read_list(path, lambda name: base_of(name) is not None)
    base = base_of(listed.names[0])
    if base is None:
        places = " and in ".join(dict.fromkeys(str(base.resolve()) for base in bases))
        name = named(listed.names[0])
        problem = f"'{name}' does not end in a label; " if listed.labels is None and " " in name else ""
        raise DataError(f"{listed.place(0)}: {problem}no image {name} in {places}; {advice}")
    return replace(listed, base=_plainly(base), shared=listed)


def _plainly(folder: Path) -> str:
    """A folder without "net/..", which crowds messages; as it is where a link makes that another folder."""
    plain = os.path.normpath(folder)
    return plain if os.path.realpath(plain) == os.path.realpath(folder) else str(folder)


# -- lists ---------------------------------------------------------------------------------------------------

_lists: WeakValueDictionary[tuple[str, int, int, int], ImageList] = WeakValueDictionary()


def read_list(path: Path, is_image: Callable[[str], bool]) -> ImageList:
    """The lines "path label" of a list file; a path may contain spaces. Blank lines are skipped.

    A line may have several labels, or none, but as many as the first: the numbers at its end, unless ``is_image``
    says that some belong to a path. Raises DataError naming the line if a label is missing or not a number.
    """
    try:
        found = os.stat(plain_file(path))
        number, first = next(_lines(path), (0, ""))
        if not number:
            raise DataError(f"{path}: lists no images; {LIST_FORM}")
        count = _label_count(first, is_image)
        key = (os.path.realpath(path), found.st_mtime_ns, found.st_size, count)
        listed = _lists.get(key)
        if listed is None:
            _lists[key] = listed = _read(path, count, is_image)
        return listed
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    except ValueError as error:
        raise DataError(f"{path}: {error}; give a list of images") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank. Lines end in LF, CR or both; any bytes are kept."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if "\0" in line:
                raise DataError(f"{path}: not a text file (as UTF-8); {LIST_FORM}")
            if line := line.strip():
                yield number, line


def _label_count(line: str, is_image: Callable[[str], bool]) -> int:
    """The number of labels at the end of a line."""
    words, count = line.split(), 0
    while count < len(words) - 1 and _is_number(words[-1 - count]):
        count += 1
    return 1 if count > 1 and is_image(line.rsplit(None, 1)[0]) else count


def _labels_left_in(name: str, is_image: Callable[[str], bool]) -> int:
    """How many more labels a line has: numbers at the end of ``name``, without which it is the path of an image."""
    more = _label_count(name, is_image)
    return more if more and not is_image(name) and is_image(name.rsplit(None, more)[0]) else 0


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _read(path: Path, count: int, is_image: Callable[[str], bool]) -> ImageList:
    names, labels, lines = PackedNames(), array("f"), array("q")
    for number, line in _lines(path):
        name, *ending = line.rsplit(None, count) if count else [line]
        try:
            if len(ending) != count:
                raise ValueError
            labels.extend(map(float, ending))
        except ValueError:
            form = "a label" if count == 1 else f"{count} labels, as the first line does"
            raise DataError(
                f"{path}:{number}: '{named(line)}' does not end in {form}; write 'path label'"
            ) from None
        if name[-1:].isdigit() and (more := _labels_left_in(name, is_image)):
            raise DataError(
                f"{path}:{number}: labels: {count + more} here, {count} on the first line; write as many on each"
            )
        names.append(name)
        lines.append(number)
    if not count:
        return ImageList(str(path), names, None, lines)
    numbers = np.frombuffer(labels, np.float32).reshape(-1, count)
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers).all(axis=1)))
        raise DataError(f"{path}:{lines[row]}: a label that is nan or infinite; write a number")
    return ImageList(str(path), names, numbers[:, 0] if count == 1 else numbers, lines)


# -- names of classes ----------------------------------------------------------------------------------------


def read_class_names(path: Path) -> list[str]:
    """The lines of a text file, the name of label 0 first. Raises DataError unless they are different names."""
    names = [line for _, line in _lines_of(path)]
    if not names:
        raise DataError(f"{path}: names no classes; write the name of one class on each line")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}: the class '{named(twice[0])}' is there twice; give each a name of its own")
    return names


def _lines_of(path: Path) -> Iterator[tuple[int, str]]:
    try:
        plain_file(path)
        yield from _lines(path)
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    except ValueError as error:
        raise DataError(f"{path}: {error}; give a text file of names") from None


# -- folders of classes --------------------------------------------------------------------------------------


def scan_folder(path: Path, with_broken: bool = False) -> ImageList:
    """The images ``path``/<class>/<file>, sorted by class and file; a label is the number of its class.

    ``with_broken``: also links that lead nowhere, for one who names what cannot be read. Raises DataError if there
    are none.
    """
    classes = class_names(path)
    names, labels = PackedNames(), array("f")
    for label, name in enumerate(classes):
        for file in sorted(_image_files(path / name, with_broken)):
            names.append(os.path.join(name, file))
            labels.append(label)
    if not len(names):
        raise DataError(
            f"{path}: no images in sub-folders; expected one folder for each class, with image files"
        )
    return ImageList(str(path), names, np.frombuffer(labels, np.float32), None, classes, str(path))


def scan_all(path: Path) -> ImageList:
    """All images in a folder and in the folders within it, sorted by path, without labels.

    Folders that are links are searched too, each once. Links that lead nowhere are among the images. Raises
    DataError if there are none.
    """
    found, known, waiting = [], set[str](), [""]
    while waiting:
        within = waiting.pop()
        real = os.path.realpath(path / within)
        if real in known:
            continue
        known.add(real)
        found += [os.path.join(within, file) for file in _image_files(path / within, with_broken=True)]
        waiting += [os.path.join(within, name) for name in class_names(path / within)]
    if not found:
        endings = ", ".join(sorted(ending[1:] for ending in SUFFIXES))
        raise DataError(
            f"{path}: no images in this folder, nor in those within it; expected files of {endings}"
        )
    names = PackedNames()
    for name in sorted(found):
        names.append(name)
    return ImageList(str(path), names, None, base=str(path))


def has_images(folder: Path) -> bool:
    """Whether there are image files in a folder itself. Raises DataError if it cannot be read."""
    return any(True for _ in _image_files(folder))


def _image_files(folder: Path, with_broken: bool = False) -> Iterable[str]:
    """The image files in a folder. Hidden files are what systems put beside images (macOS: ``._cat.jpg``)."""
    with _scanned(folder) as entries:
        for entry in entries:
            is_image = os.path.splitext(entry.name)[1].lower() in SUFFIXES
            if not is_image or entry.name.startswith("."):
                continue
            if entry.is_file() or (with_broken and not os.path.exists(entry.path)):
                yield entry.name


def class_names(path: Path) -> list[str]:
    """The sub-folders of a folder of classes, sorted: label k is number k. Raises DataError."""
    with _scanned(path) as entries:
        return sorted(
            e.name for e in entries if e.is_dir() and not e.name.startswith(".") and e.name != "__MACOSX"
        )


def _scanned(folder: Path) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    try:
        return os.scandir(folder)
    except OSError as error:
        raise DataError(unreadable(folder, error)) from None
