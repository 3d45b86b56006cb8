"""BatchNorm and Scale folded into the Convolution or InnerProduct before them, for a net that is only used.

At TEST a BatchNorm is (y − μ) / √(v + ε) and a Scale γ·y + β, with one coefficient for each channel, so they go
into the rows of the weights and the bias, and so does a BN, which is both: with s = γ / √(v + ε),

    w' = s · w        b' = s · (b − μ) + β
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minicaffe.compress.suitable import PARAM_OF_TYPE
from minicaffe.core.layer import Layer, LayerTable
from minicaffe.core.net import Net
from minicaffe.device.array import Array
from minicaffe.errors import SpecError
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.bn import BN
from minicaffe.layers.matrix_product import MatrixProduct
from minicaffe.layers.scale import Scale, ScaleParam
from minicaffe.layers.scaled_batch_norm import ScaledBatchNorm
from minicaffe.spec.edit import remove_layers, set_layer_fields
from minicaffe.spec.net import LayerSpec, parse_net

Coefficients = tuple[Array, Array]  # s and t of y = s · x + t, one of each for a channel
affine: LayerTable[Callable[[Any], Coefficients | None]] = LayerTable()


@affine.of("BatchNorm")
def batch_norm(layer: BatchNorm | ScaledBatchNorm) -> Coefficients | None:
    """s = 1 / √(v + ε) and t = −s · μ, where the layer normalizes by the statistics that it holds; NVIDIA's γ and β
    are in s and t, too."""
    if isinstance(layer, ScaledBatchNorm):
        return layer.scale_and_shift()
    if not layer.uses_global_stats:
        return None
    mean, variance, total = (blob.data for blob in layer.blobs)
    share = (total != 0) / (total + (total == 0))
    s = 1 / layer.xp.sqrt(variance * share + layer.param.eps)
    return s, -s * mean * share


@affine.of("BN")
def bn(layer: BN) -> Coefficients | None:
    """As the layer says: by PSPNet's moving statistics, or SegNet's at inference."""
    return layer.scale_and_shift()


@affine.of("Scale")
def scale(layer: Scale) -> Coefficients | None:
    """s = γ and t = β, where they are parameters, and one of each for a channel."""
    param = layer.spec.message(ScaleParam)
    if len(layer.spec.bottom) > 1 or param.axis != 1 or param.num_axes != 1:
        return None
    s = layer.blobs[0].data
    return s, layer.blobs[1].data if len(layer.blobs) > 1 else 0 * s


@dataclass
class Fold:
    """A layer with weights, and the layers after it that go into it, with the coefficients of each."""

    layer: MatrixProduct
    followers: list[tuple[Layer, Coefficients]]

    @property
    def top(self) -> str:
        """The blob that the last of them makes."""
        return self.followers[-1][0].spec.top[0]


def find(net: Net) -> list[Fold]:
    """What can be folded: chains in which nobody else reads a blob in between."""
    folds = []
    for i, layer in enumerate(net.layers):
        if isinstance(layer, MatrixProduct) and _can_take_more(layer) and (found := _followers(net, i)):
            folds.append(Fold(layer, found))
    return folds


def _can_take_more(layer: MatrixProduct) -> bool:
    """Whether a layer's outputs are channels that can be scaled by its weights, which nobody shares."""
    shares = any(param.name for param in layer.spec.param)
    is_plain = layer.type in PARAM_OF_TYPE and len(layer.spec.top) == 1 and layer.axis == 1
    return is_plain and not shares and layer.output_weights is not None


def _followers(net: Net, index: int) -> list[tuple[Layer, Coefficients]]:
    """The affine layers that follow a layer, one reading the other."""
    found: list[tuple[Layer, Coefficients]] = []
    blob, start = net.layers[index].spec.top[0], index + 1
    while True:
        readers = _readers(net, blob, start)
        follower = net.layers[readers[0]] if readers else None
        coefficients = affine[follower.type](follower) if follower and follower.type in affine else None
        if follower is None or coefficients is None:
            return found
        if follower.spec.top[0] != blob and len(readers) > 1:
            return found  # somebody else reads what would no longer be there
        found.append((follower, coefficients))
        blob, start = follower.spec.top[0], readers[0] + 1


def _readers(net: Net, blob: str, start: int) -> list[int]:
    """The layers from ``start`` on that read a blob, up to the one that writes it anew."""
    readers = []
    for i in range(start, len(net.layers)):
        if blob in net.layers[i].spec.bottom:
            readers.append(i)
        if blob in net.layers[i].spec.top:
            break
    return readers


def fold(text: str, net: Net) -> tuple[str, Net]:
    """The text of a folded net's spec, and the folded net; ``text``, YAML, is that of ``net`` (TEST, with weights).

    Raises SpecError where there is nothing to fold, or a layout that cannot be edited.
    """
    path, folds = net.spec.where.file, find(net)
    if not folds:
        raise SpecError(
            f"{path}: no BatchNorm, BN or Scale follows a Convolution or InnerProduct; nothing to fold"
        )
    changes = {found.layer.name: _changes(found) for found in folds}
    gone = [layer.name for found in folds for layer, _ in found.followers]
    for name, bottom in _kept_bottoms(net, gone, {found.layer.name: found.top for found in folds}):
        changes.setdefault(name, {})["bottom"] = bottom
    text = remove_layers(set_layer_fields(text, changes, path), gone, path)
    state = net.state
    folded = Net(parse_net(text, path), phase="test", level=state.level, stages=state.stage)
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
        if not spec.has("bottom") and spec.bottoms[0] > 0 and before != after:
            yield spec.name, before
        before, after = top, new_tops.get(spec.name, top)


def _changes(fold: Fold) -> dict[str, Any]:
    spec = fold.layer.spec
    changes: dict[str, Any] = {}
    if not _has_bias(spec):
        changes[f"{PARAM_OF_TYPE[spec.type]}.bias_term"] = None  # true is the default
    if spec.top[0] != fold.top:
        changes["top"] = fold.top
    return changes


def _has_bias(spec: LayerSpec) -> bool:
    return bool(getattr(spec, PARAM_OF_TYPE[spec.type]).bias_term)


def _folded_arrays(fold: Fold, arrays: list[Array]) -> list[Array]:
    """The layer's parameters with those of its followers in them."""
    layer, arrays, weights = fold.layer, list(arrays), fold.layer.output_weights
    if weights is None:
        return arrays
    bias = weights + 1
    if not _has_bias(layer.spec):
        arrays.insert(bias, layer.xp.zeros(layer.num_output, layer.dtype))
    for _, (s, t) in fold.followers:
        arrays[weights] = arrays[weights] * layer.along_outputs(s, arrays[weights])
        arrays[bias] = arrays[bias] * s + t
    return arrays
