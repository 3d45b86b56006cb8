"""Which of the specs below a folder open, and what stops the others (``minicaffe zoo-check``).

A net is built in each of the states that its layers have rules for. Where its data are not there, inputs stand in
for them (``missing_inputs.py``), and user modules are not run unless that is allowed (``spec/trust.py``).
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from minicaffe.core.table import format_table
from minicaffe.errors import MinicaffeError, SpecError, counted, one_line, shown
from minicaffe.files.spec_formats import open_net, open_solver, read_spec
from minicaffe.inspect.missing_inputs import NeedsDataError, StandInNet
from minicaffe.spec.net import LayerField, NetSpec, make_state
from minicaffe.spec.reader import Where
from minicaffe.spec.trust import UntrustedError

SUFFIXES = (".prototxt", ".pbtxt", ".pt", ".yaml", ".yml")
PHASES = ("train", "test")
SIGNS = {  # what a text is, by a field that it has: the first that is found
    "solver": re.compile(r"\b(base_lr|lr_policy|max_iter)\s*:"),
    "net": re.compile(r"\b(layers?\s*[:{]|input\s*:)"),
    "label map": re.compile(r"\bitem\s*\{"),
}
STATES = {
    "data?": "to be judged with their data",
    "code?": "with modules that are not run",
    "STOPS": "stopped",
}
COMMENT = re.compile(r"#.*")
PLACE = re.compile(r"^(:\d+)?: (layer '[^']*': )?")
UNKNOWN_TYPE = re.compile(r"type: unknown layer type '([^']*)'.*")


@dataclass
class Checked:
    """A file that was looked at. ``kind``: a key of SIGNS, or "" for what is no spec.

    ``state``: "opens", or one of STATES; ``problems``: what keeps it from opening. ``without_data``: its data are
    not there, and inputs stood in.
    """

    path: Path
    kind: str
    state: str = "opens"
    problems: list[str] = field(default_factory=list)
    without_data: bool = False
    has_run: bool = False

    def reasons(self) -> set[str]:
        """Its problems without the places where they are, so that they can be counted."""
        return {_reason(problem, self.path) for problem in self.problems}


def check_folder(folder: Path, image: tuple[int, int, int], run: bool = False) -> Iterator[Checked]:
    """Look at the spec files below a folder, in the order of their names.

    ``image``: C, H and W of images that are not there and whose size nobody says; ``run``: also run nets forward
    once, in their TEST states, if their data are there or they have inputs in place of data.
    """
    for path in spec_files(folder):
        yield check_file(path, image, run)


def spec_files(folder: Path) -> list[Path]:
    """The files below a folder whose names end as those of specs do, without hidden folders; or a file itself."""
    found = [folder] if folder.is_file() else []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in files if name.endswith(SUFFIXES)]
    return sorted(found)


def check_file(path: Path, image: tuple[int, int, int], run: bool = False) -> Checked:
    """Look at one file; the arguments are those of ``check_folder``."""
    try:
        written_in, text = read_spec(path)
    except SpecError as error:
        return Checked(path, "", "STOPS", [one_line(error)])
    said = COMMENT.sub("", text)
    kind = next((kind for kind, sign in SIGNS.items() if sign.search(said)), "")
    checked = Checked(path, kind)
    try:
        if kind == "solver":
            open_solver(path)
        elif kind == "net":
            checked.problems = layer_problems(written_in.net(text, str(path)), Where(str(path)))
            if checked.problems:
                checked.state = "STOPS"
            else:
                _build(checked, image, run)
    except (MinicaffeError, MemoryError) as error:
        states = ((NeedsDataError, "data?"), (UntrustedError, "code?"), (Exception, "STOPS"))
        checked.state = next(state for kind_of, state in states if isinstance(error, kind_of))
        checked.problems = [one_line(error)]
    return checked


def layer_problems(net: yaml.Node, where: Where) -> list[str]:
    """What is wrong with each layer of a net by itself: its type, its fields and their values."""
    problems = []
    for key, layers in net.value:
        if key.value in ("layer", "layers"):
            entries = layers.value if isinstance(layers, yaml.SequenceNode) else [layers]
            for index, entry in enumerate(entries):
                try:
                    problem = LayerField().convert(entry, where.entry(entry, index)).problem
                except SpecError as error:
                    problem = one_line(error)
                problems += [problem] if problem else []
    return problems


def _build(checked: Checked, image: tuple[int, int, int], run: bool) -> None:
    """Build the net in each of its states. Raises what the first that cannot be built raises."""
    spec = open_net(checked.path)
    for phase, stages in states_of(spec):
        with StandInNet(open_net(checked.path), phase, image, stages=stages, seed=1) as net:
            checked.without_data = checked.without_data or bool(net.missing)
            if run and phase == "test" and not net.missing:
                _run(net)
                checked.has_run = True


def _run(net: StandInNet) -> None:
    """Run a net forward once: its images are noise, and all else that it takes is 0."""
    for name in net.inputs:
        blob = net.blobs[name]
        noise = np.random.default_rng(0).standard_normal(blob.shape)
        blob.data[...] = net.setting.device.put(
            noise if len(blob.shape) == 4 else 0 * noise, net.setting.dtype
        )
    net.forward()


def states_of(spec: NetSpec) -> list[tuple[str, tuple[str, ...]]]:
    """The stages that a net has rules for, or else the phases that it has data for, or else TEST."""
    layers = spec.layer or spec.layers
    rules = [rule for layer in layers for rule in (*layer.include, *layer.exclude)]
    stages = sorted({stage for rule in rules for stage in rule.stage})
    if stages:
        return [("train" if "train" in stage else "test", (stage,)) for stage in stages]
    reading = [layer for layer in layers if layer.brings_data]
    phases = [phase for phase in PHASES if any(layer.belongs_to(make_state(phase)) for layer in reading)]
    return [(phase, ()) for phase in phases or ["test"]]


def _reason(problem: str, path: Path) -> str:
    text = PLACE.sub("", problem.removeprefix(shown(str(path))))
    text = UNKNOWN_TYPE.sub(r"layer type \1", text)
    return text.partition(";")[0]


def summary(checked: Sequence[Checked], folder: Path) -> str:
    """How many open, and a table of what stops the others; ``folder``: the one that they are all below."""
    lines = []
    for kind in SIGNS:
        found = [file for file in checked if file.kind == kind]
        states = Counter(file.state for file in found)
        if found:
            lacking = sum(file.without_data for file in found if file.state == "opens")
            ran = sum(file.has_run for file in found)
            parts = [f"{states['opens']} open" + f" ({lacking} of them without their data)" * (lacking > 0)]
            parts += [f"{ran} of them run"] if ran else []
            parts += [f"{states[state]} {words}" for state, words in STATES.items() if states[state]]
            lines.append(f"{counted(len(found), kind)}: {', '.join(parts)}")
    others = sum(not file.kind for file in checked)
    if others:
        lines.append(f"{counted(others, 'other file')}")
    return "\n".join([*lines, *_table_of_reasons(checked, folder)])


def _table_of_reasons(checked: Iterable[Checked], folder: Path) -> list[str]:
    files = Counter[str]()
    below = defaultdict[str, set[str]](set)
    for file in (file for file in checked if file.state != "data?"):
        for reason in file.reasons():
            files[reason] += 1
            below[reason].add(file.path.relative_to(folder).parts[0])
    most_first = sorted(files, key=lambda reason: (-files[reason], reason))
    rows = [(reason, str(files[reason]), str(len(below[reason]))) for reason in most_first]
    return ["", format_table(("what stops them", "files", "folders"), rows)] if rows else []
