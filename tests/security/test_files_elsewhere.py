"""An HDF5 file is read alone: what it points to elsewhere is refused before it is opened."""

import ctypes
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.data.sources.hdf5 import open_hdf5
from minicaffe.errors import DataError, MinicaffeError, TrainingError, WeightError
from tests.golden_files import FOLDER

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

h5py = pytest.importorskip("h5py")
CAFFE = FOLDER / "caffe"
NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)
ELSEWHERE = "a link to another file|numbers in other files"


@pytest.fixture
def secret(tmp_path):
    """A file that others point to: HDF5, and so raw bytes too."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"] = NUMBERS
        file["group/0"] = NUMBERS
    return tmp_path / "secret.h5"


def external_storage(file, name, secret, shape):
    size = 4 * int(np.prod(shape))
    file.create_dataset(name, shape, "f4", external=[(str(secret), 0, size)])


def external_link(file, name, secret, shape):
    file[name] = h5py.ExternalLink(str(secret), "/data")


def link_to_a_group(file, name, secret, shape):
    """The data set lies below an external link."""
    file[name.rpartition("/")[0]] = h5py.ExternalLink(str(secret), "/group")


def soft_link_out(file, name, secret, shape):
    """A soft link stays in its file, but the path that it names may go through an external link."""
    file["door"] = h5py.ExternalLink(str(secret), "/")
    file[name] = h5py.SoftLink("/door/data")


def virtual(file, name, secret, shape):
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(str(secret), "data", shape)
    file.create_virtual_dataset(name, layout)


WAYS = [external_storage, external_link, link_to_a_group, soft_link_out, virtual]


class Watch:
    """Says whether a file was opened, by whoever: Linux's inotify."""

    def __init__(self, path):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.handle = self.libc.inotify_init1(os.O_NONBLOCK)
        self.libc.inotify_add_watch(self.handle, os.fsencode(path), 0x20)  # IN_OPEN

    def was_opened(self):
        try:
            return len(os.read(self.handle, 4096)) >= struct.calcsize("iIII")
        except BlockingIOError:
            return False
        finally:
            os.close(self.handle)


def refused(read, secret, error):
    """The message; nothing has opened ``secret``."""
    watch = Watch(secret) if sys.platform == "linux" else None
    with pytest.raises(error, match=ELSEWHERE) as caught:
        read()
    assert watch is None or not watch.was_opened()
    return str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_the_watch_sees_what_h5py_opens(secret):
    watch = Watch(secret)
    h5py.File(secret).close()
    assert watch.was_opened()


@pytest.mark.parametrize("way", WAYS)
def test_data_that_lie_elsewhere_are_refused_before_they_are_opened(tmp_path, secret, way):
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        way(file, "parts/data" if way is link_to_a_group else "data", secret, NUMBERS.shape)
    (tmp_path / "list.txt").write_text("bad.h5\n")
    name = "parts/data" if way is link_to_a_group else "data"
    told = refused(lambda: open_hdf5("list.txt", [name], tmp_path), secret, DataError)
    assert told.startswith(f"{tmp_path / 'bad.h5'}: ")


@pytest.mark.parametrize("way", WAYS)
def test_weights_that_lie_elsewhere_are_refused_before_they_are_opened(tmp_path, secret, way):
    net = mc.Net(CAFFE / "current.prototxt", phase="test")
    before = mc.to_host(net.params["conv"][0].data).copy()
    with h5py.File(tmp_path / "bad.caffemodel.h5", "w") as file:
        way(file, "data/conv/0", secret, before.shape)
    refused(lambda: net.copy_from(tmp_path / "bad.caffemodel.h5"), secret, WeightError)
    np.testing.assert_array_equal(mc.to_host(net.params["conv"][0].data), before)


@pytest.mark.parametrize("way", WAYS)
def test_histories_that_lie_elsewhere_are_refused_before_they_are_opened(tmp_path, secret, way):
    path = tmp_path / "bad.solverstate.h5"
    path.write_bytes((CAFFE / "SGD_iter_6.solverstate.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        shape = file["history/0"].shape
        del file["history" if way is link_to_a_group else "history/0"]
        way(file, "history/0", secret, shape)
    refused(lambda: mc.caffe.formats.solverstate.read_state(path), secret, TrainingError)


def test_links_within_the_file_are_followed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["real/numbers"] = NUMBERS
        file["soft"] = h5py.SoftLink("/real/numbers")
        file["real/near"] = h5py.SoftLink("numbers")
        file["data"] = h5py.SoftLink("real/near")
        file["hard"] = file["real"]
    (tmp_path / "list.txt").write_text("a.h5\n")
    source = open_hdf5("list.txt", ["data", "soft", "hard/numbers"], tmp_path)
    for array in source.read(np.arange(3)):
        np.testing.assert_array_equal(array, NUMBERS)


def test_links_that_lead_to_one_another_are_one_line(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = h5py.SoftLink("/other")
        file["other"] = h5py.SoftLink("/data")
    (tmp_path / "list.txt").write_text("a.h5\n")
    with pytest.raises(
        DataError, match=r"a\.h5: not a readable HDF5 file \(links that lead to one another\)"
    ):
        open_hdf5("list.txt", ["data"], tmp_path)


def test_groups_that_hold_themselves_are_walked_once(tmp_path):
    with h5py.File(tmp_path / "a.caffemodel.h5", "w") as file:
        file["data/conv/0"] = NUMBERS
        file["data/conv/again"] = file["data"]
        file["data/twice"] = file["data/conv"]
    assert set(mc.core.weights.open_weights(tmp_path / "a.caffemodel.h5").layers()) == {"conv"}


def test_groups_2000_deep_are_refused_at_once(tmp_path):
    with h5py.File(tmp_path / "deep.caffemodel.h5", "w") as file:
        group = file.create_group("data")
        for _ in range(2000):
            group = group.create_group("g")
    with pytest.raises(WeightError, match="groups that lie more than 64 deep"):
        mc.core.weights.open_weights(tmp_path / "deep.caffemodel.h5")


@pytest.mark.parametrize(
    "made",
    [
        {"chunks": (1, 1), "maxshape": (None, None)},  # a look-up for each number
        {"chunks": (2**14, 2**14), "compression": "gzip"},
        {},
    ],
    ids=["small pieces", "large pieces", "one piece"],
)
def test_numbers_that_are_declared_and_not_there_are_refused(tmp_path, made):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", (2**15, 2**15), "f4", **made)
    (tmp_path / "list.txt").write_text("a.h5\n")
    source = open_hdf5("list.txt", ["data"], tmp_path)
    with pytest.raises(MinicaffeError, match=r"a\.h5: 'data' cannot be read \(declares"):
        source.read(np.arange(1))


def test_numbers_that_are_compressed_twice_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((3, 4))
        made.set_deflate(9)
        made.set_deflate(9)
        space = h5py.h5s.create_simple((3, 4))
        data = h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_FLOAT, space, dcpl=made)
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones((3, 4), np.float32))
    (tmp_path / "list.txt").write_text("a.h5\n")
    with pytest.raises(MinicaffeError, match=r"a\.h5: 'data' cannot be read \(is compressed twice\)"):
        open_hdf5("list.txt", ["data"], tmp_path).read(np.arange(1))


READ = """
import sys
from minicaffe.data.sources.hdf5 import open_hdf5
from minicaffe.errors import DataError
try:
    open_hdf5("list.txt", ["data"], sys.argv[1]).read([0])
except DataError as error:
    print(error)
"""


def test_a_piece_too_short_for_its_checksum_is_one_line(tmp_path):
    """The library would read beyond its end, and crash: read by another process."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("data", (3, 4), "f4", chunks=(3, 4), fletcher32=True, compression="gzip")
        made.id.write_direct_chunk((0, 0), b"x")
    (tmp_path / "list.txt").write_text("a.h5\n")
    done = subprocess.run([sys.executable, "-c", READ, tmp_path], capture_output=True, text=True, check=True)
    assert "a.h5: 'data' cannot be read (has a piece of 1 bytes; the file is damaged)" in done.stdout
