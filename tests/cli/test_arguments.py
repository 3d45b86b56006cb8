"""What words of a command line are taken for, and what is said of files that are not those meant."""

import pytest

from minicaffe.cli.parser import make_parser
from minicaffe.cli.program import main
from tests.train.training import write_job

pytestmark = pytest.mark.cpu_only("of words: no device computes here")

AFTER_FLAGS = {
    "images after weights": ("report net --weights w a.png b.png", "images", ["a.png", "b.png"]),
    "images before and after": ("classify net a.png --weights w b.png", "images", ["a.png", "b.png"]),
    "images before": ("report net a.png --weights w", "images", ["a.png"]),
    "none": ("report net --weights w", "images", []),
    "a net that need not be there": ("summary --weights w net", "net", "net"),
    "logs on both sides": ("plot a.log --x time b.log", "log", ["a.log", "b.log"]),
    "flags that are given twice": ("report net --log a --log b c --test 0", "log", ["a", "b", "c"]),
}


@pytest.mark.parametrize("case", AFTER_FLAGS)
def test_names_may_stand_before_flags_and_after_them(case):
    words, field, expected = AFTER_FLAGS[case]
    assert getattr(make_parser().parse_args(words.split()), field) == expected
    assert make_parser().parse_args(["report", "net"]).log == []


SHARES = {
    "select --time 50%": 0.5,
    "select --max-drop 2%": 0.02,
    "plan --shares 0.5,10%": [0.5, 0.1],
    "set --flops 0.3": 0.3,
    "errors --ranks 1,100%": [1, 1.0],
}


@pytest.mark.parametrize("words", SHARES)
def test_a_share_is_a_number_or_a_percent(words):
    command, flag, value = words.split()
    args = make_parser().parse_args(["lowrank", command, "net", "--weights", "w", flag, value])
    assert getattr(args, flag[2:].replace("-", "_")) == SHARES[words]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("report --log a.log net a.png", "--log takes all words up to the next flag, so put it last"),
        ("report net --flag a.png", "unrecognized arguments: --flag ("),
        ("summary net other", "unrecognized arguments: other"),
        ("test net --weights w other", "unrecognized arguments: other"),
    ],
)
def test_words_that_are_too_many_or_too_few_are_named(words, problem, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    said = capsys.readouterr().err
    assert stop.value.code == 2 and problem in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("job", "job: is a folder, and no spec; name one that is in it: job/solver.yaml or job/net.yaml"),
        ("job/sover.yaml", "check the path; did you mean 'job/solver.yaml'?"),
        ("empty", "empty: is a folder, and no spec; give the file of one"),
        (
            "gone/solver.yaml",
            "gone/solver.yaml: cannot be read (No such file or directory); check the path\n",
        ),
    ],
)
def test_a_spec_that_is_not_there_is_answered_with_those_that_are(given, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("job", "empty"):
        (tmp_path / folder).mkdir()
    write_job(tmp_path / "job")
    assert main(["train", given]) == 2
    assert told in capsys.readouterr().err
