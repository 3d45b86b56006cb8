"""Damaged files of Caffe are refused with one clear line, in bounded time and memory (more: caffe_fuzz.py)."""

import sys

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.caffe.formats.messages import message_class
from minicaffe.cli.program import main
from minicaffe.data.mean import load_mean
from minicaffe.errors import DataError, WeightError
from tests.golden_files import FOLDER
from tests.security.caffe_fuzz import Reader
from tests.security.peak_memory import begin_peak, peak_memory

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

GOLDEN = FOLDER / "caffe"


@pytest.fixture(scope="module")
def reader():
    return Reader()


@pytest.mark.parametrize("tens", range(40))
def test_random_damage_gives_a_clear_line(reader, tmp_path, tens):
    for seed in range(10 * tens, 10 * tens + 10):
        reader.read(seed, tmp_path)


@pytest.fixture
def net():
    return mc.Net(GOLDEN / "current.prototxt", phase="test")


def model_with(folder, change):
    """The path of a .caffemodel whose first array of layer "conv" is changed."""
    model = message_class("NetParameter").FromString((GOLDEN / "current.caffemodel").read_bytes())
    change(next(layer for layer in model.layer if layer.name == "conv").blobs[0])
    (folder / "bad.caffemodel").write_bytes(model.SerializeToString())
    return folder / "bad.caffemodel"


def shape(*dims):
    def change(blob):
        blob.shape.dim[:] = dims

    return change


def no_numbers(blob):
    del blob.data[:]


def old_shape(blob):
    blob.num, blob.channels, blob.height, blob.width = 2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1


BLOBS = [
    (
        "a shape beyond memory",
        shape(2**40, 2**22),
        r"72 numbers do not fit the shape \(1099511627776, 4194304\)",
    ),
    ("a negative shape", shape(-4, -18), r"72 numbers do not fit the shape \(-4, -18\)"),
    ("an old shape beyond memory", old_shape, r"72 numbers do not fit the shape \(2147483647, 2147483647"),
    ("another shape", shape(8, 9), r"'conv/0' has shape \(8, 9\), the net expects \(4, 3, 3, 2\)"),
    ("no numbers", no_numbers, r"0 numbers do not fit"),
]


@pytest.mark.parametrize(("what", "change", "message"), BLOBS, ids=[case[0] for case in BLOBS])
def test_arrays_that_are_not_as_declared_are_refused(net, tmp_path, what, change, message):
    before = mc.to_host(net.params["conv"][0].data).copy()
    with pytest.raises(WeightError, match=f"bad.caffemodel: .*{message}"):
        net.copy_from(model_with(tmp_path, change))
    np.testing.assert_array_equal(mc.to_host(net.params["conv"][0].data), before)


def test_declared_sizes_take_no_memory(net, tmp_path):
    """A length of 2 GiB before three bytes, and a shape of 2^62 numbers."""
    held = begin_peak()
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(bytes([0xA2, 0x06, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, 1, 2, 3]))
    with pytest.raises(WeightError, match=r"bad\.caffemodel: not a NetParameter message"):
        net.copy_from(path)
    with pytest.raises(WeightError, match="do not fit"):
        net.copy_from(model_with(tmp_path, shape(2**31, 2**31)))
    (tmp_path / "mean.binaryproto").write_bytes(
        message_class("BlobProto")(
            num=1, channels=2**30, height=2**30, width=4, data=[1.0]
        ).SerializeToString()
    )
    with pytest.raises(DataError, match=r"mean\.binaryproto: 1 numbers do not fit the shape"):
        load_mean(tmp_path / "mean.binaryproto")
    if sys.platform == "linux":
        assert peak_memory() - held < 50  # MiB


def mean_of(folder, numbers, dims=(), **axes):
    """A mean.binaryproto with these numbers, and with a shape given in one way or both."""
    blob = message_class("BlobProto")(data=numbers, **axes)
    blob.shape.dim.extend(dims)
    (folder / "mean.binaryproto").write_bytes(blob.SerializeToString())
    return folder / "mean.binaryproto"


def test_a_mean_image_with_axes_below_0_is_an_error(tmp_path):
    with pytest.raises(DataError, match="1 numbers do not fit the shape"):
        load_mean(mean_of(tmp_path, [1.0], num=-1, channels=-1, height=1, width=1))


def test_the_old_axes_of_a_mean_image_count_where_it_has_a_shape_too(tmp_path):
    """As in Caffe (``Blob::FromProto``)."""
    path = mean_of(tmp_path, [1.0, 2.0], dims=(1, 2, 1), num=1, channels=1, height=1, width=2)
    assert load_mean(path).shape == (1, 1, 2)


@pytest.mark.parametrize("axis", ["num", "channels", "height", "width"])
def test_one_old_axis_alone_counts_too_and_the_others_are_0(axis, tmp_path):
    with pytest.raises(DataError, match=r"1 numbers do not fit the shape \([01], [01], [01], [01]\)"):
        load_mean(mean_of(tmp_path, [1.0], dims=(1, 1, 1), **{axis: 1}))


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 1000, 3000])
def test_a_file_that_ends_early_is_refused_or_has_no_layer_of_the_net(net, tmp_path, keep):
    path = tmp_path / "short.caffemodel"
    path.write_bytes((GOLDEN / "current.caffemodel").read_bytes()[:keep])
    with pytest.raises(WeightError, match=r"short\.caffemodel"):
        net.copy_from(path)


KINDS = {
    "text": (b"name: 'a text'", "is a text, not|is a text; expected"),
    "npz": (None, "archive, not"),
    "nothing": (b"", "empty"),
    "image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a PNG image, not"),
}


@pytest.mark.parametrize("content", KINDS)
@pytest.mark.parametrize("ending", ["caffemodel", "caffemodel.h5", "solverstate", "solverstate.h5"])
def test_an_error_says_what_a_file_of_another_kind_is(tmp_path, content, ending):
    data, message = KINDS[content]
    path = tmp_path / f"file.{ending}"
    with path.open("wb") as file:
        file.write(data) if data is not None else np.savez(file, **{"conv/0": np.zeros(3)})
    read = mc.caffe.formats.solverstate.read_state if "state" in ending else mc.core.weights.open_weights
    with pytest.raises(mc.MinicaffeError, match=message) as caught:
        read(path)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("ending", ["solverstate", "solverstate.h5"])
def test_a_state_of_caffe_is_not_taken_for_weights(tmp_path, ending):
    with pytest.raises(WeightError, match=rf"run\.{ending}: a solver state, not weights"):
        mc.core.weights.open_weights(tmp_path / f"run.{ending}")


@pytest.mark.parametrize("content", ["text", "npz", "nothing", "folder"])
@pytest.mark.parametrize(
    "ending", ["caffemodel", "caffemodel.h5", "solverstate", "solverstate.h5", "prototxt"]
)
def test_a_file_of_another_kind_gives_one_line(tmp_path, monkeypatch, capsys, content, ending):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"file.{ending}"
    if content == "folder":
        path.mkdir()
    elif content == "npz":
        with path.open("wb") as file:
            np.savez(file, **{"conv/0": np.zeros(3)})
    else:
        path.write_text("name: 'a text'" if content == "text" else "")
    (tmp_path / "solver.prototxt").write_text(
        f"net: '{GOLDEN / 'train.prototxt'}' base_lr: 1 lr_policy: 'fixed'"
    )
    command = {
        "caffemodel": ["test", str(GOLDEN / "current.prototxt"), "--weights", str(path)],
        "solverstate": ["train", "solver.prototxt", "--snapshot", str(path)],
        "prototxt": ["summary", str(path)],
    }[ending.split(".")[0]]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}")
    assert error.count("\n") == 1


def test_hdf5_that_declares_more_than_it_has_is_refused(net, tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "huge.caffemodel.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data/conv/0", (2**20, 2**20), "f", chunks=(1, 1024), compression="gzip")
    with pytest.raises(WeightError, match=r"'conv/0' has shape \(1048576, 1048576\), the net expects"):
        net.copy_from(path)
    with pytest.raises(WeightError, match=r"huge.caffemodel.h5: 'data/conv/0' cannot be read \(declares"):
        mc.caffe.formats.hdf5.Hdf5WeightReader(path).read("conv/0")
    with h5py.File(path, "w") as file:  # 16 MiB: the limit, not the memory, has to refuse it
        file.create_dataset("data/conv/0", (2**11, 2**11), "f", chunks=(1, 1024), compression="gzip")
    with pytest.raises(WeightError, match=r"declares \(2048, 2048\) numbers, but has 0 bytes"):
        mc.caffe.formats.hdf5.Hdf5WeightReader(path).read("conv/0")


def test_hdf5_that_holds_no_numbers_is_refused(net, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "text.caffemodel.h5", "w") as file:
        for i, dims in enumerate([(4, 3, 3, 2)]):
            file.create_dataset(f"data/conv/{i}", dims, h5py.string_dtype())
    with pytest.raises(WeightError, match="'data/conv/0' cannot be read"):
        net.copy_from(tmp_path / "text.caffemodel.h5")
    with h5py.File(tmp_path / "none.caffemodel.h5", "w") as file:
        file["other"] = np.zeros(3)
    with pytest.raises(WeightError, match="not weights of Caffe"):
        net.copy_from(tmp_path / "none.caffemodel.h5")


@pytest.mark.parametrize("package", ["google.protobuf", "h5py"])
def test_a_missing_package_gives_the_line_that_installs_it(net, monkeypatch, package):
    file, extra = {"google.protobuf": ("caffemodel", "caffe"), "h5py": ("caffemodel.h5", "hdf5")}[package]
    monkeypatch.setitem(sys.modules, package, None)
    if package == "google.protobuf":
        monkeypatch.setitem(sys.modules, "google.protobuf.descriptor_pb2", None)
        message_class.cache_clear()
        mc.caffe.formats.messages._pool.cache_clear()
    with pytest.raises(WeightError, match=rf"pip install 'minicaffe\[{extra}\]'"):
        net.copy_from(GOLDEN / f"current.{file}")


def test_a_prototxt_needs_no_protobuf(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    assert len(mc.Net(GOLDEN / "v1.prototxt", phase="test").layers) == 14


@pytest.mark.parametrize("generation", ["v0", "v1", "current"])
@pytest.mark.parametrize("word", ["name of the net", "name of a layer"])
def test_a_text_that_is_not_utf8_is_one_line(tmp_path, capsys, generation, word):
    data = (GOLDEN / f"{generation}.caffemodel").read_bytes()
    net = message_class("NetParameter").FromString(data)
    layer = [*net.layers, *net.layer][1]
    held = net.name if word == "name of the net" else layer.layer.name if generation == "v0" else layer.name
    bad = held.encode()[:-1] + b"\xff"
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(data.replace(held.encode(), bad))
    for command in (["convert", str(path), "-o", str(tmp_path / "out")], ["summary", str(path)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {path}: ") and error.count("\n") == 1
        assert "is not UTF-8; the file is damaged" in error
    if word == "name of a layer":
        with pytest.raises(WeightError, match="a layer's name or type is not UTF-8"):
            mc.core.weights.open_weights(path)


def net_with(folder, change):
    """The path of a .caffemodel of one Pooling layer, changed."""
    model = message_class("NetParameter")()
    layer = model.layer.add(name="pool", type="Pooling", bottom=["x"], top=["y"])
    layer.pooling_param.kernel_size = 2
    change(layer)
    (folder / "net.caffemodel").write_bytes(model.SerializeToString())
    return folder / "net.caffemodel"


def unknown_choice(layer):
    layer.pooling_param.pool = 7


def long_name(layer):
    layer.top[0] = 2000 * "y"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown_choice, "layer 'pool': pooling_param.pool: unknown value 7; Caffe 1.0 has no such choice"),
        (long_name, "layer 'pool': top: a text of 2000 letters; at most 1000 are taken for a name"),
    ],
)
def test_a_value_that_no_spec_could_have_is_refused(tmp_path, change, message):
    path = net_with(tmp_path, change)
    with pytest.raises(mc.SpecError) as caught:
        mc.Net(path)
    assert str(caught.value) == f"{path}: {message}"
