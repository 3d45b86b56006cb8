"""The page of a report: it opens, offline, is led by its address and by keys alone, and all in it has a name."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.inspect.summary import in_bytes, layer_rows
from minicaffe.spec.net import parse_net
from tests.report.conftest import WAIT, photos, recording_of
from tests.report.test_page import HOSTILE, small_net

pytestmark = [
    pytest.mark.browser,
    pytest.mark.cpu_only("a page looks the same wherever its numbers come from"),
]

# What can be used, or is a picture, and has no name of its own or in something labelled around it.
NAMELESS = """() => [...document.querySelectorAll("button, input, select, a, summary, canvas, [tabindex]")]
    .filter(node => node.id !== "main" && !(node.textContent.trim() || node.title || node.labels?.length
        || (node.tagName === "CANVAS" ? node.closest("[aria-label]") : node.getAttribute("aria-label"))))
    .map(node => node.outerHTML.slice(0, 200))"""

# Texts whose contrast with what is behind them is less than 4.5 : 1.
PALE = r"""() => {
    const light = c => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
    const rgb = text => (text.match(/[\d.]+/g) || []).map(Number);
    const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
    const behind = node => {
        for (; node; node = node.parentElement) {
            const found = rgb(getComputedStyle(node).backgroundColor);
            if (found.length === 3 || found[3] === 1) return found;
        }
        return [255, 255, 255];
    };
    const pale = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement, style = getComputedStyle(node);
        if (!walker.currentNode.textContent.trim() || !node.checkVisibility({checkVisibilityCSS: true})) continue;
        if (node.closest("script, style, noscript, .share, .skip")) continue;
        const color = rgb(node.namespaceURI.endsWith("svg") ? style.fill : style.color);
        const [a, b] = [luminance(color), luminance(behind(node))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) pale.push(`${ratio.toFixed(1)} ${node.tagName} ${node.className} ${node.textContent}`);
    }
    return [...new Set(pale)];
}"""


def test_an_address_leads_to_a_state_and_back_leads_away_again(lenet_page):
    lenet_page.at("view=layer&layer=conv1&image=2&map=3&at=4,5")
    assert lenet_page.tab.locator("main h2").inner_text() == "conv1 · Convolution"
    assert lenet_page.js("[State.image, State.map, State.at]") == [2, 3, [4, 5]]
    lenet_page.press("ArrowDown")
    assert lenet_page.js("State.layer") == "pool1"
    lenet_page.tab.go_back()
    lenet_page.tab.wait_for_timeout(50)
    assert lenet_page.js("State.layer") == "conv1"


@pytest.mark.parametrize(
    "address", ["view=nonsense", "layer=none&image=99", "at=1,x&map=-1", "view=layer&map=900"]
)
def test_an_address_that_says_nonsense_leads_somewhere(lenet_page, address):
    lenet_page.at(address)
    assert lenet_page.tab.locator("main h2").count() == 1
    assert lenet_page.tab.locator("main .error").count() == 0


def test_a_link_to_a_drawing_says_that_it_is_not_in_the_file(lenet_page):
    lenet_page.at("view=answer&image=50")
    note = lenet_page.tab.locator("#gone")
    assert "Image 50 of this link was drawn" in note.inner_text() and lenet_page.js("State.image") == 0
    lenet_page.press("ArrowRight")
    assert note.count() == 0 and lenet_page.js("State.image") == 1


@pytest.mark.parametrize(
    ("address", "text", "correct"),
    [
        ("view=layer&layer=conv9", "no layer conv9 in this net; here is conv1", "#view=layer"),
        (
            "view=layer&layer=conv2&map=70",
            "conv2 has no map 70: they are 0 … 49",
            "#view=layer&layer=conv2&map=49",
        ),
        ("view=layer&layer=conv2&at=20,30", "8 × 8 places", "#view=layer&layer=conv2"),
        ("view=views", "no view views", "#view=net"),
        (
            "view=low_rank&layer=conv2&rank=900",
            "conv2 has no rank 900: they are 1 … 50. Here is rank 50.",
            "#view=low_rank&layer=conv2&rank=50",
        ),
        (
            "view=low_rank&ranks=conv2:9,conv9:4,ip2:11",
            "no rank conv9:4, ip2:11",
            "#view=low_rank&ranks=conv2%3A9",
        ),
        ("view=low_rank&way=best", "no way best in this view: there are weights, data", "#view=low_rank"),
        ("view=answer&class=0:10", "no class 10 in this net: they are 0 … 9", "#view=answer"),
        ("view=backward&part=all", "no part all in this view: there are sizes, walk", "#view=backward"),
    ],
)
def test_a_link_that_is_corrected_says_so(lenet_page, address, text, correct):
    lenet_page.at("view=net")
    lenet_page.js("address => { delete document.body.dataset.drawn; location.hash = address; }", address)
    lenet_page.drawn()
    note = lenet_page.tab.locator("#gone")
    assert text in note.inner_text()
    assert lenet_page.js("location.hash") == correct
    lenet_page.press("3")
    assert note.count() == 0


def test_a_link_holds_what_its_view_uses_and_the_ranks(lenet_page):
    lenet_page.at("view=backward&part=units&class=0:5&cell=1,1&ranks=conv2:6&image=1&layer=conv2&at=1,1")
    both = {"layer=conv2", "image=1", "ranks=conv2%3A6"}
    assert {*lenet_page.press("5").js("location.hash").split("&")} == {"#view=answer", "class=0%3A5"} | both
    assert {*lenet_page.press("8").js("location.hash").split("&")} == {"#view=test_set", "cell=1,1"} | both


def test_the_header_stays_one_line_with_many_images_and_the_chosen_one_in_sight(lenet_page):
    lenet_page.js("() => Live.ready")
    height = "document.getElementById('top').offsetHeight"
    lenet_page.at("view=net&image=0")
    before, first = lenet_page.js(height), lenet_page.js("State.imageCount()")
    for _ in range(20):
        lenet_page.js("Live.add('drawing', new Uint8Array(4 * 28 * 28).fill(99))")
    lenet_page.at(f"view=net&image={first + 19}")
    chosen = lenet_page.tab.locator(f'#top [data-image="{first + 19}"]')
    chosen.wait_for(timeout=WAIT)
    strip, cell = lenet_page.tab.locator("#top .images").bounding_box(), chosen.bounding_box()
    assert cell["x"] + cell["width"] <= strip["x"] + strip["width"] + 2
    assert lenet_page.js(height) <= before + 20  # a scroll bar
    lenet_page.js(
        "n => { State.set({image: 0}); while (State.imageCount() > n) Live.remove(n); State.redraw(); }",
        first,
    )


def test_help_names_each_key_once(lenet_page):
    lenet_page.at("view=convolution").press("?")
    keys = lenet_page.tab.locator("dialog kbd").all_inner_texts()
    lenet_page.press("Escape")
    assert len(keys) == len(set(keys)) and {"Space", "r", "["} <= set(keys)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_view_is_there_with_a_name_for_everything_and_no_pale_text(lenet_page, theme):
    lenet_page.tab.emulate_media(color_scheme=theme)
    found = {}
    for view in lenet_page.js("R.order"):
        lenet_page.at(f"view={view}&layer=conv2")
        assert lenet_page.tab.locator("main h2").count() == 1, view
        assert lenet_page.tab.locator("main .error").count() == 0, view
        found[view] = lenet_page.js(NAMELESS) + lenet_page.js(PALE)
    lenet_page.tab.emulate_media(color_scheme="light")
    assert {view: wrong for view, wrong in found.items() if wrong} == {}


def test_a_page_is_dark_where_the_system_is_until_its_reader_chooses_and_paper_is_always_light(lenet_page):
    tab, back = lenet_page.tab, "getComputedStyle(document.body).backgroundColor"
    tab.reload()
    light = lenet_page.drawn().js(back)
    tab.emulate_media(color_scheme="dark")
    tab.locator(":root[data-theme=dark]").wait_for()
    dark = lenet_page.drawn().js(back)
    assert dark != light
    assert lenet_page.press("t").js(back) == light
    tab.emulate_media(color_scheme="light")
    assert lenet_page.press("t").js(back) == dark  # chosen: the system's wish is heard no more
    tab.emulate_media(media="print")
    assert lenet_page.js(back) == light
    tab.emulate_media(media="screen")
    tab.reload()
    assert lenet_page.drawn().js(back) == light


def test_a_whole_tour_needs_no_mouse(lenet_page):
    page = lenet_page.at("view=net&layer=conv1")
    for number, view in enumerate(page.js("R.order"), 1):
        assert page.press(str(number)).js("State.view") == view
    assert page.press("2", "ArrowDown", "ArrowDown").js("State.layer") == "conv2"
    assert page.press("ArrowRight", "ArrowRight", "ArrowLeft").js("State.image") == 1
    assert page.press("n").js("State.scale") == "map"
    page.press("n")
    page.tab.locator('[data-focus="map-conv2-0"]').focus()
    page.press("ArrowRight", "ArrowRight", "Enter")
    assert page.js("State.map") == 2
    assert page.js("document.activeElement.dataset.focus") == "map-conv2-2"
    page.tab.locator('[data-focus="pixels-conv2"]').focus()
    page.press("ArrowRight", "ArrowRight", "ArrowDown")
    assert page.js("State.at") == [1, 1]
    assert "row 1, column 1" in page.tab.locator("#spoken").inner_text()
    assert page.press("Escape").js("State.at") is None
    dark = page.js("Maps.css('--dark')")
    assert page.press("t").js("Maps.css('--dark')") != dark
    page.press("t")
    assert page.press("g").tab.locator("#rail").is_hidden()
    page.press("g", "?")
    assert page.tab.get_by_role("dialog").is_visible()
    page.press("Escape", "/")
    page.tab.keyboard.type("pool2")
    page.press("Enter")
    assert page.js("State.layer") == "pool2"
    page.tab.locator("#rail .chosen").focus()
    assert page.press("ArrowUp").js("document.activeElement.dataset.layer") == "conv2"


def test_focus_can_be_seen(lenet_page):
    lenet_page.at("view=layer&layer=conv1")
    lenet_page.tab.keyboard.press("Tab")
    for _ in range(8):
        lenet_page.tab.keyboard.press("Tab")
        style = "getComputedStyle(document.activeElement).outlineStyle + document.activeElement.tagName"
        assert not lenet_page.js(style).startswith("noneBUTTON")


def test_the_table_of_layers_has_the_numbers_of_the_net(lenet_page):
    rows = lenet_page.at("view=net").js(
        "() => [...document.querySelectorAll('table.net tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    expected = [row for row in layer_rows(recording_of("lenet").net) if row.type != "Split"]
    assert [row[0] for row in rows] == [row.name for row in expected]
    for row, known in zip(rows, expected, strict=True):
        assert row[2] == (f"{known.params:,}" if known.params else "")
        assert row[4] == (f"{known.multiply_adds:,}" if known.multiply_adds else "")
        assert row[6] == (in_bytes(known.activation_bytes) if known.activation_bytes else "")  # as summary
    assert (
        "conv2 does 70 % of the work with 5.8 % of the parameters"
        in lenet_page.tab.locator(".say").inner_text()
    )
    work = lenet_page.numbers("Where is the work?")
    assert ["conv2", "1600000", "70 %"] in work


def test_statistics_of_every_blob_are_those_of_numpy(lenet_page, lenet_recording):
    shown = lenet_page.js("R.stages")
    for key, stage in lenet_recording.stages.items():
        values, found = stage.values, shown[key]
        assert found["shape"] == list(values.shape[1:])
        exact = values.astype(np.float64)
        for name in ("min", "mean", "max", "std"):
            known = getattr(exact, name)()
            np.testing.assert_allclose(found[name], known, rtol=1e-5, atol=1e-7, err_msg=f"{key} {name}")
        assert found["zeros"] == (values == 0).sum()
        assert sum(found["histogram"]["counts"]) + found["zeros"] == values.size


def test_pictures_and_numbers_of_a_layer_are_those_that_the_net_computed(lenet_page, lenet_recording):
    lenet_page.at("view=layer&layer=conv1&image=1&map=4&at=7,9")
    value = float(lenet_recording.stages["conv1"].values[1, 4, 7, 9])
    read = lenet_page.tab.locator(".layer-first .quiet .num")
    assert float(read.get_attribute("title").replace("−", "-")) == pytest.approx(value, abs=1e-4)
    counts = lenet_page.numbers("How large is conv1?")[1:]
    assert sum(int(row[1]) for row in counts) == lenet_recording.stages["conv1"].values.size
    w = lenet_recording.layer("conv1").params[0]
    drawn = lenet_page.js("() => Values.param('conv1', 0).then(p => [...p.data])")
    np.testing.assert_allclose(drawn, w.ravel(), atol=1e-6)


def test_a_gradient_is_read_as_it_was_recorded(lenet_page, lenet_recording):
    diff = lenet_recording.stages["conv2"].diff[0]
    drawn = lenet_page.js("() => Values.diff('conv2', 0).then(d => [...d.data])")
    np.testing.assert_allclose(drawn, diff.ravel(), atol=np.ptp(diff) / 255)


@pytest.mark.parametrize("name", ["lenet", "rnet"])
def test_the_view_of_a_layer_is_there_for_every_layer(open_page, name):
    page = open_page(name)
    for layer in page.js("State.layers.map(layer => layer.name)"):
        page.at(f"view=layer&layer={layer}&at=1,1")
        assert page.tab.locator("main .error").count() == 0, layer
        assert page.tab.locator("main .formula").count() == 1, layer
        assert page.tab.locator("main .layer-card").count() >= 1, layer


BRANCHES = """
name: branches
layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 3, 16, 16]}}}
- {name: stem, type: Pooling, pooling_param: {pool: MAX, kernel_size: 2, stride: 2}}
- {name: left, type: InnerProduct, bottom: stem, top: left, param: {name: w}, %s}
- {name: middle, type: InnerProduct, bottom: stem, top: middle, %s}
- {name: right, type: InnerProduct, bottom: stem, top: right, param: {name: w}, %s}
- {name: all, type: Concat, bottom: [left, middle, right], top: all}
- {name: score, type: InnerProduct, bottom: all, %s}
- {name: prob, type: Softmax, bottom: score}
""" % (4 * ("inner_product_param: {num_output: 3, bias_term: false, weight_filler: {type: msra}}",))


@pytest.fixture(scope="module")
def branches(make_page):
    """A page of a wide net, whose classes have long names and two of whose layers share parameters; and the net."""
    net = mc.Net(parse_net(BRANCHES), seed=1)
    names = ["blackcurrant", "watermelon", "strawberry"]
    return make_page(mc.report(net, photos(8, 16), class_names=names, test=0)), net


def test_parameters_that_layers_share_are_the_first_one_s_as_in_summary(branches):
    page, net = branches
    share = {row.name: row.params_share for row in layer_rows(net)}
    assert share["left"] > 0 and share["right"] == 0
    cells = page.at("view=net").js(
        "() => Object.fromEntries([...document.querySelectorAll('table.net tbody tr')]"
        ".map(r => [r.cells[0].textContent, r.cells[3].textContent]))"
    )
    bar = {row[0]: row[2] for row in page.numbers("Where are the parameters?")[1:]}
    for name in ("left", "right", "middle"):
        assert cells[name] == bar.get(name, "0 %") == page.js("percent", share[name])


def test_the_header_is_one_row_with_whole_names_and_the_rail_has_the_whole_drawing(branches):
    page, _ = branches
    page.at("view=net")
    found = page.js(
        """() => ({
          row: new Set(["h1", ".images", ".mode", ".tools"].map(s => {
            const r = document.querySelector("#top " + s).getBoundingClientRect();
            return Math.round((r.top + r.bottom) / 2 / 6);
          })).size,
          right: document.querySelector("#top .tools").getBoundingClientRect().right,
          cut: [...document.querySelectorAll("#top .number")].filter(n => n.scrollWidth > n.clientWidth).length,
          rail: document.getElementById("rail").scrollWidth - document.getElementById("rail").clientWidth})"""
    )
    assert found["row"] == 1 and found["right"] < 1366 and found["cut"] == 0 and found["rail"] <= 0


def test_a_number_below_an_image_is_said_to_be_a_class_and_a_name_speaks_for_itself(lenet_page, branches):
    strips = [page.tab.locator("#top .images").inner_text() for page in (lenet_page, branches[0])]
    assert [text.startswith("class") for text in strips] == [True, False]


def test_g_gives_the_view_the_whole_width_without_its_introduction(lenet_page):
    size = "() => document.querySelector('[data-block=X]').getBoundingClientRect().toJSON()"
    before = lenet_page.at("view=convolution&layer=conv2&step=5").js(size)
    wide = lenet_page.press("g").js(size)
    right = lenet_page.js("document.querySelector('.conv-numbers').getBoundingClientRect().right")
    hidden = [lenet_page.tab.locator(what).is_hidden() for what in ("#rail", ".say", ".try")]
    lenet_page.press("g")
    assert hidden == [True] * 3
    assert wide["width"] > 1.3 * before["width"] and wide["height"] > 1.2 * before["height"]
    assert right > 0.9 * 1366


@pytest.fixture(scope="module")
def odd_report():
    """A report whose names are markup."""
    return mc.report(small_net(HOSTILE, HOSTILE), photos(2, 16), class_names=[HOSTILE] * 4)


@pytest.fixture(scope="module")
def odd_page(odd_report, make_page):
    return make_page(odd_report)


def test_names_that_are_markup_are_shown_as_they_are(odd_page):
    odd_page.at("view=layer")
    assert odd_page.tab.locator("h1").inner_text().startswith("</script><script>alert(1)")
    assert odd_page.tab.locator("main h2").inner_text().startswith("</script>")
    for view in odd_page.js("R.order"):
        odd_page.at(f"view={view}")
        assert odd_page.tab.locator("main .error").count() == 0, view
    assert odd_page.problems == []


def test_a_report_runs_within_a_notebook(odd_page, tmp_path):
    (tmp_path / "notebook.html").write_text(mc.report(small_net(), photos(1, 16))._repr_html_(), "utf-8")
    tab = odd_page.context.new_page()
    tab.goto((tmp_path / "notebook.html").as_uri())
    frame = tab.frame_locator("iframe")
    frame.locator("body[data-drawn]").wait_for()
    frame.locator('[data-view="layer"][role=tab]').click()
    frame.locator("h2", has_text="Convolution").wait_for()
    tab.close()


def test_what_is_printed_has_no_button_that_does_nothing_on_paper(lenet_page):
    visible = """() => [...document.querySelectorAll("#main :is(button, select, input)")].filter(
        node => node.checkVisibility() && !node.closest("table") && !node.matches(".cell, .says, .part, .link"))
        .map(node => node.outerHTML.slice(0, 120))"""
    for view in lenet_page.js("R.order"):
        lenet_page.at(f"view={view}&layer=conv2")
        lenet_page.tab.emulate_media(media="print")
        assert lenet_page.js(visible) == [], view
        lenet_page.tab.emulate_media(media="screen")


def test_the_colours_of_maps_have_one_scale_or_each_map_its_own(lenet_page):
    lenet_page.at("view=layer&layer=conv1")
    filters, maps = lenet_page.tab.locator(".legend").all_inner_texts()
    assert "scale" not in filters  # of filters there is one alone
    assert "all maps have one scale; give each its own" in maps
    lenet_page.tab.get_by_role("button", name="give each its own").click()
    lenet_page.drawn().tab.get_by_role("button", name="one for all").wait_for()
    assert "its largest" in lenet_page.tab.locator(".legend").nth(1).inner_text()
    assert lenet_page.press("n").js("State.scale") == "blob"


def test_a_number_and_its_word_agree(lenet_page):
    found = lenet_page.js("[0, 1, 2, 1000].map(n => many(n, 'map')).concat(many(1, 'pass', 'passes'))")
    assert found == ["0 maps", "1 map", "2 maps", "1,000 maps", "1 pass"]


def test_the_page_says_live_only_after_its_check(lenet_page):
    lenet_page.js("() => Live.ready")
    assert lenet_page.tab.locator("#top .mode").inner_text() == "live"
    tab = lenet_page.context.new_page()
    tab.add_init_script("window.Worker = class { postMessage() {} }")  # that never answers
    tab.goto(lenet_page.path.as_uri() + "#view=layer&layer=conv2")
    tab.locator("body[data-drawn]").wait_for()
    assert tab.locator("#top .mode").inner_text() == "checking …"
    assert "≈ recorded in 8 bits" in tab.locator("main").inner_text()
    tab.close()


def with_code(html, change):
    """A page whose packed scripts were changed: ``change`` takes and gives a text."""
    text = re.search(r'id="code">(.*?)<', html)[1].replace("v", "<")
    code = json.loads(zlib.decompress(base64.a85decode(text)))
    code["script"] = change(code["script"])
    packed = base64.a85encode(zlib.compress(json.dumps(code).encode())).decode("ascii").replace("<", "v")
    return re.sub(r'(id="code">)[^<]*', lambda match: match[1] + packed, html)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("no code", lambda html: re.sub(r'(id="code">)[^<]*', r"\1", html)),
        ("half of it", lambda html: re.sub(r'(id="code">)[^<]{5000}', r"\1", html)),
        ("a script that ends", lambda html: with_code(html, lambda script: script[: len(script) // 2])),
        ("one that fails", lambda html: with_code(html, lambda script: "throw new Error('no'); " + script)),
        ("none", lambda html: with_code(html, lambda script: "")),
        ("no data", lambda html: re.sub(r'(id="report">)[^<]*', r"\1", html)),
    ],
)
def test_a_page_of_which_a_part_is_missing_says_so(odd_page, odd_report, tmp_path, name, change):
    (tmp_path / "broken.html").write_text(change(odd_report.html), "utf-8")
    tab = odd_page.context.new_page()
    tab.goto((tmp_path / "broken.html").as_uri())
    line = tab.get_by_role("status").filter(has_text="This report cannot be shown: a part of it is missing")
    line.wait_for(timeout=WAIT)
    tab.close()


def test_without_scripts_the_page_says_that_it_needs_them(browser, odd_page):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(odd_page.path.as_uri())
    assert tab.get_by_text("This page needs JavaScript").is_visible()
    context.close()
