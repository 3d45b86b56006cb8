"""What the layers of py-faster-rcnn have in common: their settings are in ``param_str``, and in a configuration.

Nets of Faster R-CNN, R-FCN and PVANet name them as ``type: Python`` layers, whose modules are written in
Python 2. Where such a module cannot be imported, a layer of this package takes its place (``python.py``).

What py-faster-rcnn reads from its configuration (``cfg``) has that one's defaults here, and may be given in
``param_str`` under the same name: ``param_str: "{'feat_stride': 16, 'RPN_POST_NMS_TOP_N': 200}"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import yaml

from minicaffe.core.layer import Blobs, Layer
from minicaffe.layers.python import PythonParam
from minicaffe.spec.fields import Float, Int, Message
from minicaffe.spec.reader import Where, parse_yaml

Settings = TypeVar("Settings", bound=Message)


class AnchorSettings(Message):
    """``scales`` and ``ratios`` of the anchors; none given: 8, 16, 32 and 0.5, 1, 2."""

    feat_stride = Int(required=True, min=1)
    scales = Float(above=0, repeated=True)
    ratios = Float(above=0, repeated=True)


class PyFasterRcnnLayer(Layer):
    """Base of the layers: reads ``param_str``, and counts bottoms and tops. They have no gradient."""

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def read(self, kind: type[Settings]) -> Settings:
        """The settings in ``param_str``; what is not among them is for other layers. Raises SpecError."""
        param = self.spec.message(PythonParam)
        place = param.where.at(line=param.line("param_str"), field="param_str")
        node = parse_yaml(param.param_str or "{}", str(place))
        known = [(key, value) for key, value in node.value if key.value in kind.fields]
        return kind.read(yaml.MappingNode(node.tag, known, node.start_mark), Where(str(place)))

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        for name, given, (low, high) in (
            ("bottom", bottom, self.bottoms),
            ("top", top, self.tops),
        ):
            if not low <= len(given) <= (len(given) if high is None else high):
                expected = str(low) if low == high else f"{low} to {high}"
                kind = self.spec.message(PythonParam).layer
                raise self.spec.error(name, f"{len(given)} given; {kind} takes {expected}")


class SamplingLayer(PyFasterRcnnLayer):
    """Base of those that draw random samples, which depend on the layer's name and the net's seed."""

    drawn = 0

    def next_generator(self) -> np.random.Generator:
        """Random numbers for one forward: others each time, the same ones in each run."""
        self.drawn += 1
        return np.random.default_rng([self.seed, self.drawn])

    def state(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def restore(self, state: dict[str, Any]) -> None:
        self.drawn = self.count_in(state, "drawn")


def four(settings: Message, name: str, default: Sequence[float]) -> np.ndarray:
    """Four numbers of a field, one for each side of a box. Raises SpecError for another number of them."""
    given = getattr(settings, name)
    if len(given) not in (0, 4):
        raise settings.error(name, f"{len(given)} numbers; give 4")
    return np.array(given or default, np.float64)
