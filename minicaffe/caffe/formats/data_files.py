"""The files that a layer's settings name, as seen from another folder than the spec's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from minicaffe.caffe.formats.tree import Scalar, Tree

PAIRED = ("DenseImageData", "ImageLabelmapData", "ImageSegData")  # whose lists have two files on a line
PATHS = ("source", "mean_file", "root_folder", "label_map_file")


def whole_paths(layer: Tree, folder: Path) -> Iterator[str]:
    """Give files beside the spec, in ``folder``, their whole paths: Caffe looks in the working directory only.

    Yields a line about each.
    """
    for param, name, found in _beside(layer, folder):
        if found != Path(param.text(name)).resolve():
            # Caffe adds no "/" to root_folder
            path = f"{found}/" if param.text(name).endswith("/") else str(found)
            param.set(name, Scalar(path, quoted=True))
            yield f"{name} is written with its whole path: {path}"
    for param, name, found in _beside(layer, folder):
        lost = _first_listed(found, layer.text("type")) if name == "source" else ""
        if lost and not Path(param.text("root_folder") + lost).exists():
            yield f"what {found} lists is beside it; Caffe looks in the working directory, or in root_folder"


def follow_spec(layer: Tree, folder: Path, new: Path) -> None:
    """Let files beside the spec, in ``folder``, be found by the same layer in a spec in the folder ``new``."""
    for param, name, found in _beside(layer, folder):
        if found != (new / param.text(name)).resolve():
            end = "/" if param.text(name).endswith("/") else ""
            param.set(name, Scalar(os.path.relpath(found, new.resolve()) + end, quoted=True))


def _beside(layer: Tree, folder: Path) -> Iterator[tuple[Tree, str, Path]]:
    """The settings that name a file in ``folder``: the message, the field, and the file's path."""
    for message in list(layer.fields):
        for param in layer.trees(message):
            for name in [name for name in PATHS if param.text(name)]:
                found = (folder / param.text(name)).resolve()
                if found.exists():
                    yield param, name, found


def _first_listed(path: Path, kind: str) -> str:
    """The first file that a list of images or HDF5 files names; "" for other sources."""
    if kind not in ("ImageData", "HDF5Data", *PAIRED) or not path.is_file():
        return ""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as lines:
        first = next((line.strip() for line in lines if line.strip()), "")
    if first and kind in PAIRED:
        return first.split()[0]
    return first.rsplit(None, 1)[0] if first and kind == "ImageData" else first
