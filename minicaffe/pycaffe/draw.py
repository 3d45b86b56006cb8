"""caffe.draw: a net as a picture, with the functions of pycaffe's module. Neither Graphviz nor pydot is needed.

``net`` is a NetParameter, as scripts read it with ``text_format``, or a net.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

import minicaffe
from minicaffe.caffe.formats.specs import PROTOTXT
from minicaffe.errors import MinicaffeError, either
from minicaffe.files.atomic import atomic_write
from minicaffe.inspect.drawing import Drawing, draw, draw_spec
from minicaffe.pycaffe.net import PHASES, Net
from minicaffe.spec.net import NetSpec, unknown_types_allowed
from minicaffe.spec.reader import Where

WHERE = "<NetParameter>"
DIRECTIONS = {"TB": "TB", "BT": "TB", "LR": "LR", "RL": "LR"}
LEARNING = ("Convolution", "Deconvolution", "InnerProduct")
POOLING_METHODS = {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}
COLORS = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}
FORMATS: dict[str, Callable[[Drawing], bytes]] = {
    "svg": lambda drawing: drawing.svg().encode(),
    "png": lambda drawing: drawing.png(),
    **dict.fromkeys(("dot", "gv", "raw"), lambda drawing: drawing.dot().encode()),
}
PICTURES = {
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "pdf": "PDF",
    "gif": "GIF",
    "bmp": "BMP",
    "tif": "TIFF",
    "tiff": "TIFF",
}


class Graph:
    """What stands for pydot's graph: a drawing with the methods that scripts use of one."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing

    def create(self, prog: str | None = None, format: str = "png") -> bytes:
        """The picture in a format: "png", "svg", "pdf", "jpg", … or "dot". Raises MinicaffeError for others."""
        return _bytes(self.drawing, format)

    def write(self, path: str | Path, prog: str | None = None, format: str = "raw") -> bool:
        """Write the picture in a format, by default as text for Graphviz. Raises WriteError."""
        with atomic_write(path) as file:
            file.write(self.create(format=format))
        return True

    def write_png(self, path: str | Path, prog: str | None = None) -> bool:
        """Write the picture as PNG."""
        return self.write(path, format="png")

    def write_svg(self, path: str | Path, prog: str | None = None) -> bool:
        """Write the picture as SVG."""
        return self.write(path, format="svg")

    def to_string(self) -> str:
        """The graph as text for Graphviz."""
        return self.drawing.dot()


def get_pydot_graph(
    caffe_net: Any,
    rankdir: str = "LR",
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Graph:
    """A drawing of the net: ``phase`` ``caffe.TRAIN`` or ``caffe.TEST``, or None for the layers of both.

    "BT" and "RL" are drawn as "TB" and "LR"; ``label_edges`` and ``display_lrm`` change nothing: edges have the
    shapes of their blobs, and a lock marks a layer that is not trained. Raises MinicaffeError.
    """
    if rankdir not in DIRECTIONS:
        raise MinicaffeError(f"rankdir {rankdir!r}: must be {either(list(DIRECTIONS))}")
    if phase is not None and phase not in PHASES:
        raise MinicaffeError(f"phase {phase!r}: must be caffe.TRAIN, caffe.TEST, or None for both")
    wanted = "both" if phase is None else PHASES[phase].lower()
    direction = DIRECTIONS[rankdir]
    core = caffe_net.core if isinstance(caffe_net, Net) else caffe_net
    if isinstance(core, minicaffe.Net):
        return Graph(draw(core, phase=None if phase is None else wanted, direction=direction))
    with unknown_types_allowed():
        spec = NetSpec.read(PROTOTXT.net(str(core), WHERE), Where(WHERE))
    return Graph(draw_spec(spec, wanted, direction=direction))


def draw_net(
    caffe_net: Any, rankdir: str, ext: str = "png", phase: int | None = None, display_lrm: bool = False
) -> bytes:
    """The picture of a net as bytes; ``ext`` is its format. The rest as in ``get_pydot_graph``."""
    return get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).create(format=ext)


def draw_net_to_file(
    caffe_net: Any,
    filename: str | Path,
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Write the picture of a net, in the format that the name ends in; ".raw" and ".dot" are for Graphviz."""
    ext = str(filename).rpartition(".")[2]
    _check_format(ext)
    get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).write(filename, format=ext)


def _check_format(name: str) -> None:
    if name.lower() not in {**FORMATS, **PICTURES}:
        raise MinicaffeError(f"'{name}' is no format of drawings; they are {either([*FORMATS, *PICTURES])}")


def _bytes(drawing: Drawing, name: str) -> bytes:
    _check_format(name)
    if name.lower() in FORMATS:
        return FORMATS[name.lower()](drawing)
    file = io.BytesIO()
    Image.open(io.BytesIO(drawing.png())).save(file, PICTURES[name.lower()])
    return file.getvalue()


# -- what pycaffe says of a layer ----------------------------------------------------------------------


def get_pooling_types_dict() -> dict[int, str]:
    """The names of the ways of pooling, by their numbers."""
    return dict(POOLING_METHODS)


def get_edge_label(layer: Any) -> str:
    """What pycaffe writes beside a layer's outputs: the batch size, or the number of outputs."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    return str(layer.inner_product_param.num_output) if layer.type == "InnerProduct" else '""'


def get_layer_lr_mult(layer: Any) -> tuple[float, float]:
    """The ``lr_mult`` of weights and bias. Raises ValueError for a layer that has none, or more."""
    if layer.type not in LEARNING:
        raise ValueError(f"{layer.type} layers do not have a learning rate multiplier")
    if len(layer.param) > 2:
        raise ValueError("Could not parse the learning rate multiplier")
    weights, bias = ([param.lr_mult for param in layer.param] + [1.0, 1.0])[:2]
    return weights, bias


def get_layer_label(layer: Any, rankdir: str, display_lrm: bool = False) -> str:
    """What pycaffe writes into a layer's box: name, type, and window."""
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    method = f" {POOLING_METHODS[layer.pooling_param.pool]}" if layer.type == "Pooling" else ""
    words = [layer.name, f"({layer.type}{method})"]
    if layer.type == "Pooling":
        param = layer.pooling_param
        words.append(_window(param.kernel_size, param.stride, param.pad, separator))
    elif layer.type in ("Convolution", "Deconvolution"):
        param = layer.convolution_param
        kernel, stride, pad = [*param.kernel_size, 1][0], [*param.stride, 1][0], [*param.pad, 0][0]
        words.append(_window(kernel, stride, pad, separator))
    if display_lrm and layer.type in LEARNING and any(get_layer_lr_mult(layer)):
        words.append("lr mult: {:.1f}, {:.1f}".format(*get_layer_lr_mult(layer)))
    return f'"{separator.join(words)}"'


def _window(kernel: int, stride: int, pad: int, separator: str) -> str:
    return separator.join((f"kernel size: {kernel}", f"stride: {stride}", f"pad: {pad}"))


def choose_color_by_layertype(layertype: str) -> str:
    """The colour of a layer's box in pycaffe."""
    return COLORS.get(layertype, "#6495ED")
