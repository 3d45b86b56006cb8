"""The supervisor of a rank: the process that ``mpiexec`` started waits, while a child of it trains.

    mpiexec ─┬─ supervisor of rank 0 ── rank 0
             └─ supervisor of rank 1 ── rank 1

A process that is killed cannot say which rank it was, and launchers say little, or ten lines. Its supervisor lives
on, says so in one line, and has the launcher end all others. A rank whose supervisor is gone, because the launcher
or somebody else has killed it, ends at once: it is not left behind, waiting for others that do not come any more.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import sys
import threading
import warnings

from minicaffe.cli.ending import AFTER_ROOT, can_end_all, end_all, wait_for_turn
from minicaffe.device.launch import Launch
from minicaffe.errors import USER_ERROR, report

FORWARDED = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]
LONGEST = 2  # seconds
ADVICE = ": all ranks end; go on with --snapshot latest"


class Supervised:
    """What a rank knows of its supervisor: a pipe, whose other end closes when that is gone."""

    def __init__(self, launch: Launch, launcher: int, reading: int) -> None:
        self._launch, self._launcher, self._reading = launch, launcher, reading
        self._supervisor = os.getppid()
        threading.Thread(target=self._watch, name="minicaffe-supervised", daemon=True).start()

    def _watch(self) -> None:
        """Wait for the end of the supervisor; end this process then, and what it has started."""
        os.read(self._reading, 1)
        signal.alarm(LONGEST)  # the system's, if nobody reads what is printed, and printing waits
        try:
            if can_end_all() and self._is_first():
                who = _named(self._launch, os.getpid())
                report(f"{who} has lost its supervisor, process {self._supervisor}{ADVICE}")
                end_all(USER_ERROR)
        finally:
            os.killpg(0, signal.SIGKILL)

    def _is_first(self) -> bool:
        """Whether no other rank of this machine has lost its supervisor before.

        The launcher kills all supervisors as soon as it sees that one was killed, and the name of a socket is taken
        by the first to ask. Only Linux has such names, which are no files; elsewhere the launcher alone speaks.
        """
        self._first = socket.socket(socket.AF_UNIX)
        try:
            self._first.bind(f"\0minicaffe-{self._launcher}")
        except OSError:
            return False
        return True

    def leave_to_system(self) -> None:
        """From now on the system ends this process when the supervisor is gone.

        For when no thread of Python runs: while MPI begins, which waits for other ranks, and at the end.
        """
        self._signals_end(os.O_ASYNC)

    def leave_to_thread(self) -> None:
        """From now on a thread ends it again, and says why."""
        self._signals_end(0)

    def _signals_end(self, flags: int) -> None:
        import fcntl  # not on all systems, but on those with fork

        with contextlib.suppress(OSError):
            signal.signal(signal.SIGIO, signal.SIG_DFL)
            fcntl.fcntl(self._reading, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(self._reading, fcntl.F_SETFL, flags)


def supervise(launch: Launch) -> Supervised | None:
    """Fork, and return in the child. This process waits for it, ends as it does, and never returns.

    A child has all that MPI needs from the launcher, as it would have under a shell script. Neither MPI nor CUDA
    survives a fork, so neither may have begun. Where processes cannot fork, this one trains unsupervised: None.
    """
    if not hasattr(os, "fork"):
        return None
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    launcher = os.getppid()
    reading, writing = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until there is somebody to forward them to
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, here those of BLAS: it expects this
        child = os.fork()
    if child == 0:
        os.close(writing)
        os.setpgid(0, 0)  # so that a terminal or launcher that signals a whole group reaches it only once
        supervised = Supervised(launch, launcher, reading)
        supervised.leave_to_system()  # until the ranks have met
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return supervised
    os.close(reading)
    status = _wait_for(child, mask, launch)
    sys.stderr.flush()
    if status:
        end_all(status)
    os._exit(status)  # at once: the end of Python takes longer than others need to print the same


def _wait_for(child: int, mask: set[int | signal.Signals], launch: Launch) -> int:
    """Forward signals to the child until it has ended; the exit status."""
    forwarded = set()

    def forward(number: int, frame: object) -> None:
        forwarded.add(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # what it may have started itself
    if code >= 0:
        return code
    if -code in forwarded:  # which all ranks have got, most likely
        wait_for_turn(launch, AFTER_ROOT)
    why = " (as the system does where memory runs out)" if code == -signal.SIGKILL else ""
    return report(f"{_named(launch, child)} was killed by {_name_of(-code)}{why}{ADVICE}")


def _named(launch: Launch, process: int) -> str:
    return f"rank {launch.rank} (host {platform.node()}, process {process})"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
