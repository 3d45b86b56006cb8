"""Small texts that would grow without end, or are too deep: one line, soon, in little memory."""

import tracemalloc

import pytest

from minicaffe.caffe.formats.prototxt import parse_prototxt
from minicaffe.errors import SpecError
from minicaffe.spec.net import parse_net

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


def lists(depth):
    """Lists of nine times the list before, each named."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    return "\n".join(lines + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth)])


def merges(fields, times, layers):
    wide = "a: &a {" + ", ".join(f"f{i}: 1" for i in range(fields)) + "}\n"
    return wide + "layer:\n" + f"- {{<<: [{', '.join(['*a'] * times)}]}}\n" * layers


BOMBS = {
    "lists of lists": (lists(30) + "\nlayer: *a29", "too many nodes"),
    "lists of lists as a field's name": (lists(30) + "\n? *a29\n: 1", "30: .* name cannot be a list"),
    "lists of lists as a name in brackets": (lists(30) + "\nb: {? *a29 : 1}", "30: .* name cannot be a list"),
    "a mapping as a name": ("? {a: b}\n: 1", "1: .* name cannot be a mapping"),
    "a name of itself": ("a: &a\n  ? *a\n  : 1", "1: .* name cannot be a mapping"),
    "a list of itself": ("layer: &a [*a]", "too many nodes"),
    "a mapping of itself": ("layer: &a {x: *a}", "too many nodes"),
    "a merge of itself": ("layer: &a {<<: *a}", "merges .* merging themselves"),
    "many merges of many fields": (merges(300, 30, 100), "too many nodes"),
    "many merges of the same few fields": (merges(100, 100, 100), "too many nodes"),
    "a deep list": ("a: " + "[" * 500, "1: .* nested more than 100 deep"),
    "a deep mapping": ("{a: " * 500, "1: .* nested more than 100 deep"),
    "deep lines": ("".join(" " * i + "a:\n" for i in range(200)), "100: .* nested more than 100 deep"),
    "deep names": ("? " * 500, "1: .* nested more than 100 deep"),
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_a_text_that_grows_is_one_line_and_little_memory(monkeypatch, name):
    monkeypatch.setattr(
        "minicaffe.spec.reader._Budget.left", 10_000
    )  # a thirtieth, so that the test is soon over
    text, message = BOMBS[name]
    tracemalloc.start()
    try:
        with pytest.raises(SpecError, match=message) as caught:
            parse_net(text, "net.yaml")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("opening", ["a {", "a: {", "a <", "a [", "a: [ {"])
def test_a_deep_prototxt_is_one_line(opening):
    with pytest.raises(SpecError, match=r"net.prototxt:1: .*(nested more than 100 deep|expected)"):
        parse_prototxt(opening * 500, "net.prototxt")


def test_merges_of_merges_are_read_as_before():
    text = (
        "layer:\n- &a {name: a, type: Power, bottom: [], top: t, power_param: {power: 3}}\n"
        "- &b {<<: *a, name: b}\n- {<<: [*b, *a], name: c, power_param: {scale: 2}}"
    )
    net = parse_net(text)
    assert [layer.name for layer in net.layer] == ["a", "b", "c"]
    assert [layer.power_param.power for layer in net.layer] == [3, 3, 1]
