"""What a spec may do besides computing: run a user's modules, and write files. ``docs/security.md`` says why.

A program in Python decides for itself: there a spec may do both. ``minicaffe`` takes specs as data: its commands
run in ``limited(…)``, where a spec writes into few folders, and runs modules where that is what a command is for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from minicaffe.errors import SpecError


class UntrustedError(SpecError):
    """A spec wants what it may not do here."""


@dataclass(frozen=True)
class Trust:
    """``runs_python``: a spec may name modules that are imported. ``outputs``: the folders, beside its own, that a
    spec may name files in that are written; None: anywhere."""

    runs_python: bool = True
    outputs: tuple[str, ...] | None = None

    def problem_of_output(self, path: str, folder: str) -> str:
        """Why a file that a spec in ``folder`` names may not be written, or "". Links and ``..`` are followed."""
        try:
            real = os.path.realpath(path)
        except ValueError:  # a NUL, or half a letter
            return f"{path!a} is no name that a file can have; choose another path"
        if self.outputs is None or any(_lies_in(real, allowed) for allowed in (folder, *self.outputs)):
            return ""
        seen = f"'{path}'" if real == path else f"'{path}' is {real}, which"
        folder, name = os.path.split(real)
        leave = "" if name.startswith(".") else f", or allow its folder with --allow-output {folder}"
        return (
            f"{seen} lies outside the working directory and the spec's folder, or is hidden there; "
            f"choose another path{leave}"
        )


def _lies_in(real: str, folder: str) -> bool:
    """Whether a path lies in a folder, and neither it nor a folder on the way is hidden, as .git is."""
    top = os.path.realpath(folder)
    return Path(real).is_relative_to(top) and not any(
        part.startswith(".") for part in Path(real).relative_to(top).parts
    )


SAFE = Trust(runs_python=False, outputs=(".",))
_trusts = [Trust()]


def current() -> Trust:
    """What specs may do that are opened now."""
    return _trusts[-1]


@contextmanager
def limited(trust: Trust) -> Iterator[None]:
    """In this block, in all threads, specs that are opened may do what ``trust`` says."""
    _trusts.append(trust)
    try:
        yield
    finally:
        _trusts.pop()
