"""Several ranks beside one process: ``python benchmarks/distributed.py COMMAND`` (extra ``mpi``).

    agree       do N ranks of batch B train as one process of batch N·B?
    speed       images a second of two ranks of one core and of one process of two workers
    model       how a step would grow on 1 to 1,024 ranks behind links of 1, 10 and 100 Gbit/s
    slow        what the model says of two ranks behind a slow link, beside what they take
    accuracy    cifar10_quick trained by two ranks, with gradients of low rank and with whole ones
    faults      ranks that are killed (``distributed_faults.py``)

Real ranks are started by ``mpiexec``; ``model`` needs none. What is timed takes turns, and a ratio is the median of
those of neighbouring turns. The images of cifar10 are in data/cifar10 (``minicaffe data get cifar10``).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import yaml
from distributed_model import Event, Link, scaled, seconds_of
from distributed_ranks import (
    OVER_TCP,
    PROTOTXT,
    ROOT,
    Ranks,
    Spec,
    can_make_namespaces,
    has_data,
    mpiexec,
    solver_text,
    train_net,
    two_namespaces,
    with_batch_norm,
)
from peer_specs import SOLVER, training_spec
from peers import machine

GRADIENT_RANK = 4

# -- agree -----------------------------------------------------------------------------------------------

Weights = dict[str, np.ndarray]
LOOKED_AT = (1, 10, 50)  # iterations
AGREE: dict[str, tuple[str, Callable[[Spec], Spec]]] = {
    "lenet": ("lenet", lambda spec: spec),
    "cifar10_quick": ("cifar10_quick", lambda spec: spec),
    "cifar10_quick, BatchNorm": ("cifar10_quick", with_batch_norm),
}


def agree(args: argparse.Namespace) -> None:
    """Largest relative difference of a parameter, max|a − b| / max|a|, to one process with the same images."""
    last = LOOKED_AT[-1]
    print(
        "largest relative difference of a parameter, max|a − b| / max|a|, to one process of one worker that"
    )
    print(
        f"trains on the same images, after {', '.join(map(str, LOOKED_AT))} iterations. As a control, that of"
    )
    print("one process of two workers, which adds up in another order too\n")
    head = [f"{kind}, {n}" for kind in ("float32", "two workers, float32") for n in LOOKED_AT]
    print(f"| net | ranks × batch | float64, {last} | {' | '.join(head)} |")
    print("|---|---|--:|" + "--:|" * len(head), flush=True)
    for title, (name, change) in AGREE.items():
        for ranks in args.ranks:
            specs = [
                change(train_net(name, batch, augments=False)) for batch in (args.batch, ranks * args.batch)
            ]
            if not has_data(specs[0]):
                print(f"| {title} | left out: there are no images |")
                continue
            own, whole = map(json.dumps, specs)
            exact = [_trained(name, whole, double=True), _trained(name, own, ranks, double=True)]
            one, many, other = (
                _trained(name, whole),
                _trained(name, own, ranks),
                _trained(name, whole, cores=2),
            )
            found = [
                furthest(*(each[-1] for each in exact)),
                *map(furthest, one, many),
                *map(furthest, one, other),
            ]
            cells = " | ".join(f"{difference:.1e}" for difference in found)
            print(f"| {title} | {ranks} × {args.batch} | {cells} |", flush=True)


def _trained(name: str, net: str, ranks: int = 1, cores: int = 1, double: bool = False) -> list[Weights]:
    """The weights after some iterations."""
    found = []
    with Ranks(ranks) as group:
        group.call("make", solver_text(name), net, cores, double)
        for before, iteration in zip((0, *LOOKED_AT), LOOKED_AT, strict=False):
            group.call("steps", iteration - before)
            found.append(group.call("weights")[0])
    return found


def furthest(one: Weights, other: Weights) -> float:
    """The largest max|a − b| / max|a| of all parameters."""
    return max(float(np.abs(a - other[key]).max() / np.abs(a).max()) for key, a in one.items())


# -- speed -----------------------------------------------------------------------------------------------


def speed(args: argparse.Namespace) -> None:
    """Images a second, beside one process of two workers with the batch of both ranks; and the wait for sums."""
    print(
        f"a rank has batch {args.batch}; {args.rounds} turns of about {args.seconds:g} s each. Waited: for sums,"
    )
    print("ms a step, the mean of the ranks; the less of the two is what the sums themselves take\n")
    print("| net | | images a step | images a second | ratio | MB a step | waited | of the step | the less |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for net in args.nets:
        if not has_data(train_net(net, 1)):
            print(f"| {net} | left out: there are no images |")
            continue
        _speed_of(net, args)


def _speed_of(net: str, args: argparse.Namespace) -> None:
    small, large = (json.dumps(train_net(net, n * args.batch)) for n in (1, 2))
    whole, low = solver_text(net), solver_text(net, gradient_rank=GRADIENT_RANK)
    runs = {  # ranks, spec, solver, workers, images a step
        "one process, two workers, batch × 2": (1, large, whole, 2, 2),
        "two ranks": (2, small, whole, 0, 2),
        f"two ranks, gradient_rank {GRADIENT_RANK}": (2, small, low, 0, 2),
        "one process, two workers": (1, small, whole, 2, 1),
        "one rank, one core": (1, small, whole, 1, 1),
    }
    with ExitStack() as stack:
        groups, sent = {}, {}
        for title, (count, spec, solver, cores, _) in runs.items():
            groups[title] = stack.enter_context(Ranks(count))
            made = groups[title].call("make", solver, spec, cores, pinned=title == "one rank, one core")
            sent[title] = made[0]["sent"] / 1e6
        found = in_turns(groups, args.rounds, args.seconds)
    first = next(iter(runs))
    for title, (*_, batches) in runs.items():
        images = [batches * args.batch / each["seconds"] for each in found[title]]
        base = [2 * args.batch / each["seconds"] for each in found[first]]
        ratio = median(a / b for a, b in zip(images, base, strict=True))
        seconds, waited, least = (
            median(e[name] for e in found[title]) for name in ("seconds", "waited", "least")
        )
        times = f"{waited * 1e3:.1f} | {waited / seconds:.1%} | {least * 1e3:.1f}"
        end = f"{sent[title]:.2f} | {times}" if sent[title] else "| | |"
        speeds = f"{batches * args.batch} | {median(images):.0f} | {ratio:.2f}"
        print(f"| {net} | {title} | {speeds} | {end} |", flush=True)


def in_turns(groups: dict[str, Ranks], rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """What each group takes for a step, in each round, after a round that does not count."""
    counts = {}
    for title, group in groups.items():
        group.call("steps", 1)
        counts[title] = max(1, round(seconds / group.call("steps", 2)[0]["seconds"]))
    found: dict[str, list[dict[str, float]]] = {title: [] for title in groups}
    for _ in range(rounds):
        for title, group in groups.items():
            own = group.call("steps", counts[title])
            found[title].append({
                "seconds": max(each["seconds"] for each in own),
                "waited": sum(each["waited"] for each in own) / len(own),
                "least": min(each["waited"] for each in own),
            })  # fmt: skip
    return found


# -- model -----------------------------------------------------------------------------------------------

MODELLED = {"lenet": 64, "cifar10_vgg": 100, "resnet50": 8, "vgg16": 8}  # nets, and the batch of a rank
RATES = (1e9, 1e10, 1e11)
SIZES = [1 << n for n in range(11)]  # 1 to 1,024 ranks


def model(args: argparse.Namespace) -> None:
    """Step times and efficiencies on many ranks."""
    print(f"a rank has {args.cores} cores of this machine", end="")
    print(f", {args.faster:g} times as fast" if args.faster != 1 else "", end="")
    print(
        f"; a message takes {args.latency * 1e6:g} µs. Images a second of N ranks, by those of N times one:\n"
    )
    sizes = " | ".join(f"{n:,}" for n in SIZES)
    print(f"| net, batch of a rank | step, ms | gradients | MB a step | Gbit/s | {sizes} |")
    print(f"|---|--:|---|--:|--:|{'--:|' * len(SIZES)}", flush=True)
    for net in args.nets:
        alone, kinds = _recorded(net, args)
        for title, sent, steps in kinds:
            for rate in RATES:
                cells = [f"{each:.0%}" for each in efficiencies(alone, steps, Link(args.latency, rate))]
                print(f"| {net}, {MODELLED[net]} | {median(alone) * 1e3:.4g} | {title} | {sent / 1e6:.2f} |"
                      f" {rate / 1e9:g} | {' | '.join(cells)} |", flush=True)  # fmt: skip


def efficiencies(alone: Sequence[float], steps: Sequence[Sequence[Event]], link: Link) -> Iterator[float]:
    """Of each number of ranks: the median of a step's seconds alone by those of the step of its turn."""
    for ranks in SIZES:
        taken = [seconds_of(step, lambda size, n=ranks: link.seconds_of_sum(size, n))[0] for step in steps]
        yield 1.0 if ranks == 1 else median(one / each for one, each in zip(alone, taken, strict=True))


def _recorded(
    net: str, args: argparse.Namespace
) -> tuple[list[float], list[tuple[str, int, list[list[Event]]]]]:
    """The seconds of steps alone; and of each kind of gradients its name, the bytes sent, and the steps."""
    with Ranks(1) as group:
        group.call("make", SOLVER, json.dumps(training_spec(net, MODELLED[net])), args.cores, records=2)
        found = group.call("compare", (None, GRADIENT_RANK), args.steps)[0]
    alone = [seconds / args.faster for seconds in found["alone"]]
    steps = [[scaled(step, 1 / args.faster) for step in kind] for kind in found["steps"]]
    return alone, [*zip(("whole", f"rank {GRADIENT_RANK}"), found["sent"], steps, strict=True)]


# -- slow ------------------------------------------------------------------------------------------------


def slow(args: argparse.Namespace) -> None:
    """Step times of two ranks behind a slow link: predicted, and measured."""
    with_namespaces = not args.double and can_make_namespaces()
    print("the link is between two network namespaces, by TCP, slowed down by tc" if with_namespaces else
          "the link is a communicator that hands out sums late")  # fmt: skip
    print(f"batch {args.batch} of a rank; {args.rounds} rounds of {args.steps} steps\n")
    print("| net | gradients | MB a step | Mbit/s | α ms, Mbit/s as measured | step without a link, ms |"
          " predicted, ms | measured, ms | predicted / measured | waited, ms |")  # fmt: skip
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for net in args.nets:
        for rank in (None, GRADIENT_RANK):
            for rate in args.rates:
                with _two(rate * 1e6, with_namespaces) as (linked, delay):
                    _slow_of(net, rank, rate, linked, delay, args)


@contextmanager
def _two(rate: float, with_namespaces: bool) -> Iterator[tuple[Ranks, float]]:
    """Two ranks with a link between them, or with the rate of the double's."""
    with ExitStack() as stack:
        if with_namespaces:
            by = stack.enter_context(two_namespaces(rate))
            yield stack.enter_context(Ranks(2, by, **OVER_TCP)), 0
        else:
            yield stack.enter_context(Ranks(2)), rate


def _slow_of(
    net: str, rank: int | None, rate: float, linked: Ranks, delay: float, args: argparse.Namespace
) -> None:
    spec, solver = json.dumps(train_net(net, args.batch)), solver_text(net, gradient_rank=rank)
    with Ranks(2) as near:
        sent = linked.call("make", solver, spec, slow=delay)[0]["sent"]
        near.call("make", solver, spec, records=1)
        for group, method in ((linked, ("steps", 2)), (near, ("record",))):
            group.call(*method)
        link = Link(0, delay) if delay else _measured_link(linked)
        measured, steps = [], []
        for _ in range(args.rounds):
            measured.append(linked.call("steps", args.steps)[0])
            steps += [near.call("record")[0] for _ in range(args.steps)]
    without, predicted = (
        median(seconds_of(step, of_sum)[0] for step in steps)
        for of_sum in (lambda size: 0.0, lambda size: link.seconds_of_sum(size, 2))
    )
    taken = median(each["seconds"] for each in measured)
    as_measured = f"{link.latency * 1e3:.2f}, {link.rate / 1e6:.0f}"
    waited = median(each["waited"] for each in measured)
    print(f"| {net} | {f'rank {rank}' if rank else 'whole'} | {sent / 1e6:.2f} | {rate:g} | {as_measured} |"
          f" {without * 1e3:.1f} | {predicted * 1e3:.1f} | {taken * 1e3:.1f} |"
          f" {predicted / taken:.2f} | {waited * 1e3:.1f} |", flush=True)  # fmt: skip


def _measured_link(ranks: Ranks) -> Link:
    """Latency and rate of a link, from the quickest sums of two sizes by themselves."""
    small, large = (min(ranks.call("sums", size, 9)[0]) for size in (1 << 12, 1 << 20))
    return Link(small, 8 * ((1 << 20) - (1 << 12)) / (large - small))


# -- accuracy --------------------------------------------------------------------------------------------


def accuracy(args: argparse.Namespace) -> None:
    """Train cifar10_quick by two ranks, once with each kind of gradients, and print the last test."""
    print("| seed | gradients | accuracy | points |\n|---|---|--:|--:|", flush=True)
    for seed in args.seeds:
        first = None
        for rank in (None, GRADIENT_RANK):
            found = _tested(seed, rank, args)
            first = found if first is None else first
            print(f"| {seed} | {f'rank {rank}' if rank else 'whole'} | {found:.2%} |"
                  f" {f'{100 * (found - first):+.2f}' if rank else ''} |", flush=True)  # fmt: skip


def _tested(seed: int, rank: int | None, args: argparse.Namespace) -> float:
    folder = PROTOTXT / "cifar10_quick"
    net = yaml.safe_load((folder / "train.yaml").read_text())
    net["layer"][0]["image_data_param"]["batch_size"] = args.batch
    solver = yaml.safe_load((folder / "solver.yaml").read_text()) | {
        "random_seed": seed,
        "test_initialization": False,
    }
    solver |= {"gradient_rank": rank} if rank else {}
    if args.iterations:
        solver |= {"max_iter": args.iterations, "test_interval": args.iterations}
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "train.yaml").write_text(yaml.safe_dump(net))
        (Path(name) / "solver.yaml").write_text(yaml.safe_dump(solver | {"snapshot_prefix": f"{name}/"}))
        command = [mpiexec(), "-n", "2", sys.executable, "-m", "minicaffe", "train", f"{name}/solver.yaml"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = done.stdout + done.stderr
    found = re.findall(r"accuracy = ([\d.]+)", said)
    if done.returncode or not found:
        raise SystemExit(f"training has ended with status {done.returncode}:\n{said[-2000:]}")
    return float(found[-1])


# -- all of them -----------------------------------------------------------------------------------------


def faults(args: argparse.Namespace) -> None:
    """What ``distributed_faults.py`` does."""
    program = Path(__file__).with_name("distributed_faults.py")
    sys.exit(subprocess.run([sys.executable, str(program), "--kills", str(args.kills)]).returncode)


def main() -> None:
    """Print what a command measures, a line as soon as it is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    made: dict[str, argparse.ArgumentParser] = {}
    for function in (agree, speed, model, slow, accuracy, faults):
        made[function.__name__] = commands.add_parser(function.__name__, help=function.__doc__)
        made[function.__name__].set_defaults(run=function)
    small = ["cifar10_quick", "cifar10_vgg"]
    for name, batch in (("agree", 32), ("speed", 50), ("slow", 50), ("accuracy", 50)):
        made[name].add_argument("--batch", type=int, default=batch, help="of a rank")
    for name, nets in (("speed", small), ("model", [*MODELLED]), ("slow", small)):
        made[name].add_argument("--nets", nargs="+", default=nets, choices=nets)
    made["agree"].add_argument("--ranks", type=int, nargs="+", default=[2, 3])
    made["speed"].add_argument("--rounds", type=int, default=7)
    made["speed"].add_argument("--seconds", type=float, default=1.5, help="of each in a round")
    made["model"].add_argument("--cores", type=int, default=2, help="of a rank")
    made["model"].add_argument("--steps", type=int, default=5)
    made["model"].add_argument("--latency", type=float, default=20e-6, help="seconds of a message")
    made["model"].add_argument(
        "--faster", type=float, default=1, help="a rank computes that many times as fast"
    )
    made["slow"].add_argument("--rates", type=float, nargs="+", default=[20, 100, 1000], help="Mbit/s")
    made["slow"].add_argument("--rounds", type=int, default=5)
    made["slow"].add_argument("--steps", type=int, default=4)
    made["slow"].add_argument(
        "--double", action="store_true", help="a communicator that is late, and no namespaces"
    )
    made["accuracy"].add_argument("--seeds", type=int, nargs="+", default=[1])
    made["accuracy"].add_argument("--iterations", type=int, help="fewer than the solver's")
    made["faults"].add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    print(f"{args.command}: {machine()}\n", flush=True)
    args.run(args)


if __name__ == "__main__":
    main()
