"""What can go wrong, as one family. A message names the place, the problem and a fix, in one line.

Names from files enter messages unchanged, whatever they contain; errors and the log make them printable here.
``named`` and ``listing`` shorten names that would crowd out the rest of a message or of printed output.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

USER_ERROR, INTERRUPTED = 2, 130  # exit statuses of the programs: for what a user can fix, and after Ctrl-C
LONGEST = 2000  # characters of a message: names from files may be as long as the files
LONGEST_NAME = 300  # characters of a name in a message


class MinicaffeError(Exception):
    """Base of every error that a user can fix; the command line prints it as one line and exits with status 2.

    ``on_every_rank``: all ranks that train together raise it, so one of them reports it for all.
    """

    on_every_rank = False

    def __str__(self) -> str:
        return joined(super().__str__())  # names in a message may contain line breaks


class SpecError(MinicaffeError):
    """A net or solver spec is wrong: unknown field, wrong type, missing bottom, duplicate name, …"""


class ShapeError(MinicaffeError):
    """Blob shapes do not fit: a layer cannot take its bottoms, or an input array is not as declared."""


class WeightError(MinicaffeError):
    """A weight file cannot be read, or its arrays do not fit the net."""


class DataError(MinicaffeError):
    """A data source is missing, damaged, or not in the form that its layer reads."""


class DeviceError(MinicaffeError):
    """The device that was asked for cannot be used."""


class TrainingError(MinicaffeError):
    """Training cannot continue: the loss is no longer a number, a snapshot does not fit, …"""


class CommunicatorError(MinicaffeError):
    """The ranks that train together cannot: no MPI, other specs or data on one of them, …"""


class WriteError(MinicaffeError):
    """A file cannot be written: no permission, no such folder, a full disk, …"""


class UnknownNameError(MinicaffeError, KeyError):
    """A net has no blob, or no parameters, of this name. It is a KeyError too, as of any dictionary."""

    def __str__(self) -> str:
        return joined(self.args[0])  # KeyError would put it in quotes


def one_line(error: object) -> str:
    """An error's message without line breaks; the name of its type if the message is empty."""
    return joined(str(error)) or type(error).__name__


def report(problem: object) -> int:
    """Print a problem as all programs of this package do, as one line on stderr; return the exit status for it."""
    print(f"error: {one_line(problem)}", file=sys.stderr)
    return USER_ERROR


def joined(text: str) -> str:
    """The lines of a text, whatever breaks them, as one printable line."""
    return shown(" ".join(line.strip() for line in text.splitlines() if line.strip()))


def shown(text: str, most: int = LONGEST) -> str:
    """A printable text: with escapes like "\\x1b", and without its middle if it is longer than ``most`` characters.

    Escapes stand for what controls a terminal, what reorders characters, and lone surrogates. Line breaks stay.
    """
    if len(text) > most:
        text = f"{text[: most // 2]} … {text[-most // 2 :]}"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )


def named(text: str) -> str:
    """A name from a file, as a message shows it."""
    return shown(text, LONGEST_NAME)


def listing(names: Sequence[str], most: int = 20) -> str:
    """Names separated by commas: the first ``most``, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(named(name) for name in names[:most]) + more


def counted(count: int, what: str) -> str:
    """A count with the word for what is counted: "1 batch", "2 batches", "1,000 images"."""
    ending = "" if count == 1 else "es" if what.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{count:,} {what}{ending}"


def either(names: Sequence[str]) -> str:
    """Names as a choice: "a, b or c"."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _show_record(record: logging.LogRecord) -> bool:
    """A log filter that makes a record's message printable."""
    record.msg, record.args = shown(record.getMessage()), ()
    return True


logging.getLogger("minicaffe").addFilter(_show_record)
