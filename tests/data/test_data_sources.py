"""Sources: what was written is read back; what is broken is named."""

import gzip
import io
import struct

import numpy as np
import pytest
from PIL import Image

from minicaffe.caffe.formats.messages import message_class
from minicaffe.data.mean import load_mean
from minicaffe.data.sources.backends import backend_of, open_source
from minicaffe.data.sources.hdf5 import open_hdf5
from minicaffe.data.sources.idx import gzip_bytes, idx_bytes, read_idx
from minicaffe.data.sources.npz import open_npz
from minicaffe.errors import DataError

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)
LABELS = np.arange(7, dtype=np.uint8)


def write_mnist_like(folder, packed=True, images=IMAGES, labels=LABELS):
    pack, suffix = (gzip_bytes, ".gz") if packed else (bytes, "")
    path = folder / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(pack(idx_bytes(images)))
    (folder / f"train-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(labels)))
    return path


# -- IDX ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_idx_images_and_labels_come_back(tmp_path, packed):
    source = open_source(str(write_mnist_like(tmp_path, packed)))
    images, labels = source.read(np.array([3, 0, 3]))
    assert len(source) == 7
    assert images.dtype == np.uint8 and labels.dtype == np.float32
    np.testing.assert_array_equal(images, IMAGES[[3, 0, 3], None])
    np.testing.assert_array_equal(labels, [3, 0, 3])


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_every_idx_number_type_comes_back(tmp_path, kind):
    array = np.arange(24).reshape(4, 3, 2).astype(kind)
    (tmp_path / "x.idx3").write_bytes(idx_bytes(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "x.idx3"), array)
    assert open_source(str(tmp_path / "x.idx3")).images.dtype == (np.uint8 if kind == "u1" else np.float32)


def test_gzip_bytes_depend_on_the_content_alone():
    assert gzip_bytes(b"abc") == gzip_bytes(b"abc")
    assert gzip.decompress(gzip_bytes(b"abc")) == b"abc"


def test_idx_label_file_may_be_given(tmp_path):
    path = write_mnist_like(tmp_path)
    (tmp_path / "other").write_bytes(idx_bytes(LABELS[::-1].copy()))
    labels = open_source(path.name, folder=tmp_path, labels="other").read(np.arange(2))[1]
    np.testing.assert_array_equal(labels, [6, 5])


def test_idx_without_label_file_says_which_is_missing(tmp_path):
    path = write_mnist_like(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    source = open_source(str(path))
    assert source.read(np.arange(2))[1] is None
    assert "train-labels-idx1-ubyte.gz" in source.no_labels


WHOLE = idx_bytes(IMAGES)
BROKEN_IDX = {
    "empty": (b"", "the file is empty"),
    "magic": (b"\x89PNG" + WHOLE[4:], "not an IDX file"),
    "type": (b"\0\0\x07\x03" + WHOLE[4:], "not an IDX file"),
    "header": (WHOLE[:9], "cut off within its header"),
    "short": (WHOLE[:-1], r"takes 140 bytes, but the file has 139"),
    "long": (WHOLE + b"\0", "takes 140 bytes, but more follow"),
    "huge": (struct.pack(">HBB3I", 0, 8, 3, *[0xFFFFFFFF] * 3) + b"\0", "but the file has 1"),
    "gzip cut": (gzip_bytes(WHOLE)[:-20], "damaged or cut off gzip"),
    "gzip damaged": (
        gzip_bytes(WHOLE)[:30] + b"\xff" * 30 + gzip_bytes(WHOLE)[60:],
        "damaged or cut off gzip",
    ),
    "none": (idx_bytes(IMAGES[:0]), "holds no images"),
}


@pytest.mark.parametrize("case", BROKEN_IDX)
def test_broken_idx_is_named(tmp_path, case):
    content, message = BROKEN_IDX[case]
    (tmp_path / "t.idx3").write_bytes(content)
    with pytest.raises(DataError, match=rf"t\.idx3: .*{message}") as caught:
        open_source(str(tmp_path / "t.idx3"))
    assert "\n" not in str(caught.value)


def test_idx_with_another_number_of_labels_is_named(tmp_path):
    path = write_mnist_like(tmp_path, labels=LABELS[:5])
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: 5 labels, but 7 images"):
        open_source(str(path))


@pytest.mark.parametrize(("name", "per_class"), [("train", 400), ("test", 100)])
def test_sample_is_balanced_and_mixed(name, per_class):
    source = open_source(f"sample/mnist-{name}")
    images, labels = source.read(np.arange(len(source)))
    np.testing.assert_array_equal(np.bincount(labels.astype(int)), [per_class] * 10)
    assert images.shape == (10 * per_class, 1, 28, 28)
    assert len(set(labels[:50])) == 10  # a small batch has every class
    assert 30 < images.mean() < 36  # MNIST's mean pixel is 33.3


def test_sample_parts_have_no_image_in_common():
    parts = [open_source(f"sample/mnist-{name}").images for name in ("train", "test")]
    train, test = ({image.tobytes() for image in part} for part in parts)
    assert len(train) == 4000 and len(test) == 1000 and not train & test


def test_shared_mnist_is_read(shared_data):
    path = shared_data / "mnist" / "t10k-images-idx3-ubyte.gz"
    source = open_source(str(path))
    assert len(source) == 10_000
    np.testing.assert_array_equal(source.read(np.arange(5))[1], [7, 2, 1, 0, 4])


# -- Looking paths up -------------------------------------------------------------------------------------


def test_path_is_looked_up_beside_the_spec_first_then_in_the_working_directory(tmp_path, monkeypatch):
    beside, cwd = tmp_path / "spec", tmp_path / "cwd"
    for folder in (beside, cwd):
        folder.mkdir()
        np.savez(folder / "both.npz", data=np.full((1, 2, 2), len(folder.name), np.uint8))
    np.savez(cwd / "one.npz", data=np.full((1, 2, 2), 9, np.uint8))
    monkeypatch.chdir(cwd)
    assert open_source("both.npz", folder=beside).images.max() == len("spec")
    assert open_source("one.npz", folder=beside).images.max() == 9


def test_missing_file_says_where_it_was_looked_for_and_the_mend(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_source("data/mnist/train-images-idx3-ubyte.gz", folder=tmp_path / "spec")
    message = str(caught.value)
    assert str(tmp_path / "spec") in message and f"and in {tmp_path}" in message
    assert "minicaffe data get mnist" in message
    with pytest.raises(DataError, match="minicaffe data get cifar10"):
        open_source("data/cifar10/train", folder=tmp_path)
    with pytest.raises(DataError, match="check the path"):
        open_source("elsewhere.npz", folder=tmp_path)


def test_unknown_sample_and_unclear_format_are_named(tmp_path):
    with pytest.raises(DataError, match="no such sample; there are sample/mnist-train"):
        open_source("sample/mnist")
    (tmp_path / "data.bin").write_bytes(b"x")
    with pytest.raises(DataError, match="give 'backend"):
        open_source("data.bin", folder=tmp_path)
    (tmp_path / "classes").mkdir()
    with pytest.raises(DataError, match="ImageData"):
        open_source("classes", folder=tmp_path)


def test_leveldb_is_refused_with_the_mend(tmp_path):
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "CURRENT").write_text("x")
    with pytest.raises(DataError, match="LEVELDB is not supported; convert it to LMDB"):
        open_source("db", folder=tmp_path)


# -- NPZ --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("image_name", "label_name"), [("data", "label"), ("images", "labels"), ("x", "y")])
def test_npz_arrays_come_back_under_each_name(tmp_path, image_name, label_name):
    np.savez(tmp_path / "a.npz", **{image_name: IMAGES[:, None], label_name: LABELS[:, None]})
    images, labels = open_source("a.npz", folder=tmp_path).read(np.array([6, 1]))
    np.testing.assert_array_equal(images, IMAGES[[6, 1], None])
    np.testing.assert_array_equal(labels, [6, 1])


def test_npz_floats_stay_floats(tmp_path):
    np.savez(tmp_path / "a.npz", x=IMAGES / 255)
    images, labels = open_source("a.npz", folder=tmp_path).read(np.arange(7))
    assert images.dtype == np.float32 and labels is None


def npz_bytes(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


BROKEN_NPZ = {
    "empty": (b"", "not a readable .npz"),
    "noise": (b"PK\3\4" + b"\0" * 50, "not a readable .npz"),
    "cut": (npz_bytes(x=IMAGES)[:-60], "not a readable .npz"),
    "pickle": (npz_bytes(x=np.array([{}, {}], object)), "'x' holds object, not numbers"),
    "names": (npz_bytes(pixels=IMAGES), "no array named data or images or x; it holds pixels"),
    "count": (npz_bytes(x=IMAGES, y=LABELS[:3]), "7 images, but 3 labels"),
    "axes": (npz_bytes(x=LABELS), "expected"),
    "none": (npz_bytes(x=IMAGES[:0]), "holds no images"),
    "text": (npz_bytes(x=np.array([["a"]])), "holds <U1, not numbers"),
}


@pytest.mark.parametrize("case", BROKEN_NPZ)
def test_broken_npz_is_named(tmp_path, case):
    content, message = BROKEN_NPZ[case]
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(DataError, match=rf"t\.npz: .*{message}"):
        open_source("t.npz", folder=tmp_path)


# -- LMDB -------------------------------------------------------------------------------------------------


def write_lmdb(path, values):
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as writing:
        for number, value in enumerate(values):
            writing.put(f"{number:08}".encode(), value)
    return path


def datum(pixels, label, **fields):
    channels, height, width = pixels.shape
    message = message_class("Datum")(channels=channels, height=height, width=width, label=label, **fields)
    if pixels.dtype == np.uint8:
        message.data = pixels.tobytes()
    else:
        message.float_data.extend(pixels.ravel().tolist())
    return message.SerializeToString()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_lmdb_datums_come_back(tmp_path, dtype, rng):
    pixels = rng.integers(0, 256, (12, 3, 4, 5)).astype(dtype)
    write_lmdb(tmp_path / "db", [datum(image, 11 - i) for i, image in enumerate(pixels)])
    source = open_source("db", folder=tmp_path)
    images, labels = source.read(np.array([10, 2]))
    np.testing.assert_array_equal(images, pixels[[10, 2]])
    np.testing.assert_array_equal(labels, [1, 9])
    assert len(source) == 12 and images.dtype == dtype
    source.close()


def test_lmdb_encoded_images_are_decoded_to_blue_green_red(tmp_path):
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200
    file = io.BytesIO()
    Image.fromarray(red).save(file, "png")
    value = message_class("Datum")(data=file.getvalue(), encoded=True, label=3).SerializeToString()
    write_lmdb(tmp_path / "db", [value])
    source = open_source("db", folder=tmp_path)
    images, _ = source.read(np.array([0]))
    np.testing.assert_array_equal(images[0].mean(axis=(1, 2)), [0, 0, 200])
    grey, _ = open_source("db", folder=tmp_path, color=False).read(np.array([0]))
    assert grey.shape == (1, 1, 4, 4)
    source.close()


def test_one_lmdb_may_be_open_twice(tmp_path):
    write_lmdb(tmp_path / "db", [datum(np.zeros((1, 2, 2), np.uint8), 1)])
    first, second = (open_source("db", folder=tmp_path) for _ in range(2))
    first.close()
    np.testing.assert_array_equal(second.read(np.array([0]))[1], [1])
    second.close()
    open_source("db", folder=tmp_path).close()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xff\xff\xff", "not a Datum"),
        (
            message_class("Datum")(channels=3, height=4, width=5, data=b"1234").SerializeToString(),
            "4 numbers do not fit",
        ),
        (message_class("Datum")(encoded=True, data=b"nonsense").SerializeToString(), "cannot be decoded"),
    ],
)
def test_broken_datum_is_named_by_its_key(tmp_path, value, message):
    write_lmdb(tmp_path / "db", [value])
    source = open_source("db", folder=tmp_path)
    with pytest.raises(DataError, match=rf"db: key b'00000000': .*{message}"):
        source.read(np.array([0]))
    source.close()


def test_broken_lmdb_is_named(tmp_path):
    write_lmdb(tmp_path / "empty", [])
    with pytest.raises(DataError, match="empty: the database is empty"):
        open_source("empty", folder=tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "data.mdb").write_bytes(b"not an LMDB" * 1000)
    with pytest.raises(DataError, match="bad: not a readable LMDB"):
        open_source("bad", folder=tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"no data\.mdb"):
        open_source("folder", "LMDB", folder=tmp_path)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    write_lmdb(tmp_path / "db", [b""])
    monkeypatch.setitem(__import__("sys").modules, "google.protobuf.descriptor_pb2", None)
    with pytest.raises(DataError, match=r"pip install 'minicaffe\[lmdb\]'"):
        open_source("db", folder=tmp_path)


# -- HDF5 -------------------------------------------------------------------------------------------------


def write_hdf5(folder, sizes):
    h5py = pytest.importorskip("h5py")
    start = 0
    for number, size in enumerate(sizes):
        with h5py.File(folder / f"part{number}.h5", "w") as file:
            rows = np.arange(start, start + size)
            file["data"] = rows[:, None, None] + np.zeros((1, 2, 3))
            file["label"] = rows.astype(np.int64)
        start += size
    names = [f"part{number}.h5" for number in range(len(sizes))]
    (folder / "list.txt").write_text("\n".join(names) + "\n")
    return folder / "list.txt"


def test_hdf5_rows_are_numbered_through_the_files(tmp_path):
    write_hdf5(tmp_path, [4, 3, 5])
    source = open_hdf5("list.txt", ["data", "label"], tmp_path)
    data, label = source.read(np.array([11, 0, 5, 3, 4]))
    np.testing.assert_array_equal(label, [11, 0, 5, 3, 4])
    np.testing.assert_array_equal(data[:, 1, 2], [11, 0, 5, 3, 4])
    assert len(source) == 12 and source.rows == [4, 3, 5] and data.dtype == np.float32


def test_broken_hdf5_is_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_hdf5(tmp_path, [4, 3])
    with pytest.raises(DataError, match=r"part0\.h5: no data set 'lable'; it has data, label"):
        open_hdf5("list.txt", ["lable"], tmp_path)
    (tmp_path / "part1.h5").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"part1\.h5: is a text, not an HDF5 file"):
        open_hdf5("list.txt", ["data"], tmp_path)
    with h5py.File(tmp_path / "part1.h5", "w") as file:
        file["data"], file["label"] = np.zeros((3, 2, 3)), np.zeros(4)
    with pytest.raises(DataError, match="differ in their number of rows: data 3, label 4"):
        open_hdf5("list.txt", ["data", "label"], tmp_path)
    with h5py.File(tmp_path / "part1.h5", "w") as file:
        file["data"] = np.zeros((3, 9))
    with pytest.raises(DataError, match=r"part1\.h5: rows of shape .* unlike .*part0\.h5"):
        open_hdf5("list.txt", ["data"], tmp_path)
    (tmp_path / "list.txt").write_text("gone.h5\n")
    with pytest.raises(DataError, match=r"gone\.h5: no such HDF5 file"):
        open_hdf5("list.txt", ["data"], tmp_path)
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(DataError, match=r"list\.txt: lists no files"):
        open_hdf5("list.txt", ["data"], tmp_path)


# -- Mean images ------------------------------------------------------------------------------------------


def test_mean_image_is_read_from_each_format(tmp_path, rng):
    mean = rng.random((3, 4, 5)).astype(np.float32)
    np.save(tmp_path / "m.npy", mean)
    np.savez(tmp_path / "m.npz", mean=mean, other=np.zeros(1))
    blob = message_class("BlobProto")(num=1, channels=3, height=4, width=5, data=mean.ravel().tolist())
    (tmp_path / "old.binaryproto").write_bytes(blob.SerializeToString())
    blob = message_class("BlobProto")(data=mean.ravel().tolist())
    blob.shape.dim.extend([1, 3, 4, 5])
    (tmp_path / "new.binaryproto").write_bytes(blob.SerializeToString())
    for name in ("m.npy", "m.npz", "old.binaryproto", "new.binaryproto"):
        np.testing.assert_array_equal(load_mean(tmp_path / name), mean)


@pytest.mark.parametrize("name", ["m.npy", "m.npz", "m.binaryproto"])
def test_broken_mean_image_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xffjunk")
    with pytest.raises(DataError, match=name):
        load_mean(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_mean_image_of_nan_is_refused(tmp_path, value):
    np.save(tmp_path / "m.npy", np.full((3, 4, 5), value))
    with pytest.raises(DataError, match=r"m\.npy: a mean image with nan or infinite values; make it again"):
        load_mean(tmp_path / "m.npy")
    np.save(tmp_path / "m.npy", np.full((3, 4, 5), "x"))
    with pytest.raises(DataError, match=r"m\.npy: the array holds <U1, not numbers"):
        load_mean(tmp_path / "m.npy")


@pytest.mark.parametrize("read", [load_mean, open_npz])
def test_a_file_of_numpy_that_cannot_be_opened_is_no_damaged_one(tmp_path, read):
    (tmp_path / "m.npz").mkdir()
    with pytest.raises(DataError, match=r"m\.npz: cannot be read \(Is a directory\); check the path"):
        read(tmp_path / "m.npz")


@pytest.mark.parametrize("read", [load_mean, open_npz])
def test_a_text_is_refused_without_numpys_advice(tmp_path, read):
    (tmp_path / "m.npz").write_text("words")
    with pytest.raises(DataError, match="none of NumPy's files") as caught:
        read(tmp_path / "m.npz")
    assert "pickled" not in str(caught.value)


def test_protobuf_bytes_are_those_of_caffe_proto():
    message = message_class("Datum")(channels=1, height=2, width=1, data=b"\1\2", label=7)
    assert message.SerializeToString() == bytes([0x08, 1, 0x10, 2, 0x18, 1, 0x22, 2, 1, 2, 0x28, 7])
    blob = message_class("BlobProto")(data=[1.0])
    assert blob.SerializeToString() == bytes([0x2A, 4]) + struct.pack("<f", 1.0)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_truncated_lmdb_is_an_error_and_not_the_end_of_the_process(tmp_path, keep):
    lmdb = pytest.importorskip("lmdb")
    from minicaffe.caffe.formats.messages import message_class
    from minicaffe.data.sources.backends import open_source

    environment = lmdb.open(str(tmp_path / "db"), map_size=1 << 24)
    datum = message_class("Datum")(channels=1, height=20, width=20, data=bytes(400), label=1)
    with environment.begin(write=True) as transaction:
        for i in range(40):
            transaction.put(b"%04d" % i, datum.SerializeToString())
    environment.close()
    data = tmp_path / "db" / "data.mdb"
    content = data.read_bytes()
    data.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match=r"the file ends after|not a readable LMDB|damaged"):
        source = open_source(str(tmp_path / "db"), "LMDB")
        source.read(np.arange(len(source)))


def test_an_ending_counts_before_a_name_that_sounds_like_idx(tmp_path):
    np.savez(tmp_path / "mnist-idx.npz", data=np.zeros((2, 4, 4), np.uint8))
    assert backend_of(tmp_path / "mnist-idx.npz") == "NPZ"


def test_a_folder_with_an_lmdb_is_one_whatever_else_is_in_it(tmp_path):
    for name in ("CURRENT", "data.mdb"):
        (tmp_path / name).write_bytes(b"")
    assert backend_of(tmp_path) == "LMDB"
