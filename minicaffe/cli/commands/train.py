"""``minicaffe train``: trains a net, and lets signals stop it or write a snapshot."""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from minicaffe.cli.command import Command
from minicaffe.cli.flags import add_device, add_trust, choose_device
from minicaffe.cli.launching import add_gpus, begin
from minicaffe.cli.ranks import Process
from minicaffe.device.launch import communicator
from minicaffe.errors import MinicaffeError
from minicaffe.files.spec_formats import open_solver
from minicaffe.files.state_formats import is_foreign_state
from minicaffe.inspect.report.watch import LivePage
from minicaffe.train import snapshots
from minicaffe.train.console import GlogFormatter, caffe_lines
from minicaffe.train.solver import Solver

logger = logging.getLogger("minicaffe")
SAME = 0.1  # seconds within which two signals are one


def train(args: argparse.Namespace) -> None:
    """Train a net as its solver spec says."""
    if args.log_format == "caffe":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(GlogFormatter())
    spec = open_solver(args.solver)
    choose_device(args, spec)
    is_foreign = args.snapshot is not None and is_foreign_state(args.snapshot)
    if args.weights and args.snapshot is not None and not (is_foreign and len(args.weights) == 1):
        raise MinicaffeError(
            "--weights and --snapshot: give weights to start from, or a state to resume, not both"
        )
    ranks = communicator()
    process: Process = args.process
    process.met(ranks)
    solver = Solver(spec, communicator=ranks)
    solver.log_norms = args.log_norms
    if args.log_format == "caffe":
        solver.lines = caffe_lines
    pages: list[LivePage] = []
    if args.live:
        ranks.on_root(lambda: pages.append(_live_page(solver)))
    if not spec.display and (args.live or args.log_norms):
        logger.warning("%s: display is 0, so no iteration is shown: no losses and no norms", args.solver)
    if args.snapshot is not None:
        latest = args.snapshot == "latest"
        state = ranks.on_root(lambda: snapshots.latest(solver.prefix)) if latest else args.snapshot
        solver.restore(state, *args.weights)
    else:
        for path in args.weights:
            solver.copy_from(path)
    first = solver.iter
    process.show_warnings(lambda: solver.iter > first)
    try:
        with _signals(solver, {"SIGINT": args.sigint_effect, "SIGHUP": args.sighup_effect}):
            solver.solve()
        if solver.stopped_early and solver.prefix:
            start = f"mpiexec -n {ranks.size} " if ranks.size > 1 and args.gpus is None else ""
            logger.info("To go on: %sminicaffe train %s --snapshot latest", start, shlex.quote(args.solver))
        if solver.log.path is not None:
            extra = "" if find_spec("matplotlib") else " (it needs matplotlib: pip install 'minicaffe[plot]')"
            logger.info("For its curves: minicaffe plot %s%s", shlex.quote(str(solver.log.path)), extra)
    finally:
        solver.close()
        for page in pages:
            page.close()


def _live_page(solver: Solver) -> LivePage:
    """The page of the training, which hears of all events. Raises SpecError where nothing says its name."""
    if not solver.prefix:
        raise solver.spec.error("snapshot_prefix", "required for --live; give a path and the start of a name")
    live = LivePage(solver.prefix, solver.net, solver.spec.max_iter)
    solver.listeners.append(live)
    return live


@contextmanager
def _signals(solver: Solver, effects: dict[str, str]) -> Iterator[None]:
    """In this block a signal asks the solver for its effect; a second SIGINT interrupts at once.

    Slurm sends each signal to a rank and to its supervisor, which forwards it: both are one.
    """

    def handler(effect: str) -> Callable[[int, object], None]:
        asked: list[float] = []

        def handle(number: int, frame: object) -> None:
            asked.append(time.monotonic())
            if number == signal.SIGINT and asked[-1] - asked[0] > SAME:
                raise KeyboardInterrupt
            solver.request(effect)

        return handle

    before = {}
    for name, effect in effects.items():
        if hasattr(signal, name) and effect != "none":
            number = getattr(signal, name)
            before[number] = signal.signal(number, handler(effect))
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _add_flags(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("solver", help="a solver spec (YAML or .prototxt)")
    sub.add_argument("--weights", type=lambda text: text.split(","), default=[], metavar="FILE[,FILE]",
                     help="start from these weights, matched to layers by name")  # fmt: skip
    sub.add_argument(
        "--snapshot",
        metavar="FILE",
        help="resume from this .solverstate.npz or Caffe's .solverstate; 'latest': of the run started last",
    )
    for name, default in (("sigint", "stop"), ("sighup", "snapshot")):
        sub.add_argument(f"--{name}_effect", choices=["stop", "snapshot", "none"], default=default,
                         help=f"what {name.upper()} does (default: {default})")  # fmt: skip
    sub.add_argument(
        "--live",
        action="store_true",
        help="write <prefix>.live.html: open it in a browser to watch the curves grow",
    )
    sub.add_argument(
        "--log-norms",
        action="store_true",
        help="log how large each parameter, its gradient and its update are, when an iteration is shown",
    )
    sub.add_argument(
        "--log-format",
        choices=["plain", "caffe"],
        default="plain",
        help="caffe: print what Caffe's parse_log.py and plot_training_log.py read (default: plain)",
    )
    add_device(sub)
    add_gpus(sub)
    add_trust(sub, runs_python=True)


EXAMPLE = "train prototxt/lenet/solver.yaml --snapshot latest"
COMMANDS = [Command("train", train, _add_flags, EXAMPLE, begin)]
