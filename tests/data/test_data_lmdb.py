"""The file of an LMDB: read as the library reads it, whatever it holds; damaged, cut or changed it is one line."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

lmdb = pytest.importorskip("lmdb")

from minicaffe.data.sources.backends import open_source  # noqa: E402
from minicaffe.data.sources.lmdb_file import META, LmdbFile  # noqa: E402
from minicaffe.errors import DataError  # noqa: E402
from tests.security import lmdb_fuzz  # noqa: E402

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


def write(folder, values, **options):
    """A database with these values, by key."""
    with lmdb.open(str(folder), map_size=1 << 26, **options) as base, base.begin(write=True) as writing:
        for key, value in values.items():
            writing.put(key, value)


def digits(count, label=1, pixels=4):
    return {
        b"%04d" % i: lmdb_fuzz.message_class("Datum")(
            channels=1, height=1, width=pixels, data=bytes(pixels), label=label
        ).SerializeToString()
        for i in range(count)
    }


@pytest.mark.parametrize("count", [1, 2, 60, 2000])
@pytest.mark.parametrize("most", [1, 900, 2500, 20000])
@pytest.mark.parametrize("letters", [8, 400])
def test_keys_and_values_are_those_that_the_library_reads(tmp_path, count, most, letters):
    rng = np.random.default_rng(count + most)
    count = min(count, 300) if most * count > 10**7 else count
    with lmdb.open(str(tmp_path), map_size=1 << 28) as base:
        for turn in range(3):  # written over, and partly deleted, so that pages are used anew
            with base.begin(write=True) as writing:
                for number in rng.permutation(count)[:: turn + 1]:
                    writing.put(b"%0*d" % (letters, number), rng.bytes(int(rng.integers(0, most))))
                if turn:
                    for key in [key for key, _ in writing.cursor()][1::4]:
                        writing.delete(key)
        with base.begin() as reading:
            expected = list(reading.cursor())
        file = LmdbFile(tmp_path)  # while the library has it open in this process
        assert [file.read(i) for i in range(len(file))] == expected
        file.close()


def test_a_data_base_in_one_file_is_read_too(tmp_path):
    write(tmp_path / "one.lmdb", digits(3), subdir=False)
    assert open_source("one.lmdb", folder=tmp_path).read(np.arange(3))[1].tolist() == [1, 1, 1]


def test_it_is_read_without_the_package(tmp_path, monkeypatch):
    write(tmp_path / "db", digits(3))
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    assert len(open_source("db", folder=tmp_path)) == 3


def test_a_data_base_that_was_made_anew_under_its_path_is_the_new_one(tmp_path):
    write(tmp_path / "db", digits(3, label=1))
    first = open_source("db", folder=tmp_path)  # and nobody closes it
    for file in (tmp_path / "db").iterdir():
        file.unlink()
    write(tmp_path / "db", digits(5, label=2))
    assert open_source("db", folder=tmp_path).read(np.arange(5))[1].tolist() == [2] * 5
    assert first.read(np.arange(3))[1].tolist() == [1] * 3


def test_a_data_base_that_is_written_to_while_it_is_read_says_so(tmp_path):
    write(tmp_path / "db", digits(3))
    source = open_source("db", folder=tmp_path)
    data = tmp_path / "db" / "data.mdb"
    os.utime(data, ns=(0, data.stat().st_mtime_ns - 10**9))  # what a clock's tick would do
    with pytest.raises(DataError, match="db: was written to while it was open; read it again"):
        source.read(np.arange(3))
    write(tmp_path / "db", digits(4, label=7))
    assert open_source("db", folder=tmp_path).read(np.arange(4))[1].tolist() == [7] * 4


def test_what_is_written_through_a_map_is_told_where_the_file_system_keeps_no_time_of_it(tmp_path):
    write(tmp_path / "db", digits(3))
    source = open_source("db", folder=tmp_path)
    data = tmp_path / "db" / "data.mdb"
    before = data.stat()
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 26) as base, base.begin(write=True) as writing:
        writing.put(b"0001", b"x")
    os.truncate(data, before.st_size)
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match="was written to while it was open"):
        source.read(np.arange(1))


@pytest.mark.parametrize("pixels", [4, 9000])
def test_pages_that_were_given_back_before_they_were_written_are_not_missed(tmp_path, pixels):
    """The library leaves them out where they are the last; see ``mdb_page_loose`` in its source."""
    write(tmp_path / "db", digits(20, pixels=pixels))
    data = tmp_path / "db" / "data.mdb"
    content = bytearray(data.read_bytes())
    at = META.fields["last"][1]
    for page in (0, 4096):
        last = int.from_bytes(content[page + at : page + at + 8], "little")
        content[page + at : page + at + 8] = (last + 3).to_bytes(8, "little")
    data.write_bytes(content)
    assert len(open_source("db", folder=tmp_path).read(np.arange(20))[1]) == 20


def test_a_long_value_beyond_the_end_of_the_file_is_told_when_it_is_opened(tmp_path):
    write(tmp_path / "db", {b"0": b"short", b"1": bytes(90_000)})  # the long one is written last
    os.truncate(tmp_path / "db" / "data.mdb", 40_960)
    with pytest.raises(DataError, match=r"db: the file ends after 40960 of \d+ bytes; copy it again"):
        LmdbFile(tmp_path / "db")


def test_a_data_base_that_was_refused_is_read_when_it_is_right(tmp_path):
    write(tmp_path / "db", {})
    with pytest.raises(DataError, match="empty"):
        open_source("db", folder=tmp_path)
    write(tmp_path / "db", digits(2))
    assert len(open_source("db", folder=tmp_path)) == 2


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc on this system")
def test_a_source_that_nobody_closes_leaves_nothing_open(tmp_path):
    write(tmp_path / "db", digits(2))
    open_source("db", folder=tmp_path)
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        open_source("db", folder=tmp_path)
    assert os.listdir("/proc/self/fd") == before


def test_a_file_that_is_cut_while_it_is_read_is_an_error_and_not_the_end_of_the_process(tmp_path):
    write(tmp_path / "db", digits(40, pixels=9000))
    source = open_source("db", folder=tmp_path)
    os.truncate(tmp_path / "db" / "data.mdb", 5 * lmdb_fuzz.PAGE)
    with pytest.raises(DataError, match="db: was written to while it was open"):
        source.read(np.arange(40))


def test_data_bases_with_names_are_refused(tmp_path):
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 22, max_dbs=2) as base:
        named = base.open_db(b"named")
        with base.begin(write=True, db=named) as writing:
            writing.put(b"key", b"value")
    with pytest.raises(DataError, match="db: has named databases"):
        open_source("db", folder=tmp_path).read(np.arange(1))


@pytest.mark.parametrize(
    ("at", "word", "message"),
    [
        (16, struct.pack("<I", 7), "does not begin like one"),
        (20, struct.pack("<I", 999), "version 999, not 1"),
        (40, struct.pack("<I", 1000), "damaged, or written on a machine with other sizes"),
        (40 + 48 + 6, struct.pack("<H", 60), "its first pages are damaged"),
    ],
)
def test_a_damaged_first_page_is_named(tmp_path, at, word, message):
    write(tmp_path / "db", digits(2))
    data = bytearray((tmp_path / "db" / "data.mdb").read_bytes())
    data[at : at + len(word)] = word
    (tmp_path / "db" / "data.mdb").write_bytes(data)
    with pytest.raises(DataError, match=f"db: not a readable LMDB .*{message}.*; write it again"):
        open_source("db", folder=tmp_path)


def test_a_tree_whose_branches_meet_again_is_refused_at_once(tmp_path):
    """Each branch page names one page below many times: a walk that follows them all would take for ever."""
    pages = lmdb_fuzz.PAGE
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 26) as base, base.begin(write=True) as writing:
        for i in range(2000):
            writing.put(b"%0480d" % i, b"value")
    path = tmp_path / "db" / "data.mdb"
    data = bytearray(path.read_bytes())
    for start in range(2 * pages, len(data), pages):
        kind, lower = struct.unpack_from("<HH", data, start + 10)
        if kind == 1:
            places = struct.unpack_from(f"<{(lower - 16) // 2}H", data, start + 16)
            for place in places[1:]:
                data[start + place : start + place + 4] = data[start + places[0] : start + places[0] + 4]
    path.write_bytes(data)
    with pytest.raises(DataError, match="db: the database is damaged"):
        open_source("db", folder=tmp_path)


def test_a_leaf_that_is_named_twice_is_refused_though_the_count_of_entries_fits(tmp_path):
    write(tmp_path / "db", {b"%04d" % i: bytes(1500) for i in range(4)})  # two leaves of two
    path = tmp_path / "db" / "data.mdb"
    data = bytearray(path.read_bytes())
    (branch,) = pages_of_kind(data, 1)
    first, second = struct.unpack_from("<2H", data, branch + 16)
    data[branch + second : branch + second + 6] = data[branch + first : branch + first + 6]
    path.write_bytes(data)
    with pytest.raises(DataError, match="db: the database is damaged"):
        LmdbFile(tmp_path / "db")


@pytest.mark.parametrize("kind", [2, 4], ids=["leaf", "overflow"])
@pytest.mark.parametrize(("at", "word"), [(0, b"\x4d"), (10, b"\1")], ids=["another number", "another kind"])
def test_a_page_that_is_another_than_it_should_be_is_refused(tmp_path, kind, at, word):
    write(tmp_path / "db", {b"long": bytes(9000)})
    path = tmp_path / "db" / "data.mdb"
    data = bytearray(path.read_bytes())
    for start in pages_of_kind(data, kind):
        data[start + at : start + at + 1] = word
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"db: the database is damaged \(page \d+\); write it again"):
        LmdbFile(tmp_path / "db").read(0)


def pages_of_kind(data, kind):
    starts = range(2 * lmdb_fuzz.PAGE, len(data), lmdb_fuzz.PAGE)
    return [start for start in starts if struct.unpack_from("<H", data, start + 10)[0] == kind]


def test_damaged_data_bases_are_read_or_refused_with_one_clear_line(capsys):
    lmdb_fuzz.main(120)
    assert capsys.readouterr().out.count("refused") == 6
