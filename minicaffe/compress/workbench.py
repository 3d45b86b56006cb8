"""A trained net on the bench: the original, a copy whose layers can be approximated, batches to fit factors to.

The copy has dense layers with approximated weights in them, so that trying a rank needs no new net; and it has a
bias in every layer that may be approximated, for the means that the factors miss.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from minicaffe.compress import moments
from minicaffe.compress.batches import Batch, draw, run
from minicaffe.compress.fitting import Fit, fit, fit_basis, fit_data
from minicaffe.compress.suitable import PARAM_OF_TYPE, chosen_steps
from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import DataError, SpecError, WeightError
from minicaffe.files.spec_formats import load_net
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.param import LowRankParam
from minicaffe.low_rank.products import cost_of_rank
from minicaffe.low_rank.schemes import ChannelScheme, Scheme, schemes
from minicaffe.ops.convolution.dense import DenseConvolution
from minicaffe.spec.net import LayerSpec, NetSpec, ParamSpec
from minicaffe.train.scoring import first_not_finite, scores_not_finite

CALIBRATION_BATCHES = 10
DATA_BASES = ("DATA", "BASIS")  # of target data: its principal components; chosen for the responses


@dataclass(frozen=True, order=True)
class LayerRank:
    """How one layer is approximated: ``scheme`` is CHANNEL, SPATIAL, or a basis of the data, DATA or BASIS."""

    scheme: str
    rank: int


Plan = Mapping[str, LayerRank]  # layer names to ranks; a layer that is not in it stays dense


@dataclass(frozen=True)
class Measured:
    """Mean accuracy and loss over some batches."""

    accuracy: float
    loss: float


@dataclass
class Candidate:
    """A layer that may be approximated: its dense product, its weights' schemes, its multiply-adds per image."""

    name: str
    product: DenseConvolution
    schemes: dict[str, Scheme]
    cost: int = field(init=False)

    def __post_init__(self) -> None:
        self.cost = self.product.geometry.multiply_adds

    def scheme(self, name: str) -> Scheme:
        """The scheme of that name; a basis of the data has the two stages of CHANNEL."""
        return self.schemes["CHANNEL" if name in DATA_BASES else name]

    def full_rank(self, scheme: str) -> int:
        """The rank that loses nothing."""
        shape = self.scheme(scheme).matrix_shape
        return shape[1] if scheme in DATA_BASES else min(shape)

    def part_of_rank(self, scheme: str, fraction: float) -> int:
        """A fraction of the full rank, at least 1."""
        return max(1, round(fraction * self.full_rank(scheme)))

    def share(self, choice: LayerRank) -> float:
        """The multiply-adds at a rank as a share of the dense layer's."""
        return min(1.0, choice.rank * cost_of_rank(self.product, self.scheme(choice.scheme)))

    def rank_for(self, scheme: str, share: float) -> int:
        """The largest rank that costs at most this share, at least 1."""
        fitting = int(share / cost_of_rank(self.product, self.scheme(scheme)) * (1 + 1e-12))
        return max(1, min(fitting, self.full_rank(scheme)))


class Workbench:
    """``net`` is a spec with data layers, a loss and an Accuracy; ``weights`` its trained weights.

    ``names`` are those of the layers that may be approximated, or patterns, as in ``chosen_steps``. ``calibration``
    batches are drawn from the training data. ``asymmetric``: layers are fitted to the original's responses, given
    the inputs that they get from approximated layers. ``adds_biases``: layers without a bias get one. Raises
    SpecError if the net has no such layers, WeightError for weights that are not finite, DataError.
    """

    def __init__(
        self,
        net: str | Path | NetSpec,
        weights: str | Path,
        names: Iterable[str] | None = None,
        calibration: int = CALIBRATION_BATCHES,
        asymmetric: bool = True,
        adds_biases: bool = True,
    ) -> None:
        spec = shuffled(without_low_rank(net if isinstance(net, NetSpec) else load_net(net)))
        self.spec = spec
        self.original = Net(spec, weights=weights, phase="test", seed=0)
        not_finite = first_not_finite(self.original)
        if not_finite is not None:
            raise WeightError(
                f"{weights}: {not_finite} has nan or infinite numbers; "
                "give weights of a training that did not diverge"
            )
        self.candidates = _candidates(self.original, names)
        with_bias = self.candidates if adds_biases else ()
        self.trial = Net(with_biases(spec, with_bias), phase="test", seed=0)
        self.asymmetric = asymmetric
        self.calibration = calibration_batches(spec, calibration)
        self.symmetric = moments.of_layers(self.original, list(self.candidates), self.calibration)
        self._fitted: dict[tuple[object, ...], Fit] = {}
        self._asymmetric: dict[tuple[object, ...], moments.Moments] = {}
        self.put_back()

    def close(self) -> None:
        """Close the data layers' files and threads."""
        self.original.close()
        self.trial.close()

    def put_back(self) -> None:
        """Give the trial net the original weights."""
        for name, blobs in self.trial.params.items():
            for blob, its in zip(blobs, self.original.params[name], strict=False):
                blob.data[...] = its.data
            if len(blobs) > len(self.original.params[name]):
                blobs[-1].data[...] = 0

    def approximate(self, plan: Plan) -> dict[str, Fit]:
        """Put a plan's approximations into the trial net, fitted in the order of the layers; return the factors."""
        self.put_back()
        fits: dict[str, Fit] = {}
        history: tuple[object, ...] = ()
        for name in self.candidates:
            if name not in plan:
                continue
            history = (*history, name, plan[name])
            fits[name] = self._fit(name, plan[name], history)
            self._put(name, plan[name], fits[name])
        return fits

    def fit_alone(self, name: str, choice: LayerRank) -> Fit:
        """The factors of one layer when no other is approximated."""
        return self._fit(name, choice, (name, choice))

    def _fit(self, name: str, choice: LayerRank, history: tuple[object, ...]) -> Fit:
        """The factors of one layer. ``history``: names and ranks of all layers approximated so far, it last."""
        scheme = self.candidates[name].scheme(choice.scheme)
        key = history if self.asymmetric else (name, choice)
        if key not in self._fitted:
            seen = self._moments(name, history[:-2])
            w, *bias = (blob.data for blob in self.original.params[name])
            has_bias = len(self.trial.params[name]) > 1
            if isinstance(scheme, ChannelScheme) and choice.scheme == "DATA":
                found = fit_data(scheme, seen, choice.rank, w, *bias)
            elif isinstance(scheme, ChannelScheme) and choice.scheme == "BASIS":
                found = fit_basis(scheme, seen if has_bias else seen.uncentred(), choice.rank, w)
            else:
                found = fit(scheme, seen if has_bias else seen.uncentred(), choice.rank, w)
            self._fitted[key] = found
        return self._fitted[key]

    def _moments(self, name: str, before: tuple[object, ...]) -> moments.Moments:
        if not self.asymmetric or not before:
            return self.symmetric[name]
        key = (*before, name)
        if key not in self._asymmetric:
            self._asymmetric.clear()  # each has matrices of K × K: the latest is enough
            self._asymmetric[key] = moments.between(self.original, self.trial, name, self.calibration)
        return self._asymmetric[key]

    def _put(self, name: str, choice: LayerRank, found: Fit) -> None:
        scheme = self.candidates[name].scheme(choice.scheme)
        layer = next(layer for layer in self.trial.layers if layer.name == name)
        w = layer.blobs[0].data
        w[...] = scheme.weights(found.left @ found.right).reshape(w.shape)
        for bias in layer.blobs[1:]:
            bias.data[...] = found.bias

    @cached_property
    def accuracy_top(self) -> str:
        """The name of the blob with the accuracy. Raises SpecError if there is none."""
        return _accuracy_top(self.original)

    def measure(self, batches: Sequence[Batch], net: Net | None = None) -> Measured:
        """Accuracy and loss of the trial net, or another, over batches. Raises DataError for nan."""
        net = net or self.trial
        accuracy = loss = 0.0
        for batch in batches:
            run(net, batch)
            not_finite = scores_not_finite(net, net.loss())
            if not_finite is not None:
                raise DataError(
                    f"{self.spec.where.file}: {not_finite} is not finite, so there is no accuracy to keep"
                )
            accuracy += float(to_host(net.blobs[self.accuracy_top].data))
            loss += float(net.loss())
        return Measured(accuracy / len(batches), loss / len(batches))

    def share(self, plan: Plan) -> float:
        """The candidates' multiply-adds under a plan, as a share of what they are dense."""
        cost = sum(c.cost * (c.share(plan[n]) if n in plan else 1) for n, c in self.candidates.items())
        return cost / sum(c.cost for c in self.candidates.values())


def rank_of(layer: LowRankLayer) -> LayerRank:
    """How a net's spec says that a layer is approximated. Raises SpecError where its rank is not fixed."""
    param = layer.low_rank.param
    if param.has("energy"):
        raise param.error(
            "energy", "is found in every factorization anew; to apply ranks, give rank or flops"
        )
    return LayerRank("BASIS" if param.target == "DATA" else param.scheme, layer.low_rank.rank)


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
    params = (
        layer.param[:1] + layer.param[2:] if low_rank.factored else layer.param
    )  # of two factors the first
    return params[: 1 + getattr(layer, PARAM_OF_TYPE[layer.type]).bias_term]


def with_biases(spec: NetSpec, names: Iterable[str]) -> NetSpec:
    """A copy of the spec in which these layers have a bias."""
    spec = copy.deepcopy(spec)
    for layer in spec.layer or spec.layers:
        if layer.name in names:
            getattr(layer, PARAM_OF_TYPE[layer.type]).bias_term = True
    return spec


def _accuracy_top(net: Net) -> str:
    tops = [layer.spec.top[0] for layer in net.layers if layer.type == "Accuracy"]
    if not tops or not any(any(layer.spec.loss_weight) for layer in net.layers):
        raise SpecError(f"{net.spec.where.file}: needs an Accuracy layer and a loss in phase TEST; add them")
    return tops[0]


def _candidates(net: Net, names: Iterable[str] | None) -> dict[str, Candidate]:
    """The layers that may be approximated, in the net's order."""
    return {step.layer.name: candidate(step) for step in chosen_steps(net, names)}


def candidate(step: Step) -> Candidate:
    """A layer that ``why_dense`` has nothing against, with the schemes that it can have."""
    product, _, _ = moments.dense_product(step.layer, step.bottom[0], step.top[0])
    geometry = product.geometry
    ways = ["CHANNEL"] if geometry.is_pointwise else list(schemes)
    made = {way: schemes[way](geometry.weight_shape, geometry.group) for way in ways}
    return Candidate(step.layer.name, product, made)
