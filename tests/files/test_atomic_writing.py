"""Atomic writing: the old file or the whole new one."""

import io
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from minicaffe.errors import MinicaffeError, WriteError
from minicaffe.files import atomic as files
from minicaffe.files.atomic import atomic_write

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


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


def test_a_link_stays_a_link_to_the_new_file(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "weights.npz"
    link.symlink_to(tmp_path / "real" / "weights.npz")
    for content in (b"first", b"second"):
        with atomic_write(link) as file:
            file.write(content)
        assert link.is_symlink() and (tmp_path / "real" / "weights.npz").read_bytes() == content
    assert len(list((tmp_path / "real").iterdir())) == 1


def test_a_link_that_leads_nowhere_is_one_line(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with (
        pytest.raises(WriteError, match=r"loop: cannot be written \(Too many levels"),
        atomic_write(tmp_path / "loop"),
    ):
        pass


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals of its own on this system")
def test_a_device_is_written_into_and_not_replaced():
    outer, inner = os.openpty()  # in its folder nothing can be made, so nothing is lost if it were tried
    with atomic_write(os.ttyname(inner)) as file:
        file.write(b"word")
    assert os.read(outer, 10) == b"word" and Path(os.ttyname(inner)).is_char_device()
    os.close(outer)
    os.close(inner)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
def test_a_pipe_gets_the_bytes_when_all_are_there(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with atomic_write(tmp_path / "pipe") as file:
        np.savez(file, x=np.arange(5))
    reader.join()
    assert np.load(io.BytesIO(got[0]))["x"].tolist() == [0, 1, 2, 3, 4]
    assert (tmp_path / "pipe").is_fifo()


KILLED = """
import os, signal, sys
from pathlib import Path
from minicaffe.files.atomic import atomic_folder, atomic_write
with atomic_write("weights.npz") as file, atomic_folder(Path("db")) as folder:
    (folder / "data.mdb").write_bytes(b"half")
    file.write(b"half")
    file.flush()
    if sys.argv[1] == "wait":
        print(flush=True)
        sys.stdin.read()
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="locks of files are needed")
def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_there_and_no_other_file(tmp_path):
    command = [sys.executable, "-c", KILLED]
    (tmp_path / ".mine.abc.tmp").write_text("not ours")
    with subprocess.Popen(
        [*command, "wait"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as alive:
        alive.stdout.readline()
        at_work = set(tmp_path.iterdir())
        subprocess.run([*command, "kill"], cwd=tmp_path, check=False)
        left = set(tmp_path.iterdir()) - at_work
        assert len(at_work) == 3 and len(left) == 2
        with atomic_write(tmp_path / "other") as file:
            file.write(b"whole")
        assert set(tmp_path.iterdir()) == {*at_work, tmp_path / "other"}
        alive.stdin.close()
        assert alive.wait() == 0
    assert {path.name for path in tmp_path.iterdir()} == {".mine.abc.tmp", "other", "weights.npz", "db"}
    assert (tmp_path / "weights.npz").read_bytes() == b"half"


def test_a_file_that_was_taken_for_a_dead_process_s_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    made = []

    def taken_at_once(path):
        made.append(path)
        if len(made) == 1:
            os.unlink(path)
        return lock(path)

    lock = files._lock
    monkeypatch.setattr(files, "_lock", taken_at_once)
    with atomic_write(tmp_path / "weights.npz") as file:
        file.write(b"whole")
    assert made[0] != made[1] and (tmp_path / "weights.npz").read_bytes() == b"whole"
