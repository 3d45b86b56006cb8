"""caffe.Net: pycaffe's names, ways to call and files, over our net."""

import gc
import re
import time
import weakref
from collections import OrderedDict

import numpy as np
import pytest

import minicaffe as mc
import minicaffe.pycaffe as caffe

pytest.importorskip("google.protobuf")

NET = """name: "small" force_backward: true
input: "data" input_shape { dim: 4 dim: 2 dim: 3 dim: 3 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 2 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "score"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 1 } } }
"""
TRAIN_NET = """name: "training"
layer { name: "data" type: "DummyData" top: "data" top: "label" transform_param { scale: 2 }
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 } data_filler { type: "gaussian" }
    data_filler { value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "late" type: "ReLU" bottom: "ip" top: "late" include { min_level: 1 } }
layer { name: "staged" type: "ReLU" bottom: "ip" top: "staged" include { stage: "extra" } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_weight: 3 }
"""


@pytest.fixture
def write(tmp_path):
    """Writes a net into a file whose name says nothing of what it is."""

    def write_file(text, name="net"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_file


@pytest.fixture
def net(write):
    return caffe.Net(write(NET), caffe.TEST)


def images(seed=0, count=4):
    return np.random.default_rng(seed).standard_normal((count, 2, 3, 3)).astype(np.float32)


def scores_of(net, x):
    """What the small net computes, in plain NumPy."""
    (w, b), (v, c) = ([blob.data for blob in net.params[name]] for name in ("conv", "ip"))
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3))
    conv = np.maximum(np.einsum("nchwij,mcij->nmhw", windows, w) + b[:, None, None], 0)
    return conv.reshape(len(x), -1) @ v.T + c


def test_forward_takes_all_inputs_and_gives_outputs(net):
    out = net.forward(data=images())
    assert list(out) == ["score"]
    np.testing.assert_allclose(out["score"], scores_of(net, images()), rtol=1e-4, atol=1e-5)


def test_what_is_written_into_a_blob_counts(net):
    net.blobs["data"].data[...] = images(1)
    net.params["ip"][1].data[2] = 50
    out = net.forward(blobs=["conv"])
    assert set(out) == {"score", "conv"} and out["conv"].shape == (4, 3, 2, 2)
    np.testing.assert_allclose(out["score"], scores_of(net, images(1)), rtol=1e-4, atol=1e-4)


def test_forward_runs_from_a_layer_to_a_layer(net):
    net.forward(data=images())
    net.blobs["conv"].data[...] = 1
    assert set(net.forward(start="ip", end="ip")) == {"score"}
    v, c = (blob.data for blob in net.params["ip"])
    np.testing.assert_allclose(net.blobs["score"].data[0], v.sum(1) + c, rtol=1e-4, atol=1e-4)


def test_forward_ends_at_a_layer_and_backward_starts_at_one(net):
    assert set(net.forward(data=images(), end="conv")) == {"conv"}
    assert not net.blobs["score"].data.any()
    net.forward()
    net.blobs["conv"].diff[...] = 1
    assert set(net.backward(start="conv")) == {"data"}
    assert not net.params["ip"][1].diff.any()
    assert (net.params["conv"][1].diff == 4 * 2 * 2).all()


def test_backward_runs_from_zeros_too_where_nobody_wrote_a_gradient(net):
    net.forward(data=images())
    layers = []
    net.before_backward(layers.append)
    assert not net.backward()["data"].any()
    assert layers == [3, 2, 1]


def test_a_blob_that_a_script_reshapes_gets_its_layers_shape_back(net):
    """Caffe reshapes each layer's tops before its forward."""
    x = np.random.default_rng(0).standard_normal(net.blobs["data"].shape)
    expected = {name: np.array(blob.data) for name, blob in net.blobs.items() if net.forward(data=x)}
    for name in list(net.blobs)[1:]:
        net.blobs[name].reshape(3, 2)
        net.forward(data=x)
        for blob in net.blobs:
            np.testing.assert_array_equal(net.blobs[blob].data, expected[blob])
    net.blobs[name].reshape(3, 2)
    net.reshape()
    assert net.blobs[name].data.shape == expected[name].shape


def test_backward_gives_the_diffs_of_inputs_or_of_the_last_layers_bottoms(net):
    net.forward(data=images())
    dy = np.random.default_rng(2).standard_normal((4, 5)).astype(np.float32)
    out = net.backward(score=dy, diffs=["conv"])
    assert set(out) == {"data", "conv"} and out["data"].shape == (4, 2, 3, 3)
    np.testing.assert_allclose(net.params["ip"][1].diff, dy.sum(0), rtol=1e-4, atol=1e-5)
    assert set(net.backward(start="ip", end="ip")) == {"conv"}


def test_backward_without_a_forward_uses_what_the_blobs_hold(net):
    dy = np.random.default_rng(3).standard_normal((4, 5)).astype(np.float32)
    net.blobs["score"].diff[...] = dy
    diff = net.backward(start="ip", end="ip")["conv"]
    np.testing.assert_allclose(diff.reshape(4, -1), dy @ net.params["ip"][0].data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"dta": images()}, "dta: the net's inputs are data; give all"),
        (
            {"data": images(count=3)},
            "'data' has shape (3, 2, 3, 3), the blob (4, 2, 3, 3): not the batch's size",
        ),
        (
            {"data": np.zeros((4, 2, 3, 5))},
            "'data' has shape (4, 2, 3, 5), which does not fit the blob's, (4, 2, 3, 3); "
            "net.blobs['data'].reshape(*shape) and net.reshape() change it",
        ),
        ({"blobs": ["cnv"]}, "net 'small' has no blob 'cnv'; did you mean 'conv'?"),
        ({"blobs": "conv"}, "'conv': give a list of blobs, ['conv']"),
    ],
)
def test_inputs_that_do_not_fit_are_one_line(net, inputs, message):
    with pytest.raises(mc.MinicaffeError) as caught:
        net.forward(**inputs)
    assert str(caught.value) == message
    with pytest.raises(mc.MinicaffeError, match="net 'small' has no blob 'cnv'"):
        net.backward(diffs=["cnv"])
    with pytest.raises(mc.MinicaffeError, match="net 'small' has no blob 'cnv'"):
        net.forward_all(data=images(), blobs=["cnv"])
    with pytest.raises(mc.MinicaffeError, match="none given: the net's inputs are data; give all"):
        net.forward_all()
    with pytest.raises(mc.MinicaffeError, match="score, x: the net's outputs are score; give all"):
        net.backward(score=np.zeros((4, 5)), x=1)


def test_names_ids_and_layers_go_together(net):
    assert net.inputs == ["data"] and net.outputs == ["score"]
    assert net._layer_names == ["input", "conv", "relu", "ip"] == list(net.layer_dict)
    assert [layer.type for layer in net.layers] == ["Input", "Convolution", "ReLU", "InnerProduct"]
    assert net.top_names == OrderedDict(input=["data"], conv=["conv"], relu=["conv"], ip=["score"])
    assert net.bottom_names == OrderedDict(input=[], conv=["data"], relu=["conv"], ip=["conv"])
    names = list(net.blobs)
    for i, layer in enumerate(net._layer_names):
        assert [names[k] for k in net._top_ids(i)] == net.top_names[layer]
        assert [names[k] for k in net.bottom_ids(i)] == net.bottom_names[layer]
    assert net.layer_dict["ip"].blobs[0].data.shape == (5, 12)
    assert type(net.params["ip"]) is caffe.BlobVec
    with pytest.raises(mc.MinicaffeError, match="add_blob: parameters are added in 'setup'"):
        net.params["ip"].add_blob(1)
    assert net.blobs is net.blobs and net.params["ip"] is net.params["ip"]


def test_a_blob_has_pycaffes_attributes(net):
    blob = net.blobs["data"]
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (4, 2, 3, 3, 72)
    assert list(blob.shape) == [4, 2, 3, 3]
    blob.reshape(2, 2, 3, 3)
    net.reshape()
    assert net.blobs["conv"].data.shape == (2, 3, 2, 2)
    blob.reshape(1, 2, 3, 3)
    assert net.forward()["score"].shape == (1, 5), "forward follows by itself"


def test_loss_weights_are_by_blob(write):
    net = caffe.Net(write(TRAIN_NET), caffe.TRAIN)
    assert net.blob_loss_weights["loss"] == 3 and net.blob_loss_weights["ip"] == 0
    assert list(net.blob_loss_weights) == list(net.blobs)


def test_phase_level_and_stages_choose_layers(write, caplog):
    path = write(TRAIN_NET)
    assert "accuracy" in caffe.Net(path, caffe.TEST).blobs
    assert not {"accuracy", "late", "staged"} & set(caffe.Net(path, caffe.TRAIN).blobs)
    assert "late" in caffe.Net(path, caffe.TRAIN, level=1).blobs
    assert "staged" in caffe.Net(path, caffe.TRAIN, stages=["extra"]).blobs
    caffe.Net(path, caffe.TEST).save(weights := path + ".weights")
    with pytest.warns(DeprecationWarning, match="write Net"):
        assert "late" not in caffe.Net(path, weights, caffe.TEST).blobs, "the phase is no level"
    assert "layer 'data': transform_param: ignored" in caplog.text
    assert "staged" in caffe.Net(path, caffe.TRAIN, stages="extra").blobs
    with pytest.raises(mc.SpecError, match="level '1': must be a whole number"):
        caffe.Net(path, caffe.TRAIN, level="1")
    with pytest.raises(mc.MinicaffeError, match=r"phase 2: must be caffe\.TRAIN or caffe\.TEST"):
        caffe.Net(path, 2)


@pytest.mark.parametrize("name", ["weights", "weights.caffemodel"])
def test_saved_weights_come_back_by_all_ways_to_load_them(net, write, tmp_path, name):
    path, spec = str(tmp_path / name), write(NET)
    net.save(path)
    again = caffe.Net(spec, caffe.TEST)
    again.copy_from(path)
    with pytest.warns(DeprecationWarning, match="write Net"):
        old = caffe.Net(spec, path, caffe.TEST)
    for other in (again, old, caffe.Net(spec, caffe.TEST, weights=path)):
        for layer, blobs in net.params.items():
            for mine, its in zip(blobs, other.params[layer], strict=True):
                np.testing.assert_array_equal(mine.data, its.data)


@pytest.mark.parametrize("name", ["weights", "weights.caffemodel.h5"])
def test_saved_hdf5_comes_back(net, write, tmp_path, name):
    pytest.importorskip("h5py")
    net.save_hdf5(tmp_path / name)
    other = caffe.Net(write(NET), caffe.TEST)
    other.load_hdf5(tmp_path / name)
    np.testing.assert_array_equal(other.params["conv"][0].data, net.params["conv"][0].data)


def test_nets_share_weights(net, write):
    other = caffe.Net(write(NET), caffe.TEST)
    other.share_with(net)
    net.params["ip"][1].data[...] = 7
    net.forward(data=images())
    np.testing.assert_allclose(other.forward(data=images())["score"], net.blobs["score"].data, rtol=1e-6)


def test_clearing_gradients_makes_them_zero(net):
    net.forward(data=images())
    net.backward(score=np.ones((4, 5), np.float32))
    assert net.params["conv"][0].diff.any()
    net.clear_param_diffs()
    assert not net.params["conv"][0].diff.any()


@pytest.mark.cpu_only("held arrays are the memory itself; on a GPU they are copies, as in Caffe")
def test_an_array_that_is_held_sees_its_gradient_cleared(net):
    net.forward(data=images())
    net.backward(score=np.ones((4, 5), np.float32))
    held = net.params["conv"][0].diff
    assert held.any()
    net.clear_param_diffs()
    assert not held.any()


def test_any_number_of_images_runs_in_batches(net):
    out = net.forward_all(data=images(count=10), blobs=["conv"])
    assert out["score"].shape == (10, 5) and out["conv"].shape == (10, 3, 2, 2)
    np.testing.assert_allclose(out["score"], scores_of(net, images(count=10)), rtol=1e-4, atol=1e-5)
    dy = np.random.default_rng(4).standard_normal((10, 5)).astype(np.float32)
    data, diffs = net.forward_backward_all(data=images(count=10), score=dy, diffs=["conv"])
    np.testing.assert_allclose(data["score"], out["score"], rtol=1e-5, atol=1e-6)
    active = out["conv"] > 0
    expected = (dy @ net.params["ip"][0].data).reshape(active.shape) * active
    np.testing.assert_allclose(diffs["conv"], expected, rtol=1e-4, atol=1e-5)
    assert diffs["data"].shape == (10, 2, 3, 3)
    for wrong in ({}, {"data": images(count=0)}, {"data": images(count=3), "score": dy}):
        with pytest.raises(
            mc.ShapeError, match=r"inputs of (no|0|3 and 10) items; give some, as many of each"
        ):
            net.forward_backward_all(**wrong)


def test_a_net_without_a_batch_runs_over_nothing_in_one_line(net):
    net.blobs["data"].reshape(0, 2, 3, 3)
    with pytest.raises(mc.ShapeError, match="the net's batch size is 0; reshape its inputs"):
        net.forward_all(data=images())


def test_memory_data_gives_out_arrays(write):
    text = """layer { name: "data" type: "MemoryData" top: "data" top: "label"
      memory_data_param { batch_size: 2 channels: 1 height: 2 width: 2 } }"""
    net = caffe.Net(write(text), caffe.TEST)
    data, labels = np.arange(16, dtype=np.float32).reshape(4, 1, 2, 2), np.arange(4, dtype=np.float32)
    net.set_input_arrays(data, labels)
    net.forward()
    out = net.forward()
    np.testing.assert_array_equal(out["data"], data[2:])
    np.testing.assert_array_equal(out["label"], labels[2:])


def test_blobs_outlive_their_net_which_goes_when_nobody_holds_it(write):
    net = caffe.Net(write(NET), caffe.TEST)
    blobs, core = list(net.blobs.values()), weakref.ref(net.core)
    del net
    gc.collect()
    assert core() is None
    assert all(np.isfinite(blob.data.sum() + blob.diff.sum()) for blob in blobs)


def test_a_yaml_spec_opens_too(write):
    data = "{name: data, type: Input, input_param: {shape: {dim: [2, 3]}}}"
    text = f"layer: [{data}, {{name: relu, type: ReLU, top: y}}]"
    net = caffe.Net(write(text, "net.yaml"), caffe.TEST)
    assert net.forward(data=np.full((2, 3), -1))["y"].max() == 0


def test_equal_seeds_make_equal_nets(write):
    path, made = write(NET), []
    for seed in (5, 5, 6):
        caffe.set_random_seed(seed)
        made.append(caffe.Net(path, caffe.TEST).params["conv"][0].data.copy())
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


@pytest.mark.cpu_only("of machines without a GPU")
def test_gpu_mode_without_a_gpu_warns_and_computes_on_the_cpu(write):
    with pytest.warns(RuntimeWarning, match="computing on the CPU"):
        caffe.set_mode_gpu()
    net = caffe.Net(write(NET), caffe.TEST)
    assert net.forward(data=images())["score"].shape == (4, 5)
    caffe.set_mode_cpu()


def test_the_device_is_the_gpu_that_set_device_chose(monkeypatch):
    chosen = []
    monkeypatch.setattr(caffe.mode, "_process", caffe.mode._Process())
    monkeypatch.setattr(caffe.mode, "gpu_problem", lambda: "")
    monkeypatch.setattr(caffe.mode, "choose_device", chosen.append)
    caffe.set_device(2)
    assert chosen == []
    caffe.set_mode_gpu()
    caffe.set_device(1)
    caffe.set_mode_cpu()
    caffe.set_device(0)
    assert chosen == ["gpu:2", "gpu:1", "cpu"]


def test_the_log_says_which_weights_were_copied(net, tmp_path, capsys):
    net.save(tmp_path / "w")
    logger = caffe.mode.logger
    before = logger.handlers, logger.level
    try:
        caffe.init_log(0, True)
        caffe.log("mine")
        net.copy_from(tmp_path / "w")
        assert "mine\n" in (shown := capsys.readouterr().err) and "copied: conv, ip" in shown
        caffe.init_log(0, False)
        caffe.log("on stdout")
        assert re.fullmatch(r"I\d{4} [\d:]{8}\.\d{6} +\d+ \w+\.py:\d+\] on stdout\n", capsys.readouterr().out)
        caffe.init_log(2)
        caffe.log("not shown")
        assert not capsys.readouterr().err
    finally:
        logger.handlers, logger.level = before
        caffe.mode._process.log_is_shown = False


def test_the_module_has_what_scripts_ask_it():
    assert {"Data", "Convolution", "InnerProduct", "Python"} <= set(caffe.layer_type_list())
    assert (caffe.TRAIN, caffe.TEST) == (0, 1)
    assert caffe.__version__ == "1.0.0" and not caffe.has_nccl()
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    caffe.set_solver_count(1), caffe.set_solver_rank(0), caffe.set_multiprocess(False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: caffe.set_solver_count(2), r"set_solver_count\(2\): training on several GPUs is not there"),
        (lambda: caffe.set_solver_rank(1), r"set_solver_rank\(1\): training on several"),
        (lambda: caffe.set_multiprocess(True), r"set_multiprocess\(True\): training on several"),
        (lambda: caffe.NCCL(None, ""), r"NCCL: training on several GPUs is not there; train on one"),
        (caffe.NCCL.new_uid, r"NCCL\.new_uid: training on several"),
    ],
)
def test_training_on_several_gpus_is_refused_in_one_line(call, message):
    with pytest.raises(mc.DeviceError, match=message):
        call()


def test_the_names_of_the_cpp_class_are_there(net):
    assert net._blobs == list(net.blobs.values()) and net._blob_names == list(net.blobs)
    assert [net._blob_names[i] for i in net._inputs] == ["data"]
    assert [net._blob_names[i] for i in net._outputs] == ["score"]
    assert net._blob_loss_weights == [0.0] * 3
    sizes = [len(batch["data"]) for batch in net._batch({"data": images(count=6)})]
    assert sizes == [4, 4]


def test_a_scripts_functions_are_called_around_each_layer(net):
    calls = []
    for when in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, when)(lambda i, when=when: calls.append((when, i)))
    net.before_forward(lambda i: calls.append(("too", i)))
    net.forward(data=images(), start="conv", end="relu")
    expected = [(w, i) for i in (1, 2) for w in ("before_forward", "too", "after_forward")]
    assert calls == expected
    net.forward(data=images())
    calls.clear()
    net.backward(score=np.ones((4, 5), np.float32))
    assert calls == [(w, i) for i in (3, 2, 1) for w in ("before_backward", "after_backward")]


def test_what_a_function_between_layers_writes_counts(net):
    def change(i):
        if net._layer_names[i] == "relu":
            net.blobs["conv"].data[...] = 1

    net.after_forward(change)
    v, c = (blob.data for blob in net.params["ip"])
    found = net.forward(data=images())["score"]
    np.testing.assert_allclose(found[0], v.sum(1) + c, rtol=1e-4, atol=1e-4)


def test_a_timer_counts_from_start_to_stop():
    timer = caffe.Timer()
    assert timer.ms == 0
    before = time.perf_counter()
    timer.start()
    time.sleep(0.02)
    timer.stop()
    assert 20 <= timer.ms <= 1000 * (time.perf_counter() - before) and timer.ms == timer.ms
