"""``minicaffe new``: a first net, and a solver, for a folder of somebody's own pictures."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

from minicaffe.cli.command import Command
from minicaffe.cli.flags import positive
from minicaffe.errors import counted, named
from minicaffe.train.progress import Progress
from minicaffe.train.starter.folder import Survey, survey
from minicaffe.train.starter.project import Project, check_place, write_project


def new(args: argparse.Namespace) -> None:
    """Write a net and a solver for a folder of your own pictures."""
    folder, pictures = Path(args.folder), Path(args.images)
    check_place(folder, pictures)
    found = survey(pictures, lambda count: Progress(count).say_some)
    project = write_project(folder, found, args.validation / 100, args.size)
    for line in _said(found, project):
        print(line)


def _said(found: Survey, project: Project) -> Iterator[str]:
    """What was found and written, and which commands come next."""
    plan = project.plan
    width = max(len(named(name)) for name in found.classes)
    for name, count in zip(found.classes, found.counts(), strict=True):
        kept = sum(found.classes[picture.label] == name for picture in project.validated)
        yield f"  {named(name):{width}}  {counted(count - kept, 'picture')} to train on, {kept:,} to validate with"
    kind, size = "grey" if plan.is_grey else "colour", f"{plan.side} × {plan.side}"
    yield f"Wrote {project.folder}: a net for {size} {kind} pictures, to train for {plan.iterations:,} iterations"
    yield "Next:"
    weights = _shell(project.weights)
    net, deploy, solver = (_shell(project.folder / f"{name}.yaml") for name in ("train", "deploy", "solver"))
    yield f"  minicaffe train {solver}"
    yield f"  minicaffe classify {deploy} --weights {weights} {_shell(found.folder / project.validated[0].name)}"
    yield f"  minicaffe test {net} --weights {weights} --confusion"


def _shell(path: Path) -> str:
    return shlex.quote(str(path))


def _share(text: str) -> int:
    share = positive(text)
    if share > 50:
        raise argparse.ArgumentTypeError(f"'{text}' must be a percentage of at most 50")
    return share


def _add_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", metavar="DIR", help="the folder to write: a new one, or an empty one")
    sub.add_argument(
        "--images", metavar="FOLDER", required=True, help="a folder with a folder of pictures for each class"
    )
    sub.add_argument(
        "--validation",
        type=_share,
        default=20,
        metavar="PERCENT",
        help="the share of pictures to validate with, which the net is not trained on (default: 20)",
    )
    sub.add_argument("--size", type=_side, metavar="N",
                     help="the side of the net's input (default: 32 for small pictures, else 64)")  # fmt: skip


def _side(text: str) -> int:
    side = positive(text)
    if not 16 <= side <= 1024:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number of pixels from 16 to 1024")
    return side


COMMANDS = [Command("new", new, _add_flags, "new pets --images photos/pets")]
