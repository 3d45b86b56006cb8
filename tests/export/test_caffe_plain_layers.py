"""What the layers of a net become in Caffe's files, where Caffe has them otherwise or not at all."""

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.data.sources.backends import open_source
from minicaffe.data.sources.lmdb_writer import write_lmdb
from minicaffe.errors import SpecError
from minicaffe.files.spec_formats import load_net
from minicaffe.spec.net import parse_net
from tests.export.export_cases import INPUT, inputs_of, outputs_of

FILLED = "num_output: 8, kernel_size: 3, weight_filler: {type: xavier}"


def exported(net, folder):
    """The two files that the net becomes, and the notes on them."""
    files = folder / "net.prototxt", folder / "net.caffemodel"
    return files, mc.export(net, *files)


def assert_computes_the_same(net, files):
    again, inputs = mc.Net(*files, phase="test"), inputs_of(net)
    wanted, found = outputs_of(net, inputs), outputs_of(again, inputs)
    assert set(found) == set(wanted)
    for blob, values in wanted.items():
        np.testing.assert_allclose(found[blob], values, rtol=1e-4, atol=1e-5)
    return again


# -- phases, levels, stages ------------------------------------------------------------------------------

FIELD_INPUT = """input: a
input_shape: {dim: [2, 3, 6, 6]}
layer:
- {name: early, type: Power, bottom: a, power_param: {scale: 2}, include: {phase: TRAIN}}
- {name: late, type: ReLU, bottom: a, include: {phase: TEST}}
- {name: both, type: ReLU, bottom: a}
"""


def test_an_input_that_is_a_field_of_the_net_is_a_layer_of_both_phases(tmp_path):
    files, notes = exported(mc.Net(parse_net(FIELD_INPUT), phase="test"), tmp_path)
    assert notes == [] and not files[0].read_text().startswith("name"), "the net has none"
    for phase, own in (("train", "early"), ("test", "late")):
        layers = [layer for layer in mc.Net(files[0], phase=phase).layers if layer.type != "Split"]
        assert [layer.name for layer in layers] == ["a", own, "both"]
        assert layers[0].type == "Input"


def test_a_net_of_one_phase_alone_is_that_in_caffe_too(tmp_path):
    only = "include: {phase: TEST}"
    text = INPUT.format(name="n", shape="[2, 3]").replace("type: Input,", f"type: Input, {only},")
    net = mc.Net(parse_net(text + f"- {{name: relu, type: ReLU, {only}}}\n"), phase="test")
    files, notes = exported(net, tmp_path)
    assert_computes_the_same(net, files)
    assert notes == [] and files[0].read_text().count("phase: TEST") == 2


TRAINS = "include: {phase: TRAIN, min_level: 1, stage: s}"
OTHER_PHASE = INPUT.format(name="n", shape="[2, 4, 8, 9]") + (
    f"- {{name: wide, type: Power, bottom: data, {TRAINS}}}\n"
    f"- {{name: pool, type: Pooling, bottom: wide, {TRAINS},\n"
    "   pooling_param: {kernel_size: 3, stride: 2, round_mode: FLOOR}}\n"
    f"- {{name: deep, type: DepthwiseConvolution, bottom: wide, {TRAINS},\n"
    "   convolution_param: {num_output: 4, kernel_size: 3}}\n"
    "- {name: relu, type: ReLU, bottom: data, include: {phase: TEST}}\n"
)


def test_layers_of_the_other_phase_have_the_shapes_of_this_level_and_stage(tmp_path):
    spec, state = parse_net(OTHER_PHASE), {"level": 1, "stages": ["s"]}
    files, notes = exported(mc.Net(spec, phase="test", **state), tmp_path)
    assert notes == [] and "group: 4" in files[0].read_text()
    wanted, found = mc.Net(spec, phase="train", **state), mc.Net(files[0], phase="train")
    assert found.blobs["pool"].shape == wanted.blobs["pool"].shape == (2, 4, 3, 4)
    assert mc.Net(files[0], phase="test").outputs == ["relu"]


# -- low rank --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("param", "bias", "kept"),
    [
        ("[{lr_mult: 2}, {lr_mult: 3}, {lr_mult: 5}]", "true", [3, 5]),
        ("[{lr_mult: 2}, {lr_mult: 3}]", "false", [3]),
        ("{lr_mult: 2}", "true", []),
    ],
)
def test_factors_that_become_one_layer_have_the_settings_of_the_last(param, bias, kept, tmp_path):
    layer = f"param: {param}, convolution_param: {{{FILLED}, bias_term: {bias}}}"
    text = INPUT.format(name="n", shape="[3, 4, 9, 8]")
    text += f"- {{name: layer, type: Convolution, {layer}, low_rank_param: {{rank: 8, factored: true}}}}\n"
    net = mc.Net(parse_net(text), phase="test", seed=1)
    files, notes = exported(net, tmp_path)
    again = assert_computes_the_same(net, files)
    assert notes == [] and [layer.name for layer in again.layers] == ["data", "layer"]
    assert [p.lr_mult for p in again.layers[1].spec.param] == kept


def test_low_rank_in_the_other_phase_alone_cannot_be_exported(tmp_path):
    """Its factors are those of weights that this net has not."""
    text = INPUT.format(name="n", shape="[3, 4, 9, 8]") + (
        "- {name: layer, type: Convolution, include: {phase: TRAIN},\n"
        f"   convolution_param: {{{FILLED}}}, low_rank_param: {{rank: 2}}}}\n"
    )
    net = mc.Net(parse_net(text), phase="test")
    with pytest.raises(
        SpecError, match="layer 'layer': low_rank_param: not in the TEST net, which is exported"
    ):
        exported(net, tmp_path)


TWO_TOPS = """layer:
- {name: a, type: Input, input_param: {shape: {dim: [2, 3, 7, 7]}}}
- {name: b, type: Input, input_param: {shape: {dim: [2, 3, 7, 7]}}}
- {name: layer, type: Convolution, bottom: [a, b], top: [c, d], propagate_down: [false, true],
   convolution_param: {%s}, low_rank_param: {rank: 2}}
"""


def test_a_pair_of_low_rank_has_the_tops_of_the_layer_and_one_that_stops_gradients(tmp_path):
    net = mc.Net(parse_net(TWO_TOPS % FILLED), phase="test", seed=1)
    files, notes = exported(net, tmp_path)
    again = assert_computes_the_same(net, files)
    assert notes == [] and again.outputs == ["c", "d"]
    first, second = again.layers[2:]
    assert (first.spec.bottom, first.spec.propagate_down) == (["a", "b"], [False, True])
    assert (second.spec.bottom, second.spec.top) == (["c_low_rank", "d_low_rank"], ["c", "d"])
    text = files[0].read_text()
    assert text.count("propagate_down") == 2, "one for each bottom, of the first layer alone"
    assert "stride" not in text and "dilation" not in text and text.count("kernel_size") == 2


# -- what Caffe has not ----------------------------------------------------------------------------------


def test_a_field_that_caffe_has_not_is_said_with_its_message(tmp_path):
    text = INPUT.format(name="n", shape="[2, 3]")
    text += "- {name: drop, type: Dropout, dropout_param: {scale_train: false}}\n"
    assert exported(mc.Net(parse_net(text)), tmp_path)[1] == [
        "layer 'drop': Caffe 1.0 does not know dropout_param.scale_train"
    ]


@pytest.mark.parametrize(("kind", "param"), [("BatchNorm", "batch_norm_param"), ("BN", "bn_param")])
def test_statistics_over_ranks_are_left_out_and_this_is_said(kind, param, tmp_path):
    text = INPUT.format(name="n", shape="[2, 3, 4, 4]")
    text += f"- {{name: norm, type: {kind}, {param}: {{eps: 0.5, sync: %s}}}}\n"
    files, notes = exported(mc.Net(parse_net(text % "true")), tmp_path)
    said = "layer 'norm': Caffe does not know sync: it is left out, and each GPU has statistics of its own"
    assert said in notes
    written = files[0].read_text()
    assert "sync" not in written and "eps: 0.5" in written
    files, notes = exported(mc.Net(parse_net(text % "false")), tmp_path)
    assert said not in notes and files[0].read_text() == written


def test_a_message_without_fields_is_written_where_it_counts(tmp_path):
    """A filler that says nothing is one of zeros; without it a PReLU starts at 0.25."""
    text = INPUT.format(name="n", shape="[2, 3]") + "- {name: p, type: PReLU, prelu_param: {filler: {}}}\n"
    files, _ = exported(mc.Net(parse_net(text)), tmp_path)
    assert not mc.to_host(mc.Net(files[0]).params["p"][0].data).any()


# -- data ------------------------------------------------------------------------------------------------


def write_pictures(folder):
    """A folder of pictures, 8 × 6, of one class, with lists of them for ImageData and WindowData."""
    (folder / "class").mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (6, 8), (40 * i, 10, 20)).save(folder / "class" / f"{i}.png")
    (folder / "list.txt").write_text("".join(f"{folder}/class/{i}.png {i}\n" for i in range(3)))
    windows = "1 0.9 0 0 3 4\n0 0.1 1 1 5 5\n"
    blocks = [f"# {i}\n{folder}/class/{i}.png\n3\n8\n6\n2\n{windows}" for i in range(3)]
    (folder / "windows.txt").write_text("".join(blocks))


CAFFE_READS = {
    "LMDB": "Data, data_param: {source: %s/digits_lmdb, batch_size: 4}, transform_param: {scale: 0.5}",
    "list of images": "ImageData, image_data_param: {source: %s/pictures/list.txt, batch_size: 2}",
    "list of windows": "WindowData, window_data_param: {source: %s/pictures/windows.txt, batch_size: 4},"
    " transform_param: {crop_size: 5}",
    "memory": "MemoryData, memory_data_param: {batch_size: 2, channels: 3, height: 4, width: 5}",
}


@pytest.fixture
def sources(tmp_path):
    """A folder with data in the formats that Caffe reads."""
    write_pictures(tmp_path / "pictures")
    return tmp_path


def write_digits(path):
    pytest.importorskip("lmdb")
    write_lmdb(open_source("sample/mnist-test"), path)


@pytest.mark.parametrize("name", CAFFE_READS)
def test_a_data_layer_that_caffe_can_read_stays_one(name, sources, tmp_path):
    if name == "LMDB":
        write_digits(sources / "digits_lmdb")
    layer = CAFFE_READS[name].replace("%s", str(sources))
    net = mc.Net(parse_net(f"layer: [{{name: d, top: [data, label], type: {layer}}}]"), phase="test", seed=3)
    files, notes = exported(net, tmp_path)
    again = mc.Net(files[0], phase="test", seed=3)
    assert notes == [] and [x.type for x in again.layers] == [x.type for x in net.layers] != ["Input"]
    assert ("backend: LMDB" in files[0].read_text()) == (name == "LMDB"), "Caffe would take LevelDB"
    if name != "memory":
        wanted, found = net.forward(), again.forward()
        for top in ("data", "label"):
            np.testing.assert_array_equal(mc.to_host(found[top]), mc.to_host(wanted[top]))
        assert np.ptp(mc.to_host(wanted["data"])) > 0
    assert {top: blob.shape for top, blob in again.blobs.items()} == {
        top: blob.shape for top, blob in net.blobs.items()
    }
    net.close()
    again.close()


def test_a_source_beside_the_spec_is_found_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    write_digits(tmp_path / "nets" / "digits_lmdb")
    data = "data_param: {source: digits_lmdb, batch_size: 4}"
    (tmp_path / "nets" / "net.yaml").write_text(f"layer: [{{name: data, type: Data, top: data, {data}}}]")
    net = mc.Net(load_net("nets/net.yaml"), phase="test")
    files, _ = exported(net, tmp_path)
    net.close()
    assert 'type: "Data"' in files[0].read_text() and "backend: LMDB" in files[0].read_text()


NOT_READ = {
    "a folder as source": "ImageData, image_data_param: {source: %s/pictures, batch_size: 2}",
    "transform_param.pad": "ImageData, image_data_param: {source: %s/pictures/list.txt, batch_size: 2},"
    " transform_param: {pad: 1}",
    "a source of format IDX": "Data, data_param: {source: sample/mnist-test, batch_size: 2},"
    " transform_param: {scale: 0.5}",
}


@pytest.mark.parametrize("what", NOT_READ)
def test_a_data_layer_that_caffe_cannot_read_is_an_input_and_nothing_else(what, sources, tmp_path):
    layer = NOT_READ[what].replace("%s", str(sources))
    net = mc.Net(parse_net(f"layer: [{{name: d, top: [data, label], type: {layer}}}]"), phase="test")
    files, notes = exported(net, tmp_path)
    assert notes == [f"layer 'd': Caffe does not know {what}; it is an Input of the same shape"]
    (layer,) = mc.Net(files[0]).layers
    assert layer.type == "Input"
    assert [shape.dim for shape in layer.spec.input_param.shape] == [
        [*net.blobs[top].shape] for top in ("data", "label")
    ]
    assert "data_param" not in files[0].read_text() and "transform_param" not in files[0].read_text()
    net.close()


# -- what Caffe would stumble over -----------------------------------------------------------------------

MINE = """import minicaffe
class Mine(minicaffe.Layer):
    def reshape(self, bottom, top): top[0].reshape(2)
"""


def test_what_caffe_reads_in_another_way_is_told(tmp_path):
    np.save(tmp_path / "h.npy", np.eye(3, dtype=np.float32)[None])
    (tmp_path / "exported_module.py").write_text(MINE)
    (tmp_path / "net.yaml").write_text(
        INPUT.format(name="n", shape="[2, 3]")
        + "- {name: label, type: Input, input_param: {shape: {dim: 2}}}\n"
        + "- {name: prob, type: Softmax, bottom: data}\n"
        + "- {name: h, type: InfogainLoss, bottom: [prob, label], infogain_loss_param: {source: h.npy}}\n"
        + "- {name: own, type: Python, bottom: [], python_param: {module: exported_module, layer: Mine}}\n"
    )
    _, notes = exported(mc.Net(tmp_path / "net.yaml", phase="test"), tmp_path)
    assert "layer 'h': Caffe does not read its source, of format .npy; make it a .binaryproto" in notes
    assert "layer 'own': in Caffe its module 'exported_module' has to import caffe" in notes


FOR_USE = INPUT.format(name="n", shape="[2, 3, 8, 9]").replace(
    "type: Input,", "type: Input, include: {phase: TEST},"
)
TRAINED_ON = "- {name: d, type: %s: {source: not_here, batch_size: 2}, top: data, include: {phase: TRAIN}}\n"


@pytest.mark.parametrize("data", ["Data, data_param", "ImageData, image_data_param"])
def test_a_net_for_use_is_exported_without_the_data_that_trained_it(data, tmp_path):
    conv = f"- {{name: conv, type: Convolution, bottom: data, convolution_param: {{{FILLED}}}}}\n"
    net = mc.Net(parse_net(FOR_USE + TRAINED_ON % data + conv), phase="test")
    files, (note,) = exported(net, tmp_path)
    assert_computes_the_same(net, files)
    assert note.startswith("layer 'd': is written as it is: its data are not here (not_here")


def test_a_phase_that_cannot_be_made_is_tried_once(tmp_path, monkeypatch):
    text = FOR_USE + TRAINED_ON % "HDF5Data, hdf5_data_param"
    for name in ("a", "b"):
        floor = "{kernel_size: 3, stride: 2, round_mode: FLOOR}"
        text += f"- {{name: {name}, type: Pooling, bottom: data, pooling_param: {floor}}}\n"
    net, made, make = mc.Net(parse_net(text), phase="test"), [], mc.Net.__init__
    monkeypatch.setattr(
        mc.Net, "__init__", lambda self, *args, **how: made.append(how) or make(self, *args, **how)
    )
    files, _ = exported(net, tmp_path)
    assert [how["phase"] for how in made] == ["TRAIN"]
    assert_computes_the_same(net, files)
