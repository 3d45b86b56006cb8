"""View 4 in Chromium: its numbers are those of the factors that minicaffe fits; keys and handles move the rank."""

import re
from itertools import pairwise

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.compress.fitting import layer_fits
from minicaffe.compress.survey import input_moments, matrix_layer
from minicaffe.compress.ways import WAYS
from minicaffe.inspect.report.make import make_report
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pictures import from_data
from minicaffe.inspect.report.record import copy_of
from minicaffe.inspect.report.seen_images import seen_images
from minicaffe.inspect.report.views.low_rank import choose_layers, images_for
from minicaffe.low_rank.factorization import svd
from minicaffe.spec.net import parse_net
from tests import ROOT
from tests.report.conftest import net_of

pytestmark = [
    pytest.mark.browser,
    pytest.mark.cpu_only("of a page: test_low_rank_view checks on the double what is computed"),
]
RANKS = (1, 6, 12, 24, 45)
TWIN = "prototxt/lenet/train.yaml"


@pytest.fixture(scope="module")
def conv2():
    """LeNet's conv2 as a matrix, its bias, and the moments of its inputs that the report's errors are of."""
    with copy_of(net_of("lenet")) as net:
        layers, _ = choose_layers(net)
        seen = seen_images(net, (), images_for(net, layers))
        layer = layers["conv2"]
        moments = input_moments(net, [layer], seen.batches)["conv2"]
        return layer, moments


def approximation(layer, moments, way, rank):
    """W (M, K) of a rank and its bias (M,), by what fits layers in earnest."""
    if way == "weights":
        left, right = svd(layer.weights.astype(np.float64)).truncate(rank).factors()
        return (left @ right)[0], layer.bias
    kind = "DATA" if way == "data" else "CHANNEL"
    found = layer_fits(kind, layer.scheme, moments, layer.weights, layer.bias).fit(rank)
    return (found.left @ found.right)[0], layer.bias + layer.bias_change(
        way, moments, layer.directions(way, moments), rank
    )


def shown(text):
    return float(text.replace(",", "").replace("−", "-"))


def read(page, what):
    return page.tab.locator(f'[data-read="{what}"]').first.inner_text()


@pytest.mark.parametrize("rank", RANKS)
def test_read_outs_are_those_of_the_fitted_factors(lenet_page, conv2, rank):
    layer, moments = conv2
    lenet_page.at(f"view=low_rank&layer=conv2&rank={rank}")
    w, second = layer.weights[0].astype(np.float64), moments.second[0]
    for way in WAYS:
        low, bias = approximation(layer, moments, way, rank)
        lost = w - low
        change = (bias - layer.bias).astype(np.float64)
        mean = lost @ moments.x_mean[0]
        square = np.einsum("mk,kl,ml", lost, second, lost) - 2 * change @ mean + change @ change
        error = np.sqrt(square / np.einsum("mk,kl,ml", w, second, w))
        assert shown(read(lenet_page, f"response-{way}")) == pytest.approx(error, rel=6e-3)
        of_weights = np.linalg.norm(lost) / np.linalg.norm(w)
        assert shown(read(lenet_page, f"weight-{way}")) == pytest.approx(of_weights, rel=6e-3)
    assert shown(read(lenet_page, "parameters")) == rank * 550
    assert shown(read(lenet_page, "multiply-adds")) == rank * 550 * 64
    assert ("cheaper" in read(lenet_page, "break-even")) == (rank > 45)


@pytest.mark.parametrize("way", WAYS)
def test_the_page_s_own_weights_and_scores_are_those_of_the_fitted_factors(lenet_page, conv2, way):
    layer, moments = conv2
    expected, bias = approximation(layer, moments, way, 12)
    lenet_page.at(f"view=low_rank&layer=conv2&way={way}&rank=12&ranks=conv2:12")
    found = lenet_page.js(
        "async way => { const f = await Rank.factors('conv2', 12, way); "
        "return {A: [...f.A], B: [...f.B], bias: [...f.bias], shapes: f.shapes}; }",
        way,
    )
    left, right = (np.reshape(found[name], found["shapes"][name]) for name in "AB")
    np.testing.assert_allclose(left @ right, expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(found["bias"], bias - layer.bias, atol=2e-3)
    with copy_of(net_of("lenet")) as net:
        blobs = net.params["conv2"]
        blobs[0].data[...] = expected.reshape(50, 20, 5, 5)
        blobs[1].data[...] = bias
        data = from_data(net, 1).items[0].arrays
        for name, array in data.items():
            net.blobs[name].reshape(*array.shape)
            net.blobs[name].data[...] = array
        net.run_forward(1)
        scores = net.blobs["ip2"].data[0]
    live = lenet_page.js(
        "async () => { await Live.ready; const {params} = await Rank.params({conv2: 12}); "
        "return [...(await Live.forward(await Values.input(0), {params}))[R.answer]]; }"
    )
    np.testing.assert_allclose(live, scores, atol=3e-3 * np.abs(scores).max())
    said = lenet_page.tab.locator("#rank-verdict").inner_text()
    best, p = re.search(r"→ class (\d) \(([\d.]+)\) at rank 12", said).groups()
    powers = np.exp(scores - scores.max())
    assert int(best) == scores.argmax() and float(p) == pytest.approx(1 / powers.sum(), abs=0.01)


def test_keys_and_the_slider_move_the_rank_and_the_address_follows(lenet_page):
    lenet_page.at("view=low_rank&layer=conv2&rank=12").press("]", "]", "[")
    assert lenet_page.js("State.hash()").endswith("rank=13&ranks=conv2%3A13")
    assert read(lenet_page, "parameters") == "7,150"
    lenet_page.press("}")
    assert read(lenet_page, "parameters") == f"{23 * 550:,}"
    slider = lenet_page.tab.get_by_label("rank of conv2").first.bounding_box()
    mouse, y = lenet_page.tab.mouse, slider["y"] + slider["height"] / 2
    mouse.move(slider["x"] + slider["width"] / 2, y)
    mouse.down()
    mouse.move(slider["x"] + 2, y, steps=3)
    lenet_page.tab.locator('[data-read="parameters"]', has_text="550").first.wait_for()  # while it is held
    assert "rank=23" in lenet_page.js("State.hash()")
    mouse.up()
    lenet_page.press("w", "r")
    assert "ranks=none" in lenet_page.js("State.hash()")  # all dense, above and in the table
    assert "rank 50 of 50" in lenet_page.tab.locator("#rank-cost").inner_text()
    assert lenet_page.tab.locator("#rank-plan").get_by_label("rank of conv2").input_value() == ""


def test_as_it_is_opened_the_rank_above_is_that_of_the_whole_net_s_table(lenet_page):
    lenet_page.js("Live.ready")
    for layer, rank in (("conv2", 12), ("ip1", 125)):
        lenet_page.at(f"view=low_rank&layer={layer}")
        assert f"rank {rank} of" in lenet_page.tab.locator("#rank-cost").inner_text()
        assert lenet_page.tab.locator("#rank-plan").get_by_label(f"rank of {layer}").input_value() == str(
            rank
        )
        said = lenet_page.tab.locator("#rank-verdict").inner_text()
        p = re.search(r"→ class \d \(([\d.]+)\)", said)[1]
        assert lenet_page.tab.locator("#rank-scores tr").nth(1).locator("td").nth(2).inner_text() == p
    lenet_page.at("view=low_rank&layer=conv2&ranks=ip1:40")  # of a plan without it: as in the net
    assert "rank 50 of 50" in lenet_page.tab.locator("#rank-cost").inner_text()


def test_each_error_says_of_what_it_is_and_leads_to_the_other(lenet_page):
    lenet_page.at("view=low_rank&layer=conv2&rank=12")
    main = lenet_page.tab.locator("#main")
    assert "‖Y − Ŷ‖ / ‖Y‖ over 512 training images, 32,768 columns of X; for this image" in main.inner_text()
    main.get_by_role("button", name="view 3, step 6").click()
    lenet_page.tab.locator(".view[data-view=convolution] .conv-sentence").wait_for()
    assert "to this image are off by" in lenet_page.drawn().tab.locator(".conv-sentence").inner_text()
    main.get_by_role("button", name="view 4").click()
    lenet_page.tab.locator(".view[data-view=low_rank] #rank-cost", has_text="rank 12 of 50").wait_for()


def test_the_accuracy_s_axis_begins_at_a_tick_and_no_dot_is_cut(lenet_page):
    lenet_page.at("view=low_rank&layer=conv2")
    chart = lenet_page.tab.locator('[data-chart^="How often is the net right"] svg')
    texts, dots, clips = chart.evaluate(
        "svg => [[...svg.querySelectorAll('text')].map(t => t.textContent), svg.querySelectorAll('.dot').length, "
        "svg.querySelectorAll('.dot[clip-path]').length]"
    )
    assert {"0", "1"} <= {*texts} and clips == 0
    points = lenet_page.js("R.views.low_rank.accuracy.points.conv2")
    assert dots == sum(map(len, points.values()))


def test_the_cut_of_a_chart_can_be_dragged(lenet_page):
    lenet_page.at("view=low_rank&layer=conv2&rank=12")
    box = lenet_page.tab.locator('[data-chart="How fast do the directions fade?"] svg').bounding_box()
    mouse, y = lenet_page.tab.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + 60, y)
    mouse.down()
    mouse.move(box["x"] + 61, y)
    mouse.move(box["x"] + 59, y)
    mouse.up()
    lenet_page.tab.locator('[data-read="parameters"]', has_text="550").first.wait_for()
    lenet_page.drawn()
    assert "rank=1&" in lenet_page.js("State.hash()")
    lenet_page.tab.get_by_role("group", name="How fast do the directions fade").focus()
    lenet_page.press("ArrowRight", "ArrowRight")  # the same by keys
    assert read(lenet_page, "parameters") == f"{3 * 550:,}"


def test_the_plan_of_the_whole_net_has_lines_for_the_spec_that_minicaffe_reads(lenet_page):
    lenet_page.at("view=low_rank&layer=conv2&way=weights&ranks=conv2:12,ip1:40")
    text = lenet_page.tab.get_by_label("lines for the spec").input_value()
    assert text == "- name: conv2\n  low_rank_param: {rank: 12}\n- name: ip1\n  low_rank_param: {rank: 40}\n"
    spec = (ROOT / TWIN).read_text()
    for name, rank in (("conv2", 12), ("ip1", 40)):
        spec = spec.replace(f"- name: {name}\n", f"- name: {name}\n  low_rank_param: {{rank: {rank}}}\n")
    with mc.Net(parse_net(spec, str(ROOT / TWIN))) as net:
        work = sum(step.multiply_adds for step in net.steps)
    rows = lenet_page.tab.locator("#rank-plan tfoot tr").first.inner_text()
    assert f"{work:,}" in rows


def test_what_is_measured_on_test_images_is_their_accuracy(lenet_page):
    lenet_page.at("view=low_rank&layer=conv2&way=weights&ranks=conv2:2,ip1:3")
    lenet_page.js("async () => { await Live.ready; R.views.low_rank.test.count = 20; }")
    with copy_of(net_of("lenet")) as net:
        layers = {
            step.layer.name: matrix_layer(step) for step in net.steps if step.layer.name in ("conv2", "ip1")
        }
        lows = {
            name: (svd(x.weights.astype(np.float64)).truncate({"conv2": 2, "ip1": 3}[name]).factors())
            for name, x in layers.items()
        }
        for name, (left, right) in lows.items():
            blob = net.params[name][0]
            blob.data[...] = (left @ right).reshape(blob.shape)
        net.blobs["data"].reshape(20, 1, 28, 28)
        net.blobs["data"].data[...] = np.reshape(
            lenet_page.js(
                "async () => [...(await Pack.array(R.views.low_rank.test.planes[0])).subarray(0, 20 * 784)]"
            ),
            (20, 1, 28, 28),
        )
        net.blobs["label"].reshape(20)
        net.blobs["label"].data[...] = lenet_page.js("R.views.low_rank.test.labels.slice(0, 20)")
        net.run_forward(1)
        accuracy = float(net.blobs["accuracy"].data)
    assert 0.1 < accuracy < 1
    lenet_page.tab.get_by_role("button", name="measure on").click()
    said = lenet_page.tab.locator("#rank-measured", has_text="right (dense")
    said.wait_for(timeout=20_000)
    assert said.inner_text().startswith(f"conv2 2, ip1 3: {100 * accuracy:.1f} % of 20 right (dense ")


def test_a_layer_of_low_rank_starts_at_the_rank_of_its_spec(make_page):
    spec = (ROOT / TWIN).read_text()
    for name, param in (("conv2", "{rank: 9}"), ("ip2", "{rank: 5, factored: true}")):
        spec = spec.replace(f"- name: {name}\n", f"- name: {name}\n  low_rank_param: {param}\n")
    net = mc.Net(
        parse_net(spec, str(ROOT / TWIN)), weights=ROOT / "models" / "lenet.npz", phase="test", seed=0
    )
    with copy_of(net) as twin:
        report = make_report(twin, from_data(twin, 1), Options(test=0, layers=("conv2", "ip2")))
    page = make_page(report)
    page.at("view=low_rank&layer=conv2")
    assert read(page, "parameters") == f"{9 * 550:,}"
    assert page.tab.get_by_label("rank of conv2").first.input_value() == "9"
    assert page.tab.locator("#rank-class").inner_text().startswith("It keeps its class.")
    assert "this net" in page.tab.locator("#rank-scores").inner_text()
    assert read(page, "response-weights").startswith("0.515")  # of dense answers
    page.at("view=low_rank&layer=ip2&rank=5")
    assert shown(read(page, "response-weights")) == pytest.approx(0, abs=1e-3)
    # a smaller rank fits into the net's two layers; a larger one does not
    small, large = page.js(
        "async () => [await Rank.params({conv2: 5, ip2: 3}), await Rank.params({conv2: 10})]"
    )
    assert small["left"] == [] and len(small["params"]) == 6
    assert large["left"] == ["conv2"]
    assert page.problems == []


@pytest.mark.parametrize("layer", ["conv2", "ip1"])
@pytest.mark.parametrize("width", [1024, 1366])
def test_rank_cost_accuracy_filters_and_charts_with_their_axes_are_in_the_first_screen(
    lenet_page, width, layer
):
    lenet_page.tab.set_viewport_size({"width": width, "height": 700})
    lenet_page.at(f"view=low_rank&layer={layer}")
    main = lenet_page.tab.locator("main")
    main.evaluate("main => { main.scrollTop = 0; }")
    order = ["#rank-slider", "#rank-cost", "#rank-right", ".small canvas", '[data-chart^="How fast"] svg']
    tops = [main.locator(what).first.bounding_box()["y"] for what in order]
    charts = [main.locator(f'[data-chart^="How {what}"] svg').bounding_box() for what in ("fast", "far")]
    table = main.locator("#rank-readings").bounding_box()["y"]
    lenet_page.tab.set_viewport_size({"width": 1366, "height": 700})
    assert tops == sorted(tops) and all(box["y"] + box["height"] <= 700 for box in charts)
    assert (table < charts[0]["y"]) == (width == 1366)
    assert re.fullmatch(
        r"[\d.]+ % of 200 test images right, measured with this layer alone at rank \d+; [\d.]+ % as it is\.",
        main.locator("#rank-right").inner_text(),
    )


def test_the_name_of_an_axis_is_clear_of_its_numbers(lenet_page):
    lenet_page.at("view=low_rank&layer=conv2")
    gaps = lenet_page.js("""() => [...document.querySelectorAll('[data-chart^="How fa"] svg')].map(svg => {
      const boxes = [...svg.querySelectorAll('text')].filter(text => text.textContent)
        .map(text => text.getBoundingClientRect()).sort((a, b) => a.top - b.top);
      return boxes[1].top - boxes[0].bottom; })""")
    assert len(gaps) == 2 and min(gaps) >= 0


def test_charts_stand_beside_each_other_next_to_a_wide_drawing(lenet_page):
    set_width = "width => { document.getElementById('rail').style.width = width; }"
    before = lenet_page.js("() => document.getElementById('rail').style.width")
    lenet_page.tab.set_viewport_size({"width": 1024, "height": 700})
    lenet_page.js(set_width, "354px")  # as wide as GoogLeNet's
    lenet_page.at("view=low_rank&layer=conv2")
    tops = [
        lenet_page.tab.locator(f'main [data-chart^="How {what}"] svg').bounding_box()["y"]
        for what in ("fast", "far")
    ]
    lenet_page.js(set_width, before)
    lenet_page.tab.set_viewport_size({"width": 1366, "height": 700})
    assert tops[0] == tops[1]


@pytest.mark.parametrize("layer", ["conv2", "ip1"])
def test_names_at_the_ends_of_lines_do_not_overlap(lenet_page, layer):
    lenet_page.at(f"view=low_rank&layer={layer}")
    for chart in lenet_page.tab.locator("#main .chart.line").all():
        boxes = chart.evaluate(
            "chart => [...chart.querySelectorAll('.end')].map(e => e.getBoundingClientRect())"
            ".map(b => [b.top, b.bottom]).sort((a, b) => a[0] - b[0])"
        )
        assert len(boxes) == 3
        assert all(a[1] <= b[0] + 0.5 for a, b in pairwise(boxes)), boxes


def test_an_axis_has_as_many_ticks_as_there_is_room_for(lenet_page):
    ticks = "([log, lo, hi, from, to]) => Chart.scale({log, lo, hi}, [], from, to).ticks"
    assert lenet_page.js(ticks, [True, 1e-4, 1, 130, 0]) == pytest.approx([1e-4, 1e-3, 1e-2, 0.1, 1])
    assert lenet_page.js(ticks, [True, 0.1, 1, 130, 0]) == pytest.approx([0.1, 0.2, 0.5, 1])
    assert lenet_page.js(ticks, [True, 1, 64, 0, 330]) == [1, 2, 5, 10, 20, 50]
    assert lenet_page.js(ticks, [True, 1e-12, 1, 130, 0]) == pytest.approx([10**e for e in range(-12, 1, 2)])
    assert lenet_page.js(ticks, [True, 1e-3, 0.1, 46, 0]) == pytest.approx(
        [1e-3, 0.1]
    )  # never those of a line
    assert lenet_page.js(ticks, [True, 3, 4, 0, 330]) == pytest.approx([3, 3.2, 3.4, 3.6, 3.8, 4])
    assert lenet_page.js(ticks, [False, 1, 64, 0, 180]) == [20, 40, 60]


def test_a_small_difference_is_drawn_in_stronger_colours_and_that_is_said(lenet_page):
    lenet_page.at("view=low_rank&layer=conv2&rank=40")
    figure = lenet_page.tab.locator("#rank-pictures figure", has_text="colours ×").last
    assert int(re.search(r"colours ×(\d+)", figure.inner_text())[1]) > 5
    darkest = figure.locator("canvas").evaluate(
        "c => Math.min(...c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    )
    assert darkest < 60  # of 255 in each channel, as of the exact map


SHARED = """
layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 8, 10, 10]}}}
- {name: one, type: Convolution, convolution_param: {num_output: 8, kernel_size: 3, pad: 1,
   weight_filler: {type: xavier}}, param: [{name: w}, {name: b}]}
- {name: two, type: Convolution, convolution_param: {num_output: 8, kernel_size: 3, pad: 1,
   weight_filler: {type: xavier}}, param: [{name: w}, {name: b}]}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 5, weight_filler: {type: xavier}}}
- {name: prob, type: Softmax}
"""


def test_a_rank_is_for_one_of_two_layers_that_share_their_weights(make_page):
    with mc.Net.from_text(SHARED, seed=1) as net:
        net.blobs["x"].data[...] = np.random.default_rng(3).normal(size=(1, 8, 10, 10))
        report = mc.report(net)
        spec = SHARED.replace("name: one,", "name: one, low_rank_param: {rank: 3},")
        with mc.Net.from_text(spec, seed=1) as low:
            low.params["one"][0].data[...] = net.params["one"][0].data
            low.params["ip"][0].data[...] = net.params["ip"][0].data
            low.blobs["x"].data[...] = net.blobs["x"].data
            low.run_forward(1)
            expected = low.blobs["prob"].data[0]
    page = make_page(report)
    page.at("view=low_rank&layer=one&way=weights&rank=3")
    assert "one shares its weights with two:" in page.tab.locator("#main").inner_text()
    np.testing.assert_allclose(
        page.js("async () => { await Live.ready; return [...(await Rank.scores({one: 3})).low]; }"),
        expected,
        atol=1e-3,
    )
    held = "ranks => Rank.totals(ranks).held - R.totals.parameters"
    factors = 3 * (8 + 72)
    assert page.js(held, {"one": 3}) == factors  # W stays, for two
    assert page.js(held, {"one": 3, "two": 3}) == 2 * factors - 8 * 72
    lines = page.js("State.set({way: 'fitted'}), Rank.yaml({one: 3})")
    mc.Net.from_text(SHARED.replace("name: one,", "name: one, " + lines.split("\n")[1].strip() + ","))
    assert page.problems == []
