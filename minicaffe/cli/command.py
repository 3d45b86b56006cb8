"""A command, as its file in ``commands/`` describes it, and a group of them.

To add one, write a file in ``commands/`` with a list ``COMMANDS``: it is found there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minicaffe.cli.ranks import Process


def by_itself(args: argparse.Namespace) -> Process:
    """How most commands begin: in a process that has no others to care for."""
    return Process()


@dataclass(frozen=True)
class Command:
    """``minicaffe NAME …`` calls ``run``, whose docstring is the command's help, with the flags that were given.

    ``run`` may return an exit status other than 0. ``example`` is a whole command line that works, but for the
    word "minicaffe": it ends the help. ``begin`` is called first, before modules of the user are imported, and
    says what this process is; ``run`` finds that in ``args.process``.
    """

    name: str
    run: Callable[[argparse.Namespace], int | None]
    add_flags: Callable[[argparse.ArgumentParser], None]
    example: str
    begin: Callable[[argparse.Namespace], Process] = by_itself


@dataclass(frozen=True)
class CommandGroup:
    """``minicaffe NAME COMMAND …``: commands that share their first word.

    Several files may add to a group; the help is that of the first, by the files' names.
    """

    name: str
    help: str
    commands: Sequence[Command]
