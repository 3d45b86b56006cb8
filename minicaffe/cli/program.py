"""The program ``minicaffe``: its commands, and how each ends."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

from minicaffe import __version__
from minicaffe.caffe.exchange.convert import convert
from minicaffe.caffe.exchange.export import export
from minicaffe.cli.caffe_flags import as_ours
from minicaffe.cli.commands.classify import add_arguments as add_classify
from minicaffe.cli.commands.classify import classify
from minicaffe.cli.commands.data import add_images, add_mean, write_images, write_mean
from minicaffe.cli.commands.lowrank import Command
from minicaffe.cli.commands.lowrank import add_commands as add_lowrank
from minicaffe.cli.flags import (
    add_allow_missing,
    add_device,
    add_rules,
    add_trust,
    choose_device,
    positive,
    trained_net,
    trusting,
)
from minicaffe.compress import fold
from minicaffe.core.net import Net
from minicaffe.data import download
from minicaffe.data.backends import SAMPLES, open_source
from minicaffe.data.lmdb_writer import write_lmdb
from minicaffe.device import array
from minicaffe.errors import MinicaffeError, SpecError, one_line
from minicaffe.files.atomic import make_folder, refuse_overwriting, write_text
from minicaffe.files.spec_formats import open_net, open_solver, read_yaml
from minicaffe.files.state_formats import is_foreign_state
from minicaffe.inspect.score import show_score
from minicaffe.inspect.summary import is_deploy, layer_type_table, summarize
from minicaffe.inspect.timing import time_net
from minicaffe.onnx.model import export_onnx
from minicaffe.train import snapshots
from minicaffe.train.solver import Solver

DATA_HELP = "Fetch data sets, and write them as LMDB."
LOWRANK_HELP = "Make a trained net cheaper by low rank."
EXAMPLES = {  # the last lines of each command's help
    "train": "train prototxt/lenet/solver.yaml --snapshot latest",
    "test": "test prototxt/lenet/train.yaml --weights models/lenet.npz --iterations 10",
    "time": "time prototxt/lenet/deploy.yaml --iterations 20 --device cpu",
    "summary": "summary prototxt/resnet50/deploy.yaml",
    "fold": "fold deploy.yaml --weights net.npz -o folded.yaml",
    "convert": "convert deploy.prototxt net.caffemodel -o converted --input-shape data:1,3,227,227",
    "export": "export prototxt/lenet/deploy.yaml models/lenet.npz -o out --format onnx",
    "classify": "classify prototxt/lenet/deploy.yaml --weights models/lenet.npz digit.png",
    "device": "device",
    "lowrank select": "lowrank select net.yaml --weights net.npz --max-drop 1% --also deploy.yaml",
    "lowrank apply": "lowrank apply net_lowrank.yaml --weights net.npz -o net_lowrank.npz",
    "lowrank sweep": "lowrank sweep net.yaml --weights net.npz --layers conv2,ip1 --plot sweep.png",
    "data get": "data get mnist --to data/mnist",
    "data lmdb": "data lmdb sample/mnist-train -o mnist_train_lmdb",
    "data images": "data images photos/train -o train_lmdb --resize-height 256 --resize-width 256",
    "data mean": "data mean train_lmdb -o mean.binaryproto",
}


def train(args: argparse.Namespace) -> None:
    """Train a net as its solver spec says."""
    spec = open_solver(args.solver)
    choose_device(args, spec)
    is_foreign = args.snapshot is not None and is_foreign_state(args.snapshot)
    if args.weights and args.snapshot is not None and not (is_foreign and len(args.weights) == 1):
        raise MinicaffeError(
            "--weights and --snapshot: give weights to start from, or a state to resume, not both"
        )
    solver = Solver(spec)
    if args.snapshot is not None:
        latest = args.snapshot == "latest"
        state = snapshots.latest(solver.prefix) if latest else args.snapshot
        solver.restore(state, *args.weights)
    else:
        for path in args.weights:
            solver.copy_from(path)
    try:
        with _signals(solver, {"SIGINT": args.sigint_effect, "SIGHUP": args.sighup_effect}):
            solver.solve()
    finally:
        solver.close()


@contextmanager
def _signals(solver: Solver, effects: dict[str, str]) -> Iterator[None]:
    """While training, let a signal ask the solver for its effect; a second SIGINT interrupts at once."""

    def handler(effect: str) -> Callable[[int, object], None]:
        def handle(number: int, frame: object) -> None:
            solver.request(effect)
            if number == signal.SIGINT:
                signal.signal(signal.SIGINT, signal.default_int_handler)

        return handle

    before = {}
    for name, effect in effects.items():
        if hasattr(signal, name) and effect != "none":
            number = getattr(signal, name)
            before[number] = signal.signal(number, handler(effect))
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def test(args: argparse.Namespace) -> None:
    """Score a net on its test data."""
    choose_device(args)
    with trained_net(args) as net:
        show_score(net, args.iterations)


def time(args: argparse.Namespace) -> None:
    """Time each layer's forward and backward."""
    choose_device(args)
    with _open(args, args.weights) as net:
        print(time_net(net, args.iterations))


def summary(args: argparse.Namespace) -> None:
    """Show a net's layers, shapes, parameters and multiply-adds."""
    if args.types:
        print(layer_type_table())
    elif args.net is None:
        raise SpecError("summary: give a net spec, or --types for the list of layer types")
    else:
        with _open(args) as net:
            print(summarize(net))


def _open(args: argparse.Namespace, weights: str | None = None) -> Net:
    """The net, in --phase, or else as it is used: a deploy net to test, all others to train."""
    spec = open_net(args.net)
    phase = args.phase or ("test" if is_deploy(spec, args.level, args.stage) else "train")
    return Net(spec, weights, phase, level=args.level, stages=args.stage)


def fold_net(args: argparse.Namespace) -> None:
    """Fold BatchNorm and Scale into the layers before them, for a net that is only used."""
    out = Path(args.output)
    if out.suffix == ".npz":
        raise MinicaffeError(f"--output {out}: the spec's path; the weights get the same name, with .npz")
    net = trained_net(args)
    refuse_overwriting([out, out.with_suffix(".npz")], [args.net, args.weights, *net.spec.files_named()])
    text, folded = fold.fold(args.net, read_yaml(args.net), net)
    write_text(out, text)
    folded.save(out.with_suffix(".npz"))
    print(f"Wrote {out} and {out.with_suffix('.npz')}: {len(net.layers) - len(folded.layers)} layers less")


def convert_net(args: argparse.Namespace) -> None:
    """Write a net of Caffe as YAML, with its weights and mean image as .npz."""
    files = convert(
        args.net,
        args.weights,
        args.output,
        mean=args.mean,
        input_shapes=_input_shapes(args),
        level=args.level,
        stages=args.stage,
    )
    print(f"Wrote {', '.join(str(path) for path in (files.spec, files.weights, files.mean) if path)}")


def _input_shapes(args: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in args.input_shape:
        if name in shapes:
            raise SpecError(f"--input-shape {name}: given twice; keep one")
        shapes[name] = shape
    return shapes


EXPORTS = {  # of each format: what writes it, and the endings of its files
    "caffe": (export, ("prototxt", "caffemodel")),
    "onnx": (export_onnx, ("onnx",)),
}


def export_net(args: argparse.Namespace) -> None:
    """Write a net with its weights for Caffe (.prototxt, .caffemodel), or as an ONNX model."""
    if args.dynamic and args.format != "onnx":
        raise MinicaffeError("--dynamic: is for --format onnx; a net of Caffe may be reshaped as it is")
    spec = open_net(args.net)
    spec.set_input_shapes(_input_shapes(args))
    net = trained_net(args, args.phase, spec)
    folder = Path(args.output)
    write, endings = EXPORTS[args.format]
    files = [folder / f"{Path(args.net).stem}.{ending}" for ending in endings]
    refuse_overwriting(files, [args.net, args.weights, *net.spec.files_named()])
    make_folder(folder)
    options = {"free_size": True} if args.dynamic else {}
    for note in write(net, *files, **options) or ():
        print(note)
    if net.preparation is not None:  # which these files cannot say
        print(f"Pictures: {net.preparation}")
    print(f"Wrote {', '.join(map(str, files))}")


def _named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME:1,3,227,227."""
    name, _, dims = text.rpartition(":")
    if not name or not all(dim.strip().isdecimal() and len(dim) < 10 for dim in dims.split(",")):
        raise argparse.ArgumentTypeError(f"'{text}': write NAME:N,C,H,W, as in data:1,3,227,227")
    return name, tuple(int(dim) for dim in dims.split(","))


def device(args: argparse.Namespace) -> None:
    """Say what there is to compute on, and what is missing for a GPU."""
    print(array.describe_devices())


def data_get(args: argparse.Namespace) -> None:
    """Fetch a full data set."""
    download.get(args.name, args.to, source_url=args.source)


def data_lmdb(args: argparse.Namespace) -> None:
    """Write images and labels (IDX or NPZ) as an LMDB, for Caffe's nets that read one."""
    source = open_source(args.source, labels=args.labels)
    try:
        count = write_lmdb(source, args.output)
    finally:
        source.close()
    print(f"Wrote {count} images to {args.output}")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(prog="minicaffe", description="A Caffe-style mini deep learning framework.")
    parser.add_argument("--version", action="version", version=f"minicaffe {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show a traceback when something goes wrong")
    commands = parser.add_subparsers(metavar="command", required=True)

    command = _adder(commands, common)
    _add_train(command("train", train))
    for name, function in (("test", test), ("time", time)):
        sub = command(name, function)
        _add_net(sub, phase=name == "time")
        sub.add_argument(
            "--weights", metavar="FILE", required=name == "test", help="weights (.npz or .caffemodel)"
        )
        batches, shown = {"test": (None, "one pass over the data"), "time": (50, "50")}[name]
        sub.add_argument("--iterations", type=positive, default=batches, metavar="N",
                         help=f"batches (default: {shown})")  # fmt: skip
        if name == "test":
            add_allow_missing(sub)
        add_device(sub)
        add_trust(sub, runs_python=True)
    sub = command("summary", summary)
    _add_net(sub, phase=True, optional=True)
    sub.add_argument("--types", action="store_true", help="list the layer types instead")
    add_trust(sub, runs_python=False)
    sub = command("fold", fold_net)
    _add_net(sub, phase=False)
    sub.add_argument("--weights", metavar="FILE", required=True, help="an .npz file with its trained weights")
    sub.add_argument(
        "-o", "--output", metavar="SPEC", required=True, help="the spec to write, with an .npz beside it"
    )
    add_trust(sub, runs_python=True)
    add_allow_missing(sub)
    _add_convert(command("convert", convert_net))
    _add_export(command("export", export_net))
    add_classify(command("classify", classify))
    command("device", device)
    lowrank = commands.add_parser("lowrank", help=LOWRANK_HELP, description=LOWRANK_HELP)
    add_lowrank(_adder(lowrank.add_subparsers(metavar="command", required=True), common))
    _add_data(commands, common)
    return parser


def _add_data(commands: Any, common: argparse.ArgumentParser) -> None:
    data = commands.add_parser("data", help=DATA_HELP, description=DATA_HELP)
    command = _adder(data.add_subparsers(metavar="command", required=True), common)
    get = command("get", data_get)
    get.add_argument("name", choices=["mnist", "cifar10"])
    get.add_argument("--to", metavar="DIR", help="where to put it (default: data/mnist, data/cifar10)")
    get.add_argument("--from", dest="source", metavar="URL", help="another mirror, or a local file or folder")
    add_images(command("images", write_images))
    add_mean(command("mean", write_mean))
    lmdb = command("lmdb", data_lmdb)
    lmdb.add_argument("source", help=f"an IDX file (MNIST's), an .npz, or a sample: {', '.join(SAMPLES)}")
    lmdb.add_argument(
        "--labels", metavar="FILE", help="the labels of an IDX file (default: found by its name)"
    )
    lmdb.add_argument("-o", "--output", metavar="DIR", required=True, help="the folder to write, a new one")


def _adder(commands: Any, common: argparse.ArgumentParser) -> Command:
    """What adds a command to a group of them, with its function's docstring as its help."""

    def add(name: str, function: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=function.__doc__, description=function.__doc__, parents=[common])
        sub.set_defaults(function=function)
        return sub

    return add


def _add_train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("solver", help="a solver spec (YAML or .prototxt)")
    sub.add_argument("--weights", type=lambda text: text.split(","), default=[], metavar="FILE[,FILE]",
                     help="start from these weights, matched to layers by name")  # fmt: skip
    sub.add_argument(
        "--snapshot",
        metavar="FILE",
        help="resume from this .solverstate.npz or Caffe's .solverstate; 'latest': of the run started last",
    )
    for name, default in (("sigint", "stop"), ("sighup", "snapshot")):
        sub.add_argument(f"--{name}_effect", choices=["stop", "snapshot", "none"], default=default,
                         help=f"what {name.upper()} does (default: {default})")  # fmt: skip
    add_device(sub)
    add_trust(sub, runs_python=True)


def _add_convert(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("net", help="Caffe's net (.prototxt)")
    add_rules(sub)
    sub.add_argument(
        "weights", nargs="?", metavar="caffemodel", help="its weights (.caffemodel, .caffemodel.h5)"
    )
    sub.add_argument("--mean", metavar="FILE", help="a mean image (.binaryproto)")
    _add_input_shape(sub, "an Input layer of this shape in place of the data layer that makes it")
    sub.add_argument("-o", "--output", metavar="DIR", required=True, help="the folder to write into")
    add_trust(sub, runs_python=False)


def _add_export(sub: argparse.ArgumentParser) -> None:
    _add_net(sub, phase=False)
    sub.add_argument("weights", help="its weights (.npz, or Caffe's)")
    _add_input_shape(sub, "another shape for an input of the net")
    sub.add_argument(
        "--dynamic", action="store_true", help="images of any height and width (for --format onnx)"
    )
    sub.add_argument("--format", choices=list(EXPORTS), default="caffe", help="for whom (default: caffe)")
    sub.add_argument(
        "--phase", choices=["train", "test"], default="test", help="whose weights (default: test)"
    )
    add_allow_missing(sub)
    sub.add_argument("-o", "--output", metavar="DIR", required=True, help="the folder to write into")
    add_trust(sub, runs_python=False)


def _add_input_shape(sub: argparse.ArgumentParser, what: str) -> None:
    sub.add_argument(
        "--input-shape", type=_named_shape, action="append", default=[], metavar="NAME:N,C,H,W", help=what
    )


def _add_net(sub: argparse.ArgumentParser, phase: bool, optional: bool = False) -> None:
    sub.add_argument("net", nargs="?" if optional else None, help="a net spec (YAML or .prototxt)")
    add_rules(sub)
    if phase:
        sub.add_argument(
            "--phase",
            choices=["train", "test"],
            help="the phase whose layers run (default: train; of a net without data and loss, test)",
        )


class _Help(argparse.RawDescriptionHelpFormatter):
    """Says what a flag's default is, where its help does not."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.option_strings and action.default not in (None, False, [], "", argparse.SUPPRESS)
        return f"{text} (default: %(default)s)".strip() if shown and "default" not in text else text


class _Parser(argparse.ArgumentParser):
    """Reports a wrong flag as every other error: in one line. Its help ends with an example."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Help, **options)
        example = EXAMPLES.get(self.prog.partition(" ")[2])
        self.epilog = f"example:\n  minicaffe {example}" if example else None

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} ('{self.prog} --help' says how)\n")


class _Output(logging.StreamHandler):
    """Progress on stdout; where it cannot be written (``| head``, a full disk), the command ends.

    But a terminal that goes away ends no training: its SIGHUP has been answered, and the rest is not shown.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.is_terminal = stream.isatty()  # one that is gone says that it is none

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if self.is_terminal and isinstance(error, OSError) and error.errno == errno.EIO:
            for stream in (sys.stdout, sys.stderr):
                _drop(stream)
        elif isinstance(error, OSError):
            raise
        else:
            super().handleError(record)


def _drop(stream: TextIO) -> None:
    """Let all that is written to a stream be lost."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def _prepare_streams() -> None:
    """Let stdout and stderr take any text: where one was closed, and where its encoding lacks a letter."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (it stays open)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 2 for an error that the user can mend, 130 if interrupted."""
    _prepare_streams()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_Output(sys.stdout)], force=True)
    warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy, where a training diverges: that is reported
    try:
        args = make_parser().parse_args(as_ours(sys.argv[1:] if argv is None else argv))
    except MinicaffeError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    try:
        with trusting(args):
            args.function(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _drop(sys.stdout)
        return 1
    except (MinicaffeError, MemoryError, OSError) as error:
        if args.debug:
            raise
        kind = "not enough memory: " if isinstance(error, MemoryError) else ""
        print(f"error: {kind}{one_line(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        if args.debug or not array.is_device_error(error):
            raise
        print(
            f"error: the GPU failed ({one_line(error)}); try --device cpu, or see docs/gpu.md",
            file=sys.stderr,
        )
        return 2
    return 0
