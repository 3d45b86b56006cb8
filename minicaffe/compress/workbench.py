"""A trained net on the bench: the original, a copy whose layers can be approximated, batches to fit factors to.

The copy has dense layers with approximated weights in them, so that trying a rank needs no new net; and it has a
bias in every layer that may be approximated, for the means that the factors miss.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np

from minicaffe.compress import moment_sums
from minicaffe.compress.answers import score_of
from minicaffe.compress.batches import Batch, batches_in_epoch, draw, run
from minicaffe.compress.fitting import layer_fits, missed_at_all_ranks
from minicaffe.compress.layer_fits import Fit, LayerFits
from minicaffe.compress.moments import Moments
from minicaffe.compress.plan import LayerRank, Plan, candidate
from minicaffe.compress.score import Measured, measure
from minicaffe.compress.suitable import PARAM_OF_TYPE, chosen_steps, layers_behind
from minicaffe.compress.trained import GIVE_ITS_OWN, trained
from minicaffe.core.net import Net
from minicaffe.device.array import Array
from minicaffe.errors import DataError, WeightError, counted
from minicaffe.files.spec_formats import open_net
from minicaffe.low_rank.param import LowRankParam
from minicaffe.spec.net import LayerSpec, NetSpec, ParamSpec
from minicaffe.train.scoring import first_not_finite

CALIBRATION_BATCHES, FEWEST_BATCHES = 10, 3


class Images(Protocol):
    """Where batches of images come from: a net's data layers, or files. No image is drawn twice."""

    batch_size: int

    @property
    def has_labels(self) -> bool:
        """Whether batches have ``LABELS``."""

    @property
    def available(self) -> int:
        """How many batches can still be drawn."""

    def draw(self, count: int, /) -> list[Batch]:
        """The next ``count`` batches, or fewer where images cannot be read. DataError if there are not so many."""


class OwnImages:
    """What the data layers of a net bring in one epoch, to measure with."""

    has_labels = False  # those that there are, its own layers read

    def __init__(self, net: Net) -> None:
        self.net = net
        self._taken = 0
        source = next((step for step in net.steps if step.layer.spec.brings_data), net.steps[0])
        self.batch_size = source.top[0].shape[0]

    @property
    def available(self) -> int:
        """The batches that are left of the epoch."""
        return batches_in_epoch(self.net) - self._taken

    def draw(self, count: int) -> list[Batch]:
        """The next batches. Raises DataError if no data layer brings so many."""
        if count > self.available:
            raise DataError(
                f"{self.net.spec.where.file}: {counted(count, 'test batch')} wanted, but of an epoch "
                f"{'is' if self.available == 1 else 'are'} {self.available} left; take fewer, or smaller ones"
            )
        self._taken += count
        return draw(self.net, count)


class Workbench:
    """``net`` is a spec (a file of any format, or a NetSpec), ``weights`` its trained weights.

    ``names`` are the layers that may be approximated, or patterns of their names (default: all convolutions that
    can be), but for those of ``without``. ``calibration`` batches (default: ten, or as many as take ``most_work``
    multiply-adds, but three) are drawn from the training data of the net's data layers, or from ``images``, which
    makes the images of a net without data layers (default: at most half of them). ``accuracy`` names the layer that
    scores the net (``score_of``). ``asymmetric``: layers are fitted to the original's responses, given the inputs
    that they get from approximated layers.

    Layers that the score does not depend on stay dense, and the others get a bias where they have none; not so if
    ``ranks_are_given``, by a spec. Raises SpecError if the net has no such layers, WeightError for weights that
    lack a layer, do not fit or are not finite, DataError.
    """

    def __init__(
        self,
        net: str | Path | NetSpec,
        weights: str | Path,
        names: Sequence[str] | None = None,
        calibration: int | None = None,
        asymmetric: bool = True,
        *,
        most_work: float = math.inf,
        ranks_are_given: bool = False,
        without: Sequence[str] = (),
        accuracy: str | None = None,
        images: Callable[[Net], Images] | None = None,
    ) -> None:
        given = net if isinstance(net, NetSpec) else open_net(net)
        spec = shuffled(without_low_rank(given))
        self.spec = spec
        self.original = trained(spec, weights, _advice(given, ranks_are_given))
        not_finite = first_not_finite(self.original)
        if not_finite is not None:
            raise WeightError(
                f"{weights}: {not_finite} has nan or infinite numbers; "
                "give weights of a training that did not diverge"
            )
        self.images = images(self.original) if images else OwnImages(self.original)
        self.score = score_of(self.original, accuracy, self.images.has_labels)
        scored = None if ranks_are_given else layers_behind(self.original, self.score.reads)
        steps = chosen_steps(self.original, names, without, scored)
        self.candidates = {step.layer.name: candidate(step) for step in steps}
        self.trial = Net(with_biases(spec, () if ranks_are_given else self.candidates), phase="test", seed=0)
        self.asymmetric = asymmetric
        work = self.images.batch_size * sum(each.cost for each in self.candidates.values())
        usual = int(min(CALIBRATION_BATCHES, max(FEWEST_BATCHES, most_work / work)))
        if images:
            usual = max(1, min(usual, self.images.available // 2))
            self.calibration = self._drawn(calibration or usual)
        else:
            self.calibration = calibration_batches(spec, calibration or usual)
        self.symmetric = moment_sums.of_layers(self.original, list(self.candidates), self.calibration)
        self._alone: dict[tuple[str, str], LayerFits] = {}
        self._fitted: dict[tuple[object, ...], Fit] = {}
        self._changed = set(self.trial.params)  # layers of the trial net that differ from the original's
        self.put_back()

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the data layers' files and threads."""
        self.original.close()
        self.trial.close()

    def put_back(self) -> None:
        """Give the trial net the original weights."""
        for name in self._changed:
            blobs = self.trial.params[name]
            for blob, its in zip(blobs, self.original.params[name], strict=False):
                blob.data[...] = its.data
            if len(blobs) > len(self.original.params[name]):
                blobs[-1].data[...] = 0
        self._changed.clear()

    def approximate(self, plan: Plan) -> dict[str, Fit]:
        """Put a plan's approximations into the trial net, fitted in the order of the layers; return the factors."""
        self.put_back()
        fits: dict[str, Fit] = {}
        before: tuple[object, ...] = ()
        for name in self.candidates:
            if name not in plan:
                continue
            fits[name] = self._fit(name, plan[name], before)
            self.put_fit(name, plan[name], fits[name])
            before = (*before, name, plan[name])
        return fits

    def alone(self, name: str, way: str) -> LayerFits:
        """The factors of one layer at every rank, when no other is approximated."""
        if (name, way) not in self._alone:
            self._alone[name, way] = self._fits(name, way, self.symmetric[name])
        return self._alone[name, way]

    def missed(self, ways: Sequence[str]) -> dict[tuple[str, str], np.ndarray]:
        """What each layer alone misses of its responses' variance at every rank, in the ways that it has."""
        wanted = [(name, way) for name, each in self.candidates.items() for way in ways if each.has(way)]
        return missed_at_all_ranks({key: self.alone(*key) for key in wanted})

    def _fit(self, name: str, choice: LayerRank, before: tuple[object, ...]) -> Fit:
        """The factors of one layer. ``before``: names and ranks of all layers approximated so far."""
        if not self.asymmetric:
            before = ()
        key = (*before, name, choice)
        if key not in self._fitted:
            self._fitted[key] = self._fits_after(before, name, choice.scheme).fit(choice.rank)
        return self._fitted[key]

    def _fits_after(self, before: tuple[object, ...], name: str, way: str) -> LayerFits:
        """The fits of a layer, with the inputs that it has from the trial net if that is approximated before it."""
        if not before:
            return self.alone(name, way)
        return self._fits(name, way, moment_sums.between(self.original, self.trial, name, self.calibration))

    def _fits(self, name: str, way: str, seen: Moments) -> LayerFits:
        w, *bias = (blob.data for blob in self.original.params[name])
        if way != "DATA" and len(self.trial.params[name]) == 1:  # no bias makes up for means
            seen = seen.uncentred()
        return layer_fits(way, self.candidates[name].scheme(way), seen, w, *bias)

    def put_fit(self, name: str, choice: LayerRank, found: Fit) -> None:
        """Put what factors make together into a layer of the trial net."""
        scheme = self.candidates[name].scheme(choice.scheme)
        self.put(name, scheme.weights(found.left @ found.right), found.bias)

    def put(self, name: str, weights: Array, bias: Array | None = None) -> None:
        """Put approximated weights into a layer of the trial net; ``put_back`` takes them out."""
        self._changed.add(name)
        w, *its_bias = self.trial.params[name]
        w.data[...] = weights.reshape(w.shape)
        if bias is not None and its_bias:
            its_bias[0].data[...] = bias

    def draw(self, count: int) -> list[Batch]:
        """Batches to measure with, with what the dense net says of them. Raises DataError."""
        batches = self._drawn(count)
        for batch in batches:
            run(self.original, batch)
            self.score.remember(self.original, batch)
        return batches

    def _drawn(self, count: int) -> list[Batch]:
        """At least one batch. Raises DataError if there is none."""
        batches = self.images.draw(count)
        if not batches:
            raise DataError(
                f"{self.spec.where.file}: no batch of its images can be read; give other pictures"
            )
        return batches

    def measure(self, batches: Sequence[Batch], net: Net | None = None) -> Measured:
        """The score of the trial net, or another, over batches that ``draw`` made. Raises DataError for nan."""
        return measure(self.score, net or self.trial, batches)


def calibration_batches(spec: NetSpec, count: int) -> list[Batch]:
    """Batches of a net's training data, in random order. Raises SpecError or DataError."""
    with closing(Net(shuffled(spec), phase="train", seed=0)) as trainer:
        return draw(trainer, count)


def shuffled(spec: NetSpec) -> NetSpec:
    """A copy of the spec with its data in random order: a file sorted by class gives batches of one class."""
    spec = copy.deepcopy(spec)
    for layer in spec.layer or spec.layers:
        for name in layer.fields:
            message = getattr(layer, name)
            if "shuffle" in getattr(message, "fields", {}):
                message.shuffle = True
    return spec


def _advice(given: NetSpec, ranks_are_given: bool) -> str:
    """What to do about weights that do not fit a net without its ``low_rank_param``."""
    if ranks_are_given:
        return "give the weights of the dense net"
    if any(layer.has("low_rank_param") for layer in given.layer or given.layers):
        return "the net is of low rank already: start from the dense net and its weights"
    return GIVE_ITS_OWN


def without_low_rank(spec: NetSpec) -> NetSpec:
    """A copy of the spec with all its layers dense."""
    spec = copy.deepcopy(spec)
    for layer in spec.layer or spec.layers:
        if "low_rank_param" in layer.fields:
            layer.param = dense_params(layer)
            layer.drop("low_rank_param")
    return spec


def dense_params(layer: LayerSpec) -> list[ParamSpec]:
    """The ``param`` messages of a layer without its ``low_rank_param``: for the weights, and for the bias."""
    low_rank = layer.find_message(LowRankParam)
    if low_rank is None:
        return layer.param
    # of two factors the first
    params = layer.param[:1] + layer.param[2:] if low_rank.factored else layer.param
    return params[: 1 + getattr(layer, PARAM_OF_TYPE[layer.type]).bias_term]


def with_biases(spec: NetSpec, names: Iterable[str]) -> NetSpec:
    """A copy of the spec in which these layers have a bias."""
    spec = copy.deepcopy(spec)
    for layer in spec.layer or spec.layers:
        if layer.name in names:
            getattr(layer, PARAM_OF_TYPE[layer.type]).bias_term = True
    return spec
