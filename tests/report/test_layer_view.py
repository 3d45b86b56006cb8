"""View 2: what goes into a layer, its weights and what comes out, together; what is said of its own numbers."""

import json
import re

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.inspect.report.ladder import evenly
from minicaffe.inspect.report.pictures import from_images
from minicaffe.inspect.report.record import record
from minicaffe.inspect.report.says import said
from minicaffe.inspect.report.weights import capped
from tests.report.conftest import photos, recording_of

pytestmark = pytest.mark.cpu_only("of texts and pages: no device computes here")

MANY = """
name: many
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 3, 40, 40]}}}
- name: conv
  type: Convolution
  low_rank_param: {rank: 9}
  convolution_param: {num_output: 96, kernel_size: 3, pad: 1, bias_term: false, weight_filler: {type: msra}}
- {name: bn, type: BatchNorm, bottom: conv, top: conv}
- {name: scale, type: Scale, bottom: conv, top: conv}
- {name: relu, type: ReLU, bottom: conv, top: conv}
- {name: lrn, type: LRN, lrn_param: {local_size: 3}}
- name: wide
  type: Convolution
  convolution_param: {num_output: 700, kernel_size: 3, stride: 4, weight_filler: {type: msra}}
- {name: pool, type: Pooling, bottom: wide, top: pool, pooling_param: {pool: AVE, kernel_size: 2, stride: 2}}
- {name: again, type: Pooling, bottom: wide, top: again, pooling_param: {kernel_size: 2, stride: 2}}
- {name: sum, type: Eltwise, bottom: [pool, again], top: sum, eltwise_param: {coeff: [1, -1]}}
- {name: both, type: Concat, bottom: [pool, sum], top: both}
- {name: parts, type: Slice, bottom: both, top: [one, two], slice_param: {slice_point: 200}}
- {name: hush, type: Silence, bottom: [one, two]}
- {name: all, type: Pooling, bottom: both, top: all, pooling_param: {pool: AVE, global_pooling: true}}
- {name: ip, type: InnerProduct, bottom: all, top: ip, inner_product_param: {num_output: 5}}
- {name: prob, type: Softmax, bottom: ip, top: prob}
"""
BOXES = """selectors => selectors.map(s => {
  const node = document.querySelector(s);
  if (!node) return null;
  const r = node.getBoundingClientRect();
  return [r.left, r.top, r.right, r.bottom];
})"""


def many_net():
    return mc.Net.from_text(MANY, seed=3)


@pytest.fixture(scope="module")
def many_report():
    """A report that does not run in the page and has room for some of the maps only."""
    return mc.report(many_net(), photos(2, 40), max_size=1.2)


@pytest.fixture(scope="module")
def many_page(many_report, make_page):
    return make_page(many_report)


@pytest.mark.parametrize("width", [1366, 1024])
@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_the_first_screen_has_the_picture_the_filter_its_map_and_all_of_them(open_page, layer, width):
    page = open_page("quick")
    page.tab.set_viewport_size({"width": width, "height": 700})
    page.at(f"view=layer&layer={layer}&map=3")
    wanted = [
        ".layer-first > .patch canvas",
        ".scene [aria-label^='filter 3']",
        f".scene [data-focus^=pixels-{layer}]",
        ".grid .cell [aria-label^='filter 0']",
    ]
    boxes = page.js(BOXES, wanted)
    cell = page.js(BOXES, [".grid .cell"])[0]
    page.tab.set_viewport_size({"width": 1366, "height": 700})
    assert None not in boxes
    assert max(box[2] for box in boxes) <= width and max(box[3] for box in boxes) <= 700
    assert cell[1] + 100 <= 700  # the maps below the filters, too


def test_a_cell_has_a_filter_and_its_own_map(many_page):
    page = many_page.at("view=layer&layer=wide")
    found = page.js(
        """() => [...document.querySelectorAll(".grid .cell")].map(cell => [
          cell.dataset.map, ...[...cell.querySelectorAll("canvas")].map(c => c.getAttribute("aria-label"))])"""
    )
    assert 3 < len(found) < 700
    for number, above, below in found:
        assert above.startswith(f"filter {number},") and below.startswith(f"wide, map {number},")
    assert page.problems == []


def test_filters_and_maps_that_are_carried_are_those_of_the_same_channels():
    array = np.arange(96 * 40, dtype=np.float32).reshape(96, 40, 1, 1)
    shown, note, (rows, columns) = capped(array, (16, 8))
    assert rows == evenly(96, 16) and columns == evenly(40, 8)
    assert note == "16 of 96 filters, 8 of 40 slices of each"
    np.testing.assert_array_equal(shown, array[rows][:, columns])
    for total in (40, 96, 700):
        assert set(evenly(total, 16)) <= set(evenly(total, 32))


def test_a_stage_has_one_name_and_what_is_shown_instead_is_said(many_page):
    names = many_page.js("['conv@conv', 'conv@bn', 'conv@scale', 'conv@relu'].map(stageName)")
    assert names == ["conv before bn", "conv after bn", "conv after scale", "conv after relu"]
    many_page.at("view=layer&layer=bn")
    many_page.js("() => { window.kept = R.stages['conv@bn'].values; R.stages['conv@bn'].values = null; }")
    text = many_page.at("view=layer&layer=bn").tab.locator(".layer-cards").inner_text()
    many_page.js("() => { R.stages['conv@bn'].values = window.kept; }")
    assert "each below" not in text and "40 × 40: conv after relu" in text
    assert "bn's own are not in this file" in text
    assert "as it is after" not in text


def test_one_text_alone_asks_for_a_pixel(lenet_page, many_page):
    for page, layer in ((lenet_page, "pool1"), (many_page, "sum"), (many_page, "lrn")):
        text = page.at(f"view=layer&layer={layer}").tab.locator("main").inner_text()
        assert text.count("hoose a pixel") == 1, layer


def test_a_layer_of_low_rank_opens_view_3_at_its_two_products(many_page):
    step = many_page.tab.locator('.conv-step[aria-checked="true"]')
    assert many_page.at("view=convolution&layer=conv").tab.locator("h2").inner_text() == "Convolution: conv"
    assert step.inner_text() == "6 rank r"
    many_page.press("b", "b")
    assert step.inner_text() == "6 rank r"
    assert many_page.at("view=convolution&layer=conv&step=4").js("State.step") == "4"
    many_page.at("view=convolution&layer=wide")
    assert step.inner_text() == "5 output"


def test_the_label_of_the_input_begins_with_the_map_and_its_number(lenet_page):
    lenet_page.at("view=convolution&layer=conv2&at=2,2,30")
    assert lenet_page.tab.locator(".conv-label").first.inner_text().startswith("map 1 of pool1 (0 … 19)")


def test_a_parameter_of_zeros_says_so_in_place_of_a_chart(many_page):
    many_page.at("view=layer&layer=wide")
    text = many_page.tab.locator(".layer-cards").inner_text()
    assert "How large is b (700)?\nAll 700 are 0." in text.replace("\n\n", "\n")
    assert many_page.tab.locator('[data-chart="How large is b (700)?"]').count() == 0


def test_units_are_called_by_their_classes_in_the_scores_that_a_softmax_takes(open_page):
    page = open_page("quick").at("view=layer&layer=ip2")
    assert page.js("R.answer") == "prob"
    names = [row[0] for row in page.numbers("What is in ip2?")[1:]]
    assert names == page.js("R.classes") and "truck" in names
    assert not page.js("isOfClasses('ip1')")


def test_a_label_is_a_whole_number(lenet_page):
    lenet_page.at("view=layer&layer=mnist&image=0")
    label = lenet_page.js("R.images[0].label")
    card = lenet_page.tab.locator(".layer-card", has_text="label: one number")
    assert card.inner_text().split("\n")[-1] == str(label)


def test_the_sum_of_a_unit_is_what_the_layer_gives(lenet_page):
    ip = recording_of("lenet").stages["ip2"].values[0]
    lenet_page.at("view=layer&layer=ip2&image=0&map=7")
    assert "unit" in lenet_page.tab.locator('[data-focus="unit"]').get_attribute("aria-label")
    shown = lenet_page.tab.locator(".scene .sign .num").get_attribute("title").replace("−", "-")
    assert float(shown) == pytest.approx(float(ip[7]), rel=1e-4)
    lenet_page.tab.locator('[data-focus="unit"]').fill("2")
    assert lenet_page.press("Enter").js("State.map") == 2


SAID = {
    "data": ["3 × 40 × 40 numbers for each picture"],
    "conv": ["Each of the 96 filters slides over the picture"],
    "bn": ["From each map its mean is subtracted"],
    "scale": ["Each map is multiplied by a learned number (1)."],
    "relu": ["those below become 0"],
    "lrn": ["by the power 0.75 of 1 + 0.333333 · the sum of the squares in 3 neighbouring maps"],
    "wide": ["Each of the 700 filters slides over all 96 maps of lrn"],
    "pool": ["the mean of 2 × 2 pixels", "10 × 10 become 5 × 5"],
    "again": ["the largest of 2 × 2 pixels"],
    "sum": ["pool and again, times 1, -1, of 700 × 5 × 5 numbers each, are added"],
    "both": ["700 + 700 = 1400 maps"],
    "parts": ["1400 × 5 × 5 numbers are cut into 2 parts: 200 × 5 × 5 and 1200 × 5 × 5."],
    "hush": ["Takes blobs that no other layer takes"],
    "all": ["Of each of the 1400 maps of both one number is left: the mean of its pixels."],
    "ip": ["Each of the 5 outputs is a sum of the 1,400 numbers of all"],
    "prob": ["5 scores of ip become probabilities"],
}


def test_what_is_written_of_a_sum_at_a_pixel_is_true(many_page):
    many_page.at("view=layer&layer=sum&at=1,1")
    line = many_page.tab.locator("main p", has_text="row 1, column 1:").inner_text()
    numbers = [float(text.replace("−", "-")) for text in re.findall(r"−?[\d.]+", line.split(":")[1])]
    a, factor, b, y = numbers
    assert factor == -1 and "=" in line
    assert y == pytest.approx(a - b, abs=0.1), line


def test_each_layer_says_what_it_does_with_its_own_numbers():
    net = many_net()
    recording = record(net, from_images(mc.Classifier(net), photos(1, 40), ()))
    told = {layer.name: said(layer, recording) for layer in recording.layers if layer.type != "Split"}
    assert told.keys() == SAID.keys()
    for name, parts in SAID.items():
        assert told[name]["try"]
        for part in parts:
            assert part in told[name]["say"].replace("\u00a0", " "), name


def test_no_layer_is_without_a_sentence(report_named):
    for name in ("lenet", "quick", "rnet"):
        data = json.loads(re.search(r'id="report">(.*?)</script>', report_named(name).html, re.DOTALL)[1])
        assert all(layer["say"].endswith(".") and layer["try"] for layer in data["layers"])


def test_the_view_of_a_layer_of_each_type_is_drawn(many_page):
    for layer in SAID:
        many_page.at(f"view=layer&layer={layer}&at=1,1")
        assert many_page.tab.locator("main .error").count() == 0, layer
        assert many_page.tab.locator(".layer-first > .patch canvas").count() == 1, layer
    assert many_page.problems == []
