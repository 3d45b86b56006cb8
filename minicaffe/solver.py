"""Solver: trains a net as a solver spec says (Caffe's ``Solver``)."""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe import snapshots
from minicaffe.array import Array, to_host
from minicaffe.caffe.specs import open_net, open_solver
from minicaffe.errors import TrainingError
from minicaffe.learnable_param import LearnableParam
from minicaffe.net import Net
from minicaffe.ops.update import Step, update
from minicaffe.scoring import score
from minicaffe.solvers.lr_policy import learning_rate
from minicaffe.solvers.rule import update_rules
from minicaffe.spec.net import NetSpec, NetState
from minicaffe.spec.reader import nearest
from minicaffe.spec.solver import SolverSpec
from minicaffe.training_log import TrainingLog, duration

logger = logging.getLogger("minicaffe")


class Solver:
    """Training of one net, with its test nets, which share its weights.

    ``spec`` is the path of a solver spec (YAML or .prototxt), or a ``SolverSpec``; ``net`` is used in place of the
    net that the spec names. Nets' paths are looked up beside the solver's file, then in the working directory.

    ``net``, ``test_nets`` and ``iter`` are what pycaffe's solver has. Progress goes to the logger
    "minicaffe", and to a JSON-lines file beside the snapshots. Raises SpecError and what nets raise.
    """

    open_net = staticmethod(open_net)  # how the files that the solver spec names are read

    def __init__(self, spec: str | Path | SolverSpec, net: NetSpec | None = None) -> None:
        self.spec = spec if isinstance(spec, SolverSpec) else open_solver(spec)
        if self.spec.type not in update_rules:
            known = ", ".join(update_rules)
            hint = nearest(self.spec.type, update_rules)
            raise self.spec.error("type", f"unknown solver '{self.spec.type}'; one of {known}{hint}")
        self.rule = update_rules[self.spec.type](self.spec)
        self.seed = self.spec.random_seed if self.spec.random_seed >= 0 else secrets.randbits(48)
        self.iter = 0
        inline = net or self.spec.train_net_param or self.spec.net_param
        self.net = self._make_net(
            inline, self.spec.train_net or self.spec.net, "TRAIN", self.spec.train_state, 0
        )
        self.test_nets = [
            self._make_net(given, path, "TEST", state, 1 + i)
            for i, (given, path, state) in enumerate(self._test_sources(net))
        ]
        for test_net in self.test_nets:
            report = test_net.share_with(self.net)
            if report.missing:
                logger.warning(
                    "Layers of a test net that the training net has not: %s", ", ".join(report.missing)
                )
        with self.net.setting.device.entered():
            self.history = {
                p.key: [self._zeros_like(p) for _ in range(self.rule.histories)]
                for p in self._trained_params()
            }
        self.losses: deque[Array] = deque(maxlen=self.spec.average_loss)
        self.log = TrainingLog(self.spec.snapshot_prefix)
        self._request = ""
        self._saved_at = -1
        self.stopped_early = False
        for path in self.spec.weights:
            self.copy_from(path)

    # -- nets ------------------------------------------------------------------------------------------

    def _make_net(self, given: NetSpec | None, path: str, phase: str, state: NetState, number: int) -> Net:
        spec = given or self.open_net(self._find(path))
        return Net(
            spec,
            phase=phase,
            level=state.level if state.has("level") else spec.state.level,
            stages=state.stage,
            seed=self.seed + number,
        )

    def _test_sources(self, net: NetSpec | None) -> Iterator[tuple[NetSpec | None, str, NetState]]:
        """What each test net is made from: its own spec or file, then the shared net once for each state."""
        states = iter(self.spec.test_state)
        for given in self.spec.test_net_param:
            yield given, "", next(states, NetState())
        for path in self.spec.test_net:
            yield None, path, next(states, NetState())
        own = len(self.spec.test_net_param) + len(self.spec.test_net)
        for _ in range(len(self.spec.test_iter) - own):
            yield net or self.spec.net_param, self.spec.net, next(states, NetState())

    def _find(self, path: str) -> Path:
        """A path beside the solver's file, or else in the working directory."""
        beside = Path(self.spec.where.file).parent / path
        if not beside.is_file() and not Path(path).is_file():
            field = (
                "test_net" if path in self.spec.test_net else "train_net" if self.spec.train_net else "net"
            )
            raise self.spec.error(
                field, f"no file '{path}' beside the solver spec or in the working directory"
            )
        return beside if beside.is_file() else Path(path)

    def copy_from(self, path: str | Path) -> None:
        """Start from weights, matched to layers by name (finetuning). Raises WeightError."""
        logger.info("Weights from %s: %s", path, self.net.copy_from(path))

    # -- training --------------------------------------------------------------------------------------

    def solve(self) -> None:
        """Train to ``max_iter``, then snapshot and test. Raises SpecError without a max_iter, TrainingError."""
        if not self.spec.has("max_iter"):
            raise self.spec.error("max_iter", "required to solve; give the number of iterations")
        if self.iter >= self.spec.max_iter:
            logger.warning("Nothing to train: iteration %d, max_iter %d", self.iter, self.spec.max_iter)
        logger.info("Solving %s from iteration %d to %d", self.net.name, self.iter, self.spec.max_iter)
        self.step(max(0, self.spec.max_iter - self.iter))
        spec = self.spec
        if spec.snapshot_after_train and not self.stopped_early and self.iter != self._saved_at:
            self._save("the trained weights")
        if self.stopped_early:
            logger.info("Stopped early at iteration %d", self.iter)
        elif spec.test_interval and self.iter % spec.test_interval == 0:
            self.test_all()

    def step(self, iterations: int = 1) -> None:
        """Train for some iterations. Raises TrainingError where the loss is no longer a number."""
        last = self.iter + iterations
        clock = _Clock(self.iter)
        self.stopped_early = False
        with self.net.setting.device.entered():
            while self.iter < last and not self.stopped_early:
                self._step(clock, last)
                self._answer_request()
            if self.losses:
                self._check_loss(float(self.losses[-1]))

    def _step(self, clock: _Clock, last: int) -> None:
        spec = self.spec
        if self._test_is_due():
            self.test_all()
            if self._request == "stop":
                return
        shown = bool(spec.display) and self.iter % spec.display == 0
        self.net.debug_info = shown and spec.debug_info
        self.net.clear_param_diffs()
        loss = self._accumulate()
        self.losses.append(loss)
        rate = learning_rate(spec, self.iter)
        if shown:
            self._show(clock, last, rate)
        self.apply_update(rate)
        if spec.snapshot and self.iter % spec.snapshot == 0:
            self.snapshot()

    def _accumulate(self) -> Array:
        """Forward and backward ``iter_size`` times; the mean loss, as a 0-d array on the device."""
        total = 0
        for _ in range(self.spec.iter_size):
            with self.net.lock:
                self.net.run_forward()
                total = total + self.net.loss()
                self.net.run_backward()
        return total / self.spec.iter_size

    def apply_update(self, rate: float) -> None:
        """Clip, average, regularize; let the rule turn gradients into updates; subtract them.

        Each parameter's ``diff`` holds its update afterwards, and ``iter`` counts one more, as in Caffe.
        """
        params = self._trained_params()
        with self.net.setting.device.entered():
            clip = self._clip_factor(params)
            for param in params:
                w, g = param.blob.stored, param.blob.stored_diff
                update(self.rule, w, g, tuple(self.history[param.key]), self._step_of(param, rate, clip))
        self.iter += 1

    def _step_of(self, param: LearnableParam, rate: float, clip: Array | None) -> Step:
        spec = self.spec
        return Step(
            rate=rate * param.lr_mult,
            iteration=self.iter,
            decay=spec.weight_decay * param.decay_mult,
            is_l1=spec.regularization_type == "L1",
            batches=spec.iter_size,
            clip=clip,
        )

    def _clip_factor(self, params: list[LearnableParam]) -> Array | None:
        """What brings the L2 norm of all gradients down to ``clip_gradients``; None where it is not asked for."""
        limit = self.spec.clip_gradients
        if limit < 0:
            return None
        xp = self.net.setting.device.xp
        squares = sum(xp.vdot(p.blob.stored_diff, p.blob.stored_diff) for p in params)
        return xp.minimum(1, limit / xp.maximum(xp.sqrt(squares), np.finfo(np.float32).tiny)).astype(
            squares.dtype
        )

    def _zeros_like(self, param: LearnableParam) -> Array:
        return self.net.setting.device.xp.zeros(param.blob.shape, param.blob.dtype)

    def _trained_params(self) -> list[LearnableParam]:
        return [p for p in self.net.learnable if p.lr_mult]

    # -- tests and progress ----------------------------------------------------------------------------

    def _test_is_due(self) -> bool:
        spec = self.spec
        due = spec.test_interval and self.iter % spec.test_interval == 0
        return bool(due and self.test_nets and (self.iter > 0 or spec.test_initialization))

    def test_all(self) -> list[dict[str, np.ndarray]]:
        """Run every test net for its ``test_iter`` batches; return and log the mean of each output."""
        return [self._test(i) for i in range(len(self.test_nets)) if self._request != "stop"]

    def _test(self, number: int) -> dict[str, np.ndarray]:
        net, batches = self.test_nets[number], self.spec.test_iter[number]
        logger.info("Iteration %d, Testing net (#%d)", self.iter, number)
        result = score(net, batches, lambda _: self._request != "stop")
        if result is None:
            logger.info("Test stopped before it was done")
            return {}
        for line in output_lines(net, result.outputs, "Test"):
            logger.info(line)
        if self.spec.test_compute_loss:
            logger.info("    Test loss: %.6g", result.loss)
        self.log.write(event="test", iteration=self.iter, net=number, outputs=_plain(result.outputs))
        return result.outputs

    def smoothed_loss(self) -> float:
        """The mean loss of the last ``average_loss`` iterations. Waits for the device."""
        return float(sum(float(loss) for loss in self.losses) / max(1, len(self.losses)))

    def _show(self, clock: _Clock, last: int, rate: float) -> None:
        loss = self.smoothed_loss()
        speed = clock.speed(self.iter)
        left = f", {duration((last - self.iter) / speed)} left" if speed else ""
        pace = f" ({speed:.4g} iter/s{left})" if speed else ""
        logger.info("Iteration %d%s, loss = %.6g, lr = %.6g", self.iter, pace, loss, rate)
        outputs = {name: to_host(self.net.blobs[name].data) for name in self.net.outputs}
        for line in output_lines(self.net, outputs, "Train"):
            logger.info(line)
        self.log.write(event="train", iteration=self.iter, loss=loss, lr=rate, outputs=_plain(outputs))
        self._check_loss(loss)

    def _check_loss(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise TrainingError(
                f"iteration {self.iter}: the loss is {loss}; training has diverged: lower base_lr "
                f"({self.spec.base_lr:g}), or set clip_gradients; earlier snapshots are untouched"
            )

    # -- snapshots -------------------------------------------------------------------------------------

    def request(self, action: str) -> None:
        """Ask for "snapshot" or "stop" at the end of the iteration that is under way; safe in a signal handler."""
        if self._request != "stop":  # which nothing else may make undone
            self._request = action

    def _answer_request(self) -> None:
        request, self._request = self._request, ""
        self.stopped_early = request == "stop"
        if request and self.iter != self._saved_at:
            self._save("this state")

    def _save(self, what: str) -> None:
        """Snapshot, or say why not: a request for one must not end a training."""
        if self.spec.snapshot_prefix:
            self.snapshot()
        else:
            logger.warning("No snapshot_prefix in the solver spec, so nothing is saved of %s", what)

    def snapshot(self) -> Path:
        """Write weights and state to ``<snapshot_prefix>_iter_<n>.npz`` and ``.solverstate.npz``, atomically.

        Returns the path of the state. Raises SpecError without a prefix, WriteError, TrainingError.
        """
        if not self.spec.snapshot_prefix:
            raise self.spec.error(
                "snapshot_prefix", "required for snapshots; give a path and the start of a name"
            )
        self._check_loss(self.smoothed_loss())
        path = self._write_snapshot()
        self._saved_at = self.iter
        logger.info("Snapshot to %s", path)
        self.log.write(event="snapshot", iteration=self.iter, file=str(path))
        return path

    def _write_snapshot(self) -> Path:
        return snapshots.save(self, self.spec.snapshot_prefix)

    def restore(self, path: str | Path, weights: str | Path | None = None) -> None:
        """Go on from a ``.solverstate.npz``, or from Caffe's ``.solverstate`` or ``.solverstate.h5``.

        A state of Caffe names its weights; ``weights`` are those to take in their place. Raises TrainingError or
        WeightError where it does not fit.
        """
        with self.net.setting.device.entered():
            snapshots.restore(self, path, weights)
        self.log.write(event="resume", iteration=self.iter, file=str(path))
        logger.info("Resumed from %s at iteration %d", path, self.iter)

    def close(self) -> None:
        """Let go of the data layers' files and threads, and of the log; so does ``with Solver(…) as solver``."""
        for net in (self.net, *self.test_nets):
            net.close()
        self.log.close()

    def __enter__(self) -> Solver:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def output_lines(net: Net, values: dict[str, np.ndarray], phase: str) -> Iterator[str]:
    """Caffe's lines for a net's outputs: one for each number of each output."""
    weights = {
        name: weight
        for layer in net.layers
        for name, weight in zip(layer.spec.top, layer.spec.loss_weight, strict=True)
    }
    number = 0
    for name, array in values.items():
        for value in np.ravel(array):
            weight = weights.get(name, 0)
            loss = f" (* {weight:g} = {weight * value:.6g} loss)" if weight else ""
            yield f"    {phase} net output #{number}: {name} = {value:.6g}{loss}"
            number += 1


def _plain(outputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Outputs as JSON-able values: all but large ones."""
    return {name: array.tolist() for name, array in outputs.items() if array.size <= 1000}


class _Clock:
    """Iterations per second since the last time that it was asked."""

    def __init__(self, iteration: int) -> None:
        self.iteration, self.time = iteration, time.perf_counter()

    def speed(self, iteration: int) -> float:
        now = time.perf_counter()
        speed = (iteration - self.iteration) / max(now - self.time, 1e-9)
        self.iteration, self.time = iteration, now
        return speed
