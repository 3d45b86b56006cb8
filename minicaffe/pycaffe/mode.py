"""What Caffe keeps for the whole process: where to compute, the random seed, the log."""

from __future__ import annotations

import logging
import random
import sys
import warnings

from minicaffe.device.array import gpu_problem
from minicaffe.device.array import set_device as choose_device
from minicaffe.device.launch import launch_of
from minicaffe.errors import DeviceError
from minicaffe.train.console import GlogFormatter

logger = logging.getLogger("minicaffe")
GLOG_LEVELS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
ONE_GPU = "training on several GPUs is not there; train on one"


class _Process:
    gpu = 0
    uses_gpu = False
    seeds: random.Random | None = None
    log_is_shown = False


_process = _Process()


def set_mode_cpu() -> None:
    """Make new nets compute on the CPU."""
    _process.uses_gpu = False
    choose_device("cpu")


def set_mode_gpu() -> None:
    """Make new nets compute on the GPU; if there is none, warn and stay on the CPU."""
    _process.uses_gpu = True
    problem = gpu_problem()
    if problem:
        warnings.warn(f"set_mode_gpu: {problem}; computing on the CPU", RuntimeWarning, stacklevel=2)
    choose_device("cpu" if problem else f"gpu:{_process.gpu}")


def set_device(number: int) -> None:
    """Choose the GPU that ``set_mode_gpu`` takes. Raises DeviceError if there is no such GPU."""
    _process.gpu = int(number)
    if _process.uses_gpu:
        set_mode_gpu()


def set_random_seed(seed: int) -> None:
    """Make the random numbers of new nets and solvers the same in every run."""
    _process.seeds = random.Random(seed)


def next_seed() -> int | None:
    """A seed for the next net or solver; None if ``set_random_seed`` was not called."""
    return None if _process.seeds is None else _process.seeds.getrandbits(48)


def init_log(level: int = 0, stderr: bool = True) -> None:
    """Show the log from a level on (0: all, 1: warnings, 2: errors), on stderr or else on stdout.

    Its lines are as Caffe's, so that scripts read them (``tools/extra/parse_log.py``).
    """
    handler = logging.StreamHandler(sys.stderr if stderr else sys.stdout)
    handler.setFormatter(GlogFormatter())
    _process.log_is_shown = True
    logger.handlers = [handler]
    logger.setLevel(GLOG_LEVELS[min(max(level, 0), 3)])


def log_is_shown() -> bool:
    """Whether ``init_log`` was called."""
    return _process.log_is_shown


def log(message: str) -> None:
    """Write a line to the log."""
    logger.info("%s", message)


def solver_count() -> int:
    """How many solvers train together: the ranks that ``mpiexec`` has started."""
    return launch_of().size


def solver_rank() -> int:
    """Which of the solvers that train together this process has."""
    return launch_of().rank


def set_solver_count(count: int) -> None:
    """Say how many solvers train together. Raises DeviceError for more than one."""
    if count != 1:
        raise DeviceError(f"set_solver_count({count}): {ONE_GPU}")


def set_solver_rank(rank: int) -> None:
    """Say which solver this process has. Raises DeviceError for any but the first."""
    if rank != 0:
        raise DeviceError(f"set_solver_rank({rank}): {ONE_GPU}")


def set_multiprocess(several: bool) -> None:
    """Say whether solvers of several processes train together. Raises DeviceError if so."""
    if several:
        raise DeviceError(f"set_multiprocess(True): {ONE_GPU}")


def has_nccl() -> bool:
    """Whether several GPUs can train together: no."""
    return False


class NCCL:
    """Caffe's way to train on several GPUs, which is not available: making one, or asking for its id, says so."""

    def __init__(self, *_: object) -> None:
        raise DeviceError(f"NCCL: {ONE_GPU}")

    @staticmethod
    def new_uid() -> str:
        """The id that the GPUs would share. Raises DeviceError."""
        raise DeviceError(f"NCCL.new_uid: {ONE_GPU}")
