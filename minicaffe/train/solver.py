"""Solver: trains a net as a solver spec says (Caffe's ``Solver``)."""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.core.display import html_of
from minicaffe.core.learnable_param import LearnableParam
from minicaffe.core.net import Net
from minicaffe.device.array import Array, to_host
from minicaffe.device.communicator import ALONE, Communicator, of_all_ranks
from minicaffe.device.launch import launch_of
from minicaffe.errors import TrainingError, named, shown
from minicaffe.files.spec_formats import open_net, open_solver, read_spec
from minicaffe.files.state_formats import is_foreign_state, read_foreign_state
from minicaffe.layers.batch_source import same_images
from minicaffe.ops.update import UpdateStep, update
from minicaffe.spec import trust
from minicaffe.spec.net import NetSpec, NetState
from minicaffe.spec.reader import nearest
from minicaffe.spec.solver import SolverSpec
from minicaffe.train import snapshots
from minicaffe.train.console import Lines, Shown, own_lines
from minicaffe.train.in_notebook import show_how_far, shown_in_notebook
from minicaffe.train.log import Listener, TrainingLog
from minicaffe.train.lr_policy import learning_rate, steps_passed
from minicaffe.train.norms import StepNorms
from minicaffe.train.parallel.agreement import are_in_step, check_same
from minicaffe.train.parallel.exchange import GradientExchange
from minicaffe.train.plateaus import Plateaus
from minicaffe.train.preview import sizes, untrained
from minicaffe.train.scoring import (
    first_not_finite,
    is_finite,
    loss_weights,
    names_of_labels,
    output_lines,
    outputs_of_detections,
    precision_lines,
    score,
)
from minicaffe.train.snapshots import shapes_of
from minicaffe.train.solvers.rule import update_rules

logger = logging.getLogger("minicaffe")
NO_NUMBER = np.array(None)
REQUESTS = ("", "snapshot", "stop")  # the later ones go before
WHOLE_IN_EACH = (
    "%d ranks were started, and this solver trains in each of them by itself: "
    "Solver(…, communicator=mc.communicator()) trains one net in all of them"
)
LOOK_EVERY = 20  # iterations between two checks of the loss, if a check has to wait for the GPU


class Solver:
    """Trains one net and tests it with its test nets, which share its weights.

    ``spec`` is the path of a solver spec (YAML or .prototxt), or a ``SolverSpec``; ``net`` replaces the net that
    the spec names. Paths of nets are looked up beside the solver's file, then in the working directory.

    With a ``communicator`` all its ranks train the net together, each with its share of the data
    (docs/distributed.md): they make a solver of the same spec, and call ``solve``, ``step``, ``snapshot`` and
    ``restore`` alike. Rank 0 alone has test nets, reads weights and snapshots, and writes files.

    Snapshots are named ``<prefix>_iter_<n>``; without a ``snapshot_prefix`` the solver's file gives the name, as in
    Caffe. ``net``, ``test_nets`` and ``iter`` are those of pycaffe's solver. Progress goes to the logger
    "minicaffe", which a notebook shows, and to a JSON-lines file beside the snapshots. With ``log_norms`` the file
    has, for each iteration that is shown, the norms of parameters, gradients and updates too. ``lines`` says what
    is printed of such an iteration (``console.py``). Raises SpecError, and whatever nets raise; CommunicatorError
    if ranks have other specs or data than rank 0.
    """

    def __init__(
        self,
        spec: str | Path | SolverSpec,
        net: NetSpec | None = None,
        *,
        communicator: Communicator = ALONE,
    ) -> None:
        self.communicator = communicator
        chosen = communicator.from_root(secrets.randbits(48))
        communicator.together(lambda: self._set_up(spec, net, chosen))
        if communicator.size > 1:
            check_same(self.spec, self.net, communicator)
        elif launch_of().size > 1 and not launch_of().rank:
            logger.warning(WHOLE_IN_EACH, launch_of().size)
        elif self.spec.gradient_rank:
            self._tell("gradient_rank: one process sends nothing, so it changes nothing")
        with self.net.setting.device.entered():
            self.exchange = GradientExchange(
                self.net, self._trained_params(), communicator, self.spec.gradient_rank, self.seed
            )
            self._share()
        for path in communicator.on_root(lambda: [self._find(name, "weights") for name in self.spec.weights]):
            self.copy_from(path)

    def _tell(self, message: str, *args: object) -> None:
        """Log what is the same on all ranks."""
        if self.communicator.is_root:
            logger.info(message, *args)

    def _set_up(self, spec: str | Path | SolverSpec, net: NetSpec | None, seed: int) -> None:
        """Make the nets and all else that a rank has for itself."""
        self.spec = spec if isinstance(spec, SolverSpec) else open_solver(spec)
        if self.spec.type not in update_rules:
            known = ", ".join(update_rules)
            hint = nearest(self.spec.type, update_rules)
            raise self.spec.error("type", f"unknown solver '{self.spec.type}'; one of {known}{hint}")
        self.rule = update_rules[self.spec.type](self.spec)
        self.seed = self.spec.random_seed if self.spec.random_seed >= 0 else seed
        self.iter = 0
        self.run = secrets.token_hex(8)  # names this run; a resumed run keeps the name
        self.last_saved = 0.0  # the time in the last snapshot, in seconds since 1970
        self.prefix = snapshots.prefix_of(self.spec) if self.communicator.is_root else ""
        self._check_place(self.prefix)
        inline = net or self.spec.train_net_param or self.spec.net_param
        self.net = self._make_net(
            inline, self.spec.train_net or self.spec.net, "TRAIN", self.spec.train_state, 0
        )
        self.test_nets = [
            self._make_net(given, path, "TEST", state, 1 + i)
            for i, (given, path, state) in enumerate(
                self._test_sources(net) if self.communicator.is_root else ()
            )
        ]
        for i, test_net in enumerate(self.test_nets):
            if self.spec.eval_type != "classification" and not outputs_of_detections(test_net):
                raise self.spec.error(
                    "eval_type",
                    f"{self.spec.eval_type}, but no output of test net {i} comes from a DetectionEvaluate; "
                    "add that layer, or leave eval_type out",
                )
            report = test_net.share_with(self.net)
            if report.missing:
                logger.warning(
                    "Layers of a test net that the training net does not have: %s", ", ".join(report.missing)
                )
            for warning in same_images(self.net.layers, test_net.layers):
                logger.warning(warning)
        tested = (test_net.preparation for test_net in self.test_nets)
        if found := next((found for found in tested if found is not None), None):
            self.net.prepare_as(found)
        with self.net.setting.device.entered():
            self.history = {
                p.key: [self._zeros_like(p) for _ in range(self.rule.histories)]
                for p in self._trained_params()
            }
        self.losses: deque[Array] = deque(maxlen=self.spec.average_loss)
        self.plateaus = Plateaus(self.spec.plateau_winsize if self.spec.lr_policy == "plateau" else [])
        self._text = _text_of(self.spec)
        is_inline = self.net.spec.where.file == self.spec.where.file
        self._net_text = "" if is_inline else _text_of(self.net.spec)
        self.log_norms = False
        self.lines: Lines = own_lines
        self.listeners: list[Listener] = []
        self.log = self._new_log(self.prefix if self.spec.snapshot_prefix else "")
        self._request = ""
        self._saved_at = -1
        self._is_warned = False  # of parameters that are not finite
        self._updates = 0
        self._resumed: str | None = None  # the state that this run continues from
        self._weights: list[str] = []  # the files that it started from
        self.stopped_early = False

    # -- nets ------------------------------------------------------------------------------------------

    def _make_net(self, given: NetSpec | None, path: str, phase: str, state: NetState, number: int) -> Net:
        spec = given or open_net(self._find(path, self._field_of(path)))
        return Net(
            spec,
            phase=phase,
            level=state.level if state.has("level") else spec.state.level,
            stages=state.stage,
            seed=self.seed + number,
            class_names=self.net.class_names if phase == "TEST" else (),
            communicator=self.communicator if phase == "TRAIN" else ALONE,
        )

    def _check_place(self, prefix: str) -> None:
        """Raise SpecError if snapshots, and the log beside them, may not be written there (docs/security.md)."""
        folder = str(Path(self.spec.where.file).parent)
        if prefix and (problem := trust.current().problem_of_output(f"{prefix}.log.jsonl", folder)):
            raise self.spec.error("snapshot_prefix", problem)

    def _test_sources(self, net: NetSpec | None) -> Iterator[tuple[NetSpec | None, str, NetState]]:
        """The spec, the file and the state of each test net: first nets of its own, then the shared net."""
        states = iter(self.spec.test_state)
        for given in self.spec.test_net_param:
            yield given, "", next(states, NetState())
        for path in self.spec.test_net:
            yield None, path, next(states, NetState())
        own = len(self.spec.test_net_param) + len(self.spec.test_net)
        for _ in range(len(self.spec.test_iter) - own):
            yield net or self.spec.net_param, self.spec.net, next(states, NetState())

    def _field_of(self, path: str) -> str:
        return "test_net" if path in self.spec.test_net else "train_net" if self.spec.train_net else "net"

    def _find(self, path: str, field: str) -> Path:
        """The path in a field, resolved beside the solver's file, or else in the working directory."""
        beside = Path(self.spec.where.file).parent / path
        if not beside.is_file() and not Path(path).is_file():
            raise self.spec.error(
                field, f"no file '{path}' beside the solver spec or in the working directory"
            )
        return beside if beside.is_file() else Path(path)

    def copy_from(self, path: str | Path) -> None:
        """Start from weights, matched to layers by name (finetuning). Raises WeightError."""
        report = self.communicator.on_root(lambda: self.net.copy_from(path))
        self._tell("Weights from %s: %s", path, report)
        self._weights.append(str(path))
        with self.net.setting.device.entered():
            self._share()

    def _share(self) -> None:
        """All ranks go on with the parameters of rank 0, and with what its update rule remembers."""
        if self.communicator.size == 1:
            return
        params = [blob.stored for blobs in self.net.params.values() for blob in blobs]
        histories = [array for arrays in self.history.values() for array in arrays]
        for array in (*params, *histories, *self.exchange.arrays()):
            self.communicator.broadcast(array)
        for layer in self.net.layers:
            layer.parameters_changed()

    # -- training --------------------------------------------------------------------------------------

    @shown_in_notebook()
    def solve(self) -> None:
        """Train to ``max_iter``, then snapshot and test. Raises TrainingError, and SpecError without a max_iter."""
        last = self.spec.max_iter
        if last is None:
            raise self.spec.error("max_iter", "required to solve; give the number of iterations")
        self.communicator.on_root(lambda: self._check_prefix(last))
        if self.iter >= last:
            logger.warning("Nothing to train: iteration %d, max_iter %d", self.iter, last)
            if self._resumed is not None and not is_foreign_state(self._resumed):
                return  # what there is to save of it is saved
        self._tell("Solving %s from iteration %d to %d", self.net.name, self.iter, last)
        for line in sizes(self.net, self.spec.iter_size, self.exchange):
            self._tell(line)
        self.step(max(0, last - self.iter))
        spec = self.spec
        ended = self._show_end()
        if self.communicator.size > 1 and self._updates and self.net.setting.device.kind == "cpu":
            waited = 1e3 * self.exchange.waited / self._updates
            self._tell("Waited for other ranks: %.3g ms an iteration", waited)
        if spec.snapshot_after_train and not self.stopped_early and self.iter != self._saved_at:
            self._save("the trained weights")
        if self.stopped_early:
            self._tell("Stopped early at iteration %d", self.iter)
        elif spec.test_interval and self.iter % spec.test_interval == 0:
            self.test_all()
        if ended:
            self.log.write(event="end", **ended)

    def _check_prefix(self, last: int) -> None:
        """Fail now if the weights could not be saved after the training. Raises SpecError or WriteError."""
        if self.prefix:
            snapshots.check_prefix(self.prefix, last)
            if self.log.path is None:
                self.log = self._new_log(self.prefix)
        elif self.spec.snapshot:
            raise self.spec.error(
                "snapshot", "there is no snapshot_prefix, and no solver file to name it after"
            )
        elif self.spec.snapshot_after_train:
            logger.warning("No snapshot_prefix in the solver spec: nothing will be saved of this training")

    def _new_log(self, prefix: str) -> TrainingLog:
        return TrainingLog(prefix, self._start_event, self.listeners)

    def _start_event(self) -> dict[str, Any]:
        return {
            "iteration": self.iter,
            "run": self.run,
            "resumed": self._resumed,
            "weights": self._weights,
            "net": self.net.name,
            "losses": self._losses(),
            "seed": self.seed,
            "solver": self._text,
            "net_spec": self._net_text,
        }

    def _losses(self) -> dict[str, float]:
        weights: dict[str, float] = {}
        for net in (self.net, *self.test_nets):
            weights |= loss_weights(net)
        return weights

    @shown_in_notebook()
    def step(self, iterations: int = 1) -> None:
        """Train for some iterations. Raises TrainingError if the loss becomes nan or infinite."""
        last = self.iter + iterations
        clock = _Clock(self.iter)
        self.stopped_early = False
        if not self._updates and iterations:
            self.log.start()  # now, so that even a run that is killed at once leaves a trace
            for problem in untrained(self.net):
                logger.warning(problem)
        with self.net.setting.device.entered():
            while self.iter < last and not self.stopped_early:
                self._step(clock, last)
                show_how_far(self.iter, last)
                self._answer_request()
            self._look()

    def _step(self, clock: _Clock, last: int) -> None:
        spec = self.spec
        if self._test_is_due():
            self._look()
            self.test_all()
            agreed = self._agreed_request()
            self._request = max(agreed, self._request, key=REQUESTS.index)  # answered at the iteration's end
            if agreed == "stop":
                return
        shown = bool(spec.display) and self.iter % spec.display == 0
        self.net.debug_info = shown and spec.debug_info
        self.net.setting.progress = self._progress()
        self.net.clear_param_diffs()
        loss = self._accumulate()
        if self.plateaus.windows:
            loss = to_host(loss)  # which waits for the device: the rate depends on it
        self.losses.append(loss)
        is_cheap = shown or self.net.setting.device.kind == "cpu"
        if is_cheap or not self._updates or self.iter % LOOK_EVERY == LOOK_EVERY - 1:
            self._look()
        if self.plateaus.windows and self.plateaus.see(self.smoothed_loss(), self.iter):
            lowest, passed = self.plateaus.lowest, self.plateaus.passed
            self._tell("Iteration %d, plateau %d: the lowest loss was %.6g", self.iter, passed, lowest)
        rate = self.learning_rate()
        if shown:
            self._show(clock, last, rate)
        params = self._trained_params() if shown and self.log_norms else []
        if params:
            list(self.exchange.averaged())  # the norms are those of the means
        norms = StepNorms(params, spec.iter_size) if params else None
        self.apply_update(rate)
        if norms is not None:
            self.log.write(event="norms", iteration=self.iter - 1, params=norms.after_update())
        if spec.snapshot and self.iter % spec.snapshot == 0:
            self.snapshot()

    def learning_rate(self, iteration: int | None = None) -> float:
        """The rate of an iteration, by default of the next one, after the plateaus that there were."""
        rate = learning_rate(self.spec, self.iter if iteration is None else iteration)
        return rate * self.plateaus.factor(self.spec.gamma)

    def _accumulate(self) -> Array:
        """Run forward and backward ``iter_size`` times; return the mean loss, a 0-d array on the device.

        It is the mean over all ranks; their gradients begin to travel in the last backward.
        """
        losses = []
        for number in range(1, self.spec.iter_size + 1):
            is_last = number == self.spec.iter_size
            with self.net.lock:
                self.net.run_forward()
                losses.append(self.net.loss())
                if is_last:
                    mean = self._start_mean(sum(losses[1:], losses[0]) / self.spec.iter_size)
                    self.exchange.begin()
                shows_norms = self.net.debug_info  # of each rank's own gradients: they are sent afterwards
                travels = is_last and not shows_norms
                self.net.run_backward(done=self.exchange.layers_done if travels else None)
        with self.exchange.waiting():
            return mean()

    def _start_mean(self, loss: Array) -> Callable[[], Array]:
        """Start the mean over all ranks of a number; a function that waits for it."""
        if self.communicator.size == 1:
            return lambda: loss
        total = self.net.setting.device.xp.asarray(loss).reshape(1) / self.communicator.size
        pending = self.communicator.start_sum(total)

        def wait() -> Array:
            pending.wait()
            mean: Array = total[0]
            return mean

        return wait

    def apply_update(self, rate: float) -> None:
        """Clip, average and regularize the gradients, turn them into updates by the rule, and subtract these.

        Gradients that have not been averaged over the ranks are averaged first.

        Afterwards the ``diff`` of each parameter holds its update, and ``iter`` is one higher, as in Caffe.
        """
        with self.net.setting.device.entered():
            arriving = (param for param in self.exchange.averaged() if param.lr_mult)
            clip = None
            if self.spec.clip_gradients >= 0:  # by the norm of all together
                params = [*arriving]
                clip, arriving = self._clip_factor(params), (param for param in params)
            for param in arriving:
                w, g = param.blob.stored, param.blob.stored_diff
                update(self.rule, w, g, tuple(self.history[param.key]), self._step_of(param, rate, clip))
        self.iter += 1
        self._updates += 1
        self.exchange.begin()  # a script may find and apply the next gradients by itself

    def _step_of(self, param: LearnableParam, rate: float, clip: Array | None) -> UpdateStep:
        spec = self.spec
        return UpdateStep(
            rate=rate * param.lr_mult,
            iteration=self.iter,
            decay=spec.weight_decay * param.decay_mult,
            is_l1=spec.regularization_type == "L1",
            batches=spec.iter_size,
            clip=clip,
        )

    def _clip_factor(self, params: list[LearnableParam]) -> Array:
        """The factor that brings the norm of all gradients down to ``clip_gradients``."""
        limit = self.spec.clip_gradients
        xp = self.net.setting.device.xp
        squares = sum(xp.vdot(p.blob.stored_diff, p.blob.stored_diff) for p in params)
        norm = xp.maximum(xp.sqrt(squares), np.finfo(np.float32).tiny)
        factor: Array = xp.minimum(1, limit / norm).astype(norm.dtype).reshape(1)
        self.communicator.broadcast(factor)  # on CPUs of several kinds sums are rounded differently
        return factor

    def _zeros_like(self, param: LearnableParam) -> Array:
        zeros: Array = self.net.setting.device.xp.zeros(param.blob.shape, param.blob.dtype)
        return zeros

    def _trained_params(self) -> list[LearnableParam]:
        return [p for p in self.net.learnable if p.lr_mult]

    # -- tests and progress ----------------------------------------------------------------------------

    def _test_is_due(self) -> bool:
        spec = self.spec
        due = spec.test_interval and self.iter % spec.test_interval == 0
        return bool(due and spec.test_iter and (self.iter > 0 or spec.test_initialization))

    def test_all(self) -> list[dict[str, np.ndarray]]:
        """Run each test net for its ``test_iter`` batches; log and return the mean of each output."""
        return [self._test(i) for i in range(len(self.test_nets)) if self._request != "stop"]

    def _test(self, number: int) -> dict[str, np.ndarray]:
        net, batches = self.test_nets[number], self.spec.test_iter[number]
        net.setting.progress = self._progress()
        self._tell("Iteration %d, Testing net (#%d)", self.iter, number)
        result = score(net, batches, lambda _: self._request != "stop", self.spec.ap_version)
        if result is None:
            self._tell("Test stopped before it was done")
            return {}
        per_class = result.precisions if self.spec.show_per_class_result else {}
        names = names_of_labels(net) if per_class else {}
        for line in (*precision_lines(per_class, names), *output_lines(net, result.outputs, "Test")):
            self._tell(line)
        if self.spec.test_compute_loss:
            self._tell("    Test loss: %.6g", result.loss)
        shown = {"average_precisions": per_class} if per_class else {}
        self.log.write(event="test", iteration=self.iter, net=number, outputs=_plain(result.outputs), **shown)
        return result.outputs

    def _progress(self) -> float:
        """How far the training has come: the share of ``max_iter`` that is done, 0 without one."""
        return self.iter / self.spec.max_iter if self.spec.max_iter else 0.0

    def smoothed_loss(self) -> float:
        """The mean loss over the last ``average_loss`` iterations. Waits for the device."""
        return float(sum(float(loss) for loss in self.losses) / max(1, len(self.losses)))

    def _show(self, clock: _Clock, last: int, rate: float) -> None:
        loss, speed = self.smoothed_loss(), clock.speed(self.iter)
        outputs = {name: to_host(self.net.blobs[name].data) for name in self.net.outputs}
        shown = Shown(
            self.iter, loss, rate, speed, last - self.iter, self.spec.display,
            [*output_lines(self.net, outputs, "Train")],
        )  # fmt: skip
        for line in self.lines(shown):
            self._tell(line)
        self.log.write(event="train", iteration=self.iter, loss=loss, lr=rate, outputs=_plain(outputs))
        if not self._is_warned and (problem := self._weights_problem()):
            self._is_warned = True
            logger.warning(
                "Iteration %d: %s: training has diverged, whatever the loss: stop it, and lower base_lr (%g)",
                self.iter, problem, self.spec.base_lr,
            )  # fmt: skip

    def _show_end(self) -> dict[str, Any]:
        """Show the last loss, and the last rate; return these for the log. Nothing where no iteration was run."""
        if not self.losses:
            return {}
        loss, rate = self.smoothed_loss(), self.learning_rate(max(0, self.iter - 1))
        if self.spec.display:
            for line in self.lines(Shown(self.iter, loss, rate, 0.0, 0, self.spec.display, [])):
                self._tell(line)
        return {"iteration": self.iter, "loss": loss, "lr": rate}

    def _look(self) -> None:
        """Check that the last loss is finite. On a GPU this waits for it."""
        if self.losses:
            self._check_loss(float(self.losses[-1]))

    def _check_loss(self, loss: float) -> None:
        if np.isfinite(loss):
            return
        if self._updates:
            self.log.write(event="end", iteration=self.iter, loss=None)
        problem = f"iteration {self.iter}: the loss is {loss}"
        if self._updates:
            raise self._diverged(problem)
        found = self.communicator.gather(first_not_finite(self.net))
        ranks = [f" (rank {rank})" for rank in range(len(found))] if len(found) > 1 else [""]
        first = next((name + rank for name, rank in zip(found, ranks, strict=True) if name), "")
        raise of_all_ranks(
            TrainingError(
                f"{problem}, and no update was made yet: it is the data, the weights or their fillers"
                + (f"; the first that is not finite is {first}" if first else "")
                + ("; an earlier snapshot may be sound" if self.iter else "")
            )
        )

    def _diverged(self, problem: str) -> TrainingError:
        saved = f", but the last, of iteration {self._saved_at}, may have gone too far"
        error = TrainingError(
            f"{problem}; training has diverged: lower base_lr ({self.spec.base_lr:g}), or set clip_gradients; "
            f"earlier snapshots are untouched{saved if self._saved_at > 0 else ''}"
        )
        return of_all_ranks(error)

    def _check_weights(self) -> None:
        """Raise TrainingError if an update has made a parameter nan or infinite."""
        if problem := self._weights_problem():
            raise self._diverged(f"iteration {self.iter}: {problem}, so there is no snapshot")

    def _weights_problem(self) -> str:
        """Which parameter is nan or infinite; "" if none is. Waits for the device."""
        for layer, blobs in self.net.params.items():
            for i, blob in enumerate(blobs):
                if not is_finite(self.net, blob):
                    return f"parameter {i} of layer '{layer}' is not finite"
        return ""

    # -- snapshots -------------------------------------------------------------------------------------

    def request(self, action: str) -> None:
        """Ask for a "snapshot" or a "stop" at the end of the current iteration; safe in a signal handler."""
        if self._request != "stop":  # which no later request may cancel
            self._request = action

    def _agreed_request(self) -> str:
        """What all ranks do now: stop if one of them is asked for that, or else a snapshot.

        What a signal asks for meanwhile is kept for the next time.
        """
        own, self._request = self._request, ""
        with self.exchange.waiting():
            return REQUESTS[self.communicator.highest(REQUESTS.index(own))]

    def _answer_request(self) -> None:
        request = self._agreed_request()
        self.stopped_early = request == "stop"
        if request and self.iter != self._saved_at:
            self._save("this state")

    def _save(self, what: str) -> None:
        """Take a snapshot, or log why not: a request for one must not end the training."""
        if self.communicator.from_root(bool(self.prefix)):
            self.snapshot()
        else:
            logger.warning("No snapshot_prefix in the solver spec, so nothing is saved of %s", what)

    def snapshot(self) -> Path:
        """Write weights and state to ``<prefix>_iter_<n>.npz`` and ``.solverstate.npz``, atomically.

        Returns the path of the state. Raises WriteError, SpecError without a prefix, and TrainingError if the loss
        or a weight is not finite. All ranks take part; rank 0 writes.
        """
        with self.net.setting.device.entered():
            self._check_loss(self.smoothed_loss())
            self.communicator.on_root(self._check_can_save)
            if not are_in_step(self._trained_params(), self.communicator):
                self._share()
            self.last_saved = self.communicator.from_root(snapshots.later_than(self.last_saved))
            state = self.state_dict()
            path = self.communicator.on_root(lambda: self._write_snapshot(state))
        self._saved_at = self.iter
        self._tell("Snapshot to %s", path)
        self.log.write(event="snapshot", iteration=self.iter, file=str(path))
        return path

    def _check_can_save(self) -> None:
        if not self.prefix:
            raise self.spec.error(
                "snapshot_prefix", "required for snapshots; give a path and the start of a name"
            )
        self._check_weights()

    def _write_snapshot(self, state: Mapping[str, Any]) -> Path:
        return snapshots.write(state, self.net, self.prefix, self.spec.snapshot_diff)

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to continue, bit for bit, as if it had not stopped; except for the weights.

        ``history`` holds copies of the update rule's arrays, by parameter, and ``exchange`` those of gradients of
        low rank: rank 0 has them for all. All other values can be written as JSON. ``ranks`` is what other
        ranks have of their own. All ranks ask for it together.
        """
        of_nets = self.communicator.gather(self.net.state_dict())
        kept = {"history": self.history, "exchange": self.exchange.state()}
        return {
            "type": self.spec.type,
            "iter": self.iter,
            "run": self.run,
            "saved": self.last_saved,
            "seed": self.seed,
            "losses": [float(loss) for loss in self.losses],
            "plateaus": self.plateaus.state_dict(),
            **{name: _copies(arrays) if self.communicator.is_root else {} for name, arrays in kept.items()},
            "net": of_nets[0],
            "ranks": of_nets[1:],
            "class_names": self.net.class_names,
            "test_nets": [net.state_dict() for net in self.test_nets],
        }

    def load_state_dict(self, state: Mapping[str, Any], weights: str | Path | None = None) -> None:
        """Continue from what ``state_dict`` returned, with the weights in a file or, by default, those of the net.

        Nothing changes unless all of it fits. Raises TrainingError for the state of another solver type or net, and
        WeightError.
        """
        if state["type"] != self.spec.type:
            raise TrainingError(
                f"state of solver type {state['type']:.60}, but the spec has {self.spec.type}"
            )
        if shapes_of(state["history"]) != shapes_of(self.history):
            raise TrainingError(f"state of another net than '{self.net.name}': other parameters are trained")
        nets, states = [self.net, *self.test_nets], [self._own_state(state), *state["test_nets"]]
        states = states[: len(nets)]  # rank 0 alone has test nets
        plateaus = Plateaus(self.plateaus.windows, state.get("plateaus"))
        before = [net.state_dict() for net in nets]
        try:
            for net, its in zip(nets, states, strict=True):
                net.load_state_dict(its)
            if weights is not None:
                self.net.copy_from(weights)
        except Exception:
            for net, its in zip(nets, before, strict=True):
                net.load_state_dict(its)
            raise
        self._set_history(state["history"])  # everything was checked: from here on nothing fails
        self.exchange.restore(state.get("exchange", {}))
        self.losses = deque(state["losses"], maxlen=self.spec.average_loss)
        self.plateaus = plateaus
        self.iter, self.seed = state["iter"], state["seed"]
        self.run, self.last_saved = state["run"], state["saved"]

    def _own_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """What a state has of this rank's net. A rank that was not there begins with random numbers of its own."""
        of_nets = [state["net"], *state.get("ranks", ())]
        rank = self.communicator.rank
        return of_nets[rank] if rank < len(of_nets) else {**of_nets[0], "rng": None}

    def _set_history(self, history: Mapping[str, Sequence[np.ndarray]]) -> None:
        for key, arrays in self.history.items():
            for target, array in zip(arrays, history[key], strict=True):
                target[...] = self.net.setting.device.put(array, target.dtype)

    def restore(self, path: str | Path, weights: str | Path | None = None) -> None:
        """Continue from a ``.solverstate.npz``, or from Caffe's ``.solverstate`` or ``.solverstate.h5``.

        A state of Caffe names its weights; ``weights`` replaces them. Raises TrainingError or WeightError if the
        state or its weights do not fit. All ranks take part; rank 0 reads.
        """
        with self.net.setting.device.entered():
            like = self.state_dict()
            state = self.communicator.on_root(lambda: self._restore(path, weights, like))
            self.communicator.together(lambda: self._follow(state, path))
            self._share()
        self._resumed = str(path)
        self.log.write(event="resume", iteration=self.iter, run=self.run, file=str(path))
        self._tell("Resumed from %s at iteration %d", path, self.iter)

    def _restore(
        self, path: str | Path, weights: str | Path | None, like: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Read and take over a state; return what other ranks need of it beside arrays."""
        if is_foreign_state(path):
            self._restore_from_caffe(path, weights)
            return {"iter": self.iter, "plateaus": self.plateaus.state_dict()}
        if weights is not None:
            raise TrainingError(
                f"{path}: has weights of its own; only a state of Caffe (.solverstate) takes others"
            )
        state, own_weights = snapshots.read(path, like, self.net.params)
        before, now = 1 + len(state.get("ranks", ())), self.communicator.size
        if before != now:
            logger.warning(
                "%s: a snapshot of %d ranks, and now there are %d: it goes on where the images were read up to, "
                "with another number of them in an iteration",
                path, before, now,
            )  # fmt: skip
        with snapshots.understanding(path):
            self.load_state_dict(state, own_weights)
        return {**state, "history": {}, "exchange": {}, "test_nets": []}

    def _follow(self, state: dict[str, Any], path: str | Path) -> None:
        """On other ranks than rank 0: take over the state that it has read; ``_share`` brings the arrays."""
        if self.communicator.is_root:
            return
        if "net" in state:
            with snapshots.understanding(path):
                self.load_state_dict({**state, "history": self.history})
        else:
            self.losses.clear()
            self.plateaus = Plateaus(self.plateaus.windows, state["plateaus"])
        self.iter = state["iter"]

    def _restore_from_caffe(self, path: str | Path, weights: str | Path | None) -> None:
        """Take over iteration, history and weights. Caffe keeps a history of untrained parameters, too."""
        state = read_foreign_state(path)
        params = self.net.learnable
        history = state.history_for([p.blob.shape for p in params], self.rule.histories)
        weights = weights or state.find_weights()
        snapshots.check_has_layers(weights, {p.key.rpartition("/")[0] for p in params})
        self._tell("Weights from %s: %s", weights, self.net.copy_from(weights))
        self._weights.append(str(weights))
        self._set_history({param.key: arrays for param, arrays in zip(params, history, strict=True)})
        self.losses.clear()
        self.iter = state.iter
        self.plateaus = Plateaus(self.plateaus.windows, {"passed": state.current_step, "since": state.iter})
        passed = steps_passed(self.spec.stepvalue, state.iter - 1)
        if self.spec.lr_policy == "multistep" and passed != state.current_step:
            logger.warning(
                "%s: had passed %d stepvalues, by this spec it would be %d; the learning rate follows this spec",
                path,
                state.current_step,
                passed,
            )

    def __repr__(self) -> str:
        last, name = self.spec.max_iter, self.net.name or Path(self.net.spec.where.file).name
        whole = f" of {last:,}" if last is not None else ""
        loss = f", loss {self.smoothed_loss():.6g}" if self.losses else ""
        rate = self.learning_rate()
        return shown(
            f"Solver of '{named(name)}': {self.spec.type}, iteration {self.iter:,}{whole}, rate {rate:.6g}{loss}"
        )

    def _repr_html_(self) -> str | None:
        return html_of(self)

    def close(self) -> None:
        """Close the data layers' files, threads and the log; so does the end of ``with Solver(…) as solver``."""
        for net in (self.net, *self.test_nets):
            net.close()
        self.log.close()

    def __enter__(self) -> Solver:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _text_of(spec: SolverSpec | NetSpec) -> str:
    """The text of the file that a spec comes from; "" where there is none."""
    file = Path(spec.where.file)
    return read_spec(file)[1] if file.is_file() else ""


def _copies(arrays: Mapping[str, Sequence[Array]]) -> dict[str, list[np.ndarray]]:
    return {key: [np.array(to_host(array)) for array in values] for key, values in arrays.items()}


def _plain(outputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Outputs as values for JSON, without large ones; null for nan and infinity, which JSON does not have."""
    small = {name: array for name, array in outputs.items() if array.size <= 1000}
    return {name: np.where(np.isfinite(array), array, NO_NUMBER).tolist() for name, array in small.items()}


class _Clock:
    """Measures iterations per second since it was last asked."""

    def __init__(self, iteration: int) -> None:
        self.iteration, self.time = iteration, time.perf_counter()

    def speed(self, iteration: int) -> float:
        now = time.perf_counter()
        speed = (iteration - self.iteration) / max(now - self.time, 1e-9)
        self.iteration, self.time = iteration, now
        return speed
