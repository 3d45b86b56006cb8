"""The name ``caffe`` for this package, for scripts that say ``import caffe``."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import minicaffe.pycaffe as package

ONE_HERE = ("pycaffe", "_caffe")  # modules of Caffe whose names are in this package itself


def install() -> None:
    """Make ``import caffe``, ``from caffe.proto import caffe_pb2`` and the like give this package from now on."""
    sys.modules["caffe"] = package
    for name in ONE_HERE:
        sys.modules[f"caffe.{name}"] = package
        setattr(package, name, package)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            name = module.name.replace(package.__name__, "caffe", 1)
            sys.modules[name] = importlib.import_module(module.name)
