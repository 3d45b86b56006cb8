"""View 6, Backward: sizes of gradients, the chain rule, one weight, dead units; against NumPy."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.pictures import from_data
from minicaffe.inspect.report.record import copy_of, record
from minicaffe.inspect.report.test_pass import tested as pass_of
from minicaffe.inspect.report.views import backward
from tests import ROOT
from tests.report.conftest import NETS, OPTIONS, net_of

pytestmark = pytest.mark.cpu_only("a page looks the same wherever its numbers come from")
browser = pytest.mark.browser
VERDICT = "() => document.querySelector('.verdict').dataset.verdict"


def shown(text):
    """A number as the page shows it, as a float."""
    return float(text.replace("−", "-").replace("≈", "").replace(",", ""))


def test_gradients_are_those_of_central_differences(rng):
    """What is recorded is the derivative of the loss, down to the pixels. Noise keeps maxima from being equal."""
    twin = copy_of(net_of("lenet"))
    pictures = from_data(twin, 1)
    arrays = pictures.items[0].arrays
    arrays["data"] += rng.normal(0, 0.02, arrays["data"].shape)
    diff = record(twin, pictures).stages["data"].diff[0]
    spec, weights = NETS["lenet"]
    net, step = mc.Net(ROOT / spec, ROOT / weights, dtype=np.float64), 1e-5
    for k in np.argsort(-np.abs(diff).ravel())[:6]:
        pixel, losses = np.unravel_index(k, diff.shape), []
        for sign in (1, -1):
            for name, array in arrays.items():
                net.blobs[name].reshape(*array.shape)
                net.blobs[name].data[...] = array
            net.blobs["data"].data[(0, *pixel)] += sign * step
            net.run_forward(1)
            losses.append(float(net.loss()))
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(float(diff[pixel]), rel=1e-4)


def test_walks_are_kept_for_as_many_pictures_as_there_is_room(lenet_recording, monkeypatch):
    everything = backward.data(lenet_recording, Packer(), OPTIONS)
    assert len(everything["walks"]) == len(lenet_recording.images)
    monkeypatch.setattr(backward, "MOST_LINES", 20)
    assert len(backward.data(lenet_recording, Packer(), OPTIONS)["walks"]) == 2


def test_exact_gradients_leave_pictures_out_to_fit(lenet_recording):
    counts = []
    for size in (10, 1, 0.1):
        refs = backward.data(lenet_recording, Packer(), Options(test=0, max_size=size))["exact"]
        counts.append(refs["conv1"]["shape"][0] if refs else 0)
    assert counts == [4, 1, 0]


def test_dead_units_are_those_of_the_test_pass(lenet_recording):
    found = backward.data(lenet_recording, Packer(), OPTIONS)["units"]
    result = pass_of(lenet_recording, OPTIONS)
    assert found["count"] == result.count == 200
    assert [(u["name"], u["dead"], len(u["units"])) for u in found["layers"]] == [
        ("relu1", result.dead["relu1"], len(result.dead_units["relu1"]))
    ]
    few = backward.data(lenet_recording, Packer(), Options(test=0))
    assert "test images" in few["no_units"]


@pytest.mark.parametrize(
    ("wanted", "text"), [(1000, "the net's test data have only 40."), (40, "it was given 40: --test 1000.")]
)
def test_too_few_images_for_dead_units_say_whether_there_are_more(lenet_recording, monkeypatch, wanted, text):
    monkeypatch.setattr(backward, "tested", lambda *_: SimpleNamespace(count=40))
    found = backward.data(lenet_recording, Packer(), Options(test=wanted))
    assert found["no_units"] == f"Needs 100 test images to tell; {text}"


@browser
def test_sizes_are_those_of_the_recording(lenet_page, lenet_recording):
    lenet_page.at("view=backward&image=2")
    rows = lenet_page.numbers("How much do blobs change the loss?")[1:]
    found = {name: shown(value) for name, value, _ in rows}
    for layer in lenet_recording.layers:
        if layer.name in found:
            diff = lenet_recording.stages[layer.tops[0]].diff[2]
            assert found[layer.name] == pytest.approx(np.abs(diff).mean(), rel=1e-5), layer.name
    rows = lenet_page.numbers("And how much do weights?")[1:]
    assert [name for name, *_ in rows] == ["conv1", "conv2", "ip1", "ip2"]
    for name, value, _ in rows:
        diffs = lenet_recording.layer(name).param_diffs[0]
        assert shown(value) == pytest.approx(np.abs(diffs[min(2, len(diffs) - 1)]).mean(), rel=1e-5)
    assert lenet_page.js(VERDICT) == "none"


@browser
@pytest.mark.parametrize(("factor", "verdict"), [(1e-4, "vanishing"), (1e4, "exploding")])
def test_the_rule_names_what_vanishes_and_what_explodes(lenet_page, factor, verdict):
    before = lenet_page.js("R.stages.conv1.diff_mean")
    lenet_page.js("f => { R.stages.conv1.diff_mean = R.stages.conv2.diff_mean.map(v => f * v); }", factor)
    lenet_page.at("view=backward&image=1")
    assert lenet_page.js(VERDICT) == verdict
    lenet_page.js("before => { R.stages.conv1.diff_mean = before; }", before)


@browser
@pytest.mark.parametrize("image", [0, 3])
def test_every_line_of_the_walk_is_what_backward_has(lenet_page, lenet_recording, image):
    lenet_page.at(f"view=backward&part=walk&image={image}")
    lines = lenet_page.js(
        """() => [...document.querySelectorAll('.walk li')].map(li => ({
            layer: li.dataset.line, total: li.querySelector('[data-total] .num').textContent,
            exact: li.querySelector('[data-total]').dataset.total, tick: li.textContent.includes('✓'),
            place: li.querySelector('p b ~ b, p > b').textContent, sum: li.querySelector('.sum').textContent}))"""
    )
    assert [line["layer"] for line in lines] == [
        "loss", "ip2", "relu1", "ip1", "pool2", "conv2", "pool1", "conv1",
    ]  # fmt: skip
    stages = ["ip2", "ip1@relu1", "ip1@ip1", "pool2", "conv2", "pool1", "conv1", "data"]
    for line, key in zip(lines, stages, strict=True):
        index = tuple(
            int(n)
            for n in "".join(c if c.isdigit() else " " for c in line["place"].partition(", ")[2]).split()
        )
        diff = lenet_recording.stages[key].diff[image][index]
        assert line["tick"], line
        assert float(line["exact"]) == pytest.approx(diff, rel=1e-4)
        assert shown(line["total"]) == pytest.approx(diff, rel=6e-3)


@browser
def test_the_gradient_of_a_weight_is_the_net_s(lenet_page, lenet_recording, rng):
    for layer, shape in (("conv2", (50, 20, 5, 5)), ("conv1", (20, 1, 5, 5))):
        diff = lenet_recording.layer(layer).param_diffs[0][0]
        for _ in range(3):
            f, c, y, x = (int(rng.integers(n)) for n in shape)
            lenet_page.at(f"view=backward&part=weight&layer={layer}&map={f}&weight={c},{y},{x}")
            found = lenet_page.js(
                "() => Number(document.querySelector('[data-weight-gradient]').dataset.weightGradient)"
            )
            bottom = lenet_page.js(
                "key => Values.stage(key).then(stage => stage.exact)",
                {"conv1": "data", "conv2": "pool1"}[layer],
            )
            limit = 1e-4 if bottom else 0.02
            assert found == pytest.approx(diff[f, c, y, x], rel=limit, abs=limit * float(np.abs(diff).max()))
    diff = lenet_recording.layer("ip2").param_diffs[0][0]
    lenet_page.at("view=backward&part=weight&layer=ip2&map=2&weight=0,0,419")
    found = lenet_page.js(
        "() => Number(document.querySelector('[data-weight-gradient]').dataset.weightGradient)"
    )
    assert found == pytest.approx(diff[2, 419], rel=1e-4)


@browser
def test_a_weight_with_gradient_0_says_who_is_to_blame(lenet_page, lenet_recording):
    values = lenet_recording.stages["ip1@relu1"].values[0]
    silent = int(np.flatnonzero(values == 0)[0])
    lenet_page.at(f"view=backward&part=weight&layer=ip2&map=2&weight=0,0,{silent}")
    assert "because X is 0" in lenet_page.tab.locator("main").inner_text()
    lenet_page.at(f"view=backward&part=weight&layer=ip1&map={silent}&weight=0,0,0")
    assert "dL/dY is 0 for unit" in lenet_page.tab.locator("main").inner_text()


@browser
def test_the_view_is_led_by_keys(lenet_page):
    lenet_page.at("view=backward&part=sizes&layer=conv2")
    lenet_page.tab.locator("[data-part=weight]").focus()
    lenet_page.press("Enter")
    assert lenet_page.js("State.part") == "weight"
    lenet_page.tab.locator("[data-focus=weight]").focus()
    before = lenet_page.js("String(State.weight)")
    lenet_page.press("ArrowRight", "ArrowDown")
    assert lenet_page.js("State.weight") != before
    assert lenet_page.js("document.activeElement.dataset.focus") == "weight"


@browser
def test_dead_units_are_shown_beside_a_drawing_too(lenet_page):
    lenet_page.js("() => Live.ready")
    before = lenet_page.js("Live.add('drawing', new Uint8Array(4 * 28 * 28).fill(99))")
    lenet_page.at(f"view=backward&part=units&image={before}")
    assert lenet_page.tab.locator("main [data-units]").count() > 0
    lenet_page.js("n => { State.set({image: 0}); Live.remove(n); State.redraw(); }", before)


@browser
def test_a_net_without_labels_walks_from_its_best_class(open_page):
    page = open_page("quick")
    page.at("view=backward&part=walk")
    assert page.tab.locator(".walk li").count() == 12
    assert page.tab.locator(".walk .warning").count() == 0
    walk = json.loads(
        page.js("() => Pack.bytes(R.views.backward.walks[0]).then(b => new TextDecoder().decode(b))")
    )
    assert walk[0]["layer"] == "prob"


@browser
def test_a_whole_batch_has_no_weight_of_its_own(make_page, make_net):
    """A net of several inputs is shown a batch at once: its products are no product of one image."""
    net = make_net(
        "layer:\n- {name: data, type: Input, top: [data, target], "
        "input_param: {shape: [{dim: [3, 6]}, {dim: [3, 2]}]}}\n"
        "- {name: y, type: InnerProduct, bottom: data, inner_product_param: {num_output: 2, "
        "weight_filler: {type: xavier}}}\n- {name: loss, type: EuclideanLoss, bottom: [y, target]}\n"
    )
    net.blobs["data"].data[...] = 1
    page = make_page(mc.report(net))
    page.at("view=backward&part=weight")
    assert "no plain product of one image" in page.tab.locator("main").inner_text()
    page.at("view=backward&part=walk")
    assert page.tab.locator(".walk li").count() == 2
    assert page.problems == []


@browser
def test_the_line_at_the_end_of_the_net_has_its_name_and_number(lenet_page):
    lenet_page.at("view=backward")
    label = lenet_page.tab.locator(".bar .cut-label, .plot .cut-label").first
    end = lenet_page.js("fmt(R.stages.ip2.diff_mean[0])")
    assert label.text_content() == f"at the end, ip2: {end}"
    box, plot = label.bounding_box(), lenet_page.tab.locator(".chart.bar svg").first.bounding_box()
    assert plot["x"] <= box["x"] and box["x"] + box["width"] <= plot["x"] + plot["width"]


@browser
def test_no_layer_lies_at_the_end_of_the_axis_for_being_the_smallest(lenet_page):
    lenet_page.at("view=backward&image=0")
    chart = lenet_page.tab.locator(".chart.bar").first
    places = chart.evaluate(
        "node => [...node.querySelectorAll('circle.dot')].map(c => Number(c.getAttribute('cx')))"
    )
    left = chart.evaluate(
        "node => Math.min(...[...node.querySelectorAll('line.tick')].map(l => l.getAttribute('x1')))"
    )
    assert len(places) == len(lenet_page.numbers("How much do blobs change the loss?")) - 1
    assert min(places) > left + 60


@browser
def test_no_line_runs_through_a_value(lenet_page):
    lenet_page.at("view=backward&image=0")
    chart = lenet_page.tab.locator(".chart.bar").first
    line, *values = chart.evaluate(
        "node => [...node.querySelectorAll('.cut, .value')].map(n => n.getBoundingClientRect().x)"
    )
    assert len(values) == 8 and min(values) > line


@browser
@pytest.mark.parametrize("width", [1024, 1366])
def test_both_charts_of_sizes_are_on_the_first_screen(lenet_page, width):
    lenet_page.tab.set_viewport_size({"width": width, "height": 700})
    try:
        for chart in lenet_page.at("view=backward&image=0").tab.locator(".chart.bar svg").all():
            box = chart.bounding_box()
            assert box["y"] + box["height"] <= 700 and box["x"] + box["width"] <= width
    finally:
        lenet_page.tab.set_viewport_size({"width": 1366, "height": 700})


@browser
def test_maps_that_were_not_recorded_give_way_to_what_was(lenet_page):
    """What the layers in place leave, the first images, or the way to more room."""
    main = lenet_page.tab.locator("main")
    before = lenet_page.js("() => Object.fromEntries(Object.entries(R.stages).map(([k, s]) => [k, s.diff]))")
    try:
        lenet_page.js("() => { R.stages['ip1@ip1'].diff = null; }")
        lenet_page.at("view=backward&part=maps&layer=ip1")
        assert main.locator("h3").last.inner_text() == "dL/d ip1 after relu1"
        lenet_page.js("() => { R.stages['ip1@relu1'].diff.shape[0] = 1; }")
        lenet_page.at("view=backward&part=maps&layer=ip1&image=1")
        assert "Recorded for the first image alone." in main.inner_text()
        assert main.get_by_role("button", name="look at test image 0").count() == 1
        lenet_page.js("() => { R.stages['ip1@relu1'].diff = null; }")
        lenet_page.at("view=backward&part=maps&layer=ip1&image=0")
        assert "Not recorded for want of room: see --max-size." in main.inner_text()
    finally:
        lenet_page.js("before => { for (const k in before) R.stages[k].diff = before[k]; }", before)


@browser
def test_a_stage_that_is_overwritten_is_called_by_what_overwrites_it(lenet_page):
    lenet_page.at("view=backward&part=maps&layer=ip1")
    assert lenet_page.tab.locator("main h3").last.inner_text() == "dL/d ip1 before relu1"
    assert lenet_page.js("stageName('ip1@relu1')") == "ip1 after relu1"
    assert lenet_page.js("stageName('conv1')") == "conv1"


@browser
def test_a_deep_net_is_lines_over_its_layers_and_says_which_weights_are_locked(make_page):
    lines = ["- {name: data, type: Input, input_param: {shape: {dim: [1, 1, 2, 2]}}}"]
    for i in range(42):
        locked = "param: {lr_mult: 0}, " if i == 3 else ""
        fields = "num_output: 4, bias_term: false, weight_filler: {type: xavier}"
        lines.append(f"- {{name: ip{i}, type: InnerProduct, {locked}inner_product_param: {{{fields}}}}}")
    lines.append("- {name: prob, type: Softmax}")
    net = mc.Net.from_text("layer:\n" + "\n".join(lines), seed=2)
    page = make_page(mc.report(net, [np.full((2, 2, 1), 0.5, np.float32)]))
    sizes = page.at("view=backward").numbers("How much do blobs change the loss?")
    truth = page.js("() => R.stages.ip7.diff_mean[0]")
    assert [shown(row[1]) for row in sizes if row[0] == "8"] == [pytest.approx(truth, rel=1e-3)]
    assert "No gradient of the weights of ip3 (lr_mult 0)" in page.tab.locator("main").inner_text()
    assert page.at("view=backward&part=walk").tab.locator("details .chain").count() == 1
    assert page.problems == []


def test_a_loss_of_0_is_said_to_have_no_gradient(open_page):
    page = open_page("quick")
    page.js("() => { globalThis.lossBefore = R.loss.values[0]; R.loss.values[0] = 0; }")
    page.at("view=backward")
    said = page.tab.locator("main .loss").inner_text()
    page.js("() => { R.loss.values[0] = lossBefore; }")
    assert said.endswith(": 0, the least it can be: all gradients before it are 0")
    page.at("view=backward")
    assert "the least" not in page.tab.locator("main .loss").inner_text()
