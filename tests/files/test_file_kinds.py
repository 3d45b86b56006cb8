"""The kind of a file, for errors about a file of the wrong kind."""

import pytest

from minicaffe.files.kinds import kind_of

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


@pytest.mark.parametrize("letters", [1, 2, 66, 67, 68, 69])
@pytest.mark.parametrize("letter", ["a", "é", "卷"])
def test_a_text_is_a_text_wherever_its_start_is_cut(tmp_path, letter, letters):
    (tmp_path / "file").write_text("." * (letters % 3) + letter * letters * 3, encoding="utf-8")
    assert kind_of(tmp_path / "file") == "a text"


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"", "empty"), (b"PK\3\4", "an .npz (or another zip) archive"), (b"\xff\xfe\0\1", ""), (b"a\0b", "")],
)
def test_bytes_that_are_no_text_are_known_by_their_start_or_not_at_all(tmp_path, start, kind):
    (tmp_path / "file").write_bytes(start)
    assert kind_of(tmp_path / "file") == kind
