"""Flags that several commands share, and what they do."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from minicaffe.core.net import Net
from minicaffe.core.weights import used_as_they_are
from minicaffe.data.preparation import read_preparation
from minicaffe.device import array
from minicaffe.device.array import Device
from minicaffe.device.launch import device_of_rank, launch_of
from minicaffe.errors import DeviceError, MinicaffeError, WeightError
from minicaffe.files.spec_formats import open_net
from minicaffe.files.weight_formats import open_weights
from minicaffe.layers.python import import_own, import_problem
from minicaffe.ops.engine import ENGINES, set_engine
from minicaffe.spec import trust
from minicaffe.spec.net import NetSpec
from minicaffe.spec.solver import SolverSpec
from minicaffe.spec.trust import Trust

logger = logging.getLogger("minicaffe")


def add_net(sub: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Add the net, --stage and --level; ``nargs`` "?" for one that need not be given."""
    sub.add_argument("net", nargs=nargs, help="a net spec (YAML or .prototxt)")
    add_rules(sub)


def add_phase(sub: argparse.ArgumentParser) -> None:
    """Add --phase, for commands that look at a net in either."""
    sub.add_argument(
        "--phase",
        choices=["train", "test"],
        help="the phase whose layers run (default: train; of a net without data and loss, test)",
    )


def add_device(sub: argparse.ArgumentParser) -> None:
    """Add --device, --engine and --tf32."""
    sub.add_argument("--device", metavar="auto|cpu|gpu[:N]", help="where to compute (default: auto)")
    sub.add_argument(
        "--engine",
        choices=[name.lower() for name in ENGINES],
        help="how to compute convolutions: caffe, one direct sum; winograd, fewer products for windows of 3 × 3 "
        "or 5 wide; default, the faster one for each layer",
    )
    sub.add_argument(
        "--tf32",
        action="store_true",
        help="let a GPU round the factors of products to TF32: faster, less exact",
    )


def add_rules(sub: argparse.ArgumentParser) -> None:
    """Add --stage and --level, which choose among a net's layers."""
    sub.add_argument("--stage", action="append", default=[], help="a stage for include and exclude rules")
    sub.add_argument("--level", type=int, default=0, help="the level for include and exclude rules")


def add_trust(sub: argparse.ArgumentParser, runs_python: bool) -> None:
    """Add --import, and flags that allow a spec to do more; ``runs_python``: the command runs the net anyway."""
    sub.add_argument("--import", dest="imports", action="append", default=[], metavar="MODULE",
                     help="first import this module of yours, with layer types: NAME, or FILE.py")  # fmt: skip
    if runs_python:
        sub.set_defaults(allow_python=True)
        sub.add_argument("--allow-output", action="append", default=[], metavar="DIR",
                         help="one more folder that files named in a spec may be written into "
                         "(default: the working directory, and the spec's)")  # fmt: skip
    else:
        sub.add_argument("--allow-python", action="store_true",
                         help="import the modules that the spec names: that runs their code")  # fmt: skip


@contextmanager
def trusting(args: argparse.Namespace) -> Iterator[None]:
    """In this block specs may do what the command's flags allow: by default compute, and nothing else."""
    folders = (".", *getattr(args, "allow_output", ()))
    with trust.limited(Trust(getattr(args, "allow_python", False), folders)):
        for text in getattr(args, "imports", ()):
            _import(text)
        yield


def _import(text: str) -> None:
    """Import a module by its name, or by the name of its file."""
    path = Path(text)
    name, folder = (path.stem, path.parent) if path.suffix == ".py" else (text, Path())
    try:
        import_own(name, folder)
    except Exception as error:
        raise MinicaffeError(f"--import {text}: {import_problem(name, folder, error)}") from error


def add_allow_missing(sub: argparse.ArgumentParser) -> None:
    """Add --allow-missing, which ``trained_net`` obeys."""
    sub.add_argument(
        "--allow-missing", action="store_true", help="go on where the weights lack layers of the net"
    )


def trained_net(
    args: argparse.Namespace,
    phase: str = "test",
    spec: NetSpec | None = None,
    advice: str = "give weights of this net",
) -> Net:
    """The net of the arguments (or of ``spec``) with their weights; folders are numbered as in their training.

    Raises WeightError where these lack a layer, unless --allow-missing makes it a warning; and where they do not
    fit, with ``advice``.
    """
    with open_weights(args.weights) as file:
        preparation = read_preparation(file)
        names = preparation.class_names if preparation else ()
        spec = spec or open_net(args.net)
        net = Net(spec, phase=phase, stages=args.stage, level=args.level, class_names=names)
        try:
            with used_as_they_are(advice):
                problem = net.copy_from(file).problem(file)
            if problem and not args.allow_missing:
                raise WeightError(f"{problem}; give weights of this net, or go on with --allow-missing")
        except MinicaffeError:
            net.close()
            raise
    if problem:
        logger.warning("%s: the fillers' values stay there", problem)
    return net


def choose_device(args: argparse.Namespace, spec: SolverSpec | None = None) -> None:
    """--device, or else MINICAFFE_DEVICE, or else the solver's ``solver_mode``, or else auto; or DeviceError."""
    name, given = args.device, os.environ.get("MINICAFFE_DEVICE")
    of_rank = partial(device_of_rank, launch=launch_of())
    if args.tf32:
        array.allow_tf32()
    if args.engine:
        set_engine(args.engine)
    if name is None and not given and spec is not None and spec.has("solver_mode"):
        device = _device_of(spec)
    else:
        device = array.current_device(of_rank) if name is None else array.set_device(of_rank(name))
    logger.info("Computing on %s", device)


def _device_of(spec: SolverSpec) -> Device:
    launch, name = launch_of(), "cpu"
    if spec.solver_mode == "GPU":
        name = f"gpu:{spec.device_id}" if launch.size == 1 or spec.has("device_id") else "gpu"
    try:
        return array.set_device(device_of_rank(name, launch))
    except DeviceError as error:
        raise spec.error("solver_mode", f"{error} (--device cpu)") from None


def is_stdout(path: str | Path) -> bool:
    """Whether what is written to ``path`` comes out of stdout, as of /dev/stdout."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except (OSError, ValueError):  # no such file yet, or no stdout
        return False


def log_to_stderr() -> None:
    """Leave stdout to what a program or a file is given."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of at least 1")
    return int(text)


def as_share(text: str) -> float:
    """The number of a text that is a share, 0.3 and 30% alike; nan where it is no number."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return math.nan


def share(text: str) -> float:
    """The value of a flag that is a share above 0, and at most 1."""
    value = as_share(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a share above 0 and at most 1, like 0.3 or 30%")
    return value


def shares(text: str) -> list[float]:
    """The value of a flag that is some shares, with commas between them."""
    return [share(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """The value of a flag that is some names, with commas between them."""
    return text.split(",")
