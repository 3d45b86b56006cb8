"""A folder for a first net: its specs, and the lists of its pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicaffe.errors import DataError, WriteError
from minicaffe.files.atomic import atomic_folder, check_name, refusal
from minicaffe.train.starter.folder import Picture, Survey
from minicaffe.train.starter.specs import Plan, deploy_text, side_for, solver_text, train_text
from minicaffe.train.starter.split import split


@dataclass(frozen=True, eq=False)
class Project:
    """What was written into ``folder``: ``plan`` says how large things are."""

    folder: Path
    plan: Plan
    trained: list[Picture]
    validated: list[Picture]

    @property
    def weights(self) -> Path:
        """Where training writes the weights of its end."""
        return self.folder / f"solver_iter_{self.plan.iterations}.npz"


def check_place(folder: Path, pictures: Path) -> None:
    """Raise WriteError unless ``folder`` is free, or empty, and not among the pictures."""
    try:
        check_name(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise WriteError(f"{folder}: exists already, and is not an empty folder; give a new one")
        inside = Path(os.path.realpath(pictures)) in Path(os.path.realpath(folder)).parents
    except OSError as error:
        raise WriteError(refusal(folder, error)) from None
    if inside or os.path.realpath(folder) == os.path.realpath(pictures):
        raise WriteError(f"{folder}: lies in {pictures}, where each folder is a class; give one beside it")


def write_project(folder: Path, found: Survey, validation: float, side: int | None = None) -> Project:
    """Write specs and lists for the pictures into a new folder, or an empty one.

    ``validation`` is the share of pictures to validate with; ``side`` of the net's input (default: by the pictures'
    sizes). Raises WriteError, and DataError for names that a spec cannot hold.
    """
    check_place(folder, found.folder)
    trained, validated = split(found.pictures, validation)
    means = np.mean([picture.mean for picture in trained], axis=0)
    mean = (float(means.mean()),) if found.is_grey else tuple(float(value) for value in means)
    plan = Plan(
        folder.resolve().name, _root(folder, found.folder), len(found.classes), len(trained), len(validated),
        side or side_for(found.median_side), mean,
    )  # fmt: skip
    texts = {
        "train.yaml": train_text(plan),
        "deploy.yaml": deploy_text(plan),
        "solver.yaml": solver_text(plan),
        "train.txt": "".join(_lines(trained)),
        "validation.txt": "".join(_lines(validated)),
        "classes.txt": "".join(f"{name}\n" for name in found.classes),
    }
    try:
        with atomic_folder(folder) as unfinished:
            for name, text in texts.items():
                (unfinished / name).write_text(
                    text, encoding="utf-8", errors="surrogateescape" if name.endswith(".txt") else "strict"
                )
    except UnicodeEncodeError:
        raise DataError(
            f"{found.folder}: a name that is no text, which a spec cannot hold; rename it"
        ) from None
    except OSError as error:
        raise WriteError(refusal(folder, error)) from None
    return Project(folder, plan, trained, validated)


def _root(folder: Path, pictures: Path) -> str:
    """The pictures' folder as the spec names it: as seen from the spec, unless it was given as an absolute path."""
    path = os.path.realpath(pictures)
    if not pictures.is_absolute():
        path = os.path.relpath(path, os.path.realpath(folder))
    return path.replace(os.sep, "/") + "/"  # Caffe puts it before a path as it is


def _lines(pictures: list[Picture]) -> Iterator[str]:
    for picture in pictures:
        yield f"{picture.name} {picture.label}\n"
