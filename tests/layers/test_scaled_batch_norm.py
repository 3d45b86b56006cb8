"""BatchNorm with scale_bias, NVIDIA's: five blobs, moving averages, and weights in two orders."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device.array import to_host
from minicaffe.layers.batch_norm import BatchNorm
from minicaffe.layers.scaled_batch_norm import ScaledBatchNorm
from minicaffe.spec.net import parse_net
from minicaffe.testing import check_gradients
from tests.layer_cases import net_of

FILLERS = "scale_filler: {type: uniform, min: 0.5, max: 2}, bias_filler: {type: gaussian}"
LAYER = f"type: BatchNorm, batch_norm_param: {{scale_bias: true, {FILLERS}}}"
SHAPES = [(3, 2, 2, 3), (4, 3), (2, 3, 5)]


def array_of(blob):
    return to_host(blob.data)


@pytest.mark.parametrize("place", ["", ", top: x0"])
@pytest.mark.parametrize("phase", ["train", "test"])
@pytest.mark.parametrize("shape", SHAPES)
def test_backward_is_the_derivative_of_forward(place, phase, shape, rng):
    net = net_of(LAYER + place, shape, phase=phase, dtype="float64")
    mean, variance = net.params["L"][:2]
    mean.data[...], variance.data[...] = net.setting.device.put(rng.random((2, shape[1])) + 0.5)
    check_gradients(net, [rng.standard_normal(shape)])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("scale_bias: true", ScaledBatchNorm),
        ("scale_filler: {value: 2}", ScaledBatchNorm),
        ("scale_bias: false, bias_filler: {value: 2}", ScaledBatchNorm),
        ("scale_bias: false, engine: CUDNN", BatchNorm),
        ("", BatchNorm),
    ],
)
def test_scale_bias_or_a_filler_makes_it_nvidias(fields, expected):
    net = net_of(f"type: BatchNorm, batch_norm_param: {{{fields}}}", (2, 3, 4, 4))
    assert type(net.layers[-1]) is expected
    shapes = [(3,), (3,), (1,), (3,), (3,)]
    assert [blob.shape for blob in net.params["L"]] == shapes[: 5 if expected is ScaledBatchNorm else 3]
    assert [param.lr_mult for param in net.learnable] == [0, 0, 0, 1, 1][: len(net.params["L"])]


def test_scale_is_1_and_bias_0_unless_filled():
    blobs = net_of("type: BatchNorm, batch_norm_param: {scale_bias: true}", (2, 3, 4, 4)).params["L"]
    assert [float(blob.data.reshape(-1)[0]) for blob in blobs] == [0, 0, 1, 1, 0]


def test_it_is_batch_norm_and_scale_and_follows_the_batches(rng):
    param = f"moving_average_fraction: 0.75, eps: 0.001, {FILLERS}"
    net = net_of(f"type: BatchNorm, batch_norm_param: {{{param}}}", (5, 2, 3, 4), dtype="float64")
    mean = variance = None
    for step in range(3):
        x = rng.standard_normal((5, 2, 3, 4)) * (2 + step) + step
        found = net.forward(x0=x)["L"]
        blobs = [array_of(blob) for blob in net.params["L"]]
        of_batch = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
        scale, bias = (blob.reshape(1, 2, 1, 1) for blob in blobs[3:])
        expected = (x - x.mean(axis=(0, 2, 3), keepdims=True)) / np.sqrt(
            x.var(axis=(0, 2, 3), keepdims=True) + 0.001
        )
        np.testing.assert_allclose(found, expected * scale + bias, rtol=1e-9)
        unbiased = of_batch[1] * 60 / 59
        mean = of_batch[0] if mean is None else 0.75 * mean + 0.25 * of_batch[0]
        variance = unbiased if variance is None else 0.75 * variance + 0.25 * unbiased
        np.testing.assert_allclose(blobs[0], mean, rtol=1e-9)
        np.testing.assert_allclose(blobs[1], variance, rtol=1e-9)
        assert blobs[2] == 1
    tested = net_of(
        f"type: BatchNorm, batch_norm_param: {{{param}}}", (5, 2, 3, 4), phase="test", dtype="float64"
    )
    tested.share_with(net)
    normal = (x - mean.reshape(1, 2, 1, 1)) / np.sqrt(variance.reshape(1, 2, 1, 1) + 0.001)
    np.testing.assert_allclose(tested.forward(x0=x)["L"], normal * scale + bias, rtol=1e-9)


def test_a_resumed_run_does_not_take_its_first_batch_for_the_first_of_all(rng):
    x, y = rng.standard_normal((2, 4, 3))
    layer = "type: BatchNorm, batch_norm_param: {scale_bias: true, moving_average_fraction: 0.5}"
    net, resumed = (net_of(layer, (4, 3)) for _ in range(2))
    net.forward(x0=x)
    for blob, saved in zip(resumed.params["L"], net.params["L"], strict=True):
        blob.data[...] = saved.data
    resumed.layers[-1].restore(net.layers[-1].state())
    for each in (net, resumed):
        each.forward(x0=y)
    for one, other in zip(net.params["L"], resumed.params["L"], strict=True):
        np.testing.assert_array_equal(array_of(one), array_of(other))
    np.testing.assert_allclose(array_of(net.params["L"][0]), (x.mean(0) + y.mean(0)) / 2, rtol=1e-5)


def test_eps_is_no_less_than_the_originals():
    net = net_of("type: BatchNorm, batch_norm_param: {scale_bias: true, eps: 0}", (4, 3))
    assert net.layers[-1].eps == 1e-5


@pytest.mark.cpu_only("of a file")
def test_weights_of_digits_are_put_into_todays_order(tmp_path, rng):
    net = net_of("type: BatchNorm, batch_norm_param: {scale_bias: true}", (2, 3, 4, 4), phase="test")
    scale, bias, mean, variance = rng.random((4, 1, 3, 1, 1)).astype(np.float32)
    old = [scale, bias, mean, variance, np.zeros(1, np.float32)]
    np.savez(tmp_path / "old.npz", **{f"L/{i}": array for i, array in enumerate(old)})
    net.copy_from(tmp_path / "old.npz")
    for blob, expected in zip(net.params["L"], (mean, variance, np.ones(1), scale, bias), strict=True):
        np.testing.assert_array_equal(array_of(blob), expected.reshape(-1))


@pytest.mark.cpu_only("of a file")
def test_the_order_of_weights_of_one_channel_is_not_guessed(tmp_path):
    """Five arrays of one number each: nothing tells which is the scale. Those of the net's shapes are the net's."""
    net = net_of("type: BatchNorm, batch_norm_param: {scale_bias: true}", (2, 1, 4, 4), phase="test")
    for name, shape in (("new", (1,)), ("old", (1, 1, 1, 1))):
        arrays = {f"L/{i}": np.full(shape, i + 2, np.float32) for i in range(5)}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    net.copy_from(tmp_path / "new.npz")
    with pytest.raises(mc.MinicaffeError, match=r"'L/0' has shape \(1, 1, 1, 1\), the net expects \(1,\)"):
        net.copy_from(tmp_path / "old.npz")
    assert [array_of(blob).item() for blob in net.params["L"]] == [2, 3, 4, 5, 6]


CHAIN = """
layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3, 6, 5]}}}
- {name: conv, type: Convolution, bottom: x, convolution_param: {num_output: 4, kernel_size: 3,
   weight_filler: {type: gaussian, std: 0.3}}}
- {name: bn, type: BatchNorm, bottom: conv, top: TOP, batch_norm_param: {FILLERS}}
- {name: relu, type: ReLU, bottom: TOP, top: TOP}
""".replace("FILLERS", FILLERS)


@pytest.mark.parametrize("top", ["conv", "bn"])
@pytest.mark.parametrize("phase", ["train", "test"])
def test_a_convolution_with_it_and_relu_is_what_its_layers_are_one_by_one(top, phase, rng):
    net, other = (mc.Net(parse_net(CHAIN.replace("TOP", top)), phase=phase, seed=2) for _ in range(2))
    x = rng.standard_normal((2, 3, 6, 5)).astype(np.float32)
    y = np.array(net.forward(x=x)[top])
    other.forward(x=x, end="conv")
    for name in ("bn", "relu"):
        found = other.forward(start=name, end=name)[top]
    np.testing.assert_allclose(y, found, rtol=1e-5, atol=1e-6)


def test_two_arrays_are_said_to_be_those_of_segnets_bn(tmp_path):
    net = net_of("type: BN", (2, 3, 4, 4))
    np.savez(tmp_path / "two.npz", **{f"L/{i}": np.ones((1, 3, 1, 1), np.float32) for i in range(2)})
    with pytest.raises(mc.WeightError, match="layer 'L': the weights have two arrays, as SegNet's BN has"):
        net.copy_from(tmp_path / "two.npz")
