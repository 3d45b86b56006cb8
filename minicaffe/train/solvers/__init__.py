"""The update rules, one file each: every file here is imported, and registers its rule. ``rule`` is their base."""

from typing import TYPE_CHECKING, Any

from minicaffe.startup import import_all

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """``minicaffe.solvers.adam``: a type checker does not see what ``import_all`` imports."""


import_all(__name__)
