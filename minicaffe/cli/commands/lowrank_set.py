"""``minicaffe lowrank set``: puts ranks into a spec by rules, without data."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from minicaffe.cli.command import Command, CommandGroup
from minicaffe.cli.flags import (
    add_allow_missing,
    add_net,
    add_trust,
    as_share,
    names,
    positive,
    share,
    trained_net,
)
from minicaffe.compress.outputs import yaml_for
from minicaffe.compress.rules import Rule, Ruled, resolve, table
from minicaffe.compress.shrunk import shrunk_text
from minicaffe.core.net import Net
from minicaffe.errors import MinicaffeError, WriteError
from minicaffe.files.atomic import refuse_overwriting, refuse_unwritable, write_text
from minicaffe.files.spec_formats import has_weights, open_net
from minicaffe.files.weight_formats import format_to_write
from minicaffe.inspect.summary import count_computed, energies_kept, phase_for
from minicaffe.train.preview import count_multiply_adds

logger = logging.getLogger("minicaffe")


def set_ranks(args: argparse.Namespace) -> None:
    """Put ranks into a net's spec by rules, without data."""
    if args.weights is None and has_weights(args.net):
        args.weights = args.net
    rules, spec = _rules(args), open_net(args.net)
    out = Path(args.output or Path(args.net).with_name(f"{Path(args.net).stem}_lowrank.yaml"))
    if out.suffix not in (".yaml", ".yml"):
        raise WriteError(
            f"{out}: set writes YAML; give an -o that ends in .yaml ('minicaffe export' writes others)"
        )
    outputs = [out, out.with_suffix(".npz")] if args.weights else [out]
    refuse_overwriting(outputs, [args.net, args.weights, *spec.files_named()])
    for path in outputs:
        refuse_unwritable(path)
    text, spec = yaml_for(Path(args.net), out)
    with _net(args) as net:
        if args.weights:
            energies_kept(net)  # finds the ranks of layers that have an energy
        ruled = resolve(net, rules, args.without, args.scheme.upper(), args.multiple, bool(args.weights))
        plan = {name: found.choice for name, found in ruled.items() if found.choice}
        names = [layer.name for layer in net.spec.layer or net.spec.layers]
        kept = [name for name in names if name not in ruled]
        text = shrunk_text(text, spec, plan, kept, adds_biases=False)
        print(table(net, ruled))
        print(_totals(net, ruled))
        if args.weights:
            _write_weights(net, ruled, outputs[1])
        write_text(out, text)  # last: where it is, its weights are
    logger.info("Wrote %s", " and ".join(map(str, outputs)))


def _rules(args: argparse.Namespace) -> list[Rule]:
    """The rules that the flags and the words are, in this order. Raises MinicaffeError where there is none."""
    goals = [(kind, value) for kind, value in (("flops", args.flops), ("energy", args.energy)) if value]
    if len(goals) > 1:
        raise MinicaffeError("set: give one of --flops and --energy")
    if args.energy and not args.weights:
        raise MinicaffeError("set: --energy is that of trained weights; give them with --weights")
    if args.layers and not goals:
        raise MinicaffeError("set: --layers are those of --flops or --energy; give one of these")
    rules = [Rule(args.layers, kind, value) for kind, value in goals] + [_rule(x) for x in args.rules]
    if not rules:
        raise MinicaffeError(
            "set: no ranks; give LAYER=RANK, as in conv2=12 or 'fc*=0.25', --flops or --energy"
        )
    return rules


def _rule(text: str) -> Rule:
    """The rule of a text like ``conv2=12`` or ``fc*=0.25``. Raises MinicaffeError."""
    pattern, _, number = text.rpartition("=")
    value = int(number) if number.isdecimal() else as_share(number)
    if not pattern or not (value >= 1 if isinstance(value, int) else 0 < value < 1):
        raise MinicaffeError(
            f"'{text}': write LAYER=RANK, as in conv2=12, or a fraction of the full rank, as in 'fc*=0.25'"
        )
    return Rule([pattern], "rank", value)


def _net(args: argparse.Namespace) -> Net:
    """The net in the phase it is for, as ``minicaffe summary`` shows it, with the weights that are given."""
    spec = open_net(args.net)
    phase, _ = phase_for(spec, args.level, args.stage)
    if args.weights:
        return trained_net(args, phase, spec)
    return Net(spec, phase=phase, level=args.level, stages=args.stage)


def _totals(net: Net, ruled: Mapping[str, Ruled]) -> str:
    """The parameters and multiply-adds of the whole net, before and after."""
    added = [found.added for found in ruled.values()]
    words = []
    for what, before, more in (
        ("parameters", count_computed(net)[0], sum(params for params, _ in added)),
        ("multiply-adds of an image", count_multiply_adds(net), sum(work for _, work in added)),
    ):
        words.append(f"{what}: {before:,} → {before + more:,} ({(before + more) / before:.3f})")
    return "the whole net: " + ", ".join(words)


def _write_weights(net: Net, ruled: Mapping[str, Ruled], path: Path) -> None:
    """Write the net's parameters, with the factors of the layers that have a rank."""
    saved = net.as_saved()
    layers = []
    for layer in saved.layers:
        found = ruled.get(layer.spec.name)
        arrays = layer.arrays if found is None or found.arrays is None else found.arrays
        layers.append(replace(layer, arrays=arrays))
    format_to_write(path).write(replace(saved, layers=layers), path)


def _add_set(sub: argparse.ArgumentParser) -> None:
    add_net(sub)
    sub.add_argument("rules", nargs="*", metavar="LAYER=RANK",
                     help="conv2=12, or a fraction of the full rank, 'fc*=0.25'; the last one holds")  # fmt: skip
    sub.add_argument("--flops", type=share, metavar="0.5",
                     help="the largest ranks that cost this share of each layer's multiply-adds")  # fmt: skip
    sub.add_argument("--energy", type=share, metavar="0.9",
                     help="the smallest ranks that keep this share of the squared singular values")  # fmt: skip
    sub.add_argument("--layers", type=names, metavar="NAME,…",
                     help="those of --flops or --energy: names, 'fc*' (default: all convolutions)")  # fmt: skip
    sub.add_argument("--except", dest="without", type=names, default=[], metavar="NAME,…",
                     help="layers that stay as they are: names, 'fc*'")  # fmt: skip
    sub.add_argument("--scheme", choices=["channel", "spatial"], default="channel",
                     help="into which two layers a convolution is taken apart")  # fmt: skip
    sub.add_argument(
        "--multiple", type=positive, default=1, metavar="8", help="round ranks down to a multiple"
    )
    sub.add_argument("--weights", metavar="FILE",
                     help="trained weights, whose factors are written beside the spec")  # fmt: skip
    sub.add_argument("-o", "--output", metavar="SPEC", help="the spec to write (default: NET_lowrank.yaml)")
    add_allow_missing(sub)
    add_trust(sub, runs_python=False)


COMMANDS = [
    CommandGroup(
        "lowrank",
        "Make a trained net cheaper by low rank.",
        [
            Command("set", set_ranks, _add_set,
                    "lowrank set prototxt/lenet/deploy.yaml conv2=12 'ip*=0.25' -o lenet_lowrank.yaml"),
        ],
    )
]  # fmt: skip
