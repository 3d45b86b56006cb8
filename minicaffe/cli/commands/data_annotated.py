"""``minicaffe data annotated``: writes images with boxes as an LMDB, as SSD's ``convert_annoset`` does."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np

from minicaffe.cli.command import Command, CommandGroup
from minicaffe.cli.flags import positive
from minicaffe.data.annotated.label_map import (
    LabelFinder,
    LabelMap,
    label_map_of,
    read_label_map,
    write_label_map,
)
from minicaffe.data.annotated.listed import find_annotated
from minicaffe.data.annotated.writing import annotated_datums
from minicaffe.data.decode import ENCODINGS
from minicaffe.data.sources.lmdb_writer import write_datums
from minicaffe.errors import DataError, counted, listing, named
from minicaffe.files.atomic import refuse_overwriting, refuse_unwritable
from minicaffe.train.progress import Progress

logger = logging.getLogger("minicaffe")


def write_annotated(args: argparse.Namespace) -> None:
    """Write images and the boxes of the objects on them as an LMDB for AnnotatedData (SSD's convert_annoset)."""
    if args.encode_type and not args.encoded:
        raise DataError("--encode-type: only with --encoded")
    if bool(args.resize_height) != bool(args.resize_width):
        raise DataError("--resize-height and --resize-width: give both")
    if args.label_map and args.new_label_map:
        raise DataError("--label-map and --new-label-map: give one of them")
    given = _given_label_map(args)
    found = find_annotated(args.source, args.root, args.annotations)
    if found.without:
        logger.warning("no annotation, and so no boxes: %s", listing(found.without, 3))
    label_map = given or label_map_of(found.things())
    order = np.arange(len(found))
    if args.shuffle:
        np.random.default_rng(args.seed).shuffle(order)
    datums = annotated_datums(
        found,
        order,
        LabelFinder(label_map, found.shown),
        Progress(len(found)).say_some,
        color=not args.gray,
        size=(args.resize_height, args.resize_width) if args.resize_height else None,
        is_one_size=args.check_size,
        is_encoded=args.encoded,
        encoding=args.encode_type,
    )
    count = write_datums(datums, args.output)
    lost = f"; {len(found) - count:,} could not be read" if count < len(found) else ""
    print(f"Wrote {counted(count, 'image')} to {args.output}{lost}")
    if args.new_label_map:
        write_label_map(label_map, args.new_label_map)
        print(f"Wrote {args.new_label_map}; its labels:")
        for item in label_map.items:
            has_other_name = item.label and item.name != item.display_name
            also = f"  (named {named(item.name)} in annotations)" if has_other_name else ""
            print(f"  {item.label}  {named(item.display_name)}{also}")


def _given_label_map(args: argparse.Namespace) -> LabelMap | None:
    """The label map in a file, None if one is to be made. All annotations are read only after this is right."""
    if args.label_map:
        return read_label_map(args.label_map, args.check_label)
    if not args.new_label_map:
        raise DataError(
            "give --label-map FILE, or --new-label-map FILE to have one made of the names that occur"
        )
    refuse_overwriting([args.new_label_map], [args.source])
    refuse_unwritable(args.new_label_map)
    if Path(args.new_label_map).exists():
        raise DataError(f"{args.new_label_map}: is there already; give it as --label-map, or remove it")
    return None


def _add_annotated(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "source",
        help="a list with lines 'image annotation', a folder of images with XML files, or COCO's JSON file",
    )
    sub.add_argument(
        "--root", default="", metavar="DIR", help="goes before the paths of a list, or of the JSON"
    )
    sub.add_argument(
        "--annotations",
        metavar="DIR",
        help="the XML files for a folder of images (default: its Annotations, beside JPEGImages; or beside them)",
    )
    sub.add_argument("--label-map", metavar="FILE", help="which label a name has, as SSD's labelmap.prototxt")
    sub.add_argument(
        "--new-label-map", metavar="FILE", help="make one of the names that occur, in their order, from 1 on"
    )
    sub.add_argument(
        "--check-label", action="store_true", help="refuse a name or label that the map has twice"
    )
    sub.add_argument("--gray", action="store_true", help="read images as grey")
    for side in ("height", "width"):
        sub.add_argument(f"--resize-{side}", type=positive, metavar="N", help="resize images to this")
    sub.add_argument("--check-size", action="store_true", help="stop where an image has another size")
    sub.add_argument("--shuffle", action="store_true", help="in a random order, which --seed chooses")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="of --shuffle (default: 0)")
    sub.add_argument("--encoded", action="store_true", help="keep images as JPEG or PNG, not as pixels")
    sub.add_argument("--encode-type", choices=list(ENCODINGS), help="as which (default: what the file is)")
    sub.add_argument("--backend", choices=["lmdb"], default="lmdb", help="the kind of data base")
    sub.add_argument("-o", "--output", metavar="DIR", required=True, help="the LMDB to write, a new folder")


COMMANDS = [
    CommandGroup(
        "data",
        "Fetch data sets, and write them as LMDB.",
        [
            Command("annotated", write_annotated, _add_annotated,
                    "data annotated train.txt --label-map labelmap.prototxt --encoded -o train_lmdb"),
        ],
    )
]  # fmt: skip
