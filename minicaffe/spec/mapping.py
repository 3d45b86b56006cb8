"""A spec as Python's dicts and lists in place of a file. Errors name the path of keys, as there are no lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import yaml

from minicaffe.errors import SpecError, named
from minicaffe.spec.net import NetSpec
from minicaffe.spec.reader import MAX_DEPTH, NO_LINE, Where

FILE = "<dict>"
NULL = "tag:yaml.org,2002:null"


def net_of_mapping(given: Mapping[str, Any]) -> NetSpec:
    """The net that a dict describes: ``{"layer": [{"name": …, "type": …}, …]}``. Raises SpecError."""
    return NetSpec.read(_mapping(given, ""), Where(FILE))


def _mapping(given: Mapping[Any, Any], path: str) -> yaml.MappingNode:
    pairs = []
    for key, value in given.items():
        if not isinstance(key, str):
            raise _problem(path, f"a field's name is a text, not {key!r:.60}")
        pairs.append((yaml.ScalarNode("", key, NO_LINE), _node(value, f"{path}.{key}" if path else key)))
    return yaml.MappingNode("", pairs, NO_LINE)


def _node(value: Any, path: str) -> yaml.Node:
    """A value as the node that a file with it would give. Raises SpecError for what no file can hold."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if path.count(".") + path.count("[") > MAX_DEPTH:
        raise _problem(path, f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return _mapping(value, path)
    if isinstance(value, bool):
        return yaml.ScalarNode("", str(value).lower(), NO_LINE)
    if isinstance(value, (str, int, float, PurePath)):
        return yaml.ScalarNode("", str(value), NO_LINE)
    if value is None:
        return yaml.ScalarNode(NULL, "null", NO_LINE)
    if isinstance(value, Sequence):
        return yaml.SequenceNode("", [_node(one, f"{path}[{i}]") for i, one in enumerate(value)], NO_LINE)
    raise _problem(path, f"expected a dict, a list, text or a number, got a {type(value).__name__}")


def _problem(path: str, what: str) -> SpecError:
    return SpecError(f"{Where(FILE, field=named(path))}: {what}")
