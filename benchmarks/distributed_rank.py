"""A rank of ``distributed.py``: ``python distributed_rank.py SOCKET``, by itself or started by ``mpiexec``.

It connects to the socket, says its number, and then calls its methods as it is told, one after the other. While it
waits it uses no core, so that others can be timed meanwhile.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from distributed_model import Event, Recorder, Slow

import minicaffe as mc
from minicaffe.device import workers
from minicaffe.device.communicator import ALONE, Communicator
from minicaffe.device.mpi import MpiCommunicator
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver
from minicaffe.train import solver as solver_module
from minicaffe.train.parallel.exchange import GradientExchange


class Solver64(mc.Solver):
    """A solver whose nets compute in float64."""

    def _make_net(self, *args: Any) -> mc.Net:
        with patch.object(solver_module, "Net", partial(mc.Net, dtype=np.float64)):
            return super()._make_net(*args)


class Rank:
    """What a rank can be told to do."""

    solver: mc.Solver

    def __init__(self) -> None:
        self.ranks = mc.communicator()

    def make(
        self,
        solver: str,
        net: str,
        cores: int = 0,
        double: bool = False,
        slow: float = 0,
        records: int = 0,
        pinned: bool = False,
    ) -> dict[str, int]:
        """Make the solver of these specs; return what a rank sends in an iteration, in bytes.

        ``cores``: workers, if not as many as are usual. ``double``: in float64. ``slow``: behind a link of that
        many bits a second. ``records``: write down when sums are started; 1 of the ranks there are, 2 of two that
        there are not. ``pinned``: one core for all threads.
        """
        workers.worker_count = cores or workers.worker_count
        if pinned:
            os.sched_setaffinity(0, {self.ranks.rank % os.cpu_count()})
        ranks: Communicator = self.ranks
        if records:
            ranks = self.recorder = Recorder(ranks if records == 1 else None)
        elif slow:
            ranks = Slow(MpiCommunicator(), slow)
        make = Solver64 if double else mc.Solver
        self.solver = make(parse_solver(solver), net=parse_net(net), communicator=ranks)
        exchange = self.solver.exchange
        return {"sent": exchange.sent_bytes, "dense": exchange.dense_bytes}

    def steps(self, count: int) -> dict[str, float]:
        """Train for some iterations; seconds of one, and how many of them were spent waiting for sums."""
        exchange = self.solver.exchange
        start, waited = time.perf_counter(), exchange.waited
        self.solver.step(count)
        return {
            "seconds": (time.perf_counter() - start) / count,
            "waited": (exchange.waited - waited) / count,
        }

    def weights(self) -> dict[str, np.ndarray]:
        """The parameters on rank 0, by name."""
        if not self.ranks.is_root:
            return {}
        return {param.key: np.array(param.blob.data) for param in self.solver.net.learnable}

    def record(self) -> list[Event]:
        """One iteration, as the recorder saw it."""
        with self.recorder.recording() as events:
            self.solver.step(1)
        return events

    def compare(self, gradient_ranks: Sequence[int | None], turns: int) -> dict[str, Any]:
        """Iterations by turns: alone, and as one of two ranks with gradients of each rank (None: whole ones).

        Returns the seconds alone; for each kind the bytes that are sent, and the iterations as they were recorded.
        """
        params = [param for param in self.solver.net.learnable if param.lr_mult]
        kinds: list[tuple[Communicator, GradientExchange]] = [
            (ranks, GradientExchange(self.solver.net, params, ranks, each))
            for ranks, each in [(ALONE, None), *((self.recorder, each) for each in gradient_ranks)]
        ]
        found: list[list[list[Event]]] = [[] for _ in kinds]
        for turn in range(turns + 1):
            for (ranks, exchange), steps in zip(kinds, found, strict=True):
                self.solver.communicator, self.solver.exchange = ranks, exchange
                events = self.record()
                if turn:  # the first does not count
                    steps.append(events)
        alone = [event.work for (event,) in found[0]]
        return {"alone": alone, "sent": [each.sent_bytes for _, each in kinds[1:]], "steps": found[1:]}

    def sums(self, size: int, count: int) -> list[float]:
        """Seconds of sums of arrays of that many bytes over the ranks."""
        array, found = np.zeros(size // 4, np.float32), []
        for _ in range(count):
            self.ranks.highest(0)
            start = time.perf_counter()
            self.ranks.sum(array)
            found.append(time.perf_counter() - start)
        return found


def main() -> None:
    """Do what comes over the socket until it is closed."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        stream = connection.makefile("rwb")
        rank = Rank()
        pickle.dump(rank.ranks.rank, stream)
        stream.flush()
        while True:
            try:
                method, args, options = pickle.load(stream)
            except EOFError:
                return
            pickle.dump(getattr(rank, method)(*args, **options), stream)
            stream.flush()


if __name__ == "__main__":
    main()
