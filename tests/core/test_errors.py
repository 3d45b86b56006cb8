"""How names from files are shown: on one line, not too long, and with nothing that a terminal would obey."""

import logging

import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.errors import LONGEST, SpecError, one_line
from minicaffe.spec.net import parse_net

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

HOSTILE = "a\x1b[2Jb\u202ec\ud800d\0e\x9bf"
ESCAPED = r"a\x1b[2Jb\u202ec\ud800d\x00e\x9bf"


def test_an_error_escapes_what_a_terminal_would_obey():
    assert str(SpecError(f"layer '{HOSTILE}'")) == f"layer '{ESCAPED}'"
    assert one_line(ValueError(f"'{HOSTILE}'\n")) == f"'{ESCAPED}'"


def test_an_error_keeps_the_start_and_the_end_of_a_long_message():
    said = str(SpecError(f"net.yaml:3: {'x' * 1_000_000}: unknown field; remove it"))
    assert len(said) < LONGEST + 10
    assert said.startswith("net.yaml:3: xxx") and said.endswith("xxx: unknown field; remove it")


def test_letters_of_all_languages_are_shown_as_they_are():
    assert str(SpecError("schicht 'größe', 層, слой")) == "schicht 'größe', 層, слой"


def test_the_log_shows_names_as_errors_do(caplog):
    with caplog.at_level(logging.INFO, "minicaffe"):
        logging.getLogger("minicaffe").info("    layer '%s': %d\n    %s", HOSTILE, 3, "y" * 1_000_000)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"    layer '{ESCAPED}': 3\n    yyy")
    assert len(record.getMessage()) < LONGEST + 100


def test_a_summary_shows_names_as_errors_do(tmp_path, capsys):
    text = 'name: "n\\e[31m"\nlayer: [{name: "l\\e[2J", type: Input, input_param: {shape: {dim: 1}}}]'
    (tmp_path / "net.yaml").write_text(text)
    assert main(["summary", str(tmp_path / "net.yaml")]) == 0
    out = capsys.readouterr().out
    assert r"n\x1b[31m" in out and r"l\x1b[2J" in out and "\x1b" not in out


@pytest.mark.parametrize("name", ["\\0", "x\\ud800", "\\udfff"])
def test_a_name_that_no_file_could_have_is_refused(name):
    with pytest.raises(SpecError, match=r"net.yaml:1: .*NUL|net.yaml:1: .*surrogate"):
        parse_net(f'layer: [{{name: "{name}", type: ReLU}}]', "net.yaml")
    with pytest.raises(mc.SpecError, match=r"\\x00|\\ud"):
        parse_net(f'layer: [{{name: a, type: ReLU, "{name}": 1}}]', "net.yaml")
