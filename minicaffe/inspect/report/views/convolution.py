"""View 3: convolutions and inner products as one matrix product. What the page needs for each layer.

An inner product of a (C, H, W) blob is a convolution whose window is the whole image; of a vector it is one of a
single map, folded to rows that fit on a screen. In a net that runs in the page, the numbers come from there; of
others the bottoms and weights of some layers are carried as float16.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.device.array import to_host
from minicaffe.errors import SpecError
from minicaffe.inspect.report.carried import Candidate, Carrier
from minicaffe.inspect.report.ladder import EXACT
from minicaffe.inspect.report.live import runnable
from minicaffe.inspect.report.matrices import factors_of, weights_of
from minicaffe.inspect.report.options import MB, Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.program import PRODUCTS, NotLive
from minicaffe.inspect.report.record import RecordedLayer, Recording
from minicaffe.layers.inner_product import InnerProduct, InnerProductParam
from minicaffe.layers.matrix_product import MatrixProduct
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.schemes import ChannelScheme
from minicaffe.ops.convolution.geometry import Window

Arrays = dict[str, np.ndarray]
Drawable = tuple[RecordedLayer, Arrays]
SHARE = 0.25  # of the file, for all of this view


def data(recording: Recording, packer: Packer, options: Options) -> dict[str, Any]:
    """``views.convolution`` of the page: ``layers`` by name, with ``missing`` where one cannot be shown."""
    return _Writer(recording, packer, options).run()


class _Writer:
    def __init__(self, recording: Recording, packer: Packer, options: Options) -> None:
        self.recording, self.packer, self.options = recording, packer, options
        self.carrier = Carrier(recording, packer, options.budget(SHARE))
        self.layers: dict[str, dict[str, Any]] = {}

    def run(self) -> dict[str, Any]:
        shown = [layer for layer in self.recording.layers if layer.type in PRODUCTS]
        if not shown:
            return {"missing": "the net has no Convolution and no InnerProduct"}
        drawable = []
        for layer in shown:
            try:
                self.layers[layer.name] = self._geometry(layer)
                drawable.append((layer, _arrays(layer.layer)))
            except (NotLive, SpecError) as error:  # SpecError: every batch has factors of its own
                self.layers[layer.name] = {"missing": str(error)}
        if self._is_live():
            for layer, weights in drawable:
                self._refer(layer, weights)
        else:
            self._carry(drawable)
        return {"layers": self.layers}

    def _is_live(self) -> bool:
        try:
            runnable(self.recording, self.options)
        except NotLive:
            return False
        return True

    # -- shapes ----------------------------------------------------------------------------------------

    def _geometry(self, recorded: RecordedLayer) -> dict[str, Any]:
        """Shapes and window of a layer. Raises NotLive for those that are not shown."""
        layer = recorded.layer
        assert isinstance(layer, MatrixProduct)
        if layer.axis != 1 or len(recorded.tops) > 1:
            raise NotLive("this view shows layers of axis 1 with one bottom")
        shape = self.recording.stages[recorded.bottoms[0]].shape
        is_product = isinstance(layer, InnerProduct)
        if not is_product and len(shape) not in (2, 3):
            raise NotLive(f"this view shows images of one or two axes, not {len(shape) - 1}")
        image = _image(shape, is_product)
        window = layer.window
        if is_product:
            window = Window(image[1:])
        output = window.output_size(image[1:])
        return {
            "bottom": recorded.bottoms[0],
            "top": recorded.tops[0],
            "product": is_product,
            "folded": is_product and len(shape) != 3,
            "input": list(image),
            "output": [layer.num_output, *output],
            "kernel": list(window.kernel),
            "stride": list(window.stride),
            "pad": list(window.pad),
            "dilation": list(window.dilation),
            "group": layer.group,
        }

    # -- arrays ----------------------------------------------------------------------------------------

    def _refer(self, recorded: RecordedLayer, weights: Arrays) -> None:
        """For a net that runs in the page: its own weights are there already, factors are added."""
        layer, entry = recorded.layer, self.layers[recorded.name]
        if set(weights) != {"w"} or isinstance(layer, LowRankLayer) or _is_transposed(layer):
            entry.update({name: self._add(recorded, array, "f32") for name, array in weights.items()})
        bias = _bias_blob(layer)
        entry["bias"] = None if bias is None else layer.blobs.index(bias)
        self._add_gradient(recorded, len(self.recording.images))

    def _carry(self, drawable: list[Drawable]) -> None:
        """For other nets: the inputs and weights of as many layers as fit; of more images where there is room."""
        wanted = self.options.layers
        waiting = [self._candidate(*d) for d in drawable if not wanted or d[0].name in wanted]
        chosen = {layer.name: layer for layer in self.carrier.choose(waiting)}
        inputs = self.carrier.inputs({layer.source for layer in chosen.values()})
        for layer, weights in drawable:
            entry = self.layers[layer.name]
            if layer.name in chosen:
                entry.update({name: self._add(layer, array, "f16") for name, array in weights.items()})
                entry["x"] = inputs[chosen[layer.name].source]
                bias = _bias_blob(layer.layer)
                entry["b"] = None if bias is None else self._add(layer, to_host(bias.data), "f32")
                self._add_gradient(layer, entry["x"]["shape"][0])
            elif wanted and layer.name not in wanted:
                self.layers[layer.name] = {"missing": f"not among --layers {','.join(wanted)}"}
            else:
                size = self.carrier.size(self._candidate(layer, weights), set())
                self.layers[layer.name] = {"missing": self._too_large(layer.name, size)}

    def _candidate(self, layer: RecordedLayer, weights: Arrays) -> Candidate:
        entry, source = self.layers[layer.name], layer.bottoms[0]
        kind = (*entry["kernel"], *entry["stride"], entry["group"] > 1, entry["product"])
        makers = {key: other for other in self.recording.layers for key in other.tops}
        while makers[source].type == "Split":
            source = makers[source].bottoms[0]
        return Candidate(layer.name, source, sum(array.size for array in weights.values()), kind)

    def _too_large(self, name: str, size: int) -> str:
        limit = f"this view's quarter of --max-size {self.options.max_size:g} MB"
        return (
            f"its input and weights would add {size / MB:,.1f} MB, more than is left of {limit}; "
            f"'--layers {name}' carries it alone"
        )

    def _add_gradient(self, recorded: RecordedLayer, images: int) -> None:
        """dY, where the page has it in 8 bits only."""
        diff = self.recording.stages[recorded.tops[0]].diff
        if diff is not None and diff[0].size > EXACT:
            self.layers[recorded.name]["dy"] = self.carrier.add(diff[:images], f"{recorded.name}/product")

    def _add(self, recorded: RecordedLayer, array: np.ndarray, dtype: str) -> dict[str, Any]:
        return self.packer.add(array, dtype, f"{recorded.name}/product")


def _image(shape: tuple[int, ...], is_product: bool) -> tuple[int, int, int]:
    """A bottom's shape as (C, H, W); a vector is one map, with rows as wide as its divisors allow."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if not is_product:
        return shape[0], 1, shape[1]
    count = math.prod(shape)
    height = max(h for h in range(1, math.isqrt(count) + 1) if count % h == 0)
    return 1, height, count // height


def _is_transposed(layer: Any) -> bool:
    return isinstance(layer, InnerProduct) and layer.spec.message(InnerProductParam).transpose


def _arrays(layer: Any) -> Arrays:
    """``w`` (M, K/g); or ``left`` (M, r) and ``right`` (r, K), the factors of a channel scheme without groups.

    Raises SpecError where every batch has factors of its own.
    """
    if isinstance(layer, LowRankLayer):
        scheme = layer.low_rank.scheme
        if isinstance(scheme, ChannelScheme) and scheme.group == 1:
            left, right = factors_of(layer)
            return {"left": left[0], "right": right[0]}
    return {"w": weights_of(layer)}


def _bias_blob(layer: Any) -> Blob | None:
    if isinstance(layer, LowRankLayer):
        return layer.bias_blob
    return layer.blobs[1] if len(layer.blobs) > 1 else None
