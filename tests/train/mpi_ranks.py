"""What ``test_mpi.py`` starts as several ranks: ``mpiexec -n 2 python -m tests.train.mpi_ranks FOLDER``."""

import sys
from functools import partial
from pathlib import Path

import numpy as np

import minicaffe as mc
import minicaffe.train.solver
from minicaffe.core.net import Net
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver


def check_communicator(ranks):
    """All that a communicator does, with arrays that are cut into several messages, too."""
    own = [rank + 1 for rank in range(ranks.size)]
    for dtype in (np.float32, np.float64):
        array = np.full((3, 400_000), ranks.rank + 1, dtype)
        small = np.full(2, ranks.rank + 1, dtype)
        pending = [ranks.start_sum(array), ranks.start_sum(small), ranks.start_sum(np.empty((0, 3), dtype))]
        ranks.progress()
        for one in pending:
            one.wait()
        assert (array == sum(own)).all() and (small == sum(own)).all()
        ranks.broadcast(own_array := np.full(5, ranks.rank, dtype))
        assert (own_array == 0).all()
    assert ranks.gather(ranks.rank + 1) == own
    assert ranks.from_root(ranks.rank) == 0 and ranks.highest(ranks.rank) == ranks.size - 1


def train(ranks, folder):
    """Train in float64 for some steps; rank 0 leaves the parameters there."""
    minicaffe.train.solver.Net = partial(Net, dtype=np.float64)
    for name in ("whole", "low_rank"):
        solver = parse_solver((folder / f"{name}.yaml").read_text())
        with mc.Solver(solver, parse_net((folder / "net.yaml").read_text()), communicator=ranks) as made:
            made.step(5)
            if ranks.is_root:
                made.net.save(folder / f"{name}.npz")


if __name__ == "__main__":
    mc.set_device("cpu")
    ranks = mc.communicator()
    check_communicator(ranks)
    train(ranks, Path(sys.argv[1]))
    print(f"rank {ranks.rank} of {ranks.size} is done")
