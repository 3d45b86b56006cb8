"""What can go wrong, as one family: a message says where, what, and the mend, in one line.

Names from files come into messages as they are, whatever they hold: what an error or the log tells is made fit to
be shown here. ``named`` and ``listing`` are for names that must not push the rest out of a message, and for what is
printed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

USER_ERROR, INTERRUPTED = 2, 130  # exit statuses of the programs, for what a user can mend and after Ctrl-C
LONGEST = 2000  # letters of a message: names from files may be as long as the files
LONGEST_NAME = 300  # letters of a name in it


class MinicaffeError(Exception):
    """Base of every error that a user can mend; the command line prints it as one line, exit status 2."""

    def __str__(self) -> str:
        return joined(super().__str__())  # names in a message may have line breaks


class SpecError(MinicaffeError):
    """A net or solver spec is wrong: unknown field, wrong type, missing bottom, duplicate name, …"""


class ShapeError(MinicaffeError):
    """Blob shapes do not fit: a layer cannot take its bottoms, or an input array is not as declared."""


class WeightError(MinicaffeError):
    """A weight file cannot be read, or its arrays do not fit the net."""


class DataError(MinicaffeError):
    """A data source is missing, damaged, or not of the form that its layer reads."""


class DeviceError(MinicaffeError):
    """A device was asked for that cannot be used."""


class TrainingError(MinicaffeError):
    """Training cannot go on: the loss is no longer a number, a snapshot does not fit, …"""


class WriteError(MinicaffeError):
    """A file cannot be written: no permission, no such folder, a full disk."""


def one_line(error: object) -> str:
    """What an error says, without its line breaks; its type's name where it says nothing."""
    return joined(str(error)) or type(error).__name__


def report(problem: object) -> int:
    """Tell a problem as all programs of this package do, in one line on stderr; return the exit status for it."""
    print(f"error: {one_line(problem)}", file=sys.stderr)
    return USER_ERROR


def joined(text: str) -> str:
    """The lines of a text, whatever breaks them, as one line that can be shown."""
    return shown(" ".join(line.strip() for line in text.splitlines() if line.strip()))


def shown(text: str, most: int = LONGEST) -> str:
    """A text fit to be shown: its middle left out where it has more than ``most`` letters, and escapes, "\\x1b".

    These stand for what a terminal obeys, what changes the order of letters, and halves of letters (surrogates).
    Line breaks stay.
    """
    if len(text) > most:
        text = f"{text[: most // 2]} … {text[-most // 2 :]}"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def named(text: str) -> str:
    """A name from a file, as a message shows it."""
    return shown(text, LONGEST_NAME)


def listing(names: Sequence[str], most: int = 20) -> str:
    """Some names with commas between them: the first ``most``, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(named(name) for name in names[:most]) + more


def _show_record(record: logging.LogRecord) -> bool:
    """A filter of the log that changes a record's message to what can be shown."""
    record.msg, record.args = shown(record.getMessage()), ()
    return True


logging.getLogger("minicaffe").addFilter(_show_record)
