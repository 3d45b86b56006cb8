"""``minicaffe convert|export|fold``: a net from Caffe, a net for Caffe or ONNX, a net without its BatchNorms."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from minicaffe.caffe.exchange.convert import convert
from minicaffe.caffe.exchange.export import export
from minicaffe.cli.command import Command
from minicaffe.cli.flags import add_allow_missing, add_net, add_rules, add_trust, trained_net
from minicaffe.compress import outputs
from minicaffe.compress.fold import fold
from minicaffe.errors import MinicaffeError, SpecError, counted
from minicaffe.files.atomic import make_folder, refuse_overwriting, refuse_unwritable
from minicaffe.files.spec_formats import open_net
from minicaffe.onnx.model import export_onnx

EXPORTS: dict[str, tuple[Callable[..., Iterable[str] | None], tuple[str, ...]]] = {
    # for each format: what writes it and returns notes to print, and the endings of its files
    "caffe": (export, ("prototxt", "caffemodel")),
    "onnx": (export_onnx, ("onnx",)),
}


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


def export_net(args: argparse.Namespace) -> None:
    """Write a net with its weights for Caffe (.prototxt, .caffemodel), or as an ONNX model."""
    if args.dynamic and args.format != "onnx":
        raise MinicaffeError("--dynamic: is for --format onnx; a net of Caffe may be reshaped as it is")
    spec = open_net(args.net)
    spec.set_input_shapes(_input_shapes(args))
    if args.input_shape:
        net = trained_net(args, args.phase, spec, "give --input-shape the size that the net was trained with")
    else:
        net = trained_net(args, args.phase, spec)
    folder = Path(args.output)
    write, endings = EXPORTS[args.format]
    files = [folder / f"{Path(args.net).stem}.{ending}" for ending in endings]
    refuse_overwriting(files, [args.net, args.weights, *net.spec.files_named()])
    make_folder(folder)
    options = {"free_size": True} if args.dynamic else {}
    for note in write(net, *files, **options) or ():
        print(note)
    if net.preparation is not None:  # which has no place in these files
        print(f"Pictures: {net.preparation}")
    print(f"Wrote {', '.join(map(str, files))}")


def _add_export(sub: argparse.ArgumentParser) -> None:
    add_net(sub)
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


def _named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME:1,3,227,227."""
    name, _, dims = text.rpartition(":")
    if not name or not all(dim.strip().isdecimal() and len(dim) < 10 for dim in dims.split(",")):
        raise argparse.ArgumentTypeError(f"'{text}': write NAME:N,C,H,W, as in data:1,3,227,227")
    return name, tuple(int(dim) for dim in dims.split(","))


def _input_shapes(args: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in args.input_shape:
        if name in shapes:
            raise SpecError(f"--input-shape {name}: given twice; keep one")
        shapes[name] = shape
    return shapes


def fold_net(args: argparse.Namespace) -> None:
    """Fold BatchNorm and Scale into the layers before them, for a net that is only used."""
    out = Path(args.output)
    files = outputs.files_of(out)
    text, spec = outputs.yaml_for(Path(args.net), out)
    refuse_overwriting(files, [args.net, args.weights, *spec.files_named()])
    for file in files:
        refuse_unwritable(file)
    net = trained_net(args, spec=spec)
    text, folded = fold(text, net)
    outputs.write(folded, text, out)
    print(f"{counted(len(net.layers) - len(folded.layers), 'layer')} less")


def _add_fold(sub: argparse.ArgumentParser) -> None:
    add_net(sub)
    sub.add_argument(
        "--weights", metavar="FILE", required=True, help="its trained weights (.npz or .caffemodel)"
    )
    sub.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="what to write: .yaml, .prototxt or .onnx"
    )
    add_trust(sub, runs_python=True)
    add_allow_missing(sub)


COMMANDS = [
    Command("convert", convert_net, _add_convert,
            "convert deploy.prototxt net.caffemodel -o converted --input-shape data:1,3,227,227"),
    Command("export", export_net, _add_export,
            "export prototxt/lenet/deploy.yaml models/lenet.npz -o out --format onnx"),
    Command("fold", fold_net, _add_fold, "fold deploy.yaml --weights net.npz -o folded.yaml"),
]  # fmt: skip
