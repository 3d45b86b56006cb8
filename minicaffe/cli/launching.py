"""How ``minicaffe train`` becomes ranks: ``mpiexec`` has started it several times, or ``--gpus`` asks for it.

``--gpus 0,1,2,3`` replaces the command by ``mpiexec -n 4`` with the same command, whose ranks take one GPU each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from minicaffe.cli.ranks import Process, Rank
from minicaffe.cli.supervisor import supervise
from minicaffe.device.array import gpu_count, gpu_problem
from minicaffe.device.launch import Launch, launch_of
from minicaffe.errors import CommunicatorError, DeviceError, MinicaffeError
from minicaffe.startup import is_command

ALL = "all"
INSTALL = "pip install 'minicaffe[mpi]'"


def add_gpus(sub: argparse.ArgumentParser) -> None:
    """Add --gpus, which ``begin`` obeys."""
    sub.add_argument(
        "--gpus",
        type=_numbers,
        metavar="0,1,…|all",
        help="train on these GPUs of this machine together, each with the batch_size of the spec",
    )


def _numbers(text: str) -> list[int] | str:
    """0,1,2, or "all"."""
    parts = text.split(",")
    if text == ALL:
        return ALL
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}': write the numbers of GPUs, as in 0,1, or all")
    if len(set(map(int, parts))) < len(parts):
        raise argparse.ArgumentTypeError(f"'{text}': has a GPU twice; each rank needs one of its own")
    return [*map(int, parts)]


def begin(args: argparse.Namespace) -> Process:
    """What this process is: one by itself, or a rank, which goes on under a supervisor. It sets the rank's device.

    Called before anything else of the command, as neither MPI nor CUDA may have begun. Raises DeviceError and
    CommunicatorError.
    """
    launch = launch_of()
    if args.gpus is not None and args.device is not None:
        raise MinicaffeError(f"--device {args.device} and --gpus: give one of them")
    if launch.size == 1:
        if args.gpus is not None:
            gpus = _check_gpus(args.gpus)
            if len(gpus) > 1:
                _start_ranks(len(gpus))
            args.device = f"gpu:{gpus[0]}"
        return Process()
    supervised = supervise(launch)
    if args.gpus is not None:
        args.device = _device_of(args.gpus, launch)
    return Rank(launch, supervised)


def _check_gpus(given: list[int] | str) -> list[int]:
    """The numbers of the GPUs. Raises DeviceError for one that cannot be used."""
    gpus = [*range(gpu_count())] if isinstance(given, str) else given
    for index in gpus or [0]:
        if problem := gpu_problem(index):
            raise DeviceError(f"--gpus: GPU {index}: {problem}")
    return gpus


def _device_of(gpus: list[int] | str, launch: Launch) -> str:
    """The device of a rank: of each machine, the first rank takes the first of the GPUs, and so on."""
    if isinstance(gpus, str):
        return "gpu"
    if launch.local_rank >= len(gpus):
        raise DeviceError(
            f"--gpus: {len(gpus)} of them for at least {launch.local_rank + 1} ranks on one machine: start one "
            "rank for each GPU"
        )
    return f"gpu:{gpus[launch.local_rank]}"


def _start_ranks(count: int) -> NoReturn:
    """Replace this process by ``mpiexec`` with its own command, for a number of ranks. Raises CommunicatorError."""
    mpiexec = find_mpiexec()
    if mpiexec is None or find_spec("mpi4py") is None:
        missing = "mpiexec is" if mpiexec is None else "mpi4py is"
        raise CommunicatorError(f"--gpus: several GPUs need MPI, and {missing} not installed: {INSTALL}")
    if not is_command():
        raise CommunicatorError(
            "--gpus: several GPUs are for the program minicaffe; here, start this with mpiexec"
        )
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # mpiexec would read a terminal, which stops what runs in the background
    os.execv(mpiexec, [mpiexec, "-n", str(count), sys.executable, *sys.orig_argv[1:]])


def find_mpiexec() -> str | None:
    """The mpiexec of this environment, which belongs to its mpi4py, or else the first on the path."""
    return shutil.which("mpiexec", path=Path(sys.executable).parent) or shutil.which("mpiexec")
