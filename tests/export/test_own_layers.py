"""A layer type of one's own says where it is registered what it becomes in Caffe and in ONNX."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.caffe.exchange.plain_layers import conversions
from minicaffe.caffe.formats.spec_tree import number, text
from minicaffe.core.layer import layer_classes
from minicaffe.errors import SpecError
from minicaffe.onnx.graph import writers
from minicaffe.spec.net import _layer_specs, parse_net
from tests.export.export_cases import INPUT


@pytest.fixture
def net():
    @mc.register_layer
    class Tripled(mc.Layer):
        """y = 3 x"""

        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)

        def forward(self, bottom, top):
            top[0].data[...] = 3 * bottom[0].data

    yield mc.Net(parse_net(INPUT.format(name="n", shape="[2, 3]") + "- {name: y, type: Tripled}\n"))
    for table in (layer_classes, _layer_specs, conversions, writers):
        table.pop("Tripled", None)


def test_one_that_says_nothing_is_noted_for_caffe_and_refused_for_onnx(net, tmp_path):
    pytest.importorskip("google.protobuf")
    notes = mc.export(net, tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
    assert notes == ["layer 'y': type Tripled is not in Caffe 1.0, only in forks of it"]
    pytest.importorskip("onnx")
    with pytest.raises(SpecError, match="Tripled cannot be exported to ONNX"):
        mc.export_onnx(net, tmp_path / "n.onnx")


def test_in_caffe_it_is_what_its_conversion_makes(net, tmp_path):
    pytest.importorskip("google.protobuf")

    @conversions.of("Tripled")
    def tripled(export, plain):
        plain.tree.set("type", text("Power"))
        plain.tree.child("power_param").set("scale", number(3))
        return [plain]

    assert mc.export(net, tmp_path / "n.prototxt", tmp_path / "n.caffemodel") == []
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    y = mc.Net(tmp_path / "n.prototxt").forward(data=x)["y"]
    np.testing.assert_array_equal(y, net.forward(data=x)["y"])


def test_in_onnx_it_is_what_its_writer_adds(net, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")

    @writers.of("Tripled")
    def tripled(graph, layer, x, bottom, top):
        return [graph.scaled(x[0], 3)]

    mc.export_onnx(net, tmp_path / "n.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "n.onnx"), providers=["CPUExecutionProvider"])
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(session.run(None, {"data": x})[0], 3 * x)
