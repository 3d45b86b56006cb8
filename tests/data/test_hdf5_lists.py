"""As Caffe: several HDF5 files on a line of the list; no transform_param; H of an InfogainLoss in any shape."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.caffe.formats.messages import message_class
from minicaffe.data.sources.hdf5 import open_hdf5
from minicaffe.errors import DataError, SpecError

h5py = pytest.importorskip("h5py")


def write(path, start):
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = np.arange(start, start + 3)


@pytest.mark.parametrize(
    "text", ["a.h5 b.h5\n", "a.h5\n b.h5", "a.h5\tb.h5", "\ufeffa.h5\r\nb.h5\r\n", "a.h5  b.h5 \n\n"]
)
def test_files_are_listed_with_any_blanks_between_them(tmp_path, text):
    write(tmp_path / "a.h5", 0)
    write(tmp_path / "b.h5", 3)
    (tmp_path / "list.txt").write_text(text, encoding="utf-8", newline="")
    source = open_hdf5("list.txt", ["data"], tmp_path)
    np.testing.assert_array_equal(source.read(np.arange(6))[0], np.arange(6))


def test_a_line_that_is_a_file_as_a_whole_is_that_file(tmp_path):
    write(tmp_path / "my data" / "a b.h5", 5)
    write(tmp_path / "a.h5", 0)
    (tmp_path / "list.txt").write_text("my data/a b.h5\na.h5 a.h5\n")
    assert open_hdf5("list.txt", ["data"], tmp_path).rows == [3, 3, 3]
    (tmp_path / "list.txt").write_text("a.h5 gone.h5\n")
    with pytest.raises(DataError, match=r"gone\.h5: no such HDF5 file"):
        open_hdf5("list.txt", ["data"], tmp_path)


@pytest.mark.parametrize("ending", ["yaml", "prototxt"])
def test_transform_param_is_refused(tmp_path, ending):
    """Caffe: "HDF5Data does not transform data."."""
    write(tmp_path / "a.h5", 0)
    (tmp_path / "list.txt").write_text("a.h5\n")
    texts = {
        "yaml": "layer:\n- {name: d, type: HDF5Data, top: data, transform_param: {scale: 2}, "
        "hdf5_data_param: {source: list.txt, batch_size: 2}}",
        "prototxt": "layer { name: 'd' type: 'HDF5Data' top: 'data' transform_param { scale: 2 } "
        "hdf5_data_param { source: 'list.txt' batch_size: 2 } }",
    }
    (tmp_path / f"net.{ending}").write_text(texts[ending])
    with pytest.raises(SpecError, match=r"layer 'd': transform_param: HDF5Data does not transform"):
        mc.Net(tmp_path / f"net.{ending}")


@pytest.mark.parametrize("shape", [(3, 3), (1, 1, 3, 3), (9,)])
def test_h_of_an_infogain_loss_is_any_shape_of_as_many_numbers(tmp_path, shape):
    """As in Caffe, which asks for the count alone."""
    pytest.importorskip("google.protobuf")
    matrix = np.arange(9, dtype=np.float32) + 1
    blob = message_class("BlobProto")(data=matrix.tolist())
    blob.shape.dim.extend(shape)
    (tmp_path / "h.binaryproto").write_bytes(blob.SerializeToString())
    np.save(tmp_path / "h.npy", matrix.reshape(shape))
    x, labels, losses = np.random.default_rng(1).random((2, 3)), [2, 0], []
    for name in ("h.binaryproto", "h.npy"):
        (tmp_path / "net.yaml").write_text(
            "layer:\n- {name: x, type: Input, top: [x, y], input_param: {shape: [{dim: [2, 3]}, {dim: 2}]}}\n"
            f"- {{name: loss, type: InfogainLoss, bottom: [x, y], infogain_loss_param: {{source: {name}}}}}"
        )
        losses.append(float(mc.Net(tmp_path / "net.yaml").forward(x=x, y=labels)["loss"]))
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    expected = -(matrix.reshape(3, 3)[labels] * np.log(p)).sum() / 2
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_h_that_is_no_matrix_of_numbers_is_one_line(tmp_path):
    np.save(tmp_path / "h.npy", np.full((3, 3), "x"))
    (tmp_path / "net.yaml").write_text(
        "layer:\n- {name: x, type: Input, top: [x, y], input_param: {shape: [{dim: [2, 3]}, {dim: 2}]}}\n"
        "- {name: loss, type: InfogainLoss, bottom: [x, y], infogain_loss_param: {source: h.npy}}"
    )
    with pytest.raises(DataError, match=r"layer 'loss': .*h\.npy: the array holds <U1, not numbers"):
        mc.Net(tmp_path / "net.yaml")
