"""NetSetting fields in the YAML text of a net: the fields change, and not one other byte."""

import pytest
import yaml

from minicaffe.errors import SpecError
from minicaffe.spec.edit import _write, set_layer_fields
from minicaffe.spec.net import parse_net
from tests import ROOT

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

PROTOTXT = ROOT / "prototxt"
LONG = ("resnet101", "resnet152", "densenet121")  # the blocks of resnet50, and of googlenet, many of them
NETS = sorted(
    path
    for path in PROTOTXT.glob("*/*.yaml")
    if not path.name.startswith("solver") and "lowrank" not in path.name
    if path.parent.name not in LONG
)
LOW_RANK = {"rank": 12, "scheme": "spatial", "factored": True}

NET = """\
# a small net
name: small

layer:
- name: data    # images
  type: Input
  input_param: {shape: {dim: [4, 3, 8, 8]}}

# the first convolution
- name: conv1
  type: Convolution
  convolution_param: {num_output: 4, kernel_size: 3}  # four\twindows
  param: [{lr_mult: 1}, {lr_mult: 2}]
  # what follows is normalized

# the second
- type: Convolution
  name: "conv2"
  convolution_param:   # in block style
    # as wide
    num_output: 4
    kernel_size: 3     # as before
  top: conv2

- {name: 'ip', type: InnerProduct,   # in flow style
   inner_product_param: {num_output: 10},
   bottom: conv2,  # the last
  }
- name: größe
  type: ReLU
"""


def data(text):
    """The layers of a net spec, as plain data."""
    return yaml.safe_load(text)["layer"]


def changed(text, *edits):
    """``text`` with (old, new) pieces replaced, each of which it has once."""
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("path", NETS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_our_own_nets_take_fields_and_give_them_back(path):
    text = path.read_text(encoding="utf-8")
    names = [x.name for x in parse_net(text).layer if x.type in ("Convolution", "InnerProduct")]
    low = {"rank": 2}
    new = set_layer_fields(text, {name: {"low_rank_param": low} for name in names}, str(path))
    field = "low_rank_param: {rank: 2}"
    assert new.replace(f"\n  {field}", "").replace(f", {field}", "") == text
    ranks = {x.name: x.low_rank_param.rank for x in parse_net(new).layer if hasattr(x, "low_rank_param")}
    assert ranks == dict.fromkeys(names, 2) and names
    assert set_layer_fields(new, {name: {"low_rank_param": low} for name in names}) == new
    assert set_layer_fields(new, {name: {"low_rank_param": None} for name in names}) == text


def test_comments_and_layout_survive():
    changes = {"low_rank_param": LOW_RANK, "convolution_param.bias_term": False}
    new = set_layer_fields(NET, {"conv1": changes, "conv2": changes, "ip": {"low_rank_param": {"rank": 0.5}}})
    flow = "low_rank_param: {rank: 12, scheme: spatial, factored: true}"
    assert new == changed(
        NET,
        (
            "kernel_size: 3}  # four\twindows\n",
            f"kernel_size: 3, bias_term: false}}  # four\twindows\n  {flow}\n",
        ),
        ("# as before\n", f"# as before\n    bias_term: false\n  {flow}\n"),
        ("bottom: conv2, ", "bottom: conv2, low_rank_param: {rank: 0.5}, "),
    )
    removed = dict.fromkeys(changes)
    assert set_layer_fields(new, {"conv1": removed, "conv2": removed, "ip": {"low_rank_param": None}}) == NET


def test_a_field_that_is_there_is_replaced_where_it_stands():
    new = set_layer_fields(
        NET,
        {
            "conv1": {"convolution_param.num_output": 8, "param": [{"lr_mult": 1.0}]},
            "conv2": {"convolution_param.kernel_size": [3, 5], "top": "top 2"},
            "ip": {"type": "Inner", "inner_product_param": {"num_output": 2}},
        },
    )
    assert new == changed(
        NET,
        ("{num_output: 4, ", "{num_output: 8, "),
        ("[{lr_mult: 1}, {lr_mult: 2}]", "[{lr_mult: 1.0}]"),
        ("kernel_size: 3     #", "kernel_size: [3, 5]     #"),
        ("top: conv2\n", "top: top 2\n"),
        ("InnerProduct,", "Inner,"),
        ("num_output: 10", "num_output: 2"),
    )


def test_a_message_in_block_style_gives_way_to_one_line():
    new = set_layer_fields(NET, {"conv2": {"convolution_param": {"num_output": 7}}})
    block = NET[NET.index("   # in block style") : NET.index("  top: conv2")]
    assert new == changed(
        NET, ("convolution_param:" + block, "convolution_param: {num_output: 7}   # in block style\n")
    )
    new = set_layer_fields(
        NET, {"conv2": {f"convolution_param.{n}": None for n in ("num_output", "kernel_size")}}
    )
    assert "  convolution_param: {}   # in block style\n  top: conv2\n" in new


@pytest.mark.parametrize(
    "text, changes, expected",
    [
        ("- name: x\n", {"a": 1}, "- name: x\n  a: 1\n"),
        ("- name: x\n  a:", {"a": 1, "b": 2}, "- name: x\n  a: 1\n  b: 2"),
        ("- name: x", {"a": 1, "b": 2}, "- name: x\n  a: 1\n  b: 2"),
        ("- name: x\n  b: 1\n", {"a": 1, "b": None}, "- name: x\n  a: 1\n"),
        ("- name: x\n  a:\n  b: 1", {"a": 2, "b": None}, "- name: x\n  a: 2"),
        ("- name: x\n  a:   # none", {"a.b.c": 2}, "- name: x\n  a: {b: {c: 2}}   # none"),
        ("- name: x\n  a: ~", {"a.b": None}, "- name: x\n  a: ~"),
        ("- name: x", {"a.b": 1, "a.c": 2, "d.e": None}, "- name: x\n  a: {b: 1, c: 2}"),
        ("- a: 1   # gone\n  name: x", {"a": None}, "- name: x"),
        ("- a: 1\n  # kept\n  name: x", {"a": None}, "- \n  # kept\n  name: x"),
        ("-\n  a: 1\n  b: 2\n  name: x", {"a": None, "b": None}, "-\n  name: x"),
        ("- name: x\n  a:\n    b: 1\n    c: 2\n\n# next\n", {"a": None}, "- name: x\n\n# next\n"),
        (
            "- name: x\n  a:\n    b: 1\n    c: 2\n  d: 3\n",
            {"a.b": None},
            "- name: x\n  a:\n    c: 2\n  d: 3\n",
        ),
        ("- name: x\n  a:\n    b: 1\n  d: 3\n", {"a.b": None, "a.c": 2}, "- name: x\n  a: {c: 2}\n  d: 3\n"),
        ("- name: x\n  a:\n  - 1\n  - 2  # two\n", {"a": [3]}, "- name: x\n  a: [3]\n"),
        (
            "- name: x\n  a: |\n    one\n\n\n# next",
            {"b": 2},
            "- name: x\n  a: |\n    one\n  b: 2\n\n\n# next",
        ),
        ("- name: x\n  a: |\n    one\n\n  b: 3", {"a": "two"}, "- name: x\n  a: two\n\n  b: 3"),
        ("- name: x\n  a: one\n    and two\n  b: 3", {"a": "two"}, "- name: x\n  a: two\n  b: 3"),
        (
            "- name: x\n  a: 'one\n\n    two' # c\n",
            {"b": 1},
            "- name: x\n  a: 'one\n\n    two' # c\n  b: 1\n",
        ),
        ("- name: x\n  a_param: {}\n  top: y\n", {"b": 1}, "- name: x\n  a_param: {}\n  b: 1\n  top: y\n"),
        ("- {name: x}", {"a": {}, "b": []}, "- {name: x, a: {}, b: []}"),
        ("- {name: x, a: {}}", {"a.b": 1}, "- {name: x, a: {b: 1}}"),
        ("- {name: x, a: { }}", {"a.b": None}, "- {name: x, a: { }}"),
        ("- {name: x, a: {b: 1}}", {"a.b": None}, "- {name: x, a: {}}"),
        ("- {name: x, a: }", {"b": 1}, "- {name: x, a:, b: 1 }"),
        ("- {name: x, a: , b: 2}", {"a": 1}, "- {name: x, a: 1 , b: 2}"),
        ("- {a: 1, b: 2, name: x}", {"a": None, "b": None, "c": 3}, "- {name: x, c: 3}"),
        ("- {name: x, a: 1, b: 2}", {"a": None, "b": None, "c": 3}, "- {name: x, c: 3}"),
        ("- {name: x,  # c\n  a: 1, b: 2}", {"a": None, "b": None}, "- {name: x,  # c\n  }"),
        ("- {name: x,  # c\n  a: 1, b: 2}", {"a": None}, "- {name: x,  # c\n  b: 2}"),
        ("- {name: x, }", {"a": 1}, "- {name: x, a: 1, }"),
        ('- {"name":"x","a":"1"}', {"a": "y"}, '- {"name":"x","a":y}'),
        ('- "name": x\n  "a": 1', {"a": 2, "b": 3}, '- "name": x\n  "a": 2\n  b: 3'),
        ("  name: x\n  type: y", {"a": 1}, "  name: x\n  type: y\n  a: 1"),
        (
            "    - name: x\n      a:\n          b: 1",
            {"a.c": 2},
            "    - name: x\n      a:\n          b: 1\n          c: 2",
        ),
        (
            "- name: x\n  a: &p [1]\n- name: y\n  a: *p",
            {"b": 1},
            "- name: x\n  a: &p [1]\n  b: 1\n- name: y\n  a: *p",
        ),
        (
            "- name: y\n  b: &p [1]\n- name: x\n  a: *p",
            {"a": [2]},
            "- name: y\n  b: &p [1]\n- name: x\n  a: [2]",
        ),
        ("- name: x\n  a: &p\n    b: 1\n  c: 1", {"a": 2}, "- name: x\n  a: 2\n  c: 1"),
        ("- name: x\n- name: x\n  a: 1", {"a": 2}, "- name: x\n  a: 2\n- name: x\n  a: 2"),
        ("- name: x\n...\n", {"a": 2}, "- name: x\n  a: 2\n...\n"),
        ("- name: x # \U0001f600\n  b: é\n", {"a": "ü"}, "- name: x # \U0001f600\n  b: é\n  a: ü\n"),
    ],
)
def test_in_each_layout_a_change_lands_where_a_reader_would_make_it(text, changes, expected):
    for head in ("layer:\n", "---\n# top\nlayers:\n", "\ufefflayer:\n"):
        for line_break in ("\n", "\r\n", "\r"):
            old, new = ((head + x).replace("\n", line_break) for x in (text, expected))
            assert set_layer_fields(old, {"x": changes}) == new


def test_every_layer_of_a_name_is_changed():
    text = (PROTOTXT / "lenet/train.yaml").read_text(encoding="utf-8")
    name = parse_net(text).layer[0].name
    count = [x.name for x in parse_net(text).layer].count(name)
    assert count == 2
    assert set_layer_fields(text, {name: {"propagate_down": False}}).count("propagate_down: false") == 2


@pytest.mark.parametrize(
    "value, written",
    [
        (True, "true"),
        (12, "12"),
        (0.5, "0.5"),
        (1e-5, "1.0e-05"),
        (1e22, "1.0e+22"),
        (0.1 + 0.2, "0.30000000000000004"),
        ("spatial", "spatial"),
        ("data/cifar10/train", "data/cifar10/train"),
        ("two words", "two words"),
        ("", "''"),
        ("yes", "'yes'"),
        ("12", "'12'"),
        ("a: b", "'a: b'"),
        ("a, b", "'a, b'"),
        ("# a", "'# a'"),
        ("a\nb", '"a\\nb"'),
        ("a\nb\t", '"a\\nb\\t"'),
        ("\ufeff\x85\u2028\x00", '"\\uFEFF\\N\\L\\0"'),
        ("größe \U0001f600", "größe \U0001f600"),
        ([1, "x", [2.0]], "[1, x, [2.0]]"),
        ({"a": {"b": [None]}, "on": []}, "{a: {b: [null]}, 'on': []}"),
        ("x" * 300 + " " + "y" * 300, "x" * 300 + " " + "y" * 300),
    ],
)
def test_values_are_quoted_only_where_they_must_be_and_read_back(value, written):
    assert _write(value) == written
    for text in ("layer:\n- name: x", "layer: [{name: x}]", "layer:\n- name: x\n  a: {b: 1}"):
        assert data(set_layer_fields(text, {"x": {"a": value}}))[0]["a"] == value


def test_a_name_that_no_layer_has_is_refused_with_the_nearest():
    with pytest.raises(SpecError, match=r"^net.yaml: no layer is named 'conv3'; did you mean 'conv[12]'\?$"):
        set_layer_fields(NET, {"conv1": {"a": 1}, "conv3": {"a": 1}}, "net.yaml")


# (text, fields of layer x, what the message must say)
SHARED = [
    ("layer:\n- &a {name: x}\n- *a", {"b": 1}, r"n:2: layer 'x': has an anchor \('&'\) that other places"),
    (
        "layer:\n- name: y\n  <<: &a {name: x}\n- *a",
        {"b": 1},
        r"n:4: layer 'x': is only a reference \('\*a'\)",
    ),
    ("layer:\n- &a\n  name: x\n- <<: *a\n  name: y", {"b": 1}, r"n:2: layer 'x': has an anchor"),
    ("layer:\n- &a {name: y}\n- <<: *a\n  name: x", {"b": 1}, r"n:3: layer 'x': takes fields .*'<<'"),
    (
        "layer:\n- name: y\n  c: &a {b: 1}\n- {name: x, c: *a}",
        {"c.b": 2},
        r"n:4: layer 'x': c: is only a ref",
    ),
    (
        "layer:\n- name: x\n  c: &a {b: 1}\n- {name: y, c: *a}",
        {"c.b": 2},
        r"n:3: layer 'x': c: has an anchor",
    ),
    ("layer:\n- name: x\n  c: &a {b: 1}\n- {name: y, c: *a}", {"c": {}}, r"n:3: layer 'x': c: has an anchor"),
    (
        "layer:\n- name: x\n  c: &a {b: 1}\n- {name: y, c: *a}",
        {"c": None},
        r"n:3: layer 'x': c: has an anchor",
    ),
    (
        "layer:\n- name: y\n  c: &a {b: 1}\n- {name: x, c: {<<: *a}}",
        {"c.b": 2},
        r"n:4: layer 'x': c: takes f",
    ),
    ("layer:\n- name: x\n  c: {d: &a [1]}\n- {name: y, c: *a}", {"c": 2}, r"n: a layer's layout or anchors"),
    ("layer: &a\n- name: x\nlayers: *a", {"b": 1}, r"n:1: layer 'x': has an anchor"),
    ("input: &a [{name: x}]\nlayer: *a", {"b": 1}, r"n:2: layer 'x': is only a reference"),
    ("<<: {layer: [{name: x}]}\nname: net", {"b": 1}, r"n:1: layer 'x': takes fields"),
]


@pytest.mark.parametrize("text, fields, message", SHARED)
def test_what_other_places_share_is_never_changed(text, fields, message):
    with pytest.raises(SpecError, match="^" + message) as error:
        set_layer_fields(text, {"x": fields}, "n")
    assert "write" in str(error.value)


@pytest.mark.parametrize(
    "text, fields, message",
    [
        ("layer: [", {"b": 1}, r"^n:1: not valid YAML"),
        (
            "layer:\n- name: x\n  a: 5",
            {"a.b": 1},
            r"^n:3: layer 'x': a: expected a mapping .* got a single value",
        ),
        ("layer:\n- name: x\n  a: [1]", {"a.b": 1}, r"^n:3: layer 'x': a: expected a mapping .* got a list"),
        ("layer:\n- name: x", {"a": {}, "a.b": 1}, r"^a: set both as a whole and in part"),
        ("layer: [5, {}, {name: {}}, {name: [x]}, {name: }]", {"a": 1}, r"^n: no layer is named 'x'$"),
        ("name: net", {"a": 1}, r"^n: no layer is named 'x'$"),
        ("layer: 5", {"a": 1}, r"^n: no layer is named 'x'$"),
        ("layer: [name: x]", {"a": 1}, r"^n: a layer's layout"),
        ("layer:\n- name: x\n  a: |\n    no line break", {"b": 1}, r"^n: a layer's layout"),
    ],
)
def test_what_cannot_be_edited_is_refused(text, fields, message):
    with pytest.raises(SpecError, match=message):
        set_layer_fields(text, {"x": fields}, "n")
