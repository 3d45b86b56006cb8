"""Files: written so that a reader finds the old file or the whole new one; read without trust in what they hold."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from minicaffe.errors import MinicaffeError, WriteError, one_line

ROOM, RATIO = 1 << 28, 100  # a file's arrays may take this many bytes, or this many times the file's size

try:
    import fcntl
except ImportError:  # on Windows, where an open file cannot be renamed
    fcntl = None  # type: ignore[assignment]  # a module that is not there

UNFINISHED = ".minicaffe.tmp"  # the ending of files and folders that are not whole yet
NO_LOCK = -1


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file to write into, that takes the name ``path`` only when it is whole and on the disk.

    The bytes go to a temporary file in the same folder (a rename is atomic only within one file system),
    which is flushed to the disk and then renamed. After an error, or when the block raises, the temporary
    file is removed and whatever ``path`` was before is still there. What a killed process has left behind is
    removed by the next process that writes into the folder. A link stays a link, to the new file; a device or a
    pipe gets all bytes at the end.

    Raises WriteError, naming ``path``, where the system refuses (any OSError in the block counts as that);
    other errors of the block pass through.

    >>> with atomic_write("weights.npz") as file:  # doctest: +SKIP
    ...     np.savez(file, **arrays)
    """
    path = Path(path)
    try:
        check_name(path)
        if _is_stream(path):
            with tempfile.TemporaryFile() as file:
                yield file
                file.seek(0)
                with path.open("wb") as stream:
                    shutil.copyfileobj(file, stream)
            return
        real = Path(os.path.realpath(path))
        with _unfinished(real, _new_file) as temporary:
            with open(temporary, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, _usual_mode(real))
            os.replace(temporary, real)
        _sync_folder(real.parent)
    except OSError as error:
        raise WriteError(refusal(path, error)) from error


def refuse_unwritable(path: str | Path) -> None:
    """Raise WriteError where a file of this name cannot be written: before long work, that is, not after it."""
    path = Path(path)
    try:
        check_name(path)
        if path.is_dir():
            raise WriteError(f"{path}: is a folder; give the path of a file")
        if not _is_stream(path):
            with _unfinished(Path(os.path.realpath(path)), _new_file):
                pass
    except OSError as error:
        raise WriteError(refusal(path, error)) from error


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, that takes the name ``path``, which is free, when the block ends.

    It is removed when the block raises. Raises OSError.
    """
    with _unfinished(path, tempfile.mkdtemp) as temporary:
        yield Path(temporary)
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)


def _is_stream(path: Path) -> bool:
    """Whether it is a device or a pipe, which a rename would replace. Raises OSError for a disk."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise OSError(None, "it is a disk or a socket")
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _new_file(prefix: str, suffix: str, dir: Path) -> str:
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=dir)
    os.close(handle)
    return name


@contextmanager
def _unfinished(path: Path, make: Callable[..., str]) -> Iterator[str]:
    """The name of a file or folder that ``make`` makes beside ``path``; if it is still there at the end, it goes.

    It is locked meanwhile, so that others see that its process is alive.
    """
    lock = None
    while lock is None:  # before it is locked, another process may take it for a dead one's
        temporary = make(prefix=f".{path.name[:40]}.", suffix=UNFINISHED, dir=path.parent)
        try:
            lock = _lock(temporary) if fcntl else NO_LOCK
        except OSError:  # a file system without locks: there nobody looks for dead processes' files
            lock = NO_LOCK
    try:
        _remove_left(path.parent)
        yield temporary
    finally:
        _remove(temporary)
        if lock != NO_LOCK:
            os.close(lock)


def _lock(path: str) -> int | None:
    """A descriptor that locks a file or folder until it is closed; None where another does, or has removed it.

    Raises OSError where the file system has no locks.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_mine = os.path.samestat(os.fstat(handle), os.lstat(path))
    except (BlockingIOError, FileNotFoundError):
        is_mine = False
    except OSError:
        os.close(handle)
        raise
    if not is_mine:
        os.close(handle)
    return handle if is_mine else None


_cleaned: set[str] = set()


def _remove_left(folder: Path) -> None:
    """Remove what killed processes have left in a folder; once for each folder."""
    place = os.path.realpath(folder)
    if fcntl is None or place in _cleaned:
        return
    _cleaned.add(place)
    for left in glob.glob(f".*{UNFINISHED}", root_dir=place):
        with suppress(OSError):
            lock = _lock(os.path.join(place, left))
            if lock is not None:
                _remove(os.path.join(place, left))
                os.close(lock)


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
    shutil.rmtree(path, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8), atomically. Raises WriteError."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))  # comments of an edited spec keep their bytes


def make_folder(folder: Path) -> None:
    """Make a folder, and the folders that it lies in, if they do not exist. Raises WriteError."""
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
    """Flush the rename itself to the disk, on systems that can open a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def reading(path: str | Path, error: type[MinicaffeError], problem: str) -> Iterator[None]:
    """While a file is read: whatever a library raises because of it becomes ``error``, in one line.

    ``problem`` is the message, with ``{}`` for the library's own words. Damaged files make parsers raise errors of
    types that nobody expects (a TypeError, a RecursionError), so all are caught, except for our own.
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
    """Raise ValueError where a file's arrays would take many more bytes than the file has.

    Zeros are compressed a thousandfold: without a limit, a file of a few megabytes fills the memory.
    """
    size = os.path.getsize(path)
    if needed > max(ROOM, RATIO * size):
        raise ValueError(
            f"declares arrays of {needed:,} bytes, in a file of {size:,}; if it means that, write it uncompressed"
        )


def check_name(path: str | Path) -> None:
    """Raise OSError where no file can have this name; libraries would raise a ValueError."""
    try:
        if b"\0" in os.fsencode(path):
            raise OSError(errno.EINVAL, "a name with a zero character")
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, "a name that is no text") from None


def refuse_overwriting(outputs: Iterable[str | Path], inputs: Iterable[str | Path | None]) -> None:
    """Raise WriteError where an output would be written over another one, or over a file that is read.

    A device or a pipe takes a single output: others would have to be files beside it.
    """
    taken = {Path(given): f"{given} that is read" for given in inputs if given}
    written = [Path(out) for out in outputs]
    for out in written:
        if len(written) > 1 and out.exists() and not out.is_file():
            raise WriteError(f"{out}: not a file, and others are written beside it; give another -o")
        other = next((what for path, what in taken.items() if _is_same(out, path)), None)
        if other:
            raise WriteError(f"{out}: would be written over the {other}; give another -o")
        taken[out] = f"{out} that is written too"


def _is_same(one: Path, other: Path) -> bool:
    with suppress(OSError, ValueError):
        return one.resolve() == other.resolve() or one.samefile(other)
    return False


def unreadable(path: str | Path, error: OSError) -> str:
    """The message for a file that the system refuses to read."""
    return f"{path}: cannot be read ({error.strerror or error}); check the path"


def refusal(path: Path, error: OSError) -> str:
    """The message for a file that the system refuses to write, under whatever temporary name."""
    reason = error.strerror or str(error)
    advice = "free some space" if error.errno == 28 else "check that the folder exists and may be written"
    return f"{path}: cannot be written ({reason}); {advice}"
