"""View 3: convolutions and inner products as one matrix product. What the page needs for each layer.

An inner product of a (C, H, W) blob is a convolution whose window is the whole image; of a vector it is one of a
single map, folded to rows that fit on a screen. In a net that runs in the page, the numbers come from there; of
others the bottoms and weights of some layers are carried as float16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minicaffe.device.array import to_host
from minicaffe.errors import SpecError
from minicaffe.inspect.report.live import runnable
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.program import PRODUCTS, NotLive
from minicaffe.inspect.report.record import RecordedLayer, Recording, Stage
from minicaffe.layers.inner_product import InnerProduct, InnerProductParam
from minicaffe.layers.matrix_product import MatrixProduct
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.low_rank.schemes import ChannelScheme
from minicaffe.ops.convolution.geometry import Window

SHARE = 0.25  # of the file, for all of this view


def data(recording: Recording, packer: Packer, options: Options) -> dict[str, Any]:
    """``views.convolution`` of the page: ``layers`` by name, with ``missing`` where one cannot be shown."""
    return _Writer(recording, packer, options).run()


@dataclass
class _Writer:
    recording: Recording
    packer: Packer
    options: Options
    spent: int = 0
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        shown = [layer for layer in self.recording.layers if layer.type in PRODUCTS]
        if not shown:
            return {"missing": "the net has no Convolution and no InnerProduct"}
        try:
            runnable(self.recording)
            self.is_live = True
        except NotLive:
            self.is_live = False
        for layer in shown:
            try:
                self.layers[layer.name] = self._geometry(layer)
            except NotLive as error:
                self.layers[layer.name] = {"missing": str(error)}
        for layer in sorted(shown, key=self._priority):
            if "missing" not in self.layers[layer.name]:
                self._fill(layer)
        return {"layers": self.layers}

    def _priority(self, layer: RecordedLayer) -> tuple[bool, int]:
        """The first layer comes first, then small ones: as many as fit."""
        first = next(other for other in self.recording.layers if other.type in PRODUCTS)
        return layer is not first, self._size(layer, 1)

    def _bottom(self, layer: RecordedLayer) -> Stage:
        return self.recording.stages[layer.bottoms[0]]

    def _size(self, layer: RecordedLayer, images: int) -> int:
        """Bytes in the file of a layer's bottoms and weights in float16."""
        numbers = images * math.prod(self._bottom(layer).shape) + sum(a.size for a in layer.params)
        return 2 * numbers * 4 // 3

    # -- shapes ----------------------------------------------------------------------------------------

    def _geometry(self, recorded: RecordedLayer) -> dict[str, Any]:
        """Shapes and window of a layer. Raises NotLive for those that are not shown."""
        layer = recorded.layer
        assert isinstance(layer, MatrixProduct)
        if layer.axis != 1 or len(recorded.tops) > 1:
            raise NotLive("this view shows layers of axis 1 with one bottom")
        shape = self._bottom(recorded).shape
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

    def _fill(self, recorded: RecordedLayer) -> None:
        """Add the references of a layer's arrays, or say why they are missing."""
        layer, entry = recorded.layer, self.layers[recorded.name]
        if self.options.layers and recorded.name not in self.options.layers:
            self.layers[recorded.name] = {"missing": f"not among --layers {','.join(self.options.layers)}"}
            return
        try:
            weights = _weights(layer)
        except SpecError as error:
            self.layers[recorded.name] = {"missing": str(error)}
            return
        plain = self.is_live and set(weights) == {"w"} and not _is_transposed(layer)
        has_bias = len(recorded.params) > 1
        if self.is_live:
            if not plain:
                entry.update({name: self._add(recorded, array, "f32") for name, array in weights.items()})
            if isinstance(layer, LowRankLayer):
                entry["bias"] = None if layer.bias_blob is None else layer.blobs.index(layer.bias_blob)
            else:
                entry["bias"] = 1 if has_bias else None
            return
        left = self.options.budget(SHARE) - self.spent
        images = len(self.recording.images)
        while images and self._size(recorded, images) > (left if images == 1 else left // 4):
            images = images // 2
        if not images:
            size = self._size(recorded, 1) / 1e6
            self.layers[recorded.name] = {
                "missing": f"its input and weights would add {size:,.1f} MB, more than this view's quarter of "
                f"--max-size {self.options.max_size:g} MB has left; --layers {recorded.name} puts it first"
            }
            return
        self.spent += self._size(recorded, images)
        entry.update({name: self._add(recorded, array, "f16") for name, array in weights.items()})
        entry["x"] = self._add(recorded, self._bottom(recorded).values[:images], "f16")
        biases = _bias(layer)
        entry["b"] = None if biases is None else self._add(recorded, biases, "f32")

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


def _weights(layer: Any) -> dict[str, np.ndarray]:
    """``w`` (M, K/g); or ``left`` (M, r) and ``right`` (r, K), the factors of a channel scheme without groups.

    Raises SpecError where every batch has factors of its own.
    """
    if not isinstance(layer, LowRankLayer):
        (stage,) = layer.stages()
        return {"w": np.asarray(stage.weights).reshape(layer.num_output, -1)}
    layer.stages()  # refuses factors that are different for every batch
    low = layer.low_rank
    left, right = map(to_host, low.scheme.factors(*_filters(layer)))
    if isinstance(low.scheme, ChannelScheme) and low.scheme.group == 1:
        return {"left": left[0], "right": right[0]}
    return {"w": np.asarray(low.scheme.weights(left @ right)).reshape(layer.num_output, -1)}


def _filters(layer: LowRankLayer) -> Any:
    filters = layer.low_rank.factors.fixed_filters()
    assert filters is not None
    return filters


def _bias(layer: Any) -> np.ndarray | None:
    if isinstance(layer, LowRankLayer):
        return None if layer.bias_blob is None else np.asarray(to_host(layer.bias_blob.data))
    return np.asarray(to_host(layer.blobs[1].data)) if len(layer.blobs) > 1 else None
