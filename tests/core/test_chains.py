"""Chains: layers that run as one, so that nobody notices but for the time."""

import copy
from collections import Counter

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core import chains
from minicaffe.core.layer import layer_classes
from minicaffe.ops.engine import set_engine
from minicaffe.pycaffe.net import Net as CaffeNet
from minicaffe.spec.net import parse_net

GAUSSIAN = "weight_filler: {type: gaussian, std: 0.3}, bias_filler: {type: gaussian, std: 1}"
CONV = f"- {{name: conv, type: Convolution, convolution_param: {{num_output: 6, kernel_size: 3, pad: 1, {GAUSSIAN}"
NORM = """
- {name: bn, type: BatchNorm, top: conv}
- {name: scale, type: Scale, top: conv, scale_param: {bias_term: true, filler: {type: uniform, min: -1, max: 1},
    bias_filler: {type: gaussian}}}
"""
RELU = "- {name: relu, type: ReLU, top: conv}\n"
NETS = {
    "convolution, BatchNorm, Scale, ReLU": (CONV + "}}" + NORM + RELU, "bn scale relu"),
    "without bias": (CONV + ", bias_term: false}}" + NORM + RELU, "bn scale relu"),
    "Winograd": (CONV + ", engine: WINOGRAD}}" + NORM + RELU, "bn scale relu"),
    "1 × 1": (CONV.replace("3, pad: 1", "1") + "}}" + NORM + RELU, "bn scale relu"),
    "grouped": (CONV + ", group: 2}}\n" + RELU, "relu"),
    "depthwise": (CONV.replace("num_output: 6", "num_output: 8, group: 4") + "}}" + NORM + RELU, "bn scale relu"),
    "of low rank": (CONV + "}, low_rank_param: {rank: 2}}\n" + RELU, "relu"),
    "leaky": (CONV + "}}\n- {name: relu, type: ReLU, top: conv, relu_param: {negative_slope: 0.1}}", "relu"),
    "PReLU": (CONV + "}}\n- {name: relu, type: PReLU, top: conv, prelu_param: {filler: {type: gaussian}}}", "relu"),
    "one slope": (CONV + "}}\n- {name: relu, type: PReLU, top: conv, prelu_param: {channel_shared: true}}", "relu"),
    "Bias, ReLU6": (
        CONV + "}}\n- {name: bias, type: Bias, top: conv, bias_param: {filler: {type: gaussian}}}\n"
        "- {name: relu, type: ReLU6, top: conv}",
        "bias relu",
    ),
    "functions": (
        CONV + "}}\n- {name: a, type: Sigmoid, top: conv}\n- {name: b, type: Swish, top: conv}\n"
        "- {name: c, type: BNLL, top: conv}\n- {name: d, type: ELU, top: conv}",
        "a b c d",
    ),
    "InnerProduct, ReLU, Dropout": (
        f"- {{name: conv, type: InnerProduct, inner_product_param: {{num_output: 7, {GAUSSIAN}}}}}\n" + RELU
        + "- {name: drop, type: Dropout, top: conv, dropout_param: {scale_train: false}}",
        "relu drop",
    ),
    "Eltwise, ReLU": (
        CONV.replace("num_output: 6", "num_output: 4") + "}}\n"
        "- {name: sum, type: Eltwise, bottom: [conv, x], top: sum, eltwise_param: {coeff: [1, -2]}}\n"
        "- {name: relu, type: ReLU, top: sum}",
        "relu",
    ),
    "product": (
        CONV.replace("num_output: 6", "num_output: 4") + "}}\n"
        "- {name: sum, type: Eltwise, bottom: [conv, x], top: sum, eltwise_param: {operation: PROD}}\n"
        "- {name: relu, type: ReLU, top: sum}",
        "relu",
    ),
    "BatchNorm first": (
        "- {name: bn, type: BatchNorm, top: conv}\n" + NORM.split("\n", 2)[2] + RELU,
        "bn scale relu",
    ),
}  # fmt: skip


def make(layers, shape="[2, 4, 7, 5]", **more):
    """A test net whose statistics are no longer 0."""
    head = f"force_backward: true\nlayer:\n- {{name: x, type: Input, input_param: {{shape: {{dim: {shape}}}}}}}\n"
    net = mc.Net.from_text(head + layers, seed=1, **more)
    rng = np.random.default_rng(2)
    for layer in net.layers:
        if layer.type == "BatchNorm":
            mean, variance, count = (blob.data for blob in layer.blobs)
            mean[...], variance[...], count[...] = (
                rng.normal(size=mean.shape),
                rng.uniform(1, 3, mean.shape),
                2,
            )
    net.blobs["x"].data[...] = rng.normal(size=net.blobs["x"].shape)
    return net


def run_one_by_one(net):
    for i in range(len(net.layers)):
        net.run_forward(i, i)


@pytest.fixture
def calls(monkeypatch):
    """How often the forward of each layer was called, by its name."""
    counter = Counter()

    def counting(forward):
        def count(self, bottom, top):
            counter[self.name] += 1
            forward(self, bottom, top)

        return count

    for cls in {
        made for layer in layer_classes.values() for made in layer.__mro__ if "forward" in vars(made)
    }:
        monkeypatch.setattr(cls, "forward", counting(cls.forward))
    monkeypatch.setattr(
        chains, "is_watched", is_watched_itself
    )  # a counter in a class would keep layers apart
    return counter


def is_watched_itself(layer, method):
    return method in vars(layer)


@pytest.mark.parametrize("shape", ["[2, 4, 7, 5]", "[1, 4, 1, 1]", "[70, 4, 9, 9]"])
@pytest.mark.parametrize("case", NETS)
def test_every_blob_has_the_value_that_it_has_layer_by_layer(case, shape, calls):
    layers, followers = NETS[case]
    chained, apart = make(layers, shape), make(layers, shape)
    chained.run_forward()
    assert not any(calls[name] for name in followers.split())
    run_one_by_one(apart)
    assert all(calls[name] == 1 for name in followers.split())
    for name, blob in apart.blobs.items():
        error = abs(chained.blobs[name].data - blob.data).max()
        assert error <= 3e-6 * abs(blob.data).max(), name


@pytest.mark.parametrize("case", NETS)
def test_backward_after_a_chain_is_that_of_its_layers(case):
    layers, _ = NETS[case]
    chained, apart = make(layers, dtype=np.float64), make(layers, dtype=np.float64)
    run_one_by_one(apart)
    chained.run_forward()
    for net in (chained, apart):
        (out,) = net.outputs
        net.backward(**{out: np.random.default_rng(3).normal(size=net.blobs[out].shape)})
    for mine, its in zip(chained.learnable, apart.learnable, strict=True):
        assert abs(mine.blob.diff - its.blob.diff).max() <= 1e-9 * abs(its.blob.diff).max()
    assert np.allclose(chained.blobs["x"].diff, apart.blobs["x"].diff, rtol=1e-9, atol=1e-12)


def test_what_a_script_has_written_into_the_top_of_a_chain_is_what_backward_sees():
    net = make(CONV + "}}\n" + RELU)
    net.forward()
    net.blobs["conv"].data[...] = 0
    net.backward(conv=np.ones(net.blobs["conv"].shape))
    assert not net.blobs["x"].diff.any() and not net.blobs["conv"].data.any()


def test_a_forward_that_ends_or_starts_within_a_chain_runs_just_those_layers():
    layers, _ = NETS["convolution, BatchNorm, Scale, ReLU"]
    net, apart = make(layers), make(layers)
    for i in range(3):
        apart.run_forward(i, i)
    found = net.forward(end="bn")["conv"]
    assert np.allclose(found, apart.blobs["conv"].data, atol=1e-6)
    net.forward(start="scale")
    assert np.allclose(net.blobs["conv"].data, make(layers).forward()["conv"], atol=1e-6)


@pytest.mark.parametrize("case", NETS)
def test_parameters_count_as_they_are_whoever_changed_them_and_when(case, tmp_path):
    layers, _ = NETS[case]
    net, other, apart = make(layers), make(layers), make(layers)
    rng = np.random.default_rng(4)
    for param in other.learnable:
        param.blob.data[...] *= rng.uniform(0.5, 2, param.blob.shape)
    (out,) = net.outputs
    other.save(tmp_path / "other.npz")
    apart.copy_from(tmp_path / "other.npz")

    def check():
        run_one_by_one(apart)
        assert np.allclose(net.forward()[out], apart.blobs[out].data, rtol=1e-5, atol=1e-5)

    net.forward()
    net.copy_from(tmp_path / "other.npz")
    check()
    held = [param.blob.data for param in net.learnable]
    check()
    for array, param in zip(held, apart.learnable, strict=True):
        array += 0.1  # long after it was asked for
        param.blob.data[...] += 0.1
    check()
    for array, param in zip(held, apart.learnable, strict=True):
        array.reshape(-1)[-1:] *= 2
        param.blob.data.reshape(-1)[-1:] *= 2
    check()


@pytest.mark.cpu_only("no array is read-only on a GPU")
def test_parameters_are_read_only_and_the_same_object_until_somebody_may_change_them():
    net = make(CONV + "}}\n" + RELU)
    blob = net.params["conv"][0]
    values = blob.values
    net.forward()
    assert blob.values is values and not values.flags.writeable
    blob.write(2 * values)
    assert blob.values is not values and np.array_equal(blob.values, values)  # the same memory
    assert blob.data.flags.writeable and blob.values.flags.writeable


def test_a_copy_of_a_net_has_parameters_of_its_own():
    layers, _ = NETS["convolution, BatchNorm, Scale, ReLU"]
    net = make(layers)
    before = net.forward()["conv"]
    other = copy.deepcopy(net)
    for name in ("conv", "scale"):
        blob = other.params[name][0]
        blob.write(2 * blob.values)
    found = other.forward()["conv"]
    run_one_by_one(other)
    assert np.allclose(found, other.blobs["conv"].data, atol=1e-4)
    assert np.array_equal(net.forward()["conv"], before) and not np.allclose(found, before, atol=1e-2)


def test_debug_info_a_hook_or_a_forward_of_its_own_takes_the_layers_one_by_one(calls):
    layers, _ = NETS["convolution, BatchNorm, Scale, ReLU"]
    net = make(layers)
    net.debug_info = True
    net.forward()
    assert calls["bn"] == calls["scale"] == calls["relu"] == 1
    net.debug_info = False
    net.forward()
    assert calls["relu"] == 1
    net.layer_dict["scale"].forward = net.layer_dict["scale"].forward
    net.forward()
    assert calls["bn"] == calls["scale"] == calls["relu"] == 2


def test_hooks_of_pycaffe_see_each_layer_with_its_own_values(tmp_path):
    layers, _ = NETS["convolution, BatchNorm, Scale, ReLU"]
    path = tmp_path / "net.yaml"
    path.write_text("layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 4, 5, 5]}}}\n" + layers)
    net = CaffeNet(str(path), 1)
    seen = []
    net.after_forward(lambda i: seen.append(i))
    net.forward()
    assert seen == [0, 1, 2, 3, 4]


def test_a_class_of_ones_own_that_only_replaces_forward_is_not_taken_for_its_parent(calls):
    class Doubling(layer_classes["ReLU"]):
        def forward(self, bottom, top):
            top[0].stored[...] = 2 * bottom[0].stored

    mc.register_layer("Doubling", Doubling)
    try:
        net = make(CONV + "}}\n- {name: twice, type: Doubling, top: conv}\n")
        once = net.forward(end="conv")["conv"]
        assert np.allclose(net.forward()["conv"], 2 * once)
    finally:
        del layer_classes["Doubling"]


def test_a_layer_that_is_no_map_now_and_leads_nothing_runs_by_itself():
    head = "- {name: conv, type: BatchNorm, batch_norm_param: {use_global_stats: false}}\n"
    text = "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [4, 3, 2, 2]}}}\n" + head + RELU
    net = mc.Net(parse_net(text), phase="test")
    x = np.random.default_rng(1).standard_normal((4, 3, 2, 2)).astype(np.float32)
    normalised = net.forward(x=x, end="conv")["conv"]
    np.testing.assert_array_equal(net.forward(x=x)["conv"], np.maximum(normalised, 0))


@pytest.fixture
def caffe_run():
    set_engine("caffe")
    yield
    set_engine("default")


@pytest.mark.parametrize("share_memory", [False, True])
@pytest.mark.parametrize("shape", ["[2, 4, 7, 5]", "[70, 4, 9, 9]"])
@pytest.mark.parametrize("case", NETS)
def test_with_engine_caffe_every_bit_is_that_of_the_layers_by_themselves(
    case, shape, share_memory, caffe_run
):
    layers, _ = NETS[case]
    net, apart = make(layers, shape, share_memory=share_memory), make(layers, shape)
    run_one_by_one(apart)
    (out,) = net.outputs
    for _ in range(2):
        assert np.array_equal(net.forward()[out], apart.blobs[out].data)


def test_a_layer_with_engine_caffe_has_every_bit_that_it_has_by_itself():
    layers, _ = NETS["convolution, BatchNorm, Scale, ReLU"]
    layers = layers.replace("pad: 1", "pad: 1, engine: CAFFE")
    net, apart = make(layers), make(layers)
    run_one_by_one(apart)
    assert np.array_equal(net.forward()["conv"], apart.blobs["conv"].data)


@pytest.mark.parametrize("case", NETS)
def test_with_engine_caffe_a_training_pass_has_every_bit_of_its_layers_by_themselves(case, caffe_run):
    layers, _ = NETS[case]
    net, apart = (make(layers, "[6, 4, 9, 7]", phase="train") for _ in range(2))
    net.run_forward()
    run_one_by_one(apart)
    (out,) = net.outputs
    for each in (net, apart):
        each.blobs[out].diff[...] = np.random.default_rng(3).normal(size=net.blobs[out].shape)
    net.run_backward(starts=[out])
    for i in reversed(range(len(apart.layers))):
        apart.run_backward(i, i, starts=[out] if i == len(apart.layers) - 1 else [])
    assert np.array_equal(net.blobs[out].data, apart.blobs[out].data)
    assert np.array_equal(net.blobs["x"].diff, apart.blobs["x"].diff) and net.blobs["x"].diff.any()
    for mine, its in zip(net.learnable, apart.learnable, strict=True):
        assert np.array_equal(mine.blob.diff, its.blob.diff)


TRAINED = {
    "convolution": CONV + "}}\n" + RELU,
    "leaky": NETS["leaky"][0],
    "Winograd": CONV + ", engine: WINOGRAD}}\n" + RELU,
    "Bias": CONV
    + "}}\n- {name: bias, type: Bias, top: conv, bias_param: {filler: {type: gaussian}}}\n"
    + RELU,
    "of low rank": NETS["of low rank"][0],
    "InnerProduct": NETS["InnerProduct, ReLU, Dropout"][0],
    "Eltwise": NETS["Eltwise, ReLU"][0],
}


@pytest.mark.parametrize("case", TRAINED)
def test_layers_of_a_training_net_that_save_nothing_are_part_of_a_chain(case, calls):
    chained, apart = (make(TRAINED[case], dtype=np.float64, phase="train") for _ in range(2))
    chained.run_forward()
    assert not calls["relu"]
    run_one_by_one(apart)
    for net in (chained, apart):
        (out,) = net.outputs
        net.backward(**{out: np.random.default_rng(3).normal(size=net.blobs[out].shape)})
    assert calls["relu"] == 1
    for name, blob in apart.blobs.items():
        assert np.allclose(chained.blobs[name].data, blob.data, rtol=1e-9, atol=1e-12)
        assert np.allclose(chained.blobs[name].diff, blob.diff, rtol=1e-9, atol=1e-12)
    for mine, its in zip(chained.learnable, apart.learnable, strict=True):
        assert np.allclose(mine.blob.diff, its.blob.diff, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layer", ["type: PReLU", "type: Sigmoid", "type: ReLU6", "type: Swish"])
def test_layers_of_a_training_net_that_save_their_input_are_not(layer, calls):
    net = make(CONV + f"}}}}\n- {{name: relu, {layer}, top: conv}}\n", phase="train")
    net.run_forward()
    assert calls["relu"] == 1


def test_backward_reads_the_input_that_forward_read_whatever_a_script_wrote_there_since():
    layers, _ = NETS["convolution, BatchNorm, Scale, ReLU"]
    net, apart = make(layers), make(layers)
    net.forward()
    run_one_by_one(apart)
    for each in (net, apart):
        each.blobs["x"].data[...] = 0
        each.backward(conv=np.ones(each.blobs["conv"].shape))
        assert not each.blobs["x"].data.any()
    assert np.allclose(net.params["conv"][0].diff, apart.params["conv"][0].diff, rtol=1e-3, atol=1e-3)
    assert apart.params["conv"][0].diff.any()


def test_layers_that_did_not_run_in_a_chain_do_not_run_again():
    batch = "- {name: bn, type: BatchNorm, top: conv, batch_norm_param: {use_global_stats: false}}\n"
    net = make(CONV + "}}\n- {name: bias, type: Bias, top: conv}\n" + batch)
    net.forward()
    count = float(net.params["bn"][2].data[0])
    net.backward(conv=np.ones(net.blobs["conv"].shape))
    assert net.params["bn"][2].data[0] == count


def test_settings_of_a_layer_count_when_a_script_changes_them():
    net = make(CONV + "}}\n- {name: bn, type: BatchNorm, top: conv}\n" + RELU)
    path = net.layer_dict["bn"]
    before = net.forward()["conv"]
    path.param.eps = 100.0
    assert abs(net.forward()["conv"]).max() < 0.5 * abs(before).max()
    path.uses_global_stats = False
    net.forward()
    run_one_by_one(apart := make(CONV + "}}\n- {name: bn, type: BatchNorm, top: conv}\n" + RELU))
    assert net.params["bn"][2].data[0] != apart.params["bn"][2].data[0]  # statistics of the batch were added


def test_a_batch_norm_that_leads_a_chain_subtracts_a_large_mean_first():
    net = make("- {name: bn, type: BatchNorm, top: conv}\n" + RELU)
    mean, variance, count = (blob.data for blob in net.params["bn"])
    mean[...], variance[...], count[...] = 1000, 0.01, 1
    x = 1000 + 0.1 * np.random.default_rng(7).normal(size=net.blobs["x"].shape).astype(np.float32)
    expected = np.maximum((x.astype(np.float64) - 1000) / np.sqrt(0.01 + 1e-5), 0)
    assert abs(net.forward(x=x)["conv"] - expected).max() < 1e-5 * expected.max()
