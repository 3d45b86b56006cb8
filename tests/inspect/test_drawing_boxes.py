"""What becomes a box, a row in one, a tag or an edge, and what boxes say."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.errors import SpecError
from minicaffe.inspect.drawing.boxes import boxes_of
from minicaffe.inspect.drawing.wires import View
from minicaffe.inspect.drawing.words import what
from minicaffe.spec.net import parse_net
from tests.inspect.drawn import INPUT, boxes, conv, join, spec_of

pytestmark = pytest.mark.cpu_only("of pictures: no device computes here")

DATA = "{name: data, type: Input, top: [x, y], input_param: {shape: [{dim: [2, 3, 8, 8]}, {dim: [2]}]}}"


def by_name(drawn):
    return {box.name: box for box in drawn.boxes}


def ends(drawn):
    return sorted((edge.source.name, edge.target.name) for edge in drawn.edges)


def built(text, phase="test"):
    net = mc.Net(parse_net(text), phase=phase)
    view = View(net.state.phase, [layer.spec for layer in net.layers], net.steps)
    return boxes_of([view], sum(param.blob.count for param in net.learnable))


def test_layers_in_place_are_rows_of_the_box_whose_blob_they_change():
    drawn = boxes(spec_of(conv("a", "data"), "{name: relu, type: ReLU, bottom: a, top: a}", conv("b", "a")))
    assert [box.layers for box in drawn.boxes] == [["data"], ["a", "relu"], ["b"]]
    assert by_name(drawn)["a"].lines == ["conv 1×1 → 3 · ReLU"]


def test_an_activation_with_a_blob_of_its_own_is_a_row_if_it_alone_uses_its_bottom():
    alone = spec_of(
        conv("a", "data"), "{name: bn, type: BatchNorm, bottom: a}", "{name: s, type: Scale, bottom: bn}"
    )
    assert [box.layers for box in boxes(alone).boxes] == [["data"], ["a", "bn", "s"]]
    used = spec_of(conv("a", "data"), "{name: bn, type: BatchNorm, bottom: a}", join("j", "bn", "a"))
    assert [box.layers for box in boxes(used).boxes] == [["data"], ["a"], ["bn"], ["j"]]


def test_a_scale_by_another_blob_is_a_box_with_two_inputs():
    drawn = boxes(spec_of(conv("a", "data"), conv("b", "data"), "{name: s, type: Scale, bottom: [a, b]}"))
    assert ends(drawn) == [("a", "s"), ("b", "s"), ("data", "a"), ("data", "b")]


def test_splits_are_dissolved():
    net = mc.Net(spec_of(conv("a", "data"), conv("b", "data"), join("c", "a", "b")))
    drawn = boxes_of([View("TEST", [layer.spec for layer in net.layers], net.steps)])
    assert any(layer.type == "Split" for layer in net.layers)
    assert ends(drawn) == [("a", "c"), ("b", "c"), ("data", "a"), ("data", "b")]


def test_labels_and_reference_shapes_are_tags():
    spec = spec_of(
        conv("a", "x"),
        "{name: crop, type: Crop, bottom: [a, x]}",
        "{name: ip, type: InnerProduct, bottom: crop, inner_product_param: {num_output: 2}}",
        "{name: loss, type: SoftmaxWithLoss, bottom: [ip, y]}",
        head=DATA,
    )
    drawn = boxes(spec)
    assert by_name(drawn)["crop"].tags == ["← x"]
    assert by_name(drawn)["loss"].tags == ["← y"]
    assert ends(drawn) == [("a", "crop"), ("crop", "ip"), ("data", "a"), ("ip", "loss")]


BOTH = """
layer:
- {name: data, type: DummyData, top: [x, y], include: {phase: TRAIN}, dummy_data_param: {shape: {dim: 2}}}
- {name: data, type: DummyData, top: [x, y], include: {phase: TEST}, dummy_data_param: {shape: {dim: 4}}}
- {name: ip, type: InnerProduct, bottom: x, inner_product_param: {num_output: 2}}
- {name: drop, type: Dropout, bottom: ip, top: ip, include: {phase: TRAIN}}
- {name: relu, type: ReLU, bottom: ip, top: ip}
- {name: accuracy, type: Accuracy, bottom: [ip, y], include: {phase: TEST}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, y]}
"""


def test_layers_of_one_phase_have_a_badge_and_dashed_edges_and_equal_names_are_one_box():
    drawn = boxes(parse_net(BOTH), "train", "test")
    named = by_name(drawn)
    assert list(named) == ["data", "ip", "accuracy", "loss"]
    assert named["data"].is_double and not named["data"].badge
    assert (named["accuracy"].badge, named["loss"].badge) == ("TEST", "")
    assert named["ip"].lines == ["inner product → 2", "Dropout 0.5 (train) · ReLU"]
    partial = {(edge.source.name, edge.target.name): edge.is_partial for edge in drawn.edges}
    assert partial == {("data", "ip"): False, ("ip", "accuracy"): True, ("ip", "loss"): False}


def test_a_layer_of_which_the_bias_is_trained_has_no_lock():
    layer = "type: InnerProduct, bottom: data, inner_product_param: {num_output: 2}"
    net = mc.Net.from_text(f"layer:\n- {INPUT}\n- {{name: ip, {layer}, param: [{{lr_mult: 0}}]}}\n")
    assert not by_name(net.draw().boxes)["ip"].is_fixed


def test_an_edge_of_several_blobs_carries_the_largest():
    net = mc.Net.from_text(
        """
        layer:
        - {name: data, type: Input, input_param: {shape: {dim: [1, 6, 8, 8]}}}
        - {name: s, type: Slice, bottom: data, top: [a, b], slice_param: {slice_point: 4}}
        - {name: cat, type: Concat, bottom: [a, b]}
        """
    )
    sizes = {edge.target.name: edge.size for edge in net.draw().boxes.edges}
    assert sizes == {"s": 4 * 6 * 64, "cat": 4 * 4 * 64}


LABELS_IN_TEST = """
layer:
- {name: data, type: DummyData, top: x, include: {phase: TRAIN}, dummy_data_param: {shape: {dim: 2}}}
- {name: data, type: DummyData, top: [x, y], include: {phase: TEST}, dummy_data_param: {shape: {dim: 2}}}
- {name: ip, type: InnerProduct, bottom: x, inner_product_param: {num_output: 2}}
- {name: accuracy, type: Accuracy, bottom: [ip, y], include: {phase: TEST}}
"""


def test_a_layer_may_have_more_tops_in_one_phase():
    drawn = boxes(parse_net(LABELS_IN_TEST), "train", "test")
    assert by_name(drawn)["accuracy"].tags == ["← y"]


def test_phases_that_run_in_opposite_directions_cannot_be_drawn_at_once():
    first = ", convolution_param: {num_output: 3, kernel_size: 1}"
    layers = [
        f"{{name: a, type: Convolution, bottom: data, top: p, include: {{phase: TRAIN}}{first}}}",
        f"{{name: b, type: Convolution, bottom: p, top: q, include: {{phase: TRAIN}}{first}}}",
        f"{{name: b, type: Convolution, bottom: data, top: q, include: {{phase: TEST}}{first}}}",
        f"{{name: a, type: Convolution, bottom: q, top: p, include: {{phase: TEST}}{first}}}",
    ]
    with pytest.raises(SpecError, match="opposite orders"):
        boxes(spec_of(*layers), "train", "test")


def test_numbers_are_those_of_the_net():
    net = mc.Net("prototxt/lenet/deploy.yaml", seed=0)
    drawn = boxes_of([View("TEST", [layer.spec for layer in net.layers], net.steps)], 431_080)
    conv2 = by_name(drawn)["conv2"]
    assert (conv2.work, conv2.weights, conv2.shape) == (1_600_000, 25_050, "50×8×8")
    assert drawn.work == sum(step.multiply_adds for step in net.steps)
    assert conv2.sentence == (
        "conv2, Convolution: conv 5×5 → 50; output 50×8×8; 25,050 parameters (5.8 % of all); "
        "1,600,000 multiply-adds (70 % of all)"
    )
    sizes = {edge.source.name: edge.size for edge in drawn.edges}
    assert sizes["conv1"] == 4 * 20 * 24 * 24


LOW_RANK = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 8, 9, 9]}}}
- name: conv
  type: Convolution
  convolution_param: {num_output: 16, kernel_size: 3}
  low_rank_param: {rank: %s, scheme: %s}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 10}, low_rank_param: {rank: 2}}
"""


def test_low_rank_layers_show_their_two_stages_and_their_rank():
    named = by_name(built(LOW_RANK % (4, "spatial")))
    assert named["conv"].lines == ["conv 3×1 → 4", "1×3 → 16, rank 4 of 24"]
    assert named["conv"].waist == pytest.approx(4 / 24)
    assert named["ip"].lines == ["inner product → 2", "→ 10, rank 2 of 10"]
    assert by_name(built(LOW_RANK % (4, "channel")))["conv"].lines[1] == "1×1 → 16, rank 4 of 16"


def test_a_rank_that_does_not_pay_is_said_to_be_computed_as_dense():
    box = by_name(built(LOW_RANK % (16, "channel")))["conv"]
    assert (box.lines, box.waist) == (["conv 3×3 → 16", "rank 16: dense is cheaper"], 1.0)


def test_a_spec_alone_says_the_rank_that_it_asks_for():
    box = by_name(boxes(parse_net(LOW_RANK % (4, "spatial"))))["conv"]
    assert (box.lines, box.waist) == (["conv 3×3 → 16", "low rank: rank 4"], None)


def test_shared_parameters_have_the_same_number_and_fixed_ones_a_lock():
    shared = ", param: {name: w}"
    drawn = built(
        "layer:\n"
        f"- {INPUT}\n- {conv('a', 'data', 1, shared)}\n- {conv('b', 'a', 1, shared)}\n"
        f"- {conv('c', 'b', 1, ', param: [{lr_mult: 0}, {lr_mult: 0}]')}\n"
        "- {name: bn, type: BatchNorm, bottom: c, top: d}\n- {name: bn2, type: BatchNorm, bottom: data, top: e}\n"
    )
    named = by_name(drawn)
    assert {name: box.letters for name, box in named.items() if box.letters} == {"a": [1], "b": [1]}
    assert [name for name, box in named.items() if box.is_fixed] == ["c"]
    assert named["a"].weights > named["b"].weights == 3  # biases: w is counted once, where it is first
    assert sum(box.weights for box in drawn.boxes) == drawn.weights


def test_shared_parameters_are_counted_once_at_the_first_box_that_has_them():
    shared = ", param: [{name: w}, {name: b}]"
    net = f"layer:\n- {INPUT}\n- {conv('a', 'data', 1, shared)}\n- {conv('b', 'a', 1, shared)}\n"
    assert [box.weights for box in built(net).boxes] == [0, 12, 0]


def test_a_recurrent_layer_says_its_steps():
    drawn = built(
        "layer:\n"
        "- {name: x, type: Input, top: [x, cont], input_param: {shape: [{dim: [7, 2, 5]}, {dim: [7, 2]}]}}\n"
        "- {name: lstm, type: LSTM, bottom: [x, cont], recurrent_param: {num_output: 4}}\n"
    )
    box = by_name(drawn)["lstm"]
    assert (box.time, box.tags, box.shape) == (7, ["← cont"], "7×2×4")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (
            "type: Convolution, convolution_param: {num_output: 9, kernel_size: 3, stride: 2}",
            "conv 3×3/2 → 9",
        ),
        ("type: Convolution, convolution_param: {num_output: 9, kernel_h: 1, kernel_w: 7}", "conv 1×7 → 9"),
        (
            "type: Convolution, convolution_param: {num_output: 9, kernel_size: 3, dilation: 6, group: 3}",
            "conv 3×3 dilated 6 → 9, 3 groups",
        ),
        (
            "type: Deconvolution, convolution_param: {num_output: 9, kernel_size: 4, stride: 2}",
            "deconv 4×4/2 → 9",
        ),
        ("type: Pooling, pooling_param: {pool: AVE, kernel_size: 7}", "average pool 7×7"),
        ("type: Pooling, pooling_param: {pool: AVE, global_pooling: true}", "global average pool"),
        ("type: InnerProduct, inner_product_param: {num_output: 9}", "inner product → 9"),
        ("type: Eltwise, bottom: [a, b], eltwise_param: {operation: MAX}", "Eltwise maximum"),
        ("type: Eltwise, bottom: [a, b], eltwise_param: {coeff: [1, -0.5]}", "Eltwise sum × 1, −0.5"),
        ("type: Eltwise, bottom: [a, b], eltwise_param: {coeff: [1, 1]}", "Eltwise sum"),
        ("type: Python, python_param: {module: m, layer: Proposal}", "Python Proposal"),
        ("type: Softmax", "Softmax"),
    ],
)
def test_a_layer_in_a_few_words(layer, words):
    assert what(parse_net(f"layer: [{{name: x, {layer}}}]").layer[0]) == words


def test_a_depthwise_convolution_is_called_so():
    drawn = built(
        f"layer:\n- {INPUT}\n- {conv('a', 'data').replace('kernel_size: 1', 'kernel_size: 3, group: 3')}\n"
    )
    assert by_name(drawn)["a"].lines == ["depthwise 3×3 → 3"]
    assert by_name(drawn)["a"].weights == np.prod([3, 1, 3, 3]) + 3


def test_tops_of_different_shapes_are_listed_and_so_is_one_that_nobody_takes():
    sliced = (
        f"layer:\n- {INPUT}\n"
        "- {name: s, type: Slice, bottom: data, top: [a, b], slice_param: {slice_point: 1}}\n"
        "- {name: r, type: ReLU, bottom: a, top: r}\n"
    )
    named = by_name(built(sliced))
    assert named["s"].tops == ["a: 1×8×8", "b: 2×8×8, net output"]
    assert named["data"].tops == named["r"].tops == []


def test_what_a_layer_does_is_never_cut_but_goes_on_in_a_second_line():
    param = "{num_output: 12, kernel_size: 3, pad: 2, dilation: 2, group: 3}"
    drawn = built(f"layer:\n- {INPUT}\n- {{name: a, type: Convolution, convolution_param: {param}}}\n")
    assert by_name(drawn)["a"].lines == ["depthwise 3×3 dilated 2", "→ 12"]
