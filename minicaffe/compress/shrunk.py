"""The net that a plan makes: its spec, with ranks and otherwise unchanged, and its weights, factored.

The spec is the original's text with ``low_rank_param: {rank: …, scheme: …, factored: true}`` in the layers of the
plan, and a bias where there was none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicaffe.compress import outputs
from minicaffe.compress.layer_fits import Fit
from minicaffe.compress.plan import DATA_BASES, LayerRank, Plan
from minicaffe.compress.suitable import PARAM_OF_TYPE
from minicaffe.compress.workbench import Workbench, dense_params
from minicaffe.core.net import Net
from minicaffe.device.array import Array
from minicaffe.errors import SpecError
from minicaffe.files.atomic import refuse_overwriting, write_text
from minicaffe.files.spec_formats import load_net, read_yaml
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.spec.edit import set_layer_fields
from minicaffe.spec.net import LayerSpec, NetSpec, ParamSpec, parse_net
from minicaffe.spec.reader import nearest
from minicaffe.train.solver import Solver

logger = logging.getLogger("minicaffe")


def shrunk_text(
    text: str, spec: NetSpec, plan: Plan, kept: Iterable[str] = (), adds_biases: bool = True
) -> str:
    """The text of a net's ``spec`` with a plan in it. Raises SpecError.

    Other layers become dense, but for those in ``kept``, which stay as they are. ``adds_biases``: layers of the
    plan get a bias where they have none.
    """
    path = spec.where.file
    layers = {layer.name: layer for layer in spec.layer or spec.layers}
    check_layers(path, layers, plan)
    changes: dict[str, dict[str, Any]] = {
        name: {"low_rank_param": None, **({"param": _plain(dense_params(x))} if x.param else {})}
        for name, x in layers.items()
        if x.has("low_rank_param") and name not in kept
    }
    changes |= {name: _changes(layers[name], plan[name], adds_biases) for name in plan}
    return set_layer_fields(text, changes, path)


def check_layers(path: str | Path, known: Mapping[str, LayerSpec], wanted: Iterable[str]) -> None:
    """Raise SpecError if a spec lacks a layer that gets a rank, or has one of another type."""
    for name in wanted:
        if name not in known:
            raise SpecError(f"{path}: has no layer '{name}', which gets a rank{nearest(name, known)}")
        if known[name].type not in PARAM_OF_TYPE:
            raise known[name].error("", "gets a rank, but is no Convolution or InnerProduct; rename it")


def _changes(layer: LayerSpec, choice: LayerRank, adds_biases: bool) -> dict[str, Any]:
    if choice.scheme in DATA_BASES:
        how: dict[str, Any] = {"rank": choice.rank, "target": "data"}
    else:
        how = {"rank": choice.rank, "scheme": choice.scheme.lower(), "factored": True}
    changes: dict[str, Any] = {"low_rank_param": how}
    message = PARAM_OF_TYPE[layer.type]
    if adds_biases and not getattr(layer, message).bias_term:
        changes[f"{message}.bias_term"] = None  # true is the default
    if layer.param:
        w, *bias = dense_params(layer)
        changes["param"] = _plain([w, *bias] if choice.scheme in DATA_BASES else [w, w, *bias])
    return changes


def _plain(params: Iterable[ParamSpec]) -> list[dict[str, float]]:
    given = [{name: getattr(x, name) for name in ("lr_mult", "decay_mult") if x.has(name)} for x in params]
    return [{name: int(v) if v == int(v) else v for name, v in values.items()} for values in given]


def write_spec(plan: Plan, net: Path, out: Path) -> None:
    """Write the spec ``net`` with a plan in it, as YAML. Raises SpecError, WriteError."""
    text, _ = _planned(plan, net, out)
    refuse_overwriting([out], [net])
    write_text(out, text)
    logger.info("Wrote %s", out)


@dataclass
class Made:
    """A net with a plan in it and its weights, and the YAML text of its spec; ``read``: the files it is from."""

    net: Net
    text: str
    read: list[str | Path]

    def write(self, out: Path) -> list[Path]:
        """Write it in the form that the ending of ``out`` says (outputs.py); return the files, the net first.

        Raises DataError for a missing package, and WriteError, also where an output is a file that it is from.
        """
        refuse_overwriting(outputs.files_of(out), self.read)
        return outputs.write(self.net, self.text, out)


@contextmanager
def planned_net(bench: Workbench, plan: Plan, net: Path, out: Path) -> Iterator[Made]:
    """The net of a spec in any format, ``net``, with a plan in it, to be written to ``out``. Raises SpecError."""
    text, spec = _planned(plan, net, out)
    with Net(spec, phase="test") as made:
        fill(made, bench.original, bench.approximate(plan))
        yield Made(made, text, [net, *spec.files_named()])


def _planned(plan: Plan, net: Path, out: Path) -> tuple[str, NetSpec]:
    """The YAML text of a net with a plan in it, for the place ``out``, and what it says."""
    text, spec = outputs.yaml_for(net, out)
    text = shrunk_text(text, spec, plan)
    return text, parse_net(text, spec.where.file)


def finetune(solver: str, spec: Path, weights: Path, tuned: Path) -> Net:
    """Train a net's factors as a solver spec says, write them to ``tuned``, and return the net to test them."""
    with Solver(solver, net=parse_net(read_yaml(spec), str(spec))) as trainer:
        trainer.copy_from(weights)
        trainer.solve()
        trainer.net.save(tuned)
    return Net(load_net(spec), weights=tuned, phase="test")


def fill(net: Net, original: Net, fits: Mapping[str, Fit]) -> None:
    """Give a net the weights of the original, and the low-rank layers in ``fits`` their factors and biases."""
    for layer in net.layers:
        arrays = [blob.data for blob in original.params.get(layer.name, ())]
        if isinstance(layer, LowRankLayer) and layer.name in fits:
            arrays = _low_rank_arrays(layer, fits[layer.name], arrays)
        for blob, array in zip(layer.blobs, arrays, strict=True):
            blob.data[...] = array.reshape(blob.shape)
    net.preparation = original.preparation


def _low_rank_arrays(layer: LowRankLayer, found: Fit, arrays: list[Array]) -> list[Array]:
    dense = arrays[:1] if layer.bias_blob is None else [arrays[0], found.bias]
    return layer.low_rank.factors.with_factors(dense, found.left, found.right)
