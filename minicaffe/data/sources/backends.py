"""The formats that ``Data`` reads, and how a path's format is recognised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from minicaffe.data.sources.idx import open_idx
from minicaffe.data.sources.lmdb import LmdbSource
from minicaffe.data.sources.npz import open_npz
from minicaffe.data.sources.source import Source, find_path, lookup_folders
from minicaffe.errors import DataError


def _no_leveldb(path: Path, labels: Path | None, color: bool | None) -> Source:
    raise DataError(f"{path}: LEVELDB is not supported; convert it to LMDB (Caffe's convert_imageset can)")


def _is_lmdb(path: Path) -> bool:
    return (path / "data.mdb").exists() if path.is_dir() else path.name.lower().endswith((".mdb", ".lmdb"))


def _is_idx(path: Path) -> bool:
    name = path.name.lower()
    return path.is_file() and ("idx" in name or name.removesuffix(".gz").endswith("ubyte"))


# A format: whether a path belongs to it, by its name or, for a folder, by its contents; and how to open it, given
# its path, the path of a label file, and ``color``.
BACKENDS: dict[str, tuple[Callable[[Path], bool], Callable[[Path, Path | None, bool | None], Source]]] = {
    "LMDB": (_is_lmdb, lambda path, labels, color: LmdbSource(path, color)),
    "LEVELDB": (lambda path: (path / "CURRENT").exists(), _no_leveldb),
    "NPZ": (lambda path: path.name.lower().endswith(".npz"), lambda path, labels, color: open_npz(path)),
    "IDX": (_is_idx, lambda path, labels, color: open_idx(path, labels)),
}

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
    _, opened = BACKENDS[chosen]
    return opened(found, find_path(labels, places, "label file") if labels else None, color)


def locate(path: str, backend: str | None, places: Sequence[Path]) -> tuple[Path, str]:
    """Where a data file or sample is, and its format. Raises DataError."""
    if path.startswith("sample/") and path not in SAMPLES and not any((p / path).exists() for p in places):
        raise DataError(f"{path}: no such sample; there are {' and '.join(SAMPLES)}")
    found = SAMPLES.get(path) or find_path(path, places)
    return found, backend or backend_of(found)


def backend_of(path: Path) -> str:
    """The format of an existing path. Raises DataError."""
    for name, (recognises, _) in BACKENDS.items():
        if recognises(path):
            return name
    if path.is_dir():
        raise DataError(
            f"{path}: a folder, but not an LMDB; a folder of images is read by an ImageData layer"
        )
    raise DataError(
        f"{path}: format not clear from the name (.npz, …-ubyte, an LMDB's folder); "
        f"name it so, or give 'backend: {' | '.join(BACKENDS)}' in a Data layer"
    )
