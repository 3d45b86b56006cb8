"""``kill -9`` of a rank at random moments: does all end soon, with one line, and go on as if nothing had been?

``python benchmarks/distributed_faults.py [--kills 10]`` trains LeNet with dropout on the bundled sample by two
ranks, once undisturbed and once killed and resumed. What is killed is a rank or the supervisor of a rank, in turns.
It prints a row for each kill, compares the two weight files bit for bit, and exits with 1 if they differ, if a kill
was followed by anything but one line that names the rank, or if a process was left after ten seconds. POSIX only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from distributed_ranks import ROOT, mpiexec
from kill_and_resume import write_solver

SHOWN = 20  # iterations between two that are shown
SOON = 10  # seconds
PROGRAM = "minicaffe.cli"


class Run:
    """A training by several ranks, in a folder, that goes on from the last snapshot."""

    def __init__(self, folder: Path, ranks: int) -> None:
        states = [*(folder / "snapshots").glob("*.solverstate.npz")]
        self.start = max((int(path.name.split(".")[0].rpartition("_")[2]) for path in states), default=0)
        flags = ["--snapshot", "latest"] if states else []
        self.process = subprocess.Popen(
            [mpiexec(), "-n", str(ranks), sys.executable, "-m", PROGRAM, "train", "solver.yaml", *flags],
            cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait_for(self, iteration: int) -> None:
        """Return when an iteration at or after this one is shown."""
        for line in self.process.stdout or ():
            found = re.match(r"Iteration (\d+)[ ,](?!Testing)", line)
            if found and int(found[1]) >= iteration:
                return
        sys.exit(f"the training has ended before iteration {iteration}: {self.finish()[1]}")

    def pairs(self) -> list[tuple[int, int]]:
        """The processes: of each rank that trains by now, and of its supervisor."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()]
        parents = {int(row[0]): int(row[1]) for row in rows}
        ours = {int(row[0]) for row in rows if PROGRAM in row[2]}

        def is_below(pid: int) -> bool:
            return pid == self.process.pid or (pid in parents and is_below(parents[pid]))

        return [(pid, parents[pid]) for pid in sorted(ours) if parents[pid] in ours and is_below(pid)]

    def wait_for_ranks(self, count: int) -> list[tuple[int, int]]:
        """Their processes, as soon as all of them are there."""
        while len(found := self.pairs()) < count:
            if self.process.poll() is not None:
                sys.exit(f"the ranks have not started: {self.finish()[1]}")
            time.sleep(0.02)
        return found

    def finish(self) -> tuple[int, list[str]]:
        """Wait for the end of ``mpiexec``: its status, and the lines on stderr, or that of its own on stdout."""
        output, errors = self.process.communicate()
        return self.process.returncode, [*errors.splitlines(), *re.findall(".*BAD TERMINATION.*", output)]


def running(pids: list[int]) -> list[int]:
    """Those of some processes that run still."""
    numbers = ",".join(map(str, pids))
    listed = subprocess.run(["ps", "-o", "pid=,stat=", "-p", numbers], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if not line.split()[1].startswith("Z")]


def kill(run: Run, pids: list[tuple[int, int]], victim: int, number: int) -> bool:
    """Kill a rank (0) or its supervisor (1) of one of the pairs; print the row. Whether all was as it should be."""
    rank = pids[number][0]
    begin = time.perf_counter()
    os.kill(pids[number][victim], signal.SIGKILL)
    status, lines = run.finish()
    left = [pid for pair in pids for pid in pair]
    while (left := running(left)) and time.perf_counter() - begin < SOON:
        time.sleep(0.01)
    seconds = time.perf_counter() - begin
    is_told = len(lines) == 1 and bool(re.match(rf"error: rank \d+ \(host .*, process {rank}\)", lines[0]))
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    named = lines[0].partition(" (")[0] if is_told else " / ".join(lines) or "nothing"
    shown = f"{seconds:.2f}" if not left else f"{len(left)} are left"
    print(f"| {('rank', 'supervisor')[victim]} | {run.start} | {shown} | {status} | {named} |", flush=True)
    return not left and is_told and status != 0


def killed_run(folder: Path, ranks: int, kills: int, iterations: int, rng: random.Random) -> bool:
    """Kill and resume, then let it end: once while it starts, and then in each part of the iterations."""
    is_good = True
    per_kill = iterations // kills
    print("| killed | began at iteration | seconds until all are gone | status | told |")
    print("|---|--:|--:|--:|---|", flush=True)
    for number in range(kills):
        run = Run(folder, ranks)
        pids = run.wait_for_ranks(ranks)
        if number:
            latest = rng.randrange(per_kill * number, per_kill * (number + 1) - 2 * SHOWN)
            run.wait_for(max(latest, run.start))
        time.sleep(rng.uniform(0, 1))
        is_good &= kill(run, pids, number % 2, rng.randrange(ranks))
    status, lines = Run(folder, ranks).finish()
    if status:
        sys.exit(f"the last run has ended with status {status}: {lines}")
    return is_good


def main() -> None:
    """Run both, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        weights, is_good = [], True
        for kind in ("whole", "killed"):
            folder = Path(name) / kind
            folder.mkdir()
            write_solver(folder, args.iterations)
            solver = folder / "solver.yaml"
            text = solver.read_text().replace("snapshot: 10\n", f"snapshot: {SHOWN}\n")
            solver.write_text(text.replace("display: 100", f"display: {SHOWN}"))
            if kind == "whole":
                status, lines = Run(folder, args.ranks).finish()
                if status:
                    sys.exit(f"training has ended with status {status}: {lines}")
            else:
                rng = random.Random(args.seed)
                is_good = killed_run(folder, args.ranks, args.kills, args.iterations, rng)
            weights.append(np.load(folder / "snapshots" / f"lenet_iter_{args.iterations}.npz"))
        same = all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0].files)
    print(f"\nafter {args.kills} kills: final weights are {'bit-identical' if same else 'DIFFERENT'}")
    sys.exit(0 if same and is_good else 1)


if __name__ == "__main__":
    main()
