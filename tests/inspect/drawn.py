"""Drawings of small nets that tests write."""

from minicaffe.inspect.drawing.boxes import boxes_of
from minicaffe.inspect.drawing.drawing import view_of
from minicaffe.inspect.drawing.parts import Box, Empty, Fold, Mesh, Parallel, divide
from minicaffe.spec.net import parse_net

INPUT = "{name: data, type: Input, input_param: {shape: {dim: [1, 3, 8, 8]}}}"


def spec_of(*layers, head=INPUT):
    """A net of layers in YAML's flow style, after an input."""
    return parse_net("name: small\nlayer:\n" + "".join(f"- {layer}\n" for layer in (head, *layers)))


def conv(name, bottom, kernel=1, more=""):
    """A convolution."""
    param = f"{{num_output: 3, kernel_size: {kernel}}}"
    return f"{{name: {name}, type: Convolution, bottom: {bottom}, convolution_param: {param}{more}}}"


def pool(name, bottom):
    """A pooling."""
    return f"{{name: {name}, type: Pooling, bottom: {bottom}, pooling_param: {{kernel_size: 1}}}}"


def join(name, *bottoms, type="Eltwise"):
    """A layer that joins branches."""
    return f"{{name: {name}, type: {type}, bottom: [{', '.join(bottoms)}]}}"


def boxes(spec, *phases):
    """What is drawn of a spec, in one phase or in both."""
    return boxes_of([view_of(spec, phase) for phase in phases or ("test",)])


def shape_of(part):
    """A part in words: "a b (c d | e | -) f", a mesh in [], a stack as 3×{…}."""
    if isinstance(part, Box):
        return part.name
    if isinstance(part, Empty):
        return "-"
    if isinstance(part, Parallel):
        return f"({' | '.join(shape_of(branch) for branch in part.branches)})"
    if isinstance(part, Fold):
        return f"{part.count}×{{{shape_of(part.unit)}}}"
    words = " ".join(shape_of(item) for item in part.items)
    return f"[{words}]" if isinstance(part, Mesh) else words


def divided(spec, *phases):
    """The parts of a spec, in words."""
    drawn = boxes(spec, *phases)
    return shape_of(divide(drawn.boxes, drawn.edges))
