"""Reading .prototxt: all that protobuf's text format allows, and errors that give the line and a fix."""

import logging

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.caffe.formats.messages import message_class
from minicaffe.caffe.formats.prototxt import MAX_DEPTH, check_kinds, parse_prototxt
from minicaffe.caffe.formats.prototxt_text import prototxt_text
from minicaffe.caffe.formats.schema import parse_schema
from minicaffe.caffe.formats.spec_tree import number
from minicaffe.caffe.formats.tree import Scalar, Tree
from minicaffe.errors import SpecError
from minicaffe.files.spec_formats import load_net, open_net, open_solver
from minicaffe.spec.reader import Where

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

NET = """name: "small"
layer {
  name: "data"
  type: "Input"
  top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } }
}
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 }
}
layer {
  name: "pool"
  type: "Pooling"
  bottom: "conv"
  top: "pool"
  pooling_param { kernel_size: 2 stride: 2 }
}
"""


@pytest.fixture
def net_file(tmp_path):
    """A net.prototxt of the text that it is called with."""

    def write(text):
        (tmp_path / "net.prototxt").write_text(text)
        return tmp_path / "net.prototxt"

    return write


def fields_of(text, message="LayerParameter"):
    """{field: [texts]} of what stands in one message."""
    tree = parse_prototxt(text, "net.prototxt")
    check_kinds(tree, message, Where("net.prototxt"))
    return {
        name: [v.text if isinstance(v, Scalar) else v for v in values] for name, values in tree.fields.items()
    }


@pytest.mark.parametrize(
    "text",
    [
        'bottom: "a" bottom: "b" loss_weight: 16',
        'bottom: ["a", "b"], loss_weight: [16];',
        "bottom:'a';bottom:'b';loss_weight:16.f",
        '# a comment: { "\nbottom:\n"a" bottom: "b" # bottom: "c"\nloss_weight: 1.6E1',
        '\ufeffbottom: "" "a" \'\' bottom: "\\x62" loss_weight: 16.',
        'bottom: "\\141" bottom: "\\u0062"\r\nloss_weight: 16\r\n',
        "bottom: 'a' bottom: [] bottom: 'b' loss_weight: 1.6E1f propagate_down: []",
        "bottom: ['a'] bottom: ['b'] loss_weight: 1600e-2F",
    ],
)
def test_every_way_of_writing_values_reads_the_same(text):
    found = fields_of(text)
    assert found["bottom"] == ["a", "b"]
    assert float(found["loss_weight"][0]) == 16


@pytest.mark.parametrize("text", ["pool: MAX", "pool: 0", "pool : 0 ;"])
def test_a_word_of_an_enum_may_be_its_number(text):
    assert fields_of(text, "PoolingParameter") == {"pool": ["MAX"]}


@pytest.mark.parametrize(("written", "means"), [("0x10", "16"), ("020", "16"), ("16", "16"), ("0", "0")])
def test_whole_numbers_are_decimal_hexadecimal_or_octal(written, means):
    assert fields_of(f"pad: {written}", "PoolingParameter") == {"pad": [means]}


@pytest.mark.parametrize(("message", "field"), [("BlobShape", "dim"), ("ConcatParameter", "axis")])
def test_so_are_those_of_64_bits_and_with_a_sign(message, field):
    assert fields_of(f"{field}: -0x10", message) == {field: ["-16"]}


def test_the_mark_of_a_fraction_is_no_part_of_a_whole_number():
    assert fields_of("axis: 4f", "ConcatParameter") == {"axis": ["4f"]}, (
        "which the spec refuses, as protobuf does"
    )


@pytest.mark.parametrize("written", ["true", "True", "t", "1"])
def test_truth_has_four_spellings(written):
    assert fields_of(f"bias_term: {written}", "ConvolutionParameter") == {"bias_term": ["true"]}
    false = {"true": "false", "True": "False", "t": "f", "1": "0"}[written]
    assert fields_of(f"bias_term: {false}", "ConvolutionParameter") == {"bias_term": ["false"]}


@pytest.mark.parametrize(
    "text", ["shape { dim: 3 }", "shape < dim: 3 >", "shape: { dim: 3 }", "shape: [{ dim: 3 }]"]
)
def test_messages_stand_in_either_bracket(text):
    (shape,) = fields_of(text, "InputParameter")["shape"]
    assert shape.texts("dim") == ["3"]


def test_a_text_may_hold_anything_in_quotes(net_file):
    name = 'a\n"b": {c} # \\ é \U0001f600'
    text = NET.replace('"small"', r'"a\n\"b\": {c} # \\ \303\251 \U0001f600"')
    assert open_net(net_file(text)).name == name


def test_escapes_mean_what_they_do_in_c():
    text = parse_prototxt(r'name: "\a\b\f\n\r\t\v\?\101\x41"', "net.prototxt").text("name")
    assert text == "\a\b\f\n\r\t\v?AA"


@pytest.mark.parametrize("code", [*range(128), 0xE9, 0x2028, 0x1F600])
def test_each_letter_is_written_so_that_protobuf_and_we_read_it_again(code):
    text_format = pytest.importorskip("google.protobuf.text_format")
    name = f"{chr(code)}1{chr(code)}"  # a digit would be taken for one of a number before it
    written = prototxt_text(Tree(0, {"name": [Scalar(name, quoted=True)]}))
    assert len(written.splitlines()) == 1 + 2 * (code == 0x2028) and (
        code > 127 or written[:-1].isprintable()
    )
    assert text_format.Parse(written, message_class("NetParameter")()).name == name
    assert parse_prototxt(written, "net.prototxt").text("name") == name


def test_what_caffe_has_not_is_written_as_it_was_read():
    text = 'other_param {\n  mode: "a b"\n  kind: MAX\n  size: 3\n}\n'
    assert prototxt_text(parse_prototxt(text, "net.prototxt")) == text


def test_a_net_opens_as_its_yaml_twin_does(net_file):
    net = mc.Net(net_file(NET), phase="test")
    assert net.name == "small"
    assert {name: blob.shape for name, blob in net.blobs.items()} == {
        "data": (1, 3, 8, 8),
        "conv": (1, 4, 6, 6),
        "pool": (1, 4, 3, 3),
    }


def test_fields_that_only_specs_here_have_may_be_used(net_file):
    text = NET.replace("convolution_param", "low_rank_param { rank: 2 }\n  convolution_param")
    assert open_net(net_file(text)).layer[1].low_rank_param.rank == 2


# (what is wrong, text to replace, what stands there instead, what the message must say)
BROKEN = [
    (
        "an unknown field",
        "num_output: 4",
        "num_outputs: 4",
        r"net.prototxt:13: layer 'conv': convolution_param.num_outputs: unknown field; did you mean 'num_output'",
    ),
    (
        "an unknown field of the layer",
        'top: "conv"',
        'topp: "conv"',
        r"net.prototxt:12: layer 'conv': topp: unknown",
    ),
    ("an unknown field of the net", 'name: "small"', 'nam: "small"', r"net.prototxt:1: nam: unknown field"),
    (
        "a field of another type",
        "convolution_param",
        "pooling_param",
        r"net.prototxt:8: layer 'conv': convolution_param.num_output: required",
    ),
    ("an unknown type", '"Convolution"', '"Convolutoin"', r"layer 'conv': type: unknown .*'Convolution'"),
    (
        "an enum as a type",
        '"Convolution"',
        "CONVOLUTION",
        r"net.prototxt:10: layer 'conv': type: expected quotes",
    ),
    (
        "quotes around a number",
        "num_output: 4",
        'num_output: "4"',
        r"net.prototxt:13: layer 'conv': convolution_param.num_output: expected no quotes around 4",
    ),
    (
        "no quotes around a text",
        'name: "conv"',
        "name: conv",
        r"layer 'conv': name: expected quotes around conv",
    ),
    (
        "a word for a number",
        "num_output: 4",
        "num_output: four",
        r"num_output: expected a whole number, got 'four'",
    ),
    ("a fraction for a count", "num_output: 4", "num_output: 4.5", r"num_output: expected a whole number"),
    ("a count out of range", "num_output: 4", "num_output: -4", r"num_output: -4 is out of range"),
    (
        "two words in one",
        "num_output: 4 kernel",
        "num_output: 4kernel",
        r"net.prototxt:13: cannot be read from '4kern",
    ),
    (
        "two numbers in one",
        "num_output: 4",
        "num_output: 4.5.6",
        r"net.prototxt:13: cannot be read from '4.5.6",
    ),
    (
        "a mark of a fraction",
        "num_output: 4",
        "num_output: 4f",
        r"num_output: expected a whole number, got '4f'",
    ),
    ("a bad octal number", "num_output: 4", "num_output: 09", r"num_output: 09: .*octal"),
    ("a number beyond all", "num_output: 4", "num_output: 0x" + 60 * "f", r"num_output: .*out of range"),
    ("a missing number", "num_output: 4 ", "", r"layer 'conv': convolution_param.num_output: required"),
    (
        "a wrong word",
        "stride: 2",
        "stride: 2 pool: MAXX",
        r"net.prototxt:20: .*pool.*MAXX.*did you mean 'MAX'",
    ),
    (
        "a wrong truth",
        "num_output: 4",
        "num_output: 4 bias_term: maybe",
        r"bias_term: expected true or false",
    ),
    ("not a number", "num_output: 4", "num_output: 4 weight_filler { std: nan }", r"std: expected a number"),
    (
        "a field given twice",
        "num_output: 4",
        "num_output: 4\nnum_output: 5",
        r"net.prototxt:14: layer 'conv': convolution_param.num_output: given twice \(first at line 13\)",
    ),
    (
        "a value for a message",
        "{ num_output: 4 kernel_size: 3 }",
        ": 4",
        r"net.prototxt:13: layer 'conv': convolution_param: expected fields in brackets",
    ),
    ("a message for a value", "num_output: 4", "num_output { a: 4 }", r"num_output: expected a value"),
    (
        "a bracket not closed",
        "stride: 2 }\n}",
        "stride: 2 }",
        r"net.prototxt:21: .*'}' to the '{' of line 15.*the end",
    ),
    (
        "a bracket too many",
        "stride: 2 }\n}",
        "stride: 2 }\n}\n}",
        r"net.prototxt:22: expected a field's name, got '}'",
    ),
    (
        "another bracket",
        "stride: 2 }",
        "stride: 2 >",
        r"net.prototxt:20: .*'}' to the '{' of line 20, got '>'",
    ),
    ("a quote not closed", 'top: "pool"', 'top: "pool', r"net.prototxt:19: cannot be read from '\"pool'"),
    ("no colon", "stride: 2", "stride 2", r"net.prototxt:20: expected ':' or '\{' after 'stride', got '2'"),
    ("no value", "stride: 2", "stride:", r"net.prototxt:20: expected a value for 'stride', got '}'"),
    ("an extension", "stride: 2", "[caffe.more]: 2", r"net.prototxt:20: expected a field's name.*got '\['"),
    ("a list not closed", 'bottom: "conv"', 'bottom: ["conv"', r"net.prototxt:19: expected ',' or ']'"),
    ("a strange sign", "stride: 2", "stride: $2", r"net.prototxt:20: cannot be read from '\$2"),
    (
        "YAML",
        NET,
        "name: small\nlayer:\n- name: data\n",
        r"net.prototxt:3: layer 'data': type: required, but not given",
    ),
    ("nothing", NET, " # empty\n", r"net.prototxt: the file is empty"),
    ("escapes that are no text", '"small"', r'"\377"', r"net.prototxt:1: .*not UTF-8"),
    ("a half character", '"small"', r'"\ud800"', r"net.prototxt:1: .*not UTF-8"),
    ("a word without end", '"small"', 5000 * "a", r"net.prototxt:1: a word of 5000 letters"),
    (
        "include and exclude",
        'name: "pool"',
        'name: "pool" include { phase: TRAIN } exclude { phase: TEST }',
        r"layer 'pool': exclude: .*not both",
    ),
    (
        "a bottom that nobody makes",
        'bottom: "data"',
        'bottom: "dta"',
        r"no layer makes the blob 'dta'.*'data'",
    ),
    ("inputs without shapes", 'name: "small"', 'input: "x"', r"net.prototxt:1: input: 1 names but 0 shapes"),
]


@pytest.mark.parametrize(("what", "old", "new", "message"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_broken_prototxt_says_file_line_layer_and_fix(net_file, what, old, new, message):
    assert old in NET
    with pytest.raises(SpecError, match=message) as caught:
        mc.Net(net_file(NET.replace(old, new, 1)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text", ["'" + 1_100_000 * r"\377" + "'", 600_000 * "'a'"], ids=["escapes", "pieces"]
)
def test_a_text_without_end_is_an_error(net_file, text):
    with pytest.raises(
        SpecError, match=r"net.prototxt:1: (a text of more than 1000000 letters|cannot be read)"
    ):
        open_net(net_file(f"name: {text}"))


def test_values_without_end_are_an_error(net_file, monkeypatch):
    monkeypatch.setattr("minicaffe.caffe.formats.prototxt.MAX_NODES", 100)
    with pytest.raises(SpecError, match=r"net\.prototxt:101: more than 100 values; is it a net\?"):
        open_net(net_file("input_dim: 1\n" * 200))


@pytest.mark.parametrize("opening", ["layer {", "a <", "a: { b: [{ "])
def test_nesting_without_end_is_an_error(net_file, opening):
    with pytest.raises(SpecError, match=f"nested more than {MAX_DEPTH} deep"):
        open_net(net_file(opening * 100_000))


def test_a_message_that_lacks_the_type_of_its_layer_has_the_line(net_file):
    with pytest.raises(SpecError, match=r"net.prototxt:9: layer 'conv': type: required"):
        open_net(net_file(NET.replace('type: "Convolution"', "", 1).replace("layer {", "\nlayer {", 1)))


def test_settings_of_other_types_are_ignored_with_a_warning(net_file, caplog):
    """As in Caffe: Faster R-CNN's deploy nets have a Softmax with ``loss_param``."""
    path = net_file(NET.replace("pooling_param {", "loss_param { normalize: true }\npooling_param {"))
    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        net = mc.Net(path)
    assert [layer.name for layer in net.layers] == ["data", "conv", "pool"]
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "loss_param" in text)
    ignored = (
        f"{path}:{line}: layer 'pool': loss_param: ignored, as in Caffe: a Pooling layer does not have it"
    )
    assert [record.getMessage() for record in caplog.records] == [ignored]


def test_a_layer_without_a_name_gets_that_of_its_top(net_file):
    """Caffe runs it; of several such layers each has a name of its own, and none takes another layer's."""
    text = NET.replace('name: "conv"', "").replace('name: "pool"', "")
    relu = 'layer { type: "ReLU" bottom: "pool" top: "pool" }'
    last = 'layer { type: "ReLU" bottom: "pool" top: "r" } layer { name: "r" type: "Silence" bottom: "r" }'
    names = [layer.name for layer in mc.Net(net_file(text + relu + last)).layers]
    assert names == ["data", "conv", "pool", "pool_2", "r_2", "r"]
    slices = 'layer { type: "Slice" bottom: "pool" top: "one" top: "two" top: "three" top: "four" }'
    assert mc.Net(net_file(NET + slices)).layers[-1].name == "one", "of its tops it is the first"


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ('bottom: "conv"', "layer 'pool': bottom: Pooling takes 1, got 0"),
        ('top: "pool"', "layer 'pool': top: Pooling takes 1 to 2, got 0"),
    ],
)
def test_a_forgotten_bottom_or_top_is_an_error_as_in_caffe(net_file, lost, message):
    with pytest.raises(SpecError, match=message):
        mc.Net(net_file(NET.replace(lost, "")))


def test_a_loss_may_have_no_top_as_in_caffe(net_file):
    loss = 'layer { name: "loss" type: "EuclideanLoss" bottom: "pool" bottom: "pool" }'
    assert mc.Net(net_file(NET + loss)).outputs == ["loss"]


@pytest.mark.parametrize("text", ["# nothing", 'name: "empty"', 'state { stage: "a" }'])
def test_a_net_without_layers_is_one_line(net_file, text, tmp_path):
    for opened in (mc.Net, lambda path: mc.convert(path, out_dir=tmp_path)):
        with pytest.raises(SpecError, match=r"no layers|the file is empty"):
            opened(net_file(text))


def test_what_needs_yaml_says_how_to_make_it(net_file):
    path = net_file(NET)
    with pytest.raises(
        SpecError, match=f"{path}: YAML is needed here; 'minicaffe convert {path} -o DIR' writes"
    ):
        load_net(path)


def test_a_binary_file_for_a_text_is_an_error(tmp_path):
    (tmp_path / "net.prototxt").write_bytes(b"\x80\x81\x82")
    for opened in (open_net, open_solver):
        with pytest.raises(SpecError, match=r"net.prototxt:1: cannot be read from"):
            opened(tmp_path / "net.prototxt")


def test_an_enum_of_the_message_goes_before_one_of_the_file():
    """As names do in protobuf: the innermost that there is."""
    enums = "enum Kind {\n  A = 0;\n}\nmessage One {\n  enum Kind {\n    B = 3;\n  }\n"
    fields = "  optional Kind kind = 1;\n}\nmessage Two {\n  optional Kind kind = 1;\n}\n"
    messages = parse_schema(enums + fields)
    assert [messages[name]["kind"].values for name in ("One", "Two")] == [{"B": 3}, {"A": 0}]


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.1, "0.1"), (float(np.float32(0.1)), "0.1"), (2.0, "2"), (1e-20, "1e-20"), (16, "16")],
)
def test_a_number_is_written_as_the_shortest_that_is_the_same_float32(value, written):
    assert number(value).text == written and np.float32(written) == np.float32(value)
