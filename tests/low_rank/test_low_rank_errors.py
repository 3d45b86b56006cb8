"""What low-rank layers refuse, in one line that says where: settings, weight files, nan and infinity."""

import copy
import math
import re

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net
from tests.low_rank.low_rank_cases import LOADERS, PLAIN, layer_of, output

# fixtures, which pytest finds under these names
BROKEN = """name: small
layer:
- name: data
  type: Input
  input_param: {shape: {dim: [2, 4, 6, 5]}}
- name: conv
  type: Convolution
  convolution_param: {num_output: 6, kernel_size: 3}
  low_rank_param:
    rank: 2
- name: ip
  type: InnerProduct
  inner_product_param: {num_output: 5}
  low_rank_param: {rank: 2}
"""
TWO_BOTTOMS = (
    "  type: Convolution\n",
    "  type: Convolution\n  bottom: [data, data]\n  top: [conv, conv2]\n",
)
# (text to replace, what stands there instead, where the error must be, what it must say)
REFUSED = {
    "none of rank, energy, flops": (
        "    rank: 2\n", "    method: svd\n", ":9: layer 'conv': low_rank_param.rank",
        "give one of rank, energy and flops, not none",
    ),
    "rank and energy": (
        "    rank: 2\n", "    rank: 2\n    energy: 0.5\n", ":10: layer 'conv': low_rank_param.rank",
        "not rank and energy",
    ),
    "energy and flops": (
        "    rank: 2\n", "    energy: 0.5\n    flops: 0.5\n", ":9: layer 'conv': low_rank_param.rank",
        "not energy and flops",
    ),
    "all three": (
        "{rank: 2}", "{rank: 2, energy: 0.5, flops: 0.5}", ":14: layer 'ip': low_rank_param.rank",
        "not rank and energy and flops",
    ),
    "rank 0": ("{rank: 2}", "{rank: 0}", ":14: layer 'ip': low_rank_param.rank", "got '0'"),
    "rank -1": ("rank: 2", "rank: -1", ":10: layer 'conv': low_rank_param.rank", "at least 1.*got '-1'"),
    "rank 1.5": ("rank: 2", "rank: 1.5", ":10: layer 'conv': low_rank_param.rank", "got '1.5'"),
    "rank 1.0": ("rank: 2", "rank: 1.0", ":10: layer 'conv': low_rank_param.rank", "got '1.0'"),
    "rank 0.0": ("rank: 2", "rank: 0.0", ":10: layer 'conv': low_rank_param.rank", "got '0.0'"),
    "rank nan": ("rank: 2", "rank: nan", ":10: layer 'conv': low_rank_param.rank", "got 'nan'"),
    "rank x": ("rank: 2", "rank: x", ":10: layer 'conv': low_rank_param.rank", "got 'x'"),
    "a list for a rank": ("rank: 2", "rank: [1, 2]", ":10: layer 'conv': low_rank_param.rank", "got a list"),
    "a rank above the full rank": (
        "rank: 2", "rank: 7", ":10: layer 'conv': low_rank_param.rank", "7 is more than the full rank, 6",
    ),
    "a rank above the full rank of a group": (
        "kernel_size: 3}\n  low_rank_param:\n    rank: 2",
        "kernel_size: 3, group: 2}\n  low_rank_param:\n    rank: 4",
        ":10: layer 'conv': low_rank_param.rank", "4 is more than the full rank, 3",
    ),
    "a rank above the spatial full rank": (
        "rank: 2\n", "rank: 13\n    scheme: spatial\n", ":10: layer 'conv': low_rank_param.rank",
        "13 is more than the full rank, 12",
    ),
    "a rank above the data's full rank": (
        "rank: 2\n", "rank: 37\n    target: data\n", ":10: layer 'conv': low_rank_param.rank",
        "37 is more than the full rank, 36",
    ),
    "a factored rank above the full rank": (
        "{rank: 2}", "{rank: 6, factored: true}", ":14: layer 'ip': low_rank_param.rank",
        "6 is more than the full rank, 5",
    ),
    "energy 0": ("rank: 2", "energy: 0", ":10: layer 'conv': low_rank_param.energy", "0 is out of range"),
    "energy 1.1": ("rank: 2", "energy: 1.1", ":10: layer 'conv': low_rank_param.energy", "1.1 is out of range"),
    "flops 0": ("rank: 2", "flops: 0", ":10: layer 'conv': low_rank_param.flops", "0 is out of range"),
    "flops below the cost of rank 1": (
        "rank: 2", "flops: 0.19", ":10: layer 'conv': low_rank_param.flops", r"rank 1 costs 0\.1944 of dense",
    ),
    "refresh 0": (
        "rank: 2\n", "rank: 2\n    refresh: 0\n", ":11: layer 'conv': low_rank_param.refresh", "0 is out of range",
    ),
    "an unknown method": (
        "rank: 2\n", "rank: 2\n    method: qr\n", ":11: layer 'conv': low_rank_param.method", "got 'qr'",
    ),
    "an unknown target": (
        "rank: 2\n", "rank: 2\n    target: dat\n", ":11: layer 'conv': low_rank_param.target", "mean 'DATA'",
    ),
    "an unknown field": (
        "rank: 2\n", "rank: 2\n    ranks: 3\n", ":11: layer 'conv': low_rank_param.ranks", "mean 'rank'",
    ),
    "data and spatial": (
        "rank: 2\n", "rank: 2\n    target: data\n    scheme: spatial\n",
        ":12: layer 'conv': low_rank_param.scheme", "'spatial' factorizes weights",
    ),
    "data and factored": (
        "rank: 2\n", "rank: 2\n    target: data\n    factored: true\n",
        ":12: layer 'conv': low_rank_param.factored", "use target 'weights'",
    ),
    "factored and energy": (
        "rank: 2\n", "energy: 0.5\n    factored: true\n", ":10: layer 'conv': low_rank_param.energy",
        "give rank or flops",
    ),
    "factored and refresh": (
        "rank: 2\n", "rank: 2\n    factored: true\n    refresh: 3\n",
        ":12: layer 'conv': low_rank_param.refresh", "trained, not recomputed",
    ),
    "factored and a method": (
        "rank: 2\n", "rank: 2\n    factored: true\n    method: gram\n",
        ":12: layer 'conv': low_rank_param.method", "start from an SVD",
    ),
    "power iterations of an SVD": (
        "rank: 2\n", "rank: 2\n    power_iterations: 3\n", ":11: layer 'conv': low_rank_param.power_iterations",
        "is for method 'randomized'",
    ),
    "oversampling of data by gram": (
        "{rank: 2}", "{rank: 2, target: data, oversampling: 3}", ":14: layer 'ip': low_rank_param.oversampling",
        "is for method 'randomized'",
    ),
    "energy and randomized": (
        "rank: 2\n", "energy: 0.5\n    method: randomized\n", ":10: layer 'conv': low_rank_param.energy",
        "needs all singular values",
    ),
    "energy and randomized, of data": (
        "{rank: 2}", "{energy: 0.5, method: randomized, target: data}", ":14: layer 'ip': low_rank_param.energy",
        "needs all singular values",
    ),
    "spatial for an inner product": (
        "{rank: 2}", "{rank: 2, scheme: spatial}", ":14: layer 'ip': low_rank_param.scheme", "use 'channel'",
    ),
    "factored and transposed": (
        "{num_output: 5}\n  low_rank_param: {rank: 2}",
        "{num_output: 5, transpose: true}\n  low_rank_param: {rank: 2, factored: true}",
        ":14: layer 'ip': low_rank_param.factored", "leave out inner_product_param.transpose",
    ),
    "three spatial axes": (
        "[2, 4, 6, 5]", "[2, 4, 6, 5, 4]", ":9: layer 'conv': low_rank_param", "one or two spatial axes, not 3",
    ),
    "two bottoms with target data": (
        *(part + "  convolution_param: {num_output: 6, kernel_size: 3}\n  low_rank_param:\n    rank: 2\n" + more
          for part, more in zip(TWO_BOTTOMS, ("", "    target: data\n"), strict=True)),
        ":13: layer 'conv': low_rank_param.target", "one bottom, not 2",
    ),
    "a basis that is to be trained": (
        "  low_rank_param:\n    rank: 2\n",
        "  low_rank_param:\n    rank: 2\n    target: data\n  param:\n  - {}\n  - {}\n  - {lr_mult: 1}\n",
        ":15: layer 'conv': param.lr_mult", "set 'lr_mult: 0'",
    ),
    "a weight basis that is to be trained": (
        "  low_rank_param: {rank: 2}\n",
        "  low_rank_param: {rank: 2, refresh: 3}\n  param: [{lr_mult: 1}, {lr_mult: 2}, {lr_mult: 0.5}]\n",
        ":15: layer 'ip': param.lr_mult", "0.5, but statistics are not trained",
    ),
    "more params than blobs": (
        "  low_rank_param: {rank: 2}\n", "  low_rank_param: {rank: 2}\n  param: [{}, {}, {lr_mult: 0}]\n",
        ":15: layer 'ip': param", "3 given, but the layer has 2 parameters",
    ),
    "a deconvolution": (
        "type: Convolution", "type: Deconvolution", ":9: layer 'conv': low_rank_param", "unknown field",
    ),
    "a neuron": (
        "  type: Convolution\n  convolution_param: {num_output: 6, kernel_size: 3}\n", "  type: ReLU\n",
        ":8: layer 'conv': low_rank_param", "unknown field",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "place", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_make_no_sense_are_refused_with_file_line_layer_and_field(old, new, place, message):
    assert old in BROKEN
    text = BROKEN.replace(old, new, 1)
    with pytest.raises(mc.SpecError) as caught:
        mc.Net(parse_net(text, "net.yaml"), phase="train")
    error = str(caught.value)
    assert error.startswith(f"net.yaml{place}: "), error
    assert re.search(message, error), error
    assert "\n" not in error


def test_the_unbroken_net_works():
    net = mc.Net(parse_net(BROKEN, "net.yaml"), phase="train")
    assert net.forward()["ip"].shape == (2, 5)


@pytest.mark.parametrize("low_rank", ["rank: 2", "rank: 2, method: gram", "rank: 2, method: randomized"])
def test_weights_that_are_no_numbers_are_an_error_at_the_layer(make_net, low_rank, rng):
    net = make_net(PLAIN.text(low_rank), phase="train")
    net.params["conv"][0].data[0, 0, 0, 0] = math.nan
    with pytest.raises(mc.TrainingError, match=r"layer 'conv': no factorization"):
        output(net, PLAIN.random_input(rng))


def test_a_dense_file_of_numbers_that_are_none_is_an_error_of_this_package(make_net, tmp_path):
    dense = make_net(PLAIN.text())
    dense.params["conv"][0].data[...] = math.nan
    dense.save(tmp_path / "w.npz")
    with pytest.raises(mc.MinicaffeError):
        make_net(PLAIN.text("rank: 2, factored: true")).copy_from(tmp_path / "w.npz")


@pytest.mark.parametrize("low_rank", [LOADERS["factored"], LOADERS["held"]], ids=["factored", "held"])
@pytest.mark.parametrize(
    ("old", "new"),
    [("num_output: 6", "num_output: 5"), ("kernel_size: 3", "kernel_size: 2"),
     ("kernel_size: 3", "kernel_size: 3, bias_term: false"), ("kernel_size: 3", "kernel_size: 3, group: 2")],
)  # fmt: skip
def test_a_file_of_other_shapes_is_refused_and_changes_nothing(make_net, tmp_path, low_rank, old, new):
    make_net(PLAIN.text().replace(old, new), seed=1).save(tmp_path / "w.npz")
    net = make_net(PLAIN.text(low_rank), seed=2)
    before = [blob.data.copy() for blob in net.params["conv"]]
    with pytest.raises(mc.WeightError, match=r"w\.npz: (layer 'conv' has|'conv/\d' has shape)"):
        net.copy_from(tmp_path / "w.npz")
    for blob, values in zip(net.params["conv"], before, strict=True):
        np.testing.assert_array_equal(blob.data, values)


def test_a_layer_without_the_message_is_the_dense_layer(make_net):
    assert type(layer_of(make_net(PLAIN.text()))).__name__ == "Convolution"
    assert type(layer_of(make_net(PLAIN.text("rank: 2")))).__name__ == "LowRankConvolution"


def test_a_spec_makes_the_same_layer_every_time(make_net):
    spec = parse_net(PLAIN.text("rank: 2, target: data"))
    before = copy.deepcopy([param.lr_mult for param in spec.layer[1].param])
    nets = [mc.Net(spec, phase=phase, seed=1) for phase in ("train", "test", "train")]
    assert before == []
    assert [[p.lr_mult for p in net.learnable] for net in nets] == [[1, 1, 0]] * 3
