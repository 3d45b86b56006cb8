"""``minicaffe data images`` and ``data mean``: an LMDB of image files, and the mean image of any data.

They are Caffe's ``convert_imageset`` and ``compute_image_mean``, with the same flags.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from minicaffe.cli.flags import positive
from minicaffe.data.backends import SAMPLES, backend_of, open_source
from minicaffe.data.decode import ENCODINGS, encode_image
from minicaffe.data.image_list import ImageListSource, find_images
from minicaffe.data.lmdb_writer import datum_of, write_datums
from minicaffe.data.mean import mean_of, save_mean
from minicaffe.data.source import Source
from minicaffe.errors import DataError, named
from minicaffe.train.log import duration

logger = logging.getLogger("minicaffe")
SUFFIX_OF = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png"}
LONGEST_KEY = 511  # that LMDB takes


def add_images(sub: argparse.ArgumentParser) -> None:
    """The flags of ``data images``."""
    sub.add_argument(
        "source", help="a list of 'path label' lines, or a folder with a sub-folder for each class"
    )
    _add_reading(sub)
    sub.add_argument("--shuffle", action="store_true", help="in a random order, which --seed chooses")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="of --shuffle (default: 0)")
    sub.add_argument("--check-size", action="store_true", help="stop where an image has another size")
    sub.add_argument("--encoded", action="store_true", help="keep images as JPEG or PNG, not as pixels")
    sub.add_argument("--encode-type", choices=list(ENCODINGS), help="as which (default: what the file is)")
    sub.add_argument("-o", "--output", metavar="DIR", required=True, help="the LMDB to write, a new folder")


def add_mean(sub: argparse.ArgumentParser) -> None:
    """The flags of ``data mean``."""
    sub.add_argument(
        "source", help=f"an LMDB, IDX or NPZ file, list or folder of images, or {' or '.join(SAMPLES)}"
    )
    _add_reading(sub)
    sub.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="a .binaryproto, .npz or .npy for mean_file"
    )


def _add_reading(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--root", default="", metavar="DIR", help="goes before the paths of a list")
    sub.add_argument("--gray", action="store_true", help="read images as grey")
    for side in ("height", "width"):
        sub.add_argument(f"--resize-{side}", type=positive, metavar="N", help="resize images to this")


def write_images(args: argparse.Namespace) -> None:
    """Write image files and their labels as an LMDB (Caffe's convert_imageset)."""
    if args.encode_type and not args.encoded:
        raise DataError("--encode-type: only with --encoded")
    source = _open_files(args)
    order = np.arange(len(source))
    if args.shuffle:
        np.random.default_rng(args.seed).shuffle(order)
    pace = Pace(len(source))
    count = write_datums(_datums(source, order, args, pace), args.output)
    lost = f"; {len(source) - count:,} could not be read" if count < len(source) else ""
    print(f"Wrote {count:,} images to {args.output}{lost}")
    for label, name in enumerate(source.class_names):
        print(f"  {label}  {named(name)}")


def _datums(
    source: ImageListSource, order: np.ndarray, args: argparse.Namespace, pace: Pace
) -> Iterator[tuple[bytes, bytes]]:
    """Keys as Caffe's, and Datums. An image that cannot be read is named and left out, as Caffe does it."""
    shape: tuple[int, ...] | None = None
    for number, index in enumerate(order):
        pace.step()
        try:
            image, labels = source.read(np.array([index]))
        except DataError as error:
            logger.warning("%s", error)
            continue
        image = image[0]
        shape = shape or image.shape
        if args.check_size and image.shape != shape:
            size, first = (" × ".join(map(str, held)) for held in (image.shape, shape))
            raise DataError(
                f"{source.describe(index)}: {size}, and the first {first}; give --resize-height, …"
            )
        key = f"{number:08}_{source.listed.names[index]}".encode("utf-8", "surrogateescape")[:LONGEST_KEY]
        yield key, datum_of(source.describe(index), image, labels, _encoded(source, index, image, args))


class Pace:
    """Many small steps; now and then a line says how many are done, and the time that the others will take."""

    EVERY = 5.0  # seconds

    def __init__(self, steps: int) -> None:
        self.steps, self.done = steps, 0
        self.start = self.said = time.perf_counter()

    def step(self, count: int = 1) -> None:
        """``count`` more begin."""
        now = time.perf_counter()
        if now - self.said >= self.EVERY and self.done:
            self.said = now
            left = duration((self.steps - self.done) * (now - self.start) / self.done)
            logger.info("%s of %s images (%s left)", f"{self.done:,}", f"{self.steps:,}", left)
        self.done += count


def _encoded(source: ImageListSource, index: int, image: np.ndarray, args: argparse.Namespace) -> bytes:
    """The bytes of an image file: the file's own where nothing was changed; b"" for pixels."""
    if not args.encoded:
        return b""
    file = Path(source.listed.file(index))
    held = SUFFIX_OF.get(file.suffix.lower())
    kind = args.encode_type or held
    if kind is None:
        raise DataError(f"{source.describe(index)}: neither JPEG nor PNG by its name; give --encode-type png")
    if kind == held and not (args.gray or args.resize_height):
        return file.read_bytes()
    return encode_image(image, kind)


def write_mean(args: argparse.Namespace) -> None:
    """Write the mean image of a data set (Caffe's compute_image_mean)."""
    path = Path(args.source)
    source: Source
    if path.exists() and _is_of_image_files(path):
        source = _open_files(args)
    elif args.resize_height or args.resize_width or args.root:
        raise DataError(f"{path}: --resize-height, --resize-width and --root are for image files")
    else:
        source = open_source(args.source, color=False if args.gray else None)
    try:
        mean = mean_of(source, Pace(len(source)).step)
    finally:
        source.close()
    save_mean(mean, Path(args.output))
    channels = ", ".join(f"{value:.6g}" for value in mean.mean(axis=(1, 2))[:8])
    print(f"Wrote {args.output}: {' × '.join(map(str, mean.shape))}; mean_value of its channels: {channels}")


def _is_of_image_files(path: Path) -> bool:
    """Whether it is a list, or a folder of classes: of none of the formats of ``Data``."""
    try:
        backend_of(path)
    except DataError:
        return True
    return False


def _open_files(args: argparse.Namespace) -> ImageListSource:
    if bool(args.resize_height) != bool(args.resize_width):
        raise DataError("--resize-height and --resize-width: give both")
    size = (args.resize_height, args.resize_width) if args.resize_height else None
    source = ImageListSource(
        find_images(args.source, root_folder=args.root), not args.gray, size, keep_bytes=0
    )
    source.one_size = "give --resize-height and --resize-width"
    return source
