"""Reads, converts and builds every .prototxt of a Caffe checkout, none of which is kept here; lists what fails.

    git clone https://github.com/BVLC/caffe && python tests/golden/caffe/check_examples.py caffe

A net is read, written as YAML, read again and compared, then built in both phases with Input layers in place of
data layers, whose data are not there. Solvers are read. For the ``caffe`` that Python layers import, minicaffe
stands in.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import minicaffe as mc
from minicaffe.core import graph
from minicaffe.core.layer import layer_classes
from minicaffe.errors import MinicaffeError
from minicaffe.files.spec_formats import load_net, open_net, open_solver
from minicaffe.spec.fields import Message
from minicaffe.spec.net import LayerSpec, NetSpec

SIZES = {"mnist": (1, 28), "cifar": (3, 32), "siamese": (2, 28), "googlenet": (3, 224)}  # else (3, 227)
USUAL = {"stride": [1], "pad": [0], "dilation": [1]}  # what a list that is left out means


def plain(value: Any) -> Any:
    """A message's values, however deep, but for ``engine``."""
    if isinstance(value, Message):
        values = {name: plain(getattr(value, name)) for name in value.fields if name != "engine"}
        return {name: USUAL.get(name, []) if found == [] else found for name, found in values.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def settings(net: NetSpec) -> list[dict[str, Any]]:
    """What each layer says, with the defaults that YAML may leave out."""
    layers = [plain(layer) for layer in graph.with_defaults(net.layer, layer_classes)]
    for layer in layers:
        if all(param == plain(mc.spec.net.ParamSpec()) for param in layer["param"]):
            layer["param"] = []
    return layers


def input_shapes(path: Path, layers: list[LayerSpec]) -> dict[str, tuple[int, ...]]:
    """Shapes for what data layers make: images of the usual size, and a label each."""
    key = next((key for key in sorted(SIZES, reverse=True) if key in str(path)), "")
    channels, size = SIZES.get(key, (3, 227))
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        if layer.bottom or layer.type in ("Input", "DummyData"):
            continue
        images = (2, 4) if layer.type == "HDF5Data" else (2, channels, size, size)
        shapes.update({top: (2,) if i else images for i, top in enumerate(layer.top)})
    return shapes


def check_net(path: Path) -> str:
    """Read, convert and build one net; what was done."""
    spec = open_net(path)
    with tempfile.TemporaryDirectory() as folder:
        again = load_net(mc.convert(path, out_dir=folder).spec)
        assert settings(again) == settings(spec), "YAML says something else"
        shapes = input_shapes(path, spec.layer)
        yaml = mc.convert(path, out_dir=folder, input_shapes=shapes).spec
        counts = [len(mc.Net(yaml, phase=phase).layers) for phase in ("train", "test")]
    return f"{counts[0]} and {counts[1]} layers" + (f", with inputs {', '.join(shapes)}" if shapes else "")


def main(folder: Path) -> int:
    """Check them all; how many failed."""
    logging.disable(logging.CRITICAL)
    sys.path.append(str(folder / "examples" / "pycaffe" / "layers"))
    sys.modules["caffe"] = mc
    failed = 0
    for path in sorted(folder.glob("*/**/*.prototxt")):
        try:
            is_solver = "base_lr" in path.read_text()
            done = f"solver {open_solver(path).type}" if is_solver else check_net(path)
        except (MinicaffeError, AssertionError) as error:
            failed, done = failed + 1, f"FAILED: {error}"
        print(f"{path.relative_to(folder)}: {done}", flush=True)
    print(f"{failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])) > 0)
