"""``minicaffe report``: what it writes, and the one line that it says where it cannot."""

import numpy as np
import pytest
from PIL import Image

from minicaffe.cli.commands import report as command
from minicaffe.cli.flags import is_stdout
from minicaffe.cli.program import main
from tests import ROOT

pytestmark = pytest.mark.cpu_only("of a command's words and files")

NET = """
name: tiny
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 1, 8, 8]}}}
MORE- {name: conv, type: Convolution, bottom: data, convolution_param: {num_output: 2, kernel_size: 3}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 3}}
- {name: prob, type: Softmax}
"""
SECOND = "- {name: second, type: Input, input_param: {shape: {dim: [1, 1, 8, 8]}}}\n"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """In the working directory: tiny.yaml, two.yaml with two inputs, digit.png, and names.txt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(NET.replace("MORE", ""))
    (tmp_path / "two.yaml").write_text(NET.replace("MORE", SECOND))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "digit.png")
    return tmp_path


def test_a_net_without_weights_is_called_untrained(files, capsys):
    assert main(["report", "tiny.yaml", "digit.png", "-o", "tiny.html", "--time", "1"]) == 0
    text = (files / "tiny.html").read_text("utf-8")
    assert '"untrained":true' in text and '"name":"digit.png"' in text
    assert "Wrote tiny.html" in capsys.readouterr().out


def test_where_the_page_goes_to_stdout_nothing_else_does(files, capfd, monkeypatch):
    assert is_stdout("/dev/stdout") and not is_stdout("tiny.html")
    monkeypatch.setattr(command, "is_stdout", lambda path: True)
    assert main(["report", "tiny.yaml", "digit.png", "-o", "tiny.html"]) == 0
    said = capfd.readouterr()
    assert said.out == "" and "Wrote tiny.html" in said.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["tiny.yaml"], "name image files (minicaffe report NET IMAGE …)"),
        (["two.yaml", "digit.png"], "has 2 inputs (data, second); image files fill one"),
        (["tiny.yaml", "none.png"], "none.png: no such image"),
        (
            ["tiny.yaml", "digit.png", "-o", "none/x.html"],
            "none/x.html: cannot be written (No such file",
        ),
        (["tiny.yaml", "digit.png", "-o", "digit.png"], "would be written over the digit.png that is read"),
        (["tiny.yaml", "digit.png", "--layers", "convv"], "has no layer 'convv'; did you mean 'conv'?"),
        (["tiny.yaml", "digit.png", "--max-size", "0.1"], "must be a number of megabytes"),
        (["tiny.yaml", "digit.png", "--log", "digit.png"], "digit.png"),
        (["tiny.yaml", "digit.png", "-o", "/proc/x.html"], "/proc/x.html: cannot be written"),
        (["tiny.yaml", "digit.png", "-o", "."], ".: is a folder; give the path of a file"),
        (["tiny.yaml", "digit.png", "--snapshots", "none.npz"], "none.npz: cannot be read"),
        (["tiny.yaml", "digit.png", "--sweep", "none.jsonl"], "none.jsonl: cannot be read as a journal"),
        (
            [str(ROOT / "prototxt/lenet/train.yaml"), "digit.png"],
            "has data layers, so it takes no image files",
        ),
        (
            [str(ROOT / "prototxt/lenet/train.yaml"), "--labels", "names.txt"],
            "--labels names.txt: 2 names, but the net has 10 classes",
        ),
        (
            ["tiny.yaml", "digit.png", "--labels", "names.txt"],
            "--labels names.txt: 2 names, but the net has 3 classes",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(files, capsys, arguments, problem):
    try:
        status = main(["report", *arguments])
    except SystemExit as stop:  # of a wrong flag
        status = stop.code
    said = capsys.readouterr().err
    assert status == 2
    assert said.startswith("error: ") and problem in said and said.count("\n") == 1
    assert not (files / "report.html").exists()
