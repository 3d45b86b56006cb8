"""A look at every picture of a folder of classes: which can be read, and what they are like."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minicaffe.data.decode import BAD_IMAGE, decode_image, plain_file
from minicaffe.data.sources.image_list import SUFFIXES, ImageList, class_names, scan_folder
from minicaffe.errors import DataError, counted, listing, named, one_line
from minicaffe.files.atomic import unreadable

logger = logging.getLogger("minicaffe")
GREY = 3  # levels by which the colours of a grey picture may differ, as those of a JPEG do
FEWEST, FEW = 4, 20  # pictures of a class: fewer than these are refused, or warned of
READABLE = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
SYSTEM_FILES = {"thumbs.db", "desktop.ini"}  # which Windows puts beside pictures; those of others are hidden
MOST_NAMED = 5


@dataclass(frozen=True)
class Picture:
    """One picture: ``name`` is its path in the folder, ``mean`` of its blue, green and red (one number if grey)."""

    name: str
    label: int
    size: tuple[int, int]  # height and width, standing upright
    is_grey: bool
    mean: tuple[float, ...]


@dataclass
class Survey:
    """The pictures that can be read, by class and name; ``classes`` are those that have pictures, label 0 first."""

    folder: Path
    classes: list[str]
    pictures: list[Picture] = field(default_factory=list)

    @property
    def is_grey(self) -> bool:
        """Whether all pictures are grey, even if they are stored in colours."""
        return all(picture.is_grey for picture in self.pictures)

    @property
    def median_side(self) -> int:
        """The median of the shorter sides, in pixels."""
        return int(np.median([min(picture.size) for picture in self.pictures]))

    def counts(self) -> list[int]:
        """The number of pictures of each class."""
        labels = [picture.label for picture in self.pictures]
        return [labels.count(label) for label in range(len(self.classes))]


def survey(folder: Path, progress: Callable[[int], Callable[[int], object]] | None = None) -> Survey:
    """Look at all pictures of a folder with a sub-folder for each class.

    ``progress`` is told how many files there are, and what it returns how many come next.

    Warns of what is left out: files that cannot be read, copies of a picture, empty folders, and what lies where it
    belongs to no class. Raises DataError if that is not such a folder, has less than two classes, or a class with
    less than four pictures: before any is read, if their names tell.
    """
    found = _scan(folder)
    labels = found.labels
    assert labels is not None  # a folder of classes has them
    used, files = np.unique(labels.astype(int), return_counts=True)
    _check_counts(
        folder, dict(zip((found.class_names[label] for label in used), files.tolist(), strict=True))
    )
    place_of = {int(label): place for place, label in enumerate(used)}
    step = progress(len(labels)) if progress else None
    result = Survey(folder, [found.class_names[label] for label in used])
    first_of: dict[bytes, str] = {}
    bad: list[str] = []
    copies: list[str] = []
    for index, label in enumerate(labels):
        if step:
            step(1)
        name = found.names[index]
        try:
            digest, pixels = _read(folder / name)
        except BAD_IMAGE as error:
            problem = (isinstance(error, OSError) and error.strerror) or one_line(error)
            bad.append(f"{named(name)} ({problem})")
            continue
        if digest in first_of:
            copies.append(f"{named(name)} (the same as {named(first_of[digest])})")
            continue
        first_of[digest] = name
        result.pictures.append(_picture(name, place_of[int(label)], pixels))
    _warn(f"Left out, as they cannot be read as pictures: {len(bad)}", bad)
    _warn(f"Left out, as copies of others, since none may be trained and tested on: {len(copies)}", copies)
    counts = dict(zip(result.classes, result.counts(), strict=True))
    _check_counts(folder, counts)
    few = [f"{name} ({count})" for name, count in counts.items() if count < FEW]
    _warn(f"Classes of fewer than {FEW} pictures, of which little can be learned: {len(few)}", few)
    _check_names(result)
    return result


def _scan(folder: Path) -> ImageList:
    """The files of each class. Warns of others; raises DataError where there are none, with what to do."""
    classes = class_names(folder)
    loose = _count(folder)
    nested = {name: _below(folder / name) for name in classes}
    others = [os.path.join(name, other) for name in classes for other in _others(folder / name)]
    if not any(_count(folder / name) for name in classes):
        deeper = [name for name, found in nested.items() if found]
        if deeper:
            raise DataError(
                f"{folder}: its folders ({listing(deeper)}) hold folders, not pictures; give the one that has a "
                f"folder for each class, as in --images {folder / deeper[0]}"
            )
        if others:
            raise DataError(
                f"{folder}: none of the {len(others)} files in its folders is a picture that is read, as "
                f"{named(others[0])}; convert them to JPEG or PNG ({READABLE})"
            )
        alone = f" (and {loose} in it, of no class)" if loose else ""
        raise DataError(
            f"{folder}: no pictures in sub-folders{alone}; make one folder for each class and put its pictures "
            f"there ({READABLE})"
        )
    if loose:
        logger.warning("%s: left out, as in no folder of a class: %d", folder, loose)
    for name, found in nested.items():
        for within, count in found.items():
            logger.warning(
                "Left out, as they lie in a folder within that of a class: %s of %s; move what is there into %s",
                counted(count, "picture"), folder / name / within, folder / name,
            )  # fmt: skip
    empty = [name for name in classes if not _count(folder / name)]
    if empty:
        logger.warning("%s: left out, as folders without pictures: %s", folder, listing(empty))
    _warn(
        f"Left out, as no pictures that are read; convert them to JPEG or PNG: {len(others)}",
        [named(name) for name in others],
    )
    return scan_folder(folder)


def _count(folder: Path) -> int:
    """How many pictures lie in a folder, by their names."""
    try:
        with os.scandir(folder) as entries:
            return sum(_is_picture(entry.name) and entry.is_file() for entry in entries)
    except OSError as error:
        raise DataError(unreadable(folder, error)) from None


def _below(folder: Path) -> dict[str, int]:
    """How many pictures lie in each folder within a folder, at any depth; those that have none are left out."""
    counts = {
        os.path.relpath(at, folder): sum(_is_picture(name) for name in names)
        for at, _, names in os.walk(folder)
        if at != str(folder)
    }
    return {within: counts[within] for within in sorted(counts) if counts[within]}


def _others(folder: Path) -> list[str]:
    """The files in a folder that are no pictures, by their names, but for those that systems put there."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file()]
    return sorted(
        name
        for name in names
        if not (_is_picture(name) or name.startswith(".") or name.lower() in SYSTEM_FILES)
    )


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _read(path: Path) -> tuple[bytes, NDArray[np.uint8]]:
    """A digest of the file, and its pixels (3, h, w). Raises one of BAD_IMAGE."""
    with open(plain_file(path), "rb") as file:
        digest = hashlib.sha256(file.read()).digest()
        file.seek(0)
        return digest, decode_image(file)


def _picture(name: str, label: int, pixels: NDArray[np.uint8]) -> Picture:
    lowest, highest = pixels.min(axis=0), pixels.max(axis=0)
    is_grey = bool((highest - lowest).max() <= GREY)
    mean = tuple(float(value) for value in pixels.mean(axis=(1, 2)))
    height, width = pixels.shape[1:]
    return Picture(name, label, (height, width), is_grey, mean)


def _warn(what: str, names: list[str]) -> None:
    if names:
        logger.warning("%s (%s)", what, listing(names, MOST_NAMED))


def _check_counts(folder: Path, counts: Mapping[str, int]) -> None:
    """Raise DataError for too few classes, or too few pictures of one."""
    if len(counts) < 2:
        raise DataError(
            f"{folder}: pictures of one class only, {named(*counts)}; a net tells classes apart, so "
            "make a second folder beside it"
        )
    too_few = [f"{name} ({count})" for name, count in counts.items() if count < FEWEST]
    if too_few:
        raise DataError(
            f"{folder}: too few pictures of {listing(too_few)}; a class needs at least {FEWEST}, to learn "
            f"from and to test with, and {FEW} or more to learn something: add pictures, or move the folder away"
        )


def _check_names(found: Survey) -> None:
    """Raise DataError for a name that a list of images cannot hold."""
    for name in (*found.classes, *(picture.name for picture in found.pictures)):
        if name != name.strip() or len(name.splitlines()) != 1:
            raise DataError(
                f"{found.folder}: the name '{named(name)}' begins or ends with a space, or has a line break, which "
                "no list of images can hold; rename it"
            )
