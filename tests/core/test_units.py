"""Units: layers of a training net that run as one, forward and backward, and nobody notices but for the time."""

import copy
from collections import Counter

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core import chains, units
from minicaffe.core.layer import layer_classes
from minicaffe.core.units import Unit
from minicaffe.layers.scale import Scale
from minicaffe.ops.engine import set_engine
from tests.core.test_chains import is_watched_itself

pytestmark = pytest.mark.cpu_only("on a GPU each layer is a few kernels")

CONV = """
- {name: conv, type: Convolution, top: y, convolution_param: {num_output: 6, kernel_size: 3, pad: 1,
    weight_filler: {type: gaussian, std: 0.3}}}
"""
NORM = "- {name: bn, type: BatchNorm, bottom: y, top: y}\n"
APART = CONV.replace("top: y", "top: x2") + "- {name: bn, type: BatchNorm, bottom: x2, top: y}\n"
SCALE = """
- {name: scale, type: Scale, bottom: y, top: y, scale_param: {bias_term: true,
    filler: {type: uniform, min: -1, max: 1}, bias_filler: {type: gaussian}}}
"""
RELU = "- {name: relu, type: ReLU, bottom: y, top: y}\n"
LEAKY = "- {name: relu, type: ReLU, bottom: y, top: y, relu_param: {negative_slope: 0.3}}\n"
GIVEN = "top: y, batch_norm_param: {use_global_stats: true}"
UNITS = {
    "BatchNorm, Scale, ReLU": CONV + NORM + SCALE + RELU,
    "BatchNorm, Scale": CONV + NORM + SCALE,
    "BatchNorm, ReLU": CONV + NORM + RELU,
    "without bias": CONV + NORM + SCALE.replace("bias_term: true", "bias_term: false") + RELU,
    "leaky": CONV + NORM + SCALE + LEAKY,
    "a top of its own": APART + SCALE + RELU,
    "a top of its own, without Scale": APART + RELU,
    "given statistics": CONV + NORM.replace("top: y", GIVEN) + SCALE + RELU,
    "given statistics, a top of its own": APART.replace("top: y", GIVEN) + SCALE + RELU,
    "given statistics, without Scale": APART.replace("top: y", GIVEN) + LEAKY,
    "frozen": CONV + NORM + SCALE.replace("scale_param", "param: [{lr_mult: 0}, {lr_mult: 1}], scale_param") + RELU,
}  # fmt: skip
SHAPES = ["[2, 4, 7, 5]", "[1, 4, 1, 1]", "[3, 4, 2, 1]", "[40, 4, 31, 31]"]


def make(layers, shape=SHAPES[0], dtype=np.float64, **more):
    """A training net with a first forward's statistics, and its input. The loss is Σ w · y."""
    inputs = f"""
force_backward: true
layer:
- {{name: x, type: Input, input_param: {{shape: {{dim: {shape}}}}}}}
- {{name: w, type: Input, input_param: {{shape: {{dim: {shape.replace(", 4, ", ", 6, ", 1)}}}}}}}"""
    end = """
- {name: product, type: Eltwise, bottom: [y, w], top: product, eltwise_param: {operation: PROD}}
- {name: sum, type: Reduction, bottom: product, top: loss, loss_weight: 1}
"""
    net = mc.Net.from_text(inputs + layers + end, phase="train", seed=1, dtype=dtype, **more)
    rng = np.random.default_rng(2)
    for layer in net.layers:
        if layer.type == "BatchNorm":
            for blob, values in zip(layer.blobs, (rng.normal(size=6), rng.uniform(1, 3, 6), 2), strict=True):
                blob.data[...] = values
    for name in "xw":
        net.blobs[name].data[...] = rng.normal(size=net.blobs[name].shape)
    return net


def step(net):
    net.clear_param_diffs()
    net.run_forward()
    net.run_backward()


def step_one_by_one(net):
    net.clear_param_diffs()
    numbers = range(len(net.layers))
    for i in numbers:
        net.run_forward(i, i)
    for i in reversed(numbers):
        net.run_backward(i, i)


def values(net):
    """All that a script can read, by name."""
    found = {
        f"{name} {what}": getattr(blob, what) for name, blob in net.blobs.items() for what in ("data", "diff")
    }
    found |= {
        f"{name}/{i} {what}": getattr(blob, what)
        for name, blobs in net.params.items() for i, blob in enumerate(blobs) for what in ("data", "diff")
    }  # fmt: skip
    return {name: array.copy() for name, array in found.items()}


def assert_same(net, other, error=1e-11):
    mine, its = values(net), values(other)
    for name, expected in its.items():
        largest = (
            abs(its[name.replace("/1 diff", "/0 diff")]).max() if "/1 diff" in name else abs(expected).max()
        )
        assert abs(mine[name] - expected).max() <= error * max(largest, 1e-3), name


@pytest.fixture
def calls(monkeypatch):
    """How often forward and backward of each layer were called."""
    counter = Counter()

    def counting(method, name):
        def count(self, *args):
            counter[self.name, name] += 1
            method(self, *args)

        return count

    for kind in ("BatchNorm", "Scale", "ReLU"):
        cls = layer_classes[kind]
        for name in ("forward", "backward"):
            monkeypatch.setattr(cls, name, counting(vars(cls)[name], name))
    for module in (units, chains):
        monkeypatch.setattr(module, "is_watched", is_watched_itself)
    return counter


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", UNITS)
def test_all_that_a_script_can_read_is_what_it_is_layer_by_layer(case, shape, calls):
    net, apart = make(UNITS[case], shape), make(UNITS[case], shape)
    for _ in range(2):
        step(net)
    assert not calls
    for _ in range(2):
        step_one_by_one(apart)
    assert set(calls.values()) == {2}
    assert_same(net, apart)


@pytest.mark.parametrize("case", UNITS)
def test_in_float32_all_is_the_same_to_rounding(case):
    net, apart = (make(UNITS[case], SHAPES[3], np.float32) for _ in range(2))
    step(net)
    step_one_by_one(apart)
    assert abs(net.blobs["y"].data - apart.blobs["y"].data).max() < 3e-6 * abs(apart.blobs["y"].data).max()
    assert_same(net, apart, 3e-4)


def test_a_scale_of_0_has_gradients(calls):
    net, apart = make(UNITS["BatchNorm, Scale, ReLU"]), make(UNITS["BatchNorm, Scale, ReLU"])
    for each in (net, apart):
        each.params["scale"][0].data[::2] = 0
    step(net)
    step_one_by_one(apart)
    assert_same(net, apart)
    assert net.params["scale"][0].diff[::2].any()


@pytest.mark.parametrize("case", UNITS)
def test_passes_may_end_and_start_within_a_unit(case):
    net, apart = make(UNITS[case]), make(UNITS[case])
    last = len(net.layers) - 1
    names = [layer.name for layer in net.layers]
    bn = names.index("bn")
    for forwards, backwards in (
        ([(0, last)], [(bn + 1, last), (0, bn)]),  # a unit forward, its layers backward
        ([(0, bn), (bn + 1, last)], [(0, last)]),  # and the other way round
        ([(0, last), (bn + 1, bn + 1)], [(0, last)]),  # a layer of the unit runs again
        ([(0, last), (bn, bn)], [(0, last)]),
        ([(0, last)], [(0, last)]),
    ):
        for each, splits in ((net, False), (apart, True)):
            each.clear_param_diffs()
            for first, end in forwards:
                for part in [(i, i) for i in range(first, end + 1)] if splits else [(first, end)]:
                    each.run_forward(*part)
            for first, end in backwards:
                for part in [(i, i) for i in range(end, first - 1, -1)] if splits else [(first, end)]:
                    each.run_backward(*part)
        assert_same(net, apart)


def test_a_layer_that_a_script_runs_itself_leaves_the_others_what_they_have_saved():
    net, apart = make(UNITS["BatchNorm, Scale, ReLU"]), make(UNITS["BatchNorm, Scale, ReLU"])
    net.run_forward()
    for i in range(len(apart.layers)):
        apart.run_forward(i, i)
    for each in (net, apart):
        scale = each.layer_dict["scale"]
        scale.forward(scale.bottom_blobs, scale.top_blobs)
        each.run_backward()
    assert_same(net, apart)


def test_what_a_script_changes_between_forward_and_backward_counts(calls):
    net, apart = make(UNITS["leaky"]), make(UNITS["leaky"])
    net.run_forward()
    for i in range(len(apart.layers)):
        apart.run_forward(i, i)
    for each in (net, apart):
        each.blobs["y"].data[0] *= -1
        each.params["scale"][0].data[...] += 1
    net.run_backward()
    for i in reversed(range(len(apart.layers))):
        apart.run_backward(i, i)
    assert_same(net, apart)


def test_gradients_of_parameters_are_added_up():
    net = make(UNITS["BatchNorm, Scale, ReLU"])
    step(net)
    once = [param.blob.diff.copy() for param in net.learnable]
    net.run_backward()
    for param, before in zip(net.learnable, once, strict=True):
        assert np.allclose(param.blob.diff, 2 * before)


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_function_around_a_layer_takes_the_layers_one_by_one(method, calls):
    net, apart = make(UNITS["BatchNorm, Scale, ReLU"]), make(UNITS["BatchNorm, Scale, ReLU"])
    layer, seen = net.layer_dict["scale"], []
    inner = getattr(layer, method)
    setattr(layer, method, lambda *args: (seen.append(net.blobs["y"].diff.copy()), inner(*args)))
    step(net)
    assert len(seen) == 1
    assert all(calls[name, method] == 1 for name in ("bn", "scale", "relu"))
    step_one_by_one(apart)
    assert_same(net, apart)


def test_debug_info_takes_the_layers_one_by_one(calls, caplog):
    net = make(UNITS["BatchNorm, Scale, ReLU"])
    net.debug_info = True
    step(net)
    assert set(calls.values()) == {1}


def test_engine_caffe_takes_the_layers_one_by_one(calls):
    net = make(UNITS["BatchNorm, Scale, ReLU"])
    try:
        set_engine("caffe")
        step(net)
    finally:
        set_engine("default")
    assert set(calls.values()) == {1}


def test_a_class_of_ones_own_is_not_taken_for_its_parent(calls):
    class Doubling(Scale):
        """Gives twice what its parent gives."""

        def forward(self, bottom, top):
            super().forward(bottom, top)
            top[0].data[...] *= 2

    mc.register_layer("Doubling", Doubling)
    try:
        net = make(CONV + NORM + SCALE.replace("Scale", "Doubling") + RELU)
        net.run_forward()
        assert calls["bn", "forward"] == calls["scale", "forward"] == 1
    finally:
        del layer_classes["Doubling"]


def test_a_unit_that_ends_in_a_loss_runs_layer_by_layer():
    spec = "layer:\n- {name: y, type: Input, input_param: {shape: {dim: [2, 4, 7, 5]}}}\n" + NORM
    nets = [
        mc.Net.from_text(spec + RELU.replace("top: y", more), phase="train")
        for more in ("top: y", "top: y, loss_weight: 2")
    ]
    found = [any(isinstance(chain, Unit) for chain in net._chains.values()) for net in nets]
    assert found == [True, False]


def test_a_copy_of_a_net_has_units_of_its_own():
    net = make(UNITS["BatchNorm, Scale, ReLU"])
    net.run_forward()
    other, untouched = copy.deepcopy(net), copy.deepcopy(net)
    other.blobs["x"].data[...] += 1
    other.run_forward()
    net.run_backward()
    untouched.run_backward()
    assert_same(net, untouched, 0)


def test_a_unit_fits_another_batch(calls):
    net, apart = make(UNITS["BatchNorm, Scale, ReLU"]), make(UNITS["BatchNorm, Scale, ReLU"], "[5, 4, 7, 5]")
    step(net)
    for each in (net, apart):
        for name, channels in (("x", 4), ("w", 6)):
            each.blobs[name].reshape(5, channels, 7, 5)
            each.blobs[name].data[...] = np.random.default_rng(4).normal(size=(5, channels, 7, 5))
        for blob, value in zip(each.params["bn"], (0, 1, 1), strict=True):
            blob.data[...] = value
    step(net)
    assert not calls
    step_one_by_one(apart)
    assert_same(net, apart)
