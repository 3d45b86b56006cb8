"""Gradient checks: is the backward of a layer, or of a net, the derivative of its forward?

    from minicaffe.testing import check_gradients

    check_gradients("type: TanH", [(2, 3)])            # a layer, at random numbers of these shapes
    check_gradients(Double, [(2, 3)])                  # a registered layer type of your own
    check_gradients("type: SoftmaxWithLoss", [(4, 3), np.array([0, 2, 1, 1])])
    check_gradients(mc.Net("train.yaml", phase="train", dtype="float64"), {"data": images, "label": labels})

What is differentiated is one number,

    f = loss + Σ_t ⟨top_t, g_t⟩,

with random g_t of the shape of each output top_t that is no loss. Backward, started from the top diffs g_t, must
give ∂f/∂x for every input and every parameter x. That derivative is nearly the central difference

    ∂f/∂x_i ≈ (f(x + h·e_i) − f(x − h·e_i)) / 2h,

with an error of the order h². In float64, with h = 1e-5, the two agree to about nine digits; in float32 hardly to
two, so nets are checked in float64.

At a kink (of ReLU at 0, or of a maximum of equal numbers) there is no derivative. Where backward and the
difference are apart, the slopes on either side are looked at, (f(x + h) − f(x)) / h and (f(x) − f(x − h)) / h.
If they are equal, backward is wrong. If not, smaller steps are tried, which a kink beside x does not disturb. A
number whose slopes differ even then, and whose gradient lies between them, is at a kink: it is counted, and
stepped over. A backward that is wrong elsewhere is found all the same; ``away_from`` moves inputs off kinks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minicaffe.core.layer import Layer, layer_classes
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.device.workers import one_blas_thread
from minicaffe.errors import MinicaffeError, listing
from minicaffe.spec.net import NetSpec, parse_net
from minicaffe.spec.reader import parse_yaml

Shape: TypeAlias = tuple[int, ...]
Input: TypeAlias = Shape | ArrayLike
MOST_ON_CPU, MOST_ON_GPU = 1000, 12  # numbers of a blob that are tried; on a GPU each forward takes long
SURE = 2  # wrong numbers of a blob, after which others are not looked at again
SMALLER = (0.1, 0.01)  # times the step: for a second and a third look
STRAIGHT = 0.1  # slopes on either side that differ by less than this share of the error do not explain it
EPS = float(np.finfo(np.float64).eps)


def check_gradients(
    checked: str | type[Layer] | NetSpec | Net,
    inputs: Sequence[Input] | Mapping[str, Input],
    *,
    by: Iterable[str] | None = None,
    phase: str = "train",
    tolerance: float = 1e-6,
    step: float = 1e-5,
    most: int | None = None,
    seed: int = 5,
) -> Net:
    """Raise AssertionError unless backward is the derivative of forward, by inputs and parameters.

    ``checked`` is a layer or a net: a registered Layer class; the YAML text of a layer, such as "type: ReLU,
    relu_param: {negative_slope: 0.1}", or of a net; a NetSpec; or a Net made with ``dtype="float64"``. The
    parameters of a Net are left as they are; those of other nets are moved a little from what their fillers made.

    ``inputs`` are the layer's bottoms, or the net's inputs, in order or by name. Each is an array, or a tuple: a
    shape, which normally distributed numbers fill. A net's spec asks with ``force_backward: true`` for gradients of
    its inputs. ``by`` names those to check (default: all that have a gradient). Parameters are checked too, but for
    those with ``lr_mult: 0``.

    ``step`` is h. Backward and a difference d agree if they are within ``tolerance`` times |d| + max(1, the largest
    |d| of the blob). ``most`` bounds how many numbers of a blob are tried (default: 1000, on a GPU 12): those with
    the largest gradients, and others at random. Every forward draws the same random numbers, as Dropout needs.
    ``phase`` and ``seed`` are for a net that is made here; all random numbers follow from ``seed``.

    Returns the net. The error has one line for each blob that fails, with its worst number: "conv1/0[3, 2, 0, 1]:
    backward 0.1234, central difference 0.5678". Parameters have the names that .npz files give them.
    """
    compared = compare_gradients(
        checked, inputs, by=by, phase=phase, tolerance=tolerance, step=step, most=most, seed=seed
    )
    problems = compared.problems()
    if problems:
        raise AssertionError("\n".join(problems))
    return compared.net


@dataclass(frozen=True)
class BlobGradients:
    """How the gradient of one input or parameter compares: ``tried`` numbers of ``count``, ``wrong`` of them.

    ``kinks`` numbers are at a kink, where there is no derivative, and ``near`` beside one: these were compared at a
    smaller step. ``place`` is that of the worst number, with its ``backward`` and its ``difference``; ``error`` is
    the distance of the two, divided by |difference| + max(1, the largest |difference| of the blob). Without a
    number to compare, ``place`` is None; where every difference is 0, so that the blob ``says_nothing``,
    ``backward`` is the largest number of the gradient.
    """

    name: str
    count: int
    tried: int
    wrong: int
    kinks: int
    near: int
    place: Shape | None
    backward: float
    difference: float
    error: float
    says_nothing: bool = False

    def problem(self) -> str:
        """What is wrong, on one line; "" if nothing is."""
        if self.says_nothing:
            return f"{self.name}: every central difference is 0, which says nothing; try other inputs"
        if self.place is None:
            return f"{self.name}: all {self.tried} numbers tried are at kinks, which says nothing; try other inputs"
        if not self.wrong:
            return ""
        place, wrong = ", ".join(map(str, self.place)), f" ({self.wrong} of {self.tried} differ)"
        numbers = f"backward {self.backward:.6g}, central difference {self.difference:.6g}"
        return f"{self.name}[{place}]: {numbers}{wrong}"


@dataclass(frozen=True)
class GradientComparison:
    """What ``compare_gradients`` found: for each input and parameter that has a gradient, in order."""

    net: Net
    blobs: Sequence[BlobGradients]

    def problems(self) -> list[str]:
        """A line for each blob whose gradient is wrong."""
        if not self.blobs:
            return ["nothing gets a gradient (inputs do with 'force_backward: true' in the net's spec)"]
        return [problem for blob in self.blobs if (problem := blob.problem())]


def compare_gradients(
    checked: str | type[Layer] | NetSpec | Net,
    inputs: Sequence[Input] | Mapping[str, Input],
    *,
    by: Iterable[str] | None = None,
    phase: str = "train",
    tolerance: float = 1e-6,
    step: float = 1e-5,
    most: int | None = None,
    seed: int = 5,
    watch: Callable[[int, int], object] | None = None,
) -> GradientComparison:
    """Compare gradients as ``check_gradients`` does, with the same arguments, and return what was found.

    ``watch(done, total)`` is called before each number that is tried. Raises MinicaffeError for what cannot be
    checked.
    """
    rng = np.random.default_rng(seed)
    given = inputs.values() if isinstance(inputs, Mapping) else inputs
    values = [rng.standard_normal(x) if isinstance(x, tuple) else np.array(x, np.float64) for x in given]
    net = checked if isinstance(checked, Net) else _net_of(checked, [x.shape for x in values], phase, seed)
    if net.setting.dtype != np.float64:
        raise MinicaffeError("check_gradients: float32 is too coarse; make the net with dtype='float64'")
    if most is None:
        most = MOST_ON_CPU if net.setting.device.kind == "cpu" else MOST_ON_GPU

    names = list(inputs) if isinstance(inputs, Mapping) else net.inputs
    if len(names) != len(values) or not set(names) <= set(net.inputs):
        given_names = listing(names) if isinstance(inputs, Mapping) else len(values)
        wanted = listing(net.inputs) or "none"
        raise MinicaffeError(f"check_gradients: the inputs are {wanted}; given are {given_names}")
    function = _Function(net, dict(zip(names, values, strict=True)), rng)
    if net is not checked:
        function.move_params(rng)
    gradients = function.gradients(by)
    places = {name: _places(gradient, most, rng) for name, gradient in gradients.items()}
    total, done = sum(map(len, places.values())), 0
    blobs = []
    with one_blas_thread():  # set once, not in each of thousands of passes
        for name, gradient in gradients.items():
            slopes = []
            for place in places[name]:
                if watch is not None:
                    watch(done, total)
                done += 1
                slopes.append(function.slopes(name, place, step))
            blobs.append(_compared(function, name, gradient, places[name], slopes, step, tolerance))
    function.forward()
    return GradientComparison(net, blobs)


class _Function:
    """f of a net, as a function of the numbers in ``arrays``: its inputs and its parameters, by name."""

    def __init__(self, net: Net, inputs: Mapping[str, NDArray[np.float64]], rng: np.random.Generator) -> None:
        self._net, self._inputs = net, inputs
        for name, value in inputs.items():
            net.blobs[name].reshape(*value.shape)
        net.reshape()
        self._params = {param.key: param.blob for param in net.learnable}
        self.arrays = {key: np.array(to_host(blob.data)) for key, blob in self._params.items()} | {**inputs}
        self._state = net.state_dict()
        self._here: float | None = None
        self.forward()
        losses = {
            top
            for layer in net.layers
            for top, weight in zip(layer.spec.top, layer.spec.loss_weight, strict=True)
            if weight
        }
        self._top_diffs = {  # g_t of the formula
            name: net.setting.device.put(rng.standard_normal(net.blobs[name].shape))
            for name in net.gradient_starts
            if name not in losses
        }

    def move_params(self, rng: np.random.Generator) -> None:
        """Add small random numbers to all parameters: many fillers are constants, which hide faults."""
        for key in self._params:
            self.arrays[key] += 0.1 * rng.standard_normal(self.arrays[key].shape)

    def write(self) -> None:
        """Let the net have the numbers of ``arrays``, and its random numbers from the start."""
        net = self._net
        net.load_state_dict(self._state)
        if self._state["rng"] is None:  # a GPU's generator cannot be set back, but begun again
            net.setting.rng = net.setting.device.rng(net.seed)
        for key, blob in self._params.items():
            blob.data[...] = net.setting.device.put(self.arrays[key])
        for name in self._inputs:
            net.blobs[name].data[...] = net.setting.device.put(self.arrays[name])

    def forward(self) -> None:
        self.write()
        self._net.run_forward()

    def value(self) -> float:
        """f, computed by a forward."""
        self.forward()
        tops = (float((self._net.blobs[name].data * g).sum()) for name, g in self._top_diffs.items())
        return float(self._net.loss()) + sum(tops)

    def slopes(self, name: str, place: Shape, step: float) -> _Slopes:
        """The slopes of f by one number of an array, from steps to either side."""
        array, x = self.arrays[name], self.arrays[name][place]
        array[place] = x + step
        above = self.value()
        array[place] = x - step
        below = self.value()
        array[place] = x
        here = self.here()
        noise = 4 * EPS * max(abs(above), abs(below)) / step
        return _Slopes((above - below) / (2 * step), (here - below) / step, (above - here) / step, noise)

    def here(self) -> float:
        """f at the numbers as they are, which is computed once."""
        if self._here is None:
            self._here = self.value()
        return self._here

    def gradients(self, by: Iterable[str] | None) -> dict[str, NDArray[np.float64]]:
        """∂f/∂x by backward, for inputs (all that get a gradient, or those named) and parameters that learn."""
        net = self._net
        self.forward()
        for name, diff in self._top_diffs.items():
            net.blobs[name].diff[...] = diff
        net.clear_param_diffs()
        net.run_backward()
        names = [name for name in self._inputs if name in net.reached] if by is None else by
        blobs = {name: net.blobs[name] for name in names}
        blobs |= {param.key: param.blob for param in net.learnable if param.lr_mult}
        return {name: np.array(to_host(blob.diff)) for name, blob in blobs.items()}


@dataclass(frozen=True)
class _Slopes:
    """The central difference, the slopes below and above, and how far rounding may put them off."""

    central: float
    below: float
    above: float
    noise: float

    @property
    def bend(self) -> float:
        """How much the slopes on either side differ."""
        return abs(self.above - self.below)

    def embrace(self, gradient: float, margin: float) -> bool:
        """Whether a gradient lies between the slopes on either side."""
        low, high = sorted((self.below, self.above))
        return low - margin <= gradient <= high + margin


def _compared(
    function: _Function,
    name: str,
    gradient: NDArray[np.float64],
    places: Sequence[Shape],
    slopes: Sequence[_Slopes],
    step: float,
    tolerance: float,
) -> BlobGradients:
    """How the gradient of one array compares with the slopes at some places."""
    size, tried = gradient.size, len(places)
    differences = np.array([slope.central for slope in slopes])
    if not np.any(differences):
        claimed = float(np.abs(gradient).max())
        return BlobGradients(name, size, tried, 0, 0, 0, None, claimed, 0.0, 0.0, says_nothing=True)
    largest = max(1.0, float(np.abs(differences).max()))
    verdicts: list[str] = []
    worst = BlobGradients(name, size, tried, 0, 0, 0, None, 0.0, 0.0, -1.0)
    for place, first in zip(places, slopes, strict=True):
        number = float(gradient[place])
        is_sure = verdicts.count("wrong") >= SURE
        verdict, slope = _verdict(function, name, place, number, first, step, tolerance, largest, is_sure)
        verdicts.append(verdict)
        error = abs(number - slope.central) / (abs(slope.central) + largest)
        error = error if np.isfinite(error) else np.inf
        if verdict != "kink" and error > worst.error:
            worst = replace(worst, place=place, backward=number, difference=slope.central, error=error)
    wrong, kinks, near = (verdicts.count(verdict) for verdict in ("wrong", "kink", "near"))
    return replace(worst, wrong=wrong, kinks=kinks, near=near, error=max(0.0, worst.error))


def _verdict(
    function: _Function,
    name: str,
    place: Shape,
    backward: float,
    slope: _Slopes,
    step: float,
    tolerance: float,
    largest: float,
    is_sure: bool,
) -> tuple[str, _Slopes]:
    """Whether a number is "right", "wrong", "near" a kink and right, or at a "kink"; and its slopes.

    Kinks on both sides may hide each other, so there is a second look, unless the blob ``is_sure`` to be wrong.
    """
    verdict = "right"
    for factor in (1.0, *SMALLER):
        if factor < 1:
            slope, verdict = function.slopes(name, place, factor * step), "near"
        allowed = tolerance * (abs(slope.central) + largest)
        if factor < 1:
            allowed += slope.noise
        distance = abs(backward - slope.central)
        if distance <= allowed:
            return verdict, slope
        is_straight = not slope.bend > STRAIGHT * distance  # also where a number is nan
        if is_straight and (is_sure or factor < 1):
            return "wrong", slope
    return ("kink" if slope.embrace(backward, allowed) else "wrong"), slope


def _places(gradient: NDArray[np.float64], most: int, rng: np.random.Generator) -> list[Shape]:
    """The indices of an array; of a large one half of ``most`` with the largest numbers, and random others."""
    if gradient.size <= most:
        return list(np.ndindex(gradient.shape))
    falling = np.argsort(-np.abs(gradient), axis=None)
    chosen = [*falling[: most // 2], *rng.permutation(falling[most // 2 :])[: most - most // 2]]
    return [tuple(map(int, np.unravel_index(place, gradient.shape))) for place in chosen]


def _net_of(checked: str | type[Layer] | NetSpec, shapes: Sequence[Shape], phase: str, seed: int) -> Net:
    if isinstance(checked, type):
        names = [name for name, layer_class in layer_classes.items() if layer_class is checked]
        if not names:
            problem = f"{checked.__name__} is no layer type; mc.register_layer makes it one"
            raise MinicaffeError(f"check_gradients: {problem}")
        checked = f"type: {names[0]}"
    if isinstance(checked, str):
        is_layer = "type" in _fields(checked)
        checked = parse_net(layer_net(checked, shapes) if is_layer else checked)
    return Net(checked, phase=phase, dtype=np.float64, seed=seed)


def layer_net(layer: str, shapes: Sequence[Shape]) -> str:
    """The YAML text of a net: a layer above Input layers ``x0``, ``x1``, … of these shapes, with gradients for all.

    ``layer`` is the text of the layer: its fields on one line, "type: TanH, top: y", or one to a line. It is named
    "L", and its bottoms are all inputs, unless it says otherwise.
    """
    inputs = [f"x{i}" for i in range(len(shapes))]
    lines = ["force_backward: true", "layer:"]
    for name, shape in zip(inputs, shapes, strict=True):
        lines.append(f"- {{name: {name}, type: Input, input_param: {{shape: {{dim: {list(shape)}}}}}}}")
    own = {"name": "L", "bottom": f"[{', '.join(inputs)}]"}
    lacking = [f"{field}: {value}" for field, value in own.items() if field not in _fields(layer)]
    if "\n" in layer.strip():
        lines.append(
            textwrap.indent("\n".join([textwrap.dedent(layer).strip(), *lacking]), "  ").replace(" ", "-", 1)
        )
    else:
        lines.append(f"- {{{', '.join([*lacking, layer])}}}")
    return "\n".join(lines)


def _fields(text: str) -> set[str]:
    """The names of the fields that a spec's text gives, at its top."""
    node = parse_yaml(text if "\n" in text.strip() else f"{{{text}}}", "check_gradients")
    return {key.value for key, _ in node.value}


def away_from(corners: ArrayLike, array: ArrayLike, margin: float = 1e-3) -> NDArray[np.float64]:
    """The array, with numbers nearer than ``margin`` to one of the corners moved off it by 2 margins."""
    moved = np.array(array, np.float64)
    for corner in np.atleast_1d(corners):
        moved[np.abs(moved - corner) < margin] = corner + 2 * margin
    return moved
