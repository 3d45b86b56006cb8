"""What a spec may do besides computing: run a user's modules, and write files. ``docs/security.md`` says why.

A Python program decides for itself: there, a spec may do both. The ``minicaffe`` commands treat specs as data: they
run in ``limited(…)``, where a spec may write to a few folders, and run modules only if that is a command's purpose.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from minicaffe.errors import SpecError


class UntrustedError(SpecError):
    """A spec asks for something that it may not do here."""


@dataclass(frozen=True)
class Trust:
    """``runs_python``: a spec may name modules to import. ``outputs``: the folders, besides its own, in which a
    spec may name files to write; None: anywhere."""

    runs_python: bool = True
    outputs: tuple[str, ...] | None = None

    def problem_of_output(self, path: str, folder: str) -> str:
        """Why a spec in ``folder`` may not write to ``path``, or "" if it may. Links and ``..`` are followed."""
        try:
            real = os.path.realpath(path)
        except ValueError:  # a NUL, or a lone surrogate
            return f"{path!a} is not a valid file name; choose another path"
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
    """Whether a path lies in a folder, and neither it nor a folder in between is hidden, as .git is."""
    top = os.path.realpath(folder)
    return Path(real).is_relative_to(top) and not any(
        part.startswith(".") for part in Path(real).relative_to(top).parts
    )


SAFE = Trust(runs_python=False, outputs=(".",))
_trusts = [Trust()]


def current() -> Trust:
    """What a spec that is opened now may do."""
    return _trusts[-1]


@contextmanager
def limited(trust: Trust) -> Iterator[None]:
    """While the block runs, specs opened in any thread may do what ``trust`` allows, and no more."""
    _trusts.append(trust)
    try:
        yield
    finally:
        _trusts.pop()
