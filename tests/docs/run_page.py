"""Runs the blocks of one page, in order, in the working directory: ``python -m tests.docs.run_page docs/gpu.md``.

First every block that is a file is written, and every diff is applied. Then YAML is read, as a net, a list of
layers or a solver. Python runs, in one namespace for the page; what it prints is what a block of text after it
shows, in which a number stands for all that are rounded to it. An exercise changes no names, and ends with an
error, which the text after it shows; so it does with the wrong answers of ``wrong_answers.py``. Of the shell's
commands those of minicaffe run, with flags that make them short, and cp. For other commands only the files and the
extras that they name are looked up.

Without a page it runs those that come on standard input, each in a process that has all imports behind it: a line
has the page, its working directory and a file for what it prints, with tabs between; the answer is its status.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path

from tests.docs.pages import ROOT, RUN, Block, blocks_of
from tests.docs.wrong_answers import with_wrong_answer

SHORTER = {  # flags that a command gets, in place of the page's own
    "test": {"--iterations": "1"},
    "time": {"--iterations": "1"},
    "check-gradients": {"--most": "3"},
    "report": {"--images": "1", "--test": "20", "--layers": "conv2"},
    "lowrank select": {"--layers": "conv2", "--batches": "1", "--calibration": "1"},
    "lowrank plan": {"--layers": "conv2", "--calibration": "1"},
    "lowrank apply": {"--calibration": "1"},
    "lowrank sweep": {"--layers": "conv2", "--batches": "1", "--calibration": "1", "--ranks": "0.3"},
    "lowrank errors": {"--calibration": "1"},
}
SHORT_SOLVER = {"max_iter": 4, "test_iter": 1, "test_interval": 2, "snapshot": 2, "display": 1}
SMALL_BATCH = 20
KNOWN = (".", "git", "python3", "ruff", "mypy", "lint-imports")  # other programs, which are not run
INPUT = "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [2, 20, 28, 28]}}}\n"


def shorten(folder: Path) -> None:
    """Let the solvers of a folder end after a few iterations of small batches."""
    for path in folder.glob("**/solver*.yaml"):
        text = path.read_text(encoding="utf-8")
        for name, value in SHORT_SOLVER.items():
            text = re.sub(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
        path.write_text(text, encoding="utf-8")
    for path in folder.glob("*/train*.yaml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"batch_size: \d+", f"batch_size: {SMALL_BATCH}", text), encoding="utf-8")


def apply_diff(text: str) -> None:
    """Change the files of a diff. Each hunk's old lines must stand in the file exactly once."""
    for part in re.split(r"^--- ", text, flags=re.MULTILINE)[1:]:
        name, _, body = part.partition("\n")
        path = Path(name.strip())
        content = path.read_text(encoding="utf-8")
        body = re.sub(r"^\+\+\+ .*\n", "", body)
        for hunk in re.split(r"^@@.*\n", body, flags=re.MULTILINE):
            lines = [(line[:1] or " ", line[1:]) for line in hunk.splitlines()]
            old, new = (
                "".join(f"{line}\n" for mark, line in lines if mark in marks) for marks in (" -", " +")
            )
            if content.count(old) != 1 and old:
                raise AssertionError(f"{path}: stands there {content.count(old)} times:\n{old}")
            content = content.replace(old, new) if old else content
        path.write_text(content, encoding="utf-8")


def read_yaml(block: Block) -> None:
    """Read a net, a solver, or a list of layers, and make the net."""
    import minicaffe as mc
    from minicaffe.spec.net import parse_net
    from minicaffe.spec.solver import parse_solver

    if re.search(r"^base_lr:", block.text, re.MULTILINE):
        parse_solver(block.text, block.place)
        return
    is_piece = block.text.lstrip().startswith("- ")
    spec = parse_net(INPUT + block.text if is_piece else block.text, block.place)
    for phase in ("train", "test"):
        if any(layer.type == "Data" and not sample(layer) for layer in spec.layer):
            return  # data that are not here
        mc.Net(spec, phase=phase).close()


def sample(layer: object) -> bool:
    """Whether a Data layer reads what comes with the package."""
    return layer.data_param.source.startswith("sample/")  # type: ignore[attr-defined]


def run_shell(block: Block) -> None:
    """Run or check each command of a block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for command in line.split(" && "):
            if words := shlex.split(command, comments=True):
                run_command([re.sub(r"^\.venv(-test)?/bin/", "", words[0]), *words[1:]])


def compute_little() -> None:
    """Let searches, and reports of a net, end soon: on a page they have to run, other tests say what they find."""
    from minicaffe.compress import cost, selection, spatial_fits
    from minicaffe.inspect.report import rank_accuracy
    from minicaffe.inspect.report.views import low_rank

    cost.REPEATS, spatial_fits.SWEEPS, selection.MOST_PLANS = 1, 1, 2
    low_rank.MOST_IMAGES, rank_accuracy.IMAGES, rank_accuracy.RANKS = 8, SMALL_BATCH, (2,)


def run_command(words: list[str]) -> None:
    """Run a command of minicaffe; check what any other names."""
    from minicaffe.__main__ import main

    if words[0] == "minicaffe" or words[:2] == ["python", "train.py"]:
        words = ["minicaffe", "train", *words[2:]] if words[0] == "python" else words
        words = [last_snapshot(word) for word in words]
        status = main(shortened(words[1:]))
        assert status == 0, f"status {status}: {shlex.join(words)}"
    elif words[:3] == ["python", "-m", "minicaffe.pycaffe"] or (
        words[0] == "python" and Path(words[1]).is_file()
    ):
        subprocess.run([sys.executable, *words[1:]], check=True)
    elif words[:3] == ["python", "-m", "pytest"] and Path(words[-1]).is_file():
        subprocess.run([sys.executable, *words[1:], "-q", "-p", "no:cacheprovider"], check=True)
    elif words[:2] == ["pip", "install"]:
        check_extras(words[2:])
    elif words[:2] == ["mpiexec", "-n"]:
        run_command(words[3:])  # by itself
    elif words[0] == "cp":
        shutil.copy(*words[1:])
    elif words[0] == "python":
        named = [word for word in words[1:] if "/" in word and not word.startswith("-")]
        assert all((ROOT / word).exists() for word in named), f"no such file: {shlex.join(words)}"
    else:
        assert words[0] in KNOWN, f"unknown: {shlex.join(words)}"


def last_snapshot(word: str) -> str:
    """The name of a snapshot, with the iteration at which a shortened training ended."""
    last = re.sub(r"_iter_\d+\.npz$", f"_iter_{SHORT_SOLVER['max_iter']}.npz", word)
    return word if Path(word).exists() or not Path(last).exists() else last


def shortened(words: list[str]) -> list[str]:
    """A command's words, with the flags that make it short."""
    flags = SHORTER.get(" ".join(words[:2]), SHORTER.get(words[0], {}))
    own = [
        word for word, before in zip(words, ["", *words], strict=False) if not {word, before} & flags.keys()
    ]
    return [*own, *(part for flag in flags.items() for part in flag)]


def check_extras(arguments: list[str]) -> None:
    """The extras in ``pip install '.[cpu,plot]'`` are those of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(
        r"[\w-]+", "".join(re.findall(r"^\.\[(.*)\]$", "\n".join(arguments), re.MULTILINE))
    ):
        assert re.search(rf"^{extra} = \[", text, re.MULTILINE), f"no extra '{extra}' in pyproject.toml"


def run_python(block: Block, names: dict[str, object]) -> str:
    """Run a block in a namespace, and return what it printed. A traceback shows lines of the page."""
    source = "\n" * (block.line - 1) + block.text
    with redirect_stdout(StringIO()) as printed:
        exec(compile(source, str(block.page), "exec"), names)
    return printed.getvalue()


def run_exercise(block: Block, names: dict[str, object], following: Block | None) -> None:
    """Run an exercise as it stands, and with a wrong answer: both end with an error, which tells what is wrong."""
    error = error_of(block, dict(names))
    assert error is not None, f"{block.place}: leaves nothing to do"
    check_printed(f"{type(error).__name__}: {error}\n", following)
    if wrong := with_wrong_answer(block):
        error = error_of(wrong, dict(names))
        assert isinstance(error, AssertionError) and str(error), (
            f"{block.place}: takes a wrong answer ({error!r})"
        )


def error_of(block: Block, names: dict[str, object]) -> Exception | None:
    """The error with which a block of Python ends."""
    try:
        run_python(block, names)
    except Exception as error:
        return error
    return None


def check_printed(printed: str, following: Block | None) -> None:
    """Compare what a block printed with the block of text that follows it, if one does."""
    if following is not None and following.language == "text":
        is_like = is_roughly_shown if following.note == "roughly" else is_shown
        assert is_like(printed, following.text), (
            f"{following.place} shows\n{following.text}and it printed\n{printed}"
        )


NUMBER = r"(?<![\w.])-?\d+\.\d+(?:e[+-]?\d+)?"
ANY_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def is_shown(printed: str, shown: str) -> bool:
    """Whether a text shows what was printed: a number with a point may be a rounded one."""
    numbers, full = (re.findall(NUMBER, text) for text in (shown, printed))
    return re.sub(NUMBER, "#", printed) == re.sub(NUMBER, "#", shown) and all(
        number == full or f"{float(full):.{len(number.partition('.')[2])}f}" == number
        for number, full in zip(numbers, full, strict=True)
    )


def is_roughly_shown(printed: str, shown: str) -> bool:
    """Whether a text shows what was printed but for its numbers."""
    return ANY_NUMBER.sub("#", printed) == ANY_NUMBER.sub("#", shown)


def main(name: str) -> int:
    """Run a page; the exit status says whether all of it ran."""
    everything = blocks_of(ROOT / name)
    following = dict(pairwise(everything))
    blocks = [block for block in everything if block.language in RUN and not block.not_run]
    for block in blocks:
        if block.file_name:
            Path(block.file_name).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file_name).write_text(block.text, encoding="utf-8")
        elif block.language == "diff":
            apply_diff(block.text)
    compute_little()  # of the package as the page has changed it
    names: dict[str, object] = {"__name__": "__page__"}
    for block in blocks:
        try:
            if block.file_name:
                continue  # it is for another block, which names it
            if block.language == "yaml":
                read_yaml(block)
            elif block.language == "sh":
                run_shell(block)
            elif block.is_exercise:
                run_exercise(block, names, following.get(block))
            elif block.language == "python":
                check_printed(run_python(block, names), following.get(block))
        except BaseException:
            print(f"{block.place}: this block does not run", file=sys.stderr)
            raise
    return 0


def serve() -> int:
    """Run each page of standard input in a fork. There, it is ``main`` that returns."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401

    import minicaffe.inspect.report.make  # noqa: F401
    from minicaffe.cli.parser import make_parser
    from minicaffe.inspect.report.page import page as empty_page

    make_parser()
    empty_page("", {}, "", "", [])  # which packs the scripts, once for all
    for line in sys.stdin:
        page, folder, printed = line.rstrip("\n").split("\t")
        if not (child := os.fork()):
            with open(printed, "wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.chdir(folder)
            sys.path.insert(0, folder)
            return main(page)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if sys.argv[1:] else serve())
