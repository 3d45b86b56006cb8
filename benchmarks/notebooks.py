"""Runs the code cells of a notebook of BVLC/caffe with ``minicaffe.pycaffe`` as its ``caffe``.

    python benchmarks/notebooks.py CAFFE_CHECKOUT examples/01-learning-lenet.ipynb --mnist data/mnist
    python benchmarks/notebooks.py CAFFE_CHECKOUT examples/brewing-logreg.ipynb

The checkout's ``examples`` are copied to a temporary folder and run there. Lines of magic (``%matplotlib inline``)
are dropped, a ``%%timeit`` cell runs once in a namespace of its own, shell lines that call Caffe's tools call
minicaffe's, and what only Python 2 or an old scikit-learn understands is rewritten (``OLD``). What cells print and
the titles of their figures are shown, with the last accuracy that the notebook's own run had printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

from minicaffe.pycaffe import alias

ROOT = Path(__file__).resolve().parent.parent
PRINT = re.compile(r"^(\s*)print (?!\()(.+)$")
OLD = {
    "niter / 10": "niter // 10",  # Python 2 divides whole numbers so
    "loss='log', n_iter=1000": "loss='log_loss', max_iter=1000",  # scikit-learn's names of today
}
IDX = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}


class Notebook:
    """A notebook under way in a copy of its checkout's examples."""

    def __init__(self, folder: Path, mnist: Path) -> None:
        self.folder, self.mnist = folder, mnist.resolve()
        self.names: dict[str, Any] = {"__name__": "__main__", "shell": self.shell}

    def run_cell(self, source: str) -> None:
        """Run one cell; raises what it raises."""
        names = dict(self.names) if source.lstrip().startswith("%%timeit") else self.names
        exec(compile("\n".join(map(_today, source.splitlines())), "<cell>", "exec"), names)

    def shell(self, line: str) -> None:
        """Run a shell line, with minicaffe in place of Caffe's own tools."""
        words = shlex.split(line)
        tool = Path(words[0]).name
        if tool == "get_mnist.sh":
            print(f"(the digits are in {self.mnist})")
        elif tool == "create_mnist.sh":
            for name, images in IDX.items():
                _minicaffe(
                    "data", "lmdb", str(self.mnist / images), "-o", f"examples/mnist/mnist_{name}_lmdb"
                )
        elif tool == "caffe" and words[1] == "train":
            _minicaffe("train", words[words.index("-solver") + 1])
        else:
            subprocess.run(words, check=True)


def _today(line: str) -> str:
    """A line of a cell as Python 3 without IPython understands it."""
    indent = line[: len(line) - len(line.lstrip())]
    if line.lstrip().startswith("%"):
        return f"{indent}pass"
    if line.lstrip().startswith("!"):
        return f"{indent}shell({line.strip()[1:]!r})"
    for old, new in OLD.items():
        line = line.replace(old, new)
    return PRINT.sub(r"\1print(\2)", line)


def _minicaffe(*arguments: str) -> None:
    sys.stdout.flush()
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "minicaffe.cli", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})


def _code_cells(path: Path) -> Iterator[tuple[int, str, str]]:
    """The number, the source and the printed text of each code cell."""
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            printed = ["".join(output.get("text", "")) for output in cell["outputs"]]
            yield number, "".join(cell["source"]), "".join(printed)


def _titles() -> list[str]:
    """The titles of the figures that are open, which are closed."""
    from matplotlib import pyplot

    axes = [axis for number in pyplot.get_fignums() for axis in pyplot.figure(number).axes]
    titles = [axis.get_title() for axis in axes if axis.get_title()]
    pyplot.close("all")
    return titles


def run(checkout: Path, notebook: Path, mnist: Path) -> bool:
    """Run all cells; say which one fails, if one does."""
    matplotlib.use("Agg")
    matplotlib.rcParams["figure.max_open_warning"] = 0
    alias.install()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(checkout / "examples", Path(folder) / "examples")
        book = Notebook(Path(folder), mnist)
        os.chdir(Path(folder) / "examples")
        try:
            for number, source, printed in _code_cells(checkout / notebook):
                print(f"--- cell {number}: {source.strip().splitlines()[0]}", flush=True)
                book.run_cell(source)
                for title in _titles():
                    print(f"figure: {title}")
                for figure in re.findall(r"(?i)accuracy\s*[:=]\s*[\d.]+", printed)[-1:]:
                    print(f"the notebook's own run: {figure}")
        except Exception:
            traceback.print_exc()
            print(f"cell {number} fails")
            return False
        finally:
            os.chdir(here)
    print("all cells run")
    return True


def main() -> None:
    """Run one notebook; exit with 1 where a cell fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="a checkout of BVLC/caffe")
    parser.add_argument("notebook", type=Path, help="the notebook's path in it")
    parser.add_argument(
        "--mnist", type=Path, default=Path("data/mnist"), help="the folder of MNIST's IDX files"
    )
    args = parser.parse_args()
    if not (args.checkout / args.notebook).is_file():
        sys.exit(f"error: {args.checkout / args.notebook}: no such notebook; check the path")
    sys.exit(not run(args.checkout.resolve(), args.notebook, args.mnist))


if __name__ == "__main__":
    main()
