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
    path = find_path(source, lookup_folders(folder), "list of image pairs")
    images, maps, lines = PackedNames(), PackedNames(), array("q")
    try:
        for number, (image, labels) in _pairs(path):
            images.append(image)
            maps.append(labels)
            lines.append(number)
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    except ValueError as error:
        raise DataError(f"{path}: {error}; give a list of image pairs") from None
    if not lines:
        raise DataError(f"{path}: lists no images; {PAIR_FORM}")
    bases = [os.path.join(base, root_folder) for base in (*lookup_folders(folder), path.parent)]
    base = next((base for base in bases if os.path.exists(_join(base, images[0], root_folder))), None)
    if base is None:
        places = " and in ".join(dict.fromkeys(os.path.abspath(base) for base in bases))
        raise DataError(f"{path}:{lines[0]}: no image {named(images[0])} in {places}; set root_folder")
    if root_folder:
        base = os.path.normpath(base) + os.sep
        images, maps = (_without_slash(names) for names in (images, maps))
    source = str(path)
    return ImageList(source, images, None, lines, base=base), ImageList(source, maps, None, lines, base=base)


def _pairs(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """Number and words of each line that is not blank."""
    plain_file(path)
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if "\0" in line:
                raise DataError(f"{path}: not a text file (as UTF-8); {PAIR_FORM}")
            words = line.split()
            if words and len(words) != 2:
                count = "1 word" if len(words) == 1 else f"{len(words)} words"
                raise DataError(f"{path}:{number}: '{named(line.strip())}' has {count}; {PAIR_FORM}")
            if words:
                yield number, (words[0], words[1])


def _join(base: str, name: str, root_folder: str) -> str:
    return os.path.join(base, name.lstrip("/") if root_folder else name)


def _without_slash(names: PackedNames) -> PackedNames:
    """Names that are to follow a folder."""
    plain = PackedNames()
    for i in range(len(names)):
        plain.append(names[i].lstrip("/"))
    return plain
