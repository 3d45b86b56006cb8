"""BatchNorm and Scale folded into the Convolution or InnerProduct before them, for a net that is only used.

At TEST a BatchNorm is (y − μ) / √(v + ε) and a Scale γ·y + β, with one coefficient for each channel, so they go
into the rows of the weights and the bias: with s = γ / √(v + ε),

    w' = s · w        b' = s · (b − μ) + β
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicaffe.compress.workbench import PARAM_OF_TYPE
from minicaffe.core.layer import Layer, layer_classes
from minicaffe.core.net import Net
from minicaffe.device.array import Array
from minicaffe.errors import SpecError
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.scale import Scale
from minicaffe.low_rank.data_basis import DataBasis
from minicaffe.low_rank.factors import FactoredWeights
from minicaffe.spec.edit import remove_layers, set_layer_fields
from minicaffe.spec.net import parse_net


@dataclass
class Fold:
    """A layer with weights, and the layers after it that go into it."""

    layer: Layer
    followers: list[Layer]

    @property
    def top(self) -> str:
        """The blob that the last of them makes."""
        return self.followers[-1].spec.top[0]


def find(net: Net) -> list[Fold]:
    """What can be folded: chains in which nobody else reads a blob in between."""
    folds = []
    for i, layer in enumerate(net.layers):
        if layer.type not in PARAM_OF_TYPE:
            continue
        shares = any(param.name for param in layer.spec.param)
        if len(layer.spec.top) > 1 or layer.axis != 1 or shares or not _rows_can_scale(layer):
            continue
        followers = _followers(net, i)
        if followers:
            folds.append(Fold(layer, followers))
    return folds


def _rows_can_scale(layer: Layer) -> bool:
    """Not where weights are truncated again: the rows of a truncation are not the truncation of the rows."""
    low_rank = getattr(layer, "low_rank", None)
    return low_rank is None or isinstance(low_rank.factors, (FactoredWeights, DataBasis))


def _followers(net: Net, index: int) -> list[Layer]:
    """The BatchNorm and Scale layers that follow a layer, one reading the other."""
    found: list[Layer] = []
    blob, start = net.layers[index].spec.top[0], index + 1
    while True:
        readers = _readers(net, blob, start)
        if not readers or not _is_affine(net.layers[readers[0]]):
            return found
        first = net.layers[readers[0]]
        if first.spec.top[0] != blob and len(readers) > 1:
            return found  # somebody else reads what would no longer be there
        found.append(first)
        blob, start = first.spec.top[0], readers[0] + 1


def _readers(net: Net, blob: str, start: int) -> list[int]:
    """The layers from ``start`` on that read a blob, up to the one that writes it anew."""
    readers = []
    for i in range(start, len(net.layers)):
        if blob in net.layers[i].spec.bottom:
            readers.append(i)
        if blob in net.layers[i].spec.top:
            break
    return readers


def _is_affine(layer: Layer) -> bool:
    """Whether a layer, at TEST, multiplies each channel with a number and adds another."""
    if isinstance(layer, BatchNorm):
        return layer.uses_global_stats
    param = layer.spec.scale_param if isinstance(layer, Scale) else None
    return param is not None and len(layer.spec.bottom) == 1 and param.axis == 1 and param.num_axes == 1


def affine(layer: Layer) -> tuple[Array, Array]:
    """The coefficients (s, t) of a BatchNorm or Scale at TEST: y = s · x + t, one of each for a channel."""
    if isinstance(layer, BatchNorm):
        mean, variance, total = (blob.data for blob in layer.blobs)
        share = (total != 0) / (total + (total == 0))
        s = 1 / layer.xp.sqrt(variance * share + layer.param.eps)
        return s, -s * mean * share
    s = layer.blobs[0].data
    return s, layer.blobs[1].data if len(layer.blobs) > 1 else 0 * s


def fold(path: str | Path, text: str, net: Net) -> tuple[str, Net]:
    """The text of a folded net's spec, and the folded net; ``text`` is that of ``net`` (phase TEST, with weights).

    Raises SpecError where there is nothing to fold, or a layout that cannot be edited.
    """
    folds = find(net)
    if not folds:
        raise SpecError(
            f"{path}: no BatchNorm or Scale follows a Convolution or InnerProduct; nothing to fold"
        )
    changes = {found.layer.name: _changes(found) for found in folds}
    gone = [layer.name for found in folds for layer in found.followers]
    for name, bottom in _kept_bottoms(net, gone, {found.layer.name: found.top for found in folds}):
        changes.setdefault(name, {})["bottom"] = bottom
    text = remove_layers(set_layer_fields(text, changes, str(path)), gone, str(path))
    state = net.state
    folded = Net(parse_net(text, str(path)), phase="test", level=state.level, stages=state.stage)
    folded.preparation = net.preparation
    for name, blobs in folded.params.items():
        arrays = [blob.data for blob in net.params[name]]
        for found in folds:
            if found.layer.name == name:
                arrays = _folded_arrays(found, arrays)
        for blob, array in zip(blobs, arrays, strict=True):
            blob.data[...] = array
    return text, folded


def _kept_bottoms(net: Net, gone: Sequence[str], new_tops: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Bottoms to be written out: those of layers whose default would be another without the layers that go."""
    before = after = ""  # the first top of the layer before, as it was and as it will be
    for spec in net.spec.layers_in(net.state):
        top = spec.top[0] if spec.top else spec.name
        if spec.name in gone:
            before = top
            continue
        if not spec.has("bottom") and layer_classes[spec.type].bottoms[0] > 0 and before != after:
            yield spec.name, before
        before, after = top, new_tops.get(spec.name, top)


def _changes(fold: Fold) -> dict[str, Any]:
    spec = fold.layer.spec
    changes: dict[str, Any] = {}
    if not getattr(spec, PARAM_OF_TYPE[spec.type]).bias_term:
        changes[f"{PARAM_OF_TYPE[spec.type]}.bias_term"] = None  # true is the default
    if spec.top[0] != fold.top:
        changes["top"] = fold.top
    return changes


def _folded_arrays(fold: Fold, arrays: list[Array]) -> list[Array]:
    """The layer's parameters with those of its followers in them."""
    layer, has_bias = fold.layer, getattr(fold.layer.spec, PARAM_OF_TYPE[fold.layer.type]).bias_term
    low_rank = getattr(layer, "low_rank", None)
    last = 1 if low_rank is not None and isinstance(low_rank.factors, FactoredWeights) else 0
    arrays = list(arrays)
    if not has_bias:
        arrays.insert(last + 1, layer.xp.zeros(layer.num_output, layer.dtype))
    for follower in fold.followers:
        s, t = affine(follower)
        transposed = layer.type == "InnerProduct" and layer.spec.inner_product_param.transpose
        rows = s if transposed else s.reshape(-1, *[1] * (arrays[last].ndim - 1))
        arrays[last] = arrays[last] * rows
        arrays[last + 1] = arrays[last + 1] * s + t
    return arrays
