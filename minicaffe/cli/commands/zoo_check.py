"""``minicaffe zoo-check``: which of a collection's specs open, and what stops the others."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minicaffe.cli.command import Command
from minicaffe.cli.flags import add_trust
from minicaffe.errors import DataError
from minicaffe.inspect import zoo

IMAGE = 3, 224, 224
logger = logging.getLogger("minicaffe")


def zoo_check(args: argparse.Namespace) -> int:
    """Open every spec below a folder and say what stops each; exit status 1 if one does not open."""
    folder = Path(args.folder)
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; check the path")
    files, below = zoo.spec_files(folder), folder.parent if folder.is_file() else folder
    if not files:
        raise DataError(f"{folder}: no files that end in {', '.join(zoo.SUFFIXES)}")
    checked = []
    for path in files:
        with _errors_only():
            found = zoo.check_file(path, args.image, args.run)
        checked.append(found)
        print(_line(found, path.relative_to(below)), flush=True)
    print(f"\n{zoo.summary(checked, below)}")
    return int(any(file.state == "STOPS" for file in checked))


@contextmanager
def _errors_only() -> Iterator[None]:
    """Without the warnings of specs: those of one among a hundred nets help nobody."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _line(file: zoo.Checked, name: Path) -> str:
    """What is printed of a file; the place in a message begins with the file's own name."""
    if not file.problems:
        state, kind = (file.state, file.kind) if file.kind else ("-", "no spec")
        more = ", without its data" * file.without_data + ", runs" * file.has_run
        return f"{state:5}  {name}: {kind}{more}"
    first = file.problems[0].replace(str(file.path), str(name), 1)
    others = len(file.problems) - 1
    more = f" (and {others} more)" if others else ""
    return f"{file.state}  {first}{more}"


def _image(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}': write C,H,W, as in 3,224,224")
    channels, height, width = map(int, parts)
    return channels, height, width


def _add_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", help="where the specs are: a repository, a folder of several, or one file")
    sub.add_argument("--image", type=_image, default=IMAGE, metavar="C,H,W",
                     help="the size of images that are not there, where a spec does not say it "
                     "(default: 3,224,224)")  # fmt: skip
    sub.add_argument(
        "--run", action="store_true", help="also run nets that need no data forward once, on noise"
    )
    add_trust(sub, runs_python=False)


COMMANDS = [Command("zoo-check", zoo_check, _add_flags, "zoo-check prototxt")]
