"""What can go wrong, as one family: a message says where, what, and the mend, in one line."""

from __future__ import annotations

from collections.abc import Sequence


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


def joined(text: str) -> str:
    """The lines of a text, whatever breaks them, as one line."""
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def shown(text: str) -> str:
    """A name from a file as an error shows it: without what a terminal would obey, and not all of it."""
    escaped = repr(text[:300])[1:-1]
    return escaped if len(escaped) <= 300 and len(text) <= 300 else escaped[:300] + "…"


def listing(names: Sequence[str]) -> str:
    """The first of some names, with commas."""
    more = f", … ({len(names)})" if len(names) > 20 else ""
    return ", ".join(shown(name) for name in names[:20]) + more
