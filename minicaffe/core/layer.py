"""Layer: one step of a net, with its forward and its backward; and the registry of layer types."""

from __future__ import annotations

import inspect
import logging
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, TypeVar, overload

import numpy as np

from minicaffe.core.blob import Blob
from minicaffe.core.display import html_of
from minicaffe.core.fillers import FillerParam, fill
from minicaffe.core.label_names import LabelNames
from minicaffe.data.preparation import Preparation
from minicaffe.device.array import Array, Device
from minicaffe.device.communicator import ALONE, Communicator
from minicaffe.device.workers import Calls
from minicaffe.errors import DataError, MinicaffeError, ShapeError, TrainingError, named, shown
from minicaffe.ops.epilogue import Epilogue, Map
from minicaffe.spec.fields import Message
from minicaffe.spec.net import LayerSpec, ParamSpec, declare_layer_type
from minicaffe.spec.trust import Trust

logger = logging.getLogger("minicaffe")
Blobs = Sequence[Blob]


@dataclass
class NetSetting:
    """What the layers of one net share. ``told`` are the warnings that have been given, once for a net.

    ``layers`` are those that the net is made of, and ``weights`` the file that it starts from, if it does.
    ``communicator`` speaks to the other ranks that train the net. ``progress`` is how far a solver has trained it,
    from 0 to 1: iteration / max_iter.
    """

    phase: str
    device: Device
    dtype: np.dtype
    rng: Any
    seed: int
    folder: str
    trust: Trust
    label_names: LabelNames = field(default_factory=LabelNames)
    told: set[str] = field(default_factory=set)
    layers: Sequence[LayerSpec] = ()
    weights: str | Path | None = None
    communicator: Communicator = ALONE
    progress: float = 0.0


class Layer:
    """Base of all layers (Caffe's ``Layer``).

    A layer type is a subclass with ``setup`` (check the spec, make parameters), ``reshape`` (check the
    bottoms' shapes, set the tops'), ``forward`` and ``backward``. It computes on ``blob.stored`` and
    ``blob.stored_diff`` (batch last), or on ``blob.data`` and ``blob.diff`` (Caffe's shapes).

    ``backward`` writes ``bottom[i].stored_diff`` where ``propagate_down[i]``, and adds to the gradients of its
    parameters, ``self.blobs``, where ``self.param_propagate_down[i]``. Of a layer with bottoms, neither runs
    while all its tops are empty (one axis is 0), unless it ``reshapes_always``.

    Class attributes: ``messages`` are the spec messages that the type takes, by field name; ``bottoms`` and
    ``tops`` the least and the most it takes of each (None: any number). ``in_place``: the first bottom may be
    the top. ``shares_bottom``: the top lies in the bottom's memory. ``keeps_sign``: where a gradient passes,
    the top has the bottom's sign. ``saves_nothing``: forward in place saves nothing for backward.
    ``reshapes_always``: ``reshape`` runs before every forward, since the tops'
    shapes depend on more than the bottoms'. ``backward_instead``: where the backward of a fork is not the
    derivative of its forward, in words what it is.

    ``dtype`` is the net's number type: float32, or float64 for gradient checks. ``bottom_blobs`` and ``top_blobs``
    are the blobs that the net has connected the layer with.
    """

    messages: ClassVar[dict[str, type[Message]]] = {}
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    is_loss: ClassVar[bool] = False
    in_place: ClassVar[bool] = False
    shares_bottom: ClassVar[bool] = False
    keeps_sign: ClassVar[bool] = False
    saves_nothing: ClassVar[bool] = False
    backward_instead: ClassVar[str] = ""
    reshapes_always: bool = False
    bottom_blobs: Blobs = ()
    top_blobs: Blobs = ()

    def __init__(self, spec: LayerSpec, setting: NetSetting) -> None:
        self.spec = spec
        self.name = spec.name
        self.type = spec.type
        self.phase = spec.phase or setting.phase
        self.setting = setting
        self.dtype = setting.dtype
        self.blobs: list[Blob] = []
        self._fillers: list[FillerParam] = []
        self.param_propagate_down: list[bool] = []
        self.top_has_gradient: list[bool] = [True] * len(spec.top)

    def __repr__(self) -> str:
        ends = ((self.spec.bottom, self.bottom_blobs), (self.spec.top, self.top_blobs))
        flow = [", ".join(f"{name} {blob.shape}" for name, blob in zip(*end, strict=False)) for end in ends]
        shapes = ", ".join(str(blob.shape) for blob in self.blobs)
        about = filter(None, (" → ".join(filter(None, flow)), shapes and f"parameters {shapes}"))
        return shown(": ".join(filter(None, (f"{self.type} '{named(self.name)}'", "; ".join(about)))))

    def _repr_html_(self) -> str | None:
        return html_of(self)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        """Called once: check the spec and make the parameters. The shapes of the bottoms are known."""

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """Called first and after shapes have changed: check the shapes of the bottoms and set those of the tops."""
        raise MinicaffeError(f"{self.spec.where}: layer type {self.type} does not define 'reshape'")

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """Compute the tops from the bottoms."""
        raise MinicaffeError(f"{self.spec.where}: layer type {self.type} does not define 'forward'")

    def as_map(self) -> Map | None:
        """Forward as a map of each number by itself, if it is one: then it can be part of a chain.

        It is asked for where a parameter or one of ``map_settings`` may have changed, and only of a class that
        defines it beside its ``forward``.
        """
        return None

    @property
    def map_settings(self) -> tuple[object, ...]:
        """What ``as_map`` and ``prepare`` depend on besides parameters, and a script may set."""
        return ()

    def can_lead(self) -> bool:
        """Whether a class that defines ``forward_then`` beside its ``forward`` can use it."""
        return True

    def forward_then(self, bottom: Blobs, top: Blobs, epilogue: Epilogue) -> None:
        """Forward, and then an epilogue on the only top: at the head of a chain."""
        raise NotImplementedError

    def prepare(self, bottom: Blobs, top: Blobs, epilogue: Epilogue | None) -> Calls | None:
        """The calls that forward makes at TEST, or ``forward_then`` if there is an epilogue; None: run those.

        They are made again and again, in place of forward, as long as the blobs have the same arrays, and neither
        parameters nor ``map_settings`` may have changed. It is asked only of a class that defines it beside its
        ``forward``, which has run.
        """
        return None

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """Compute the gradients of bottoms and parameters from those of the tops."""
        raise TrainingError(
            f"{self.spec.where}: {self.type} has no gradient; set 'propagate_down: false' where it is used"
        )

    def takes_gradient(self, bottom_index: int) -> bool:
        """Whether there is a gradient for this bottom. Labels have none."""
        return not (self.is_loss and bottom_index == 1)

    @property
    def has_backward(self) -> bool:
        """Whether the layer type defines a backward."""
        return type(self).backward is not Layer.backward

    @classmethod
    def reads_top(cls, spec: LayerSpec) -> str:
        """What backward reads of the top, so that no in-place layer may change it: "", "sign" or "values"."""
        return ""

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps besides parameters (a data layer's position), as values that JSON can hold."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""

    @classmethod
    def shapes_beside(cls, spec: LayerSpec, first: tuple[int, ...], folder: str) -> list[tuple[int, ...]]:
        """For a data layer: the shapes of its other tops beside a first of this shape, as far as they are known.

        ``folder`` is that of the spec. It is asked where the data are missing. Raises SpecError.
        """
        return []

    def names_of_labels(self) -> dict[int, str]:
        """The names for people of labels, from a label map that the layer's spec names; {} without one."""
        return {}

    def preparation_of_pictures(self) -> Preparation | None:
        """For a data layer: how it prepares its pictures, and the names of their classes. None for other layers."""
        return None

    def joins(self, bottom: Blobs, top: Blobs) -> list[tuple[Blob, Blob, int]]:
        """Which blobs it lets lie in another's memory: the part, the whole, and where in it the part begins."""
        return []

    def counted_by(self, top_index: int) -> Array | None:
        """The weight of each number of a top in a mean over batches, after a forward; None: the batch size."""
        return None

    def judges_detections(self, top_index: int) -> bool:
        """Whether a top has rows of judged detections: see ``ops/detection/average_precision.py``."""
        return False

    def count_in(self, state: dict[str, Any], name: str) -> int:
        """A count that ``state`` returned: a whole number of at least 0. Raises DataError if it is not there."""
        number = state.get(name)
        if type(number) is not int or not 0 <= number < 2**63:
            problem = f"snapshot has no valid '{name}' for this layer ({number!r:.60})"
            raise DataError(f"{self.spec.where}: {problem}")
        return number

    def parameters_changed(self) -> None:
        """Called after the parameters were loaded, or shared with another net."""

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        """Multiply-adds of one image's forward, for layers that are matrix products; 0 for others."""
        return 0

    @property
    def note(self) -> str:
        """What a summary says about the layer besides its shapes."""
        return ""

    def converter(
        self, shapes: list[tuple[int, ...]]
    ) -> Callable[[list[np.ndarray]], list[np.ndarray]] | None:
        """A function that turns a file's arrays of these shapes into the parameters; None if there is none."""
        return None

    def close(self) -> None:
        """Close files and stop threads."""

    @property
    def xp(self) -> ModuleType:
        """The array module of the net's device: numpy or cupy."""
        return self.setting.device.xp

    @property
    def rng(self) -> Any:
        """The net's random generator, on its device."""
        return self.setting.rng

    @property
    def seed(self) -> int:
        """A seed for this layer alone, for random choices that must not depend on other layers."""
        return zlib.crc32(self.name.encode()) ^ (self.setting.seed & 0xFFFFFFFF)

    def add_blob(self, shape: Sequence[int], filler: FillerParam) -> Blob:
        """Add a parameter blob filled by ``filler``. Zeros take no memory until they are used."""
        blob = Blob(shape, self.dtype, self.setting.device, batch_last=False)
        if not filler.is_zero:
            fill(blob, filler, self.rng)
        self.blobs.append(blob)
        self._fillers.append(filler)
        return blob

    @property
    def is_given_by_spec(self) -> bool:
        """Whether the spec alone determines the parameters, as for bilinear upsampling with ``lr_mult: 0``."""
        fillers, params = self._fillers, self.spec.param
        return (
            0 < len(fillers) == len(self.blobs) <= len(params)
            and fillers[0].has("type")
            and all(filler.type in ("bilinear", "constant") for filler in fillers)
            and all(param.lr_mult == 0 for param in params)
        )

    def keep_from_training(self, *blobs: Blob) -> None:
        """Give parameters that are statistics ``lr_mult: 0``. Raises SpecError if the spec says otherwise."""
        params = list(self.spec.param)
        for blob in self.blobs[len(params) :]:
            params.append(ParamSpec(lr_mult=0.0) if blob in blobs else ParamSpec())
        for blob, given in zip(self.blobs, params, strict=False):
            if blob in blobs and given.lr_mult != 0:
                raise given.error(
                    "lr_mult", f"{given.lr_mult:g}, but statistics are not trained; set 'lr_mult: 0'"
                )
        self.spec.param = params

    def new_array(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """An uninitialised array on the net's device."""
        return self.xp.empty(shape, self.dtype if dtype is None else dtype)

    def shape_error(self, problem: str) -> ShapeError:
        """A ShapeError that begins with the layer's place in the spec."""
        return ShapeError(f"{self.spec.where}: {problem}")


def canonical_axis(layer: Layer, axis: int, ndim: int, field: str = "axis") -> int:
    """An axis counted from 0; the spec may count from the end. Raises ShapeError if it is out of range."""
    if not -ndim <= axis < ndim:
        raise layer.shape_error(f"{field} {axis} is out of range for a bottom with {ndim} axes")
    return axis % ndim


Function = TypeVar("Function", bound=Callable[..., Any])


def is_watched(layer: Layer, method: str) -> bool:
    """Whether a script has hung a function of its own around a layer's method, or around its class's.

    A method that a class takes from elsewhere, or that is decorated, looks the same.
    """
    if method in vars(layer):
        return True
    owner = next(cls for cls in type(layer).__mro__ if method in vars(cls))
    function = vars(owner)[method]
    is_from_there = getattr(function, "__globals__", {}).get("__name__") == owner.__module__
    has_its_name = getattr(function, "__qualname__", "") == f"{owner.__qualname__}.{method}"
    return not (is_from_there and has_its_name) or hasattr(function, "__wrapped__")


class LayerTable(dict[str, Function]):
    """Functions by layer type that say what a layer becomes elsewhere: in Caffe, in ONNX, or folded.

    Each of these has a table of its own. A module that defines a layer type enters its function there:

    >>> @writers.of("Double")  # doctest: +SKIP
    ... def double(graph, layer, x, bottom, top):
    ...     return [graph.scaled(x[0], 2)]
    """

    def of(self, *types: str) -> Callable[[Function], Function]:
        """Enter a function for layers of these types."""

        def enter(function: Function) -> Function:
            self.update(dict.fromkeys(types, function))
            return function

        return enter


layer_classes: dict[str, type[Layer]] = {}
_variants: list[tuple[str, Callable[[LayerSpec], bool], type[Layer]]] = []
fork_classes: dict[str, list[type[Layer]]] = {}


LayerClass = TypeVar("LayerClass", bound=type[Layer])


@overload
def register_layer(type_or_class: LayerClass) -> LayerClass: ...
@overload
def register_layer(type_or_class: str) -> Callable[[LayerClass], LayerClass]: ...
@overload
def register_layer(type_or_class: str, cls: LayerClass) -> LayerClass: ...
def register_layer(type_or_class: str | type[Layer], cls: type[Layer] | None = None) -> object:
    """Make a Layer subclass usable in specs, under its class name or under a name of its own.

    >>> @register_layer
    ... class Double(Layer):
    ...     def reshape(self, bottom, top):
    ...         top[0].reshape(*bottom[0].shape)
    ...     def forward(self, bottom, top):
    ...         top[0].stored[...] = 2 * bottom[0].stored

    ``@register_layer("Name")`` and ``register_layer("Name", cls)`` name the type otherwise.
    """
    if isinstance(type_or_class, type):
        return _register(type_or_class.__name__, type_or_class)
    if cls is not None:
        return _register(type_or_class, cls)
    return lambda decorated: _register(type_or_class, decorated)


def _register(name: str, cls: type[Layer]) -> type[Layer]:
    if not issubclass(cls, Layer):
        raise MinicaffeError(f"register_layer: {cls.__name__} must be a subclass of minicaffe.Layer")
    _put_formula_into_doc(name, cls)
    is_own = not cls.__module__.startswith("minicaffe.")
    if is_own and name in layer_classes and layer_classes[name].__module__.startswith("minicaffe."):
        logger.warning("register_layer: '%s' replaces the layer type of this name; give it another", name)
    layer_classes[name] = cls
    declare_layer_type(
        name, cls.messages, bottoms=cls.bottoms, tops=cls.tops, is_loss=cls.is_loss, is_own=is_own
    )
    return cls


def _put_formula_into_doc(name: str, cls: type[Layer]) -> None:
    """Let ``help(layer)`` begin with the formula, which the docstring of the layer's module has."""
    formula = inspect.getdoc(sys.modules.get(cls.__module__)) or ""
    own = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    if formula.startswith(f"{name}: ") and not own.startswith(formula):
        cls.__doc__ = f"{formula}\n\n{own}".strip()


def register_variant(
    type_name: str, field: str, message: type[Message]
) -> Callable[[LayerClass], LayerClass]:
    """Add a field to a registered layer type; the decorated class runs the layers whose spec has the field."""

    def register(cls: LayerClass) -> LayerClass:
        dense = layer_classes[type_name]
        dense.messages = {**dense.messages, field: message}
        _register(type_name, dense)
        _variants.append((type_name, lambda spec: spec.has(field), cls))
        return cls

    return register


def register_fork(
    type_name: str, is_meant: Callable[[LayerSpec], bool]
) -> Callable[[LayerClass], LayerClass]:
    """Let the decorated class run the layers of a registered type for whose spec ``is_meant`` is true.

    Forks of Caffe have given one name to layers that compute something else. Their fields, bottoms or tops tell
    them apart; the registered type declares those of all.
    """

    def register(cls: LayerClass) -> LayerClass:
        _put_formula_into_doc(type_name, cls)
        fork_classes.setdefault(type_name, []).append(cls)
        _variants.append((type_name, is_meant, cls))
        return cls

    return register


def class_of(spec: LayerSpec) -> type[Layer]:
    """The class that runs a layer: the class of its type, or the variant that its spec asks for."""
    for type_name, is_meant, cls in _variants:
        if spec.type == type_name and is_meant(spec):
            return cls
    return layer_classes[spec.type]
