"""The chain rule, walked: every line computes the gradient that the net's backward has."""

from itertools import pairwise

import numpy as np
import pytest

from minicaffe.inspect.report.pictures import from_inputs
from minicaffe.inspect.report.record import copy_of, record
from minicaffe.inspect.report.walk.steps import walk

pytestmark = pytest.mark.cpu_only("a report is made from NumPy arrays")

XAVIER = "weight_filler: {type: xavier}"


def layer(kind, fields="", bottom="data", name="y"):
    """A layer as YAML; ``fields`` are those of its own message."""
    return f"- {{name: {name}, type: {kind}, bottom: {bottom}{', ' if fields else ''}{fields}}}\n"


def convolution(fields, name="y"):
    return layer("Convolution", f"convolution_param: {{{fields}, {XAVIER}}}", name=name)


def product(outputs, bottom, more="", name="z"):
    return layer(
        "InnerProduct", f"inner_product_param: {{num_output: {outputs}{more}, {XAVIER}}}", bottom, name
    )


PICTURE = "- {name: data, type: Input, input_param: {shape: {dim: [1, 4, 9, 9]}}}\n"
AND_LABEL = (
    "- {name: data, type: Input, top: [data, label], "
    "input_param: {shape: [{dim: [1, 4, 9, 9]}, {dim: LABEL}]}}\n"
)
LAYERS = {
    "convolution": convolution("num_output: 6, kernel_size: 3, pad: 1, stride: 2, group: 2"),
    "dilated": convolution("num_output: 3, kernel_size: [3, 2], dilation: 2"),
    "max": layer("Pooling", "pooling_param: {kernel_size: 3, stride: 2, pad: 1}"),
    "mean": layer("Pooling", "pooling_param: {pool: AVE, kernel_size: 4, stride: 3, pad: 1}"),
    "relu": layer("ReLU"),
    "leaky": layer("ReLU", "relu_param: {negative_slope: 0.1}"),
    "prelu": layer("PReLU"),
    "elu": layer("ELU"),
    "sigmoid": layer("Sigmoid"),
    "tanh": layer("TanH"),
    "dropout": layer("Dropout"),
    "batch_norm": layer("BatchNorm"),
    "scale": layer("Scale", "scale_param: {filler: {type: gaussian}, bias_term: true}"),
    "bias": layer("Bias"),
    "flatten": layer("Flatten"),
    "sum": convolution("num_output: 4, kernel_size: 1", "c")
    + layer("Eltwise", "eltwise_param: {coeff: [1, -2]}", "[data, c]"),
    "concat": layer("ReLU", name="r") + layer("Concat", bottom="[data, r]"),
    "low_rank": convolution("num_output: 8, kernel_size: 3")[:-2] + ", low_rank_param: {rank: 2}}\n",
    "factored": product(8, "data", name="y")[:-2] + ", low_rank_param: {rank: 2, factored: true}}\n",
}
PROB = product(12, "y") + layer("Softmax", bottom="z", name="prob")
TURNED = product(3, "data", ", transpose: true")
LOSSES = {  # the shape of the labels, what gives the scores, the loss's type, and more fields
    "softmax": ("[1]", TURNED, "SoftmaxWithLoss", "loss_weight: 0.5"),
    "softmax_of_pixels": ("[1, 9, 9]", layer("Power", name="z"), "SoftmaxWithLoss", ""),
    "softmax_of_rows": ("[1, 4, 9]", layer("Power", name="z"), "SoftmaxWithLoss", "softmax_param: {axis: 2}"),
    "euclidean": ("[1, 3]", TURNED, "EuclideanLoss", ""),
    "sigmoid": ("[1, 3]", TURNED, "SigmoidCrossEntropyLoss", ""),
    "sigmoid_ignoring": ("[1, 3]", TURNED, "SigmoidCrossEntropyLoss", "loss_param: {ignore_label: 255}"),
}


def with_loss(kind):
    label, scores, type, fields = LOSSES[kind]
    return "layer:\n" + AND_LABEL.replace("LABEL", label) + scores + layer(type, fields, "[z, label]", "loss")


def recorded(net, picture, label=0):
    """A recording of one picture, and its label where the net has labels."""
    twin = copy_of(net)
    twin.blobs["data"].data[...] = picture
    if "label" in twin.inputs:
        twin.blobs["label"].data[...] = label
    return record(twin, from_inputs(twin, [2], 1))


def noise(net, rng):
    """A random picture."""
    return rng.normal(size=net.blobs["data"].shape)


def one_open_gate(net, *place):
    """A picture whose pixels are below 0, but for one."""
    picture = -np.ones(net.blobs["data"].shape)
    picture[(0, *place)] = 1
    return picture


def check(steps):
    """Each line's sum is what backward says, and what is shown of it adds up; the lines hang together."""
    for step in steps:
        line = step.line
        assert line.total == pytest.approx(step.said, rel=2e-5, abs=1e-9), step.layer.name
        if line.terms:
            assert sum(term.value for term in line.terms) + line.rest == pytest.approx(line.total, abs=1e-9)
            assert sum(term.is_before for term in line.terms) == 1
    for above, below in pairwise(steps):
        assert below.above[1] == above.below[1]
        assert below.dy == pytest.approx(above.said)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_line_computes_what_backward_has(kind, make_net, rng):
    net = make_net("layer:\n" + PICTURE + LAYERS[kind] + PROB, seed=5)
    steps = walk(recorded(net, noise(net, rng)), 0)
    assert steps[-1].below[0] == "data"
    assert {step.layer.name for step in steps} >= {"prob", "z", "y"}
    check(steps)


@pytest.mark.parametrize("kind", ["leaky", "prelu", "elu", "sigmoid", "tanh"])
def test_a_line_is_right_below_0_too(kind, make_net, rng):
    net = make_net("layer:\n" + PICTURE + LAYERS[kind] + PROB, seed=5)
    steps = walk(recorded(net, -abs(noise(net, rng))), 0)
    assert steps[-1].said != 0
    check(steps)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_walk_begins_at_the_net_s_own_loss(loss, make_net, rng):
    net = make_net(with_loss(loss), seed=5)
    label = np.array([[1, 255, 0]]) if "ignoring" in loss else 0
    first, *others = walk(recorded(net, noise(net, rng), label), 0)
    assert first.layer.type == LOSSES[loss][2]
    assert first.line.row in [row[0] for row in first.line.table]
    check([first, *(step for step in others if step.layer.type != "Power")])


def test_the_loss_s_table_is_p_less_onehot(make_net, rng):
    net = make_net(with_loss("softmax"), seed=5)
    recording = recorded(net, noise(net, rng))
    assert walk(recording, 0)[0].line.formula == "dL/dz = (p − onehot) · 0.5"
    (row, *_), dz = walk(recording, 0)[0].line.table, recording.stages["z"].diff[0]
    e = np.exp(recording.stages["z"].values[0].astype(np.float64))
    assert row == pytest.approx((0, e[0] / e.sum(), 1, e[0] / e.sum() - 1))
    assert 0.5 * row[3] == pytest.approx(dz[0], rel=1e-5)


@pytest.mark.parametrize("kind", ["convolution", "max", "mean", "relu", "scale", "flatten", "sum", "concat"])
def test_the_walk_may_begin_at_a_layer_that_is_no_loss_but_has_a_loss_weight(kind, make_net, rng):
    net = make_net("layer:\n" + PICTURE + LAYERS[kind][:-2] + ", loss_weight: 2}\n", seed=5)
    steps = walk(recorded(net, noise(net, rng)), 0)
    assert steps[0].dy == 2
    assert steps[-1].below[0] == "data"
    check(steps)


ONE = "reshape_param: {shape: {dim: [1, 4]}}"
FOUR = layer("Reshape", "reshape_param: {shape: {dim: [4, 1, 9, 9]}}", name="four")
WITHOUT_A_LINE = {  # by the type that has none
    "LRN": layer("LRN"),
    "Scale": convolution("num_output: 9, kernel_size: 1", "c")
    + layer("Scale", "scale_param: {axis: 2}", "c"),
    "Pooling": FOUR
    + layer("Pooling", "pooling_param: {kernel_size: 9}", "four", "p")
    + layer("Reshape", ONE, "p"),
}


@pytest.mark.parametrize("kind", WITHOUT_A_LINE)
def test_a_layer_without_a_line_says_what_backward_has(kind, make_net, rng):
    """Because of its type, or since its spec or the shape of a batch is unusual."""
    net = make_net("layer:\n" + PICTURE + WITHOUT_A_LINE[kind] + PROB, seed=5)
    recording = recorded(net, noise(net, rng))
    step = next(step for step in walk(recording, 0) if step.layer.type == kind)
    assert (step.line.total, step.line.terms) == (None, ())
    key, at = step.below
    assert step.said == recording.stages[key].diff[0][at] != 0


def test_the_walk_goes_through_open_gates(make_net, rng):
    """The number with the largest gradient above a ReLU may be at a shut gate; the walk takes another."""
    gates = layer("ReLU", "top: y", "y", "r")
    net = make_net("layer:\n" + PICTURE + LAYERS["convolution"] + gates + PROB, seed=5)
    steps = walk(recorded(net, noise(net, rng)), 0)
    assert [step.layer.type for step in steps] == ["Softmax", "InnerProduct", "ReLU", "Convolution"]
    assert all(step.said for step in steps)


ONE_GATE = layer("ReLU", name="r")
BELOW = {  # above one layer of gates: the walk looks below these for a gate that is open
    "mean": layer("Pooling", "pooling_param: {pool: AVE, kernel_size: 2, stride: 2}", "r"),
    "max": layer("Pooling", "pooling_param: {kernel_size: 2, stride: 2}", "r"),
    "sum of branches": layer("ReLU", bottom="r", name="s")
    + layer("TanH", bottom="r", name="t")
    + layer("Eltwise", bottom="[s, t]", name="e")
    + layer("Concat", bottom="[e, s]"),
}


@pytest.mark.parametrize("kind", BELOW)
def test_the_walk_finds_the_one_open_gate(kind, make_net):
    """Though others have larger gradients above."""
    net = make_net("layer:\n" + PICTURE + ONE_GATE + BELOW[kind] + PROB, seed=5)
    steps = walk(recorded(net, one_open_gate(net, 2, 5, 5)), 0)
    assert steps[-1].below == ("data", (2, 5, 5))
    assert steps[-1].said != 0
    check(steps)


def test_the_walk_stays_in_the_image_where_a_window_may_lie_in_the_padding(make_net, rng):
    """As in SqueezeNet 1.0, whose last convolution has kernel 1 and pad 1."""
    last = convolution("num_output: 6, kernel_size: 1, pad: 1, bias_filler: {type: constant, value: 5}")
    mean = layer("Pooling", "pooling_param: {pool: AVE, global_pooling: true}", "y", "p")
    net = make_net("layer:\n" + PICTURE + last + mean + layer("Softmax", "", "p", "prob"), seed=5)
    steps = walk(recorded(net, noise(net, rng)), 0)
    assert steps[-1].below[0] == "data"
    check(steps)


def test_a_loss_of_weight_1_multiplies_its_table_by_nothing(make_net, rng):
    net = make_net(with_loss("softmax").replace("loss_weight: 0.5", "loss_weight: 1"), seed=5)
    assert walk(recorded(net, noise(net, rng)), 0)[0].line.formula == "dL/dz = p − onehot"


def test_at_a_sum_the_walk_takes_the_longer_branch(make_net, rng):
    net = make_net("layer:\n" + PICTURE + LAYERS["sum"] + PROB, seed=5)
    assert "c" in [step.layer.name for step in walk(recorded(net, noise(net, rng)), 0)]


def test_gradients_of_several_users_add_up(make_net, rng):
    net = make_net("layer:\n" + PICTURE + LAYERS["concat"] + PROB, seed=5)
    split = next(step for step in walk(recorded(net, noise(net, rng)), 0) if step.layer.type == "Split")
    assert len(split.line.terms) == 2
    assert {term.name for term in split.line.terms} == {"from r", "from y"}
    assert sum(term.value for term in split.line.terms) == pytest.approx(split.said)


def test_without_a_gradient_there_is_no_walk(make_net, rng):
    net = make_net("layer:\n" + PICTURE + LAYERS["concat"] + layer("Silence", "top: []", "y", "end"))
    assert walk(recorded(net, noise(net, rng)), 0) == []
