"""The parser of the command line: all commands, errors in one line, help that ends with an example."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from minicaffe import __version__
from minicaffe.cli.command import Command, CommandGroup
from minicaffe.cli.ending import BEFORE_MEETING, end_all, wait_for_turn
from minicaffe.device.launch import launch_of
from minicaffe.errors import USER_ERROR
from minicaffe.spec.reader import nearest
from minicaffe.startup import import_all

FIRST = ("train", "test", "time", "summary", "classify")  # in the help; the others follow by name


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it parses has the command's ``function`` to call."""
    parser = _Parser(prog="minicaffe", description="A Caffe-style mini deep learning framework.")
    parser.add_argument("--version", action="version", version=f"minicaffe {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show a traceback when something goes wrong")
    _add_commands(parser, find_commands(), common)
    return parser


def find_commands() -> list[Command | CommandGroup]:
    """What the files in ``commands/`` have, in the order of the help."""
    found = sorted(_commands(), key=lambda command: command.name)
    return sorted(found, key=lambda x: FIRST.index(x.name) if x.name in FIRST else len(FIRST))


def _commands() -> Iterable[Command | CommandGroup]:
    """All of them; a group that several files add to is one."""
    found: dict[str, Command | CommandGroup] = {}
    for module in import_all("minicaffe.cli.commands"):
        for command in module.COMMANDS:
            first = found.get(command.name)
            if isinstance(first, CommandGroup):
                command = replace(first, commands=[*first.commands, *command.commands])
            found[command.name] = command
    return found.values()


def _add_commands(
    parser: argparse.ArgumentParser,
    commands: Iterable[Command | CommandGroup],
    common: argparse.ArgumentParser,
) -> None:
    subparsers = parser.add_subparsers(metavar="command", required=True)
    for command in commands:
        if isinstance(command, CommandGroup):
            group = subparsers.add_parser(command.name, help=command.help, description=command.help)
            _add_commands(group, command.commands, common)
        else:
            text = command.run.__doc__
            sub = subparsers.add_parser(command.name, help=text, description=text, parents=[common])
            sub.epilog = f"example:\n  minicaffe {command.example}"
            sub.set_defaults(function=command.run, begin=command.begin)
            command.add_flags(sub)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command or flag as every other error is reported: in one line, with status 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Help, **options)
        self._words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, but let words after a flag be names too, as in "report NET --weights W IMAGE"."""
        self._words = () if args is None else args
        found, rest = super().parse_known_args(args, namespace)
        return found, self._names_after_flags(found, rest)

    def _names_after_flags(self, found: argparse.Namespace, rest: list[str]) -> list[str]:
        """Give what is left over to the argument that may be of any number; return what is left then."""
        last = next((x for x in reversed(self._get_positional_actions()) if x.nargs in ("?", "*", "+")), None)
        names = [word for word in rest if not word.startswith("-")]
        if last is None or not names:
            return rest
        given = getattr(found, last.dest)
        if last.nargs != "?":
            setattr(found, last.dest, [*given, *names])
        elif given == last.default and len(names) == 1:
            setattr(found, last.dest, names[0])
        else:
            return rest
        return [word for word in rest if word.startswith("-")]

    def error(self, message: str) -> NoReturn:
        """End the program; where names are missing, say which flag has taken them."""
        greedy = [
            flag for x in self._actions if x.nargs == "+" for flag in x.option_strings if flag in self._words
        ]
        if greedy and "required" in message:
            message += f"; {greedy[0]} takes all words up to the next flag, so put it last"
        wait_for_turn(launch_of(), BEFORE_MEETING)
        self._print_message(f"error: {message} ('{self.prog} --help' says how)\n", sys.stderr)
        end_all(USER_ERROR)
        self.exit(USER_ERROR)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Let argparse refuse what is none of an argument's choices, and add the nearest of these."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += nearest(str(value), map(str, action.choices or ()))
            raise


class _Help(argparse.RawDescriptionHelpFormatter):
    """Says what a flag's default is, where its help does not."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.option_strings and action.default not in (None, False, [], "", argparse.SUPPRESS)
        return f"{text} (default: %(default)s)".strip() if shown and "default" not in text else text
