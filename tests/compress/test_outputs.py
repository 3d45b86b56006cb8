"""A net of low rank leaves as ours, as Caffe's, or as ONNX, by the ending of its path."""

import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.caffe.exchange.export import export
from minicaffe.classify.classifier import Classifier
from minicaffe.compress import outputs
from minicaffe.compress.plan import LayerRank
from minicaffe.compress.shrunk import planned_net, write_spec
from minicaffe.compress.workbench import Workbench
from minicaffe.data.preparation import default_preparation
from minicaffe.device.array import to_host
from minicaffe.errors import DataError, SpecError, WriteError
from tests.compress.lenet_cases import rewrite

PLAN = {"conv2": LayerRank("SPATIAL", 12), "ip2": LayerRank("CHANNEL", 5)}


def write_net(bench, plan, net, out):
    with planned_net(bench, plan, net, out) as made:
        return made.write(out)


@pytest.fixture
def bench(folder):
    with closing(Workbench("net.yaml", "lenet.npz", ["conv2", "ip2"], calibration=1)) as bench:
        yield bench


@pytest.fixture
def digits_batch():
    return np.random.default_rng(0).uniform(0, 1, (64, 1, 28, 28)).astype(np.float32)


def scores(net, weights, images):
    with mc.Net(net, weights=weights, phase="test") as opened:
        return to_host(opened.forward(data=images)["prob"])


def test_each_form_computes_the_same(bench, digits_batch):
    ours, caffes, onnx = (write_net(bench, PLAN, Path("deploy.yaml"), Path(f"low.{ending}"))
                          for ending in ("yaml", "prototxt", "onnx"))  # fmt: skip
    assert ours == [Path("low.yaml"), Path("low.npz")]
    assert caffes == [Path("low.prototxt"), Path("low.caffemodel")]
    assert onnx == [Path("low.onnx")]
    expected = scores(*ours, digits_batch)
    assert abs(expected - scores("deploy.yaml", "lenet.npz", digits_batch)).max() > 1e-3  # it is approximated
    np.testing.assert_allclose(scores(*caffes, digits_batch), expected, atol=1e-5)
    session = pytest.importorskip("onnxruntime").InferenceSession(onnx[0])
    np.testing.assert_allclose(session.run(None, {"data": digits_batch})[0], expected, atol=1e-5)


def test_caffe_gets_pairs_of_plain_layers(bench):
    write_net(bench, PLAN, Path("deploy.yaml"), Path("low.prototxt"))
    text = Path("low.prototxt").read_text()
    assert "low_rank_param" not in text
    with mc.Net("low.prototxt", weights="low.caffemodel") as net:
        assert [n for n in net.params if n.startswith(("conv2", "ip2"))] == [
            "conv2_low_rank", "conv2", "ip2_low_rank", "ip2",
        ]  # fmt: skip
        assert net.params["conv2_low_rank"][0].shape == (12, 20, 5, 1)


@pytest.mark.parametrize("ending", ["yaml", "prototxt"])
def test_a_net_of_caffe_may_be_the_source(bench, ending, digits_batch):
    with mc.Net("deploy.yaml", weights="lenet.npz") as net:
        export(net, "given.prototxt", "given.caffemodel")
    written = write_net(bench, PLAN, Path("given.prototxt"), Path(f"low.{ending}"))
    own = write_net(bench, PLAN, Path("deploy.yaml"), Path("own.yaml"))
    np.testing.assert_allclose(scores(*written, digits_batch), scores(*own, digits_batch), atol=1e-5)
    if ending == "yaml":
        text = Path("low.yaml").read_text()
        assert text.startswith("# Converted from Caffe's given.prototxt.\n")
        assert "low_rank_param: {rank: 12, scheme: spatial, factored: true}" in text
        with mc.Net("low.yaml") as low, mc.Net("given.prototxt") as given:
            assert [x.name for x in low.layers] == [x.name for x in given.layers]


def test_files_that_caffes_net_names_are_found_from_another_folder(bench):
    Path("caffe").mkdir()
    Path("train.npz").rename("caffe/train.npz")
    Path("test.npz").rename("caffe/test.npz")
    with mc.Net("deploy.yaml") as net:
        export(net, "caffe/net.prototxt", "caffe/net.caffemodel")
    rewrite("caffe/net.prototxt", ('type: "Input"', 'type: "Data"'))
    text = Path("caffe/net.prototxt").read_text()
    head, rest = text.split("  input_param {", 1)
    rest = rest.split("\n  }\n", 1)[1]
    Path("caffe/net.prototxt").write_text(
        f'{head}  top: "label"\n  data_param {{ source: "test.npz" batch_size: 2 backend: NPZ }}\n{rest}'
    )
    Path("out").mkdir()
    write_net(bench, PLAN, Path("caffe/net.prototxt"), Path("out/low.yaml"))
    with mc.Net("out/low.yaml", weights="out/low.npz", phase="test") as net:
        net.forward()


def test_a_plan_is_written_into_a_spec_of_caffe_as_yaml(bench):
    with mc.Net("deploy.yaml") as net:
        export(net, "given.prototxt", "given.caffemodel")
    write_spec(PLAN, Path("given.prototxt"), Path("low.yaml"))
    assert Path("low.yaml").read_text().count("low_rank_param") == 2


def test_preparation_and_class_names_travel_on_or_are_told(bench, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    names = tuple(f"digit {i}" for i in range(10))
    prepared = replace(default_preparation(1), input_scale=0.5, class_names=names)
    bench.original.prepare_as(prepared)
    written = write_net(bench, PLAN, Path("deploy.yaml"), Path("low.yaml"))
    found = Classifier(*written)
    assert (found.preparation.input_scale, found.class_names) == (0.5, names)
    write_net(bench, PLAN, Path("deploy.yaml"), Path("low.prototxt"))
    assert (
        "low.caffemodel cannot say what pictures go through: resized to the net's input, channels as they are, "
        "0 … 1, no mean, times 0.5; nor the names of 10 classes" in caplog.text
    )


@pytest.mark.parametrize("source", ["deploy.yaml", "given.prototxt"])
def test_the_source_is_not_written_over(bench, source):
    with mc.Net("deploy.yaml") as net:
        export(net, "given.prototxt", "given.caffemodel")
    before = Path(source).read_bytes()
    for write in (lambda: write_net(bench, PLAN, Path(source), Path(source)),
                  lambda: write_spec(PLAN, Path(source), Path(source))):  # fmt: skip
        with pytest.raises(WriteError, match=f"{source}: would be written over the {source} that is read"):
            write()
    assert Path(source).read_bytes() == before


def test_data_that_the_net_names_are_not_written_over(bench):
    Path("deep").mkdir()
    before = Path("test.npz").read_bytes()
    with pytest.raises(WriteError, match=r"test\.npz: would be written over"):
        write_net(bench, PLAN, Path("net.yaml"), Path("test.yaml"))
    assert Path("test.npz").read_bytes() == before
    assert not Path("test.yaml").exists()


@pytest.mark.parametrize("name", ["low", "low.npz", "low.pb"])
def test_another_ending_is_an_error_that_names_those_there_are(name):
    with pytest.raises(WriteError, match=f"^{name}: ends in none of .yaml, .prototxt and .onnx"):
        outputs.files_of(Path(name))


def test_what_a_form_has_not_is_known_before_the_work(bench, monkeypatch):
    for name in ("low.yaml", "low.prototxt"):
        outputs.check_output(bench.original, Path(name))
    with pytest.raises(SpecError, match="export a deploy net"):
        outputs.check_output(bench.original, Path("low.onnx"))
    with mc.Net("deploy.yaml") as deploy:
        outputs.check_output(deploy, Path("low.onnx"))
    assert not list(Path().glob("low.*"))
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with mc.Net("deploy.yaml") as deploy, pytest.raises(DataError, match=r"pip install 'minicaffe\[onnx\]'"):
        outputs.check_output(deploy, Path("low.onnx"))


def test_an_interrupted_write_leaves_no_spec_without_its_weights(bench, monkeypatch):
    def fail(*args):
        raise WriteError("full")

    monkeypatch.setattr(mc.Net, "save", fail)
    with pytest.raises(WriteError, match="full"):
        write_net(bench, PLAN, Path("deploy.yaml"), Path("low.yaml"))
    assert not Path("low.yaml").exists()
