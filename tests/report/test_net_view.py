"""View 1 and the drawing beside it, of a net with branches and with more layers than a bar can show."""

import pytest

import minicaffe as mc
from minicaffe.inspect.report.blocks import MOST
from minicaffe.spec.net import parse_net
from tests.report.conftest import photos

pytestmark = [
    pytest.mark.browser,
    pytest.mark.cpu_only("a page looks the same wherever its numbers come from"),
]
PARTS = ["3a", "3b", "4a", "4b", "4c", "4d"]


def deep_net():
    """Modules of four branches, one after the other, with names as long as GoogLeNet's."""
    layers, bottom = ["{name: data, type: Input, input_param: {shape: {dim: [1, 3, 8, 8]}}}"], "data"

    def add(name, bottom, kernel=1, outputs=4):
        param = (
            f"num_output: {outputs}, kernel_size: {kernel}, pad: {kernel // 2}, weight_filler: {{type: msra}}"
        )
        layers.append(
            f"{{name: {name}, type: Convolution, bottom: {bottom}, convolution_param: {{{param}}}}}"
        )
        relu = name.replace("/", "/relu_")
        layers.append(f"{{name: {relu}, type: ReLU, bottom: {name}, top: {name}}}")
        return name

    for i, part in enumerate(PARTS):
        module = f"inception_{part}/"
        tops = [add(f"{module}1x1", bottom, outputs=4 + 4 * i)]
        for kernel in (3, 5):
            reduce = add(f"{module}{kernel}x{kernel}_reduce", bottom)
            tops.append(add(f"{module}{kernel}x{kernel}", reduce, kernel))
        param = "{kernel_size: 3, stride: 1, pad: 1}"
        layers.append(f"{{name: {module}pool, type: Pooling, bottom: {bottom}, pooling_param: {param}}}")
        tops.append(add(f"{module}pool_proj", f"{module}pool"))
        bottom = f"{module}output"
        layers.append(f"{{name: {bottom}, type: Concat, bottom: [{', '.join(tops)}], top: {bottom}}}")
    param = "{num_output: 5, weight_filler: {type: msra}}"
    layers.append(
        f"{{name: loss3/classifier, type: InnerProduct, bottom: {bottom}, inner_product_param: {param}}}"
    )
    layers.append("{name: prob, type: Softmax}")
    return mc.Net(parse_net("name: deep\nlayer:\n" + "".join(f"- {layer}\n" for layer in layers)), seed=1)


@pytest.fixture(scope="module")
def deep_page(make_page):
    return make_page(mc.report(deep_net(), photos(1, 8), test=0))


@pytest.fixture(params=[1366, 1024])
def deep(deep_page, request):
    """The page at a width."""
    deep_page.tab.set_viewport_size({"width": request.param, "height": 700})
    deep_page.at("view=net").tab.reload()
    deep_page.drawn().js("() => Live.ready")
    deep_page.settled()
    return deep_page


def test_a_bar_of_many_layers_has_a_part_for_each_block_with_its_whole_name_or_none(deep):
    bars = deep.js(
        """() => [...document.querySelectorAll(".share")].map(bar => [...bar.children].map(part =>
            [part.dataset.part, part.textContent, part.scrollWidth - part.clientWidth, part.ariaLabel]))"""
    )
    assert len(bars) == 3
    for bar in bars:
        assert len(bar) <= MOST and all(over <= 0 for _, _, over, _ in bar)
        assert sum(bool(text) for _, text, _, _ in bar) >= 4
        assert all(text.split(" ")[0] in (name, name.split("_")[-1], "") for name, text, _, _ in bar)
    assert [name for name, *_ in bars[0]] == [*(f"inception_{part}" for part in PARTS), "loss3"]
    assert bars[0][2][3].startswith("inception_4a: 6 layers, ")
    assert len(deep.numbers("Where is the work?")) == 1 + 6 * len(PARTS) + 1  # all layers, one by one


def test_a_part_of_a_bar_chooses_the_layer_with_most_in_it(deep):
    deep.tab.locator('[data-chart="Where is the work?"] [data-part=inception_4b]').click()
    deep.settled()
    assert deep.js("State.layer") == "inception_4b/5x5"
    assert deep.js("document.querySelectorAll('.share .chosen').length") == 3


def test_view_1_says_where_most_of_the_work_is(deep):
    said = deep.tab.locator(".say").inner_text()
    assert "each part of a bar a block of layers" in said
    assert "inception_4d does" in said and "of the work with" in said


def test_the_table_of_layers_fits_beside_the_drawing(deep):
    found = deep.js(
        """() => {
          const box = document.querySelector(".sideways"), main = document.getElementById("main");
          const end = name => box.querySelector(`[data-focus=sort-${name}]`).getBoundingClientRect().right;
          return {over: box.scrollWidth - box.clientWidth, main: main.scrollWidth - main.clientWidth,
                  right: box.getBoundingClientRect().right, ends: ["multiply-adds", "memory"].map(end)};
        }"""
    )
    assert found["main"] <= 0
    assert max(found["ends"]) <= found["right"]
    assert found["over"] <= 0


def test_all_branches_of_a_drawing_are_beside_each_other_in_the_rail_with_whole_names(deep):
    found = deep.js(
        """() => {
          const rail = document.getElementById("rail");
          const least = Math.min(...[...rail.querySelectorAll(".box text[font-weight]")]
            .map(t => t.getBoundingClientRect().height));
          const names = [...rail.querySelectorAll(".box text[font-weight]")].map(t => t.textContent);
          return {over: rail.scrollWidth - rail.clientWidth, least, cut: names.filter(n => n.includes("…")),
                  wide: rail.classList.contains("wide")};
        }"""
    )
    assert found["over"] <= 0 and not found["wide"] and found["cut"] == [] and found["least"] >= 8


def test_the_chosen_box_is_in_sight_wherever_it_is(deep):
    for name in ("loss3/classifier", "inception_3a/pool_proj", "inception_4c/1x1", "data"):
        deep.js("name => State.set({layer: name})", name)
        deep.settled()
        found = deep.js(
            """() => {
              const place = name => document.querySelector(name).getBoundingClientRect();
              const box = place("#rail .chosen"), rail = place("#rail"), key = place("#rail .key");
              const isAbove = box.top >= rail.top && box.bottom <= key.top;
              return isAbove && box.left >= rail.left && box.right <= rail.right;
            }"""
        )
        assert found, name


def test_a_chosen_layer_in_a_stack_marks_the_stack(deep):
    deep.js("State.set({layer: 'inception_4c/1x1'})")
    deep.settled()
    assert deep.tab.locator("#rail .chosen").get_attribute("class") == "fold chosen"
    width = "getComputedStyle(document.querySelector('#rail .chosen > .frame')).strokeWidth"
    assert deep.js(width) == "2.5px"


def test_a_drawing_too_wide_to_be_seen_whole_leaves_room_for_the_view(make_page):
    names = [f"branch{i}" for i in range(14)]
    layers = [
        "{name: data, type: Input, input_param: {shape: {dim: [1, 3, 8, 8]}}}",
        *(
            f"{{name: {name}, type: InnerProduct, bottom: data, inner_product_param: {{num_output: 2, "
            "weight_filler: {type: msra}}}"
            for name in names
        ),
        f"{{name: all, type: Concat, bottom: [{', '.join(names)}]}}",
        "{name: prob, type: Softmax}",
    ]
    net = mc.Net.from_text("layer:\n" + "".join(f"- {layer}\n" for layer in layers))
    page = make_page(mc.report(net, photos(1, 8), test=0)).at("view=layer&layer=branch13")
    found = page.js(
        """() => {
          const rail = document.getElementById("rail"), place = rail.getBoundingClientRect();
          const box = rail.querySelector(".chosen").getBoundingClientRect();
          return [rail.clientWidth, rail.classList.contains("wide"),
                  box.left >= place.left && box.right <= place.right,
                  getComputedStyle(rail.querySelector(".edge")).stroke];
        }"""
    )
    assert found[0] <= 0.31 * 1366 and found[1:] == [True, True, "rgb(132, 142, 152)"]  # ink.LIGHT["edge"]


def test_a_drawing_wider_than_the_rail_says_so(deep):
    deep.js("() => { document.getElementById('rail').style.width = '200px'; }")
    deep.tab.locator("#rail.wide").wait_for()
    after = deep.js("getComputedStyle(document.querySelector('#rail .key'), '::after').content")
    deep.js("() => { document.getElementById('rail').style.width = '600px'; }")
    deep.tab.locator("#rail:not(.wide)").wait_for()
    assert after == '"It goes on sideways – scroll or pull the edge."'
