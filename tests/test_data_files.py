"""Atomic writing: the old file or the whole new one."""

import stat

import pytest

from minicaffe.errors import MinicaffeError, WriteError
from minicaffe.files import atomic_write


def test_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "weights.npz"
    with atomic_write(path) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" whole")
    assert path.read_bytes() == b"half whole"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_in_the_block_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with atomic_write(path) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "missing" / "weights.npz"
    with (
        pytest.raises(MinicaffeError, match=r"missing/weights\.npz: cannot be written \(No such file"),
        atomic_write(path),
    ):
        pass


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path):
    path = tmp_path / "weights.npz"
    with (
        pytest.raises(WriteError, match=r"weights\.npz: cannot be written \(No space left.*free some space"),
        atomic_write(path),
    ):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())
