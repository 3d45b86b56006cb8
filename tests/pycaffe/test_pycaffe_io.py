"""caffe.io's messages, the name ``caffe``, and LMDBs that our command writes."""

import os
import subprocess
import sys
import tempfile

import numpy as np
import pytest

import minicaffe.pycaffe as caffe
from minicaffe.cli.program import main
from minicaffe.data.sources.backends import open_source
from minicaffe.pycaffe import __main__ as script
from minicaffe.pycaffe import alias, io
from minicaffe.pycaffe.proto import caffe_pb2
from tests import ROOT

pytest.importorskip("google.protobuf")


def test_arrays_become_blobs_and_come_back():
    array, diff = np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.ones((1, 2, 3), np.float32)
    blob = io.array_to_blobproto(array, diff)
    np.testing.assert_array_equal(io.blobproto_to_array(blob), array)
    np.testing.assert_array_equal(io.blobproto_to_array(blob, return_diff=True), diff)
    arrays = io.blobprotovector_str_to_arraylist(io.arraylist_to_blobprotovector_str([array, diff[0]]))
    assert [a.shape for a in arrays] == [(1, 2, 3), (2, 3)]
    np.testing.assert_array_equal(arrays[0], array)


@pytest.mark.parametrize("axis", ["num", "channels", "height", "width"])
def test_one_old_axis_makes_a_blob_of_four(axis):
    shape = io.blobproto_to_array(caffe_pb2.BlobProto(**{axis: 3})).shape
    assert shape == tuple(3 * (axis == name) for name in ("num", "channels", "height", "width"))


def test_a_blob_of_four_old_axes_and_one_without_a_shape():
    blob = caffe_pb2.BlobProto(data=range(6), num=1, channels=1, height=2, width=3)
    assert io.blobproto_to_array(blob).shape == (1, 1, 2, 3)
    assert io.blobproto_to_array(caffe_pb2.BlobProto(data=[123])) == 123
    with pytest.raises(ValueError, match="reshape"):
        io.blobproto_to_array(caffe_pb2.BlobProto(data=range(6)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_images_become_datums_and_come_back(dtype):
    image = (np.arange(24) * (10 if dtype is np.uint8 else 20)).reshape(3, 2, 4).astype(dtype)
    datum = io.array_to_datum(image, label=7)
    assert datum.label == 7 and bool(datum.data) == (dtype is np.uint8)
    assert (datum.channels, datum.height, datum.width) == (3, 2, 4)
    np.testing.assert_array_equal(again := io.datum_to_array(datum), image)
    again[0, 0, 0] = 1  # it may be written
    assert not io.array_to_datum(image).HasField("label")
    assert io.array_to_datum(image, label=0).HasField("label")
    with pytest.raises(ValueError, match="three axes"):
        io.array_to_datum(image[0])


def test_a_script_that_says_import_caffe_runs(tmp_path):
    (tmp_path / "script.py").write_text("""
import sys
import caffe, caffe.io
from caffe import layers as L
from caffe.coord_map import crop
from caffe.proto import caffe_pb2
from helper import number
from caffe.pycaffe import Net, SGDSolver, Timer
from caffe._caffe import get_solver
import caffe.pycaffe
assert (Net, SGDSolver, get_solver) == (caffe.Net, caffe.SGDSolver, caffe.get_solver)
assert caffe.io.caffe_pb2 is caffe_pb2 and crop.__module__ == "minicaffe.pycaffe.coord_map"
print(caffe.__name__, L.Input(ntop=1).fn.type_name, number, sys.argv[1:], __name__)
""")
    (tmp_path / "helper.py").write_text("number = 5\n")
    command = [sys.executable, "-m", "minicaffe.pycaffe", str(tmp_path / "script.py"), "--flag"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "minicaffe.pycaffe Input 5 ['--flag'] __main__\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a script"),
        (["gone.py"], "gone.py: cannot be read (No such file or directory); check the path"),
        (["folder"], "folder: a folder, and there is no __main__.py in it; give a script"),
        (["image.py"], "image.py: not a Python script; check the path"),
        (["half.py"], "half.py: line 2: not Python ('(' was never closed)"),
    ],
)
def test_what_is_no_script_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "image.py").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\r")
    (tmp_path / "half.py").write_text("x = 1\nprint(x\n")
    monkeypatch.setattr(sys, "argv", ["minicaffe.pycaffe", *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(alias, "install", lambda: None)
    with pytest.raises(SystemExit) as stop:
        script.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and message in error


def test_digits_are_written_as_an_lmdb_that_a_net_of_caffe_reads(tmp_path, capsys):
    pytest.importorskip("lmdb")
    out = tmp_path / "deep" / "mnist_test_lmdb"
    assert main(["data", "lmdb", "sample/mnist-test", "-o", str(out)]) == 0
    assert f"Wrote 1000 images to {out}" in capsys.readouterr().out
    (tmp_path / "net").write_text(
        f"""layer {{ name: "data" type: "Data" top: "data" top: "label"
        data_param {{ source: "{out}" batch_size: 1000 backend: LMDB }} }}"""
    )
    images, labels = open_source("sample/mnist-test").read(np.arange(1000))
    net = caffe.Net(tmp_path / "net", caffe.TEST)
    found = net.forward()
    np.testing.assert_array_equal(found["data"], images)
    np.testing.assert_array_equal(found["label"], labels)
    net.core.close()
    assert main(["data", "lmdb", "sample/mnist-test", "-o", str(out)]) == 2
    assert "already exists; remove it, or choose another name" in capsys.readouterr().err


@pytest.mark.parametrize("label", ["1.5", "1e+12", "nan", "inf"])
def test_an_lmdb_that_cannot_be_made_leaves_nothing(tmp_path, capsys, label):
    pytest.importorskip("lmdb")
    labels = np.array([0, float(label), 2])
    np.savez(tmp_path / "images.npz", data=np.zeros((3, 1, 2, 2), np.uint8), label=labels)
    assert main(["data", "lmdb", str(tmp_path / "images.npz"), "-o", str(tmp_path / "out")]) == 2
    assert f"label {label}; an LMDB's labels are 32-bit whole numbers" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["images.npz"]


def test_an_error_of_an_lmdb_names_what_was_to_be_written(tmp_path, monkeypatch, capsys):
    lmdb = pytest.importorskip("lmdb")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    command = ["data", "lmdb", "sample/mnist-test", "-o"]
    assert main([*command, "file/db"]) == 2
    assert "error: file: cannot be made (File exists); choose another folder\n" in capsys.readouterr().err

    def no_room(folder, **_):
        raise lmdb.DiskError(f"{folder}: No space left on device")

    monkeypatch.setattr(lmdb, "open", no_room)
    assert main([*command, "db"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "error: db: cannot be written (db: No space left on device); check the folder, and free some space\n"
    )

    def no_folder(dir, prefix, suffix):
        raise PermissionError(13, "Permission denied", f"{dir}/{prefix}abc")

    monkeypatch.setattr(tempfile, "mkdtemp", no_folder)
    assert main([*command, "db"]) == 2
    assert "error: db: cannot be written (Permission denied); check that" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_help_of_data_lmdb_names_the_samples(capsys):
    with pytest.raises(SystemExit):
        main(["data", "lmdb", "--help"])
    assert "sample/mnist-test" in capsys.readouterr().out


def test_a_module_that_a_fork_has_added_is_found_beside_ours(tmp_path):
    (tmp_path / "python/caffe").mkdir(parents=True)
    (tmp_path / "python/caffe/__init__.py").write_text("raise SystemExit('the fork itself was imported')\n")
    (tmp_path / "python/caffe/io.py").write_text(
        "raise SystemExit('of the fork, although there is one here')\n"
    )
    (tmp_path / "python/caffe/model_libs.py").write_text(
        "from caffe import layers as L\n\ndef head(net):\n    net.head = L.ReLU(net.data)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "import caffe\nfrom caffe.model_libs import *\nimport caffe.io\n"
        "net = caffe.NetSpec()\nnet.data = caffe.layers.Input()\nhead(net)\nprint(net.to_proto().layer[1].type)\n"
    )
    command = [sys.executable, "-m", "minicaffe.pycaffe", str(script)]
    paths = os.pathsep.join([str(tmp_path / "python"), str(ROOT)])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert (done.stdout, done.stderr) == ("ReLU\n", "")
