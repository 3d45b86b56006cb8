"""Long runs beside the tests, such as pytest on the double: started before the tests, and waited for after them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable

from tests import ROOT


class SideRun:
    """A command in a process of its own, whose output is kept; it waits until it is its turn."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._command, self._environment = command, {**os.environ, **environment}
        self._output = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (it stays open)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock, self._is_stopped, self._is_over = threading.Lock(), False, threading.Event()

    @classmethod
    def of_pytest(cls, *arguments: str, **environment: str) -> SideRun:
        """A run of pytest with these arguments."""
        flags = ("-q", "--tb=short", "-p", "no:cacheprovider")
        return cls(sys.executable, "-u", "-m", "pytest", *flags, *arguments, **environment)

    def run(self) -> None:
        """Begin it, unless it was stopped before, and wait for its end."""
        try:
            with self._lock:
                if self._is_stopped:
                    return
                self._process = subprocess.Popen(
                    self._command,
                    cwd=ROOT,
                    stdout=self._output,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,  # so that its children end with it
                )
            self._process.wait()
        except OSError as error:
            self._output.write(str(error).encode())
        finally:
            self._is_over.set()

    def finish(self, show: Callable[[str], object]) -> tuple[int, str]:
        """Wait for its end: its status, and what it printed. ``show`` gets each new tenth, "[ 30%]".

        The status is 1 where it could not begin.
        """
        tenth, is_over = "", False
        while not is_over:
            is_over = self._is_over.wait(0.2)
            done = re.findall(r"\[ *(\d*)\d%\]$", self._text(), re.MULTILINE)
            if done and done[-1] != tenth:
                tenth = done[-1]
                show(f"[{tenth or 0:>2}0%]" if tenth != "10" else "[100%]")
        return self._process.returncode if self._process is not None else 1, self._text()

    def stop(self) -> None:
        """End it with all that it began, where the tests end before it."""
        with self._lock:
            self._is_stopped = True
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _text(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")


def run_in_turn(runs: list[SideRun]) -> None:
    """Run them one after the other, beside this program: two cores have one for the tests, and one for these."""

    def run() -> None:
        for side_run in runs:
            side_run.run()

    threading.Thread(target=run, name="side runs", daemon=True).start()
