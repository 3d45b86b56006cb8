"""The parameters of a CUDA kernel, read from its source.

CuPy passes arguments on without a look at the source (``cuda/function.pyx``): what is of another type
than its parameter is read as other bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from minicaffe.device.kernel import CTYPES

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
TYPEDEF = re.compile(r"\btypedef\s+([^;]+?)\s*\b(\w+)\s*;")
PARAMETER = re.compile(r"(?P<const>const\s+)?(?P<type>[\w ]+?)\s*(?P<star>\*?)\s*\w+")


@dataclass(frozen=True)
class Parameter:
    """One of them: a number, or a pointer to numbers, which are written unless they are ``const``."""

    text: str
    dtype: np.dtype
    is_pointer: bool
    is_written: bool


def parameters(code: str, name: str) -> list[Parameter]:
    """Those of the kernel of that name. Raises ValueError where the source has none, or a type is not known."""
    code = COMMENT.sub("", code)
    dtypes = {text: dtype for dtype, text in CTYPES.items()}
    dtypes |= {new: dtypes.get(old) for old, new in TYPEDEF.findall(code)}
    found = re.search(rf"\b(?:void|KERNEL)\s+{name}\s*\(([^)]*)\)", code)
    if found is None:
        raise ValueError(f"kernel {name}: not in its source")
    return [_parameter(" ".join(text.split()), dtypes, name) for text in found[1].split(",")]


def _parameter(text: str, dtypes: dict[str, np.dtype | None], name: str) -> Parameter:
    found = PARAMETER.fullmatch(text)
    dtype = dtypes.get(found["type"]) if found else None
    if dtype is None:
        raise ValueError(f"kernel {name}: what is '{text}'?")
    return Parameter(text, dtype, bool(found["star"]), bool(found["star"]) and not found["const"])
