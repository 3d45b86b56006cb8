"""Before ranks train together: do all of them have the same program, the same specs and the same data?

A rank on another machine may have an older copy of any of these. It would train something else, and the mean of the
gradients would be that of nothing.
"""

from __future__ import annotations

import platform
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from minicaffe.core.learnable_param import LearnableParam
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.device.communicator import Communicator, of_all_ranks
from minicaffe.errors import CommunicatorError, TrainingError, named
from minicaffe.layers.batch_source import BatchSourceLayer
from minicaffe.spec.fields import Message
from minicaffe.spec.solver import SolverSpec

PACKAGE = Path(__file__).parents[2]
ROUNDING = 1e-2  # of the largest number of a parameter: more is no rounding any more
SAMPLES = 16  # images that are compared


def check_same(spec: SolverSpec, net: Net, ranks: Communicator) -> None:
    """Raise CommunicatorError on all ranks if one has something else than rank 0. Collective."""
    hosts = ranks.gather(platform.node())
    found = ranks.gather(dict(_facts(spec, net)))
    for rank, (host, facts) in enumerate(zip(hosts, found, strict=True)):
        for name in sorted(facts.keys() | found[0].keys()):
            here, there = facts.get(name, "nothing"), found[0].get(name, "nothing")
            if here != there:
                raise of_all_ranks(
                    CommunicatorError(
                        f"rank {rank} ({host}): {name}: {named(here)}, but on rank 0 ({hosts[0]}) {named(there)}; "
                        "all ranks need the same program, specs and data"
                    )
                )


def _facts(spec: SolverSpec, net: Net) -> Iterator[tuple[str, str]]:
    """What must be the same everywhere, as texts by name."""
    yield "the program's files", f"checksum {code_checksum():08x}"
    yield "device", net.setting.device.kind
    yield from _fields(spec, "solver spec")
    for layer in net.layers:
        yield from _fields(layer.spec, f"layer '{layer.name}'")
        if isinstance(layer, BatchSourceLayer):
            yield f"data of layer '{layer.name}'", _description(layer)
    for param in net.learnable:
        yield f"shape of parameter {param.key}", str(param.blob.shape)


def code_checksum() -> int:
    """A checksum of the program that runs: a copy that was changed may have the same version."""
    checksum = 0
    for path in sorted(path for ending in ("py", "cu") for path in PACKAGE.rglob(f"*.{ending}")):
        checksum = zlib.crc32(path.read_bytes(), checksum)
    return checksum


def are_in_step(params: Sequence[LearnableParam], ranks: Communicator) -> bool:
    """Whether all ranks have the same parameters, bit for bit. Collective.

    On CPUs of several kinds they may differ by rounding. Raises TrainingError on all ranks where it is more than
    that: then ranks have not made the same updates.
    """
    if ranks.size == 1:
        return True
    checksum = 0
    for param in params:
        checksum = zlib.crc32(np.ascontiguousarray(to_host(param.blob.values)).data, checksum)
    if len({*ranks.gather(checksum)}) == 1:
        return True
    apart = ranks.gather(max((_apart(param, ranks) for param in params), default=0.0))
    other = max(range(ranks.size), key=apart.__getitem__)
    if apart[other] > ROUNDING:
        raise of_all_ranks(
            TrainingError(
                f"rank {other} has other parameters than rank 0 (by {apart[other]:.2g} of the largest): they have "
                "not made the same updates; nothing was saved of them: go on from an earlier snapshot"
            )
        )
    return False


def _apart(param: LearnableParam, ranks: Communicator) -> float:
    """How far a parameter is from that of rank 0, as a share of the largest number. Collective."""
    xp, own = param.blob.device.xp, param.blob.values
    first = own.copy()
    ranks.broadcast(first)
    return float(xp.abs(own - first).max() / xp.maximum(xp.abs(first).max(), np.finfo(np.float32).tiny))


def _fields(message: Message, name: str) -> Iterator[tuple[str, str]]:
    """The fields that a message was given, those of messages in it with their path."""
    for field in filter(message.has, message.fields):
        value = getattr(message, field)
        values = value if isinstance(value, list) else [value]
        for number, each in enumerate(values):
            path = f"{name}, {field}" + (f"[{number}]" if isinstance(value, list) else "")
            if isinstance(each, Message):
                yield from _fields(each, path)
            else:
                yield path, str(each)


def _description(layer: BatchSourceLayer) -> str:
    """How many images a layer reads, of which classes, and a checksum of some of them."""
    checksum = 0
    for array in layer.batches.samples(SAMPLES):
        checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
    names = ", ".join(layer.setting.label_names.first())
    of_classes = f" of the classes {names}" if names else ""
    return f"{layer.rows:,} images{of_classes}, some of them with checksum {checksum:08x}"
