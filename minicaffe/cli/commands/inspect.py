"""``minicaffe test|time|summary|device``: scores a net, times it, shows what is in it; and what the machine has."""

from __future__ import annotations

import argparse
import logging

from minicaffe.cli.command import Command
from minicaffe.cli.flags import (
    add_allow_missing,
    add_device,
    add_net,
    add_phase,
    add_trust,
    choose_device,
    log_to_stderr,
    positive,
    trained_net,
)
from minicaffe.core.net import Net
from minicaffe.device.array import describe_devices
from minicaffe.errors import SpecError
from minicaffe.files.spec_formats import open_net
from minicaffe.inspect.confusion import ConfusionCounter
from minicaffe.inspect.confusion_table import confusion_text
from minicaffe.inspect.score import show_score
from minicaffe.inspect.summary import (
    as_json,
    energies_kept,
    layer_type_table,
    layer_types_as_json,
    phase_for,
    summarize,
)
from minicaffe.inspect.timing import compare_nets, time_net
from minicaffe.ops.engine import engine_of_run, set_engine
from minicaffe.spec.net import NetSpec
from minicaffe.spec.solver import AP_VERSIONS
from minicaffe.train.scoring import first_not_finite

logger = logging.getLogger("minicaffe")


def test(args: argparse.Namespace) -> None:
    """Score a net on its test data."""
    choose_device(args)
    wants_confusion = args.confusion or args.confusion_layer is not None
    with trained_net(args) as net:
        counter = ConfusionCounter(net, args.confusion_layer) if wants_confusion else None
        show_score(net, args.iterations, counter.look if counter else None, args.ap_version)
    if counter:
        print(f"\nConfusion of '{counter.answers.name}' (layer '{counter.answers.layer}')")
        print(confusion_text(counter.result()))


def _add_test(sub: argparse.ArgumentParser) -> None:
    add_net(sub)
    sub.add_argument("--weights", metavar="FILE", required=True, help="weights (.npz or .caffemodel)")
    sub.add_argument("--iterations", type=positive, metavar="N",
                     help="batches (default: one pass over the data)")  # fmt: skip
    sub.add_argument("--ap-version", choices=AP_VERSIONS, default="Integral",
                     help="how average precision is computed, for a detector (default: Integral)")  # fmt: skip
    sub.add_argument("--confusion", action="store_true",
                     help="also show how often each class is taken for another")  # fmt: skip
    sub.add_argument("--confusion-layer", metavar="LAYER",
                     help="the same, with the scores that this layer compares with labels (default: the last "
                     "Accuracy, or else the last loss)")  # fmt: skip
    add_allow_missing(sub)
    add_device(sub)
    add_trust(sub, runs_python=True)


def time(args: argparse.Namespace) -> None:
    """Time each layer's forward and backward."""
    choose_device(args)
    net, _ = _open(args, args.weights)
    with net:
        if args.against:
            name, other = _other(args)
            with other:
                print(compare_nets(net, other, name, args.iterations))
        else:
            print(time_net(net, args.iterations))
        not_finite = first_not_finite(net)
    if not_finite is not None:
        logger.warning(
            "%s is not finite: with nan a layer may take longer than with numbers; check weights and data",
            not_finite,
        )


def _add_time(sub: argparse.ArgumentParser) -> None:
    add_net(sub)
    add_phase(sub)
    sub.add_argument("--weights", metavar="FILE", help="weights (.npz or .caffemodel)")
    sub.add_argument("--iterations", type=positive, default=50, metavar="N", help="batches (default: 50)")
    sub.add_argument(
        "--batch", type=positive, metavar="N", help="images in a batch (default: as the net says)"
    )
    sub.add_argument("--against", choices=["engine", "lowrank"],
                     help="beside the same net with the other engine (the direct sum, unless that is chosen), or "
                     "beside itself without its low_rank_param")  # fmt: skip
    add_device(sub)
    add_trust(sub, runs_python=True)


def _other(args: argparse.Namespace) -> tuple[str, Net]:
    """What --against compares the net with, and its name."""
    if args.against == "lowrank":
        return "dense", _dense(args)
    of_run = engine_of_run()
    other = "DEFAULT" if of_run == "CAFFE" else "CAFFE"
    set_engine(other)
    try:
        return other.lower(), _open(args, args.weights)[0]
    finally:
        set_engine(of_run)


def _dense(args: argparse.Namespace) -> Net:
    """The net without low rank, with its fillers' weights: those of factors are not its own."""
    spec = _spec(args)
    shrunk = [layer for layer in spec.layer or spec.layers if layer.has("low_rank_param")]
    if not shrunk:
        raise SpecError(
            f"{spec.where}: no layer has low_rank_param; `minicaffe lowrank apply` writes a net whose layers do"
        )
    for layer in shrunk:
        layer.drop("low_rank_param")
    return _open_spec(spec, args, None)[0]


def summary(args: argparse.Namespace) -> None:
    """Show a net's layers: shapes, parameters, multiply-adds, memory, ranks."""
    if args.json:
        log_to_stderr()
    if args.types:
        print(layer_types_as_json() if args.json else layer_type_table())
    elif args.net is None:
        raise SpecError("summary: give a net spec, or --types for the list of layer types")
    else:
        net, why = _open(args, args.weights)
        with net:
            energies = energies_kept(net) if args.weights else {}
            print((as_json if args.json else summarize)(net, energies, why))


def _add_summary(sub: argparse.ArgumentParser) -> None:
    add_net(sub, nargs="?")
    add_phase(sub)
    sub.add_argument("--weights", metavar="FILE",
                     help="weights (.npz or .caffemodel), for the ranks and the energy of these")  # fmt: skip
    sub.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    sub.add_argument("--types", action="store_true", help="list the layer types instead")
    add_trust(sub, runs_python=False)


def _open(args: argparse.Namespace, weights: str | None) -> tuple[Net, str]:
    """The net in --phase, or else in the phase it is for: a deploy net in test, any other in train; and why."""
    return _open_spec(_spec(args), args, weights)


def _spec(args: argparse.Namespace) -> NetSpec:
    """The spec, with --batch."""
    spec = open_net(args.net)
    if getattr(args, "batch", None) is not None:
        spec.set_batch(args.batch)
    return spec


def _open_spec(spec: NetSpec, args: argparse.Namespace, weights: str | None) -> tuple[Net, str]:
    phase, why = (args.phase, "") if args.phase else phase_for(spec, args.level, args.stage)
    return Net(spec, weights, phase, level=args.level, stages=args.stage), why


def device(args: argparse.Namespace) -> None:
    """Say what there is to compute on, and what is missing for a GPU."""
    print(describe_devices())


COMMANDS = [
    Command("test", test, _add_test,
            "test prototxt/lenet/train.yaml --weights models/lenet.npz --iterations 10"),
    Command("time", time, _add_time, "time prototxt/lenet/deploy.yaml --iterations 20 --device cpu"),
    Command("summary", summary, _add_summary, "summary prototxt/resnet50/deploy.yaml"),
    Command("device", device, lambda sub: None, "device"),
]  # fmt: skip
