"""What the tests of ``minicaffe lowrank`` do to LeNet: commands, and other nets made of it."""

import re
from pathlib import Path

import numpy as np

from minicaffe.cli.program import main

SIZES = ["--batches", "3", "--calibration", "2"]


def run(capsys, *arguments):
    """What a command prints, without the time that is left, which a slow machine shows; it must succeed."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 0, capsys.readouterr().err
    return re.sub(r" \([\d:]+( s)? left\)$", "", capsys.readouterr().out, flags=re.MULTILINE)


def select(capsys, *arguments, net="net.yaml", out="low.yaml"):
    more = ["--weights", "lenet.npz", "-o", out, "--calibration", "2", *arguments]
    return run(capsys, "lowrank", "select", net, *more)


def with_ranks(folder, **ranks):
    """Write ``low.yaml``: the net with ``low_rank_param`` in some layers."""
    text = (folder / "net.yaml").read_text()
    for name, param in ranks.items():
        text = re.sub(
            rf"(- name: {name}\n(?:  .*\n)*?)  param: .*\n", rf"\1  low_rank_param: {{{param}}}\n", text
        )
    (folder / "low.yaml").write_text(text)
    assert text.count("low_rank_param") == len(ranks)


def take_biases():
    """Let the convolutions of the net and its weights have no biases."""
    text = Path("net.yaml").read_text().replace(", kernel_size: 5,", ", kernel_size: 5, bias_term: false,")
    text = re.sub(r"  param: \[\{lr_mult: 1\}, .*\n(  conv)", r"  param: [{lr_mult: 1}]\n\1", text)
    Path("net.yaml").write_text(text)
    weights = {key: array for key, array in np.load("lenet.npz").items() if key not in ("conv1/1", "conv2/1")}
    np.savez("lenet.npz", **weights)


def rewrite(path, *edits):
    """Change pieces of a text file, each of which it has."""
    text = Path(path).read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    Path(path).write_text(text)
