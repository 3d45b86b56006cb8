"""Marks for some of a test's cases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def on_the_cpu_alone(cases: Iterable[str], others: Iterable[str], reason: str) -> list[Any]:
    """The cases for ``parametrize``; on the double the ``others`` among them are left out."""
    mark = pytest.mark.cpu_only(reason)
    return [pytest.param(case, marks=mark) if case in others else case for case in cases]
