"""The ONNX graph that a net becomes, and the table of what its layers become.

Blobs have Caffe's shapes there too, (N, C, H, W). The batch axis of the inputs is free, N, unless a layer needs to
know its size (``needs_batch``). Height and width are free where ``larger`` has the shapes of the net's blobs for
larger images: a size that is another one there depends on the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.graph import UnusedNames
from minicaffe.core.layer import Layer, LayerTable
from minicaffe.device.array import to_host

# Adds a layer's nodes to the graph, and returns the names of its tops. The arguments are the graph, the layer, the
# names of its bottoms, the bottoms, and the tops.
Writer = Callable[["Graph", Any, list[str], list[Blob], list[Blob]], list[str]]
writers: LayerTable[Writer] = LayerTable()
FLOAT, INT64, DOUBLE = 1, 7, 11  # number types, as Cast's ``to`` has them


class Graph:
    """Nodes and constants, with names that nobody else has; ``taken`` are names of the net's blobs."""

    def __init__(
        self, onnx: Any, taken: Iterable[str], larger: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        self._onnx = onnx
        self._names = UnusedNames(taken)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.bytes = 0  # of the constants
        self.larger = larger or {}
        self.dims: dict[str, list[int | str]] = {}  # of blobs whose sizes are not those of the net's
        self.regions: set[str] = set()  # blobs whose first axis is one of regions, not of images
        self.needs_batch = False  # whether a layer's nodes hold for this number of images alone
        self._layer = ""
        self._count = 0

    def begin(self, layer: Layer) -> None:
        """What is added from now on is named after this layer."""
        self._layer, self._count = layer.name, 0

    def _name(self, what: str) -> str:
        self._count += 1
        return self.unused(f"{self._layer}/{what}_{self._count}")

    def unused(self, name: str) -> str:
        """The name, or a longer one where it is taken."""
        return self._names.like(name)

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        return self.add_several(op, 1, *inputs, **attributes)[0]

    def add_several(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        name = self._name(op)
        names = [name] if outputs == 1 else [f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(self._onnx.helper.make_node(op, list(inputs), names, name, **attributes))
        return names

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        """A constant's name."""
        name = self._name("constant")
        array = np.asarray(array, dtype)
        self.bytes += array.nbytes
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def numbers(self, values: Sequence[int]) -> str:
        """A constant of whole numbers: axes, sizes, positions."""
        return self.constant(list(values), np.int64)

    def param(self, blob: Blob, shape: Sequence[int] | None = None) -> str:
        """A parameter as a constant, in another shape if one is given."""
        array = to_host(blob.data)
        return self.constant(array if shape is None else array.reshape(shape))

    def free_axes(self, name: str, shape: Sequence[int]) -> list[int]:
        """The axes of a blob whose sizes depend on the image's size, if that is free."""
        return [i for i, size in enumerate(self.larger.get(name, shape)) if size != shape[i]]

    def sizes(self, x: str, axes: Sequence[int]) -> str:
        """The sizes of a blob along consecutive axes, as a tensor of whole numbers."""
        return self.add("Shape", x, start=axes[0], end=axes[-1] + 1)

    def scaled(self, x: str, scale: float, shift: float = 0.0) -> str:
        """scale · x + shift."""
        x = x if scale == 1 else self.add("Mul", x, self.constant(scale))
        return x if shift == 0 else self.add("Add", x, self.constant(shift))

    def reshaped(self, x: str, shape: Sequence[int], old: Sequence[int]) -> str:
        """x in another shape; the batch stays free where it is the first axis of both."""
        keeps = len(shape) > 0 and len(old) > 0 and shape[0] == old[0]
        self.needs_batch |= not keeps
        return self.add("Reshape", x, self.numbers([0, *shape[1:]] if keeps else shape))
