"""Opening a source of any format that ``Data`` reads. A file beside this one with a new format is found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minicaffe.data.sources.source import BACKENDS, Backend, Source, find_path, lookup_folders
from minicaffe.errors import DataError
from minicaffe.startup import import_all


def _no_leveldb(path: Path, labels: Path | None, color: bool | None) -> Source:
    raise DataError(f"{path}: LEVELDB is not supported; convert it to LMDB (Caffe's convert_imageset can)")


import_all("minicaffe.data.sources")  # each format enters itself in BACKENDS
BACKENDS["LEVELDB"] = Backend(lambda path: (path / "CURRENT").exists(), _no_leveldb)

SAMPLE_FOLDER = Path(__file__).parents[1] / "sample"
SAMPLES = {  # what comes with the package
    "sample/mnist-train": SAMPLE_FOLDER / "mnist-train-images-idx3-ubyte.gz",
    "sample/mnist-test": SAMPLE_FOLDER / "mnist-test-images-idx3-ubyte.gz",
}


def open_source(
    path: str,
    backend: str | None = None,
    folder: str | Path = ".",
    labels: str | None = None,
    color: bool | None = None,
) -> Source:
    """Open a data file, or a sample by name (``sample/mnist-train``, ``sample/mnist-test``).

    A relative ``path`` is looked up in ``folder`` (the spec's) and then in the working directory. ``backend``
    is one of ``BACKENDS``, by default the one that the name suggests. ``labels`` names the label file (IDX only).
    ``color`` is for encoded images in an LMDB, as in ``decode_image``. Raises DataError.
    """
    places = lookup_folders(folder)
    found, chosen = locate(path, backend, places)
    return BACKENDS[chosen].open(found, find_path(labels, places, "label file") if labels else None, color)


def locate(path: str, backend: str | None, places: Sequence[Path]) -> tuple[Path, str]:
    """Where a data file or sample is, and its format. Raises DataError."""
    if path.startswith("sample/") and path not in SAMPLES and not any((p / path).exists() for p in places):
        raise DataError(f"{path}: no such sample; there are {' and '.join(SAMPLES)}")
    found = SAMPLES.get(path) or find_path(path, places)
    return found, backend or backend_of(found)


def backend_of(path: Path) -> str:
    """The format of an existing path. Raises DataError."""
    for name, backend in sorted(BACKENDS.items(), key=lambda item: item[1].is_guess):
        if backend.recognises(path):
            return name
    if path.is_dir():
        raise DataError(
            f"{path}: a folder, but not an LMDB; a folder of images is read by an ImageData layer"
        )
    raise DataError(
        f"{path}: format not clear from the name (.npz, …-ubyte, an LMDB's folder); "
        f"name it so, or give 'backend: {' | '.join(BACKENDS)}' in a Data layer"
    )
