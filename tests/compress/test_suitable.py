"""Which layers can be of low rank, how they are named, and what is said of the others."""

import pytest

import minicaffe as mc
from minicaffe.compress.suitable import NOT_SCORED, chosen_steps, layers_behind, why_dense
from minicaffe.errors import SpecError
from minicaffe.low_rank.layers import LowRankLayer

pytestmark = pytest.mark.cpu_only("of names and shapes")

CONV = "convolution_param: {num_output: 8, kernel_size: 3, pad: 1"
# a layer of 4 channels, and why it stays dense ("": it need not)
LAYERS = {
    f"type: Convolution, {CONV}}}": "",
    f"type: Convolution, {CONV}, group: 2}}": "",
    f"type: Convolution, {CONV}, dilation: 2}}": "",
    "type: Convolution, convolution_param: {num_output: 8, kernel_size: 1}": "",
    "type: InnerProduct, inner_product_param: {num_output: 5}": "",
    f"type: Convolution, {CONV}}}, low_rank_param: {{rank: 2, factored: true}}": "",
    "type: Convolution, convolution_param: {num_output: 4, kernel_size: 3, group: 4}": "depthwise: one filter",
    "type: DepthwiseConvolution, convolution_param: {num_output: 4, kernel_size: 3}": "depthwise: one filter",
    f"type: DepthwiseConvolution, {CONV}}}": "a DepthwiseConvolution takes no low_rank_param",
    f"type: Deconvolution, {CONV}}}": "a Deconvolution takes no low_rank_param",
    f"type: Convolution, param: {{name: w}}, {CONV}}}": "shares its weights",
    "type: InnerProduct, inner_product_param: {num_output: 5, transpose: true}": "transposed",
    "type: InnerProduct, inner_product_param: {num_output: 1}": "one row or one column",
    "type: InnerProduct, inner_product_param: {num_output: 5, axis: 2}": "its axis is not 1",
    f"type: Convolution, bottom: [x, x], top: [y, z], {CONV}}}": "several bottoms",
    "type: ReLU": "no product of weights and inputs",
}


def net_of(*layers, shape="[2, 4, 6, 6]"):
    lines = [
        f"- {{name: x, type: Input, input_param: {{shape: {{dim: {shape}}}}}}}",
        *map("- {{{}}}".format, layers),
    ]
    return mc.Net.from_text("layer:\n" + "\n".join(lines))


@pytest.mark.parametrize("text", LAYERS)
def test_a_layer_can_be_of_low_rank_or_there_is_a_reason(text):
    found = why_dense(net_of(f"name: y, {text}").steps[-1])
    assert LAYERS[text] in found if LAYERS[text] else found is None
    if not LAYERS[text] and "low_rank_param" not in text:  # then it takes a rank
        layer = net_of(f"name: y, {text}, low_rank_param: {{rank: 2, factored: true}}").layers[-1]
        assert isinstance(layer, LowRankLayer)


def test_a_layer_of_three_spatial_axes_stays_dense():
    assert (
        why_dense(net_of(f"name: y, type: Convolution, {CONV}}}", shape="[1, 2, 4, 4, 4]").steps[-1])
        == "has three spatial axes"
    )


BLOCKS = [
    f"name: block1/conv, type: Convolution, {CONV}}}",
    "name: block1/relu, type: ReLU",
    f"name: block2/conv, type: Convolution, {CONV}}}",
    "name: fc6, type: InnerProduct, inner_product_param: {num_output: 5}",
    "name: 'fc[7]', type: InnerProduct, inner_product_param: {num_output: 5}",
    "name: fc8, type: InnerProduct, inner_product_param: {num_output: 1}",
]
CHOICES = {
    "all convolutions": (None, (), ["block1/conv", "block2/conv"]),
    "but one": (None, ["block1/*"], ["block2/conv"]),
    "a wildcard passes over what is unfit": (["fc*"], (), ["fc6", "fc[7]"]),
    "in the net's order": (["fc6", "block?/conv"], (), ["block1/conv", "block2/conv", "fc6"]),
    "a name that looks like a pattern": (["fc[7]"], (), ["fc[7]"]),
    "everything but": (["*"], ["*conv", "fc6"], ["fc[7]"]),
    "what is named and left out": (["fc6", "fc8"], ["fc8"], ["fc6"]),
}  # fmt: skip


@pytest.mark.parametrize(("patterns", "without", "expected"), CHOICES.values(), ids=CHOICES)
def test_layers_are_chosen_by_name_or_wildcard(patterns, without, expected):
    assert [step.layer.name for step in chosen_steps(net_of(*BLOCKS), patterns, without)] == expected


HEADS = [
    f"name: trunk, type: Convolution, {CONV}}}",
    "name: relu, type: ReLU, top: trunk",
    f"name: aux, type: Convolution, {CONV}}}",
    "name: aux_scores, type: InnerProduct, inner_product_param: {num_output: 5}",
    f"name: main, type: Convolution, bottom: trunk, {CONV}}}",
    "name: scores, type: InnerProduct, inner_product_param: {num_output: 5}",
]


def test_layers_that_the_score_does_not_depend_on_stay_dense_and_are_named(caplog):
    caplog.set_level("INFO", "minicaffe")
    net = net_of(*HEADS)
    scored = layers_behind(net, ["scores"])
    assert scored & {"trunk", "relu", "aux", "aux_scores", "main", "scores"} == {
        "trunk",
        "relu",
        "main",
        "scores",
    }
    assert [step.layer.name for step in chosen_steps(net, ["*"], (), scored)] == ["trunk", "main", "scores"]
    assert f"Left dense, as {NOT_SCORED}: aux, aux_scores" in caplog.text
    with pytest.raises(SpecError, match=rf"layer 'aux': {NOT_SCORED}; leave the layer out"):
        chosen_steps(net, ["aux", "main"], (), scored)
    assert len(chosen_steps(net, ["*"])) == 5


WRONG = {
    "no such layer": (["block1/con"], (), r"has no layer 'block1/con'; did you mean 'block1/conv'\?"),
    "a pattern of no layer": (
        ["zz*"], (), r"has no layer 'zz\*'; those that can be of low rank: block1/conv, block2/conv, fc6, fc\[7\]$",
    ),
    "no such layer to leave out": (None, ["fc9"], r"has no layer 'fc9'"),
    "an unfit layer": (["block1/relu"], (), r":4: layer 'block1/relu': no product .*; leave the layer out"),
    "all unfit": (["*relu"], (), r"no layer among those that are named can be of low rank"),
    "all left out": (
        None, ["block*"], r"--except leaves none of the layers .* \(block1/conv, block2/conv\); leave out fewer",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("patterns", "without", "message"), WRONG.values(), ids=WRONG)
def test_names_that_leave_nothing_are_refused(patterns, without, message):
    with pytest.raises(SpecError, match=message):
        chosen_steps(net_of(*BLOCKS), patterns, without)
