"""A journal of measurements loses nothing that was noted, and knows nothing of other runs."""

import json

import pytest

from minicaffe.compress import journal as the_module
from minicaffe.compress.journal import Journal, fingerprint
from minicaffe.errors import WriteError

pytestmark = pytest.mark.cpu_only("files, whatever the device is")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.journal.jsonl"


KEY, VALUE = ["curve", [["conv", "CHANNEL", 3]]], {"accuracy": 0.9, "loss": 0.31}


def test_a_journal_gives_back_what_was_noted_in_this_run_and_in_one_before(path):
    journal = Journal(path, "run")
    assert journal.get(KEY) is None and not path.exists()
    journal.note(KEY, VALUE)
    journal.note(["other"], {"loss": 1e-300})
    for known in (journal, Journal(path, "run")):
        assert known.get(KEY) == VALUE
        assert known.get([KEY[0], [("conv", "CHANNEL", 3)]]) == VALUE  # tuples are lists to JSON
        assert known.get(["other"]) == {"loss": 1e-300}
        assert known.get(["none"]) is None
    assert len(path.read_text().splitlines()) == 2


def test_a_journal_knows_nothing_of_other_runs_and_leaves_their_lines_alone(path):
    Journal(path, "one").note(KEY, VALUE)
    other = Journal(path, "other")
    assert other.get(KEY) is None
    other.note(KEY, {"loss": 2})
    assert Journal(path, "one").get(KEY) == VALUE
    assert Journal(path, "other").get(KEY) == {"loss": 2}


def test_what_was_noted_last_counts(path):
    for loss in (1, 2):
        Journal(path, "run").note(KEY, {"loss": loss})
    assert Journal(path, "run").get(KEY) == {"loss": 2}


DAMAGE = {
    "a line cut short": '{"run": "run", "key": "[1]", "val',
    "a line of nothing": "",
    "no JSON": "<<<<<<< HEAD",
    "JSON of another kind": '[1, 2]\n3\nnull\n"run"',
    "an object without a key": '{"run": "run"}',
    "a key that is no text": '{"run": "run", "key": [1], "value": {}}',
    "bytes that are no text": "\udcff\udcfe{",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_line_is_ignored_and_the_others_are_known(path, damage):
    Journal(path, "run").note(KEY, VALUE)
    with path.open("a", errors="surrogateescape") as file:
        file.write(damage + "\n")
    Journal(path, "run").note(["more"], VALUE)
    journal = Journal(path, "run")
    assert len(journal.known) == 2
    assert journal.get(KEY) == journal.get(["more"]) == VALUE


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_what_is_noted_after_a_line_that_was_cut_short_is_not_lost(path, cut):
    Journal(path, "run").note(KEY, VALUE)
    Journal(path, "run").note(["cut"], VALUE)
    path.write_bytes(path.read_bytes()[:-cut])
    Journal(path, "run").note(["more"], VALUE)
    journal = Journal(path, "run")
    assert journal.get(KEY) == journal.get(["more"]) == VALUE
    assert journal.get(["cut"]) == (VALUE if cut == 1 else None)


@pytest.mark.parametrize("text", ["my own notes\n", '{"a": 1}\n', "\n\n3\n"])
def test_a_file_of_that_name_that_is_no_journal_is_left_alone(path, text):
    path.write_text(text)
    with pytest.raises(WriteError, match=r"net.journal.jsonl: is no journal, .*; move it"):
        Journal(path, "run")
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["", "\n", '{"ru', '{"run": "run", "key'])
def test_a_journal_that_was_stopped_in_its_first_line_is_one(path, text):
    path.write_text(text)
    Journal(path, "run").note(KEY, VALUE)
    assert Journal(path, "run").get(KEY) == VALUE


def test_every_value_is_on_the_disk_as_soon_as_it_is_noted(path):
    journal = Journal(path, "run")
    for i in range(3):
        journal.note([i], {"loss": i})
        assert json.loads(path.read_text().splitlines()[-1])["value"] == {"loss": i}


@pytest.mark.parametrize("place", ["no folder/net.jsonl", "a file/net.jsonl", "a folder"])
def test_a_journal_that_cannot_be_written_is_an_error_that_says_where(tmp_path, place):
    (tmp_path / "a file").write_text("")
    (tmp_path / "a folder").mkdir()
    with pytest.raises(WriteError, match=rf"{place}: cannot be written \(.*\); check the path"):
        Journal(tmp_path / place, "run").note(KEY, VALUE)


def test_a_fingerprint_is_that_of_contents_and_texts(tmp_path):
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    one.write_bytes(b"\0weights")
    same.write_bytes(b"\0weights")
    other.write_bytes(b"\0other")
    assert fingerprint(one, "x") == fingerprint(same, "x")
    prints = [
        fingerprint(one, "x"),
        fingerprint(other, "x"),
        fingerprint(one, "y"),
        fingerprint(one, "x", ""),
    ]
    prints += [fingerprint("ab", "c"), fingerprint("a", "bc")]
    assert len(set(prints)) == len(prints)


def test_measurements_of_another_version_are_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(the_module, "PACKAGE", tmp_path)
    prints = {fingerprint("x")}
    texts = {
        "__init__.py": "12",
        "compress/fits.py": "ab",
        "compress/more/fits.py": "a",
        "low_rank/svd.py": "a",
    }
    for name, versions in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        for version in versions:
            (tmp_path / name).write_text(version)
            prints.add(fingerprint("x"))
    assert len(prints) == 7


def test_the_code_that_measurements_depend_on_is_the_version_and_what_fits_scores_and_factorizes():
    names = {path.name for pattern in the_module.CODE for path in the_module.PACKAGE.glob(pattern)}
    assert {"layer_fits.py", "answers.py", "selection.py", "factorization.py", "schemes.py"} <= names
    assert "__version__ = " in (the_module.PACKAGE / "__init__.py").read_text()
