"""caffe.draw, as Caffe's draw_net.py and other scripts use it."""

import io

import pytest
from PIL import Image

import minicaffe.pycaffe as caffe
from minicaffe.errors import MinicaffeError
from minicaffe.pycaffe.proto import caffe_pb2

pytestmark = pytest.mark.cpu_only("of pictures: no device computes here")

text_format = pytest.importorskip("google.protobuf.text_format")

NET = """
name: "Small"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { source: "gone" batch_size: 64 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        data_param { source: "gone" batch_size: 10 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 } param { lr_mult: 2 }
        convolution_param { num_output: 20 kernel_size: 5 stride: 2 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param { num_output: 10 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def net_param():
    return text_format.Parse(NET, caffe_pb2.NetParameter())


def test_draw_net_to_file_writes_what_the_name_ends_in(net_param, tmp_path):
    for name, start in (
        ("net.png", b"\x89PNG"),
        ("net.svg", b"<svg"),
        ("net.jpg", b"\xff\xd8"),
        ("net.raw", b"digraph"),
    ):
        caffe.draw.draw_net_to_file(net_param, str(tmp_path / name), "TB", caffe.TEST, False)
        assert (tmp_path / name).read_bytes().startswith(start)


def test_without_a_phase_all_layers_are_drawn(net_param):
    both = caffe.draw.draw_net(net_param, "LR", "svg").decode()
    assert 'data-layer="accuracy"' in both and ">TEST</text>" in both
    train = caffe.draw.draw_net(net_param, "LR", ext="svg", phase=caffe.TRAIN).decode()
    assert 'data-layer="accuracy"' not in train and 'data-layer="loss"' in train


def test_the_graph_has_the_methods_of_pydots_that_scripts_use(net_param, tmp_path):
    graph = caffe.draw.get_pydot_graph(net_param, rankdir="BT", phase=caffe.TEST)
    assert graph.to_string().startswith('digraph "Small (TEST)" {\n  rankdir=TB;')
    assert Image.open(io.BytesIO(graph.create(format="png"))).format == "PNG"
    graph.write_png(tmp_path / "a.png")
    graph.write(tmp_path / "a.svg", format="svg")
    graph.write(tmp_path / "a.dot")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.dot", "a.png", "a.svg"]


def test_a_net_itself_may_be_drawn():
    net = caffe.Net("prototxt/lenet/deploy.yaml", caffe.TEST)
    svg = caffe.draw.draw_net(net, "TB", "svg", phase=caffe.TEST).decode()
    assert svg == net.core.draw().svg()


def test_wrong_words_are_answered(net_param, tmp_path):
    with pytest.raises(MinicaffeError, match="rankdir 'XY'"):
        caffe.draw.draw_net(net_param, "XY")
    with pytest.raises(MinicaffeError, match="phase 7"):
        caffe.draw.draw_net(net_param, "TB", phase=7)
    with pytest.raises(MinicaffeError, match="'doc' is no format"):
        caffe.draw.draw_net_to_file(net_param, tmp_path / "net.doc")
    assert not list(tmp_path.iterdir())


def test_labels_and_colours_are_pycaffes(net_param):
    data, _, conv, pool, ip, _, _ = net_param.layer
    assert caffe.draw.get_layer_label(conv, "TB", True) == (
        '"conv (Convolution) kernel size: 5 stride: 2 pad: 0 lr mult: 1.0, 2.0"'
    )
    assert (
        caffe.draw.get_layer_label(pool, "LR") == r'"pool\n(Pooling AVE)\nkernel size: 3\nstride: 2\npad: 1"'
    )
    assert caffe.draw.get_layer_label(ip, "LR") == r'"ip\n(InnerProduct)"'
    assert [caffe.draw.get_edge_label(layer) for layer in (data, conv, pool, ip)] == [
        "Batch 64",
        "20",
        '""',
        "10",
    ]
    assert caffe.draw.get_layer_lr_mult(conv) == (1.0, 2.0)
    with pytest.raises(ValueError, match="Pooling layers"):
        caffe.draw.get_layer_lr_mult(pool)
    assert caffe.draw.choose_color_by_layertype("Convolution") == "#FF5050"
    assert caffe.draw.choose_color_by_layertype("ReLU") == "#6495ED"
    assert caffe.draw.get_pooling_types_dict() == {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}


def test_a_layer_of_an_unknown_type_is_drawn_as_a_box():
    net = 'layer { name: "d" type: "Strange" top: "d" } layer { name: "r" type: "ReLU" bottom: "d" top: "r" }'
    assert 'label="d\\nStrange' in caffe.draw.get_pydot_graph(net, "TB").to_string()
