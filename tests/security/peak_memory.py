"""The most memory that this process has held, in MiB.

Not getrusage's ru_maxrss where there is something better: on Linux a process begins with that of its parent, and
keeps its own for ever, so of a child of a large process it says too much, and of one test among many too little.
"""

import resource
import sys
from contextlib import suppress
from pathlib import Path


def peak_memory() -> float:
    """The most since the process began, or since ``begin_peak``."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def begin_peak() -> float:
    """Forget what was held before, where the system can; what is held now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()
