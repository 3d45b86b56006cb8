"""Ranks that ``mpiexec`` starts, and that speak MPI: they do what ranks that are threads do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minicaffe.device.array import to_host
from minicaffe.device.launch import Launch, launch_of
from tests.train.test_ranks import FIXED, STEPS, assert_same, double, folder, train  # noqa: F401

ROOT = Path(__file__).parents[2]
MPIEXEC = shutil.which(
    "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
)


def start(count, *arguments):
    return subprocess.run(
        [MPIEXEC, "-n", str(count), sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.cpu_only("the arrays that MPI takes are the host's")
@pytest.mark.parametrize("count", [2, 3])
def test_ranks_of_mpi_train_as_threads_do(folder, double, count):  # noqa: F811
    pytest.importorskip("mpi4py")
    if MPIEXEC is None:
        pytest.skip("there is no mpiexec")
    solvers = {"whole": STEPS, "low_rank": STEPS + "gradient_rank: 2\n"}
    (folder / "net.yaml").write_text(FIXED)
    for name, text in solvers.items():
        (folder / f"{name}.yaml").write_text(text)
    done = start(count, "-m", "tests.train.mpi_ranks", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.findall(r"rank \d of \d is done", done.stdout)  # two may end up on one line
    assert sorted(said) == [f"rank {r} of {count} is done" for r in range(count)]
    for name, text in solvers.items():
        expected = train(count, FIXED, text, 5)[0]
        with np.load(folder / f"{name}.npz") as found:
            assert_same({key: to_host(found[key]) for key in expected}, expected, 1e-12)


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, Launch()),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, Launch()),
        ({"PMI_SIZE": "4", "PMI_RANK": "3", "MPI_LOCALRANKID": "1"}, Launch(4, 3, 1)),
        (
            {
                "OMPI_COMM_WORLD_SIZE": "2",
                "OMPI_COMM_WORLD_RANK": "1",
                "OMPI_COMM_WORLD_LOCAL_RANK": "0",
            },
            Launch(2, 1, 0),
        ),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}, Launch(8, 5, 1)),
        ({"PMI_SIZE": "8", "PMI_RANK": "5", "SLURM_LOCALID": "1"}, Launch(8, 5, 1)),  # srun --mpi=pmi2
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, Launch()),  # a script that sbatch has started once
    ],
)
def test_a_process_knows_whether_it_was_started_as_one_of_several(environment, expected):
    assert launch_of(environment) == expected


def run_script(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_program_that_was_started_by_another_mpi_says_so():
    pytest.importorskip("mpi4py")
    program = "import minicaffe as mc; mc.set_device('cpu'); mc.communicator()"
    done = run_script(program, OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="0")
    assert "2 ranks were started, but mpi4py finds 1" in done.stderr


@pytest.mark.cpu_only("it is about MPI")
def test_an_error_in_a_script_of_one_rank_ends_all():
    pytest.importorskip("mpi4py")
    if MPIEXEC is None:
        pytest.skip("there is no mpiexec")
    program = (
        "import minicaffe as mc; mc.set_device('cpu'); ranks = mc.communicator()\n"
        "if ranks.rank == 1: raise ValueError('mine')\n"
        "ranks.gather(0)"
    )
    done = start(2, "-c", program)
    assert done.returncode != 0 and "ValueError: mine" in done.stderr


def test_one_process_needs_no_mpi():
    program = (
        "import sys; sys.modules['mpi4py'] = None; import minicaffe as mc; mc.set_device('cpu');"
        "ranks = mc.communicator(); assert (ranks.rank, ranks.size) == (0, 1); assert ranks.is_root"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
