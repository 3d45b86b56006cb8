"""Nets written in Python: ``n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20)``.

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 28, 28]))
    n.pool = L.Pooling(n.data, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.to_proto()     # a NetParameter, whose str() is prototxt
    n.to_yaml()      # the same net as a YAML spec

``L`` makes a function of any layer type, and ``P`` has the constants of messages.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minicaffe.caffe.formats.prototxt import check_kinds, parse_prototxt
from minicaffe.caffe.formats.schema import Field
from minicaffe.caffe.formats.tree import as_yaml
from minicaffe.caffe.formats.yaml_text import yaml_text
from minicaffe.core.layer import layer_classes
from minicaffe.errors import SpecError
from minicaffe.pycaffe.proto import caffe_pb2
from minicaffe.pycaffe.proto.full_schema import full_schema
from minicaffe.spec.net import NetSpec as Spec
from minicaffe.spec.reader import Where, nearest

WHERE = "<NetSpec>"


class Top:
    """One output of a layer, which other layers can take."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn, self.n = fn, n

    def to_proto(self) -> Any:
        """The net, a NetParameter, of all layers that this top needs; names are made up."""
        return to_proto(self)


class Function:
    """A layer: its type, what it takes, and its parameters. ``ntop`` of its tops are in ``tops``."""

    def __init__(self, type_name: str, inputs: Iterable[Top], params: Mapping[str, Any]) -> None:
        self.type_name, self.inputs, self.params = type_name, tuple(inputs), dict(params)
        for index, top in enumerate(self.inputs):
            if not isinstance(top, Top):
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(top)})")
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))


class _Writer:
    """Puts layers into a net, each after those that it needs, and names those that have no name."""

    def __init__(self, names: Mapping[Top | Function, str]) -> None:
        self.names = dict(names)
        self.net = caffe_pb2.NetParameter()
        self._written: dict[Function, Any] = {}
        self._count: Counter[str] = Counter()

    def write(self, fn: Function) -> Any:
        """The LayerParameter of a layer, added to the net if it is not there yet."""
        if fn not in self._written:
            bottoms = [self.write(top.fn).top[top.n] for top in fn.inputs]
            tops = bottoms if fn.in_place else [self._name(top, fn) for top in fn.tops]
            name = self._name(fn.tops[0] if fn.tops else fn, fn)
            layer = self.net.layer.add(name=name, type=fn.type_name, bottom=bottoms, top=tops)
            for key, value in fn.params.items():
                assign_proto(*_place(layer, key), value)
            self._written[fn] = layer
        return self._written[fn]

    def _name(self, thing: Top | Function, fn: Function) -> str:
        if thing not in self.names:
            self._count[fn.type_name] += 1
            self.names[thing] = f"{fn.type_name}{self._count[fn.type_name]}"
        return self.names[thing]


def _place(layer: Any, key: str) -> tuple[Any, str]:
    """The message that a parameter of a layer belongs to: the layer's own, or that of its type."""
    for name in _messages_of(layer.type):
        if key in _fields(name):
            return getattr(layer, name), key
    own = [name for message in _messages_of(layer.type) for name in _fields(message)]
    if key not in full_schema()["LayerParameter"]:
        raise SpecError(f"a layer of type {layer.type} has no field '{key}'{nearest(key, own)}")
    return layer, key


def _fields(name: str) -> Iterable[str]:
    """The fields of a layer's message: of convolution_param those of ConvolutionParameter."""
    return full_schema()[full_schema()["LayerParameter"][name].kind]


def param_name_dict() -> dict[str, str]:
    """The start of the name of the message that each layer type has: Convolution -> convolution."""
    fields = full_schema()["LayerParameter"]
    return {
        field.kind.removesuffix("Parameter"): name.removesuffix("_param")
        for name, field in fields.items()
        if name.endswith("_param")
    }


def _messages_of(type_name: str) -> list[str]:
    """The names of the messages that are a type's alone: convolution_param of Convolution and Deconvolution."""
    fields = full_schema()["LayerParameter"]
    own = [name for name, field in fields.items() if field.kind == f"{type_name}Parameter"]
    cls = layer_classes.get(type_name)
    return own + [name for name in (cls.messages if cls else ()) if name in fields and name not in own]


def assign_proto(message: Any, name: str, value: Any) -> None:
    """Give a field a Python value: a dict for a message, a list (or one value) for a repeated field."""
    known = full_schema()[message.DESCRIPTOR.name]
    if name not in known:
        raise SpecError(f"{message.DESCRIPTOR.name} has no field '{name}'{nearest(name, known)}")
    field, target = known[name], getattr(message, name)
    if field.kind not in full_schema():
        try:
            if field.repeated:
                target.extend([_scalar(field, item) for item in _listed(value)])
            else:
                setattr(message, name, _scalar(field, value))
        except (TypeError, ValueError):
            raise SpecError(f"{message.DESCRIPTOR.name}: {name}: {value!r} is no {field.kind}") from None
    elif field.repeated:
        for item in _listed(value):
            _assign_all(target.add(), item, name)
    else:
        _assign_all(target, value, name)


def _listed(value: Any) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, (list, tuple)) else [value]


def _scalar(field: Field, value: Any) -> Any:
    """A value as protobuf takes it: an enum's name becomes its number, a number of NumPy one of Python."""
    if field.values and isinstance(value, str):
        if value.upper() not in field.values:
            raise SpecError(f"{field.name}: '{value}'; one of {', '.join(field.values)}")
        return field.values[value.upper()]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer() and "int" in field.kind:
        return int(value)  # what a script of Python 2 divides, as kernel_size / 2, is a float in Python 3
    return str(value) if field.kind == "string" else value


def _assign_all(message: Any, values: Mapping[str, Any], field: str) -> None:
    if isinstance(values, type(message)):  # as pycaffe takes messages themselves
        message.MergeFrom(values)
        return
    if not isinstance(values, Mapping):
        raise SpecError(f"{field}: {values!r}; give a dict of the fields of {message.DESCRIPTOR.name}")
    for name, value in values.items():
        assign_proto(message, name, value)


def to_proto(*tops: Top | Function) -> Any:
    """The net, a NetParameter, of all layers that ``tops`` need."""
    return _write(map(_function, tops), {})


def _function(thing: Top | Function) -> Function:
    """The layer, or the one that makes a top."""
    return thing.fn if isinstance(thing, Top) else thing


def _write(functions: Iterable[Function], names: Mapping[Top | Function, str]) -> Any:
    writer = _Writer(names)
    for fn in functions:
        writer.write(fn)
    return writer.net


class NetSpec:
    """A net whose attributes are tops; their names become those of blobs and layers."""

    tops: OrderedDict[str, Top | Function]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Top | Function) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Top | Function:
        if name == "tops":  # of a copy that is being made
            raise AttributeError(name)
        if name not in self.tops:
            raise AttributeError(f"the net has no '{name}' yet{nearest(name, self.tops)}")
        return self.tops[name]

    __setitem__, __getitem__ = __setattr__, __getattr__

    def keys(self) -> list[str]:
        """The names of the tops, in the order in which they were given (SSD's Caffe)."""
        return list(self.tops)

    def vals(self) -> list[Top | Function]:
        """The tops, in the same order (SSD's Caffe)."""
        return list(self.tops.values())

    def update(self, name: str, params: Mapping[str, Any]) -> None:
        """Change parameters of the layer that makes a top (SSD's Caffe)."""
        _function(self[name]).params.update(params)

    def to_proto(self) -> Any:
        """The net as a NetParameter; its str() is prototxt."""
        return _write(map(_function, self.tops.values()), {top: name for name, top in self.tops.items()})

    def to_yaml(self) -> str:
        """The net as the text of a YAML spec. Raises SpecError if the net cannot be run."""
        tree, where = parse_prototxt(str(self.to_proto()), WHERE), Where(WHERE)
        check_kinds(tree, "NetParameter", where)
        return yaml_text(tree, Spec.read(as_yaml(tree), where), "Written by caffe.NetSpec.")


class Layers:
    """``L``: a function for each layer type, which gives its top, its tops, or (without any) itself."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def make(*inputs: Top, **params: Any) -> Top | Function | tuple[Top, ...]:
            fn = Function(name, inputs, params)
            return fn if fn.ntop == 0 else fn.tops[0] if fn.ntop == 1 else fn.tops

        return make


class Parameters:
    """``P``: the constants of messages, as in ``P.Pooling.MAX``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(caffe_pb2, f"{name}Parameter")


layers, params = Layers(), Parameters()
