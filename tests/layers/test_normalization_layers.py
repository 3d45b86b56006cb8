"""LRN, MVN, BatchNorm, Scale and Bias: gradients, statistics, axes, in-place tops."""

import numpy as np
import pytest

from minicaffe.device import workers
from minicaffe.errors import ShapeError, SpecError
from minicaffe.ops import channels, lrn
from minicaffe.testing import check_gradients, layer_net

IN_PLACE = ["", ", bottom: [x0], top: [x0]"]


def random(rng, shape):
    return rng.standard_normal(shape) + 0.3


in_place_or_not = pytest.mark.parametrize("in_place", IN_PLACE, ids=["", "in_place"])

# -- gradients -------------------------------------------------------------------------------------


@in_place_or_not
@pytest.mark.parametrize("shape", [(2, 5, 3, 2), (1, 1, 4, 5), (3, 2, 1, 1)])
@pytest.mark.parametrize(
    "param",
    [
        "{local_size: 3, alpha: 0.5}",
        "{local_size: 7, alpha: 2, beta: 0.5, k: 2}",
        "{local_size: 1}",
        "{local_size: 3, alpha: 2, norm_region: WITHIN_CHANNEL}",
        "{local_size: 5, alpha: 3, beta: 1.2, norm_region: WITHIN_CHANNEL}",
    ],
)
def test_lrn_backward_is_the_derivative_of_forward(param, shape, in_place, rng):
    check_gradients(f"type: LRN, lrn_param: {param}{in_place}", [random(rng, shape)])


@in_place_or_not
@pytest.mark.parametrize("shape", [(2, 3, 4, 2), (1, 2, 3, 5), (3, 1, 2, 4)])
@pytest.mark.parametrize(
    "param", ["{}", "{across_channels: true}", "{normalize_variance: false, across_channels: true}"]
)
def test_mvn_backward_is_the_derivative_of_forward(param, shape, in_place, rng):
    check_gradients(f"type: MVN, mvn_param: {param}{in_place}", [random(rng, shape)])


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 4)])
def test_mvn_of_fewer_axes_takes_the_missing_ones_for_ones(shape, rng):
    param = "{across_channels: true}"
    net = check_gradients(f"type: MVN, mvn_param: {param}", [random(rng, shape)])
    assert net.blobs["L"].shape == (*shape, 1, 1)[:4]


@in_place_or_not
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4, 2), (5, 2, 3), (1, 2, 3, 3), (6,)])
def test_batch_norm_backward_is_the_derivative_of_forward(shape, in_place, rng):
    check_gradients(f"type: BatchNorm, batch_norm_param: {{eps: 0.1}}{in_place}", [random(rng, shape)])


COVERED = [
    ((2, 3, 4, 2), "{}"),
    ((2, 3), "{}"),
    ((1, 3, 2), "{axis: 1, num_axes: -1}"),
    ((2, 3, 4, 2), "{axis: 1, num_axes: 2}"),
    ((2, 3, 4, 2), "{axis: 2, num_axes: 1}"),
    ((2, 3, 4), "{axis: -1}"),
    ((2, 3, 4), "{axis: 0}"),
    ((2, 3, 4), "{axis: 0, num_axes: 2}"),
    ((2, 3, 4), "{axis: 0, num_axes: -1}"),
    ((2, 3, 4), "{num_axes: 0}"),
    ((5,), "{axis: 0}"),
    ((5,), "{num_axes: 0}"),
]


@in_place_or_not
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("shape", "param"), COVERED)
def test_scale_backward_is_the_derivative_of_forward(shape, param, bias, in_place, rng):
    param = param.replace("{", "{bias_term: true, ").replace(", }", "}") if bias else param
    check_gradients(f"type: Scale, scale_param: {param}{in_place}", [random(rng, shape)])


@in_place_or_not
@pytest.mark.parametrize(("shape", "param"), COVERED)
def test_bias_backward_is_the_derivative_of_forward(shape, param, in_place, rng):
    check_gradients(f"type: Bias, bias_param: {param}{in_place}", [random(rng, shape)])


@pytest.mark.parametrize("in_place", ["", ", bottom: [x0, x1], top: [x0]"], ids=["", "in_place"])
@pytest.mark.parametrize("layer", ["Scale", "Bias"])
@pytest.mark.parametrize(
    ("shape", "second", "axis"),
    [
        ((2, 3, 4, 2), (3,), 1),
        ((2, 3, 4, 2), (3, 4), 1),
        ((2, 3, 4, 2), (4, 2), -2),
        ((2, 3, 4), (2,), 0),
        ((2, 3, 4), (2, 3), 0),
        ((2, 3, 4), (2, 3, 4), 0),
        ((2, 3), (), 1),
        ((5,), (5,), 0),
    ],
)
def test_two_bottoms_both_get_the_derivative_of_forward(layer, shape, second, axis, in_place, rng):
    bias = ", bias_term: true" if layer == "Scale" else ""
    text = f"type: {layer}, {layer.lower()}_param: {{axis: {axis}{bias}}}{in_place}"
    check_gradients(text, [random(rng, shape), random(rng, second)])


@pytest.mark.parametrize("layer", ["Scale", "Bias"])
@pytest.mark.parametrize("index", [0, 1])
def test_only_the_bottom_that_wants_a_gradient_gets_one(layer, index, make_net, rng):
    wanted = ["true" if i == index else "false" for i in range(2)]
    net = make_net(layer_net(f"type: {layer}, propagate_down: [{', '.join(wanted)}]", [(2, 3), (3,)]))
    net.forward(x0=random(rng, (2, 3)), x1=random(rng, (3,)))
    net.backward(L=np.ones((2, 3)))
    assert [net.blobs[f"x{i}"].has_diff for i in range(2)] == [index == 0, index == 1]


@pytest.mark.parametrize("layer", ["Scale, scale_param: {bias_term: true}", "Bias"])
def test_frozen_parameters_get_no_gradient(layer, make_net, rng):
    count = 2 if "Scale" in layer else 1
    frozen = ", ".join(["{lr_mult: 0}"] * count)
    net = make_net(layer_net(f"type: {layer}, param: [{frozen}]", [(2, 3)]), phase="train")
    net.forward(x0=random(rng, (2, 3)))
    net.backward(L=np.ones((2, 3)))
    assert not any(blob.has_diff for blob in net.params["L"])


def test_a_chain_in_place_as_in_residual_nets_has_the_derivative_of_forward(rng):
    """BatchNorm must not read its top in backward: Scale and ReLU have written over it."""
    text = """
force_backward: true
layer:
- {name: x, type: Input, input_param: {shape: {dim: [3, 2, 3, 2]}}}
- {name: bn, type: BatchNorm, bottom: x, top: y}
- {name: scale, type: Scale, bottom: y, top: y, scale_param: {bias_term: true}}
- {name: relu, type: ReLU, bottom: y, top: y, relu_param: {negative_slope: 0.2}}
"""
    check_gradients(text, [random(rng, (3, 2, 3, 2))])


# -- work in blocks --------------------------------------------------------------------------------

BLOCKED = [
    "type: LRN, lrn_param: {local_size: 3, alpha: 0.5}",
    "type: LRN, lrn_param: {local_size: 3, alpha: 0.5, norm_region: WITHIN_CHANNEL}",
    "type: MVN",
    "type: MVN, mvn_param: {across_channels: true}",
    "type: MVN, mvn_param: {normalize_variance: false}",
    "type: BatchNorm",
    "type: Scale, scale_param: {bias_term: true}",
    "type: Scale, scale_param: {axis: 0}",
    "type: Scale, scale_param: {axis: 2, num_axes: -1}",
    "type: Scale, scale_param: {num_axes: 0}",
    "type: Bias",
]


@pytest.mark.parametrize("chunk", [4, 20, 60])
@pytest.mark.parametrize("in_place", IN_PLACE, ids=["", "in_place"])
@pytest.mark.parametrize("layer", BLOCKED)
def test_blocks_of_work_do_not_change_a_result(layer, in_place, chunk, make_net, monkeypatch, rng):
    text, x = layer_net(layer + in_place, [(3, 5, 4, 7)]), random(rng, (3, 5, 4, 7))
    whole = forward_and_backward(make_net(text, phase="train", seed=1), x)
    for module in (workers, channels, lrn):
        monkeypatch.setattr(module, "CHUNK", chunk)
    monkeypatch.setattr(channels, "BLOCK", chunk)
    monkeypatch.setattr(workers, "worker_count", 2)
    parts = forward_and_backward(make_net(text, phase="train", seed=1), x)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def forward_and_backward(net, x):
    (top,) = net.forward(x0=x).values()
    net.clear_param_diffs()
    net.backward(**{net.outputs[0]: np.cos(np.arange(top.size)).reshape(top.shape)})
    arrays = [top, net.blobs["x0"].diff.copy()]
    for blob in net.params.get("L", []):
        arrays += [blob.data.copy(), blob.diff.copy()]
    return arrays


@pytest.mark.parametrize("layer", [*BLOCKED[:6], BLOCKED[6], BLOCKED[9]])
@in_place_or_not
def test_a_batch_may_shrink_and_grow_again(layer, in_place, make_net, rng):
    text = layer_net(layer + in_place, [(3, 5, 4, 2)])
    net = make_net(text, phase="train", seed=1)
    for batch in (3, 1, 4, 3):
        net.blobs["x0"].reshape(batch, 5, 4, 2)
        net.reshape()
        x = random(rng, (batch, 5, 4, 2))
        fresh = make_net(text.replace("[3, 5, 4, 2]", f"[{batch}, 5, 4, 2]"), phase="train", seed=1)
        for a, b in zip(forward_and_backward(net, x)[:2], forward_and_backward(fresh, x)[:2], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# -- LRN -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [0, 1, 2, 9])
def test_window_sums_are_the_sums_of_what_lies_in_the_window(half, rng):
    values = rng.integers(0, 9, (6, 3)).astype(float)
    out = np.empty_like(values)
    lrn.add_neighbours(values, half, out)
    for i in range(6):
        np.testing.assert_array_equal(out[i], values[max(0, i - half) : i + half + 1].sum(axis=0))


def test_the_square_roots_for_three_quarters_are_the_power(rng):
    s = rng.uniform(0.5, 50, 100).astype(np.float32)
    out = np.empty_like(s)
    lrn.inverse_power(s, 0.75, out)
    np.testing.assert_allclose(out, s.astype(float) ** -0.75, rtol=5e-7)


# -- MVN -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("param", "axes"), [("{}", (2, 3)), ("{across_channels: true}", (1, 2, 3))])
def test_mvn_leaves_mean_0_and_variance_1(param, axes, make_net, rng):
    net = make_net(layer_net(f"type: MVN, mvn_param: {param}", [(2, 3, 8, 9)]))
    y = net.forward(x0=50 + 3 * random(rng, (2, 3, 8, 9)))["L"]
    np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axis=axes), 1, rtol=1e-4)


def test_mvn_in_place_needs_the_axes_that_its_top_has(make_net):
    with pytest.raises(ShapeError, match="cannot be normalised in place"):
        make_net(layer_net(f"type: MVN{IN_PLACE[1]}", [(2, 3, 4)]))


# -- BatchNorm -------------------------------------------------------------------------------------


def batch_norm(make_net, shape, phase="train", param="{}", more=""):
    return make_net(layer_net(f"type: BatchNorm, batch_norm_param: {param}{more}", [shape]), phase=phase)


def test_batch_norm_follows_the_batches_statistics(make_net, rng):
    net = batch_norm(make_net, (4, 2, 3, 3), param="{moving_average_fraction: 0.9}")
    mean, variance = np.zeros(2), np.zeros(2)
    for step in range(3):
        x = random(rng, (4, 2, 3, 3)) + step
        net.forward(x0=x)
        mean = 0.9 * mean + x.mean(axis=(0, 2, 3))
        variance = 0.9 * variance + x.var(axis=(0, 2, 3), ddof=1)
    for blob, expected in zip(net.params["L"], (mean, variance, [1 + 0.9 + 0.81]), strict=True):
        np.testing.assert_allclose(blob.data, expected, rtol=1e-5)


def test_batch_norm_at_test_time_uses_the_statistics_and_leaves_them(make_net, rng):
    net = batch_norm(make_net, (2, 2, 3), phase="test", param="{eps: 0.5}")
    for blob, values in zip(net.params["L"], ([2, 8], [4, 16], [4]), strict=True):
        blob.data[...] = values
    x, dy = random(rng, (2, 2, 3)), random(rng, (2, 2, 3))
    mean, std = np.array([[0.5], [2]]), np.sqrt(np.array([[1], [4]]) + 0.5)
    np.testing.assert_allclose(net.forward(x0=x)["L"], (x - mean) / std, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.backward(L=dy)["x0"], dy / std, rtol=1e-5)
    np.testing.assert_array_equal(net.params["L"][0].data, [2, 8])


@pytest.mark.parametrize(("phase", "given"), [("train", "true"), ("test", "false")])
def test_use_global_stats_overrules_the_phase(phase, given, make_net, rng):
    net = batch_norm(make_net, (4, 2), phase=phase, param=f"{{use_global_stats: {given}}}")
    net.forward(x0=random(rng, (4, 2)))
    assert net.params["L"][2].data[0] == (0 if given == "true" else 1)


@pytest.mark.parametrize("more", ["", ", param: [{lr_mult: 0}]", ", param: [{lr_mult: 0, decay_mult: 3}]"])
def test_batch_norm_statistics_are_never_trained(more, make_net, rng):
    net = batch_norm(make_net, (4, 2), more=more)
    assert [param.lr_mult for param in net.learnable] == [0, 0, 0]
    net.forward(x0=random(rng, (4, 2)))
    net.backward(L=np.ones((4, 2)))
    assert not any(blob.has_diff for blob in net.params["L"])


@pytest.mark.parametrize("param", ["{lr_mult: 2}", "{decay_mult: 0}"])
def test_batch_norm_refuses_a_learning_rate_for_its_statistics(param, make_net):
    with pytest.raises(SpecError, match=r"lr_mult: .* statistics are not trained; set 'lr_mult: 0'"):
        batch_norm(make_net, (4, 2), more=f", param: [{param}]")


def test_a_spec_with_batch_norm_makes_equal_nets_again_and_again(make_net):
    """The learning rates that the layer adds stay out of the spec it was made from."""
    net = batch_norm(make_net, (4, 2))
    again = type(net)(net.spec, phase="train")
    assert [len(layer.param) for layer in net.spec.layer] == [0, 0]
    assert len(again.learnable) == 3


def test_batch_norm_of_numbers_far_from_zero_is_exact(make_net, rng):
    """The variance is not a difference of large squares: with those, float32 would leave nothing of it."""
    x = (10_000 + rng.standard_normal((64, 2, 40, 40))).astype(np.float32)
    y = batch_norm(make_net, x.shape).forward(x0=x)["L"]
    exact = x.astype(np.float64)
    std = exact.std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(y, (exact - exact.mean(axis=(0, 2, 3), keepdims=True)) / std, atol=2e-3)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), 1, rtol=1e-4)


def test_batch_norm_in_float32_stays_in_float32(make_net, rng):
    net = batch_norm(make_net, (4, 2))
    net.forward(x0=random(rng, (4, 2)))
    layer = net.layers[-1]
    assert layer.mean.dtype == layer.inverse_std.dtype == np.float32


def test_batch_norm_of_one_place_has_no_unbiased_variance(make_net, rng):
    net = batch_norm(make_net, (1, 3))
    assert np.isfinite(net.forward(x0=random(rng, (1, 3)))["L"]).all()
    np.testing.assert_array_equal(net.params["L"][1].data, 0)


# -- Scale and Bias --------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "param"), COVERED)
def test_scale_is_numpys_broadcast_along_its_axes(shape, param, make_net, rng):
    net = make_net(layer_net(f"type: Scale, scale_param: {param}", [shape]))
    scale, x = net.params["L"][0], random(rng, shape)
    np.testing.assert_array_equal(scale.data, 1)
    scale.data[...] = random(rng, scale.shape)
    axis = net.layers[-1].broadcast.axis
    wide = scale.data.reshape(*scale.shape, *[1] * (len(shape) - axis - len(scale.shape)))
    np.testing.assert_allclose(net.forward(x0=x)["L"], x.astype(np.float32) * wide, rtol=1e-6)


def test_scale_adds_to_its_parameters_gradients(make_net):
    net = make_net(layer_net("type: Scale, scale_param: {bias_term: true}", [(2, 3)]), phase="train")
    for _ in range(3):
        net.forward(x0=np.full((2, 3), 0.5))
        net.backward(L=np.ones((2, 3)))
    np.testing.assert_allclose(net.params["L"][0].diff, [3, 3, 3])
    np.testing.assert_allclose(net.params["L"][1].diff, [6, 6, 6])


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        ("type: Scale, scale_param: {axis: 3}", [(2, 3)], "axis 3 is out of range for a bottom with 2 axes"),
        ("type: Scale, scale_param: {num_axes: 2}", [(2, 3)], "2 axes from axis 1 on are more than"),
        ("type: Bias", [(2, 3), (4,)], r"bottom 'x1' has shape \(4,\); expected \(3,\)"),
        ("type: Bias", [(2, 3), (3, 2)], "2 axes from axis 1 on are more than bottom 'x0'"),
        ("type: LRN", [(2, 3)], "expected 4 axes"),
        ("type: MVN", [(2, 3, 1, 1, 1)], "expected 1 to 4 axes"),
        ("type: PReLU", [(2,)], "expected at least 2 axes"),
    ],
)
def test_shapes_that_do_not_fit_are_said_in_one_line(layer, shapes, message, make_net):
    with pytest.raises(ShapeError, match=message) as caught:
        make_net(layer_net(layer, shapes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", ["Scale", "Bias", "BatchNorm"])
def test_parameters_do_not_follow_another_number_of_channels(layer, make_net):
    net = make_net(layer_net(f"type: {layer}", [(2, 3, 4)]))
    net.blobs["x0"].reshape(2, 5, 4)
    with pytest.raises(ShapeError, match=r"channels|do not fit"):
        net.reshape()


@pytest.mark.parametrize("layer", ["Scale", "Bias"])
def test_the_second_bottom_cannot_be_the_top(layer, make_net):
    with pytest.raises(SpecError, match="only the first bottom can be the top"):
        make_net(layer_net(f"type: {layer}, bottom: [x0, x1], top: [x1]", [(2, 3), (3,)]))


def test_an_even_window_has_no_middle(make_net):
    with pytest.raises(SpecError, match="local_size: 4 is even; it must be odd"):
        make_net(layer_net("type: LRN, lrn_param: {local_size: 4}", [(1, 2, 3, 3)]))
