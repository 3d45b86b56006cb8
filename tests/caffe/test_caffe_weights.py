"""Caffe's nets and weights give Caffe's numbers, whatever generation they are of (golden/caffe, by record.py)."""

import logging

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.caffe.formats.blobs import fill_blob
from minicaffe.caffe.formats.hdf5 import write_weights
from minicaffe.caffe.formats.messages import message_class
from minicaffe.data.mean import load_mean
from minicaffe.errors import WeightError, WriteError
from minicaffe.files.hdf5 import write_h5
from minicaffe.files.spec_formats import open_net
from minicaffe.files.weight_formats import SavedLayer, SavedNet, open_weights
from minicaffe.spec.net import LayerSpec
from tests.golden_files import FOLDER, assert_near, param_blob, parts, recorded

GOLDEN = FOLDER / "caffe"


def assert_gives_recorded_outputs(net, case):
    for blob, value in parts(case, "in_").items():
        net.blobs[blob].reshape(*value.shape)
        net.blobs[blob].data[...] = net.setting.device.put(value)
    net.reshape()
    net.run_forward()
    for blob, value in parts(case, "out_").items():
        assert_near(mc.to_host(net.blobs[blob].data), value, 1e-5, f"top {blob}")


@pytest.mark.parametrize("name", ["v0", "v1", "current"])
def test_each_generation_gives_the_outputs_of_caffe(name):
    case = recorded("caffe/nets")[name]
    net = mc.Net(GOLDEN / f"{name}.prototxt", weights=GOLDEN / f"{name}.caffemodel", phase="test")
    for key, value in parts(case, "p_").items():
        np.testing.assert_array_equal(mc.to_host(param_blob(net, key).data), value, err_msg=key)
    assert_gives_recorded_outputs(net, case)


@pytest.mark.parametrize("case", ["det1", "det1_large", "det2"])
def test_mtcnn_gives_the_outputs_of_caffe(case, shared_data):
    files = shared_data / "mtcnn" / case.split("_")[0]
    net = mc.Net(f"{files}.prototxt", weights=f"{files}.caffemodel", phase="test")
    assert_gives_recorded_outputs(net, recorded("caffe/mtcnn")[case])


def test_weights_in_hdf5_are_those_in_protobuf():
    pytest.importorskip("h5py")
    net = mc.Net(GOLDEN / "current.prototxt", weights=GOLDEN / "current.caffemodel.h5", phase="test")
    assert_gives_recorded_outputs(net, recorded("caffe/nets")["current"])


def test_statistics_of_batch_norm_keep_their_meaning_in_training():
    """Mean, variance and their scale go on as moving sums, as Caffe's do (the formula is in golden/README.md)."""
    net = mc.Net(GOLDEN / "current.prototxt", weights=GOLDEN / "current.caffemodel", phase="train")
    before = [mc.to_host(blob.data).copy() for blob in net.params["norm"]]
    net.blobs["data"].data[...] = net.setting.device.put(recorded("caffe/nets")["current"]["in_data"])
    net.run_forward()
    x = mc.to_host(net.blobs["conv"].data).transpose(1, 0, 2, 3).reshape(4, -1)
    batch = [x.mean(1), x.var(1, ddof=1), np.ones(1)]
    for blob, old, new in zip(net.params["norm"], before, batch, strict=True):
        np.testing.assert_allclose(mc.to_host(blob.data), 0.999 * old + new, rtol=1e-5)
    assert all(spec.lr_mult == 0 for spec in net.layers[2].spec.param)


def test_a_layer_without_a_name_gets_its_weights(tmp_path):
    """Caffe, which matches by name, takes none for a name too."""
    model = message_class("NetParameter")()
    model.layer.add(name="data", type="Input", top=["x"]).input_param.shape.add().dim.extend([1, 2])
    layer = model.layer.add(type="InnerProduct", bottom=["x"], top=["y"])
    layer.inner_product_param.num_output = 1
    layer.inner_product_param.bias_term = False
    layer.blobs.add(data=[7, 7]).shape.dim.extend([1, 2])
    (tmp_path / "m.caffemodel").write_bytes(model.SerializeToString())
    assert (mc.to_host(mc.Net(tmp_path / "m.caffemodel").params["y"][0].data) == 7).all()


@pytest.mark.parametrize(
    ("name", "start"), [("w.npz", b"PK\3\4"), ("w.caffemodel.h5", b"\x89HDF\r\n\x1a\n"), ("w", b"PK\3\4")]
)
def test_weights_are_no_net(name, start, tmp_path):
    (tmp_path / name).write_bytes(start + bytes(100))
    with pytest.raises(mc.SpecError, match="holds weights alone, not a net"):
        mc.Net(tmp_path / name)


def test_a_caffemodel_is_a_net_with_its_weights():
    net = mc.Net(GOLDEN / "current.caffemodel", phase="test")
    assert_gives_recorded_outputs(net, recorded("caffe/nets")["current"])


def test_a_net_that_caffe_saved_in_training_is_the_net_that_was_written():
    """Without the splits and the phase of the run: in the test phase, Dropout keeps all."""
    net = mc.Net(GOLDEN / "v0_saved.caffemodel", phase="test")
    written = open_net(GOLDEN / "v0.prototxt").layer
    assert [layer.name for layer in net.spec.layer[1:]] == [layer.name for layer in written[1:]]
    assert_gives_recorded_outputs(net, recorded("caffe/nets")["v0"])


@pytest.mark.parametrize(
    ("net", "saved", "phase"),
    [("current", "current", "test"), ("lenet", "lenet_iter_500", "train"), ("train", "SGD_iter_6", "train")],
)
def test_a_net_is_saved_as_caffe_saves_it(net, saved, phase, tmp_path):
    """Each layer as it ran, splits and phases too, with its settings and numbers: the same message."""
    made = mc.Net(GOLDEN / f"{net}.prototxt", weights=GOLDEN / f"{saved}.caffemodel", phase=phase)
    made.save(tmp_path / "ours.caffemodel")
    ours, caffes = (
        message_class("NetParameter").FromString(path.read_bytes())
        for path in (tmp_path / "ours.caffemodel", GOLDEN / f"{saved}.caffemodel")
    )
    assert ours == caffes
    assert [layer.type for layer in mc.Net(tmp_path / "ours.caffemodel", phase=phase).layers] == [
        layer.type for layer in made.layers
    ]


def test_weights_go_by_name_into_a_net_that_has_some_of_the_layers(make_net):
    net = make_net(
        "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [1, 36]}}}\n"
        "- {name: ip, type: InnerProduct, inner_product_param: {num_output: 2}}\n"
        "- {name: prelu, type: PReLU, prelu_param: {channel_shared: true}}\n"
    )
    with pytest.raises(WeightError, match=r"'ip/0' has shape \(5, 120\), the net expects \(2, 36\)"):
        net.copy_from(GOLDEN / "current.caffemodel")
    net = make_net(
        "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [1, 120]}}}\n"
        "- {name: ip, type: InnerProduct, inner_product_param: {num_output: 5}}\n"
        "- {name: other, type: InnerProduct, inner_product_param: {num_output: 5}}\n"
    )
    report = net.copy_from(GOLDEN / "current.caffemodel")
    assert (report.matched, report.missing) == (["ip"], ["other"])
    assert "conv" in report.unused


def test_weights_of_another_net_are_refused(make_net):
    net = make_net(
        "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [1, 36]}}}\n"
        "- {name: fc, type: InnerProduct, inner_product_param: {num_output: 2}}\n"
    )
    with pytest.raises(WeightError, match=r"current\.caffemodel: has no layer of this net"):
        net.copy_from(GOLDEN / "current.caffemodel")


FORMS = {  # a layer's message in each generation: how it is added, and the names of its types
    "0": (lambda net: net.layers.add().layer, {"conv": "conv", "ip": "innerproduct"}),
    "1": (lambda net: net.layers.add(), {"conv": 4, "deconv": 39, "ip": 14}),
    "today": (
        lambda net: net.layer.add(),
        {"conv": "Convolution", "deconv": "Deconvolution", "ip": "InnerProduct"},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_four_axes_get_the_axes_that_they_mean(form, tmp_path):
    """Also where convolution, bias and matrix hold a single number, and look alike."""
    add, types = FORMS[form]
    model, names = message_class("NetParameter")(), ["data", *types]
    for name, kind in types.items():
        layer = add(model)
        layer.name, layer.type = name, kind
        for value in (2.0, 3.0):
            layer.blobs.add(num=1, channels=1, height=1, width=1, data=[value])
    (tmp_path / "old.caffemodel").write_bytes(model.SerializeToString())
    text = 'input: "data" input_shape { dim: [1, 1, 1, 1] }'
    for name, bottom in zip(types, names, strict=False):
        more = "num_output: 1" + " kernel_size: 1" * (name != "ip")
        message = "inner_product_param" if name == "ip" else "convolution_param"
        text += f' layer {{ name: "{name}" type: "{FORMS["today"][1][name]}" bottom: "{bottom}" top: "{name}"'
        text += f" {message} {{ {more} }} }}"
    (tmp_path / "net.prototxt").write_text(text)
    net = mc.Net(tmp_path / "net.prototxt", weights=tmp_path / "old.caffemodel")
    wanted = 1
    for _ in types:
        wanted = 2 * wanted + 3
    assert mc.to_host(net.forward(data=np.ones((1, 1, 1, 1)))["ip"]).item() == wanted


def test_a_matrix_with_its_axes_before_the_ones_is_another_shape(tmp_path, make_net):
    """As in Caffe (``Blob::ShapeEquals``): the 1s of old files stand before."""
    model = message_class("NetParameter")()
    layer = model.layer.add(name="ip", type="InnerProduct")
    layer.blobs.add(num=5, channels=6, height=1, width=1, data=range(30))
    (tmp_path / "odd.caffemodel").write_bytes(model.SerializeToString())
    net = make_net(
        "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [1, 6]}}}\n"
        "- {name: ip, type: InnerProduct, inner_product_param: {num_output: 5, bias_term: false}}\n"
    )
    with pytest.raises(WeightError, match=r"'ip/0' has shape \(5, 6, 1, 1\), the net expects \(5, 6\)"):
        net.copy_from(tmp_path / "odd.caffemodel")


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 4095, 4096])
def test_an_array_is_written_as_protobuf_itself_writes_it(count):
    """Lengths around those where protobuf takes one byte more for them: 128 and 16384 bytes."""
    ours, its = (message_class("BlobProto")() for _ in range(2))
    fill_blob(ours, np.arange(count))
    its.data.extend(range(count))
    its.shape.dim.append(count)
    assert ours.SerializeToString() == its.SerializeToString()


@pytest.mark.parametrize("lacking", [0, 1])
def test_all_arrays_together_have_to_fit_a_message(lacking, tmp_path, make_net, monkeypatch):
    """protobuf's 2 GiB, here as many bytes as the two arrays have, or one less."""
    text = "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [1, 6]}}}\n"
    net = make_net(text + "- {name: ip, type: InnerProduct, inner_product_param: {num_output: 5}}\n")
    monkeypatch.setattr("minicaffe.caffe.formats.caffemodel.MAX_BYTES", 4 * (30 + 5) - lacking)
    if lacking == 0:
        net.save(tmp_path / "w.caffemodel")
        return
    with pytest.raises(WriteError, match=r"w\.caffemodel: more than 2 GiB.*write a \.caffemodel\.h5"):
        net.save(tmp_path / "w.caffemodel")
    assert not list(tmp_path.iterdir())


def test_a_split_that_somebody_wrote_is_kept(tmp_path):
    model = message_class("NetParameter")()
    data = model.layer.add(name="data", type="Input", top=["x"])
    data.input_param.shape.add().dim.extend([2, 3])
    model.layer.add(name="two", type="Split", bottom=["x"], top=["y", "z"])
    model.layer.add(name="relu", type="ReLU", bottom=["z"], top=["r"])
    (tmp_path / "m.caffemodel").write_bytes(model.SerializeToString())
    net = open_net(tmp_path / "m.caffemodel")
    assert [(layer.name, layer.type) for layer in net.layer] == [
        ("data", "Input"),
        ("two", "Split"),
        ("relu", "ReLU"),
    ]
    assert mc.Net(net).outputs == ["r", "y"]


def test_a_loss_gets_back_the_weight_that_caffe_gave_to_the_split_of_its_top(tmp_path):
    """As Caffe saves a loss that two layers read: 1 at the loss, and its own weight at the split."""
    model = message_class("NetParameter")()
    data = model.layer.add(name="data", type="Input", top=["x", "y"])
    data.input_param.shape.add().dim.extend([2, 3])
    model.layer.add(name="loss", type="EuclideanLoss", bottom=["x", "y"], top=["loss"], loss_weight=[1])
    tops = [f"loss_loss_0_split_{i}" for i in range(2)]
    model.layer.add(name="loss_loss_0_split", type="Split", bottom=["loss"], top=tops, loss_weight=[0.25, 0])
    for name, bottom in zip("ab", tops, strict=True):
        model.layer.add(name=name, type="Power", bottom=[bottom], top=[name])
    (tmp_path / "m.caffemodel").write_bytes(model.SerializeToString())
    net = mc.Net(tmp_path / "m.caffemodel", phase="train")
    net.forward(x=np.ones((2, 3)), y=np.zeros((2, 3)))
    assert float(net.loss()) == 0.25 * 1.5


def test_numbers_of_double_precision_and_in_unpacked_lists_are_read(tmp_path, make_net):
    net_text = "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [1, 2]}}}\n"
    net_text += "- {name: ip, type: InnerProduct, inner_product_param: {num_output: 1}}\n"
    model = message_class("NetParameter")()
    layer = model.layer.add(name="ip", type="InnerProduct")
    blob = layer.blobs.add(double_data=[0.5, 0.25])
    blob.shape.dim.extend([1, 2])
    bias = message_class("BlobProto")()
    bias.shape.dim.append(1)
    unpacked = bias.SerializeToString() + bytes([5 << 3 | 5]) + np.float32(4).tobytes()
    layer.blobs.append(message_class("BlobProto").FromString(unpacked))
    (tmp_path / "m.caffemodel").write_bytes(model.SerializeToString())
    net = make_net(net_text)
    net.copy_from(tmp_path / "m.caffemodel")
    assert mc.to_host(net.forward(data=np.ones((1, 2)))["ip"]).item() == 4.75


def test_fields_that_caffe_has_not_are_named_by_layer_and_number(tmp_path, caplog):
    """A fork's settings keep neither weights nor the net from being read: protobuf passes over them too."""
    data = (GOLDEN / "current.caffemodel").read_bytes()
    layer = message_class("LayerParameter")(name="odd", type="Silence", bottom=["prob"])
    odd = layer.SerializeToString() + bytes([0xFA, 0x0C, 1, 65])
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(data + bytes([0xA2, 0x06, len(odd)]) + odd)
    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        mc.Net(GOLDEN / "current.prototxt", weights=path)
    assert "layer 'odd': 207" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        assert mc.Net(path).layers[-1].name == "odd"
    assert (
        "ignored fields that Caffe 1.0 does not have, by number: layer 'odd': LayerParameter 207"
        in caplog.text
    )


@pytest.mark.parametrize(("count", "more"), [(5, ""), (7, " and 2 more")])
def test_at_most_five_such_fields_are_named(count, more, tmp_path, caplog):
    layers = [message_class("LayerParameter")(name=f"odd{i}").SerializeToString() for i in range(count)]
    layers = [layer + bytes([0xFA, 0x0C, 1, 65]) for layer in layers]
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(b"".join(bytes([0xA2, 0x06, len(layer)]) + layer for layer in layers))
    with caplog.at_level(logging.WARNING, logger="minicaffe"), open_weights(path):
        pass
    assert caplog.messages[0].endswith(
        "by number: " + ", ".join(f"layer 'odd{i}': 207" for i in range(5)) + more
    )


def test_layers_of_hdf5_may_have_a_slash_in_their_names_and_more_than_ten_arrays(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "w.caffemodel.h5"
    arrays = [np.zeros(i + 1) for i in range(12)]
    write_weights(SavedNet("net", "TEST", [SavedLayer(LayerSpec(name="inception/3x3"), arrays)]), path)
    with open_weights(path) as file:
        assert file.layers() == {"inception/3x3": [f"inception/3x3/{i}" for i in range(12)]}
        assert [file.shapes[key] for key in file.layers()["inception/3x3"]] == [(i + 1,) for i in range(12)]
    with h5py.File(path, "r+"):
        pass  # which h5py refuses while the reader has it open


def test_an_array_without_a_layers_name_is_of_no_layer(tmp_path):
    np.savez(tmp_path / "w.npz", **{"0": np.zeros(2), "conv/0": np.zeros(3)})
    with open_weights(tmp_path / "w.npz") as file:
        assert file.layers() == {"conv": ["conv/0"]}


def test_hdf5_that_cannot_be_written_whole_leaves_the_file_that_was_there(tmp_path):
    pytest.importorskip("h5py")
    path = tmp_path / "w.h5"
    write_h5(path, {"a": np.ones(2)})
    before = path.read_bytes()
    with pytest.raises(WriteError, match=r"w\.h5: cannot be written"):
        write_h5(path, {"b": np.zeros(2), "b/c": np.zeros(2)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_mean_image_of_caffe_is_read():
    np.testing.assert_array_equal(load_mean(GOLDEN / "mean.binaryproto"), np.load(GOLDEN / "mean.npy"))


def test_low_rank_layers_take_weights_of_caffe_and_a_warning_says_that_its_file_has_no_rank(tmp_path, caplog):
    text = (GOLDEN / "v1.prototxt").read_text()
    text = text.replace('param: "w" param: "b" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0', "")
    text = text.replace('param: "w" param: "b" blob_share_mode: STRICT blob_share_mode: PERMISSIVE', "")
    text = text.replace('name: "conv_a" type', 'low_rank_param { rank: 5 } name: "conv_a" type')
    (tmp_path / "low.prototxt").write_text(text)
    net = mc.Net(tmp_path / "low.prototxt", weights=GOLDEN / "v1.caffemodel", phase="test")
    assert net.layers[1].spec.low_rank_param.rank == 5
    assert_gives_recorded_outputs(net, recorded("caffe/nets")["v1"])
    net.save(tmp_path / "low.caffemodel")
    assert "low.caffemodel: cannot hold low_rank_param of conv_a; keep the spec" in caplog.text
