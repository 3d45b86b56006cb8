"""What the layers here have in common: their settings are in ``param_str``, and the net gives them any blobs.

A Python layer may have any number of bottoms and tops, so only the class that ``python_param`` names knows how many
it takes, and says so when it is set up.
"""

from __future__ import annotations

from typing import TypeVar

import yaml

from minicaffe.core.layer import Blobs, Layer
from minicaffe.layers.python import PythonParam
from minicaffe.spec.fields import Message
from minicaffe.spec.reader import Where, parse_yaml

Settings = TypeVar("Settings", bound=Message)


class StandIn(Layer):
    """Base of the layers: reads ``param_str``, and counts bottoms and tops. Most of them have no gradient."""

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.check_amount("bottom", len(bottom), self.bottoms)
        self.check_amount("top", len(top), self.tops)

    def check_amount(self, name: str, given: int, expected: tuple[int, int | None]) -> None:
        """Raise SpecError unless there are as many bottoms or tops as the least and the most; None: any more."""
        low, high = expected
        if not low <= given <= (given if high is None else high):
            amount = str(low) if low == high else f"{low} to {high}"
            kind = self.spec.message(PythonParam).layer
            raise self.spec.error(name, f"{given} given; {kind} takes {amount}")

    def read(self, kind: type[Settings]) -> Settings:
        """The settings in ``param_str``. What else is in it is not read, as in the originals. Raises SpecError."""
        param = self.spec.message(PythonParam)
        place = str(param.where.at(line=param.line("param_str"), field="param_str"))
        node = parse_yaml(param.param_str or "{}", place)
        known = [(key, value) for key, value in node.value if key.value in kind.fields]
        return kind.read(yaml.MappingNode(node.tag, known, node.start_mark), Where(place))
