"""Files: written so that a reader finds the old one or the whole new one; read without trusting what is in them."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from minicaffe.errors import MinicaffeError, WriteError, one_line

ROOM, RATIO = 1 << 28, 100  # what a file's arrays may take: this many bytes, or so many times the file


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
        check_name(path)
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
        check_name(folder)
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


@contextmanager
def reading(path: str | Path, error: type[MinicaffeError], problem: str) -> Iterator[None]:
    """While a file is read: whatever it makes a library raise becomes ``error``, in one line.

    ``problem`` is what to say, with ``{}`` for the library's own words. Parsers of damaged files raise errors of
    types that nobody expects (a TypeError, a RecursionError), so all are caught, but those that we raise.
    """
    try:
        check_name(path)
        yield
    except MinicaffeError:
        raise
    except MemoryError:
        raise error(f"{path}: is more than the memory holds; make it smaller") from None
    except Exception as raised:
        if isinstance(raised, OSError) and raised.strerror:
            raise error(unreadable(path, raised)) from None
        raise error(f"{path}: {problem.format(one_line(raised)[:300])}") from None


def check_room(path: str | Path, needed: int) -> None:
    """Raise ValueError where a file's arrays would take more bytes than a file of its size can be trusted with.

    Zeros are compressed a thousandfold: without a limit, a file of some megabytes fills the memory.
    """
    size = os.path.getsize(path)
    if needed > max(ROOM, RATIO * size):
        raise ValueError(
            f"declares arrays of {needed:,} bytes, in a file of {size:,}; if it means that, write it uncompressed"
        )


def check_name(path: str | Path) -> None:
    """Raise OSError where no file can have this name: libraries raise a ValueError of their own."""
    try:
        if b"\0" in os.fsencode(path):
            raise OSError(errno.EINVAL, "a name with a zero character")
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, "a name that is no text") from None


def refuse_overwriting(outputs: Iterable[str | Path], inputs: Iterable[str | Path | None]) -> None:
    """Raise WriteError where an output would be written over another, or over a file that is read."""
    taken = {Path(given): f"{given} that is read" for given in inputs if given}
    for out in map(Path, outputs):
        other = next((what for path, what in taken.items() if _is_same(out, path)), None)
        if other:
            raise WriteError(f"{out}: would be written over the {other}; give another -o")
        taken[out] = f"{out} that is written too"


def _is_same(one: Path, other: Path) -> bool:
    with suppress(OSError, ValueError):
        return one.resolve() == other.resolve() or one.samefile(other)
    return False


def unreadable(path: str | Path, error: OSError) -> str:
    """What to say where the system refuses to read ``path``."""
    return f"{path}: cannot be read ({error.strerror or error}); check the path"


def refusal(path: Path, error: OSError) -> str:
    """What to say where the system refuses to write ``path``, whatever temporary name it was to be written by."""
    reason = error.strerror or str(error)
    mend = "free some space" if error.errno == 28 else "check that the folder exists and may be written"
    return f"{path}: cannot be written ({reason}); {mend}"
