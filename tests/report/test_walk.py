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


def product(outputs, bottom, more=""):
    return layer(
        "InnerProduct", f"inner_product_param: {{num_output: {outputs}{more}, {XAVIER}}}", bottom, "z"
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
}
PROB = product(12, "y") + layer("Softmax", bottom="z", name="prob")
TURNED = product(3, "data", ", transpose: true")
LOSSES = {  # the shape of the labels, and more fields
    "SoftmaxWithLoss": ("[1]", "loss_weight: 0.5"),
    "EuclideanLoss": ("[1, 3]", ""),
    "SigmoidCrossEntropyLoss": ("[1, 3]", ""),
}


def with_loss(kind):
    label, fields = LOSSES[kind]
    return "layer:\n" + AND_LABEL.replace("LABEL", label) + TURNED + layer(kind, fields, "[z, label]", "loss")


def recorded(net, rng, sign=1):
    """A recording of one random picture, labelled 0 where the net has labels; ``sign`` −1: all pixels are < 0."""
    picture = rng.normal(size=net.blobs["data"].shape)
    for name in net.inputs:
        net.blobs[name].data[...] = 0 if name == "label" else picture if sign > 0 else -abs(picture)
    twin = copy_of(net)
    for name in net.inputs:
        twin.blobs[name].data[...] = net.blobs[name].data
    return record(twin, from_inputs(twin, [2], 1))


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
    steps = walk(recorded(net, rng), 0)
    assert steps[-1].below[0] == "data"
    assert {step.layer.name for step in steps} >= {"prob", "z", "y"}
    check(steps)


@pytest.mark.parametrize("kind", ["leaky", "prelu", "elu", "sigmoid", "tanh"])
def test_a_line_is_right_below_0_too(kind, make_net, rng):
    steps = walk(recorded(make_net("layer:\n" + PICTURE + LAYERS[kind] + PROB, seed=5), rng, sign=-1), 0)
    assert steps[-1].said != 0
    check(steps)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_walk_begins_at_the_net_s_own_loss(loss, make_net, rng):
    steps = walk(recorded(make_net(with_loss(loss), seed=5), rng), 0)
    assert [step.layer.type for step in steps] == [loss, "InnerProduct"]
    assert len(steps[0].line.table) == 3
    check(steps)


def test_the_loss_s_table_is_p_less_onehot(make_net, rng):
    recording = recorded(make_net(with_loss("SoftmaxWithLoss"), seed=5), rng)
    (row, *_), dz = walk(recording, 0)[0].line.table, recording.stages["z"].diff[0]
    e = np.exp(recording.stages["z"].values[0].astype(np.float64))
    assert row == pytest.approx((0, e[0] / e.sum(), 1, e[0] / e.sum() - 1))
    assert 0.5 * row[3] == pytest.approx(dz[0], rel=1e-5)


def test_a_layer_type_without_a_line_says_what_backward_has(make_net, rng):
    net = make_net("layer:\n" + PICTURE + layer("LRN") + PROB, seed=5)
    last = walk(recorded(net, rng), 0)[-1]
    assert (last.layer.type, last.line.total, last.line.terms) == ("LRN", None, ())
    assert last.said != 0


def test_the_walk_goes_through_open_gates(make_net, rng):
    """The number with the largest gradient above a ReLU may be at a shut gate; the walk takes another."""
    gates = layer("ReLU", "top: y", "y", "r")
    net = make_net("layer:\n" + PICTURE + LAYERS["convolution"] + gates + PROB, seed=5)
    steps = walk(recorded(net, rng), 0)
    assert [step.layer.type for step in steps] == ["Softmax", "InnerProduct", "ReLU", "Convolution"]
    assert all(step.said for step in steps)


def test_below_a_mean_the_walk_goes_through_an_open_gate_too(make_net):
    """Of the windows it takes one in which some gate is open, though others have larger gradients."""
    gates = layer("ReLU", name="r")
    mean = layer("Pooling", "pooling_param: {pool: AVE, kernel_size: 2, stride: 2}", "r")
    net = make_net("layer:\n" + PICTURE + gates + mean + PROB, seed=5)
    net.blobs["data"].data[...] = -1
    net.blobs["data"].data[0, 2, 5, 5] = 1  # the only open gate
    twin = copy_of(net)
    twin.blobs["data"].data[...] = net.blobs["data"].data
    steps = walk(record(twin, from_inputs(twin, [2], 1)), 0)
    assert steps[-1].below == ("data", (2, 5, 5))
    assert steps[-1].said != 0
    check(steps)


def test_gradients_of_several_users_add_up(make_net, rng):
    net = make_net("layer:\n" + PICTURE + LAYERS["concat"] + PROB, seed=5)
    recording = recorded(net, rng)
    split = next(step for step in walk(recording, 0) if step.layer.type == "Split")
    assert len(split.line.terms) == 2
    assert {term.name for term in split.line.terms} == {"from r", "from y"}
    assert sum(term.value for term in split.line.terms) == pytest.approx(split.said)


def test_without_a_gradient_there_is_no_walk(make_net, rng):
    net = make_net("layer:\n" + PICTURE + LAYERS["concat"] + layer("Silence", "top: []", "y", "end"))
    assert walk(recorded(net, rng), 0) == []


def test_the_walk_finds_the_one_open_gate_below_a_sum_of_branches(make_net):
    """Concat, Eltwise and Split pass gradients on: the walk looks below them for gates that are open."""
    gates = (
        layer("ReLU", name="r") + layer("ReLU", bottom="r", name="s") + layer("TanH", bottom="r", name="t")
    )
    branches = layer("Eltwise", bottom="[s, t]", name="e") + layer("Concat", bottom="[e, s]")
    net = make_net("layer:\n" + PICTURE + gates + branches + PROB, seed=5)
    net.blobs["data"].data[...] = -1
    net.blobs["data"].data[0, 1, 3, 7] = 1  # the only open gate
    twin = copy_of(net)
    twin.blobs["data"].data[...] = net.blobs["data"].data
    steps = walk(record(twin, from_inputs(twin, [2], 1)), 0)
    assert steps[-1].below == ("data", (1, 3, 7))
    check(steps)
