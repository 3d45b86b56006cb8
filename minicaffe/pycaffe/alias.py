"""The name ``caffe`` for this package, for scripts that say ``import caffe``."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import minicaffe.pycaffe as package

ONE_HERE = ("pycaffe", "_caffe")  # modules of Caffe whose names are in this package itself


class ModulesOfForks(MetaPathFinder):
    """Finds what a fork of Caffe has added in Python, as SSD's ``caffe.model_libs``: in ``caffe/`` on sys.path."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where the module is, if it is one; asked last, so that the modules of this package come first."""
        if fullname.partition(".")[0] != "caffe" or fullname.count(".") != 1:
            return None
        return PathFinder.find_spec(fullname, [str(Path(folder) / "caffe") for folder in sys.path])


def install() -> None:
    """Make ``import caffe``, ``from caffe.proto import caffe_pb2`` and the like give this package from now on."""
    if not any(isinstance(finder, ModulesOfForks) for finder in sys.meta_path):
        sys.meta_path.append(ModulesOfForks())
    sys.modules["caffe"] = package
    for name in ONE_HERE:
        sys.modules[f"caffe.{name}"] = package
        setattr(package, name, package)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            name = module.name.replace(package.__name__, "caffe", 1)
            sys.modules[name] = importlib.import_module(module.name)
