"""Gets the full MNIST and CIFAR-10 sets: from their mirrors, from another URL, or from a local path.

The result is what the specs read: four gzipped IDX files, or a folder of images for each class. Nothing gets its
final name before it is complete and its contents have been checked.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import re
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from minicaffe.data.sources.idx import gzip_bytes
from minicaffe.errors import DataError, WriteError, one_line
from minicaffe.files.atomic import atomic_write

Progress = Callable[[str], object]
Check = Callable[[BinaryIO], None]  # raises DataError if the file is not what it should be

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# SHA-256 of the contents of each gzip file: the compressed bytes differ between mirrors.
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

CIFAR10_MIRRORS = ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",)
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # the only checksum that its author publishes
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR10_PARTS = {
    "train": [f"data_batch_{k}.bin" for k in range(1, 6)],
    "test": ["test_batch.bin"],
}
CIFAR10_RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes

IMAGE_PATH = re.compile(r"(?:[\w-]+/)?(train|test)/([\w-]+)/([\w-]+\.(?:jpe?g|png))", re.IGNORECASE)
TIMEOUT = 30  # seconds without a byte
PIECE = 1 << 18
MAX_BYTES = 1 << 30  # nothing here is larger


def get(
    name: str, to: str | Path | None = None, source_url: str | None = None, progress: Progress = print
) -> Path:
    """Get the data set ``name``, "mnist" or "cifar10", into the folder ``to`` (default ``data/<name>``).

    ``source_url`` takes the place of the mirrors: an http(s) URL, or a local file or folder. For MNIST it is
    a folder with the four IDX files (gzipped or not); for CIFAR-10 the binary version's .tar.gz or the folder
    of its .bin files, or a .zip or folder that holds train/<class>/*.jpg (or .png) and test/<class>/….
    ``progress`` is called with a line now and then. Existing files are kept.

    Returns ``to``. Raises DataError, or WriteError if the files cannot be written.
    """
    if name not in ("mnist", "cifar10"):
        raise DataError(f"data set '{name}': must be mnist or cifar10")
    folder = Path(to) if to else Path("data") / name
    get_set = _get_mnist if name == "mnist" else _get_cifar10
    get_set(folder, source_url, progress)
    return folder


# -- MNIST: four files ---------------------------------------------------------------------------------


def _get_mnist(folder: Path, source_url: str | None, progress: Progress) -> None:
    _make_folder(folder)
    for name, digest in MNIST_FILES.items():
        target = folder / name
        if target.is_file() and _is_gzip_of(target, digest):
            progress(f"{target}: already there")
        elif source_url and not _is_url(source_url):
            _copy_mnist_file(Path(source_url), target, digest)
            progress(f"{target}: copied")
        else:
            bases = [source_url] if source_url else MNIST_MIRRORS
            urls = [base.rstrip("/") + "/" + name for base in bases]
            _download(urls, target, partial(_check_gzip, digest=digest), progress)


def _copy_mnist_file(source: Path, target: Path, digest: str) -> None:
    """Copy one file from a local folder, gzipping it if necessary. Raises DataError."""
    found = next((path for path in (source / target.name, source / target.stem) if path.is_file()), None)
    if found is None:
        raise DataError(f"{source}: has no {target.name} or {target.stem}; give the folder of MNIST's files")
    content = found.read_bytes()
    with atomic_write(target) as file:
        file.write(content if found.suffix == ".gz" else gzip_bytes(content))
        if not _is_gzip_of(file, digest):
            raise DataError(f"{found}: not MNIST's {target.stem} (checksum differs); get the file again")


def _check_gzip(file: BinaryIO, digest: str) -> None:
    if not _is_gzip_of(file, digest):
        raise DataError("checksum differs: the file is damaged or another one")


def _is_gzip_of(file: Path | BinaryIO, digest: str) -> bool:
    """Whether the file is a gzip whose contents have this SHA-256."""
    if not isinstance(file, Path):
        file.seek(0)
    try:
        with gzip.open(file, "rb") as stream:
            return _digest(stream, "sha256") == digest
    except (OSError, EOFError, zlib.error):
        return False


def _digest(stream: BinaryIO | gzip.GzipFile, algorithm: str) -> str:
    """The checksum of the first ``MAX_BYTES`` of a stream, as hexadecimal digits."""
    digest, left = hashlib.new(algorithm), MAX_BYTES
    while left > 0 and (piece := stream.read(PIECE)):
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()


# -- CIFAR-10: a folder of images for each class -----------------------------------------------------------


def _get_cifar10(folder: Path, source_url: str | None, progress: Progress) -> None:
    if _has_images(folder):
        progress(f"{folder}: already there")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: exists, but has no train and test images; remove it, or give another --to"
        )
    with _folder_when_complete(folder) as made:
        if source_url and not _is_url(source_url):
            _fill_from_path(Path(source_url), made, progress)
        else:
            _fill_from_web([source_url] if source_url else list(CIFAR10_MIRRORS), made, progress)
        if not _has_images(made):
            raise DataError(f"{source_url}: holds no train/<class>/ and test/<class>/ images; see --help")


def _has_images(folder: Path) -> bool:
    return all(any((folder / part).glob("*/*.*")) for part in CIFAR10_PARTS)


@contextmanager
def _folder_when_complete(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` if the block succeeds, and is removed otherwise."""
    _make_folder(folder.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            yield made
            if hasattr(os, "sync"):
                os.sync()  # once for all files: an fsync for each of 60,000 takes minutes
            if folder.exists():
                folder.rmdir()
            made.rename(folder)
    except OSError as error:
        raise WriteError(f"{folder}: cannot be made ({error}); free space, or check the paths") from None


def _fill_from_web(urls: list[str], made: Path, progress: Progress) -> None:
    archive = made.parent / ("archive.zip" if urls[0].lower().endswith(".zip") else "archive.tar.gz")
    check = (lambda file: None) if archive.suffix == ".zip" else _check_cifar10_md5
    _download(urls, archive, check, progress)
    _fill_from_path(archive, made, progress)


def _check_cifar10_md5(file: BinaryIO) -> None:
    file.seek(0)
    if _digest(file, "md5") != CIFAR10_MD5:
        raise DataError("checksum differs: the file is damaged or another one")


def _fill_from_path(source: Path, made: Path, progress: Progress) -> None:
    """Put the images of a local archive or folder into the folder ``made``. Raises DataError."""
    try:
        if source.is_dir():
            _fill_from_folder(source, made, progress)
        elif zipfile.is_zipfile(source):
            _fill_from_zip(source, made, progress)
        elif source.is_file():
            _fill_from_tar(source, made, progress)
        else:
            raise DataError(f"{source}: no such file or folder; check the path")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{source}: damaged or cut off ({one_line(error)}); get it again") from None


def _fill_from_folder(source: Path, made: Path, progress: Progress) -> None:
    if any(source.glob("*.bin")):
        for part, names in CIFAR10_PARTS.items():
            for name in names:
                if not (source / name).is_file():
                    raise DataError(f"{source}: has no {name}; give the folder of CIFAR-10's six .bin files")
                _write_images((source / name).read_bytes(), str(source / name), made / part, progress)
        return
    for path in sorted(source.rglob("*")):
        match = IMAGE_PATH.fullmatch(path.relative_to(source).as_posix())
        if match and path.is_file():
            shutil.copyfile(path, _image_target(made, match))


def _fill_from_zip(source: Path, made: Path, progress: Progress) -> None:
    """Take only members that are named like images of a class, so that no name can lead out of the folder."""
    with zipfile.ZipFile(source) as archive:
        members = [(info, IMAGE_PATH.fullmatch(info.filename)) for info in archive.infolist()]
        chosen = [(info, match) for info, match in members if match]
        if sum(info.file_size for info, _ in chosen) > MAX_BYTES:
            raise DataError(f"{source}: more than {MAX_BYTES >> 30} GiB of images; not CIFAR-10")
        for info, match in chosen:
            _image_target(made, match).write_bytes(archive.read(info))
        progress(f"{source}: {len(chosen):,} images")


def _image_target(made: Path, match: re.Match[str]) -> Path:
    part, label, name = match.groups()
    folder = made / part.lower() / label
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def _fill_from_tar(source: Path, made: Path, progress: Progress) -> None:
    """Read the six .bin members of CIFAR-10's binary version; nothing is extracted under its own name."""
    wanted = {name: part for part, names in CIFAR10_PARTS.items() for name in names}
    with tarfile.open(source, "r:*") as archive:
        for member in archive:
            name = Path(member.name).name
            if name not in wanted or not member.isfile() or member.size > MAX_BYTES:
                continue
            stream = archive.extractfile(member)
            content = stream.read() if stream else b""
            _write_images(content, f"{source}: {name}", made / wanted.pop(name), progress)
    if wanted:
        raise DataError(f"{source}: has no {', '.join(wanted)}; it must be CIFAR-10's binary version")


def _write_images(content: bytes, where: str, folder: Path, progress: Progress) -> None:
    """One .bin file -> ``folder``/<class>/NNNN.png, continuing the numbers there. Raises DataError."""
    if not content or len(content) % CIFAR10_RECORD:
        raise DataError(
            f"{where}: {len(content):,} bytes are not a multiple of {CIFAR10_RECORD}; get it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR10_RECORD)
    if records[:, 0].max() >= len(CIFAR10_CLASSES):
        raise DataError(
            f"{where}: label {records[:, 0].max()} is not a class of CIFAR-10; get the file again"
        )
    for label, name in enumerate(CIFAR10_CLASSES):
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        first = sum(1 for _ in target.iterdir())
        images = records[records[:, 0] == label, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for number, image in enumerate(images, first):
            Image.fromarray(np.ascontiguousarray(image)).save(target / f"{number:04}.png", compress_level=1)
    progress(f"{where}: {len(records):,} images written")


# -- Downloading -----------------------------------------------------------------------------------------


def _download(urls: list[str], target: Path, check: Check, progress: Progress) -> None:
    """Write the first of ``urls`` that arrives complete and passes ``check``. Raises DataError with all reasons."""
    problems = []
    for url in urls:
        try:
            with atomic_write(target) as file:
                _receive(url, file, target.name, progress)
                check(file)
            return
        except DataError as error:
            problems.append(f"{url}: {error}")
            progress(f"{target.name}: {url} failed ({error})")
    raise DataError(f"{target.name}: download failed ({'; '.join(problems)}); try again, or give a source")


def _receive(url: str, file: BinaryIO, name: str, progress: Progress) -> None:
    """Write what ``url`` sends into ``file``. Raises DataError if it refuses, or is cut off."""
    pieces = _pieces(url)
    total = next(pieces)
    meter = Meter(name, total, progress)
    for piece in pieces:
        file.write(piece)
        meter.add(len(piece))
        if meter.done > MAX_BYTES:
            raise DataError(f"more than {MAX_BYTES >> 30} GiB; not this data set")
    if total and meter.done != total:
        raise DataError(f"cut off after {meter.done:,} of {total:,} bytes")
    meter.finish()


def _pieces(url: str) -> Iterator[Any]:
    """First the number of bytes to come (0: unknown), then the bytes in pieces. Raises DataError."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            yield int(answer.headers.get("Content-Length") or 0)
            while piece := answer.read(PIECE):
                yield piece
    except urllib.error.HTTPError as error:
        raise DataError(f"HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", "") or error
        raise DataError(one_line(reason)) from None


class Meter:
    """Reports how far a download has got and how long it will take."""

    EVERY = 2.0  # seconds

    def __init__(self, name: str, total: int, progress: Progress) -> None:
        self.name, self.total, self.progress = name, total, progress
        self.done = 0
        self.started = self.reported = time.monotonic()

    def add(self, count: int) -> None:
        """Count more bytes."""
        self.done += count
        now = time.monotonic()
        if now - self.reported < self.EVERY:
            return
        self.reported = now
        if not self.total:
            self.progress(f"{self.name}: {self.done / 1e6:.1f} MB")
            return
        left = (self.total - self.done) * (now - self.started) / self.done
        share = 100 * self.done / self.total
        self.progress(f"{self.name}: {share:.0f} % of {self.total / 1e6:.1f} MB, {left:.0f} s left")

    def finish(self) -> None:
        """Report that all bytes are there."""
        seconds = time.monotonic() - self.started
        self.progress(f"{self.name}: {self.done / 1e6:.1f} MB in {seconds:.0f} s")


def _is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None
