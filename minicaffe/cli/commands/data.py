"""``minicaffe data get|images|mean|lmdb``: fetches data sets, writes LMDBs and mean images.

``images`` and ``mean`` are Caffe's ``convert_imageset`` and ``compute_image_mean``, with the same flags.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from minicaffe.cli.command import Command, CommandGroup
from minicaffe.cli.flags import positive
from minicaffe.data import download
from minicaffe.data.decode import ENCODINGS
from minicaffe.data.image_datums import image_datums
from minicaffe.data.mean import mean_of, save_mean
from minicaffe.data.sources.backends import SAMPLES, backend_of, open_source
from minicaffe.data.sources.image_list import ImageListSource, find_images
from minicaffe.data.sources.lmdb_writer import write_datums, write_lmdb
from minicaffe.data.sources.source import Source
from minicaffe.errors import DataError, named
from minicaffe.train.progress import Progress


def get(args: argparse.Namespace) -> None:
    """Fetch a full data set."""
    download.get(args.name, args.to, source_url=args.source)


def _add_get(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", choices=["mnist", "cifar10"])
    sub.add_argument("--to", metavar="DIR", help="where to put it (default: data/mnist, data/cifar10)")
    sub.add_argument("--from", dest="source", metavar="URL", help="another mirror, or a local file or folder")


def write_images(args: argparse.Namespace) -> None:
    """Write image files and their labels as an LMDB (Caffe's convert_imageset)."""
    if args.encode_type and not args.encoded:
        raise DataError("--encode-type: only with --encoded")
    source = _open_files(args)
    order = np.arange(len(source))
    if args.shuffle:
        np.random.default_rng(args.seed).shuffle(order)
    datums = image_datums(
        source,
        order,
        Progress(len(source)).say_some,
        is_one_size=args.check_size,
        is_encoded=args.encoded,
        encoding=args.encode_type,
    )
    count = write_datums(datums, args.output)
    lost = f"; {len(source) - count:,} could not be read" if count < len(source) else ""
    print(f"Wrote {count} image{'s' * (count != 1)} to {args.output}{lost}")
    for label, name in enumerate(source.class_names):
        print(f"  {label}  {named(name)}")


def _add_images(sub: argparse.ArgumentParser) -> None:
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
        mean = mean_of(source, Progress(len(source)).say_some)
    finally:
        source.close()
    save_mean(mean, Path(args.output))
    channels = ", ".join(f"{value:.6g}" for value in mean.mean(axis=(1, 2))[:8])
    print(f"Wrote {args.output}: {' × '.join(map(str, mean.shape))}; mean_value of its channels: {channels}")


def _add_mean(sub: argparse.ArgumentParser) -> None:
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


def _is_of_image_files(path: Path) -> bool:
    """Whether it is a list of images or a folder of classes: none of the formats of ``Data``."""
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
        find_images(args.source, root_folder=args.root, advice="set --root"),
        not args.gray,
        size,
        cache_bytes=0,
    )
    source.one_size = "give --resize-height and --resize-width"
    return source


def write_as_lmdb(args: argparse.Namespace) -> None:
    """Write images and labels (IDX or NPZ) as an LMDB, for Caffe's nets that read one."""
    source = open_source(args.source, labels=args.labels)
    try:
        count = write_lmdb(source, args.output)
    finally:
        source.close()
    print(f"Wrote {count} image{'s' * (count != 1)} to {args.output}")


def _add_lmdb(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("source", help=f"an IDX file (MNIST's), an .npz, or a sample: {', '.join(SAMPLES)}")
    sub.add_argument(
        "--labels", metavar="FILE", help="the labels of an IDX file (default: found by its name)"
    )
    sub.add_argument("-o", "--output", metavar="DIR", required=True, help="the folder to write, a new one")


COMMANDS = [
    CommandGroup(
        "data",
        "Fetch data sets, and write them as LMDB.",
        [
            Command("get", get, _add_get, "data get mnist --to data/mnist"),
            Command("images", write_images, _add_images,
                    "data images photos/train -o train_lmdb --resize-height 256 --resize-width 256"),
            Command("mean", write_mean, _add_mean, "data mean train_lmdb -o mean.binaryproto"),
            Command("lmdb", write_as_lmdb, _add_lmdb, "data lmdb sample/mnist-train -o mnist_train_lmdb"),
        ],
    )
]  # fmt: skip
