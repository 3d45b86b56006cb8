"""Blobs as a script sees them: what it writes counts in whatever it calls next, on a GPU (the double) too."""

import copy

import numpy as np
import pytest

import minicaffe as mc
import minicaffe.pycaffe as caffe
from minicaffe.core.blob import Blob
from minicaffe.core.host_copies import HostCopies
from minicaffe.pycaffe.blobs import HostBlob, HostView
from minicaffe.pycaffe.net import LayerView
from tests.pycaffe.pycaffe_cases import CLASSIFIED

pytest.importorskip("google.protobuf")

NET = """force_backward: true
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 1 dim: 1 } } }
layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }
layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip" inner_product_param { num_output: 2 } }
"""
ONES = np.ones((2, 3, 1, 1), np.float32)
TRAINED = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 } data_filler { value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").write_text(NET)
    (tmp_path / "trained").write_text(TRAINED)
    (tmp_path / "classified").write_text(CLASSIFIED)
    (tmp_path / "solver").write_text(
        'net: "trained" base_lr: 0.5 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "run"'
    )


@pytest.fixture
def net():
    """A net whose weights were 1, on the device too, and are written to be 5."""
    net = caffe.Net("net", caffe.TEST)
    _write(net, 1)
    net.forward(data=ONES)
    _write(net, 5)
    return net


@pytest.fixture
def solver():
    """A solver of a net whose weights were 1, on the device too, and are written to be 5."""
    solver = caffe.SGDSolver("solver")
    _write(solver.net, 1)
    solver.net.forward()
    _write(solver.net, 5)
    return solver


def _write(net, value):
    net.params["ip"][0].data[...] = value


def _weight(net):
    """The weight with which the net computes: each score is three times it."""
    return net.forward()["ip"][0, 0] / 3


def _in_file(path):
    other = caffe.Net("net", caffe.TEST, weights=path)
    return other.forward(data=ONES)["ip"][0, 0] / 3


def _save(net):
    net.save("weights")
    return _in_file("weights")


def _export(net):
    mc.export(net.core, "exported", "weights")
    return _in_file("weights")


def _share(net):
    other = caffe.Net("net", caffe.TEST)
    _write(other, 2)
    other.share_with(net)
    return other.forward(data=ONES)["ip"][0, 0] / 3


def _reshape_blob(net):
    net.blobs["data"].data[...] = 2
    net.blobs["data"].reshape(2, 3, 1, 1)
    return _weight(net) / 2


def _reshape_net(net):
    net.blobs["data"].data[...] = 2
    net.reshape()
    return _weight(net) / 2


def _save_hdf5(net):
    pytest.importorskip("h5py")
    net.save_hdf5("weights.h5")
    return _in_file("weights.h5")


CALLS = {
    "forward": _weight,
    "forward of the core": lambda net: net.core.forward()["ip"][0, 0] / 3,
    "forward_all": lambda net: net.forward_all(data=ONES)["ip"][0, 0] / 3,
    "forward_backward_all": lambda net: net.forward_backward_all(data=ONES)[0]["ip"][0, 0] / 3,
    "backward": lambda net: net.backward(ip=np.ones((2, 2)))["data"][0, 0, 0, 0] / 2,
    "reshape": _reshape_net,
    "Blob.reshape": _reshape_blob,
    "save": _save,
    "save_hdf5": _save_hdf5,
    "export": _export,
    "share_with": _share,
}


@pytest.mark.parametrize("call", CALLS)
def test_what_was_written_before_counts_in(call, net):
    assert float(CALLS[call](net)) == 5


def test_copied_weights_replace_what_was_written_before(net):
    _write(net, 1)
    net.save("weights")
    _write(net, 5)
    net.copy_from("weights")
    assert _weight(net) == 1 and (net.params["ip"][0].data == 1).all()


@pytest.mark.parametrize("call", ["step", "solve"])
def test_training_begins_with_the_weights_that_were_written(call, solver):
    getattr(solver, call)()
    assert solver.iter == 1 and solver.net.blobs["ip"].data[0, 0] == 15
    assert solver.net.params["ip"][0].data[0, 0] != 5


def test_a_snapshot_has_what_was_written_and_restoring_it_undoes_what_was_written_since(solver):
    solver.snapshot()
    assert _in_file("run_iter_0.caffemodel") == 5
    _write(solver.net, 7)
    solver.restore("run_iter_0.solverstate")
    solver.net.forward()
    assert solver.net.blobs["ip"].data[0, 0] == 15 and (solver.net.params["ip"][0].data == 5).all()


def test_solving_from_a_state_begins_with_its_weights(solver):
    solver.snapshot()
    _write(solver.net, 7)
    solver.solve("run_iter_0.solverstate")
    assert solver.iter == 1 and solver.net.blobs["ip"].data[0, 0] == 15


def test_an_update_takes_the_gradients_and_weights_that_were_written(solver):
    solver.net.params["ip"][0].diff[...] = 2
    solver.apply_update()
    assert (solver.net.params["ip"][0].data == 4).all()


def test_a_classifier_uses_the_weights_that_were_written():
    classifier = caffe.Classifier("classified", None)
    image = np.zeros((10, 8, 3), np.float32)
    classifier.predict([image], oversample=False)
    classifier.params["ip"][1].data[...] = [0, 0, 50, 0, 0]
    assert classifier.predict([image], oversample=False)[0, 2] == 1


def test_blobs_that_share_memory_are_written_together(net):
    other = caffe.Net("net", caffe.TEST)
    other.share_with(net)
    _write(other, 7)
    assert (net.params["ip"][0].data == 7).all()
    _write(net, 8)
    assert (other.params["ip"][0].data == 8).all() and _weight(net) == 8
    net.blobs["flat"].data[...] = 4  # which is the memory of "data"
    assert (net.blobs["data"].data == 4).all() and net.blobs["flat"].data.shape == (2, 3)
    assert net.forward(start="ip")["ip"][0, 0] == 12 * 8


def test_nets_that_share_weights_have_gradients_of_their_own(net):
    other = caffe.Net("net", caffe.TEST)
    other.share_with(net)
    other.params["ip"][0].diff[...] = 3
    assert not net.params["ip"][0].diff.any()


@pytest.mark.parametrize("what", ["data", "diff"])
def test_what_was_written_before_memory_was_shared_is_gone(what):
    blob, other = Blob((2, 3)), Blob((2, 3))
    blob.on_host(what)[...] = 2
    getattr(blob, f"share_{what}")(other)
    other.on_host(what)[...] = 4
    assert (blob.on_host(what) == 4).all() and (getattr(blob, what) == 4).all()
    getattr(blob, f"share_{what}")(None)
    assert not blob.on_host(what).any()


def test_a_blob_reshaped_after_a_write_holds_zeros(net):
    for what in ("data", "diff"):
        getattr(net.blobs["data"], what)[...] = 9
        net.blobs["data"].reshape(3, 3, 1, 1)
        assert getattr(net.blobs["data"], what).shape == (3, 3, 1, 1)
        assert not getattr(net.blobs["data"], what).any()
        net.blobs["data"].reshape(2, 3, 1, 1)
    assert not net.forward()["ip"].any()


def test_a_gradient_cleared_after_a_write_is_zero(net):
    net.forward(data=ONES)
    net.params["ip"][0].diff[...] = 9
    net.clear_param_diffs()
    net.backward(ip=np.ones((2, 2)))
    assert (net.params["ip"][0].diff == 2).all()


def test_gradients_are_added_to_what_was_written(net):
    net.forward(data=ONES)
    net.params["ip"][0].diff[...] = 9
    net.backward(ip=np.ones((2, 2)))
    assert (net.params["ip"][0].diff == 11).all()


def test_an_array_that_is_held_is_up_to_date_once_its_blob_is_asked_again(net):
    held = net.blobs["ip"].data
    assert net.forward(data=ONES)["ip"] is not None
    assert held[0, 0] == 15
    held[0, 0] = 3
    assert net.blobs["ip"].data[0, 0] == 3


def test_a_copy_is_fetched_once_until_the_device_uses_its_own():
    copies, asked = HostCopies(), []
    for _ in range(2):
        copies.fetch("data", lambda: asked.append("data") or np.zeros(3))
    assert asked == ["data"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_blobs_layers_and_specs_can_be_copied(net, copied):
    """Those on a GPU too, which pass on what they lack to another object: a copy has none at first."""
    blob = Blob((2, 3))
    blob.data[...] = 5
    again = copied(HostBlob(blob))
    assert again.shape == (2, 3) and (again.data == 5).all()
    assert (again.blob is blob) == (copied is copy.copy)
    layer = copied(LayerView(net.layers[2], HostView(blob.device)))
    assert layer.type == "InnerProduct" and len(layer.blobs) == 2
    spec = caffe.NetSpec()
    spec.data = caffe.layers.DummyData(dummy_data_param={"shape": {"dim": [1, 2]}})
    assert str(copied(spec).to_proto()) == str(spec.to_proto())
