"""The doubles of ``cupy.linalg`` and ``cupyx.errstate``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.strict_cupy.arrays import launched, memories_of, ndarray
from tests.strict_cupy.rules import count

SQUARE = ("cholesky", "eigh", "inv", "solve")
COLUMNS_FIRST = ("qr", "eigh")  # cuSOLVER's matrices have their columns one after the other
_linalg_errors = ["ignore"]


def factorization(name: str) -> Callable[..., Any]:
    """A function of ``linalg``. One that fails gives NaN, unless ``cupyx.errstate(linalg="raise")`` is entered."""
    on_memory = getattr(np.linalg, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        arrays = [a for a in args if isinstance(a, (ndarray, np.ndarray, list))]
        if not arrays or not all(isinstance(a, ndarray) for a in arrays):
            raise np.linalg.LinAlgError("cupy.linalg only supports cupy.ndarray")
        if name in SQUARE and (arrays[0].ndim < 2 or arrays[0].shape[-1] != arrays[0].shape[-2]):
            raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
        if name == "solve" and arrays[1].ndim > 1 and arrays[0].shape[:-1] != arrays[1].shape[:-1]:
            raise ValueError("a must have (..., M, M) shape and b must have (..., M, K)")
        if _linalg_errors[-1] == "raise":
            count("host_reads")  # of cuSOLVER's flag
        return _returned(_or_nan(on_memory, memories_of(args), kwargs), name in COLUMNS_FIRST)

    return call


def _or_nan(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except np.linalg.LinAlgError as error:
        if _linalg_errors[-1] == "raise":
            raise np.linalg.LinAlgError(f"Error reported by cuSOLVER: {error}") from None
    harmless = np.zeros_like(args[0]) + np.eye(*args[0].shape[-2:], dtype=args[0].dtype)
    found = function(harmless, *args[1:], **kwargs)
    return tuple(part * np.nan for part in found) if isinstance(found, tuple) else found * np.nan


def _returned(found: Any, columns_first: bool) -> Any:
    if isinstance(found, tuple):
        return tuple(_returned(part, columns_first) for part in found)
    if columns_first and found.ndim > 1:
        return launched(found.swapaxes(-1, -2)).swapaxes(-1, -2)
    return launched(found)


@contextlib.contextmanager
def errstate(*, divide=None, over=None, under=None, invalid=None, linalg=None) -> Iterator[None]:
    """``cupyx.errstate``: whether a factorization that fails raises."""
    _linalg_errors.append(linalg or _linalg_errors[-1])
    try:
        yield
    finally:
        _linalg_errors.pop()


functions = {name: factorization(name) for name in ("cholesky", "eigh", "inv", "norm", "qr", "solve", "svd")}
