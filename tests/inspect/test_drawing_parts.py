"""How a drawing is divided into series and branches, and what is folded."""

import re

import pytest

import minicaffe as mc
from minicaffe.inspect.drawing import fold
from minicaffe.inspect.drawing.parts import Fold, divide
from tests.inspect.drawn import boxes, conv, divided, join, pool, shape_of, spec_of
from tests.inspect.geometry import faults

pytestmark = pytest.mark.cpu_only("of places in a picture: no device computes here")


def residual(number, bottom, kernel=1):
    names = [f"r{number}{letter}" for letter in "ab"]
    return [conv(names[0], bottom, kernel), conv(names[1], names[0]), join(f"r{number}", names[1], bottom)]


def test_a_chain_is_a_series():
    assert divided(spec_of(conv("a", "data"), pool("b", "a"), conv("c", "b"))) == "data a b c"


def test_branches_that_join_lie_side_by_side():
    layers = [conv("a", "data"), conv("b", "data"), conv("c", "b"), pool("d", "data")]
    assert divided(spec_of(*layers, join("e", "a", "c", "d", type="Concat"))) == "data (a | b c | d) e"


def test_a_skip_connection_is_an_empty_branch():
    assert divided(spec_of(*residual(1, "data"), conv("z", "r1"))) == "data (r1a r1b | -) r1 z"


def test_branches_may_have_branches():
    inner = [conv("b", "a"), conv("c", "a"), join("d", "b", "c")]
    spec = spec_of(conv("a", "data"), *inner, conv("e", "data"), join("f", "d", "e"))
    assert divided(spec) == "data (a (b | c) d | e) f"


def test_skips_over_skips_nest_as_in_a_u_net():
    layers = [conv("a", "data"), conv("b", "a"), conv("c", "b"), join("d", "c", "b"), join("e", "d", "a")]
    assert divided(spec_of(*layers)) == "data a (b (c | -) d | -) e"


def test_a_branch_that_leads_nowhere_lies_beside_the_rest():
    assert (
        divided(spec_of(conv("a", "data"), pool("aux", "a"), conv("b", "a"), conv("c", "b")))
        == "data a (aux | b c)"
    )


def test_what_is_no_series_and_no_branches_is_a_mesh_but_not_more_than_that():
    layers = [conv("a", "data"), conv("b", "data"), join("c", "a", "b"), join("d", "a", "b", "data")]
    spec = spec_of(*layers, conv("c2", "c"), conv("c3", "c2"), join("e", "c3", "d"), conv("z", "e"))
    assert divided(spec) == "data [a b c c2 c3 d] e z"
    inner = boxes(spec)
    mesh = divide(inner.boxes, inner.edges).items[1]
    assert [shape_of(item) for item in mesh.items] == ["a", "b", "c c2 c3", "d"]


def test_a_small_source_stands_where_it_is_needed_and_a_large_one_begins_at_the_top():
    late = spec_of(
        conv("a", "data"),
        conv("b", "a"),
        "{name: mask, type: Input, input_param: {shape: {dim: [1, 3, 8, 8]}}}",
        join("c", "b", "mask"),
    )
    assert divided(late) == "data a b (mask | -) c"
    twin = spec_of(
        conv("a0", "data"),
        conv("a", "a0"),
        "{name: other, type: Input, input_param: {shape: {dim: [1, 3, 8, 8]}}}",
        conv("b", "other"),
        conv("c", "b"),
        join("d", "a", "c"),
    )
    assert divided(twin) == "(data a0 a | other b c) d"


def folded(spec, monkeypatch, many=3):
    monkeypatch.setattr(fold, "MANY", many)
    drawn = boxes(spec)
    return shape_of(fold.folded(divide(drawn.boxes, drawn.edges)))


def test_equal_blocks_are_a_stack_that_ends_where_their_branches_join(monkeypatch):
    layers = [layer for k in range(1, 5) for layer in residual(k, "data" if k == 1 else f"r{k - 1}")]
    assert folded(spec_of(*layers, conv("z", "r4")), monkeypatch) == "data 4×{(r1a r1b | -) r1} z"


def test_a_stack_does_not_end_where_branches_begin(monkeypatch):
    """Though what is before the first block looks like what is after the others."""
    layers = [layer for k in range(1, 5) for layer in residual(k, f"r{k - 1}")]
    assert folded(spec_of(join("r0", "data", "data"), *layers), monkeypatch) == "data r0 4×{(r1a r1b | -) r1}"


def test_blocks_with_other_windows_are_no_repeats(monkeypatch):
    layers = [
        layer for k in range(1, 5) for layer in residual(k, "data" if k == 1 else f"r{k - 1}", 1 + k // 4 * 2)
    ]
    layers[9] = layers[9].replace("kernel_size: 3", "kernel_size: 3, pad: 1")
    assert folded(spec_of(*layers), monkeypatch).startswith("data 3×{(r1a r1b | -) r1} (r4a r4b | -) r4")


def test_a_stack_of_trained_layers_has_none_that_are_not_trained(monkeypatch):
    """The lock of the first block would stand for all."""
    fixed = ", param: [{lr_mult: 0}, {lr_mult: 0}]"
    layers = [conv(f"c{k}", f"c{k - 1}" if k else "data", more=fixed * (k < 5)) for k in range(10)]
    assert folded(spec_of(*layers), monkeypatch) == "data 5×{c0} 5×{c5}"


def test_small_nets_and_short_runs_are_not_folded(monkeypatch):
    layers = [conv(f"c{k}", "data" if not k else f"c{k - 1}") for k in range(8)]
    assert "×" not in folded(spec_of(*layers), monkeypatch, many=40)
    assert folded(spec_of(*layers), monkeypatch) == "data 8×{c0}"
    assert folded(spec_of(*layers[:4]), monkeypatch) == "data c0 c1 c2 c3"


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (["res4b1_branch2a", "res4b1_branch2b", "res4b1"], "res4b1"),
        (["inception_4a/1x1", "inception_4a/3x3", "inception_4a/output"], "inception_4a"),
        (["conv2_2/x1", "conv2_2/x2", "concat_2_2"], "concat_2_2"),
        (["conv3_1"], "conv3_1"),
    ],
)
def test_a_stack_is_named_by_what_the_names_of_its_block_share(names, common):
    found = boxes(
        spec_of(*[conv(name, "data" if not i else names[i - 1]) for i, name in enumerate(names)])
    ).boxes
    assert fold.common_name(found[1:]) == common


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([f"res4b{k}" for k in range(1, 36)], "res4b1 … 35"),
        ([f"concat_2_{k}" for k in range(1, 6)], "concat_2_1 … 5"),
        ([f"concat_3_{k}" for k in range(1, 12)], "concat_3_1 … 11"),
        (
            ["stage9/conv", "stage10/conv", "stage11/conv", "stage12/conv", "stage13/conv"],
            "stage9/conv … 13/conv",
        ),
    ],
)
def test_a_stack_says_where_its_names_begin_and_end(names, words, monkeypatch):
    monkeypatch.setattr(fold, "MANY", 3)
    found = boxes(spec_of(*[conv(name, names[k - 1] if k else "data") for k, name in enumerate(names)]))
    (stack,) = (
        part for part in fold.folded(divide(found.boxes, found.edges)).items if isinstance(part, Fold)
    )
    said = fold.fold_words(stack)
    assert (said.number, said.names, said.channels) == (f"× {len(names)}", words, "")


def stack_of(*blocks, monkeypatch):
    """The parts of a net of such convolutions (their strides and outputs), one after the other, folded."""
    monkeypatch.setattr(fold, "MANY", 3)
    convolutions = [
        conv(f"conv{k}/dw", f"conv{k - 1}/dw" if k else "data").replace(
            "num_output: 3", f"num_output: {outputs}, stride: {stride}"
        )
        for k, (stride, outputs) in enumerate(blocks)
    ]
    head = "{name: data, type: Input, input_param: {shape: {dim: [1, 3, 64, 64]}}}"
    net = mc.Net(spec_of(*convolutions, join("end", f"conv{len(blocks) - 1}/dw", type="Softmax"), head=head))
    return net, net.draw().layout.folds


def test_blocks_that_halve_their_maps_are_no_stack(monkeypatch):
    assert stack_of(*[(2, 4)] * 6, monkeypatch=monkeypatch)[1] == []
    assert len(stack_of(*[(1, 4)] * 6, monkeypatch=monkeypatch)[1]) == 1


def test_the_arrow_after_a_stack_says_what_the_last_block_gives(monkeypatch):
    net, _ = stack_of(*[(1, 64 << k) for k in range(5)], monkeypatch=monkeypatch)
    for direction in ("TB", "LR"):
        picture = net.draw(direction=direction)
        assert ">64×64×64</text>" in picture.svg() and ">1024×64×64</text>" in picture.svg()
        assert 'label="1024×64×64"' in picture.dot()
        assert faults(picture.layout) == []


def test_of_a_stacks_label_the_names_are_cut_and_the_numbers_are_not(monkeypatch):
    net, (stack,) = stack_of(*[(1, 64 << k) for k in range(5)], monkeypatch=monkeypatch)
    texts = re.findall(r">([^<]+)</text>", net.draw().svg())
    assert "× 5" in texts and "conv0/dw … 4/dw" in texts and "64 → 1024 ch." in texts
    whole, *shorter = fold.fold_words(stack.fold).on_one_line()
    assert whole == "× 5 · conv0/dw … 4/dw · 64 → 1024 channels"
    assert shorter == ["× 5 · … conv4/dw · 64 → 1024 channels", "× 5 · 64 → 1024 channels"]
