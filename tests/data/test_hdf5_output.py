"""HDF5Output: the file that real Caffe writes, and what HDF5Data reads back."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net
from tests.golden_files import FOLDER

h5py = pytest.importorskip("h5py")


def output_net(path, shape=(3, 2, 4), labels=(3,)):
    text = f"""
layer:
- {{name: x0, type: Input, input_param: {{shape: {{dim: {list(shape)}}}}}}}
- {{name: x1, type: Input, input_param: {{shape: {{dim: {list(labels)}}}}}}}
- {{name: L, type: HDF5Output, bottom: [x0, x1], hdf5_output_param: {{file_name: '{path}'}}}}
"""
    return mc.Net(parse_net(text))


def test_the_file_is_what_caffe_writes(tmp_path):
    output_net(tmp_path / "out.h5").forward(x0=np.arange(24).reshape(3, 2, 4), x1=np.arange(3))
    with h5py.File(tmp_path / "out.h5") as ours, h5py.File(FOLDER / "hdf5_output.h5") as caffes:
        assert set(ours) == set(caffes) == {"data", "label"}
        for name in ours:
            assert ours[name].dtype == caffes[name].dtype
            np.testing.assert_array_equal(ours[name][...], caffes[name][...])


def test_batches_are_added_and_hdf5_data_reads_them_back(tmp_path):
    net = output_net(tmp_path / "out.h5", (2, 5, 1, 1), (2, 1))
    batches = np.random.default_rng(0).random((3, 2, 5, 1, 1)).astype(np.float32)
    for k, batch in enumerate(batches):
        net.forward(x0=batch, x1=[[k], [k]])
    (tmp_path / "list.txt").write_text("out.h5\n")
    text = (
        "layer: [{name: d, type: HDF5Data, top: [data, label], "
        f"hdf5_data_param: {{source: '{tmp_path}/list.txt', batch_size: 6}}}}]"
    )
    reader = mc.Net(parse_net(text))
    out = reader.forward()
    reader.close()
    np.testing.assert_array_equal(out["data"], batches.reshape(6, 5, 1, 1))
    np.testing.assert_array_equal(out["label"].ravel(), [0, 0, 1, 1, 2, 2])


def test_a_new_net_replaces_the_file_at_its_first_forward(tmp_path):
    path = tmp_path / "out.h5"
    with h5py.File(path, "w") as file:
        file["old"] = [1]
    before = path.read_bytes()
    net = output_net(path)
    assert path.read_bytes() == before
    for _ in range(2):
        net.forward()
    output_net(path).forward()
    with h5py.File(path) as file:
        assert len(file["data"]) == 3


def test_a_file_that_is_no_hdf5_file_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("of value")
    with pytest.raises(mc.WriteError, match=r"notes.txt: exists, and is not an HDF5 file; delete it"):
        output_net(path).forward()
    assert path.read_text() == "of value"


def test_there_is_no_gradient_and_no_output(tmp_path):
    net = output_net(tmp_path / "out.h5")
    assert net.forward() == {} and net.backward() == {}


@pytest.mark.parametrize(
    ("shape", "labels", "problem"),
    [((3, 2), (2,), "expected one batch size"), ((1, 1, 1, 1, 1), (1,), "at most 4 axes")],
)
def test_unfit_bottoms_are_an_error_at_the_layer(shape, labels, problem, tmp_path):
    with pytest.raises(mc.ShapeError, match=f"layer 'L': .*{problem}"):
        output_net(tmp_path / "out.h5", shape, labels)


def test_rows_of_another_shape_and_a_missing_folder_are_errors_at_the_layer(tmp_path):
    net = output_net(tmp_path / "out.h5")
    net.forward()
    net.blobs["x0"].reshape(3, 2, 5)
    with pytest.raises(mc.ShapeError, match="layer 'L': 'data' has rows of shape"):
        net.forward()
    with pytest.raises(mc.WriteError, match=r"layer 'L': .*none/out.h5: cannot be written"):
        output_net(tmp_path / "none" / "out.h5").forward()
