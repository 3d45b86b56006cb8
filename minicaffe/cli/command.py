"""A command, as its file in ``commands/`` describes it, and a group of them.

To add one, write a file in ``commands/`` with a list ``COMMANDS``: it is found there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules

from minicaffe.cli import commands

FIRST = ("train", "test", "time", "summary", "classify")  # in the help; the others follow by name


@dataclass(frozen=True)
class Command:
    """``minicaffe NAME …`` calls ``run``, whose docstring is the command's help, with the flags that were given.

    ``example`` is a whole command line that works, but for the word "minicaffe": it ends the help.
    """

    name: str
    run: Callable[[argparse.Namespace], None]
    add_flags: Callable[[argparse.ArgumentParser], None]
    example: str


@dataclass(frozen=True)
class CommandGroup:
    """``minicaffe NAME COMMAND …``: commands that share their first word."""

    name: str
    help: str
    commands: Sequence[Command]


def find_commands() -> list[Command | CommandGroup]:
    """What the files in ``commands/`` have, in the order of the help."""
    found = sorted(_commands(), key=lambda command: command.name)
    return sorted(found, key=lambda x: FIRST.index(x.name) if x.name in FIRST else len(FIRST))


def _commands() -> Iterator[Command | CommandGroup]:
    for module in iter_modules(commands.__path__, f"{commands.__name__}."):
        yield from import_module(module.name).COMMANDS
