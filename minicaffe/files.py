"""Writing a file so that a reader finds the old one or the whole new one, never a half of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from minicaffe.errors import WriteError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file to write into, that takes the name ``path`` only when it is whole and on the disk.

    The bytes go to a temporary file in the same folder (a rename is atomic only within one file system),
    which is flushed to the disk and then renamed. After an error, or when the block raises, the temporary
    file is removed and whatever ``path`` was before is still there.

    Raises WriteError, naming ``path``, where the system refuses (any OSError in the block counts as that);
    other errors of the block pass through.

    >>> with atomic_write("weights.npz") as file:  # doctest: +SKIP
    ...     np.savez(file, **arrays)
    """
    path = Path(path)
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _usual_mode(path))
        os.replace(temporary, path)
        temporary = ""
        _sync_folder(path.parent)
    except OSError as error:
        raise WriteError(refusal(path, error)) from error
    finally:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8), atomically. Raises WriteError."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))  # an edited spec keeps the bytes of its comments


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it lies in, where they are not there. Raises WriteError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None


def _usual_mode(path: Path) -> int:
    """The permissions of the file that is replaced, or those that ``open`` would give a new one."""
    with suppress(OSError):
        return path.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _sync_folder(folder: Path) -> None:
    """Put the rename itself on the disk; some systems cannot open a folder, and then there is no way to."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def unreadable(path: str | Path, error: OSError | ValueError) -> str:
    """What to say where the system refuses to read ``path``, or (ValueError) no system could: it has a NUL."""
    return f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); check the path"


def refusal(path: Path, error: OSError) -> str:
    """What to say where the system refuses to write ``path``, whatever temporary name it was to be written by."""
    reason = error.strerror or str(error)
    mend = "free some space" if error.errno == 28 else "check that the folder exists and may be written"
    return f"{path}: cannot be written ({reason}); {mend}"
