"""All CUDA kernels of the project, in every number type that they are compiled for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import numpy as np

from minicaffe import ops
from minicaffe.device.kernel import Kernel
from minicaffe.ops.update import kernel_of
from minicaffe.spec.solver import parse_solver
from minicaffe.train.solvers.rule import update_rules


def all_kernels() -> dict[str, Kernel]:
    """Every kernel, by name: those beside the modules in ``ops``, and one for each update rule."""
    modules = [
        importlib.import_module(found.name) for found in pkgutil.walk_packages(ops.__path__, "minicaffe.ops.")
    ]
    kernels = [kernel for module in modules for kernel in getattr(module, "KERNELS", {}).values()]
    spec = parse_solver("net: none\nbase_lr: 0.1\nlr_policy: fixed\n")
    for name, rule in update_rules.items():
        kernels.append(kernel_of(name, rule.cuda, rule.histories, tuple(rule(spec).constants(0))))
    return {kernel.name: kernel for kernel in kernels}


def sources(kernel: Kernel) -> Iterator[str]:
    """The whole source in each number type: T, Index and, where it has one, Place."""
    for real in (np.float32, np.float64):
        for index in (np.int32, np.int64):
            for place in (np.uint8, np.int32) if "Place*" in kernel.source else (None,):
                more = {} if place is None else {"Place": place}
                yield kernel.code(Index=index, T=real, **more)
