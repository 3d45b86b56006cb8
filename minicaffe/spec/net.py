"""The net spec: layers, their connections, and which of them belong to a phase.

Field names and meaning are those of ``NetParameter`` and ``LayerParameter`` in ``caffe.proto``.
"""

from __future__ import annotations

import builtins  # in LayerSpec, ``type`` is a field
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import yaml

from minicaffe.errors import SpecError
from minicaffe.spec.fields import (
    BlobShape,
    Bool,
    Enum,
    Field,
    Float,
    Int,
    Message,
    MessageType,
    Nested,
    String,
)
from minicaffe.spec.reader import Where, kind, line_of, nearest, parse_yaml

OWN_TYPE = "A layer of your own is 'type: Python', or --import MODULE registers its type"
FILES_READ = ("source", "label_source", "class_names", "mean_file")  # fields of layers' messages


class ParamSpec(Message):
    """Training settings of one parameter blob; ``name`` shares it with every parameter of that name."""

    name = String("")
    share_mode = Enum("STRICT", "PERMISSIVE", default="STRICT")
    lr_mult = Float(1.0)
    decay_mult = Float(1.0)


class NetState(Message):
    """What ``include`` and ``exclude`` rules are checked against."""

    phase = Enum("TRAIN", "TEST", default="TEST")
    level = Int(0)
    stage = String(repeated=True)


class NetStateRule(Message):
    """A rule is met if all the fields that it gives are met."""

    phase = Enum("TRAIN", "TEST")
    min_level = Int()
    max_level = Int()
    stage = String(repeated=True)
    not_stage = String(repeated=True)

    def met_by(self, state: NetState) -> bool:
        """Whether the state satisfies the rule (``StateMeetsRule`` in Caffe's net.cpp)."""
        return (
            (self.phase is None or self.phase == state.phase)
            and (self.min_level is None or state.level >= self.min_level)
            and (self.max_level is None or state.level <= self.max_level)
            and set(self.stage) <= set(state.stage)
            and not set(self.not_stage) & set(state.stage)
        )

    def __str__(self) -> str:
        parts = [f"phase {self.phase}"] if self.phase else []
        parts += [f"level {self.min_level} and above"] if self.min_level is not None else []
        parts += [f"level {self.max_level} and below"] if self.max_level is not None else []
        parts += [f"stage '{name}'" for name in self.stage]
        parts += [f"not stage '{name}'" for name in self.not_stage]
        return " with ".join(parts) or "any state"


class LayerSpec(Message):
    """What every layer has; ``declare_layer_type`` adds the messages that its type takes.

    Such a message is an attribute, ``spec.convolution_param``. A layer asks for it by class,
    ``spec.message(ConvolutionParam)``, so that a type checker knows what it gets.

    ``problem`` says why the layer cannot exist; it is raised once a net's state selects the layer.
    ``bottoms`` and ``tops`` are the least and the most that its type takes of each (None: any number).
    """

    problem: str = ""
    is_own: ClassVar[bool] = False  # of a type that does not come with the package
    is_loss: ClassVar[bool] = False
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    message_names: ClassVar[tuple[str, ...]] = ()  # the fields that its type adds

    name = String(required=True)
    type = String(required=True)
    bottom = String(repeated=True)
    top = String(repeated=True)
    phase = Enum("TRAIN", "TEST")
    loss_weight = Float(repeated=True)
    param = Nested(ParamSpec, repeated=True)
    propagate_down = Bool(repeated=True)
    include = Nested(NetStateRule, repeated=True)
    exclude = Nested(NetStateRule, repeated=True)

    @property
    def brings_data(self) -> bool:
        """Whether the layer reads or generates data. Input, which a caller fills, and Parameter do not."""
        return not self.bottom and self.bottoms[0] == 0 and self.type not in ("Input", "Parameter")

    def check(self) -> None:
        if not self.name:
            raise self.error("name", "is empty; give the layer a name")
        if self.include and self.exclude:
            raise self.error("exclude", "give include rules or exclude rules, not both")

    def hint(self, name: str) -> str:
        if not (self.is_own and name.endswith("_param")):
            return super().hint(name)
        declare = f"; declare its fields in the layer's class: messages = {{'{name}': …}}"
        return nearest(name, [field for field in self.fields if field.endswith("_param")]) or declare

    def message(self, message: builtins.type[MessageType]) -> MessageType:
        """The layer's message of this class. Raises SpecError if it has none."""
        found = self.find_message(message)
        if found is None:
            raise SpecError(f"{self.where}: a layer of type {self.type} has no {message.__name__}")
        return found

    def find_message(self, message: builtins.type[MessageType]) -> MessageType | None:
        """The layer's message of this class, or None."""
        for name in self.message_names:
            value = getattr(self, name)
            if isinstance(value, message):
                return value
        return None

    def rules(self) -> str:
        """Which nets have the layer, in words."""
        told = " or ".join(map(str, self.include or self.exclude))
        return f"only in {told}" if self.include else f"not in {told}"

    def belongs_to(self, state: NetState) -> bool:
        """Whether the layer is part of the net in this state."""
        if self.include:
            return any(rule.met_by(state) for rule in self.include)
        return not any(rule.met_by(state) for rule in self.exclude)


_layer_specs: dict[str, type[LayerSpec]] = {}
layer_types: Mapping[str, type[LayerSpec]] = MappingProxyType(_layer_specs)  # by the name of the type


_allows_unknown: ContextVar[bool] = ContextVar("allows_unknown", default=False)


@contextmanager
def unknown_types_allowed() -> Iterator[None]:
    """While the block runs, specs are read with layers of unknown types, whose ``problem`` says so."""
    token = _allows_unknown.set(True)
    try:
        yield
    finally:
        _allows_unknown.reset(token)


def declare_layer_type(type_name: str, messages: Mapping[str, type[Message]], **known: object) -> None:
    """Make a layer type known to specs, with the messages (``convolution_param``, …) that it takes.

    ``known``: values for ``bottoms``, ``tops``, ``is_loss`` and ``is_own`` of its ``LayerSpec``.
    """
    attributes: dict[str, object] = {
        name: Nested(message, optional=message.may_be_absent) for name, message in messages.items()
    }
    attributes.update(known, message_names=tuple(messages))
    _layer_specs[type_name] = type(f"{type_name}Spec", (LayerSpec,), attributes)


def make_layer_spec(type_name: str, **values: Any) -> LayerSpec:
    """A layer spec made in Python, with the messages of its type at their defaults."""
    return _layer_specs[type_name](type=type_name, **values)


class LayerField(Field[list[LayerSpec]]):
    """One layer; its ``type`` decides which fields it may have."""

    expects = "a mapping with name, type, …"

    def convert(self, node: yaml.Node, where: Where) -> LayerSpec:
        if not isinstance(node, yaml.MappingNode):
            raise SpecError(f"{where}: expected {self.expects}, got a {kind(node)}")
        name, line = _scalar(node, "name"), line_of(node)
        if name or line:  # else its place among the layers says which it is
            where = Where(where.file, line, layer=name or "?")
        type_name = _scalar(node, "type")
        if not type_name:
            raise _no_type(node, where)
        if type_name not in _layer_specs:
            known = nearest(type_name, _layer_specs) or "; 'minicaffe summary --types' lists them."
            problem = f"{where.at(field='type')}: unknown layer type '{type_name}'{known} {OWN_TYPE}"
            layer = _read_common(node, where)
            if not (layer.include or layer.exclude or _allows_unknown.get()):
                raise SpecError(problem)
            layer.problem = problem  # raised only if the net's state selects this layer
            return layer
        return _layer_specs[type_name].read(node, where)


def _no_type(node: yaml.MappingNode, where: Where) -> SpecError:
    """What is wrong with a layer without a type: it is misspelt, is not a name, or is not there."""
    for key, value in node.value:
        if key.value == "type" and not isinstance(value, yaml.ScalarNode):
            return SpecError(f"{where.at(field='type')}: expected a name, got a {kind(value)}")
        if key.value not in LayerSpec.fields and (hint := nearest(str(key.value), ["type"])):
            return SpecError(f"{where.at(line=line_of(key), field=str(key.value))}: unknown field{hint}")
    return SpecError(f"{where.at(field='type')}: required, but not given; add 'type: …'")


def _read_common(node: yaml.MappingNode, where: Where) -> LayerSpec:
    """A layer of unknown type, with only the fields that every layer has."""
    common = [(key, value) for key, value in node.value if key.value in LayerSpec.fields]
    return LayerSpec.read(yaml.MappingNode(node.tag, common, node.start_mark, node.end_mark), where)


def _scalar(node: yaml.MappingNode, name: str) -> str:
    values = [v.value for k, v in node.value if k.value == name and isinstance(v, yaml.ScalarNode)]
    return values[0] if values else ""


class InputParam(Message):
    """The shapes of an Input layer: one for each top, or one for all. A net's ``input`` becomes such a layer."""

    shape = Nested(BlobShape, repeated=True)


class NetSpec(Message):
    """A net: ``layer`` (or ``layers``) lists its layers in the order in which they run forward."""

    name = String("")
    layer = LayerField(repeated=True)
    layers = LayerField(repeated=True)
    input = String(repeated=True)
    input_shape = Nested(BlobShape, repeated=True)
    input_dim = Int(min=0, repeated=True)
    force_backward = Bool(False)
    debug_info = Bool(False)
    state = Nested(NetState)

    def hint(self, name: str) -> str:
        if name in ("net", "train_net", "test_net", "test_iter", "base_lr", "lr_policy", "max_iter"):
            return "; this is a solver spec, but a net spec is expected here"
        return super().hint(name)

    def check(self) -> None:
        if self.layer and self.layers:
            raise self.error("layers", "'layer' is given too; put all layers under one of them")
        if not (self.layer or self.layers):
            raise self.error("", "no layers; list them under 'layer:'")
        shapes = len(self.input_shape) or len(self.input_dim) / 4
        if len(self.input) != shapes:
            raise self.error("input", f"{len(self.input)} names but {shapes:g} shapes; give one for each")

    def set_input_shapes(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Change the shapes of inputs, given by name. Raises SpecError for a name that is not an input."""
        given = {name: BlobShape(dim=list(shape)) for name, shape in shapes.items()}
        if given.keys() & set(self.input):
            shapes_now = [layer.message(InputParam).shape[0] for layer in self._input_layers()]
            self.drop("input_dim")
            self.input_shape = [given.get(n, s) for n, s in zip(self.input, shapes_now, strict=True)]
        names = list(self.input)
        for layer in (layer for layer in self.layer or self.layers if layer.type == "Input"):
            tops = layer.top or [layer.name]
            names += tops
            if given.keys() & set(tops):
                param = layer.message(InputParam)
                shapes_now = param.shape if len(param.shape) == len(tops) else param.shape * len(tops)
                param.shape = [given.get(n, s) for n, s in zip(tops, shapes_now, strict=True)]
        for name in given.keys() - set(names):
            hint = nearest(name, names) or f"; they are {', '.join(names) or 'none'}"
            raise SpecError(f"{self.where}: '{name}' is not an input of this net{hint}")

    def set_batch(self, count: int) -> None:
        """Change the first axis of inputs and the ``batch_size`` of data layers. Raises SpecError without any."""
        layers = [*self._input_layers(), *(self.layer or self.layers)]
        inputs = [layer for layer in layers if layer.type == "Input"]
        params = [getattr(layer, name) for layer in layers for name in layer.message_names]
        sized = [param for param in params if isinstance(param, Message) and "batch_size" in param.fields]
        if not inputs and not sized:
            raise SpecError(
                f"{self.where}: no input and no data layer with a batch_size, so the batch is fixed"
            )
        shapes: dict[str, list[int]] = {}
        for layer in inputs:
            tops, given = layer.top or [layer.name], layer.message(InputParam).shape
            given = given if len(given) == len(tops) else given * len(tops)
            shapes |= {top: [count, *shape.dim[1:]] for top, shape in zip(tops, given, strict=True)}
        self.set_input_shapes(shapes)
        for param in sized:
            param.batch_size = count  # type: ignore[attr-defined]

    def layers_in(self, state: NetState) -> list[LayerSpec]:
        """The layers of a net in this state, with ``input`` fields turned into Input layers.

        Raises SpecError if two of them have the same name, or one has an unknown type.
        """
        chosen = self._input_layers() + self.layers_for(state)
        first: dict[str, LayerSpec] = {}
        for layer in chosen:
            if layer.problem:
                raise SpecError(layer.problem)
            if layer.name in first:
                line = first[layer.name].line("name")
                other = f"the layer at line {line}" if line else "another layer"
                raise layer.error("name", f"'{layer.name}' is also the name of {other}; rename one")
            first[layer.name] = layer
        return chosen

    def files_named(self) -> list[Path]:
        """The files that layers read (data, labels, a mean), beside the spec or in the working directory."""
        messages = [getattr(x, name) for x in self.layer or self.layers for name in x.fields if x.has(name)]
        names = [getattr(message, field, None) for message in messages for field in FILES_READ]
        places = [Path(self.where.file).parent, Path(".")]
        return [place / name for name in names if name for place in places]

    def layers_for(self, state: NetState) -> list[LayerSpec]:
        """The layers that the spec lists for this state."""
        return [layer for layer in self.layer or self.layers if layer.belongs_to(state)]

    def layers_left_out(self, state: NetState) -> list[LayerSpec]:
        """The layers that only nets in other states have."""
        return [layer for layer in self.layer or self.layers if not layer.belongs_to(state)]

    def _input_layers(self) -> list[LayerSpec]:
        shapes = self.input_shape or [
            BlobShape(dim=self.input_dim[4 * i : 4 * i + 4]) for i in range(len(self.input))
        ]
        inputs = []
        for name, shape in zip(self.input, shapes, strict=True):
            layer = make_layer_spec("Input", name=name, top=[name])
            layer.message(InputParam).shape = [shape]
            inputs.append(layer)
        return inputs


def parse_net(text: str, file: str = "<string>") -> NetSpec:
    """Validate a net spec given as YAML text; ``file`` names it in errors. Raises SpecError."""
    return NetSpec.read(parse_yaml(text, file), Where(file))


def make_state(phase: str, level: int = 0, stages: Iterable[str] = ()) -> NetState:
    """The state of a net in ``phase`` ("train" or "test"). Raises SpecError for another phase."""
    if str(phase).upper() not in ("TRAIN", "TEST"):
        raise SpecError(f"phase '{phase}': must be 'train' or 'test'")
    try:
        number = operator.index(level)
    except TypeError:
        raise SpecError(f"level {level!r}: must be a whole number") from None
    names = [stages] if isinstance(stages, str) else list(stages)
    return NetState(phase=str(phase).upper(), level=number, stage=names)
