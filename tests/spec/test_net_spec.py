"""What a net's spec says: old inputs, lists, numbers, merge keys."""

import pytest

import minicaffe as mc
from minicaffe.spec.net import parse_net

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


def test_old_style_inputs_become_input_layers(make_net):
    net = make_net(
        "input: [a, b]\ninput_dim: [1, 2, 3, 4, 5, 6, 7, 8]\nlayer:\n- {name: r, type: ReLU, bottom: a}\n"
    )
    assert net.blobs["a"].shape == (1, 2, 3, 4)
    assert net.blobs["b"].shape == (5, 6, 7, 8)
    assert net.inputs == ["a", "b"]


@pytest.mark.parametrize(("dims", "shapes"), [(3, "0.75"), (6, "1.5"), (8, "2")])
def test_old_style_inputs_take_four_numbers_each(dims, shapes):
    with pytest.raises(mc.SpecError, match=f"input: 1 names but {shapes} shapes; give one for each"):
        parse_net(f"input: a\ninput_dim: {[1] * dims}\nlayer: [{{name: r, type: ReLU}}]")


def test_a_list_that_no_spec_gives_is_the_layers_own():
    first, second = parse_net("layer: [{name: a, type: ReLU}, {name: b, type: ReLU}]").layer
    first.bottom.append("x")
    assert second.bottom == [] and mc.spec.net.make_layer_spec("ReLU", name="c").bottom == []


@pytest.mark.parametrize(
    ("written", "means"), [("1_000", 1000), ("0x10", 16), ("2147483647", 2**31 - 1), ("2147483648", None)]
)
def test_whole_numbers_are_those_of_yaml_in_32_bits(written, means):
    text = f"layer: [{{name: a, type: Input, input_param: {{shape: {{dim: {written}}}}}}}]"
    if means is None:
        with pytest.raises(mc.SpecError, match="dim: 2147483648 is out of range"):
            parse_net(text)
    else:
        assert parse_net(text).layer[0].input_param.shape[0].dim == [means]


def test_yaml_merge_keys_and_scalars_for_lists_are_understood():
    spec = parse_net("""
layer:
- {name: x, type: Input, input_param: &p {shape: {dim: [2, 3]}}}
- {name: y, type: Input, input_param: {<<: *p}}
- {name: z, type: Concat, bottom: [x, y], top: z, loss_weight: 1e-1}
""")
    assert spec.layer[1].input_param.shape[0].dim == [2, 3]
    assert spec.layer[2].top == ["z"]
    assert spec.layer[2].loss_weight == [0.1]


def test_a_mapping_wins_over_what_it_merges_and_an_earlier_merge_over_a_later():
    spec = parse_net("""
layer:
- name: a
  type: Convolution
  convolution_param: &a {num_output: 4, kernel_size: 3}
- name: b
  type: Convolution
  convolution_param: &b {<<: *a, num_output: 8, pad: 1}
- name: c
  type: Convolution
  convolution_param: {<<: [{stride: 2, pad: 2}, *b], kernel_size: 5}
""")
    params = [layer.convolution_param for layer in spec.layer]
    assert [p.num_output for p in params] == [4, 8, 8]
    assert [p.kernel_size for p in params] == [[3], [3], [5]]
    assert [p.pad for p in params] == [[], [1], [2]]
    assert [p.stride for p in params] == [[], [], [2]]


@pytest.mark.parametrize("merged", ["3", "[3]", "[{pad: 1}, x]"])
def test_a_merge_of_something_else_than_mappings_is_an_error_at_its_line(merged):
    with pytest.raises(
        mc.SpecError, match="<string>:2: not valid YAML: '<<' merges mappings, not a single value"
    ):
        parse_net(f"layer:\n- {{name: a, type: Convolution, convolution_param: {{<<: {merged}}}}}")
