"""Pairs of image files, named on the lines of a list: an image, and a map with a label for each of its pixels."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from minicaffe.data.decode import decode_image, plain_file
from minicaffe.data.resize import resize_nearest
from minicaffe.data.sources.image_list import ImageList, ImageListSource, PackedNames
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.errors import DataError, named
from minicaffe.files.atomic import unreadable

PAIR_FORM = "write 'image label_image', one pair per line"


class LabelMapSource(ImageListSource):
    """Maps of labels: the grey images of files, brought to another size without mixing labels."""

    def decode(self, file: str) -> np.ndarray:
        labels = decode_image(file, color=False)
        if self.size in (None, labels.shape[1:]):
            return labels
        return resize_nearest(labels[0], *self.size)[None]


class EdgeMapSource(ImageListSource):
    """Maps of edges: 1 where the grey image of a file, resized, is at least 128 (its 255th, rounded), else 0."""

    def decode(self, file: str) -> np.ndarray:
        grey = decode_image(file, color=False, size=self.size)
        return (grey >= 128).astype(np.uint8)


def find_pairs(
    source: str | Path, folder: str | Path = ".", root_folder: str = ""
) -> tuple[ImageList, ImageList]:
    """The images and the label images of a list file, looked up beside the spec, in the working directory, and
    beside the list.

    ``folder`` is the spec's. ``root_folder`` goes before every path of the list, those that begin with "/" too.
    The place that has the first image has them all. Raises DataError.
    """
    images, maps = _find(source, folder, root_folder, 2)
    return images, maps


def find_labelled(
    source: str | Path, folder: str | Path = ".", root_folder: str = ""
) -> tuple[ImageList, np.ndarray]:
    """The images of a list with lines "image label", found as ``find_pairs`` does, and the labels, (n,)."""
    images, labels = _find(source, folder, root_folder, 2)
    numbers = np.empty(len(labels))
    for i in range(len(labels)):
        word = labels.names[i]
        if not word.isdecimal() or int(word) > 255:
            raise DataError(f"{images.place(i)}: label '{named(word)}'; expected a number from 0 to 255")
        numbers[i] = int(word)
    return images, numbers


def find_unlabelled(source: str | Path, folder: str | Path = ".", root_folder: str = "") -> ImageList:
    """The images of a list, as in ``find_pairs``; what comes after the first word of a line is not read."""
    return _find(source, folder, root_folder, 1)[0]


def _find(source: str | Path, folder: str | Path, root_folder: str, count: int) -> list[ImageList]:
    """The first ``count`` words of the lines; each word is a path to be found where the first line's first is."""
    path = find_path(
        source, lookup_folders(folder), "list of image pairs" if count == 2 else "list of images"
    )
    columns, lines = [PackedNames() for _ in range(count)], array("q")
    try:
        for number, words in _lines(path, count):
            lines.append(number)
            for names, word in zip(columns, words, strict=False):
                names.append(word)
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    except ValueError as error:
        raise DataError(f"{path}: {error}; give a list of images") from None
    if not lines:
        raise DataError(f"{path}: lists no images; {PAIR_FORM}")
    first = columns[0][0].lstrip("/") if root_folder else columns[0][0]
    bases = [os.path.join(base, root_folder) for base in (*lookup_folders(folder), path.parent)]
    base = next((base for base in bases if os.path.exists(os.path.join(base, first))), None)
    if base is None:
        places = " and in ".join(dict.fromkeys(os.path.abspath(base) for base in bases))
        raise DataError(f"{path}:{lines[0]}: no image {named(first)} in {places}; set root_folder")
    if root_folder:
        base = os.path.normpath(base) + os.sep
        columns = [_without_slash(names) for names in columns]
    return [ImageList(str(path), names, None, lines, base=base) for names in columns]


def _lines(path: Path, count: int) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that is not blank: two, or if ``count`` is 1, one and more."""
    plain_file(path)
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if "\0" in line:
                raise DataError(f"{path}: not a text file (as UTF-8); {PAIR_FORM}")
            words = line.split()
            if words and count == 2 and len(words) != 2:
                amount = "1 word" if len(words) == 1 else f"{len(words)} words"
                raise DataError(f"{path}:{number}: '{named(line.strip())}' has {amount}; {PAIR_FORM}")
            if words:
                yield number, words


def _without_slash(names: PackedNames) -> PackedNames:
    """Names that are to follow a folder."""
    plain = PackedNames()
    for i in range(len(names)):
        plain.append(names[i].lstrip("/"))
    return plain
