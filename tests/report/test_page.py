"""What a report's page is made of: text that is data, the same bytes each time, and not too many of them."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.errors import DataError
from minicaffe.inspect.report.carried import packed_size
from minicaffe.inspect.report.facts import told_zeros
from minicaffe.inspect.report.ladder import RUNGS, Rung, reduce
from minicaffe.inspect.report.pack import Packer, as_bytes
from minicaffe.inspect.report.page import as_json, page
from minicaffe.inspect.report.pictures import from_images
from minicaffe.inspect.report.record import copy_of, record
from minicaffe.inspect.report.views import low_rank, test_set
from minicaffe.inspect.report.weights import capped, restored
from tests import ROOT
from tests.device.in_package import needs_compiler
from tests.report.conftest import NETS, net_of, photos

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

LARGER = """
name: larger
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 3, 48, 48]}}}
- {name: conv, type: Convolution, convolution_param: {num_output: 32, kernel_size: 5, weight_filler: {type: msra}}}
- {name: relu, type: ReLU}
- {name: pool, type: Pooling, pooling_param: {kernel_size: 2, stride: 2}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 32, weight_filler: {type: msra}}}
- {name: prob, type: Softmax}
"""
HOSTILE = "</script><script>alert(1)</script><!-- \u2028 \U0001f600 \"'&" + "x" * 300
SMALL = """
name: NAME
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 3, 16, 16]}}}
- name: CONV
  type: Convolution
  convolution_param: {num_output: 6, kernel_size: 3, weight_filler: {type: xavier}}
- {name: relu, type: ReLU, top: CONV}
- {name: pool, type: Pooling, pooling_param: {kernel_size: 2, stride: 2}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 4, weight_filler: {type: xavier}}}
- {name: prob, type: Softmax}
"""


def small_net(name="small", conv="conv"):
    names = [
        json.dumps(text, ensure_ascii=False).replace("\u2028", "\\L") for text in (name, conv)
    ]  # as YAML has it
    return mc.Net.from_text(SMALL.replace("NAME", names[0]).replace("CONV", names[1]), seed=1)


@pytest.fixture(scope="module")
def small_report():
    return mc.report(small_net(), photos(2, 16))


def test_the_same_input_gives_the_same_bytes(small_report):
    assert mc.report(small_net(), photos(2, 16)).html == small_report.html


@needs_compiler
def test_a_net_on_a_gpu_has_the_numbers_of_one_on_the_cpu(double):
    found = []
    for device in ("cpu", "gpu"):
        mc.set_device(device)
        spec, weights = (ROOT / path for path in NETS["lenet"])
        with mc.Net(spec, weights=weights, phase="test") as net:
            text = mc.report(net, count=1, test=20, layers=["conv2"]).html
        found.append(json.loads(re.search(r'id="report">(.*?)</script>', text, re.DOTALL)[1]))
    on_cpu, on_gpu = found
    for name in ("scores", "losses"):
        np.testing.assert_allclose(on_gpu["truth"][name], on_cpu["truth"][name], rtol=1e-4, atol=1e-4)
    assert on_gpu["views"].keys() == on_cpu["views"].keys()
    assert on_gpu["views"]["test_set"]["counts"] == on_cpu["views"]["test_set"]["counts"]


def test_names_are_data():
    text = mc.report(small_net(HOSTILE, HOSTILE), photos(1, 16), class_names=[HOSTILE] * 4).html
    assert "<script>alert" not in text and "<!-- " not in text
    report = json.loads(re.search(r'id="report">(.*?)</script>', text, re.DOTALL)[1])
    assert report["title"] == HOSTILE and report["layers"][1]["name"] == HOSTILE
    assert report["classes"] == [HOSTILE] * 4


def test_json_has_no_number_that_is_none():
    assert as_json({"a": [float("nan"), np.float32(1.5), np.arange(2)]}) == '{"a":[null,1.5,[0,1]]}'


def test_a_policy_lets_the_page_load_nothing(small_report):
    assert "default-src 'none'; script-src 'unsafe-inline' blob:" in small_report.html
    assert not re.search(r'(src|href)="?(https?:|//)', small_report.html)


def test_the_page_without_data_is_at_most_100_kb():
    assert len(page("", {}, "", "", [])) <= 100_000


def test_in_a_notebook_a_report_is_a_frame_of_its_own(small_report, tmp_path):
    frame = small_report._repr_html_()
    assert frame.startswith("<iframe srcdoc=") and "height:720px" in frame and "<script" not in frame
    small_report.save(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text("utf-8") == small_report.html
    assert "report.save" in repr(small_report)


def test_a_size_that_cannot_be_reached_is_refused_before_anything_is_computed(monkeypatch):
    monkeypatch.delattr("minicaffe.inspect.report.make.record")
    with pytest.raises(DataError, match=r"0\.1\d MB at the least, more than --max-size 0\.1: the page itself, .+ "
                       r"take most; give a larger size, or fewer images$"):  # fmt: skip
        mc.report(small_net(), photos(2, 16), max_size=0.1)


def test_what_is_too_large_with_the_fewest_maps_is_refused_before_the_views_work(monkeypatch):
    """And the least size that is told is one that can be had."""
    for module in (low_rank, test_set):
        monkeypatch.delattr(module, "data")
    with mc.Net.from_text(LARGER, seed=1) as net:
        with pytest.raises(DataError, match=r"MB at the least, more than --max-size 0\.115: ") as refused:
            mc.report(net, photos(3, 48), max_size=0.115)
        monkeypatch.undo()
        least = float(re.search(r"([\d.]+) MB at the least", str(refused.value))[1])
        made = mc.report(net, photos(3, 48), max_size=least + 0.02)
    assert (least - 0.01) * 1e6 <= len(made.html) <= (least + 0.02) * 1e6


@pytest.mark.parametrize("size", [0.3, 1])
def test_what_does_not_fit_is_left_out(size):
    with mc.Net.from_text(LARGER, seed=1) as net:
        made = mc.report(net, photos(3, 48), max_size=size)
    assert 0.4 * size * 1e6 < len(made.html.encode()) <= size * 1e6


def test_a_net_without_data_needs_images():
    with pytest.raises(DataError, match="nothing to show it"):
        mc.report(small_net())


@pytest.mark.parametrize("label", [-1, "cat", 1.5, True])
def test_a_label_that_is_no_number_of_a_class_is_refused(label):
    """-1 would be taken for the last class: its gradient would be shown."""
    net = small_net()
    net.blobs["data"].data[...] = 1
    for images in (photos(2, 16), None):
        with pytest.raises(DataError, match="of image 0: give the number of a class, from 0 on"):
            mc.report(net, images, labels=[label])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"labels": [1, 4]}, "label 4 of image 1: the net has 4 classes, from 0 to 3"),
        ({"labels": [1, 2, 3]}, "3 labels for 2 images; give one for each, or None"),
        ({"class_names": ["cat", "dog"]}, "class_names: 2 names, but the net has 4 classes"),
    ],
)
def test_labels_and_names_that_do_not_fit_are_refused(given, problem):
    with pytest.raises(DataError, match=problem):
        mc.report(small_net(), photos(2, 16), **given)


def test_labels_to_a_net_with_data_are_refused():
    with pytest.raises(DataError, match="its labels come with its data"):
        mc.report(net_of("lenet"), labels=[1])


def test_a_net_whose_weights_are_0_is_told_to_want_weights(caplog):
    """As a deploy net is without its weights: Caffe's filler is 0."""
    filled = SMALL.replace("NAME", "x").replace("CONV", "conv").replace(", weight_filler: {type: xavier}", "")
    text = mc.report(mc.Net.from_text(filled), photos(1, 16)).html
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("The weights of all layers are 0") and "(--weights FILE)" in told
    assert f'"zeros":"{told}"' in text
    net = small_net()
    assert told_zeros(net) == ""
    net.params["ip"][0].data[...] = 0
    assert told_zeros(net).startswith("The weights of layer ip are 0")


@pytest.mark.parametrize(("layer", "left"), [("ip", ["conv"]), ("conv", [])])
def test_weights_that_are_nan_leave_a_report(layer, left):
    """As of a training that diverged: the report is where one looks for the layer."""
    net = small_net()
    net.params[layer][0].data[...] = np.nan
    text = mc.report(net, photos(2, 16)).html
    view = json.loads(re.search(r'id="report">(.*?)</script>', text, re.DOTALL)[1])["views"]["low_rank"]
    assert list(view.get("layers", {})) == left
    assert [layer, "its weights, or what goes into it, have nan or infinite numbers"] in view["out"]
    assert ("missing" in view) == (not left)


def test_what_the_inputs_hold_is_shown():
    net = small_net()
    net.blobs["data"].data[...] = 1
    assert '"name":"input 0"' in mc.report(net).html


def test_an_array_of_8_bits_is_off_by_half_a_step_at_most(rng):
    values = rng.normal(size=(7, 9)).astype(np.float32)
    _, lo, hi = as_bytes(values)
    np.testing.assert_allclose(restored(values), values, atol=(hi - lo) / 255 * 0.501)


@pytest.mark.parametrize("count", [5000, 50])
def test_a_packer_counts_what_it_writes(rng, count):
    packer = Packer()
    for pack in range(20):
        packer.add(rng.normal(size=count), "f32", str(pack))
    bare = sum(len(f'<script type="text/plain" id="pack-{pack}"></script>') for pack in range(20))
    assert packer.size == pytest.approx(sum(len(text) for text in packer.html()) - bare, rel=0.02)


@pytest.mark.parametrize("rung", RUNGS)
def test_a_rung_says_what_it_left_out(rung, rng):
    values = rng.normal(size=(2, 70, 30, 30)).astype(np.float32)
    reduced, how = reduce(values, rung)
    maps = list(range(70)) if how["maps"] is None else how["maps"]
    step = how["step"]
    assert reduced.shape == (2, len(maps), -(-30 // step), -(-30 // step))
    np.testing.assert_allclose(reduced[1, -1, 0, 0], values[1, maps[-1], :step, :step].mean(), atol=1e-5)
    assert (how["note"] is None) == (rung.maps in (None,) and rung.side in (None, 56))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([65504, -2, 0], "f16"),
        ([1e6, -1e6, 2], "f32"),
        ([2**-14, 1e-9], "f16"),
        ([3e-7, -1e-9], "f32"),  # gradients of deep nets: float16 would make 0 of the second
        ([0, 0], "f16"),
        ([np.inf, np.nan, 2], "f16"),
        ([], "f16"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_numbers_that_half_precision_cannot_hold_are_float32(values, dtype):
    packer = Packer()
    array = np.float32(values)
    ref = packer.add(array, "f16")
    (text,) = re.findall(r">(.*?)</script>", "".join(packer.html()))
    read = np.frombuffer(zlib.decompress(base64.b64decode(text)), f"<f{int(dtype[1:]) // 8}")[: len(values)]
    assert ref["dtype"] == dtype
    finite = np.isfinite(array)
    largest = np.abs(array[finite]).max(initial=0)
    np.testing.assert_allclose(read[finite], array[finite], atol=2**-11 * largest)
    np.testing.assert_array_equal(np.isfinite(read), finite)
    assert packed_size(np.full(5000, 1e6, np.float32)) > 0  # without a warning


def test_a_rung_averages_what_is_left_at_the_edges():
    values = np.arange(9000, dtype=np.float32).reshape(1, 1, 90, 100)
    reduced, how = reduce(values, Rung(None, 28))
    assert how["step"] == 4
    assert reduced[0, 0, -1, -1] == values[0, 0, 88:, 96:].mean()


def test_a_net_of_one_class_or_without_classes_has_no_answer():
    text = SMALL.replace("NAME", "x").replace("CONV", "conv").split("- {name: ip,")[0]
    with copy_of(mc.Net.from_text(text, seed=1)) as twin:
        recording = record(twin, from_images(mc.Classifier(twin), photos(1, 16), ()))
    assert recording.answer is None and recording.scores is None
    assert "neither a loss nor classes" in recording.no_gradient


def test_one_layer_is_said_to_be_one(caplog):
    with caplog.at_level("INFO", "minicaffe"):
        mc.report(small_net(), photos(1, 16), layers=["conv"], max_size=2)
    assert "Low rank: 1 layer, on 1 picture of this report" in caplog.text


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ((40, 1, 5, 5), "8 of 40 filters"),  # nothing of "1 of 1 slices"
        ((6, 20, 5, 5), "3 of 20 slices of each"),
        ((40, 20, 5, 5), "8 of 40 filters, 3 of 20 slices of each"),
        ((2000, 40), "8 of 2,000 rows"),
        ((1200,), "48 of 1,200 numbers"),
        ((6, 3, 9, 9), None),
    ],
)
def test_a_note_names_what_is_cut_and_nothing_else(shape, note):
    assert capped(np.zeros(shape, np.float32), (8, 3))[1] == note
