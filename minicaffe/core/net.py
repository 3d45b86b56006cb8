"""Net: a graph of layers, run forward and backward (Caffe's ``Net``, with pycaffe's names)."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minicaffe.core import debug, graph, weights
from minicaffe.core.blob import Blob, advice_on_shape
from minicaffe.core.by_name import ByName
from minicaffe.core.chains import Chain, find_chains, find_training_chains
from minicaffe.core.display import Drawing, draw_net, html_of
from minicaffe.core.graph import Step
from minicaffe.core.label_names import LabelNames
from minicaffe.core.layer import Layer, NetSetting, class_of, layer_classes
from minicaffe.core.learnable_param import LearnableParam, count_numbers
from minicaffe.core.only_input import as_input, check_only_input, names_in
from minicaffe.core.prepared import PreparedPass
from minicaffe.core.shared_memory import SharedMemory
from minicaffe.core.units import Unit
from minicaffe.data.preparation import Preparation
from minicaffe.device.array import CPU, Array, current_device, rng_state, set_rng_state, to_host
from minicaffe.device.communicator import ALONE, Communicator
from minicaffe.device.workers import one_blas_thread
from minicaffe.errors import MinicaffeError, ShapeError, SpecError, listing, named, shown
from minicaffe.files.spec_formats import has_weights, net_of_text, open_net
from minicaffe.files.weight_formats import SavedLayer, SavedNet, format_to_write
from minicaffe.files.weight_reader import WeightReader
from minicaffe.spec import trust
from minicaffe.spec.mapping import net_of_mapping
from minicaffe.spec.net import LayerSpec, NetSpec, NetState, ParamSpec, make_state

logger = logging.getLogger("minicaffe")
SEEDS_APART = 0x9E3779B97F4A7C15  # between ranks; seeds that a user would try are closer together


class Net:
    """A net built from a spec, ready to run.

    ``spec`` is the path of a YAML file, of Caffe's .prototxt, or of a .caffemodel (a net with its weights), a dict
    with what such a file says, or a ``NetSpec`` (``from_text`` takes the text itself); ``weights`` the path of a
    file to start from: .npz, .caffemodel or .caffemodel.h5; ``phase`` "train" or "test"; ``level`` and ``stages``
    choose among ``include``/``exclude`` rules, beside the stages that the spec's own ``state`` has (its ``phase``
    and ``level`` do not count, as in Caffe); ``dtype`` float32, or float64 for gradient checks; ``seed`` starts its
    random numbers (by default a new one); ``class_names`` are the classes that label 0, 1, … are trained to be: a
    folder of images is numbered by them.
    With ``share_memory`` (at test) blobs that a forward pass does not need at the same time lie in the same memory:
    of those between inputs and outputs only the ones that ``forward`` is asked for can be read after it.
    With a ``communicator`` the net is one of several that train together, each with its share of the data
    (docs/distributed.md).
    A spec that is not ``trusted`` runs no module (layers of type Python), and writes no file (HDF5Output) outside
    the working directory and the folder of the spec.

    ``blobs`` maps names to Blobs, in the order in which they are made; ``params`` maps layer names to their
    parameter Blobs; ``layers`` lists the layers, ``layer_dict`` has them by name, ``steps`` lists them with their
    bottoms and tops. ``inputs`` and ``outputs`` are names of blobs, outputs sorted; ``reached`` names the bottoms
    that the last backward gave a gradient. ``preparation`` says how pictures are prepared: as the data layers do
    it, or else as the weight file says.

    Threads take turns, one pass at a time: ``forward``, given the inputs, returns the outputs that belong to
    them. A thread that reads or writes blobs itself holds ``lock`` then and during the pass: ``with net.lock: …``.
    To run passes at the same time, make a net for each thread; with ``share_with`` they have the same weights.

    Raises SpecError, ShapeError, WeightError or DataError. Warns of layers that the weight file does not have.
    """

    _classes: Mapping[str, type[Layer]] = layer_classes  # by type; a sketch of a net has others too

    def __init__(
        self,
        spec: str | Path | Mapping[str, Any] | NetSpec,
        weights: str | Path | None = None,
        phase: str = "test",
        *,
        level: int = 0,
        stages: Iterable[str] = (),
        dtype: Any = np.float32,
        seed: int | None = None,
        class_names: Sequence[str] = (),
        trusted: bool = True,
        share_memory: bool = False,
        communicator: Communicator = ALONE,
    ) -> None:
        self.spec = _spec_of(spec)
        self.name = self.spec.name
        self.trusted = trusted
        self.state = make_state(phase, level, stages)
        self.state.stage = [*self.spec.state.stage, *self.state.stage]
        self.debug_info = self.spec.debug_info
        self.seed = secrets.randbits(63) if seed is None else seed
        device = current_device()
        folder = str(Path(self.spec.where.file).parent)
        self.setting = NetSetting(
            self.state.phase,
            device,
            np.dtype(dtype),
            device.rng(self.seed),
            self.seed,
            folder,
            trust.current() if trusted else trust.SAFE,
            LabelNames(class_names),
            communicator=communicator,
        )
        if self.state.phase == "TEST":
            training = NetState(phase="TRAIN", level=self.state.level, stage=self.state.stage)
            self.setting.label_names.training_layers = self.spec.layers_for(training)
        owner = f"net '{named(self.name)}'"
        self.blobs: ByName[Blob] = ByName(owner=owner, what="blob")
        self.params: ByName[list[Blob]] = ByName(owner=owner, what="parameters of a layer")
        self.layers: list[Layer] = []
        self.layer_dict: ByName[Layer] = ByName(owner=owner, what="layer")
        self.steps: list[Step] = []
        self.learnable: list[LearnableParam] = []
        self.reached: set[str] = set()
        self._planned_for: tuple[set[str], int, set[str]] | None = None  # where gradients start
        self._kept_apart: set[str] = set()  # "data", "diff"
        self.lock = Turn()
        specs = graph.connect(
            self.spec.layers_in(self.state), self._classes, self.spec.layers_left_out(self.state)
        )
        if weights is None and isinstance(spec, (str, Path)) and has_weights(spec):
            weights = spec
        self.setting.layers, self.setting.weights = specs, weights
        with device.entered():
            for layer_spec in specs:
                self._append(layer_spec)
            if communicator.rank:  # all begin with the same parameters; what is drawn from here on differs
                self.setting.rng = device.rng((self.seed + communicator.rank * SEEDS_APART) % 2**63)
        self.inputs = [n for layer in self.layers if layer.type == "Input" for n in layer.spec.top]
        self.outputs = graph.find_outputs(self.steps)
        self.gradient_starts = graph.find_gradient_starts(self.steps, self.outputs)
        graph.find_needs(self.steps, self.spec.force_backward)
        find = find_chains if self.state.phase == "TEST" else find_training_chains
        self._chains: dict[int, Chain | Unit] = find(self.steps)
        self._units = {  # by the index of the last step
            first + len(unit.steps) - 1: unit
            for first, unit in self._chains.items()
            if isinstance(unit, Unit)
        }
        # where a pass is in the middle of what another rank may run as one
        units = ((last - len(unit.steps) + 1, last) for last, unit in self._units.items())
        self._within_units = {index for first, last in units for index in range(first + 1, last + 1)}
        can_prepare = self.state.phase == "TEST" and device == CPU
        self._prepared = PreparedPass(self.steps if can_prepare else [])
        self._ran_as_chain: dict[int, int] = {}  # how many layers did, by the first of them
        self._inputs_of_chains: dict[int, Array] = {}  # what that one read, where scripts write
        self._overwritten = graph.overwritten_tops(specs, self._classes)
        has_loss = any(any(layer_spec.loss_weight) for layer_spec in specs)
        if self.state.phase == "TRAIN" and (has_loss or self.spec.force_backward):
            self._check_overwritten()
        self._shared_memory = self._shares_memory() if share_memory else None
        own = (layer.preparation_of_pictures() for layer in self.layers)
        self.preparation = next((found for found in own if found is not None), None)
        self._prepares_itself = self.preparation is not None
        if weights is not None and (problem := self.copy_from(weights).problem(weights)):
            logger.warning("%s: the fillers' values stay there", problem)

    @classmethod
    def from_text(cls, text: str, weights: str | Path | None = None, phase: str = "test", **more: Any) -> Net:
        """A net from the text of its spec, YAML or prototxt. All else is given as for ``Net``. Raises SpecError."""
        return cls(net_of_text(text), weights, phase, **more)

    def _append(self, spec: LayerSpec) -> None:
        """Add one layer: connect it, make its parameters, and infer the shapes of its tops."""
        layer = class_of(spec)(spec, self.setting)
        bottom = [self.blobs[name] for name in spec.bottom]
        for name in spec.top:
            if name not in self.blobs:
                self.blobs[name] = Blob((), self.setting.dtype, self.setting.device)
        top = [self.blobs[name] for name in spec.top]
        with _place_of(layer):
            layer.setup(bottom, top)
            layer.reshape(bottom, top)
        self.layers.append(layer)
        self.layer_dict[layer.name] = layer
        self.steps.append(Step(layer, bottom, top, _shapes_of(bottom, top)))
        layer.bottom_blobs, layer.top_blobs = bottom, top
        if layer.name not in layer.spec.top:
            self.blobs.absent[layer.name] = (
                f"; layer '{layer.name}' writes {listing(layer.spec.top) or 'none'}"
            )
        self._add_params(layer)
        if layer.blobs:
            self.params[layer.name] = layer.blobs
        else:
            self.params.absent[layer.name] = f": a {layer.type} has none"

    def _add_params(self, layer: Layer) -> None:
        """List the layer's parameters for the solver, and share those whose name is taken already."""
        specs = layer.spec.param
        if len(specs) > len(layer.blobs):
            raise layer.spec.error(
                "param", f"{len(specs)} given, but the layer has {len(layer.blobs)} parameters"
            )
        for i, blob in enumerate(layer.blobs):
            spec = specs[i] if i < len(specs) else ParamSpec()
            owner = next((p for p in self.learnable if spec.name and p.name == spec.name), None)
            if owner is None:
                owner = LearnableParam(blob, spec, f"{layer.name}/{i}")
                self.learnable.append(owner)
            else:
                owner.share_with(blob, spec, layer, i)
        layer.param_propagate_down = [
            (specs[i] if i < len(specs) else ParamSpec()).lr_mult != 0 for i in range(len(layer.blobs))
        ]

    # -- forward ---------------------------------------------------------------------------------------

    def forward(
        self,
        blobs: Sequence[str] | Array | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: Any,
    ) -> dict[str, Array]:
        """Run the layers from ``start`` to ``end`` (names, inclusive; default: all).

        Keyword arguments are first written into the blobs of these names. Returns copies, in Caffe's shapes, of the
        net's outputs (or of the tops of ``end``, if given) and of ``blobs``. Raises ShapeError if an input does not
        have the shape of its blob.

        In place of the list of names, ``blobs`` may be the array of the net's only input. The size of its first
        axis is the net's batch size from then on.
        """
        asked = [] if blobs is None else names_in(blobs)
        if asked is None:
            check_only_input(blobs, self.name, self.inputs, inputs)
            (only,) = self.inputs
            with self.lock:
                blob, shape = self.blobs[only], self.blobs[only].shape
                given: dict[str, Any] = {only: as_input(blobs, only, blob)}
                blob.reshape(*given[only].shape)
                try:
                    return self.forward(start=start, end=end, **given)
                except ShapeError:  # of a layer that takes no other batch
                    blob.reshape(*shape)
                    raise
        first, last = self.layer_index(start, 0), self.layer_index(end, len(self.layers) - 1)
        names = list(self.layers[last].spec.top) if end is not None else list(self.outputs)
        names += [name for name in asked if name not in names]
        with self.lock, self.setting.device.entered():
            if self._shared_memory is not None:
                self._shared_memory.keep(names)
            for name, value in inputs.items():
                self._set(self.blobs[name], name, value, "data")
            self.run_forward(first, last)
            return {name: _copy(self.blobs[name], self.blobs[name].stored) for name in names}

    def run_forward(self, first: int = 0, last: int | None = None) -> None:
        """Run layers ``first`` to ``last`` (indices, inclusive) forward, and return nothing."""
        last = len(self.layers) - 1 if last is None else last
        with self.lock, self.setting.device.entered(), one_blas_thread(), self._memory_from(first):
            self._keep_apart("data", first, last)
            while first <= last:
                first += (
                    self._run_prepared(first, last) or self._run_chain(first, last) or self._run_layer(first)
                )

    def _run_prepared(self, first: int, last: int) -> int:
        """Run what is prepared from here on, if something is; return how many layers ran."""
        count = 0 if self.debug_info else self._prepared.run(first, last)
        if count > 1:
            self._note_chain(first, count)
        return count

    def _run_layer(self, index: int) -> int:
        """Run one layer; return that number."""
        step = self.steps[index]
        self._fit(step)
        if not _is_empty(step):
            step.layer.forward(step.bottom, step.top)
        shapes = _shapes_of(step.bottom, step.top)
        if shapes != step.shapes:  # forward too may reshape, as Filter does
            step.shapes = shapes
        step.has_run = True
        if not _is_empty(step):
            self._prepared.note(index, 1, lambda: step.layer.prepare(step.bottom, step.top, None))
        if self.debug_info:
            debug.show_forward(step.layer, step.top)
        return 1

    def _run_chain(self, first: int, last: int) -> int:
        """Run as one the chain that starts here, if one does; return how many layers ran."""
        chain = self._chains.get(first)
        if chain is None or first == last or self.debug_info:
            return 0
        steps = chain.steps[: last - first + 1]
        for step in steps:
            self._fit(step)
        if any(_is_empty(step) for step in steps):
            return 0
        count = chain.run(len(steps))
        for step in steps[:count]:
            step.has_run = True
        if count and self.state.phase == "TEST":
            self._note_chain(first, count)
            if isinstance(chain, Chain):
                self._prepared.note(first, count, partial(chain.prepare, count))
        return count

    def _note_chain(self, first: int, count: int) -> None:
        """Note that so many layers ran as one, and keep a copy of their input.

        A script may write the next one there before backward.
        """
        self._ran_as_chain[first] = count
        step = self.steps[first]
        if step.layer.spec.bottom[0] in self.inputs:
            stored, kept = step.bottom[0].stored, self._inputs_of_chains.get(first)
            if kept is None or kept.shape != stored.shape:
                self._inputs_of_chains[first] = stored.copy()
            else:
                kept[...] = stored

    def _end_chains(self) -> None:
        """Run the layers of a test net's chains one by one, again and from now on: they save what backward reads.

        They read the inputs that they read before. What is in their tops stays, as a script may have written it.
        """
        if self.state.phase != "TEST":
            return
        ran, self._ran_as_chain, self._chains = self._ran_as_chain, {}, {}
        self._prepared.clear()
        for first, count in sorted(ran.items()):
            bottom, top = self.steps[first].bottom[0], self.steps[first].top[0]
            found, present = top.stored.copy(), None
            kept = self._inputs_of_chains.get(first)
            if kept is not None and kept.shape == bottom.stored_shape:
                present = bottom.stored.copy()
                bottom.stored[...] = kept
            try:
                self.run_forward(first, first + count - 1)
            finally:
                top.stored[...] = found
                if present is not None:
                    bottom.stored[...] = present
        self._inputs_of_chains.clear()

    def _shares_memory(self) -> SharedMemory:
        """Let blobs share memory in forward. Raises SpecError in phase TRAIN."""
        if self.state.phase == "TRAIN":
            raise SpecError(
                f"{self.spec.where}: share_memory, but in phase TRAIN backward reads all blobs; use phase test"
            )
        weighted = [
            name
            for layer in self.layers
            for name, weight in zip(layer.spec.top, layer.spec.loss_weight, strict=True)
            if weight
        ]
        return SharedMemory(self.setting, self.steps, self.blobs, [*self.outputs, *weighted])

    @property
    def shared_bytes(self) -> int:
        """The bytes in which blobs share memory, as they are since the last forward; 0 without ``share_memory``."""
        return 0 if self._shared_memory is None else self._shared_memory.nbytes

    def _memory_from(self, first: int) -> AbstractContextManager[None]:
        """The blobs' memory in a pass that begins with layer ``first``."""
        if self._shared_memory is None:
            return nullcontext()
        if first > 0:
            raise MinicaffeError(
                f"forward: start='{self.layers[first].name}', but the blobs before it are gone, as the net shares "
                "memory; run it from its first layer, or make it without share_memory"
            )
        if not self._shared_memory.fits:
            self.reshape()
        return self._shared_memory.in_use()

    def _fit(self, step: Step) -> None:
        """Reshape a layer whose blobs have other shapes than the last time, or that always asks for it."""
        shapes = _shapes_of(step.bottom, step.top)
        fits = shapes == step.shapes
        if fits and not step.layer.reshapes_always:
            return
        if not fits:
            self._prepared.drop(step)
        last, step.shapes = step.shapes, None  # a reshape that fails may leave the layer half changed
        with _place_of(step.layer):
            step.layer.reshape(step.bottom, step.top)
        shapes = _shapes_of(step.bottom, step.top)
        step.has_run = step.has_run and fits and shapes == last
        step.shapes = shapes

    def reshape(self) -> None:
        """Propagate shapes through all layers, after a blob was reshaped."""
        with self.lock, self.setting.device.entered():
            for step in self.steps:
                self._fit(step)

    def loss(self) -> Array:
        """Σ loss_weight · top of the last forward, as a 0-d array on the device."""
        weighted = [
            (weight, top)
            for step in self.steps
            for weight, top in zip(step.layer.spec.loss_weight, step.top, strict=True)
            if weight
        ]
        with self.setting.device.entered():
            total: Array = self.setting.device.xp.zeros((), self.setting.dtype)
            for weight, top in weighted:
                total = total + weight * top.stored.sum()
        return total

    # -- backward --------------------------------------------------------------------------------------

    def backward(self, start: str | None = None, end: str | None = None, **diffs: Any) -> dict[str, Array]:
        """Run the layers backward, from ``start`` (a name; default: the last) down to ``end``, inclusive.

        Gradients start at the losses, with their weights; at every other output whose ``diff`` was written or is
        given here as a keyword argument; and likewise at the tops of ``start``. Gradients of parameters are added
        to what is there: call ``clear_param_diffs`` first. Returns copies of the gradients of the inputs, if they
        were computed (``force_backward`` in the spec asks for them).
        """
        first, last = self.layer_index(end, 0), self.layer_index(start, len(self.layers) - 1)
        with self.lock, self.setting.device.entered():
            for name, value in diffs.items():
                self._set(self.blobs[name], name, value, "diff")
            tops = self.layers[last].spec.top if start is not None else ()
            self._check_starts(diffs, tops)
            self.run_backward(first, last, tops)
            reached = (name for name in self.inputs if name in self.reached)
            return {name: _copy(self.blobs[name], self.blobs[name].stored_diff) for name in reached}

    def run_backward(
        self,
        first: int = 0,
        last: int | None = None,
        starts: Sequence[str] = (),
        done: Callable[[int], None] | None = None,
    ) -> None:
        """Run layers ``last`` down to ``first`` (indices, inclusive) backward and return nothing.

        ``starts`` are tops of ``last`` at which gradients start if their ``diff`` was written. ``done`` is called
        whenever the gradients of all layers from an index on are there.
        """
        last = len(self.layers) - 1 if last is None else last
        if self._shared_memory is not None:
            raise MinicaffeError(
                "backward: a net that shares memory has not kept its data; make it without share_memory"
            )
        with self.lock, self.setting.device.entered(), one_blas_thread():
            self._end_chains()
            self._keep_apart("diff", first, last)
            self._plan_backward(last, {name for name in starts if self.blobs[name].has_diff})
            index = last
            while index >= first:
                index -= self._backward_unit(first, index) or self._backward_step(self.steps[index])
                if done is not None and index + 1 not in self._within_units:
                    done(index + 1)
            if self.debug_info and first == 0 and last == len(self.layers) - 1:
                debug.show_norms(self.learnable)

    def _keep_apart(self, what: str, first: int, last: int) -> None:
        """Before a part of the layers runs: blobs that other layers write keep what they have."""
        is_part = last - first < len(self.layers) - 1 and self._shared_memory is None
        if is_part and what not in self._kept_apart:
            self._kept_apart.add(what)
            for blob in self.blobs.values():
                blob.keep_apart(what)

    def trained_layers(self) -> list[str]:
        """The names of the layers that are trained: a gradient reaches them, and some ``lr_mult`` is not 0."""
        self._plan_backward()
        layers = (step.layer for step in self.steps if step.is_active)
        return [layer.name for layer in layers if any(layer.param_propagate_down)]

    def run_missing_forward(self, first: int, last: int) -> None:
        """Run forward the layers from ``first`` to ``last`` that backward needs and that have not run yet."""
        self._plan_backward()
        for i in range(first, last + 1):
            if self.steps[i].is_active and not self.steps[i].has_run:
                self.run_forward(i, i)

    def _backward_unit(self, first: int, last: int) -> int:
        """Run backward as one the unit that ends here, if one does; return how many layers ran."""
        unit = self._units.get(last)
        if unit is None or len(unit.steps) > last - first + 1 or self.debug_info:
            return 0
        if not all(step.is_active and not _is_empty(step) for step in unit.steps):
            return 0
        for step in unit.steps:
            self._refuse_overwritten(step.layer)
        return unit.run_backward()

    def _backward_step(self, step: Step) -> int:
        """Run one layer backward, if gradients reach it; return that number."""
        layer = step.layer
        if not step.is_active:
            return 1
        self._refuse_overwritten(layer)
        if not step.has_run:
            raise MinicaffeError(
                f"backward: layer '{layer.name}' has not run forward at this size; run forward first"
            )
        for weight, blob in zip(layer.spec.loss_weight, step.top, strict=True):
            if weight:
                blob.stored_diff.fill(weight)
        if not _is_empty(step):
            layer.backward(step.top, step.needs, step.bottom)
        else:
            for needed, blob in zip(step.needs, step.bottom, strict=True):
                if needed:
                    blob.clear_diff()
        if self.debug_info:
            debug.show_backward(layer, step.needs, step.bottom)
        return 1

    def _check_overwritten(self) -> None:
        """Raise SpecError if a layer's backward would read a top that another layer overwrites."""
        for step in self.steps:
            if step.has_gradients:
                self._refuse_overwritten(step.layer)

    def _refuse_overwritten(self, layer: Layer) -> None:
        if layer.name in self._overwritten:
            by, problem = self._overwritten[layer.name]
            raise by.error("top", problem)

    def _plan_backward(self, last: int = 0, tops: set[str] | None = None) -> None:
        """Plan which steps run backward, if gradients start elsewhere than the last time.

        They start at outputs, and at ``tops`` of the layer ``last``.
        """
        starts = {name for name in self.gradient_starts if self.blobs[name].has_diff}
        plan = (starts, last, tops) if tops else (starts, 0, set[str]())
        if plan != self._planned_for:
            self.reached = graph.plan_backward(self.steps, *plan)
            self._planned_for = plan

    def _check_starts(self, diffs: Iterable[str], tops: Sequence[str]) -> None:
        """Raise MinicaffeError for a diff that backward would overwrite, or never read."""
        for name in diffs:
            if name not in self.outputs and name not in tops:
                maker = next(layer.name for layer in reversed(self.layers) if name in layer.spec.top)
                raise MinicaffeError(
                    f"backward: no gradient starts at '{name}', which is no output of net '{self.name}'; "
                    f"start='{maker}' lets it start there"
                )

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to zero."""
        for param in self.learnable:
            param.blob.clear_diff()

    # -- weights ---------------------------------------------------------------------------------------

    def copy_from(self, path: str | Path | WeightReader) -> weights.CopyReport:
        """Copy weights from a file into the layers of the same name, and report which matched and which did not.

        The file is an .npz, or Caffe's .caffemodel or .caffemodel.h5. A reader that is open already is closed.

        Raises WeightError if the file cannot be read, or if its arrays do not fit the layer of their name.
        """
        with self.lock, self.setting.device.entered():
            report = weights.copy_into(self.params, path, self._converters())
            self._parameters_changed()
        report.missing = [name for name in report.missing if self._lacks_numbers(name, report.matched)]
        self._warn_of_other_classes(report)
        self._take_preparation(report)
        return report

    def check_weights(self, path: str | Path) -> weights.CopyReport:
        """What ``copy_from`` would report of a file, by the shapes in it; nothing is copied. Raises WeightError."""
        report = weights.check_fit(self.params, path, self._converters())
        report.missing = [name for name in report.missing if self._lacks_numbers(name, report.matched)]
        return report

    def _converters(self) -> dict[str, weights.Converter]:
        return {layer.name: layer.converter for layer in self.layers}

    def prepare_as(self, preparation: Preparation) -> None:
        """Prepare pictures this way, as the data layers of another net do, whatever weight files say."""
        self.preparation, self._prepares_itself = preparation, True

    def _take_preparation(self, report: weights.CopyReport) -> None:
        """Take the preparation, or the names of classes, from the weight file if the data layers do not say."""
        own, theirs = self.preparation, report.preparation
        if own is None or not self._prepares_itself:
            if theirs is not None or not report.missing:
                self.preparation = theirs
        elif theirs is not None and not report.missing and not own.class_names:
            self.preparation = replace(own, class_names=theirs.class_names)

    def _warn_of_other_classes(self, report: weights.CopyReport) -> None:
        """Warn if the weights were trained on other classes than the folders of this net's images."""
        trained = report.preparation.class_names if report.preparation else ()
        if trained and self.class_names and list(trained) != self.class_names:
            logger.warning(
                "The weights were trained on the classes %s, and the folder here has %s, so labels mean others; "
                "give the spec the folder that was trained on, in phase TRAIN, or the net these class_names",
                listing(trained),
                listing(self.class_names),
            )

    def _lacks_numbers(self, name: str, matched: Iterable[str]) -> bool:
        """Whether a layer missing from the file gets parameters neither from the spec nor from a matched layer."""
        given = {id(blob.data_owner) for other in matched for blob in self.params[other]}
        return not self.layers[self.layer_index(name, 0)].is_given_by_spec and any(
            id(blob.data_owner) not in given for blob in self.params[name]
        )

    def save(self, path: str | Path) -> None:
        """Write all parameters to an .npz file (``<layer>/<index>``), and ``preparation``, atomically.

        A name that ends in .caffemodel or .h5 asks for Caffe's formats (extras ``caffe`` and ``hdf5``). Raises
        WriteError.
        """
        written_in = format_to_write(path)
        written_in.write(self.as_saved(), path)
        if self.preparation is not None and not written_in.keeps_extra:
            logger.info("%s cannot say what pictures go through: %s", path, self.preparation)

    def as_saved(self) -> SavedNet:
        """The net as weight formats write it."""
        layers = [
            SavedLayer(layer.spec, [to_host(blob.values) for blob in self.params.get(layer.name, ())])
            for layer in self.layers
        ]
        return SavedNet(self.name, self.state.phase, layers, self.preparation_arrays())

    def preparation_arrays(self) -> dict[str, np.ndarray]:
        """The arrays that an .npz keeps of ``preparation``, besides the parameters."""
        return {} if self.preparation is None else self.preparation.arrays()

    def share_with(self, other: Net) -> weights.CopyReport:
        """Use the parameters of another net's layers of the same name from now on, and report which matched.

        Raises ShapeError if their shapes differ, or the dtypes of the nets.
        """
        report = weights.CopyReport.of(self.params, other.params, "the other net")
        if self.setting.dtype != other.setting.dtype:
            raise ShapeError(
                f"share_with: a {self.setting.dtype} net and a {other.setting.dtype} net; use one dtype"
            )
        for name in report.matched:
            mine, theirs = ([b.shape for b in net.params[name]] for net in (self, other))
            if mine != theirs:
                raise ShapeError(
                    f"share_with: layer '{name}' has parameters {mine} here and {theirs} there"
                    f"{self._data_that_differs(other)}"
                )
        for name in report.matched:
            for blob, its in zip(self.params[name], other.params[name], strict=True):
                blob.share_data(its)
        self._parameters_changed()
        return report

    def _data_that_differs(self, other: Net) -> str:
        """Which data has another size in the other net, so that parameters differ; "" if none has."""
        for layer in self.layers:
            for name in layer.spec.top if not layer.spec.bottom and not layer.blobs else ():
                its = other.blobs[name].shape[1:] if name in other.blobs else None
                if its is not None and its != self.blobs[name].shape[1:]:
                    sizes = f"{self.blobs[name].shape[1:]} here and {its} there"
                    return f"; '{name}' is {sizes}: give both nets' data one size (crop_size, new_height …)"
        return ""

    def _parameters_changed(self) -> None:
        for layer in self.layers:
            layer.parameters_changed()

    def set_input_arrays(self, data: Any, labels: Any) -> None:
        """Feed these arrays through the net's MemoryData layer (pycaffe's name for it).

        Raises MinicaffeError if the net has no such layer, and DataError if the shapes do not fit.
        """
        layer = next((layer for layer in self.layers if layer.type == "MemoryData"), None)
        if layer is None:
            raise MinicaffeError(f"net '{self.name}' has no MemoryData layer; write into its input blobs")
        layer.set_input_arrays(data, labels)  # type: ignore[attr-defined]  # MemoryData's: core imports no layer

    # -- state -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a snapshot keeps of the net besides its parameters: random numbers and positions in the data."""
        return {
            "seed": self.seed,
            "rng": rng_state(self.setting.rng),
            "layers": {layer.name: layer.state() for layer in self.layers if layer.state()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned. Warns of layers that it has no state of."""
        if state["rng"] is not None:
            set_rng_state(self.setting.rng, state["rng"])
        self.setting.seed = self.seed = state["seed"]
        for layer in self.layers:
            if layer.name in state["layers"]:
                layer.restore(state["layers"][layer.name])
            elif layer.state():
                others = ", ".join(sorted(set(state["layers"]) - {layer.name for layer in self.layers}))
                logger.warning(
                    "%s: the snapshot has no state of this layer%s: it starts from the beginning",
                    layer.spec.where,
                    f" (but one of {others}, which the net has not)" if others else "",
                )

    @property
    def class_names(self) -> list[str]:
        """The names of the classes of the net's images, label 0 first: their folders; [] if there are none."""
        return list(self.setting.label_names.first())

    def draw(
        self,
        path: str | Path | None = None,
        *,
        phase: str | None = None,
        direction: str = "TB",
        unfold: bool = False,
    ) -> Drawing:
        """A drawing of the net, which a notebook shows; with ``path`` also written as .svg, .png or .dot.

        ``phase`` "both" adds the layers that only the other phase has; ``direction`` is "TB" (top to bottom) or
        "LR" (left to right); ``unfold`` draws each of the blocks that a large net repeats. Raises WriteError, or
        SpecError for a name that ends otherwise.
        """
        drawing = draw_net(self, phase=phase, direction=direction, unfold=unfold)
        if path is not None:
            drawing.save(path)
        return drawing

    def close(self) -> None:
        """Close the data layers' files and stop their threads; so does the end of ``with Net(…) as net``."""
        for layer in self.layers:
            layer.close()

    def __repr__(self) -> str:
        name, (count, _) = self.name or Path(self.spec.where.file).name, count_numbers(self.learnable)
        starts = [name for step in self.steps if not step.bottom for name in step.layer.spec.top]
        flow = " → ".join(
            ", ".join(f"{n} {self.blobs[n].shape}" for n in names) for names in (starts, self.outputs)
        )
        return shown(
            f"Net '{named(name)}' ({self.state.phase}): {_count(self.layers)}, {count:,} parameters; {flow}"
        )

    def _repr_html_(self) -> str | None:
        return html_of(self)

    def __enter__(self) -> Net:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _set(self, blob: Blob, name: str, value: Any, what: str) -> None:
        array = self.setting.device.put(value)
        if array.shape != blob.shape:
            raise ShapeError(
                f"{what} for blob '{name}' has shape {array.shape}, the blob {blob.shape}; "
                f"{advice_on_shape(name, array.shape, blob.shape)}"
            )
        (blob.data if what == "data" else blob.diff)[...] = array

    def layer_index(self, name: str | None, default: int) -> int:
        """The index of a layer in ``layers``, or ``default`` for None. Raises MinicaffeError if there is none."""
        return default if name is None else self.layers.index(self.layer_dict[name])


def _copy(blob: Blob, stored: Array) -> Array:
    return blob.logical(stored).copy()


def _spec_of(given: str | Path | Mapping[str, Any] | NetSpec) -> NetSpec:
    if isinstance(given, NetSpec):
        return given
    if isinstance(given, Mapping):
        return net_of_mapping(given)
    if not isinstance(given, (str, os.PathLike)):
        mend = (
            '{"layer": […]} makes one of a list of layers' if isinstance(given, list) else "give one of these"
        )
        raise SpecError(f"a net is a path, a dict or a NetSpec, not a {type(given).__name__}; {mend}")
    return open_net(given)


def _count(layers: Sequence[Layer]) -> str:
    return f"{len(layers)} layer{'s' if len(layers) != 1 else ''}"


class Turn:
    """A lock that the thread that holds it may take again. Copies are free, and so is it in a forked process."""

    def __init__(self) -> None:
        self._process, self._lock = os.getpid(), threading.RLock()

    def __enter__(self) -> None:
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.RLock()
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        return Turn, ()


def _shapes_of(bottom: list[Blob], top: list[Blob]) -> list[tuple[int, ...]]:
    """The shapes that a layer must fit. For a layer without bottoms there are none: the caller sets its tops."""
    return [blob.shape for blob in (*bottom, *top)] if bottom else []


def _is_empty(step: Step) -> bool:
    """Whether there is nothing to compute: a bottom and all tops have an axis of size 0.

    A layer whose bottoms are not empty runs even so: it may reshape its tops, as Filter does.
    """
    return (
        any(0 in blob.shape for blob in step.bottom)
        and bool(step.top)
        and all(0 in blob.shape for blob in step.top)
        and not step.layer.reshapes_always
    )


def expect_net(given: object, function: str) -> None:
    """Raise MinicaffeError if a function was given something else than a Net: its path, for example."""
    if not isinstance(given, Net):
        raise MinicaffeError(
            f"{function}: expected a net, got {given!r:.100}; 'mc.Net(spec, weights)' makes one of its files"
        )


@contextmanager
def _place_of(layer: Layer) -> Iterator[None]:
    """While a layer is set up: errors get its place in the spec, and so do sizes that do not fit in memory."""
    try:
        yield
    except MemoryError as error:
        raise ShapeError(f"{layer.spec.where}: not enough memory ({error}); lower the sizes") from None
    except ShapeError as error:
        place = str(layer.spec.where)
        raise (
            error if str(error).startswith(layer.spec.where.file) else ShapeError(f"{place}: {error}")
        ) from None
