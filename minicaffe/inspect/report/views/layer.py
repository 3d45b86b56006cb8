"""View 2, a layer: what its channels fire most for among test images, and the gates of a recurrent layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicaffe.device.array import to_host
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.record import Recording
from minicaffe.inspect.report.test_pass import tested
from minicaffe.layers.lstm import LSTM

GATES = ["i", "f", "o", "g"]
PATCHES = 0.05  # of the file
LEAST = 16  # bytes of a patch: smaller ones show nothing


def data(recording: Recording, packer: Packer, options: Options) -> dict[str, Any]:
    """``patches`` and ``gates`` by the name of the layer, and ``tested``, the number of test images."""
    result = tested(recording, options)
    patches, left = {}, options.budget(PATCHES)
    for name, pixels in result.patches.items() if result else ():
        values = result.patch_values[name] if result else np.zeros(0)
        if pixels.size * 4 / 3 <= left and pixels[0, 0].size >= LEAST:
            left -= pixels.size * 4 // 3
            patches[name] = {
                "pixels": packer.add(pixels, "u8", f"{name}/patches"),
                "values": packer.add(values, "f32", f"{name}/patches"),
            }
    return {"tested": result.count if result else 0, "patches": patches, "gates": _gates(recording, packer)}


def _gates(recording: Recording, packer: Packer) -> dict[str, Any]:
    """The gates of each LSTM for each picture, (n, T, 4·D); {} if its batch is more than one sequence."""
    layers = [layer for layer in recording.layers if isinstance(layer.layer, LSTM)]
    found: dict[str, list[np.ndarray]] = {layer.name: [] for layer in layers}
    for i in range(len(recording.images)) if layers else ():
        recording.feed(i)
        for layer in layers:
            acts = to_host(layer.layer.acts)  # type: ignore[attr-defined]
            if acts.shape[1] == 1:
                found[layer.name].append(np.array(acts[:, 0]))
    return {
        name: {"names": GATES, "ref": packer.add(np.stack(acts), "f16", name)}
        for name, acts in found.items()
        if acts
    }
