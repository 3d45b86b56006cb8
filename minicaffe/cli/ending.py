"""How ranks end when one of them cannot go on: who says so, and who tells the launcher.

What goes wrong on one rank mostly goes wrong on all, and once is enough to say so: rank 0 speaks first, and the
launcher ends the others while they wait for their turn.
"""

from __future__ import annotations

import contextlib
import os
import time

from minicaffe.device.launch import Launch

AFTER_ROOT = 0.5  # seconds that other ranks wait for rank 0 where all are at the same place of the program
BEFORE_MEETING = 3.0  # and where they have not met yet: some may start later
DELIVERY = 0.1  # until the launcher has passed on what was printed, on a machine that has much to do


def wait_for_turn(launch: Launch, seconds: float) -> None:
    """On other ranks than rank 0: wait. If rank 0 says the same and ends, the launcher ends this one meanwhile.

    If rank 0 has nothing to say, this one speaks a little later.
    """
    if launch.rank:
        time.sleep(seconds)


def can_end_all() -> bool:
    """Whether ``end_all`` can: MPICH's launcher, Hydra, has started this process."""
    return "HYDI_CONTROL_FD" in os.environ and os.environ.get("PMI_FD", "").isdecimal()


def end_all(status: int) -> None:
    """Ask MPICH's ``mpiexec`` to end all ranks and to exit with this status; what was printed arrives before.

    It is the message that MPI_Abort sends (PMI: Balaji et al., EuroMPI 2010), here from a process outside MPI. If
    the process just ended, the launcher would mostly kill the others too, but with ten lines about that. Other
    launchers are not asked: they see that a process has failed.
    """
    if can_end_all():
        time.sleep(DELIVERY)
        with contextlib.suppress(OSError):  # the launcher is gone, or this rank has left it
            os.write(int(os.environ["PMI_FD"]), f"cmd=abort exitcode={status}\n".encode())
            time.sleep(DELIVERY)
