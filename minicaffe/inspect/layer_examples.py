"""An example of each layer type that has a gradient: its spec, and bottoms that suit it.

``minicaffe check-gradients TYPE`` runs them. A type of your own, or one with other settings, is given as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicaffe.testing import Input, Shape

IMAGE: Shape = (2, 3, 5, 4)
FILLED = "weight_filler: {type: xavier}, bias_filler: {type: uniform, min: -0.3, max: 0.3}"
LABELS = np.array([0, 2, 1, 1])
BREAKS = np.array([[0, 1], [1, 1], [1, 0]])  # where the sequences of a recurrent layer go on
ONE_SEQUENCE = np.array([[0], [1], [1], [1]])
TEXT = np.array([[1], [0]])  # as CTC's losses have it: of several sequences their gradients would be a sum
POSITIVE = 0.5 + np.arange(120).reshape(IMAGE) % 7
PROBABILITIES = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.25, 0.25, 0.5], [0.6, 0.3, 0.1]])
PRIORS = np.array([[[0.1, 0.1, 0.5, 0.5, 0.3, 0.2, 0.9, 0.8, 0.6, 0.6, 0.9, 0.9], [0.1, 0.1, 0.2, 0.2] * 3]])
BOXES = np.array([[[[0, 1, 0, 0.1, 0.2, 0.5, 0.5, 0], [1, 2, 0, 0.4, 0.2, 0.9, 0.9, 0]]]])
REGIONS = np.array([[0, 0, 0, 3, 4], [1, 1, 0, 3, 2], [1, 0, 1, 1, 4]])

# The gradients of YOLO's losses are their derivatives only for boxes of one area, or scores of 0, at these scales.
TRUTHS = np.array([[[1, 0.25, 0.75, 0.5, 1.0]], [[0, 0.75, 0.25, 1.0, 0.5]]])
CENTRED = np.arange(56).reshape(2, 7, 2, 2) % 5 * 0.2 * np.repeat([0, 1], [2, 5])[:, None, None]


@dataclass(frozen=True, eq=False)
class LayerExample:
    """``text`` of the layer, and its bottoms: shapes, or arrays. ``by``: the bottoms whose gradient is checked."""

    text: str
    inputs: Sequence[Input] = (IMAGE,)
    by: Sequence[str] | None = None


EXAMPLES = {
    "AbsVal": LayerExample("type: AbsVal"),
    "AssistedExcitation": LayerExample(
        "type: AssistedExcitation", [IMAGE, np.full((2, 1, 5), 0.5), (2, 5, 4)], ["x0"]
    ),
    "Axpy": LayerExample("type: Axpy", [(2, 3), IMAGE, IMAGE]),
    "BN": LayerExample("type: BN, bn_param: {slope_filler: {type: uniform}}"),
    "BNLL": LayerExample("type: BNLL"),
    "BatchNorm": LayerExample("type: BatchNorm"),
    "BatchReindex": LayerExample("type: BatchReindex", [(3, 2, 2), np.array([0, 2, 2, 1, 0])], ["x0"]),
    "Bias": LayerExample("type: Bias, bias_param: {filler: {type: uniform}}"),
    "CenterLoss": LayerExample(  # its centres are moved by no derivative
        "type: CenterLoss, param: {lr_mult: 0}, center_loss_param: {num_output: 3}", [(4, 5), LABELS]
    ),
    "CTCLoss": LayerExample("type: CTCLoss", [(4, 1, 3), ONE_SEQUENCE, TEXT], ["x0"]),
    "Clip": LayerExample("type: Clip, clip_param: {min: -0.5, max: 0.75}"),
    "Concat": LayerExample("type: Concat", [(2, 3, 4), (2, 2, 4)]),
    "ContrastiveLoss": LayerExample(  # the new version's backward is Caffe's, which is a little off
        "type: ContrastiveLoss, contrastive_loss_param: {margin: 3, legacy_version: true}",
        [(4, 3), (4, 3), np.array([1, 0, 0, 1])],
        ["x0", "x1"],
    ),
    "Convolution": LayerExample(
        f"type: Convolution, convolution_param: {{num_output: 4, kernel_size: 3, stride: 2, pad: 1, {FILLED}}}"
    ),
    "ConvolutionDepthwise": LayerExample(
        f"type: ConvolutionDepthwise, convolution_param: {{num_output: 3, kernel_size: 3, {FILLED}}}"
    ),
    "Crop": LayerExample("type: Crop, crop_param: {axis: 2, offset: [1, 0]}", [IMAGE, (2, 3, 3, 2)], ["x0"]),
    "CtcLoss": LayerExample(
        "type: CtcLoss, ctc_loss_param: {alphabet_size: 3, time_step: 4, blank_label: 2}",
        [(4, 1, 3), TEXT.T],
        ["x0"],
    ),
    "Deconvolution": LayerExample(
        f"type: Deconvolution, convolution_param: {{num_output: 2, kernel_size: 3, stride: 2, {FILLED}}}"
    ),
    "DepthwiseConvolution": LayerExample(
        f"type: DepthwiseConvolution, convolution_param: {{num_output: 3, kernel_size: 3, {FILLED}}}"
    ),
    "DiceCoefLoss": LayerExample("type: DiceCoefLoss", [PROBABILITIES, PROBABILITIES[::-1]]),
    "Dropout": LayerExample("type: Dropout"),
    "ELU": LayerExample("type: ELU, elu_param: {alpha: 0.4}"),
    "Eltwise": LayerExample("type: Eltwise, eltwise_param: {operation: MAX}", [IMAGE, IMAGE]),
    "Embed": LayerExample(
        f"type: Embed, embed_param: {{num_output: 3, input_dim: 4, {FILLED}}}",
        [np.array([[0, 3, 1], [2, 1, 1]])],
    ),
    "EuclideanLoss": LayerExample("type: EuclideanLoss", [(4, 3), (4, 3)]),
    "Exp": LayerExample("type: Exp"),
    "Filter": LayerExample("type: Filter", [(4, 2, 2), np.array([0, 1, 1, 0])], ["x0"]),
    "Flatten": LayerExample("type: Flatten"),
    "FocalLoss": LayerExample("type: FocalLoss", [(4, 3), LABELS]),
    "HingeLoss": LayerExample("type: HingeLoss, hinge_loss_param: {norm: L2}", [(4, 3), LABELS]),
    "Im2col": LayerExample("type: Im2col, convolution_param: {kernel_size: 3, stride: 2, pad: 1}"),
    "InfogainLoss": LayerExample("type: InfogainLoss", [(4, 3), LABELS, 0.2 + np.eye(3)], ["x0"]),
    "InnerProduct": LayerExample(f"type: InnerProduct, inner_product_param: {{num_output: 4, {FILLED}}}"),
    "Interp": LayerExample("type: Interp, interp_param: {height: 7, width: 9}"),
    "L1Loss": LayerExample("type: L1Loss", [(4, 3), (4, 3)]),
    "LRN": LayerExample("type: LRN, lrn_param: {local_size: 3, alpha: 0.7, beta: 0.6, k: 2}"),
    "LSTM": LayerExample(
        f"type: LSTM, recurrent_param: {{num_output: 3, {FILLED}}}", [(3, 2, 4), BREAKS], ["x0"]
    ),
    "LSTMUnit": LayerExample("type: LSTMUnit, top: [c, h]", [(1, 3, 2), (1, 3, 8), np.array([[0, 1, 1]])]),
    "Log": LayerExample("type: Log", [POSITIVE]),
    "Lstm": LayerExample(f"type: Lstm, lstm_param: {{num_output: 3, {FILLED}}}", [(3, 2, 4)]),
    "MultiStageMeanfield": LayerExample(
        "type: MultiStageMeanfield, multi_stage_meanfield_param: {num_iterations: 2, theta_alpha: 3, "
        "theta_beta: 2, theta_gamma: 1, spatial_filter_weight: 0.5, bilateral_filter_weight: 0.5}",
        [IMAGE, IMAGE, IMAGE],
        ["x0", "x1"],
    ),
    "MVN": LayerExample("type: MVN"),
    "MarginInnerProduct": LayerExample(  # w moves by no derivative, as does x where the margin counts
        "type: MarginInnerProduct, param: {lr_mult: 0}, "
        "margin_inner_product_param: {num_output: 3, weight_filler: {type: xavier}}",
        [(4, 5), LABELS],
    ),
    "MultiBoxLoss": LayerExample(
        "type: MultiBoxLoss, multibox_loss_param: {num_classes: 3, code_type: CENTER_SIZE}",
        [(2, 12), (2, 9), PRIORS, BOXES],
        ["x0", "x1"],
    ),
    "MultinomialLogisticLoss": LayerExample("type: MultinomialLogisticLoss", [PROBABILITIES, LABELS]),
    "Normalize": LayerExample("type: Normalize, norm_param: {scale_filler: {type: constant, value: 3}}"),
    "PReLU": LayerExample("type: PReLU"),
    "PSROIPooling": LayerExample(
        "type: PSROIPooling, psroi_pooling_param: {spatial_scale: 1, output_dim: 2, group_size: 2}",
        [(2, 8, 5, 4), REGIONS],
        ["x0"],
    ),
    "Parameter": LayerExample("type: Parameter, parameter_param: {shape: {dim: [2, 3]}}", []),
    "Permute": LayerExample("type: Permute, permute_param: {order: [0, 2, 3, 1]}"),
    "Pooling": LayerExample("type: Pooling, pooling_param: {pool: MAX, kernel_size: 3, stride: 2}"),
    "Power": LayerExample("type: Power, power_param: {power: 2, scale: 0.5, shift: -1}"),
    "RNN": LayerExample(
        f"type: RNN, recurrent_param: {{num_output: 3, {FILLED}}}", [(3, 2, 4), BREAKS], ["x0"]
    ),
    "ROIPooling": LayerExample(
        "type: ROIPooling, roi_pooling_param: {pooled_h: 2, pooled_w: 2}", [IMAGE, REGIONS], ["x0"]
    ),
    "ReLU": LayerExample("type: ReLU"),
    "ReLU6": LayerExample("type: ReLU6"),
    "Reduction": LayerExample("type: Reduction, reduction_param: {operation: ASUM, axis: 1}"),
    "RegionLoss": LayerExample(
        "type: RegionLoss, region_loss_param: {num_class: 2, num: 1, biases: [1, 1], coord_scale: 0.5, "
        "class_scale: 0, object_scale: 0, noobject_scale: 0}",
        [CENTRED, TRUTHS],
    ),
    "Reorg": LayerExample("type: Reorg, reorg_param: {stride: 2}", [(2, 4, 2, 6)]),
    "Reshape": LayerExample("type: Reshape, reshape_param: {shape: {dim: [0, -1, 2]}}"),
    "Reverse": LayerExample("type: Reverse"),
    "SPP": LayerExample("type: SPP, spp_param: {pyramid_height: 2}", [(2, 2, 6, 5)]),
    "Scale": LayerExample("type: Scale, scale_param: {bias_term: true, filler: {type: uniform}}"),
    "SeLU": LayerExample("type: SeLU"),
    "SeLu": LayerExample("type: SeLu, selu_param: {alpha: 0.4, lambda: 1.3}"),
    "ShuffleChannel": LayerExample("type: ShuffleChannel, shuffle_channel_param: {group: 2}", [(2, 4, 3, 2)]),
    "Sigmoid": LayerExample("type: Sigmoid"),
    "SigmoidCrossEntropyBalanceLoss": LayerExample(
        "type: SigmoidCrossEntropyBalanceLoss", [(3, 2), BREAKS], ["x0"]
    ),
    "SigmoidCrossEntropyLoss": LayerExample("type: SigmoidCrossEntropyLoss", [(4, 3), PROBABILITIES], ["x0"]),
    "Slice": LayerExample("type: Slice, top: [a, b], slice_param: {slice_point: 1}"),
    "SmoothL1Loss": LayerExample("type: SmoothL1Loss", [(4, 3), (4, 3)]),
    "SmoothL1LossOHEM": LayerExample("type: SmoothL1LossOHEM", [(4, 3), (4, 3)]),
    "Softmax": LayerExample("type: Softmax"),
    "SoftmaxWithLoss": LayerExample("type: SoftmaxWithLoss", [(4, 3), LABELS]),
    "SoftmaxWithLossOHEM": LayerExample("type: SoftmaxWithLossOHEM", [(4, 3), LABELS]),
    "Split": LayerExample("type: Split, top: [a, b]"),
    "Swish": LayerExample("type: Swish, swish_param: {beta: 1.5}"),
    "TanH": LayerExample("type: TanH"),
    "Tile": LayerExample("type: Tile, tile_param: {axis: 2, tiles: 3}"),
    "Transpose": LayerExample("type: Transpose, transpose_param: {dim: [3, 2, 0, 1]}"),
    "Upsample": LayerExample("type: Upsample"),
    "WarpCTCLoss": LayerExample(
        "type: WarpCTCLoss, ctc_loss_param: {blank_index: 2}", [(4, 1, 3), TEXT.T], ["x0"]
    ),
    "YoloSeg": LayerExample(
        "type: YoloSeg, yolo_seg_param: {object_scale: 2}", [np.zeros((4, 3)), PROBABILITIES], ["x0"]
    ),
    "Yolov3": LayerExample(
        "type: Yolov3, yolov3_param: {num_class: 2, num: 1, mask: 0, anchors_scale: 8, biases: [8, 8], thresh: -1, "
        "use_logic_gradient: true, object_scale: 0.5, class_scale: 0.5, coord_scale: 0.3333333333}",
        [(2, 7, 2, 2), TRUTHS],
    ),
}
