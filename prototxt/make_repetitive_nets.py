"""Writes the nets that are one block over and over: GoogLeNet, SqueezeNet, ResNets, MobileNets, DenseNet.

    python prototxt/make_repetitive_nets.py

The files that it writes are specs as all others, kept beside it, and are read as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WIDTH = 116


class NetText:
    """The text of a net's spec, a layer a line if it fits; ``top`` is what the next layer takes by default."""

    def __init__(self, name: str, header: str, shape: tuple[int, ...]) -> None:
        comment = "".join(f"# {line}\n" for line in header.strip().splitlines())
        self.text = f"{comment}name: {name}\nlayer:\n"
        self.top = ""
        self.add("data", "Input", input_param={"shape": {"dim": list(shape)}})

    def add(
        self, name: str, kind: str, bottom: str | list[str] = "", top: str = "", **params: dict[str, Any]
    ) -> str:
        """Add a layer and return its top; bottom and top are written where they are not the default."""
        fields: dict[str, Any] = {"name": name, "type": kind}
        if bottom and bottom != self.top:
            fields["bottom"] = bottom
        if top and top != name:
            fields["top"] = top
        line = f"- {flow({**fields, **params})}"
        if len(line) > WIDTH:
            line = "- " + "\n  ".join(f"{key}: {flow(value)}" for key, value in {**fields, **params}.items())
        self.text += f"{line}\n"
        self.top = top or name
        return self.top

    def convolution(
        self, name: str, filters: int, kernel: int, bottom: str = "", *, pad: int = 0, **fields: Any
    ) -> str:
        """Add a convolution; ``fields`` are further ones of its convolution_param."""
        given = {"pad": pad} if pad else {}
        param = {"num_output": filters, **given, "kernel_size": kernel, **fields}
        return self.add(name, "Convolution", bottom, convolution_param=param)

    def max_pool(self, name: str, bottom: str = "", kernel: int = 3, stride: int = 2, **fields: Any) -> str:
        """Add a maximum over windows."""
        param = {"pool": "MAX", "kernel_size": kernel, "stride": stride, **fields}
        return self.add(name, "Pooling", bottom, pooling_param=param)

    def average_all(self, name: str, bottom: str = "") -> str:
        """Add an average over the whole image."""
        return self.add(name, "Pooling", bottom, pooling_param={"pool": "AVE", "global_pooling": True})

    def relu(self, name: str) -> str:
        """Add a ReLU in place."""
        return self.add(name, "ReLU", top=self.top)

    def normalize(self, norm: str, scale: str, top: str = "", **fields: Any) -> str:
        """Add a BatchNorm, in place unless it has a ``top``, and the Scale that learns γ and β."""
        params = {"batch_norm_param": fields} if fields else {}
        self.add(norm, "BatchNorm", top=top or self.top, **params)
        return self.add(scale, "Scale", top=self.top, scale_param={"bias_term": True})

    def write(self, folder: str) -> None:
        """Write the spec to ``<folder>/deploy.yaml``."""
        (HERE / folder / "deploy.yaml").write_text(self.text, encoding="utf-8")


def flow(value: Any) -> str:
    """The value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---------------------------------------------------------------------------------------------- GoogLeNet

GOOGLENET = """
GoogLeNet without auxiliary classifiers. Szegedy et al. 2015, Going deeper with convolutions (arXiv 1409.4842).
Images (N, 3, 224, 224), BGR, less the means 104, 117, 123, in; probabilities of ImageNet's 1,000 classes out.
Layer names are those of bvlc_googlenet.caffemodel (Caffe's model zoo).
6,998,552 parameters, 1.58 G multiply-adds an image.
"""
INCEPTION = {  # 1x1, 3x3 after its reduction, 5x5 after its reduction, projection of the pool: the paper's table 1
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet() -> NetText:
    """Two convolutions, nine inception modules, one classifier."""
    net = NetText("GoogleNet", GOOGLENET, (10, 3, 224, 224))
    lrn = {"lrn_param": {"local_size": 5, "alpha": 0.0001, "beta": 0.75}}
    net.convolution("conv1/7x7_s2", 64, 7, pad=3, stride=2)
    net.relu("conv1/relu_7x7")
    net.max_pool("pool1/3x3_s2")
    net.add("pool1/norm1", "LRN", **lrn)
    net.convolution("conv2/3x3_reduce", 64, 1)
    net.relu("conv2/relu_3x3_reduce")
    net.convolution("conv2/3x3", 192, 3, pad=1)
    net.relu("conv2/relu_3x3")
    net.add("conv2/norm2", "LRN", **lrn)
    net.max_pool("pool2/3x3_s2")
    for name, filters in INCEPTION.items():
        inception(net, f"inception_{name}", *filters)
        if name in ("3b", "4e"):
            net.max_pool(f"pool{name[0]}/3x3_s2")
    net.add("pool5/7x7_s1", "Pooling", pooling_param={"pool": "AVE", "kernel_size": 7, "stride": 1})
    net.add("pool5/drop_7x7_s1", "Dropout", top=net.top, dropout_param={"dropout_ratio": 0.4})
    net.add("loss3/classifier", "InnerProduct", inner_product_param={"num_output": 1000})
    net.add("prob", "Softmax")
    return net


def inception(
    net: NetText, name: str, one: int, reduce3: int, three: int, reduce5: int, five: int, projection: int
) -> None:
    """Windows of three sizes and a pool side by side."""
    bottom, tops = net.top, []
    for branch, filters, kernel, start in (
        ("1x1", one, 1, True),
        ("3x3_reduce", reduce3, 1, True),
        ("3x3", three, 3, False),
        ("5x5_reduce", reduce5, 1, True),
        ("5x5", five, 5, False),
    ):
        top = net.convolution(f"{name}/{branch}", filters, kernel, bottom if start else "", pad=kernel // 2)
        net.relu(f"{name}/relu_{branch}")
        tops += [] if "reduce" in branch else [top]
    net.max_pool(f"{name}/pool", bottom, stride=1, pad=1)
    tops.append(net.convolution(f"{name}/pool_proj", projection, 1))
    net.relu(f"{name}/relu_pool_proj")
    net.add(f"{name}/output", "Concat", tops)


# --------------------------------------------------------------------------------------------- SqueezeNet

SQUEEZENET = """
SqueezeNet v1.1. Iandola et al. 2016, AlexNet-level accuracy with 50x fewer parameters (arXiv 1602.07360).
Images (N, 3, 227, 227), BGR, less the means 104, 117, 123, in; probabilities of ImageNet's 1,000 classes out.
Layer names are those of squeezenet_v1.1.caffemodel (github.com/forresti/SqueezeNet).
1,235,496 parameters, 0.39 G multiply-adds an image.
"""


def squeezenet() -> NetText:
    """Eight fire modules: few 1x1 filters, then many 1x1 and 3x3 filters side by side."""
    net = NetText("SqueezeNet_v1.1", SQUEEZENET, (10, 3, 227, 227))
    net.convolution("conv1", 64, 3, stride=2)
    net.relu("relu_conv1")
    net.max_pool("pool1")
    for number in range(2, 10):
        fire(net, f"fire{number}", 16 * (number // 2))
        if number in (3, 5):
            net.max_pool(f"pool{number}")
    net.add("drop9", "Dropout", top=net.top, dropout_param={"dropout_ratio": 0.5})
    net.convolution("conv10", 1000, 1)
    net.relu("relu_conv10")
    net.average_all("pool10")
    net.add("prob", "Softmax")
    return net


def fire(net: NetText, name: str, squeezed: int) -> None:
    """Squeeze to a few channels, expand to eight times as many."""
    bottom = net.convolution(f"{name}/squeeze1x1", squeezed, 1)
    net.relu(f"{name}/relu_squeeze1x1")
    tops = []
    for kernel in (1, 3):
        branch = f"expand{kernel}x{kernel}"
        tops.append(net.convolution(f"{name}/{branch}", 4 * squeezed, kernel, bottom, pad=kernel // 2))
        net.relu(f"{name}/relu_{branch}")
    net.add(f"{name}/concat", "Concat", tops)


# ------------------------------------------------------------------------------------------------ ResNets

RESNET = """
ResNet-{depth}. He et al. 2016, Deep residual learning for image recognition (arXiv 1512.03385).
Images (N, 3, 224, 224), BGR, less {mean}, in; probabilities of ImageNet's 1,000 classes out.
Layer names are those of {weights}.
{counts}
"""
MEAN_IMAGE = "ResNet_mean.binaryproto"
RESNETS = {  # blocks of each stage, filters of a block's convolutions, what the header says
    18: ((2, 2, 2, 2), (1, 1), {
        "mean": "the means 104, 117, 123",
        "weights": "the weights of github.com/HolmesShuan/ResNet-18-Caffemodel-on-ImageNet",
        "counts": "11,693,736 parameters (the first block projects too), 1.8 G multiply-adds an image.",
    }),
    50: ((3, 4, 6, 3), (1, 1, 4), {
        "mean": MEAN_IMAGE,
        "weights": "ResNet-50-model.caffemodel (github.com/KaimingHe/deep-residual-networks)",
        "counts": "25,557,096 parameters (conv1 has biases, 64 of them), 3.9 G multiply-adds an image.",
    }),
    101: ((3, 4, 23, 3), (1, 1, 4), {
        "mean": MEAN_IMAGE,
        "weights": "ResNet-101-model.caffemodel (github.com/KaimingHe/deep-residual-networks)",
        "counts": "44,549,160 parameters, 7.6 G multiply-adds an image.",
    }),
    152: ((3, 8, 36, 3), (1, 1, 4), {
        "mean": MEAN_IMAGE,
        "weights": "ResNet-152-model.caffemodel (github.com/KaimingHe/deep-residual-networks)",
        "counts": "60,192,808 parameters, 11.3 G multiply-adds an image.",
    }),
}  # fmt: skip


def resnet(depth: int) -> NetText:
    """Four stages of residual blocks, each of half the size and twice the filters of the one before."""
    stages, widths, facts = RESNETS[depth]
    statistics = {"use_global_stats": True} if depth > 18 else {}
    net = NetText(f"ResNet-{depth}", RESNET.format(depth=depth, **facts), (1, 3, 224, 224))
    net.convolution("conv1", 64, 7, pad=3, stride=2, **({} if depth == 50 else {"bias_term": False}))
    net.normalize("bn_conv1", "scale_conv1", **statistics)
    net.relu("conv1_relu")
    net.max_pool("pool1")
    for stage, blocks in enumerate(stages, start=2):
        filters = [64 * 2 ** (stage - 2) * width for width in widths]
        for block, letter in enumerate(block_names(blocks, numbered=depth > 50)):
            stride = 2 if stage > 2 and block == 0 else 1
            residual_block(net, f"{stage}{letter}", filters, stride, block == 0, statistics)
    net.add("pool5", "Pooling", pooling_param={"pool": "AVE", "kernel_size": 7, "stride": 1})
    net.add("fc1000", "InnerProduct", inner_product_param={"num_output": 1000})
    net.add("prob", "Softmax")
    return net


def block_names(blocks: int, numbered: bool) -> list[str]:
    """a, b, c, …; in the deeper nets, where there are more than three, a, b1, b2, …"""
    if numbered and blocks > 3:
        return ["a", *(f"b{i}" for i in range(1, blocks))]
    return list("abcdefgh"[:blocks])


def residual_block(
    net: NetText, name: str, filters: list[int], stride: int, projects: bool, statistics: dict[str, Any]
) -> None:
    """Two convolutions (3x3), or three (1x1, 3x3, 1x1), added to the input or to a projection of it."""
    bottom = shortcut = net.top
    if projects:
        shortcut = net.convolution(f"res{name}_branch1", filters[-1], 1, bias_term=False, **strided(stride))
        net.normalize(f"bn{name}_branch1", f"scale{name}_branch1", **statistics)
    for i, (count, letter) in enumerate(zip(filters, "abc", strict=False)):
        kernel = 3 if len(filters) == 2 or letter == "b" else 1
        start, steps = (bottom, strided(stride)) if i == 0 else ("", {})
        branch = f"{name}_branch2{letter}"
        net.convolution(f"res{branch}", count, kernel, start, pad=kernel // 2, **steps, bias_term=False)
        net.normalize(f"bn{branch}", f"scale{branch}", **statistics)
        if i < len(filters) - 1:
            net.relu(f"res{branch}_relu")
    net.add(f"res{name}", "Eltwise", [shortcut, net.top])
    net.relu(f"res{name}_relu")


def strided(stride: int) -> dict[str, int]:
    """The stride as a field, where it is not the default."""
    return {"stride": stride} if stride > 1 else {}


# --------------------------------------------------------------------------------------------- MobileNets

MOBILENET = """
MobileNet {version}. {paper}.
Images (N, 3, 224, 224), BGR, less the means 103.94, 116.78, 123.68, times 0.017, in; probabilities (N, 1000,
1, 1) out. Layer names are those of {weights} (github.com/shicai/MobileNet-Caffe).
{counts}
"""
FROZEN = {"use_global_stats": True}
MOBILENET_V1 = {  # name, filters, stride of the depthwise convolution: the paper's table 1
    "2_1": (64, 1), "2_2": (128, 2), "3_1": (128, 1), "3_2": (256, 2), "4_1": (256, 1), "4_2": (512, 2),
    "5_1": (512, 1), "5_2": (512, 1), "5_3": (512, 1), "5_4": (512, 1), "5_5": (512, 1), "5_6": (1024, 2),
    "6": (1024, 1),
}  # fmt: skip
MOBILENET_V2 = {  # name, filters, stride of the depthwise convolution: the paper's table 2
    "2_1": (16, 1), "2_2": (24, 2), "3_1": (24, 1), "3_2": (32, 2), "4_1": (32, 1), "4_2": (32, 1),
    "4_3": (64, 1), "4_4": (64, 1), "4_5": (64, 1), "4_6": (64, 1), "4_7": (96, 2), "5_1": (96, 1), "5_2": (96, 1),
    "5_3": (160, 2), "6_1": (160, 1), "6_2": (160, 1), "6_3": (320, 1),
}  # fmt: skip


def mobilenet_v1() -> NetText:
    """Thirteen pairs of a depthwise 3x3 and a 1x1 convolution."""
    header = MOBILENET.format(
        version="v1",
        paper="Howard et al. 2017, Efficient convolutional neural networks for mobile vision (arXiv 1704.04861)",
        weights="mobilenet.caffemodel",
        counts="4,231,976 parameters, 569 M multiply-adds an image.",
    )
    net = NetText("MOBILENET", header, (1, 3, 224, 224))
    net.convolution("conv1", 32, 3, pad=1, stride=2, bias_term=False)
    net.normalize("conv1/bn", "conv1/scale", **FROZEN)
    net.relu("relu1")
    channels = 32
    for name, (filters, stride) in MOBILENET_V1.items():
        for part in ("dw", "sep"):
            if part == "dw":
                fields = {"pad": 1, "group": channels, **strided(stride), "bias_term": False}
                net.convolution(f"conv{name}/dw", channels, 3, **fields)
            else:
                net.convolution(f"conv{name}/sep", filters, 1, bias_term=False)
            net.normalize(f"conv{name}/{part}/bn", f"conv{name}/{part}/scale", **FROZEN)
            net.relu(f"relu{name}/{part}")
        channels = filters
    end_mobilenet(net)
    return net


def mobilenet_v2() -> NetText:
    """Seventeen inverted residuals: six times the channels (1x1), depthwise 3x3, a few channels (1x1)."""
    header = MOBILENET.format(
        version="v2",
        paper="Sandler et al. 2018, Inverted residuals and linear bottlenecks (arXiv 1801.04381)",
        weights="mobilenet_v2.caffemodel",
        counts="3,505,960 parameters (the first block expands too, 32 to 32), 429 M multiply-adds an image:\n"
        "blocks of 64 channels are at 28 x 28, as those weights want it, and in the paper's 300 M at 14 x 14.",
    )
    net = NetText("MOBILENET_V2", header, (1, 3, 224, 224))
    net.convolution("conv1", 32, 3, pad=1, stride=2, bias_term=False)
    net.normalize("conv1/bn", "conv1/scale", top="conv1/bn", **FROZEN)
    net.relu("relu1")
    channels = 32
    for name, (filters, stride) in MOBILENET_V2.items():
        inverted_residual(net, name, channels, filters, stride)
        channels = filters
    net.convolution("conv6_4", 1280, 1, bias_term=False)
    net.normalize("conv6_4/bn", "conv6_4/scale", top="conv6_4/bn", **FROZEN)
    net.relu("relu6_4")
    end_mobilenet(net)
    return net


def inverted_residual(net: NetText, name: str, channels: int, filters: int, stride: int) -> None:
    """Expand, filter, project; the input is added where it has the output's shape."""
    bottom, expanded = net.top, channels if name == "2_1" else 6 * channels
    for part in ("expand", "dwise", "linear"):
        conv = f"conv{name}/{part}"
        if part == "dwise":
            fields = {"pad": 1, "group": expanded, **strided(stride), "bias_term": False}
            net.convolution(conv, expanded, 3, **fields)
        else:
            net.convolution(conv, expanded if part == "expand" else filters, 1, bias_term=False)
        net.normalize(f"{conv}/bn", f"{conv}/scale", top=f"{conv}/bn", **FROZEN)
        if part != "linear":
            net.relu(f"relu{name}/{part}")
    if channels == filters and stride == 1:
        net.add(f"block_{name}", "Eltwise", [bottom, net.top])


def end_mobilenet(net: NetText) -> None:
    """The classifier, a 1x1 convolution."""
    net.average_all("pool6")
    net.convolution("fc7", 1000, 1)
    net.add("prob", "Softmax")


# ----------------------------------------------------------------------------------------------- DenseNet

DENSENET = """
DenseNet-121. Huang et al. 2017, Densely connected convolutional networks (arXiv 1608.06993).
Images (N, 3, 224, 224), BGR, less the means 103.94, 116.78, 123.68, times 0.017, in; scores (N, 1000, 1, 1),
without a softmax, out. Layer names are those of the weights of github.com/shicai/DenseNet-Caffe.
7,978,856 parameters, 2.8 G multiply-adds an image.
"""
GROWTH = 32


def densenet121() -> NetText:
    """Four blocks whose layers each take all that lies before them in the block."""
    net = NetText("DENSENET_121", DENSENET, (1, 3, 224, 224))
    net.convolution("conv1", 64, 7, pad=3, stride=2, bias_term=False)
    net.normalize("conv1/bn", "conv1/scale", top="conv1/bn")
    net.relu("relu1")
    net.max_pool("pool1", pad=1, ceil_mode=False)
    channels = 64
    for stage, layers in enumerate((6, 12, 24, 16), start=2):
        for layer in range(1, layers + 1):
            dense_layer(net, stage, layer)
        channels += GROWTH * layers
        net.normalize(f"conv{stage}_blk/bn", f"conv{stage}_blk/scale", top=f"conv{stage}_blk/bn")
        net.relu(f"relu{stage}_blk")
        if stage < 5:
            channels //= 2
            net.convolution(f"conv{stage}_blk", channels, 1, bias_term=False)
            pool = {"pool": "AVE", "kernel_size": 2, "stride": 2}
            net.add(f"pool{stage}", "Pooling", pooling_param=pool)
    net.average_all("pool5")
    net.convolution("fc6", 1000, 1)
    return net


def dense_layer(net: NetText, stage: int, layer: int) -> None:
    """1x1 then 3x3, each after its normalisation; the result is put beside the input."""
    bottom = net.top
    for part, filters, kernel in (("x1", 4 * GROWTH, 1), ("x2", GROWTH, 3)):
        conv = f"conv{stage}_{layer}/{part}"
        net.normalize(f"{conv}/bn", f"{conv}/scale", top=f"{conv}/bn")
        net.relu(f"relu{stage}_{layer}/{part}")
        net.convolution(conv, filters, kernel, pad=kernel // 2, bias_term=False)
    net.add(f"concat_{stage}_{layer}", "Concat", [bottom, net.top])


NETS = {
    "googlenet": googlenet,
    "squeezenet_v1.1": squeezenet,
    **{f"resnet{depth}": lambda depth=depth: resnet(depth) for depth in RESNETS},
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "densenet121": densenet121,
}

if __name__ == "__main__":
    for folder, make in NETS.items():
        make().write(folder)
