"""Blocks: the parts into which the bars of a report cut a net with many layers."""

from types import SimpleNamespace

import pytest

from minicaffe.inspect.report.blocks import MOST, blocks_of

pytestmark = pytest.mark.cpu_only("of names: no device computes here")


def blocks(*layers):
    """The blocks of layers (name, kind, bottoms, size), as a text of those that there are and a dict by name."""
    found = [SimpleNamespace(name=name, bottoms=list(bottoms), tops=[name]) for name, _, bottoms, _ in layers]
    stages = {name: SimpleNamespace(shape=(8, size, size)) for name, _, _, size in layers}
    recording = SimpleNamespace(layers=found, stages=stages)
    names = blocks_of(recording, [kind for _, kind, _, _ in layers])
    return list(dict.fromkeys(names)), dict(zip([each.name for each in found], names, strict=True))


def chain(names, size=8):
    """Convolutions, each after the one before."""
    return [(name, "conv", names[i - 1 : i] if i else ["data"], size) for i, name in enumerate(names)]


def test_a_net_of_few_layers_is_shown_layer_by_layer():
    names = [f"conv{i}_{k}" for i in range(4) for k in range(4)]
    assert len(names) == MOST and blocks(*chain(names))[0] == names


def test_branches_of_a_module_are_one_block():
    names = [
        f"inception_{part}/{size}" for part in ("3a", "3b", "4a", "5a") for size in ("1x1", "3x3", "5x5")
    ]
    names = ["conv1/7x7_s2", "conv2/3x3_reduce", "conv2/3x3", *names, "loss3/classifier", "loss3/more"]
    found, by_name = blocks(*chain(names), ("inception_5a/output", "other", names[-4:-2], 8))
    assert found == [
        "conv1", "conv2", "inception_3a", "inception_3b", "inception_4a", "inception_5a", "loss3"
    ]  # fmt: skip
    assert by_name["inception_5a/output"] == "inception_5a"


def test_of_very_many_modules_a_stage_is_one_block():
    names = [
        f"res{stage}{k}_branch2{c}"
        for stage in (2, 3, 4, 5)
        for k in ("a", "b1", "b12", "b2", "b3")
        for c in "ab"
    ]
    assert blocks(*chain(["conv1", *names]))[0] == ["conv1", "res2", "res3", "res4", "res5"]


def test_what_changes_one_layer_s_output_is_in_its_block():
    names = [f"conv{i}_{c}" for i in range(1, 6) for c in "abcd"]
    more = [
        ("bn4a", "other", ["conv4_a"], 8),
        ("relu9", "other", ["bn4a"], 8),
        ("prob", "data", ["relu9"], 8),
    ]
    _, by_name = blocks(*chain(names), *more)
    assert (by_name["bn4a"], by_name["relu9"], by_name["prob"]) == ("conv4", "conv4", "prob")


@pytest.mark.parametrize("names", [[f"conv{i}" for i in range(30)], ["x" * i for i in range(1, 31)]])
def test_where_names_say_nothing_maps_of_one_size_are_a_block(names):
    sized = [(name, kind, bottoms, 32 >> i // 10) for i, (name, kind, bottoms, _) in enumerate(chain(names))]
    assert blocks(*sized)[0] == ["maps 32 × 32", "maps 16 × 16", "maps 8 × 8"]
