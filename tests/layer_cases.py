"""Nets of one layer: any, and nearly all types that are used after training, at several settings."""

import numpy as np

import minicaffe as mc
from minicaffe.spec.net import parse_net
from minicaffe.testing import layer_net
from tests.export.export_cases import FILLERS

IMAGE = [(2, 4, 7, 6)]
LAYERS = {
    "AbsVal": ("type: AbsVal", IMAGE),
    "ArgMax": ("type: ArgMax", IMAGE),
    "ArgMax, three": ("type: ArgMax, argmax_param: {top_k: 3, out_max_val: true}", [(2, 5)]),
    "ArgMax, axis": ("type: ArgMax, argmax_param: {axis: 1}", IMAGE),
    "ArgMax, values": ("type: ArgMax, argmax_param: {axis: -1, top_k: 2, out_max_val: true}", IMAGE),
    "ArgMax, images": ("type: ArgMax, argmax_param: {axis: 0}", [(3, 4)]),
    "Axpy": ("type: Axpy", [(2, 4), (2, 4, 7, 6), (2, 4, 7, 6)]),
    "Axpy, 4 axes": ("type: Axpy", [(2, 4, 1, 1), (2, 4, 7, 6), (2, 4, 7, 6)]),
    "BN": ("type: BN", IMAGE),
    "BN, eps": ("type: BN, bn_param: {eps: 0.5}", IMAGE),
    "BN of SegNet": ("type: BN, bn_param: {bn_mode: LEARN}", IMAGE),
    "BN of SegNet, a matrix": ("type: BN, bn_param: {bn_mode: LEARN}", [(5, 4)]),
    "BN of SegNet, inference": ("type: BN, bn_param: {bn_mode: INFERENCE}", IMAGE),
    "BNLL": ("type: BNLL", IMAGE),
    "BatchNorm": ("type: BatchNorm", IMAGE),
    "BatchNorm, eps": ("type: BatchNorm, batch_norm_param: {eps: 0.5}", IMAGE),
    "BatchNorm, scale_bias": ("type: BatchNorm, batch_norm_param: {scale_bias: true, eps: 0.01}", IMAGE),
    "BatchNorm of no batches": ("type: BatchNorm", IMAGE),
    "Bias": ("type: Bias, bias_param: {filler: {type: gaussian}}", IMAGE),
    "Bias of a blob": ("type: Bias, bias_param: {axis: 0}", [(2, 4, 7, 6), (2, 4)]),
    "Clip": ("type: Clip, clip_param: {min: -0.5, max: 0.75}", IMAGE),
    "Concat": ("type: Concat", [(2, 3, 5), (2, 4, 5)]),
    "Concat, concat_dim": ("type: Concat, concat_param: {concat_dim: 2}", [(2, 3, 5), (2, 3, 4)]),
    "Concat, images": ("type: Concat, concat_param: {axis: 0}", [(2, 3), (1, 3)]),
    "Concat, as many images": ("type: Concat, concat_param: {axis: -2}", [(2, 3), (2, 3)]),
    "Convolution of one axis": (
        f"type: Convolution, convolution_param: {{num_output: 3, kernel_size: 3, stride: 2, pad: 1, dilation: 2, "
        f"{FILLERS}}}",
        [(2, 4, 9)],
    ),
    "Convolution of one axis, low rank": (
        f"type: Convolution, convolution_param: {{num_output: 6, kernel_size: 3, pad: 1, {FILLERS}}}, "
        "low_rank_param: {rank: 2, factored: true}",
        [(2, 4, 9)],
    ),
    "Convolution of three axes": (
        f"type: Convolution, convolution_param: {{num_output: 3, kernel_size: 2, dilation: 2, {FILLERS}}}",
        [(2, 4, 5, 4, 6)],
    ),
    "Convolution of two": (
        f"type: Convolution, top: [a, b], convolution_param: {{num_output: 3, kernel_size: 2, {FILLERS}}}",
        [(2, 4, 5, 4), (2, 4, 5, 4)],
    ),
    "Convolution of different numbers of images": (
        f"type: Convolution, top: [a, b], convolution_param: {{num_output: 3, kernel_size: 2, {FILLERS}}}",
        [(2, 4, 5, 4), (3, 4, 5, 4)],
    ),
    "Convolution, large kernel": (
        f"type: Convolution, convolution_param: {{num_output: 3, kernel_size: 5, pad: 2, {FILLERS}}}",
        [(1, 2, 2, 3)],
    ),
    "ConvolutionDepthwise": (
        f"type: ConvolutionDepthwise, convolution_param: {{num_output: 8, kernel_size: 3, {FILLERS}}}",
        IMAGE,
    ),
    "Crop": ("type: Crop, crop_param: {axis: 2, offset: [2, 1]}", [(2, 4, 7, 6), (2, 4, 3, 4)]),
    "Crop, images": ("type: Crop, crop_param: {axis: 0, offset: 1}", [(4, 4, 7), (2, 2, 3)]),
    "Crop, as many images": ("type: Crop, crop_param: {axis: -3, offset: [0, 1, 2]}", [(2, 4, 7), (2, 2, 3)]),
    "Deconvolution": (
        "type: Deconvolution, convolution_param: {num_output: 6, kernel_size: [3, 2], stride: 2, pad: 1, group: 2, "
        f"{FILLERS}}}",
        IMAGE,
    ),
    "DepthwiseConvolution": (
        f"type: DepthwiseConvolution, convolution_param: {{num_output: 4, kernel_size: 3, {FILLERS}}}",
        IMAGE,
    ),
    "Dropout": ("type: Dropout", IMAGE),
    "Dropout, scaled": ("type: Dropout, dropout_param: {scale_train: false, dropout_ratio: 0.25}", IMAGE),
    "ELU": ("type: ELU, elu_param: {alpha: 0.4}", IMAGE),
    "Eltwise": ("type: Eltwise, eltwise_param: {coeff: [1, -2, 0.5]}", IMAGE * 3),
    "Eltwise, max": ("type: Eltwise, eltwise_param: {operation: MAX}", IMAGE * 3),
    "Eltwise, product": ("type: Eltwise, eltwise_param: {operation: PROD}", IMAGE * 3),
    "Embed": (
        "type: Embed, embed_param: {input_dim: 5, num_output: 3, weight_filler: {type: gaussian}, "
        "bias_filler: {type: uniform}}",
        [(2, 3)],
    ),
    "Embed, no bias": (
        "type: Embed, embed_param: {input_dim: 5, num_output: 3, bias_term: false, "
        "weight_filler: {type: gaussian}}",
        [(2, 3)],
    ),
    "Exp": ("type: Exp, exp_param: {base: 2, scale: 0.5, shift: 0.1}", IMAGE),
    "Exp, base 1": ("type: Exp, exp_param: {base: 1}", IMAGE),
    "Flatten": ("type: Flatten", IMAGE),
    "Flatten, part": ("type: Flatten, flatten_param: {axis: 2, end_axis: 3}", [(2, 3, 4, 5, 2)]),
    "Flatten, images": ("type: Flatten, flatten_param: {axis: 0, end_axis: 1}", IMAGE),
    "InnerProduct": (f"type: InnerProduct, inner_product_param: {{num_output: 3, {FILLERS}}}", IMAGE),
    "InnerProduct, images": (
        f"type: InnerProduct, inner_product_param: {{num_output: 3, axis: -2, {FILLERS}}}",
        [(2, 5)],
    ),
    "InnerProduct, axis 2": (
        f"type: InnerProduct, inner_product_param: {{num_output: 3, axis: 2, transpose: true, {FILLERS}}}",
        IMAGE,
    ),
    "Interp": ("type: Interp, interp_param: {height: 11, width: 13, pad_beg: -1}", IMAGE),
    "Interp, shrinking": ("type: Interp, interp_param: {shrink_factor: 2}", IMAGE),
    "LRN": ("type: LRN, lrn_param: {local_size: 3, alpha: 0.7, beta: 0.6, k: 2}", IMAGE),
    "LRN, within": (
        "type: LRN, lrn_param: {local_size: 5, alpha: 0.7, beta: 0.6, k: 2, norm_region: WITHIN_CHANNEL}",
        IMAGE,
    ),
    "Log": ("type: Log, log_param: {base: 10, scale: 0.1, shift: 3}", IMAGE),
    "MVN": ("type: MVN", IMAGE),
    "MVN, across": ("type: MVN, mvn_param: {across_channels: true}", IMAGE),
    "MVN, eps": ("type: MVN, mvn_param: {eps: 0.5}", IMAGE),
    "MVN, two axes": ("type: MVN, mvn_param: {normalize_variance: false, across_channels: true}", [(2, 5)]),
    "Normalize": ("type: Normalize, norm_param: {scale_filler: {type: constant, value: 3}}", IMAGE),
    "Normalize, channels": (
        "type: Normalize, norm_param: {across_spatial: false, channel_shared: false, "
        "scale_filler: {type: uniform}}",
        IMAGE,
    ),
    "Normalize, eps": ("type: Normalize, norm_param: {eps: 0.5, across_spatial: false}", IMAGE),
    "PReLU": ("type: PReLU, prelu_param: {filler: {type: uniform}}", IMAGE),
    "PReLU, shared": ("type: PReLU, prelu_param: {channel_shared: true}", [(2, 4)]),
    "Permute": ("type: Permute, permute_param: {order: [0, 2, 3, 1]}", IMAGE),
    "Permute, images": ("type: Permute, permute_param: {order: [1, 0]}", [(2, 3, 4)]),
    "Pooling, ave": ("type: Pooling, pooling_param: {pool: AVE, kernel_size: 3, stride: 2}", IMAGE),
    "Pooling, ave, padded": (
        "type: Pooling, pooling_param: {pool: AVE, kernel_size: 3, stride: 2, pad: 1}",
        [(2, 3, 8, 7)],
    ),
    "Pooling, ave, beyond": (
        "type: Pooling, pooling_param: {pool: AVE, kernel_h: 4, kernel_w: 3, stride: 3, pad: 2}",
        [(1, 2, 8, 6)],
    ),
    "Pooling, ave, blind windows": (
        "type: Pooling, pooling_param: {pool: AVE, kernel_size: 1, stride: 5}",
        IMAGE,
    ),
    "Pooling, max, blind windows": (
        "type: Pooling, pooling_param: {kernel_size: 1, stride: 5}",
        [(2, 3, 5, 10)],
    ),
    "Pooling, floor": (
        "type: Pooling, pooling_param: {kernel_size: 3, stride: 2, round_mode: FLOOR}",
        [(2, 3, 8, 8)],
    ),
    "Pooling, global": ("type: Pooling, pooling_param: {pool: AVE, global_pooling: true}", IMAGE),
    "Pooling, mask": (
        "type: Pooling, top: [L, mask], pooling_param: {kernel_size: 3, stride: 2, pad: 1}",
        [(2, 3, 8, 7)],
    ),
    "Pooling, max": ("type: Pooling, pooling_param: {kernel_size: 3, stride: 2}", [(2, 3, 8, 8)]),
    "Pooling, max, padded": ("type: Pooling, pooling_param: {kernel_size: 3, stride: 2, pad: 1}", IMAGE),
    "Power": ("type: Power, power_param: {power: 2, scale: 0.5, shift: -1}", IMAGE),
    "ReLU": ("type: ReLU", IMAGE),
    "ReLU, leaky": ("type: ReLU, relu_param: {negative_slope: 0.2}", IMAGE),
    "ReLU6": ("type: ReLU6", IMAGE),
    "ReLU6, leaky": ("type: ReLU6, relu6_param: {negative_slope: 0.2}", IMAGE),
    "Reduction": ("type: Reduction, reduction_param: {operation: MEAN, axis: 1, coeff: 3}", IMAGE),
    "Reduction, absolute": ("type: Reduction, reduction_param: {operation: ASUM, axis: 2}", IMAGE),
    "Reduction, all": ("type: Reduction, reduction_param: {operation: SUMSQ}", IMAGE),
    "Reduction, sum": ("type: Reduction, reduction_param: {axis: -1}", IMAGE),
    "Reorg": ("type: Reorg, reorg_param: {stride: 2}", [(2, 8, 6, 4)]),
    "Reorg, reverse": ("type: Reorg, reorg_param: {stride: 2, reverse: true}", [(2, 8, 3, 5)]),
    "Reshape": ("type: Reshape, reshape_param: {shape: {dim: [0, -1, 3]}}", IMAGE),
    "Reshape, images": ("type: Reshape, reshape_param: {shape: {dim: [-1, 6]}}", IMAGE),
    "Reshape, images written out": ("type: Reshape, reshape_param: {shape: {dim: [2, -1]}}", IMAGE),
    "Reshape, images and all else written out": (
        "type: Reshape, reshape_param: {shape: {dim: [2, 168]}}",
        IMAGE,
    ),
    "Reshape, images left out": ("type: Reshape, reshape_param: {shape: {}}", [(1,)]),
    "Reshape, images inferred": ("type: Reshape, reshape_param: {shape: {dim: [-1, 14, 12]}}", IMAGE),
    "Reshape, an axis before the images": (
        "type: Reshape, reshape_param: {axis: 0, num_axes: 0, shape: {dim: 1}}",
        [(1, 5)],
    ),
    "Reverse": ("type: Reverse, reverse_param: {axis: 2}", IMAGE),
    "Scale": (
        "type: Scale, scale_param: {bias_term: true, filler: {type: uniform}, bias_filler: {type: uniform}}",
        IMAGE,
    ),
    "Scale, axis 2": ("type: Scale, scale_param: {axis: 2, num_axes: 2, filler: {type: uniform}}", IMAGE),
    "Scale of a blob without images": (
        "type: Scale, scale_param: {axis: 1, bias_term: true, bias_filler: {type: uniform}}",
        [(2, 4, 7, 6), (4, 7)],
    ),
    "Scale of a blob, as many as images": ("type: Scale, scale_param: {axis: 1}", [(2, 2, 5), (2, 5)]),
    "Scale of a blob, images": (
        "type: Scale, scale_param: {axis: 0, bias_term: true, bias_filler: {type: uniform}}",
        [(2, 4, 7, 6), (2, 4)],
    ),
    "ShuffleChannel": ("type: ShuffleChannel, shuffle_channel_param: {group: 2}", [(2, 6, 3, 4)]),
    "SeLU": ("type: SeLU", IMAGE),
    "SeLu": ("type: SeLu, selu_param: {alpha: 0.4, lambda: 1.3}", IMAGE),
    "Sigmoid": ("type: Sigmoid", IMAGE),
    "Slice": ("type: Slice, top: [a, b], slice_param: {slice_point: 1}", IMAGE),
    "Slice, slice_dim": ("type: Slice, top: [a, b], slice_param: {slice_dim: 2, slice_point: 3}", IMAGE),
    "Slice, images": ("type: Slice, top: [a, b], slice_param: {axis: -4}", IMAGE),
    "Softmax": ("type: Softmax", IMAGE),
    "Softmax, axis 2": ("type: Softmax, softmax_param: {axis: 2}", IMAGE),
    "Swish": ("type: Swish, swish_param: {beta: 1.5}", IMAGE),
    "TanH": ("type: TanH", IMAGE),
    "Threshold": ("type: Threshold, threshold_param: {threshold: 0.5}", IMAGE),
    "Tile": ("type: Tile, tile_param: {axis: 2, tiles: 3}", IMAGE),
    "Tile, images": ("type: Tile, tile_param: {axis: -4, tiles: 3}", IMAGE),
    "Tile, images once": ("type: Tile, tile_param: {axis: 0, tiles: 1}", IMAGE),
    "Transpose": ("type: Transpose, transpose_param: {dim: [0, 3, 2, 1]}", IMAGE),
    "Transpose, images": ("type: Transpose, transpose_param: {dim: [3, 2, 0, 1]}", IMAGE),
    "Upsample": ("type: Upsample, upsample_param: {scale: 3}", IMAGE),
}


def one_layer(name):
    """A net of one layer on its inputs, with statistics where it has some."""
    layer, shapes = LAYERS[name]
    lines = ["name: one", "layer:"]
    for i, shape in enumerate(shapes):
        lines.append(f"- {{name: x{i}, type: Input, input_param: {{shape: {{dim: {list(shape)}}}}}}}")
    bottoms = ", ".join(f"x{i}" for i in range(len(shapes)))
    lines.append(f"- {{name: L, bottom: [{bottoms}], {layer}}}")
    net = mc.Net(parse_net("\n".join(lines)), phase="test", seed=3)
    if net.layers[-1].type in ("BN", "BatchNorm"):
        rng = np.random.default_rng(1)
        for blob in net.params["L"]:
            blob.data[...] = net.setting.device.put(rng.random(blob.shape).astype(np.float32) + 0.5)
    if name == "BatchNorm of no batches":
        net.params["L"][2].data[...] = 0
    return net


def net_of(layer, *shapes, phase="train", **options):
    """A net of the layer, given as YAML without its braces, on inputs ``x0``, ``x1``, … of these shapes."""
    return mc.Net(parse_net(layer_net(layer, shapes)), phase=phase, **{"seed": 1, **options})
