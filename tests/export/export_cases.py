"""Nets to export: our own with their trained weights, layers of low rank of every kind, and odd settings."""

import numpy as np

import minicaffe as mc
from minicaffe.device.array import to_host
from minicaffe.files.spec_formats import load_net
from minicaffe.spec.net import parse_net
from tests import ROOT

INPUT = "name: {name}\nlayer:\n- {{name: data, type: Input, input_param: {{shape: {{dim: {shape}}}}}}}\n"
FILLERS = "weight_filler: {type: gaussian, std: 0.3}, bias_filler: {type: uniform, min: -1}"
PLAIN = "num_output: 8, kernel_size: 3, pad: 1"
CONVOLUTIONS = {
    "channel": (PLAIN, "rank: 3"),
    "channel, strided": ("num_output: 8, kernel_size: [3, 5], pad: [1, 2], stride: [2, 1]", "rank: 3"),
    "channel, groups": ("num_output: 8, kernel_size: 3, group: 2, dilation: 2, pad: 2", "rank: 2"),
    "channel, no bias": (f"{PLAIN}, bias_term: false", "rank: 3, method: gram"),
    "channel, nearly full": (PLAIN, "rank: 8"),
    "channel, nearly full, groups": (f"{PLAIN}, group: 2", "rank: 4"),
    "spatial": (PLAIN, "rank: 3, scheme: spatial"),
    "spatial, strided": ("num_output: 8, kernel_size: 5, pad: 2, stride: 2", "rank: 3, scheme: spatial"),
    "spatial, groups": (f"{PLAIN}, group: 2", "rank: 2, scheme: spatial"),
    "factored": (PLAIN, "rank: 3, factored: true"),
    "factored, spatial": (f"{PLAIN}, group: 2", "rank: 2, factored: true, scheme: spatial"),
    "held": (PLAIN, "rank: 3, refresh: 4"),
    "held, data": (PLAIN, "rank: 5, target: data"),
}
INNER_PRODUCTS = {
    "inner product": ("num_output: 6", "rank: 3"),
    "inner product, factored": ("num_output: 6", "rank: 3, factored: true"),
    "inner product, transposed": ("num_output: 6, transpose: true", "rank: 3"),
    "inner product, data": ("num_output: 6, bias_term: false", "rank: 4, target: data"),
}
SQUARE = f"num_output: 5, kernel_size: 3, {FILLERS}"
PLAINS = {
    "dropout, scaling as Caffe does": "type: Dropout, dropout_param: {scale_train: true}",
    "slices of an axis by its old name": "type: Slice, top: [a, b], slice_param: {slice_dim: 3, slice_point: 3}",
    "transposed": f"type: InnerProduct, inner_product_param: {{num_output: 6, transpose: true, {FILLERS}}}",
    "half a stride": f"type: Convolution, convolution_param: {{{SQUARE}, stride_w: 2}}",
    "half a pad": f"type: Convolution, convolution_param: {{{SQUARE}, pad_h: 1}}",
    "pooling, half a stride": "type: Pooling, pooling_param: {kernel_size: 3, stride_h: 2}",
    "pooling, half a pad": "type: Pooling, pooling_param: {pool: AVE, kernel_h: 2, kernel_w: 3, pad_w: 1}",
    "LRN, alpha by default": "type: LRN, lrn_param: {local_size: 3}",
    "one slope for all": "type: PReLU, prelu_param: {channel_shared: true, filler: {value: 0.9}}",
    "pooling, rounding up as said": "type: Pooling, pooling_param: {kernel_size: 2, stride: 2, round_mode: CEIL}",
}
ODD = """- {name: conv, type: Convolution,
   convolution_param: {num_output: 6, kernel_size: 3, pad: 2, stride: 2, %s}}
- {name: relu, type: ReLU, top: conv, relu_param: {negative_slope: 0.1}}
- {name: norm, type: LRN, lrn_param: {local_size: 3, alpha: 0.5}}
- {name: pool, type: Pooling, pooling_param: {pool: MAX, kernel_size: 3, stride: 2, pad: 1}}
- {name: mean, type: Pooling, bottom: norm, pooling_param: {pool: AVE, kernel_size: 3, stride: 2, pad: 1}}
- {name: both, type: Concat, bottom: [pool, mean]}
- {name: bn, type: BatchNorm}
- {name: scale, type: Scale, scale_param: {bias_term: true}}
- {name: prelu, type: PReLU}
- {name: depthwise, type: Convolution, convolution_param: {num_output: 12, kernel_size: 3, pad: 1, group: 12, %s}}
- {name: sum, type: Eltwise, bottom: [prelu, depthwise], eltwise_param: {coeff: [1, -0.5]}}
- {name: drop, type: Dropout, bottom: sum, top: sum}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 5, weight_filler: {type: gaussian, std: 0.1}}}
- {name: prob, type: Softmax}
"""
TRAINED = ("lenet", "cifar10_quick", "cifar10_vgg")


def low_rank_text(name):
    """The YAML of a net with one layer of low rank, on top of a data layer."""
    if name in CONVOLUTIONS:
        settings, low_rank = CONVOLUTIONS[name]
        layer = f"type: Convolution, convolution_param: {{{settings}, {FILLERS}}}"
    else:
        settings, low_rank = INNER_PRODUCTS[name]
        layer = f"type: InnerProduct, inner_product_param: {{{settings}, {FILLERS}}}"
    head = INPUT.format(name="low_rank", shape="[3, 4, 9, 8]")
    return f"{head}- {{name: layer, {layer}, low_rank_param: {{{low_rank}}}}}\n"


def low_rank_net(name):
    """The net, for use; a basis that is held was found on one batch of training."""
    spec = parse_net(low_rank_text(name))
    net = mc.Net(spec, phase="test", seed=7)
    if name.startswith("held") or name.endswith("data"):
        training = mc.Net(spec, phase="train", seed=7)
        training.forward(data=inputs_of(training)["data"])
        for mine, its in zip(net.params["layer"], training.params["layer"], strict=True):
            mine.data[...] = its.data
        net._parameters_changed()
    return net


def plain_net(name):
    """One layer that is written in another way than it was given."""
    head = INPUT.format(name="plain", shape="[2, 4, 9, 8]")
    return mc.Net(parse_net(f"{head}- {{name: layer, {PLAINS[name]}}}\n"), phase="test", seed=7)


def odd_net():
    """A net of many layer types at odd settings, with statistics in its BatchNorm."""
    text = INPUT.format(name="odd", shape="[2, 3, 11, 10]") + ODD % (FILLERS, FILLERS)
    net = mc.Net(parse_net(text), phase="test", seed=3)
    rng = np.random.default_rng(5)
    mean, variance, total = net.params["bn"]
    mean.data[...] = net.setting.device.put(rng.standard_normal(mean.shape).astype(np.float32))
    variance.data[...] = net.setting.device.put(rng.random(variance.shape).astype(np.float32) + 0.5)
    total.data[...] = 1
    return net


def trained_net(name):
    """One of our own nets, with its weights, for sixteen images in place of a hundred."""
    spec = load_net(ROOT / "prototxt" / name / "deploy.yaml")
    spec.layer[0].input_param.shape[0].dim[0] = 16
    return mc.Net(spec, ROOT / "models" / f"{name}.npz", "test")


FLOOR = """- {name: pool, type: Pooling, pooling_param: {kernel_size: 3, stride: 2, %s}}
- {name: relu, type: ReLU, top: pool}
"""


def floor_net(settings):
    """Pooling that rounds down, which Caffe 1.0 has not."""
    return mc.Net(
        parse_net(
            INPUT.format(name="floor", shape="[2, 3, 8, 8]" if "AVE" in settings else "[2, 3, 8, 9]")
            + FLOOR % settings
        ),
        phase="test",
    )


CASES = {
    **{name: (trained_net, name) for name in TRAINED},
    **{name: (low_rank_net, name) for name in (*CONVOLUTIONS, *INNER_PRODUCTS)},
    **{name: (plain_net, name) for name in PLAINS},
    "odd": (lambda _: odd_net(), ""),
    "floor": (floor_net, "round_mode: FLOOR"),
    "floor, both axes": (floor_net, "pool: AVE, ceil_mode: false"),
}


def make_net(name):
    """The net of a case."""
    maker, argument = CASES[name]
    return maker(argument)


def inputs_of(net):
    """A batch for the net's inputs."""
    rng = np.random.default_rng(11)
    return {name: rng.standard_normal(net.blobs[name].shape).astype(np.float32) for name in net.inputs}


def outputs_of(net, inputs):
    """What the net makes of them, on the host."""
    return {name: to_host(array) for name, array in net.forward(**inputs).items()}
