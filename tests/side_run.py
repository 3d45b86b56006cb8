"""Long runs beside the tests, such as one of pytest on the double: begun before these, and waited for after."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# So that its children end with it. Linux shares out time among sessions first, whatever their priorities.
OWN_GROUP: dict[str, Any] = (
    {"process_group": 0} if sys.version_info >= (3, 11) else {"start_new_session": True}
)


class SideRun:
    """A command in a process of its own, whose output is kept."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._output = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (it stays open)
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            **OWN_GROUP,
        )
        if hasattr(
            os, "setpriority"
        ):  # the tests in this process take longest: what is beside them makes room
            os.setpriority(os.PRIO_PROCESS, self._process.pid, 19)

    @classmethod
    def of_pytest(cls, *arguments: str, **environment: str) -> SideRun:
        """A run of pytest with these arguments."""
        flags = ("-q", "--tb=short", "-p", "no:cacheprovider")
        return cls(sys.executable, "-u", "-m", "pytest", *flags, *arguments, **environment)

    def finish(self, show: Callable[[str], object]) -> tuple[int, str]:
        """Wait for its end: its status, and what it printed. ``show`` gets each new tenth, "[ 30%]"."""
        tenth = ""
        while True:
            try:
                status = self._process.wait(1)
            except subprocess.TimeoutExpired:
                status = None
            done = re.findall(r"\[ *(\d*)\d%\]$", self._text(), re.MULTILINE)
            if done and done[-1] != tenth:
                tenth = done[-1]
                show(f"[{tenth or 0:>2}0%]" if tenth != "10" else "[100%]")
            if status is not None:
                return status, self._text()

    def stop(self) -> None:
        """End it with all that it began, where this run ends before it."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _text(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")
