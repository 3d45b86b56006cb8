"""View 3: its numbers are NumPy's, whatever the window; it is led by keys, and fits on one screen."""

import re

import numpy as np
import pytest

from minicaffe.inspect.report.make import make_report
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pictures import Picture, Pictures
from minicaffe.inspect.report.record import copy_of, record
from minicaffe.ops.convolution.reference import im2col
from tests.report.conftest import recording_of
from tests.report.test_engine import every_step

pytestmark = pytest.mark.browser


def number(text):
    return float(text.replace("−", "-"))


def read(page, name):
    """A number of the sum under the picture, and half a unit of its last digit."""
    text = page.tab.locator(f'.conv-sum [data-read="{name}"]').text_content()
    return number(text), 0.5 * 10.0 ** -len(text.partition(".")[2])


def column_of(recording, name, image=0):
    """X (K, P) of a layer for one image, from the reference im2col; and W (M, K)."""
    layer = recording.layer(name)
    x = recording.stages[layer.bottoms[0]].values[image][..., None]
    w = layer.params[0]
    return im2col(x, layer.layer.window).reshape(
        -1, x.shape[-1] * int(np.prod(layer.layer.products[0].geometry.output))
    ), w.reshape(len(w), -1)


def test_twenty_sums_are_those_of_numpy_to_the_digits_shown(lenet_page):
    lenet_page.js("() => Live.ready")
    recording = recording_of("lenet")
    bias = recording.layer("conv2").params[1]
    x, w = column_of(recording, "conv2")
    rng = np.random.default_rng(4)
    for _ in range(20):
        f, p, k = rng.integers(50), rng.integers(64), rng.integers(500)
        lenet_page.at(f"view=convolution&layer=conv2&map={f}&at={p // 8},{p % 8},{k}")
        c = k // 25
        terms = w[f].astype(np.float64) * x[:, p]
        expected = {
            "own": terms[25 * c : 25 * c + 25].sum(),
            "all": terms.sum(),
            "bias": bias[f],
            "total": terms.sum() + bias[f],
            "net": recording.stages["conv2"].values[0][f].ravel()[p],
        }
        for name, value in expected.items():
            shown, half = read(lenet_page, name)
            assert abs(shown - value) <= half * 1.001 + 1e-5, (name, f, p, k)


def test_of_a_number_in_8_bits_no_digit_is_shown_that_it_does_not_have(lenet_page):
    lenet_page.at("view=convolution&layer=conv2&step=b4&image=0")
    lenet_page.tab.locator('.conv-sum [data-read="net"]').wait_for()
    ref = lenet_page.js("R.stages.pool1.diff")
    (total, _), (net, half) = read(lenet_page, "total"), read(lenet_page, "net")
    off = (ref["hi"] - ref["lo"]) / 510
    assert off / 2 <= half <= 10 * off and abs(total - net) <= off + half


@pytest.fixture(scope="module")
def odd_windows(make_page):
    """The page of a net with padding, strides, dilation and groups, and its recording."""
    net = every_step(random_pool="AVE")  # STOCHASTIC pooling has no gradient in phase test
    x = np.random.default_rng(8).normal(size=(1, 6, 13, 11)).astype(np.float32)
    with copy_of(net) as twin:
        pictures = Pictures([Picture("noise", 1, {"data": x})], "data", None, ())
        yield make_page(make_report(twin, pictures, Options(test=0))), record(copy_of(net), pictures)


@pytest.mark.parametrize("name", ["c1", "dw", "c1d", "ipt", "ipm"])
def test_products_forward_and_backward_are_minicaffes(name, odd_windows):
    page, recording = odd_windows
    found = page.js(
        """async name => {
          await Live.ready;
          const m = await Product.model(name, 0, [0, 0]);
          Product.backward(m);
          return {y: Array.from(m.WX, (v, i) => v + (m.b ? m.b[Math.floor(i / m.n)] : 0)), dw: Array.from(m.dW),
            dx: Array.from(Product.col2im(m, m.n))};
        }""",
        name,
    )
    layer = recording.layer(name)
    dw = layer.param_diffs[0][0]
    mine = {
        "y": recording.stages[layer.tops[0]].values[0],
        "dw": dw.T if name == "ipt" else dw,
        "dx": recording.stages[layer.bottoms[0]].diff[0],
    }
    for key, values in mine.items():
        off = np.abs(np.array(found[key]) - values.ravel()).max()
        assert off <= 2e-5 * max(1e-3, np.abs(values).max()), key


def test_rank_r_of_a_layer_in_groups_leads_to_view_4(odd_windows):
    page, _ = odd_windows
    page.at("view=convolution&layer=dw&step=6")
    assert (
        page.tab.locator("main .absent").inner_text()
        == "dw: each group has its own factors; they are in view 4."
    )
    assert page.tab.locator("main input[type=range]").count() == 0


def test_factors_of_rank_r_are_those_of_the_svd(lenet_page):
    recording = recording_of("lenet")
    x, w = column_of(recording, "conv2")
    left, sigma, right = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    for rank in (1, 12, 50):
        lenet_page.at(f"view=convolution&layer=conv2&step=6&rank={rank}")
        near = (left[:, :rank] * sigma[:rank]) @ right[:rank] @ x
        off = np.linalg.norm(near - w @ x) / np.linalg.norm(w @ x)
        shown = lenet_page.tab.locator('[data-read="error"]').text_content()
        low, high = (0, 0.001) if "<" in shown else (float(shown.split()[0]) / 100,) * 2
        assert low - 0.006 <= off <= high + 0.006
        params = lenet_page.tab.locator('[data-read="params"]').text_content()
        assert int(params.replace(",", "")) == rank * (50 + 500)


def test_the_eigenvectors_made_in_the_page_span_what_the_svd_does(lenet_page):
    _, w = column_of(recording_of("lenet"), "conv2")
    found = lenet_page.js(
        "async () => Array.from(Product.eigenvectors(await Product.model('conv2', 0, [0, 0])))"
    )
    mine = np.array(found).reshape(50, 50)
    left = np.linalg.svd(w.astype(np.float64), full_matrices=False)[0]
    for rank in (1, 7, 40):
        assert np.abs(mine[:, :rank] @ mine[:, :rank].T - left[:, :rank] @ left[:, :rank].T).max() < 1e-5


def test_a_pixel_of_any_block_chooses_it_in_all_others(lenet_page):
    lenet_page.at("view=convolution&layer=conv2&step=5")
    state = "() => [State.map, State.at.slice(0, 2)]"
    width = lenet_page.tab.locator("[data-block=Y]").bounding_box()["width"]
    lenet_page.tab.locator("[data-block=Y]").click(position={"x": width * 19.5 / 64, "y": 1})
    lenet_page.settled()  # a click is drawn with the next frame
    assert lenet_page.js(state) == [0, [2, 3]]
    lenet_page.tab.locator("[data-block=output]").click(position={"x": 1, "y": 1})
    lenet_page.settled()
    assert lenet_page.js(state)[1] == [0, 0]
    block = lenet_page.tab.locator("[data-block=input]")
    box = block.bounding_box()
    block.click(position={"x": box["width"] * 7.5 / 12, "y": box["height"] * 6.5 / 12})
    lenet_page.settled()
    assert lenet_page.js(state)[1] == [4, 5]  # the window whose middle is (6, 7)


def test_steps_and_pixels_are_led_by_keys(lenet_page):
    lenet_page.at("view=convolution&layer=conv2&step=4&map=3&at=2,2,30")
    lenet_page.tab.get_by_role("radio", name="4 W · X").focus()
    lenet_page.press("ArrowRight")
    assert lenet_page.js("() => State.step") == "5"
    assert lenet_page.js("() => document.activeElement.textContent") == "5 output"
    lenet_page.tab.locator("[data-block=X]").focus()
    lenet_page.press("ArrowRight", "ArrowDown")
    assert lenet_page.js("() => State.at") == [2, 3, 31]
    assert "row 31, column 19" in lenet_page.tab.locator("#spoken").text_content()
    lenet_page.press("b")
    assert lenet_page.js("() => State.step") == "b2"
    lenet_page.press("b")


def test_nothing_plays_where_motion_is_not_wanted(lenet_page):
    lenet_page.at("view=convolution&layer=conv1&step=1")
    assert lenet_page.tab.get_by_role("button", name="play").count() == 0
    lenet_page.press(" ")
    assert lenet_page.js("() => State.step") == "1"


def test_playing_leads_through_the_steps(make_page, report_named):
    page = make_page(report_named("lenet"), reduced_motion="no-preference")
    page.at("view=convolution&layer=conv2&step=2")
    page.tab.get_by_role("button", name="play").click()
    page.tab.get_by_role("radio", name="3 all columns", checked=True).wait_for(timeout=20_000)
    page.tab.get_by_role("button", name="pause").click()
    assert page.problems == []


@pytest.mark.parametrize(
    "state", ["layer=conv1", "layer=conv2&step=6&rank=12", "layer=ip1", "layer=conv2&step=b4"]
)
def test_the_picture_fits_on_a_screen(state, lenet_page):
    lenet_page.at("view=convolution&" + state)
    assert lenet_page.js(
        "() => { const m = document.getElementById('main');"
        " return m.scrollHeight <= m.clientHeight && m.scrollWidth <= m.clientWidth; }"
    )
    overlaps = lenet_page.js(
        """() => {
          const nodes = [...document.querySelectorAll('.conv-block, .conv-numbers')];
          const boxes = nodes.map(node => node.getBoundingClientRect());
          return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => a.left < b.right - 1 && b.left < a.right - 1
            && a.top < b.bottom - 1 && b.top < a.bottom - 1)).length; }"""
    )
    assert overlaps == 0


def test_a_number_of_the_sum_is_on_the_line_of_its_name(lenet_page):
    lenet_page.at("view=convolution&layer=conv2&step=6&rank=12")
    lenet_page.tab.locator('.conv-sum [data-read="net"]').wait_for()
    text = lenet_page.tab.locator(".conv-sum").text_content()
    assert "at\u00a0rank\u00a012:\u00a0" in text and "the\u00a0net:\u00a0" in text


def test_what_is_chosen_is_seen_on_red(lenet_page):
    """Pink on red is not: a line in the colour of the page runs beside it."""
    lenet_page.at("view=convolution&layer=conv2&step=4")
    style = "([s, p]) => getComputedStyle(document.querySelector('#main ' + s))[p]"
    back = lenet_page.js(
        "() => { const n = document.body.appendChild(document.createElement('i')); n.style.color = 'var(--back)'; "
        "const c = getComputedStyle(n).color; n.remove(); return c; }"
    )
    assert back in lenet_page.js(style, [".cells .chosen", "boxShadow"])
    assert back in lenet_page.js(style, [".conv-mark", "filter"])
    lenet_page.at("view=backward&part=weight&layer=conv1")
    assert back in lenet_page.js(style, [".pixels .mark", "boxShadow"])


def test_a_net_that_does_not_run_in_the_page_carries_what_fits():
    """Small layers first; the others say what they would take."""
    from minicaffe.inspect.report.pack import Packer
    from minicaffe.inspect.report.views.convolution import data

    recording = recording_of("quick")
    recording = type(recording)(**{**vars(recording), "answer": None})  # as of a net that cannot run there
    layers = data(recording, Packer(), Options(max_size=0.2))["layers"]
    assert "x" in layers["conv1"] and layers["conv1"]["x"]["dtype"] == "f16"
    assert re.search(r"would add 0\.\d MB.*--layers ip1", layers["ip1"]["missing"])
    layers = data(recording, Packer(), Options(layers=["ip1"]))["layers"]
    assert "x" in layers["ip1"] and layers["conv1"]["missing"] == "not among --layers ip1"
