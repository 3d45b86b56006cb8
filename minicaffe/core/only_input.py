"""The array that ``Net.forward`` is given without a name: that of the net's only input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minicaffe.core.blob import Blob, advice_on_shape
from minicaffe.device.array import Array
from minicaffe.errors import MinicaffeError, ShapeError, named


def names_in(given: Any) -> list[str] | None:
    """The names of blobs, if the first argument of ``forward`` is such; None for an array."""
    if isinstance(given, (str, Mapping)) or getattr(given, "ndim", 1) != 1:
        return None
    names = list(given) if isinstance(given, Iterable) else [given]
    return names if all(isinstance(name, str) for name in names) else None


def check_only_input(given: object, net: str, inputs: Sequence[str], others: Mapping[str, Any]) -> None:
    """Raise MinicaffeError, which says how to call ``forward``, unless an array can only be for one input.

    ``net`` is the net's name, ``others`` the inputs that were given by name.
    """
    if isinstance(given, str):
        raise MinicaffeError(f"forward('{named(given)}'): give a list of blobs, ['{named(given)}']")
    by_name = ", ".join(f"{name}=…" for name in inputs)
    if not inputs:
        raise MinicaffeError(f"net '{named(net)}' has no inputs but reads data itself: net.forward()")
    if len(inputs) > 1:
        count = len(inputs)
        raise MinicaffeError(
            f"net '{named(net)}' has {count} inputs; give each by name: net.forward({by_name})"
        )
    if others or isinstance(given, Mapping):
        raise MinicaffeError(f"give the input of net '{named(net)}' by name: net.forward({by_name})")


def as_input(given: Any, name: str, blob: Blob) -> Array:
    """The array for an input, whose batch may be of any size. Raises ShapeError where the rest does not fit."""
    try:
        array = blob.device.put(given, blob.dtype)
    except (TypeError, ValueError) as error:
        raise ShapeError(f"input '{name}': not an array of numbers ({error})") from None
    wanted = blob.shape[1:]
    if array.shape == wanted:
        raise ShapeError(
            f"input '{name}' has shape {array.shape}, which lacks the batch axis; give array[None]"
        )
    if array.shape[1:] != wanted or array.ndim != len(blob.shape):
        shape = f"({', '.join(['N', *map(str, wanted)])})"
        raise ShapeError(
            f"input '{name}' has shape {array.shape}, the net takes {shape}; "
            f"{advice_on_shape(name, array.shape, blob.shape)}"
        )
    return array
