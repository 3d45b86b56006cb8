"""Prepared passes: calls that are made again, so that nobody notices but for the time."""

import copy
import gc
import threading
import weakref

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core.layer import is_watched, layer_classes
from minicaffe.core.prepared import PreparedPass
from minicaffe.device.array import CPU
from minicaffe.ops.engine import set_engine

FILLERS = "weight_filler: {type: gaussian, std: 0.3}, bias_filler: {type: gaussian}"
CONV = f"- {{name: conv, type: Convolution, convolution_param: {{num_output: 6, kernel_size: 3, pad: 1, {FILLERS}"
RELU = "- {name: relu, type: ReLU, top: conv}\n"
POOL = "- {name: pool, type: Pooling, pooling_param: {"
IP = f"- {{name: ip, type: InnerProduct, inner_product_param: {{num_output: 5, {FILLERS}}}}}\n"
SPATIAL = "}, low_rank_param: {rank: 2, scheme: spatial}}\n"
NETS = {
    "convolution": CONV + "}}\n",
    "convolution, ReLU": CONV + "}}\n" + RELU,
    "without border": CONV.replace("pad: 1", "pad: 0") + "}}\n" + RELU,
    "1 × 1": CONV.replace("3, pad: 1", "1") + "}}\n" + RELU,
    "with a stride": CONV + ", stride: 2}}\n" + RELU,
    "Winograd": CONV + ", engine: WINOGRAD}}\n" + RELU,
    "rows of Winograd": CONV.replace("3, pad: 1", "5, pad: 2") + ", engine: WINOGRAD}}\n" + RELU,
    "grouped": CONV + ", group: 2}}\n" + RELU,
    "depthwise": CONV.replace("num_output: 6", "num_output: 8, group: 4") + "}}\n" + RELU,
    "leaky": CONV + "}}\n- {name: relu, type: ReLU, top: conv, relu_param: {negative_slope: 0.1}}\n",
    "BatchNorm, Scale, ReLU": CONV
    + "}}\n- {name: bn, type: BatchNorm, top: conv}\n- {name: scale, type: Scale, top: conv}\n"
    + RELU,
    "of low rank": CONV + "}, low_rank_param: {rank: 2}}\n" + RELU,
    "of low rank, spatial": CONV + SPATIAL + RELU,
    "of low rank, spatial, with a stride": CONV + ", stride: 2" + SPATIAL + RELU,
    "of full rank": CONV + "}, low_rank_param: {rank: 6}}\n",
    "of low rank, factored": CONV + "}, low_rank_param: {rank: 2, factored: true}}\n" + RELU,
    "InnerProduct": CONV + "}}\n" + RELU + IP,
    "largest, Softmax": CONV + "}}\n" + RELU + POOL + "kernel_size: 3, stride: 2}}\n"
    "- {name: prob, type: Softmax}\n",
    "averages": CONV + "}}\n" + POOL + "pool: AVE, kernel_size: 3, stride: 2, pad: 1}}\n",
    "the average of all": CONV + "}}\n" + POOL + "pool: AVE, global_pooling: true}}\n",
    "branches": CONV + "}}\n" + RELU + CONV.replace("name: conv", "name: b, bottom: x") + "}}\n"
    "- {name: both, type: Concat, bottom: [conv, b]}\n"
    "- {name: sum, type: Eltwise, bottom: [conv, b]}\n- {name: last, type: ReLU, bottom: sum, top: sum}\n",
    "InnerProduct, ReLU": IP + "- {name: relu, type: ReLU, top: ip}\n",
}  # fmt: skip


def make(layers, shape="[2, 4, 7, 5]", **more):
    """A test net; nobody has asked for the data of its parameters."""
    head = f"force_backward: true\nlayer:\n- {{name: x, type: Input, input_param: {{shape: {{dim: {shape}}}}}}}\n"
    net = mc.Net.from_text(head + layers, seed=1, **more)
    rng = np.random.default_rng(2)
    for layer in net.layers:
        if layer.type == "BatchNorm":
            for blob, values in zip(
                layer.blobs, (rng.normal(size=6), rng.uniform(1, 3, 6), [2]), strict=True
            ):
                blob.write(net.setting.device.put(values, np.float32))
    return net


def image(net, seed):
    return np.random.default_rng(seed).normal(size=net.blobs["x"].shape).astype(np.float32)


def check(net, apart, passes=4):
    """Both compute the same, pass after pass; in ``apart`` each layer runs by itself."""
    for seed in range(passes):
        found = net.forward(x=image(net, seed))
        apart.blobs["x"].reshape(*net.blobs["x"].shape)
        apart.reshape()
        apart.blobs["x"].data[...] = image(net, seed)
        for i in range(len(apart.layers)):
            apart.layers[i].forward(apart.steps[i].bottom, apart.steps[i].top)
        for name, value in found.items():
            want = apart.blobs[name].data
            assert abs(value - want).max() <= 1e-5 * abs(want).max(), seed


@pytest.fixture
def made(monkeypatch):
    """The indices of the first layers of what was run as it had been prepared."""
    found, run = [], PreparedPass.run

    def noting(self, first, last):
        count = run(self, first, last)
        found.extend([first] if count else [])
        return count

    monkeypatch.setattr(PreparedPass, "run", noting)
    return found


@pytest.mark.parametrize("shape", ["[2, 4, 7, 5]", "[1, 4, 9, 9]", "[70, 4, 9, 9]"])
@pytest.mark.parametrize("case", NETS)
def test_calls_that_are_made_again_give_what_the_layers_give(case, shape, made):
    net = make(NETS[case], shape)
    check(net, make(NETS[case], shape))
    assert (1 in made) == (net.setting.device == CPU)


@pytest.mark.cpu_only("nothing is prepared on a GPU")
def test_the_third_pass_is_a_prepared_one(made):
    net = make(NETS["BatchNorm, Scale, ReLU"])
    for _ in range(2):
        net.forward(x=image(net, 0))
    assert not made
    net.forward(x=image(net, 0))
    assert made == [0, 1]


@pytest.mark.cpu_only("nothing is prepared on a GPU")
def test_images_of_another_number_are_prepared_anew(made):
    net, apart = make(NETS["InnerProduct"]), make(NETS["InnerProduct"])
    for batch in (2, 3, 2, 1):
        net.blobs["x"].reshape(batch, 4, 7, 5)
        made.clear()
        check(net, apart)
        assert made


CHANGES = {
    "a parameter is loaded": lambda net: net.params["conv"][0].write(2 * net.params["conv"][0].values),
    "a script writes a parameter": lambda net: net.params["conv"][0].data.__imul__(2),
    "weights are shared": lambda net: net.params["conv"][0].share_data(make(NETS["convolution"]).params["conv"][0]),
    "the slope": lambda net: setattr(net.layer_dict["relu"], "slope", 0.5),
    "a shape, and back": lambda net: [
        (net.blobs["x"].reshape(n, 4, 7, 5), net.reshape()) for n in (3, 2)
    ],
    "backward": lambda net: (net.run_forward(), net.backward(conv=np.ones(net.blobs["conv"].shape))),
    "debug_info": lambda net: setattr(net, "debug_info", True),
    "the data of a top are asked for": lambda net: net.blobs["conv"].data,
    "a part of a pass": lambda net: net.forward(start="conv", end="conv"),
    "nothing": lambda net: None,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_script_changes_counts(change):
    net, apart = make(NETS["convolution, ReLU"]), make(NETS["convolution, ReLU"])
    check(net, apart)
    for each in (net, apart):
        CHANGES[change](each)
    check(net, apart)
    held = net.params["conv"][0].data
    check(net, apart)
    held[...] *= 3  # long after it was asked for
    apart.params["conv"][0].data[...] *= 3
    check(net, apart)


def hang(owner, called):
    """Hang a function around a forward, of a layer or of a class, that notes its calls."""
    forward = owner.forward

    def noting(*arguments):
        called.append(1)
        forward(*arguments)

    owner.forward = noting


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_a_forward_of_a_scripts_own_is_called_in_every_pass_whenever_it_was_hung_there(passes):
    net, called, others = make(NETS["convolution, ReLU"]), [], []
    for _ in range(passes):
        net.forward(x=image(net, 0))
    hang(net.layer_dict["conv"], called)
    for _ in range(4):
        net.forward(x=image(net, 0))
    del net.layer_dict["conv"].forward
    hang(net.layer_dict["conv"], others)
    for _ in range(4):
        net.forward(x=image(net, 0))
    assert len(called) == len(others) == 4


@pytest.mark.parametrize("passes", [0, 3])
@pytest.mark.parametrize("case", ["InnerProduct", "convolution, ReLU"])
def test_a_forward_of_a_scripts_own_in_a_class_is_called_too(case, passes, monkeypatch):
    net, called = make(NETS[case]), []
    cls = type(net.layers[-1])
    monkeypatch.setattr(cls, "forward", cls.forward)
    for _ in range(passes):
        net.forward(x=image(net, 0))
    hang(cls, called)
    for _ in range(4):
        net.forward(x=image(net, 0))
    assert len(called) == 4


@pytest.mark.parametrize("case", NETS)
def test_no_images_are_no_fault(case):
    net, apart = make(NETS[case]), make(NETS[case])
    for batch in (0, 2, 0):
        net.blobs["x"].reshape(batch, 4, 7, 5)
        net.reshape()
        for _ in range(4):
            net.forward()
    net.blobs["x"].reshape(2, 4, 7, 5)
    check(net, apart)


@pytest.mark.cpu_only("nothing is prepared on a GPU")
def test_a_layer_whose_size_changes_in_every_pass_leaves_the_others_prepared(made):
    chosen = "- {name: kept, type: Input, input_param: {shape: {dim: [3]}}}\n"
    layers = NETS["convolution, ReLU"] + chosen + "- {name: some, type: Filter, bottom: [conv, kept]}\n" + IP
    net = make(layers, "[3, 4, 7, 5]")
    for images in (1, 2, 3, 1, 2):
        net.forward(x=image(net, 0), kept=np.arange(3) < images)
        assert net.blobs["ip"].shape[0] == images
    assert made.count(1) == 3


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_class_of_the_package_is_not_taken_for_one_that_a_script_has_changed(method):
    changed = [name for name, cls in layer_classes.items() if is_watched(object.__new__(cls), method)]
    assert not changed


def test_after_a_reshape_nothing_holds_the_memory_of_before():
    net = make(NETS["convolution, ReLU"])
    for _ in range(4):
        net.forward(x=image(net, 0))
    arrays = [weakref.ref(net.blobs[name].memory("data").array) for name in net.blobs]
    net.blobs["x"].reshape(1, 4, 7, 5)
    net.reshape()
    gc.collect()
    assert not any(array() is not None for array in arrays)


@pytest.mark.cpu_only("it interrupts NumPy")
@pytest.mark.parametrize("case", ["Winograd", "rows of Winograd"])
@pytest.mark.parametrize("passes", [0, 1, 2, 3])
def test_a_transform_of_filters_that_was_interrupted_is_made_again(case, passes, monkeypatch):
    net, apart = make(NETS[case]), make(NETS[case])
    for seed in range(passes):
        net.forward(x=image(net, seed))

    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    for each in (net, apart):
        each.params["conv"][0].data[...] *= 2
    with monkeypatch.context() as patch:
        patch.setattr(np, "matmul", interrupted)
        with pytest.raises(KeyboardInterrupt):
            net.forward(x=image(net, 0))
    check(net, apart, passes=5)


def test_a_chosen_engine_counts():
    net = make(NETS["convolution, ReLU"])
    for _ in range(3):
        net.forward(x=image(net, 0))
    try:
        set_engine("caffe")
        expected = make(NETS["convolution, ReLU"]).forward(x=image(net, 1))
        assert np.array_equal(net.forward(x=image(net, 1))["conv"], expected["conv"])
    finally:
        set_engine("default")


def test_a_copy_of_a_net_computes_with_arrays_of_its_own():
    net = make(NETS["InnerProduct"])
    for seed in range(4):
        net.forward(x=image(net, seed))
    other = copy.deepcopy(net)
    before = net.blobs["ip"].data.copy()
    check(other, make(NETS["InnerProduct"]))
    assert np.array_equal(net.blobs["ip"].data, before)


def test_gradients_after_prepared_passes_are_those_of_the_last_one():
    net, apart = (make(NETS["InnerProduct"], dtype=np.float64) for _ in range(2))
    for seed in range(4):
        net.forward(x=image(net, seed))
    apart.forward(x=image(net, 3))
    for each in (net, apart):
        each.backward(ip=np.ones(each.blobs["ip"].shape))
    for mine, its in zip(net.learnable, apart.learnable, strict=True):
        assert np.allclose(mine.blob.diff, its.blob.diff, rtol=1e-9, atol=1e-12)


@pytest.mark.cpu_only("nothing is prepared on a GPU")
def test_threads_that_run_one_net_after_another_do_not_share_buffers():
    nets = [make(NETS[case], "[1, 4, 40, 40]") for case in ("InnerProduct", "of low rank")]
    images = [image(nets[0], seed) for seed in range(4)]
    want = [[net.forward(x=x)[net.outputs[0]] for x in images] for net in nets]
    problems = []

    def work(number):
        for _ in range(60):
            for x, expected in zip(images, want[number], strict=True):
                if not np.allclose(nets[number].forward(x=x)[nets[number].outputs[0]], expected, atol=1e-4):
                    problems.append(number)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_blobs_that_share_memory_are_prepared_too():
    text = NETS["convolution, ReLU"] + CONV.replace("name: conv", "name: second") + "}}\n" + IP
    net, apart = make(text, share_memory=True), make(text)
    check(net, apart, passes=6)
