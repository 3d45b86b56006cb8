"""caffe.SGDSolver and the like, and ``get_solver``: a ``minicaffe.Solver`` with pycaffe's names.

Snapshots are Caffe's files, .caffemodel and .solverstate, so that Caffe itself can go on from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import minicaffe
from minicaffe.caffe.formats.caffemodel import write_caffemodel
from minicaffe.caffe.formats.hdf5 import write_weights
from minicaffe.caffe.formats.solverstate import CaffeState, write_state
from minicaffe.core.display import html_of
from minicaffe.device.array import Array, to_host
from minicaffe.files.spec_formats import open_solver
from minicaffe.pycaffe.mode import log_is_shown, next_seed
from minicaffe.pycaffe.net import Net
from minicaffe.spec.solver import SolverSpec
from minicaffe.train.console import caffe_lines, own_lines
from minicaffe.train.lr_policy import steps_passed
from minicaffe.train.snapshots import start_of_name

Callback = Callable[[], None]


class _Training(minicaffe.Solver):
    """The solver, opening files as Caffe does, with callbacks, and snapshots that are Caffe's."""

    def _find(self, path: str, field: str) -> Path:
        """In the working directory first, where alone Caffe looks."""
        return Path(path) if Path(path).is_file() else super()._find(path, field)

    def __init__(self, spec: SolverSpec) -> None:
        self.callbacks: list[tuple[Callback, Callback]] = []
        super().__init__(spec)
        self.lines = lambda shown: (caffe_lines if log_is_shown() else own_lines)(shown)

    def _accumulate(self) -> Array:
        for on_start, _ in self.callbacks:
            on_start()
        loss = super()._accumulate()
        for _, on_gradients_ready in self.callbacks:
            on_gradients_ready()
        return loss

    def _write_snapshot(self, state: Mapping[str, Any]) -> Path:
        is_hdf5 = self.spec.snapshot_format == "HDF5"
        base, ending = start_of_name(self.prefix, self.iter), ".h5" if is_hdf5 else ""
        weights = f"{base}.caffemodel{ending}"
        write = write_weights if is_hdf5 else write_caffemodel
        write(self.net.as_saved(), weights)
        passed = self.plateaus.passed or steps_passed(self.spec.stepvalue, self.iter - 1)
        written = CaffeState(
            Path(f"{base}.solverstate{ending}"), self.iter, weights, passed, self._histories()
        )
        write_state(written)
        return written.path

    def _histories(self) -> list[np.ndarray]:
        """All first histories, then all second ones; zeros for a parameter that is not trained."""
        return [
            to_host(self.history[p.key][k]) if p.key in self.history else np.zeros(p.blob.shape, np.float32)
            for k in range(self.rule.histories)
            for p in self.net.learnable
        ]


class Solver:
    """Training of a net as a solver file (.prototxt, or .yaml) says; ``type`` is the class's, not the file's.

    ``net`` and ``test_nets`` are ``caffe.Net``; ``param`` is the solver's spec, whose ``base_lr`` may be changed.
    """

    type: ClassVar[str] = ""

    def __init__(self, solver_file: str | Path) -> None:
        self._start(open_solver(solver_file))

    def _start(self, spec: SolverSpec) -> None:
        spec.type = self.type or spec.type
        seed = next_seed()
        if spec.random_seed < 0 and seed is not None:
            spec.random_seed = seed
        self.core = _Training(spec)
        self.net = Net.of(self.core.net)
        self.test_nets = [Net.of(net) for net in self.core.test_nets]
        self.param = spec

    def __repr__(self) -> str:
        return repr(self.core)

    def _repr_html_(self) -> str | None:
        return html_of(self.core)

    @property
    def iter(self) -> int:
        """The number of iterations done."""
        return self.core.iter

    @property
    def lr(self) -> float:
        """The learning rate of this iteration."""
        return self.core.learning_rate()

    def step(self, iterations: int = 1) -> None:
        """Train for some iterations."""
        self.core.step(iterations)

    def solve(self, resume_file: str | Path | None = None) -> None:
        """Train to ``max_iter``, from a solver state if one is given."""
        if resume_file is not None:
            self.restore(resume_file)
        self.core.solve()

    def apply_update(self) -> None:
        """Change the parameters by their gradients, at this iteration's learning rate, and count it."""
        self.core.apply_update(self.lr)

    def snapshot(self) -> None:
        """Write weights and state to ``<snapshot_prefix>_iter_<n>.caffemodel`` and ``.solverstate``."""
        self.core.snapshot()

    def restore(self, path: str | Path) -> None:
        """Continue from a .solverstate, .solverstate.h5 or .solverstate.npz."""
        self.core.restore(path)

    def add_callback(self, on_start: Callback, on_gradients_ready: Callback) -> None:
        """Call these in each iteration, before forward and after backward."""
        self.core.callbacks.append((on_start, on_gradients_ready))

    def share_weights(self, net: Net) -> None:
        """Let another net share the parameters of the net that is trained."""
        net.share_with(self.net)


class SGDSolver(Solver):
    """Momentum SGD."""

    type = "SGD"


class NesterovSolver(SGDSolver):
    """SGD with Nesterov's momentum."""

    type = "Nesterov"


class AdaGradSolver(SGDSolver):
    """AdaGrad."""

    type = "AdaGrad"


class RMSPropSolver(SGDSolver):
    """RMSProp."""

    type = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    """AdaDelta."""

    type = "AdaDelta"


class AdamSolver(SGDSolver):
    """Adam."""

    type = "Adam"


SOLVERS: dict[str, type[Solver]] = {
    cls.type: cls
    for cls in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)
}


def get_solver(solver_file: str | Path) -> Solver:
    """The solver that a file describes, of the type that it names. Raises SpecError."""
    spec = open_solver(solver_file)
    cls = SOLVERS.get(spec.type, Solver)
    solver = cls.__new__(cls)
    solver._start(spec)
    return solver
