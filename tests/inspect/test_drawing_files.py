"""Drawings as files: SVG, PNG and DOT, with whatever names layers have."""

import io
import json
import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.errors import SpecError
from minicaffe.inspect import drawing
from minicaffe.inspect.drawing import fold, ink
from minicaffe.inspect.drawing.layout import STACK_LABEL
from minicaffe.inspect.drawing.measure import fitted, fitted_name, text_width
from minicaffe.spec.net import parse_net
from tests.inspect.drawn import INPUT, conv, join, spec_of

pytestmark = pytest.mark.cpu_only("of pictures: no device computes here")

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    '</script><b onload="x">',
    "quote\"d 'n' &amp;",
    "рисунок 图 🎉",
    "long " * 60,
    "tab\there\x1b",
    "a\\nb",
]


@pytest.fixture(scope="module")
def lenet():
    return mc.Net("prototxt/lenet/deploy.yaml", seed=0)


@pytest.fixture(scope="module")
def hostile():
    def quoted(name):
        return json.dumps(name, ensure_ascii=False)

    layers = [
        f"{{name: {quoted(name)}, type: Convolution, bottom: {quoted(HOSTILE[i - 1] if i else 'data')}, "
        f"top: {quoted(name)}, convolution_param: {{num_output: 3, kernel_size: 1}}}}"
        for i, name in enumerate(HOSTILE)
    ]
    spec = spec_of(*layers)
    spec.name = "</title>]]>"
    return mc.Net(spec)


def groups(svg, name):
    return [g for g in ET.fromstring(svg).iter(f"{SVG}g") if name in g.get("class", "").split()]


def test_every_layer_is_in_a_box_with_its_name_and_its_kind(lenet):
    found = groups(drawing.svg_of(lenet), "box")
    layers = [name for g in found for name in json.loads(g.get("data-layers"))]
    assert layers == [layer.name for layer in lenet.layers]
    kinds = {g.get("data-layer"): g.get("class") for g in found}
    assert kinds["conv1"] == "box conv"
    assert (kinds["data"], kinds["pool1"], kinds["ip1"], kinds["prob"]) == (
        "box data",
        "box pool",
        "box ip",
        "box data",
    )


def test_boxes_are_buttons_in_a_page_and_not_in_a_file(lenet):
    page, file = drawing.svg_of(lenet), lenet.draw().svg()
    for g in groups(page, "box"):
        assert g.get("role") == "button"
        assert g.get("aria-label").startswith(f"{g.get('data-layer')}, ")
    assert "button" not in file
    assert ET.fromstring(file).get("role") == "img"
    assert "LeNet (TEST)" in file and "LeNet (TEST)</text>" not in page


def test_colours_are_variables_with_the_light_ones_for_where_there_are_none(lenet):
    page, file = drawing.svg_of(lenet), lenet.draw().svg()
    assert "fill:#2f6db3;fill:var(--conv,#2f6db3)" in page
    assert "prefers-color-scheme:dark" in file and "prefers-color-scheme" not in page
    assert 'class="paper"' in file and 'class="paper"' not in page


def test_hostile_names_are_text_in_every_format(hostile):
    for direction in ("TB", "LR"):
        picture = hostile.draw(direction=direction)
        svg = picture.svg()
        names = [g.get("data-layer") for g in groups(svg, "box")][1:]
        assert names == [name.replace("\x1b", "?") for name in HOSTILE]
        assert "<script" not in svg and "</script" not in svg and "<b " not in svg
        Image.open(io.BytesIO(picture.png())).load()
    dot = hostile.draw().dot()
    quoted = re.compile(r'"(?:[^"\\]|\\.)*"')
    assert '"' not in quoted.sub("", dot)


def test_texts_are_cut_in_the_middle_to_fit_their_boxes(hostile):
    svg = drawing.svg_of(hostile)
    for g in groups(svg, "box"):
        for text in g.iter(f"{SVG}text"):
            bold = text.get("font-weight") == "bold"
            assert text_width(text.text, float(text.get("font-size")), bold) <= 156
    assert fitted("inception_4a/3x3_reduce", 138, 11, True) == "incepti…/3x3_reduce"
    assert fitted("short", 80, 11) == "short"
    assert fitted("🎉" * 1000, 30, 10).count("🎉") == 1
    assert fitted("wide", 1, 10) == "…"


@pytest.mark.parametrize(
    "names",
    [
        [f"inception_{block}/{size}_reduce" for block in ("3a", "3b", "4a", "5b") for size in ("3x3", "5x5")],
        [f"conv{k}_mbox_{part}_perm" for k in ("13", "14_2", "15_2") for part in ("conf", "priorbox")],
    ],
)
def test_names_that_differ_still_differ_when_they_are_cut(names):
    short = [fitted_name(name, names, 138, 11) for name in names]
    assert len(set(short)) == len(names)
    assert all(text_width(name, 11, True) <= 138 for name in short)
    assert fitted_name("conv14_2_mbox_conf_perm", ["short"], 138, 11) == "conv14_2…conf_perm"


def test_where_there_is_little_room_boxes_are_narrower_and_names_stand_in_two_lines():
    names = [f"inception_3a/{size}_reduce" for size in ("1x1", "3x3", "5x5")]
    with mc.Net(spec_of(*[conv(name, "data") for name in names], join("all", *names))) as net:
        found = {room: ET.fromstring(drawing.svg_of(net, room=room)) for room in (1000, 400, 100)}
    widths = {room: float(svg.get("width")) for room, svg in found.items()}
    assert 400 - 3 < widths[400] - 2 * ink.NO_TITLE <= 400 < widths[1000] and widths[100] < 400
    texts = [text.text for text in found[100].iter(f"{SVG}text")]
    assert texts.count("inception_3a/") == 3
    assert {name.partition("/")[2] for name in names} <= set(texts)


def test_the_same_net_gives_the_same_bytes():
    once, again = (mc.Net("prototxt/cifar10_quick/deploy.yaml", seed=k).draw() for k in (1, 2))
    assert once.svg() == again.svg()
    assert once.png() == again.png()
    assert once.dot() == again.dot()


def test_a_stack_names_the_layers_that_it_stands_for(monkeypatch):
    monkeypatch.setattr(fold, "MANY", 5)
    names = [f"block{k}/conv" for k in range(6)]
    net = mc.Net(spec_of(*[conv(name, names[k - 1] if k else "data") for k, name in enumerate(names)]))
    svg = drawing.svg_of(net)
    (stack,) = groups(svg, "fold")
    assert json.loads(stack.get("data-layers")) == names
    assert stack.get("data-fold") == names[0]
    assert stack.get("aria-label").startswith("6 equal blocks, block0/conv to block5/conv")
    assert len(groups(svg, "box")) == 2
    assert groups(drawing.svg_of(net, unfold=True), "fold") == []


def test_the_label_of_a_stack_lies_above_its_boxes_and_its_share_is_that_of_all(monkeypatch):
    monkeypatch.setattr(fold, "MANY", 5)
    net = mc.Net(spec_of(*[conv(f"c{k}", f"c{k - 1}" if k else "data") for k in range(6)]))
    drawn = net.draw()
    (stack,) = drawn.layout.folds
    first = min(place.y for box, place in drawn.layout.boxes.items() if box.name == "c0")
    assert first - stack.frame.y >= STACK_LABEL
    assert "longest: 100 %" in drawn.svg()


def test_a_png_has_two_pixels_for_each_unit_of_the_svg_and_its_colours(lenet):
    picture = lenet.draw()
    root = ET.fromstring(picture.svg())
    image = Image.open(io.BytesIO(picture.png()))
    assert image.size == tuple(int(np.ceil(2 * float(root.get(side)))) for side in ("width", "height"))
    found = {color for _, color in image.getcolors(1 << 20)}
    assert {(0x2F, 0x6D, 0xB3), (0x7A, 0x4F, 0xB0), (0xA8, 0x5A, 0x14), (0x2A, 0x73, 0x53)} <= found


def test_lines_at_the_foot_of_a_box_are_as_long_as_its_shares(lenet):
    picture = ink.picture(lenet.draw().layout, lenet.draw().boxes)
    feet = {
        group.box.name: [s.path[1][0] - s.path[0][0] for s in group.items if isinstance(s, ink.Shape)][2:]
        for group in picture.groups
        if group.box
    }
    (work, weights), whole = feet["conv2"], feet["ip1"][1]
    assert work / whole == pytest.approx((1_600_000 / 2_293_000) / (400_500 / 431_080))
    assert weights / whole == pytest.approx(25_050 / 400_500)
    assert feet["pool1"] == []


def test_an_edge_is_wider_where_it_carries_more(lenet):
    edges = {edge.source.name: ink.edge_width(edge.size) for edge in lenet.draw().layout.ways}
    assert edges["conv1"] > edges["pool1"] > edges["ip2"]
    widths = re.findall(r'class="s-edge edge"(?: stroke-width="([\d.]+)")?', lenet.draw().svg())
    assert [float(width or 1) for width in widths] == [round(width, 1) for width in edges.values()]


def test_dot_has_a_node_for_each_box_and_the_shapes_beside_the_edges(lenet):
    dot = lenet.draw(direction="LR").dot()
    assert dot.startswith('digraph "LeNet (TEST)" {\n  rankdir=LR;')
    assert 'b1 [label="conv1\\nconv 5×5 → 20"' in dot
    assert re.search(r'b0 -> b1 \[penwidth=[\d.]+, label="1×28×28"\];', dot)


@pytest.mark.parametrize(
    ("folds", "words"),
    [
        ([], ""),
        ([1], ", one of them a stack of equal blocks"),
        ([1, 2], ", 2 of them stacks of equal blocks"),
    ],
)
def test_the_words_about_stacks_count_them(lenet, monkeypatch, folds, words):
    drawn = lenet.draw()
    monkeypatch.setitem(vars(drawn), "layout", SimpleNamespace(folds=folds, boxes=drawn.layout.boxes))
    assert drawn.contents == f"9 layers in 8 boxes{words}"


def test_net_draw_writes_a_file_and_shows_itself_in_a_notebook(lenet, tmp_path):
    shown = lenet.draw(tmp_path / "net.svg")
    assert (tmp_path / "net.svg").read_text(encoding="utf-8") == shown.svg() == shown._repr_svg_()
    assert repr(shown) == "Drawing of LeNet (TEST): 9 layers in 8 boxes"
    lenet.draw(tmp_path / "net.PNG")
    assert (tmp_path / "net.PNG").read_bytes()[:4] == b"\x89PNG"


def test_wrong_words_are_answered_in_one_line(lenet, tmp_path):
    with pytest.raises(SpecError, match=r"net\.pdf: a drawing is \.svg, \.png or \.dot"):
        lenet.draw(tmp_path / "net.pdf")
    with pytest.raises(SpecError, match="direction 'RL': must be TB or LR"):
        lenet.draw(direction="RL")
    with pytest.raises(SpecError, match="phase 'all': must be train, test or both"):
        lenet.draw(phase="all")


def test_the_command_draws_both_phases(tmp_path, capsys):
    file = tmp_path / "lenet.svg"
    assert main(["draw", "prototxt/lenet/train.yaml", "-o", str(file), "--phase", "both"]) == 0
    assert capsys.readouterr().out == f"Wrote {file}: 10 layers in 9 boxes\n"
    svg = file.read_text(encoding="utf-8")
    assert ">TEST</text>" in svg and 'stroke-dasharray="4 3"' in svg


def test_a_net_without_its_data_is_drawn_without_shapes(tmp_path, capsys):
    net, file = tmp_path / "net.yaml", tmp_path / "net.dot"
    net.write_text(
        "layer:\n- {name: data, type: Data, top: [data, label], data_param: {source: gone, batch_size: 2}}\n"
        f"- {conv('a', 'data')}\n"
        "- {name: own, type: Python, bottom: a, python_param: {module: m, layer: Own}}\n"
    )
    assert main(["draw", str(net), "-o", str(file)]) == 0
    assert "drawn without shapes" in capsys.readouterr().out
    assert "Python Own" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("weights", ["models/cifar10_quick.npz", "no_such_file.npz"])
def test_weights_that_do_not_fit_are_an_error(weights, tmp_path, capsys):
    file = tmp_path / "net.svg"
    assert main(["draw", "prototxt/lenet/deploy.yaml", "--weights", weights, "-o", str(file)]) == 2
    assert weights in capsys.readouterr().err and not file.exists()


def test_the_legend_says_what_the_lines_of_a_stack_are(monkeypatch):
    monkeypatch.setattr(fold, "MANY", 5)
    net = mc.Net(spec_of(*[conv(f"c{k}", f"c{k - 1}" if k else "data") for k in range(6)]))
    assert "in all its blocks together" in net.draw().svg()
    assert "in all its blocks together" not in net.draw(unfold=True).svg()


PARTLY = (  # the shapes before "own" are known
    f"layer:\n- {INPUT}\n- {conv('a', 'data')}\n"
    "- {name: own, type: %s, bottom: a, top: [b, c]%s}\n"
    "- {name: r, type: ReLU, bottom: b, top: b}\n- {name: s, type: Sigmoid, bottom: a}\n"
)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (("Python", ", python_param: {module: m, layer: Own}"), "is code, and code is not run here"),
        (("Strange", ", strange_param: {size: 3}"), "unknown layer type 'Strange'"),
    ],
)
def test_a_layer_that_cannot_be_made_is_a_box_and_the_shapes_before_it_are_drawn(
    layer, why, tmp_path, capsys
):
    net, file = tmp_path / "net.yaml", tmp_path / "net.svg"
    net.write_text(PARTLY % layer)
    assert main(["draw", str(net), "-o", str(file)]) == 0
    told = capsys.readouterr().out
    assert why in told and "drawn without the shapes after it" in told
    svg = file.read_text(encoding="utf-8")
    assert [g.get("data-layer") for g in groups(svg, "box")] == ["data", "a", "own", "s"]
    assert ">3×8×8</text>" in svg and "no shapes are known after own" in svg and "longest" not in svg
    assert main(["summary", str(net)]) == 2


def test_a_net_that_cannot_be_trained_is_drawn_with_all_its_shapes(tmp_path, capsys):
    net, file = tmp_path / "net.yaml", tmp_path / "net.svg"
    net.write_text(
        f"layer:\n- {INPUT}\n- {conv('a', 'data')}\n- {{name: s, type: Softmax, bottom: a, top: s}}\n"
        "- {name: p, type: Power, bottom: s, top: s}\n- {name: loss, type: EuclideanLoss, bottom: [s, data]}\n"
    )
    assert main(["draw", str(net), "-o", str(file), "--phase", "train"]) == 0
    assert "needs its top in backward" in (told := capsys.readouterr().out) and "drawn all the same" in told
    assert "this net cannot be made" in (svg := file.read_text(encoding="utf-8")) and ">3×8×8</text>" in svg


def test_a_net_whose_data_and_loss_are_unknown_is_drawn_in_phase_train(tmp_path, capsys):
    net, file = tmp_path / "net.prototxt", tmp_path / "net.dot"
    net.write_text(
        'layer { name: "d" type: "TripletData" top: "d" top: "l" include { phase: TRAIN } }\n'
        'layer { name: "e" type: "TripletLoss" bottom: "d" bottom: "l" top: "e" include { phase: TRAIN } }\n'
    )
    assert main(["draw", str(net), "-o", str(file)]) == 0
    assert "(TRAIN)" in (dot := file.read_text(encoding="utf-8")) and "← l" in dot


def test_the_command_refuses_other_endings_and_its_own_input(tmp_path, capsys):
    net = tmp_path / "net.svg"
    net.write_text(f"layer:\n- {INPUT}\n")
    assert main(["draw", str(net), "-o", "net.pdf"]) == 2
    assert main(["draw", str(net), "-o", str(net)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and "let the name end so" in errors[0] and "written over" in errors[1]


def test_a_net_in_one_phase_is_drawn_in_the_other(tmp_path):
    text = (
        "layer:\n- {name: data, type: DummyData, dummy_data_param: {shape: {dim: [1, 3]}}}\n"
        "- {name: only, type: Softmax, bottom: data, include: {phase: TRAIN}}\n"
    )
    net = mc.Net(parse_net(text), phase="test")
    assert '"only"' not in net.draw().svg()
    assert 'data-layer="only"' in net.draw(phase="train").svg()
    assert ">TRAIN</text>" in net.draw(phase="both").svg()


def test_marks_of_low_rank_recurrent_shared_and_fixed_layers_are_drawn():
    text = (
        "layer:\n"
        "- {name: x, type: Input, top: [x, cont], input_param: {shape: [{dim: [7, 2, 5]}, {dim: [7, 2]}]}}\n"
        "- {name: lstm, type: LSTM, bottom: [x, cont], recurrent_param: {num_output: 4}}\n"
        "- {name: a, type: InnerProduct, bottom: lstm, param: {name: w}, inner_product_param: {num_output: 4}}\n"
        "- {name: b, type: InnerProduct, bottom: lstm, param: {name: w}, inner_product_param: {num_output: 4}}\n"
        f"- {join('c', 'a', 'b')}\n"
        "- {name: d, type: InnerProduct, param: [{lr_mult: 0}], inner_product_param: {num_output: 9}}\n"
        "- {name: e, type: InnerProduct, inner_product_param: {num_output: 9}, low_rank_param: {rank: 2}}\n"
    )
    net = mc.Net(parse_net(text))
    for direction in ("TB", "LR"):
        picture = net.draw(direction=direction)
        texts = [text.text for text in ET.fromstring(picture.svg()).iter(f"{SVG}text")]
        assert texts.count("1") == 2 and "T=7" in texts
        assert any("rank 2 of 9" in text for text in texts)
        picture.png()
