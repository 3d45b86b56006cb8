"""How this process was started: by itself, or by ``mpiexec`` or ``srun`` as one of several ranks."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from minicaffe.device import workers
from minicaffe.device.array import CPU, Device, current_device, gpu_count, gpu_problem
from minicaffe.device.communicator import ALONE, Communicator
from minicaffe.device.mpi import MpiCommunicator
from minicaffe.device.nccl import NcclCommunicator, check_devices
from minicaffe.errors import CommunicatorError

# How programs that start ranks tell a process how many there are, and which one it is: MPICH and Intel MPI, Open
# MPI, Slurm's srun. (SLURM_NTASKS is also set for a script that sbatch starts once.)
LAUNCHERS = (
    ("PMI_SIZE", "PMI_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
LOCAL_RANKS = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")


@dataclass(frozen=True)
class Launch:
    """What the program that started this process says: how many ranks there are, and which this is.

    ``local_rank`` counts those of the same machine.
    """

    size: int = 1
    rank: int = 0
    local_rank: int = 0


def launch_of(environment: Mapping[str, str] = os.environ) -> Launch:
    """How this process was started: by ``mpiexec`` or ``srun`` as one of several, or by itself."""

    def number(name: str) -> int:
        value = environment.get(name, "")
        return int(value) if value.isdecimal() else 0

    local_rank = next((number(name) for name in LOCAL_RANKS if name in environment), 0)
    started = (Launch(number(size), number(rank), local_rank) for size, rank in LAUNCHERS)
    return next((launch for launch in started if launch.size > 1), Launch())


def device_of_rank(name: str, launch: Launch) -> str:
    """The device that a rank chooses where "auto" or "gpu" was asked for: of each machine, rank k takes GPU k.

    Ranks beyond the number of GPUs begin anew with number 0, and ``communicator`` refuses that on all of them. What
    else was asked for is the answer.
    """
    kind = name.strip().lower()
    if launch.size == 1 or kind not in ("auto", "gpu"):
        return name
    count = gpu_count()
    if not count:
        return name
    index = launch.local_rank % count
    return "cpu" if kind == "auto" and gpu_problem(index) else f"gpu:{index}"


def communicator(device: Device | None = None) -> Communicator:
    """The communicator of all ranks that ``mpiexec`` has started with this process, for arrays on a device.

    Where no device was given or chosen before, each rank chooses its own (``device_of_rank``). A process that was
    started by itself gets one that sends nothing, and needs no MPI. Raises CommunicatorError if mpi4py is missing,
    or belongs to another MPI than ``mpiexec``; or if two ranks share a GPU, or one lacks NCCL.
    """
    launch = launch_of()
    if launch.size == 1:
        return ALONE
    ranks = MpiCommunicator()
    _end_all_on_errors(ranks)
    if ranks.size != launch.size:
        raise CommunicatorError(
            f"{launch.size} ranks were started, but mpi4py finds {ranks.size}: it belongs to another MPI than the "
            "program that started them; use the mpiexec of the environment that has mpi4py"
        )
    _share_cores(ranks)
    device = device or current_device(partial(device_of_rank, launch=launch))
    if device != CPU:
        return NcclCommunicator(ranks, device)
    check_devices(ranks, device)
    return ranks


def _share_cores(ranks: Communicator) -> None:
    """Ranks of one machine compute on cores of their own, as far as there are enough."""
    host = platform.node()
    found = ranks.gather((host, workers.usable_cores()))
    workers.share_cores([cores for its_host, cores in found if its_host == host])


def _end_all_on_errors(ranks: MpiCommunicator) -> None:
    """From now on an error that ends this program ends all ranks: they would wait for this one for ever."""
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        with suppress(SystemExit):
            show(kind, error, trace)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        ranks.abort()

    sys.excepthook = hook
