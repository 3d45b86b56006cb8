"""The formats that ``Data`` reads, and which of them a path is."""

from __future__ import annotations

import os
from pathlib import Path

from minicaffe.data.idx import open_idx
from minicaffe.data.lmdb import LmdbSource
from minicaffe.data.npz import open_npz
from minicaffe.data.source import Source, find_path, lookup_folders
from minicaffe.errors import DataError

BACKENDS = ("LMDB", "LEVELDB", "IDX", "NPZ")

SAMPLE_FOLDER = Path(__file__).parent / "sample"
SAMPLES = {  # what comes with the package
    "sample/mnist-train": SAMPLE_FOLDER / "mnist-train-images-idx3-ubyte.gz",
    "sample/mnist-test": SAMPLE_FOLDER / "mnist-test-images-idx3-ubyte.gz",
}


def open_source(
    path: str,
    backend: str | None = None,
    folder: str | os.PathLike[str] = ".",
    labels: str | None = None,
    color: bool | None = None,
) -> Source:
    """Open a data file, or a sample by name (``sample/mnist-train``, ``sample/mnist-test``).

    A relative ``path`` is looked up in ``folder`` (the spec's) and then in the working directory. ``backend``
    is one of ``BACKENDS``, by default what the name tells. ``labels`` names the label file (IDX only).
    ``color`` is for encoded images in an LMDB, as in ``decode_image``. Raises DataError.
    """
    places = lookup_folders(folder)
    if path.startswith("sample/") and path not in SAMPLES and not any((p / path).exists() for p in places):
        raise DataError(f"{path}: no such sample; there are {' and '.join(SAMPLES)}")
    found = SAMPLES.get(path) or find_path(path, places)
    chosen = backend or backend_of(found)
    if chosen == "LEVELDB":
        raise DataError(
            f"{found}: LEVELDB is not supported; convert it to LMDB (Caffe's convert_imageset can)"
        )
    if chosen == "IDX":
        return open_idx(found, find_path(labels, places, "label file") if labels else None)
    if chosen == "NPZ":
        return open_npz(found)
    return LmdbSource(found, color)


def backend_of(path: Path) -> str:
    """The format of an existing path, by its name and, for a folder, by what is in it. Raises DataError."""
    if path.is_dir():
        if (path / "data.mdb").exists():
            return "LMDB"
        if (path / "CURRENT").exists():
            return "LEVELDB"
        raise DataError(f"{path}: a folder, but no LMDB; a folder of images is read by an ImageData layer")
    name = path.name.lower()
    if name.endswith(".npz"):
        return "NPZ"
    if name.endswith((".mdb", ".lmdb")):
        return "LMDB"
    if "idx" in name or name.removesuffix(".gz").endswith("ubyte"):
        return "IDX"
    raise DataError(f"{path}: format not clear from the name; give 'backend: {' | '.join(BACKENDS)}'")
