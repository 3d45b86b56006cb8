"""The forms that a net that was made cheaper is written in, by the ending of its path.

x.yaml       with x.npz: our own; ``low_rank_param`` stays, and what pictures go through is in the weights
x.prototxt   with x.caffemodel, for Caffe and OpenCV: each layer of low rank is a pair of plain layers
x.onnx       for others: the same pairs
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from minicaffe.caffe.exchange.convert import text_for
from minicaffe.caffe.exchange.export import check_export, export
from minicaffe.core.net import Net
from minicaffe.errors import WriteError, counted
from minicaffe.files.atomic import write_text
from minicaffe.files.spec_formats import YAML, read_spec
from minicaffe.onnx.model import export_onnx
from minicaffe.spec.net import NetSpec, parse_net

WITH_WEIGHTS = {".yaml": ".npz", ".yml": ".npz", ".prototxt": ".caffemodel", ".onnx": ""}  # beside the net
logger = logging.getLogger("minicaffe")


def files_of(out: Path) -> list[Path]:
    """What is written for an output: the net, and its weights unless they are in it. Raises WriteError."""
    if out.suffix not in WITH_WEIGHTS:
        raise WriteError(
            f"{out}: ends in none of .yaml, .prototxt and .onnx, which say what is written; give another -o"
        )
    weights = WITH_WEIGHTS[out.suffix]
    return [out, out.with_suffix(weights)] if weights else [out]


def check_output(net: Net, out: Path) -> None:
    """Raise, before long work, what ``write`` would raise at its end for a net with these layers.

    That is WriteError for an unknown ending, SpecError for a layer that the form has not, and DataError for a
    missing package.
    """
    files_of(out)
    if out.suffix == ".onnx":
        export_onnx(net, os.devnull)
    elif out.suffix == ".prototxt":
        check_export(net)


def yaml_for(net: Path, out: Path) -> tuple[str, NetSpec]:
    """The YAML text of a net's file, to be edited and written to ``out``, and what it says.

    Of Caffe's nets it is that of their conversion, with paths as seen from the folder of ``out``. Raises SpecError.
    """
    written_in, text = read_spec(net)
    if written_in == YAML:
        return text, parse_net(text, str(net))
    text = text_for(net, out.parent)
    return text, parse_net(text, str(out.parent / net.name))


def write(net: Net, text: str, out: Path) -> list[Path]:
    """Write a net, whose YAML text is ``text``, by the ending of ``out``; return the files, the net first.

    Raises SpecError for a layer that the form has not, DataError for a missing package, and WriteError.
    """
    files = files_of(out)
    if out.suffix == ".onnx":
        export_onnx(net, out)
    elif out.suffix == ".prototxt":
        for note in export(net, *files):
            logger.info("%s: %s", out, note)
    else:
        net.save(files[1])
        write_text(out, text)  # last: where it is, its weights are
    if net.preparation is not None and out.suffix in (".onnx", ".prototxt"):
        names = len(net.preparation.class_names)
        more = f"; nor the names of {counted(names, 'class')}" if names else ""
        logger.info("%s cannot say what pictures go through: %s%s", files[-1], net.preparation, more)
    for file in files:
        logger.info("Wrote %s", file)
    return files
