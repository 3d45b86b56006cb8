"""The cases that record.py records, family by family: settings and inputs drawn at random, from fixed seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Rng = np.random.Generator
Fields = dict[str, Any]


@dataclass
class Case:
    """One layer with its inputs, and the fork that runs it.

    ``params`` makes the parameters from their shapes; None keeps those that the layer fills. ``ours`` are fields
    that the fork does not know. ``down``: how many bottoms get a gradient; −1: those that get one with
    force_backward. ``leave_out``: beginnings of keys that are not recorded.
    """

    name: str
    fork: str
    type: str
    inputs: list[np.ndarray]
    fields: Fields = field(default_factory=dict)
    tops: int = 1
    in_place: bool = False
    phase: str = "train"
    backward: bool = True
    index_tops: int = 0
    down: int = -1
    params: Callable[[list[tuple[int, ...]]], list[np.ndarray]] | None = None
    ours: Fields = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()


def drawn(rng: Rng, choices: dict[str, list[Any]]) -> Fields:
    """One choice for each field; None leaves it out."""
    found = {name: values[rng.integers(len(values))] for name, values in choices.items()}
    return {name: value for name, value in found.items() if value is not None}


def normal(rng: Rng, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Numbers from a normal distribution."""
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def gaussian(rng: Rng) -> Callable[[list[tuple[int, ...]]], list[np.ndarray]]:
    """Parameters from a normal distribution."""
    return lambda shapes: [normal(rng, *shape) for shape in shapes]


def several(count: int, make: Callable[[Rng], Case]) -> Iterator[Case]:
    """``count`` cases, each of its own seed."""
    for i in range(count):
        case = make(np.random.default_rng(i))
        case.name = f"{case.name}_{i}"
        yield case


# ------------------------------------------------------------------------------------------------ boxes


def boxes(rng: Rng, count: int, reach: float = 0.0) -> np.ndarray:
    """(count, 4): boxes in the unit square, or reaching out of it by up to ``reach``."""
    centres = rng.uniform(0.1, 0.9, (count, 2))
    sides = rng.uniform(0.1, 0.6, (count, 2)) / 2
    found = np.concatenate([centres - sides, centres + sides], axis=1)
    return found.clip(-reach, 1 + reach).astype(np.float32)


def ground_truth(rng: Rng, images: int, classes: int, most: int = 4) -> np.ndarray:
    """(1, 1, R, 8): rows of AnnotatedData; some images have none."""
    rows = []
    for image in range(images):
        for box in boxes(rng, rng.integers(0, most + 1)):
            rows.append([image, rng.integers(1, classes), 0, *box, rng.random() < 0.2])
    if not rows:
        rows = [[-1.0] * 8]
    return np.array(rows, np.float32)[None, None]


def priors(rng: Rng, count: int, reach: float = 0.1) -> np.ndarray:
    """(1, 2, count · 4): boxes and their variances."""
    variances = np.tile(rng.choice([0.1, 0.2, 0.5], 4), count).reshape(count, 4)
    return np.stack([boxes(rng, count, reach), variances]).astype(np.float32).reshape(1, 2, -1)


def multibox_loss(rng: Rng) -> Case:
    """MultiBoxLoss of SSD."""
    param = drawn(
        rng,
        {
            "loc_loss_type": ["SMOOTH_L1", "L2", None],
            "conf_loss_type": ["SOFTMAX", "LOGISTIC", None],
            "loc_weight": [None, 0.5, 2.0],
            "share_location": [None, True, False],
            "match_type": [None, "BIPARTITE", "PER_PREDICTION"],
            "overlap_threshold": [None, 0.3, 0.7],
            "use_prior_for_matching": [True, True, False],
            "background_label_id": [0],
            "use_difficult_gt": [None, True, False],
            "neg_pos_ratio": [None, 1.0, 2.5],
            "neg_overlap": [None, 0.3],
            "code_type": ["CORNER", "CENTER_SIZE", "CORNER_SIZE"],
            "encode_variance_in_target": [None, True, False],
            "map_object_to_agnostic": [None, None, True],
            "ignore_cross_boundary_bbox": [None, True],
            "bp_inside": [None, None, True],
            "mining_type": ["NONE", "MAX_NEGATIVE", "HARD_EXAMPLE", None],
            "nms_param": [None, {"nms_threshold": 0.5, "top_k": 20}, {"nms_threshold": 0.3, "top_k": -1}],
            "sample_size": [3, 8, 64],
            "use_prior_for_nms": [None, True],
        },
    )
    if param.get("share_location") is False:
        param["mining_type"] = "NONE"
    classes = 2 if param.get("map_object_to_agnostic") else int(rng.integers(2, 6))
    param["num_classes"] = classes
    fields: Fields = {"multibox_loss_param": param}
    mode = drawn(rng, {"normalization": [None, "FULL", "VALID", "BATCH_SIZE", "NONE"]})
    if mode:
        fields["loss_param"] = mode
    images, count = int(rng.integers(1, 4)), int(rng.integers(4, 24))
    if param.get("conf_loss_type") == "LOGISTIC" and param.get("mining_type") == "NONE":
        images = 1  # SSD's Caffe puts the labels of further images in the wrong places
    locations = 1 if param.get("share_location", True) else classes
    inputs = [
        normal(rng, images, count * 4 * locations, scale=0.5),
        normal(rng, images, count * classes, scale=2),
        priors(rng, count),
        ground_truth(rng, images, classes),
    ]
    # SSD's backward forgets that the locations were divided by the variances.
    wrong = ("gin_x0",) if param.get("encode_variance_in_target") else ()
    return Case("multibox_loss", "ssd", "MultiBoxLoss", inputs, fields, down=2, leave_out=wrong)


def detection_output(rng: Rng) -> Case:
    """DetectionOutput of SSD."""
    param = drawn(
        rng,
        {
            "share_location": [None, None, False],
            "background_label_id": [None, 0, 1, -1],
            "nms_param": [
                {"nms_threshold": 0.45, "top_k": 10},
                {"nms_threshold": 0.3, "top_k": 100, "eta": 0.9},
                {"nms_threshold": 0.2, "top_k": 5},
                {"nms_threshold": 0.7, "top_k": -1, "eta": 0.5},
            ],
            "code_type": ["CORNER", "CENTER_SIZE", "CORNER_SIZE", None],
            "variance_encoded_in_target": [None, True],
            "keep_top_k": [None, 3, 10, -1],
            "confidence_threshold": [None, 0.01, 0.3, 0.95],
        },
    )
    if param.get("background_label_id") == -1:
        param["share_location"] = False  # otherwise SSD's Caffe stops
    images, count, classes = int(rng.integers(1, 4)), int(rng.integers(3, 16)), int(rng.integers(2, 5))
    locations = 1 if param.get("share_location", True) else classes
    inputs = [
        normal(rng, images, count * 4 * locations, scale=0.5),
        rng.dirichlet(np.ones(classes), (images, count)).astype(np.float32).reshape(images, -1),
        priors(rng, count),
    ]
    fields = {"detection_output_param": param | {"num_classes": classes}}
    return Case("detection_output", "ssd", "DetectionOutput", inputs, fields, phase="test", backward=False)


def detection_evaluate(rng: Rng) -> Case:
    """DetectionEvaluate of SSD; detections are near the boxes, or anywhere."""
    classes, images = int(rng.integers(2, 5)), int(rng.integers(1, 5))
    param = drawn(
        rng,
        {
            "background_label_id": [None, 0],
            "overlap_threshold": [None, 0.3, 0.7],
            "evaluate_difficult_gt": [None, True, False],
        },
    )
    truth = ground_truth(rng, images, classes)
    found = []
    for row in truth.reshape(-1, 8):
        for _ in range(rng.integers(0, 4)):
            near = row[3:7] + rng.normal(0, 0.04, 4)
            found.append([max(row[0], 0), rng.integers(1, classes), rng.random(), *near])
    for box in boxes(rng, rng.integers(0, 5)):
        found.append([rng.integers(images), rng.integers(1, classes), rng.random(), *box])
    order = sorted(found, key=lambda row: row[0]) or [[-1.0] * 7]
    inputs = [np.array(order, np.float32)[None, None], truth]
    fields = {"detection_evaluate_param": param | {"num_classes": classes}}
    return Case(
        "detection_evaluate", "ssd", "DetectionEvaluate", inputs, fields, phase="test", backward=False
    )


def prior_box(rng: Rng) -> Case:
    """PriorBox of SSD."""
    count = int(rng.integers(1, 4))
    least = sorted(float(x) for x in rng.uniform(5, 60, count).round(2))
    param = drawn(
        rng,
        {
            "aspect_ratio": [None, [2.0], [2.0, 3.0], [0.5, 2.0, 1.0], [1.5, 1.5]],
            "flip": [None, True, False],
            "clip": [None, True],
            "variance": [None, [0.2], [0.1, 0.1, 0.2, 0.2]],
            "offset": [None, 0.0, 0.3],
        },
    ) | {"min_size": least}
    if rng.random() < 0.6:
        param["max_size"] = [round(x * 1.7 + 2, 2) for x in least]
    param |= [{}, {"img_size": 77}, {"img_h": 61, "img_w": 90}][rng.integers(3)]
    param |= [{}, {"step": 9.5}, {"step_h": 7.0, "step_w": 16.0}][rng.integers(3)]
    height, width = rng.integers(1, 5, 2)
    image = rng.integers(20, 90, 2)
    inputs = [np.zeros((2, 3, height, width), np.float32), np.zeros((2, 3, *image), np.float32)]
    return Case("prior_box", "ssd", "PriorBox", inputs, {"prior_box_param": param}, backward=False)


def normalize(rng: Rng) -> Case:
    """Normalize of SSD."""
    param = drawn(
        rng,
        {
            "across_spatial": [None, True, False],
            "channel_shared": [None, True],
            "scale_filler": [None, {"type": "constant", "value": 20.0}],
            "eps": [None, 1e-4, 0.1],
        },
    )
    x = normal(rng, *rng.integers(2, 5, 4))
    return Case("normalize", "ssd", "Normalize", [x], {"norm_param": param}, params=gaussian(rng))


def normalize_per_channel(rng: Rng) -> Case:
    """Normalize with a scale for each channel: its gradient in SSD's Caffe is wrong, but for the scales."""
    param = {"channel_shared": False} | drawn(rng, {"across_spatial": [True, False], "eps": [None, 0.1]})
    x = normal(rng, *rng.integers(1, 5, 4))
    return Case(
        "normalize_per_channel",
        "ssd",
        "Normalize",
        [x],
        {"norm_param": param},
        params=gaussian(rng),
        leave_out=("gin",),
    )


def permute(rng: Rng) -> Case:
    """Permute of SSD; axes that are not named follow the others."""
    axes = int(rng.integers(2, 6))
    order = [int(a) for a in rng.permutation(axes)[: rng.integers(1, axes + 1)]]
    x = normal(rng, *rng.integers(1, 5, axes))
    return Case("permute", "ssd", "Permute", [x], {"permute_param": {"order": order}})


def smooth_l1_loss(rng: Rng) -> Case:
    """SmoothL1Loss of SSD."""
    shape = rng.integers(1, 5, 4)
    inputs = [normal(rng, *shape, scale=2), normal(rng, *shape)]
    fields = drawn(rng, {"loss_weight": [None, 0.5, 3.0]})
    return Case("smooth_l1_loss", "ssd", "SmoothL1Loss", inputs, fields, down=2)


def ssd() -> Iterator[Case]:
    """What SSD's Caffe has (weiliu89/caffe, branch ssd)."""
    yield from several(40, multibox_loss)
    yield from several(20, detection_output)
    yield from several(15, detection_evaluate)
    yield from several(12, prior_box)
    yield from several(8, normalize)
    yield from several(4, normalize_per_channel)
    yield from several(5, permute)
    yield from several(4, smooth_l1_loss)


# ------------------------------------------------------------------------------------------- two detectors


def first_detector(rng: Rng, inputs: list[np.ndarray], least: int) -> list[np.ndarray]:
    """RefineDet's further bottoms: probabilities of the first detector, and its locations; ``least`` or more."""
    images, count = len(inputs[0]), inputs[2].shape[2] // 4
    found = rng.dirichlet([1, 0.2], (images, count)).astype(np.float32).reshape(images, -1)
    locations = normal(rng, images, count * 4, scale=0.3)
    return [found, locations][: rng.integers(least, 3)]


def refined_loss(rng: Rng) -> Case:
    """MultiBoxLoss of RefineDet: with the bottoms of a first detector, or as such, for two classes of any label."""
    case = multibox_loss(rng)
    case.name, case.fork = "refined_loss", "refinedet"
    param = case.fields["multibox_loss_param"]
    if param.get("share_location", True):
        case.inputs += first_detector(rng, case.inputs, 0)
        param |= drawn(rng, {"objectness_score": [None, 0.3, 0.8]})
    if len(case.inputs) > 4:
        param.pop("nms_param", None)  # with a first detector RefineDet's Caffe then mines the wrong priors
    if param["num_classes"] == 2:
        case.inputs[3][0, 0, :, 1] *= rng.integers(1, 4, case.inputs[3].shape[2])
    return case


def refined_output(rng: Rng) -> Case:
    """DetectionOutput of RefineDet."""
    case = detection_output(rng)
    case.name, case.fork = "refined_output", "refinedet"
    param = case.fields["detection_output_param"]
    if param.get("share_location", True):
        case.inputs += first_detector(rng, case.inputs, 0)
        param |= drawn(rng, {"objectness_score": [None, 0.3, 0.8]})
    return case


def refinedet() -> Iterator[Case]:
    """What RefineDet's Caffe has (sfzhang15/RefineDet)."""
    yield from several(24, refined_loss)
    yield from several(16, refined_output)


# ---------------------------------------------------------------------------------------------- segmentation


def segnet_bn(rng: Rng) -> Case:
    """BN of SegNet."""
    mode = rng.choice(["LEARN", "INFERENCE"])
    param = {"bn_mode": str(mode), "scale_filler": {"type": "constant", "value": 1.0}}
    tops = int(rng.integers(1, 4)) if mode == "LEARN" else 1
    x = normal(rng, *rng.integers(2, 5, 4), scale=3) + normal(rng, 1)
    phase = str(rng.choice(["train", "test"]))
    in_place = tops == 1 and rng.random() < 0.3
    fields = {"bn_param": param}
    # In place, SegNet's Caffe reads the top for the bottom.
    wrong = ("gp_L_0",) if in_place and mode == "INFERENCE" else ()
    return Case(
        *("segnet_bn", "segnet", "BN", [x], fields, tops),
        in_place=in_place,
        phase=phase,
        index_tops=tops - 1,
        params=gaussian(rng),
        leave_out=wrong,
    )


def segnet_pooling(rng: Rng) -> Case:
    """MAX Pooling with its mask, in numbers of which some are equal."""
    kernel = int(rng.integers(2, 4))
    param = {"pool": "MAX", "kernel_size": kernel, "stride": int(rng.integers(1, kernel + 1))}
    x = np.round(normal(rng, *rng.integers(1, 3, 2), *rng.integers(3, 9, 2)) * 2) / 2
    return Case("segnet_pooling", "segnet", "Pooling", [x], {"pooling_param": param}, tops=2, index_tops=1)


def segnet_upsample(rng: Rng) -> Case:
    """Upsample of SegNet; places may come twice."""
    height, width = (int(n) for n in rng.integers(1, 5, 2))
    param, places = [
        ({"upsample_h": 2 * height + 1, "upsample_w": 3 * width}, (2 * height + 1) * 3 * width),
        ({"scale": 2, "pad_out_h": True}, (2 * height - 1) * 2 * width),
        ({"scale": 2, "pad_out_w": True}, 2 * height * (2 * width - 1)),
        ({"scale": 3}, 9 * height * width),
        ({"scale_h": 2, "scale_w": 4}, 8 * height * width),
        ({}, 4 * height * width),
    ][rng.integers(6)]
    x = normal(rng, *rng.integers(1, 3, 2), height, width)
    mask = rng.integers(0, places, x.shape).astype(np.float32)
    backward = "upsample_h" not in param  # there backward of SegNet's Caffe reads sizes that nothing has set
    return Case(
        "segnet_upsample",
        "segnet",
        "Upsample",
        [x, mask],
        {"upsample_param": param},
        down=1,
        backward=backward,
    )


def segnet_loss(rng: Rng) -> Case:
    """SoftmaxWithLoss of SegNet, with weights of classes."""
    shape = rng.integers(2, 5, 4)
    classes = int(shape[1])
    param = drawn(rng, {"ignore_label": [None, 0, 1], "normalize": [None, True, False]})
    if rng.random() < 0.8:
        param |= {
            "weight_by_label_freqs": True,
            "class_weighting": rng.uniform(0.1, 3, classes).round(3).tolist(),
        }
    labels = rng.integers(0, classes, (shape[0], 1, *shape[2:])).astype(np.float32)
    fields = {"loss_param": param} | drawn(rng, {"loss_weight": [None, 2.0]})
    inputs = [normal(rng, *shape, scale=2), labels]
    return Case("segnet_loss", "segnet", "SoftmaxWithLoss", inputs, fields, down=1)


def segnet() -> Iterator[Case]:
    """What SegNet's Caffe has (alexgkendall/caffe-segnet)."""
    yield from several(14, segnet_bn)
    yield from several(7, segnet_pooling)
    yield from several(12, segnet_upsample)
    yield from several(12, segnet_loss)


# ----------------------------------------------------------------------------------------------------- text


def transpose(rng: Rng) -> Case:
    """Transpose of CTPN."""
    axes = int(rng.integers(1, 6))
    dim = [int(a) for a in rng.permutation(axes)]
    return Case(
        "transpose",
        "ctpn",
        "Transpose",
        [normal(rng, *rng.integers(1, 5, axes))],
        {"transpose_param": {"dim": dim}},
    )


def reverse(rng: Rng) -> Case:
    """Reverse of CTPN."""
    axes = int(rng.integers(1, 5))
    param = {"axis": int(rng.integers(axes))} if rng.random() < 0.8 else {}
    return Case(
        "reverse", "ctpn", "Reverse", [normal(rng, *rng.integers(1, 5, axes))], {"reverse_param": param}
    )


def lstm(rng: Rng) -> Case:
    """Lstm of CTPN, with one bottom or with the marks of where sequences go on."""
    steps, sequences, size = (int(n) for n in rng.integers(1, 5, 3))
    x = normal(rng, steps, sequences, *rng.integers(1, 4, rng.integers(1, 3)))
    param = {"num_output": size} | drawn(rng, {"clipping_threshold": [None, 0.05, 0.3]})
    inputs = [x]
    if rng.random() < 0.4:
        inputs.append(rng.integers(0, 2, steps).astype(np.float32))
        inputs[0] = x[:, :1]  # more sequences than one stop there
    # For the weights of the hidden states CTPN's Caffe counts the steps where a sequence begins, too.
    wrong = ("gp_L_1",) if len(inputs) > 1 else ()
    fields = {"lstm_param": param}
    return Case("lstm", "ctpn", "Lstm", inputs, fields, down=1, params=gaussian(rng), leave_out=wrong)


def ctpn() -> Iterator[Case]:
    """What CTPN's Caffe has (tianzhi0549/CTPN)."""
    yield from several(6, transpose)
    yield from several(6, reverse)
    yield from several(14, lstm)


# ----------------------------------------------------------------------------------------------------- YOLO


def yolo_labels(rng: Rng, images: int, classes: int) -> np.ndarray:
    """(N, 1500): up to five of 300 boxes (label, x, y, w, h) for each image, then zeros."""
    labels = np.zeros((images, 300, 5), np.float32)
    for rows in labels:
        for row in rows[: rng.integers(0, 6)]:
            row[0] = rng.integers(classes)
            row[1:3] = rng.uniform(0.01, 0.99, 2)
            row[3:5] = rng.uniform(0.05, 0.7, 2)
    return labels.reshape(images, -1)


def yolov3(rng: Rng) -> Case:
    """Yolov3 of MobileNet-YOLO."""
    images, classes, num = int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    height, width = (int(n) for n in rng.integers(2, 5, 2))
    param = drawn(
        rng,
        {
            "object_scale": [None, 5.0],
            "class_scale": [None, 2.0],
            "coord_scale": [None, 1.0],
            "noobject_scale": [None, 1.0],
            "thresh": [None, 0.5],
            "use_logic_gradient": [None, True],
            "use_focal_loss": [None, None, True],
            "iou_loss": [None, "MSE", "IOU", "GIOU", "DIOU", "CIOU"],
            "iou_normalizer": [None, 0.07],
            "iou_thresh": [None, 0.3, 1.0],
            "max_delta": [None, 0.5],
            "accumulate": [None, False],
            "label_smooth_eps": [None, 0.0],
        },
    )
    anchors = num + int(rng.integers(0, 3))
    param |= {"num_class": classes, "num": num, "anchors_scale": 16}
    param["biases"] = [float(x) for x in rng.uniform(5, 50, 2 * anchors).round(1)]
    param["mask"] = sorted(int(n) for n in rng.permutation(anchors)[:num])
    x = normal(rng, images, num * (5 + classes), height, width)
    inputs = [x, yolo_labels(rng, images, classes)]
    return Case("yolov3", "yolo", "Yolov3", inputs, {"yolov3_param": param}, down=1)


def region_loss(rng: Rng) -> Case:
    """RegionLoss of MobileNet-YOLO."""
    images, classes, num = int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(2, 6))
    side = int(rng.integers(2, 5))
    param = drawn(
        rng,
        {
            "bias_match": [None, 0, 1],
            "rescore": [None, 0, 1],
            "object_scale": [None, 5.0],
            "class_scale": [None, 2.0],
            "coord_scale": [None, 1.0],
            "noobject_scale": [None, 1.0],
            "thresh": [None, 0.5],
        },
    )
    param |= {"num_class": classes, "num": num}
    param["biases"] = [float(x) for x in rng.uniform(0.3, 3, 10).round(2)]
    inputs = [normal(rng, images, num * (5 + classes), side, side), yolo_labels(rng, images, classes)]
    return Case("region_loss", "yolo", "RegionLoss", inputs, {"region_loss_param": param}, down=1)


def yolov3_output(rng: Rng) -> Case:
    """Yolov3DetectionOutput of MobileNet-YOLO, of one to three grids and of one image: all get number 0 there."""
    images, classes, num = 1, int(rng.integers(1, 4)), int(rng.integers(1, 4))
    grids = int(rng.integers(1, 4))
    param = drawn(
        rng,
        {
            "confidence_threshold": [0.3, 0.5, 0.999],
            "nms_threshold": [None, 0.2, 0.7],
        },
    )
    anchors = grids * num
    param |= {"num_classes": classes, "num_box": num, "mask_group_num": grids}
    param["biases"] = [float(x) for x in rng.uniform(5, 50, 2 * anchors).round(1)]
    param["mask"] = [int(n) for n in rng.permutation(anchors)]
    param["anchors_scale"] = [8 * 2**i for i in range(grids)]
    inputs = [
        normal(rng, images, num * (5 + classes), *rng.integers(1, 4, 2), scale=1.5) for _ in range(grids)
    ]
    fields = {"yolov3_detection_output_param": param}
    return Case(
        "yolov3_output", "yolo", "Yolov3DetectionOutput", inputs, fields, phase="test", backward=False
    )


def yolo_output(rng: Rng) -> Case:
    """YoloDetectionOutput of MobileNet-YOLO, of one or two grids."""
    images, classes, num = 1, int(rng.integers(1, 4)), int(rng.integers(1, 6))
    param = drawn(rng, {"confidence_threshold": [0.1, 0.3, 0.999], "nms_threshold": [None, 0.2, 0.7]})
    param |= {"num_classes": classes, "num_box": num}
    param["biases"] = [float(x) for x in rng.uniform(0.3, 3, 2 * num).round(2)]
    sides = rng.integers(1, 4, rng.integers(1, 3))
    inputs = [normal(rng, images, num * (5 + classes), side, side, scale=1.5) for side in sides]
    fields = {"yolo_detection_output_param": param}
    return Case("yolo_output", "yolo", "YoloDetectionOutput", inputs, fields, phase="test", backward=False)


def reorg(rng: Rng) -> Case:
    """Reorg of MobileNet-YOLO, forward: its backward on a CPU reads what nothing has set."""
    stride, reverse = int(rng.integers(1, 4)), bool(rng.integers(2))
    images, channels, height, width = (int(n) for n in rng.integers(1, 4, 4))
    param = {"stride": stride} | ({"reverse": True} if reverse else {})
    shape = (images, channels * stride**2, height * stride, width * stride)
    return Case("reorg", "yolo", "Reorg", [normal(rng, *shape)], {"reorg_param": param}, backward=False)


def nearest_upsample(rng: Rng) -> Case:
    """Upsample of MobileNet-YOLO."""
    param = {"scale": int(rng.integers(1, 4))}
    return Case(
        "upsample", "yolo", "Upsample", [normal(rng, *rng.integers(1, 4, 4))], {"upsample_param": param}
    )


def yolo() -> Iterator[Case]:
    """What MobileNet-YOLO's Caffe has (eric612/MobileNet-YOLO)."""
    yield from several(20, yolov3)
    yield from several(10, region_loss)
    yield from several(10, yolov3_output)
    yield from several(8, yolo_output)
    yield from several(6, reorg)
    yield from several(4, nearest_upsample)


# -------------------------------------------------------------------------------------- text without places


def labels_of(rng: Rng, steps: int, batch: int, classes: int, blank: int, most: int) -> np.ndarray:
    """(steps, batch): up to ``most`` labels for each sequence, none of them blank, then −1."""
    labels = np.full((steps, batch), -1)
    others = [c for c in range(classes) if c != blank]
    for n in range(batch):
        count = int(rng.integers(1, most + 1))
        labels[:count, n] = rng.choice(others, count)
    return labels.astype(np.float32)


def going_on(rng: Rng, steps: int, batch: int, least: int) -> np.ndarray:
    """(steps, batch): 0 where a sequence begins, then 1 for at least ``least`` steps in all, then 0."""
    length = rng.integers(least, steps + 1, batch)
    step = np.arange(steps)[:, None]
    return ((step > 0) & (step < length)).astype(np.float32)


def ctc_loss(rng: Rng) -> Case:
    """CTCLoss of TextBoxes++, with three bottoms."""
    steps, batch, classes = int(rng.integers(7, 11)), int(rng.integers(1, 4)), int(rng.integers(3, 6))
    choices = {
        "blank_index": [None, 0, 1],
        "ctc_merge_repeated": [None, False],
        "preprocess_collapse_repeated": [None, True],
        "loss_calculation_t": [None, 2],
    }
    param = drawn(rng, choices)
    blank = param.get("blank_index", classes - 1)
    cont = going_on(rng, steps, batch, 7)
    labels = labels_of(rng, steps, batch, classes, blank, 3)
    x = normal(rng, steps, batch, classes, 1, scale=2)
    fields = {"ctc_loss_param": param}
    return Case("ctc_loss", "textboxes_plusplus", "CTCLoss", [x, cont, labels], fields, down=1)


def ctc_greedy(rng: Rng) -> Case:
    """CTCGreedyDecoder of TextBoxes++: what is spelled, and with labels how right that is."""
    steps, batch, classes = (int(n) for n in rng.integers((4, 1, 3), (12, 4, 6)))
    param = drawn(rng, {"blank_index": [None, 0, 1], "ctc_merge_repeated": [None, False]})
    blank = param.get("blank_index", classes - 1)
    inputs = [normal(rng, steps, batch, classes), going_on(rng, steps, batch, 1)]
    if rng.random() < 0.7:
        inputs.append(labels_of(rng, steps, batch, classes, blank, steps))
    tops = int(rng.integers(1, len(inputs) + 1))
    fields = {"ctc_decoder_param": param}
    return Case("ctc_greedy", "textboxes_plusplus", "CTCGreedyDecoder", inputs, fields, tops, backward=False)


def ctc_by_axes(rng: Rng) -> Case:
    """CTCLoss of hzli-ucas, with two bottoms in many layouts, or with three."""
    steps, batch, classes = int(rng.integers(7, 11)), int(rng.integers(1, 4)), int(rng.integers(3, 6))
    param = drawn(rng, {"blank_index": [None, 0, 1, -2]})
    blank = param.get("blank_index", -1) % classes
    x, labels = normal(rng, steps, batch, classes, scale=2), labels_of(rng, 5, batch, classes, blank, 3)
    if rng.random() < 0.3:
        cont = going_on(rng, steps, batch, 7)
        cont[-1] = 0  # where the last is 1, hzli-ucas's Caffe reads on behind the end
        inputs = [x, cont, labels]
    else:
        inputs = [
            [x, labels],
            [x.transpose(1, 2, 0), labels.T],
            [x.transpose(1, 2, 0)[:, :, None], labels.T],
        ][(layout := int(rng.integers(3)))]
        if layout == 0:
            param["nct_axis"] = [1, 2]
    # Behind the end of a sequence hzli-ucas's Caffe leaves infinite numbers.
    wrong = ("gin_x0",) if len(inputs) > 2 else ()
    return Case("ctc_by_axes", "hzli", "CTCLoss", inputs, {"ctc_param": param}, down=1, leave_out=wrong)


def ctc_decoder(rng: Rng) -> Case:
    """CTCDecoder of hzli-ucas."""
    steps, batch, classes = (int(n) for n in rng.integers((4, 1, 3), (12, 4, 6)))
    param = drawn(rng, {"blank_index": [None, 0, -2], "decode": [None, "IN_PLACE", "BEST_PATH"]})
    x = normal(rng, steps, batch, classes)
    inputs = [x.transpose(1, 2, 0)]
    if rng.random() < 0.4:
        inputs = [x, going_on(rng, steps, batch, 1)]
    elif rng.random() < 0.5:
        inputs, param["nct_axis"] = [x], [1, 2]
    return Case("ctc_decoder", "hzli", "CTCDecoder", inputs, {"ctc_param": param}, backward=False)


def ctc() -> Iterator[Case]:
    """Losses and decoders of text that has no places (MhLiao/TextBoxes_plusplus, hzli-ucas/caffe)."""
    yield from several(16, ctc_loss)
    yield from several(10, ctc_greedy)
    yield from several(14, ctc_by_axes)
    yield from several(10, ctc_decoder)


def meanfield(rng: Rng) -> Case:
    """MultiStageMeanfield of CRF-RNN. With another number of pixels its lattice has a point too many."""
    labels, height, width = int(rng.integers(2, 6)), int(rng.integers(2, 9)), 4 * int(rng.integers(1, 4))
    param = {
        "num_iterations": int(rng.integers(2, 6)),
        "theta_alpha": float(rng.choice([3, 20, 160])),
        "theta_beta": float(rng.choice([3, 30])),
        "theta_gamma": float(rng.choice([1, 3])),
    }
    image = rng.uniform(-100, 150, (1, 3, height, width)).astype(np.float32)
    scores = [normal(rng, 1, labels, height, width) for _ in range(2)]
    return Case(
        *("meanfield", "crfrnn", "MultiStageMeanfield", [*scores, image]),
        {"multi_stage_meanfield_param": param},
        down=2,
        params=gaussian(rng),
    )


def crfrnn() -> Iterator[Case]:
    """The random field of CRF-RNN (Seaball/crfasrnn_newercaffe, the layer of torrvision/crfasrnn)."""
    yield from several(12, meanfield)


# -------------------------------------------------------------------------------------------------- regions


def regions(rng: Rng, images: int, count: int, size: int) -> np.ndarray:
    """(count, 5): rows (image, x1, y1, x2, y2) in pixels of an image of this size, some reaching out of it."""
    corners = rng.uniform(-0.1 * size, 0.8 * size, (count, 2))
    sides = rng.uniform(0, 0.6 * size, (count, 2))
    rows = np.concatenate([rng.integers(0, images, (count, 1)), corners, corners + sides], axis=1)
    return rows.round(1).astype(np.float32)


def psroi_pooling(rng: Rng) -> Case:
    """PSROIPooling of R-FCN."""
    outputs, group, images = (int(n) for n in rng.integers(1, 4, 3))
    height, width = (int(n) for n in rng.integers(3, 8, 2))
    param = {
        "spatial_scale": float(rng.choice([0.0625, 0.125, 0.3])),
        "output_dim": outputs,
        "group_size": group,
    }
    x = normal(rng, images, outputs * group**2, height, width)
    rois = regions(rng, images, int(rng.integers(1, 6)), int(max(height, width) / param["spatial_scale"]))
    return Case("psroi_pooling", "rfcn", "PSROIPooling", [x, rois], {"psroi_pooling_param": param}, down=1)


def box_annotator(rng: Rng) -> Case:
    """BoxAnnotatorOHEM of R-FCN."""
    images, count, channels = int(rng.integers(1, 4)), int(rng.integers(1, 10)), int(rng.integers(1, 9))
    param = {"roi_per_img": int(rng.integers(1, 5))} | drawn(rng, {"ignore_label": [None, 0, 255]})
    labels = rng.integers(0, 4, (count, 1, 1, 1)).astype(np.float32)
    weights = rng.integers(0, 2, (count, channels, 1, 1)).astype(np.float32)
    losses = rng.uniform(0, 5, (count, 1, 1, 1)).astype(np.float32)
    inputs = [regions(rng, images, count, 100).reshape(-1, 5, 1, 1), losses, labels, weights]
    fields = {"box_annotator_ohem_param": param}
    return Case("box_annotator", "rfcn", "BoxAnnotatorOHEM", inputs, fields, tops=2, backward=False)


def mode_of_loss(rng: Rng) -> Fields:
    """What a loss is divided by."""
    modes = [{}, {"normalize": True}, {"normalize": False}]
    modes += [{"normalization": mode} for mode in ("FULL", "VALID", "BATCH_SIZE", "NONE")]
    return modes[rng.integers(len(modes))]


def smooth_l1_loss_ohem(rng: Rng) -> Case:
    """SmoothL1LossOHEM of R-FCN, with and without what each region loses."""
    shape = rng.integers(1, 5, 4)
    inputs = [normal(rng, *shape, scale=2), normal(rng, *shape)]
    if rng.random() < 0.6:
        inputs.append(rng.integers(0, 2, shape).astype(np.float32))
    param = mode_of_loss(rng)
    if rng.random() < 0.2:
        param = {"normalization": "PRE_FIXED", "pre_fixed_normalizer": 3.5}
    tops = int(rng.integers(1, 3))
    fields = {"loss_param": param} | ({"loss_weight": [2.0, 0.0][:tops]})
    return Case("smooth_l1_loss_ohem", "rfcn", "SmoothL1LossOHEM", inputs, fields, tops=tops, down=2)


def softmax_loss_ohem(rng: Rng) -> Case:
    """SoftmaxWithLossOHEM of R-FCN, with up to three tops."""
    shape = rng.integers(1, 5, 4) + np.array([0, 1, 0, 0])
    labels = rng.integers(0, shape[1], (shape[0], 1, *shape[2:])).astype(np.float32)
    param = mode_of_loss(rng) | drawn(rng, {"ignore_label": [None, 0, 1]})
    tops = int(rng.integers(1, 4))
    fields = {"loss_param": param, "loss_weight": [2.0, 0.0, 0.0][:tops]}
    inputs = [normal(rng, *shape, scale=2), labels]
    return Case("softmax_loss_ohem", "rfcn", "SoftmaxWithLossOHEM", inputs, fields, tops=tops, down=1)


def rfcn_smooth_l1_loss(rng: Rng) -> Case:
    """SmoothL1Loss of R-FCN, which can also say what each region loses."""
    case = smooth_l1_loss_ohem(rng)
    case.name, case.fork, case.type = "rfcn_smooth_l1_loss", "dai", "SmoothL1Loss"
    return case


def rfcn_softmax_loss(rng: Rng) -> Case:
    """SoftmaxWithLoss of R-FCN, with up to three tops."""
    case = softmax_loss_ohem(rng)
    case.name, case.fork, case.type = "rfcn_softmax_loss", "dai", "SoftmaxWithLoss"
    return case


def smooth_l1_loss_weighted(rng: Rng) -> Case:
    """SmoothL1Loss of Faster R-CNN, with weights inside and outside."""
    shape = rng.integers(1, 5, 4)
    inputs = [normal(rng, *shape, scale=2), normal(rng, *shape)]
    if rng.random() < 0.7:
        inputs += [rng.uniform(0, 2, shape).astype(np.float32) for _ in range(2)]
    param = drawn(rng, {"sigma": [None, 3.0, 0.7]})
    fields = {"smooth_l1_loss_param": param, "loss_weight": 1.5}  # without loss_weight it is no loss there
    return Case("smooth_l1_loss_weighted", "rfcn", "SmoothL1Loss", inputs, fields, down=2)


def roi_pooling(rng: Rng) -> Case:
    """ROIPooling of Faster R-CNN."""
    images, channels = (int(n) for n in rng.integers(1, 4, 2))
    height, width = (int(n) for n in rng.integers(3, 8, 2))
    scale = float(rng.choice([0.0625, 0.125, 0.3]))
    pooled = rng.integers(1, 5, 2)
    param = {"pooled_h": int(pooled[0]), "pooled_w": int(pooled[1]), "spatial_scale": scale}
    rois = regions(rng, images, int(rng.integers(1, 6)), int(max(height, width) / scale))
    x = normal(rng, images, channels, height, width)
    return Case("roi_pooling", "rfcn", "ROIPooling", [x, rois], {"roi_pooling_param": param}, down=1)


def proposal(rng: Rng) -> Case:
    """Proposal of PVANet. Regions that are too small all score 0, in no certain order: few are asked for."""
    ratios, scales = rng.uniform(0.4, 2.5, rng.integers(1, 4)), rng.uniform(1, 6, rng.integers(1, 4))
    anchors = len(ratios) * len(scales)
    height, width = (int(n) for n in rng.integers(3, 6, 2))
    param = {"ratio": ratios.round(3).tolist(), "scale": scales.round(3).tolist()}
    param |= drawn(
        rng,
        {
            "feat_stride": [None, 8],
            "base_size": [None, 8],
            "min_size": [1, 4, 10],
            "pre_nms_topn": [None, 12],
            "nms_thresh": [None, 0.3],
        },
    )
    param["post_nms_topn"] = 20 if param.get("min_size") == 1 else 3
    stride = param.get("feat_stride", 16)
    scores = rng.uniform(0, 1, (1, 2 * anchors, height, width)).astype(np.float32)
    offsets = normal(rng, 1, 4 * anchors, height, width, scale=0.3)
    size = [height * stride, width * stride, *rng.choice([0.5, 1.0], 2)]
    tops = int(rng.integers(1, 3)) if rng.random() < 0.4 else 2
    inputs = [scores, offsets, np.array([size], np.float32)]
    return Case("proposal", "pva", "Proposal", inputs, {"proposal_param": param}, tops=tops, backward=False)


def rfcn() -> Iterator[Case]:
    """Of R-FCN, Faster R-CNN and PVANet (makefile/frcnn, daijifeng001/caffe-rfcn, sanghoon/caffe)."""
    yield from several(8, psroi_pooling)
    yield from several(6, box_annotator)
    yield from several(7, smooth_l1_loss_ohem)
    yield from several(8, softmax_loss_ohem)
    yield from several(2, rfcn_smooth_l1_loss)
    yield from several(2, rfcn_softmax_loss)
    yield from several(5, smooth_l1_loss_weighted)
    yield from several(6, roi_pooling)
    yield from several(8, proposal)


# --------------------------------------------------------------------------------------------------- losses


def center_loss(rng: Rng) -> Case:
    """CenterLoss of caffe-face."""
    images, classes = int(rng.integers(1, 7)), int(rng.integers(1, 5))
    x = normal(rng, images, *rng.integers(1, 4, rng.integers(1, 4)))
    labels = rng.integers(0, classes, images).astype(np.float32)
    # Without loss_weight it is no loss there.
    fields: Fields = {
        "center_loss_param": {"num_output": classes},
        "loss_weight": float(rng.choice([0.1, 2])),
    }
    return Case("center_loss", "face", "CenterLoss", [x, labels], fields, down=1, params=gaussian(rng))


def dice_coef_loss(rng: Rng) -> Case:
    """DiceCoefLoss of HolmesShuan."""
    shape = rng.integers(1, 5, rng.integers(2, 5))
    inputs = [rng.uniform(0, 1, shape).astype(np.float32), rng.integers(0, 2, shape).astype(np.float32)]
    fields = drawn(rng, {"loss_weight": [None, 2.0]})
    return Case("dice_coef_loss", "face", "DiceCoefLoss", inputs, fields, down=2)


def margin_inner_product(rng: Rng) -> Case:
    """MarginInnerProduct of SphereFace."""
    images, classes = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    x = normal(rng, images, *rng.integers(2, 4, rng.integers(1, 4)))
    labels = rng.integers(0, classes, images).astype(np.float32)
    param = {"num_output": classes} | drawn(
        rng,
        {
            "type": ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"],
            "base": [None, 10.0],
            "gamma": [None, 0.12],
            "power": [None, 2.0],
            "lambda_min": [None, 5.0],
            "iteration": [None, 30],
        },
    )
    fields: Fields = {"margin_inner_product_param": param}
    return Case(
        *("margin_inner_product", "sphere", "MarginInnerProduct", [x, labels], fields),
        tops=2,
        index_tops=1,
        down=1,
        params=gaussian(rng),
    )


def balanced_cross_entropy(rng: Rng) -> Case:
    """SigmoidCrossEntropyLoss of HED, ours under the name of another fork."""
    shape = (*rng.integers(1, 3, 2), *rng.integers(2, 6, 2))
    targets = (rng.random(shape) < rng.choice([0.0, 0.2, 0.7, 1.0])).astype(np.float32)
    fields = drawn(rng, {"loss_weight": [None, 0.5]})
    ours = {"type": "SigmoidCrossEntropyBalanceLoss"}
    inputs = [normal(rng, *shape, scale=3), targets]
    return Case("balanced_loss", "hed", "SigmoidCrossEntropyLoss", inputs, fields, down=1, ours=ours)


def l1_loss(rng: Rng) -> Case:
    """L1Loss of NVIDIA, in numbers of which some are equal."""
    shape = rng.integers(1, 5, rng.integers(1, 5))
    inputs = [np.round(normal(rng, *shape, scale=2) * 2) / 2 for _ in range(2)]
    return Case("l1_loss", "nvidia", "L1Loss", inputs, drawn(rng, {"loss_weight": [None, 3.0]}), down=2)


def losses() -> Iterator[Case]:
    """Losses of several forks."""
    yield from several(6, center_loss)
    yield from several(5, dice_coef_loss)
    yield from several(12, margin_inner_product)
    yield from several(6, balanced_cross_entropy)
    yield from several(5, l1_loss)


def fixed_ctc_loss(rng: Rng) -> Case:
    """CtcLoss of warpctc-caffe, with enough steps for the labels."""
    steps, sequences, classes = int(rng.integers(7, 11)), int(rng.integers(1, 4)), int(rng.integers(2, 6))
    blank = int(rng.integers(classes))
    labels = rng.integers(0, classes, (sequences, rng.integers(1, 5)))
    labels[:, 0] = (blank + 1) % classes  # the fork wants a label
    param = {"alphabet_size": classes, "time_step": steps, "blank_label": blank}
    inputs = [normal(rng, steps, sequences, classes), labels.astype(np.float32)]
    return Case("fixed_ctc_loss", "warpctc", "CtcLoss", inputs, {"ctc_loss_param": param}, down=1)


def meanfield_of_any_size(rng: Rng) -> Case:
    """MultiStageMeanfield of CRF-RNN, which takes one image."""
    labels, height, width = (int(n) for n in rng.integers(2, (4, 5, 7)))
    param = {
        "num_iterations": int(rng.integers(2, 5)),
        "theta_alpha": float(rng.uniform(3, 20)),
        "theta_beta": float(rng.uniform(3, 40)),
        "theta_gamma": float(rng.uniform(1, 4)),
        "spatial_filter_weights_str": "3 " * labels,
        "bilateral_filter_weights_str": "5 " * labels,
    }
    unary = normal(rng, 1, labels, height, width)
    image = rng.uniform(-120, 130, (1, 3, height, width)).astype(np.float32)
    inputs = [unary, unary.copy(), image]
    fields = {"multi_stage_meanfield_param": param}
    params = gaussian(rng) if rng.random() < 0.6 else None
    return Case("meanfield_of_any_size", "crf", "MultiStageMeanfield", inputs, fields, down=2, params=params)


def sequences() -> Iterator[Case]:
    """CTC (xmfbit/warpctc-caffe), and CRF-RNN's mean field without code for SSE (torrvision/caffe)."""
    yield from several(6, fixed_ctc_loss)
    yield from several(3, meanfield_of_any_size)


# ------------------------------------------------------------------------------------------------- PSPNet


def statistics(rng: Rng) -> Callable[[list[tuple[int, ...]]], list[np.ndarray]]:
    """Slope, bias, moving mean and moving variance."""
    return lambda shapes: (
        [normal(rng, *shape) for shape in shapes[:3]]
        + [rng.uniform(0.3, 3, shape).astype(np.float32) for shape in shapes[3:]]
    )


def pspnet_bn(rng: Rng) -> Case:
    """BN of PSPNet."""
    param = drawn(rng, {"momentum": [None, 0.95], "eps": [None, 1e-3], "frozen": [None, None, True]})
    param["slope_filler"] = {"type": "constant", "value": 1.0}
    phase = str(rng.choice(["train", "test"]))
    x = normal(rng, *rng.integers(2, 5, 4), scale=2) + normal(rng, 1)
    in_place = rng.random() < 0.3
    # Unless frozen, PSPNet's Caffe goes back as in training, with the moving statistics: no derivative at TEST.
    back = phase == "train" or "frozen" in param
    return Case(
        *("pspnet_bn", "psp", "BN", [x], {"bn_param": param}),
        in_place=in_place,
        phase=phase,
        backward=back,
        params=statistics(rng),
    )


def interp(rng: Rng) -> Case:
    """Interp of PSPNet."""
    height, width = (int(n) for n in rng.integers(2, 8, 2))
    param: Fields = [
        {"height": int(rng.integers(1, 12)), "width": int(rng.integers(1, 12))},
        {"zoom_factor": int(rng.integers(1, 5))},
        {"shrink_factor": int(rng.integers(1, 4))},
        {"zoom_factor": int(rng.integers(2, 5)), "shrink_factor": int(rng.integers(2, 4))},
    ][rng.integers(4)]
    if rng.random() < 0.3:
        param |= {"pad_beg": 0, "pad_end": -1}
    x = normal(rng, *rng.integers(1, 4, 2), height, width)
    return Case("interp", "psp", "Interp", [x], {"interp_param": param})


def pspnet() -> Iterator[Case]:
    """What PSPNet's Caffe has (hszhao/PSPNet)."""
    yield from several(7, pspnet_bn)
    yield from several(5, interp)


# -------------------------------------------------------------------------------------------------- NVIDIA


def detectnet_grid(rng: Rng) -> Case:
    """The grid of DetectNetTransformation, for boxes of pictures that are not changed."""
    width, height = (int(n) for n in rng.integers(20, 90, 2))
    param = drawn(
        rng,
        {
            "stride": [None, 8, 5],
            "scale_cvg": [None, 1.0, 0.3],
            "gridbox_type": [None, "GRIDBOX_MAX", "GRIDBOX_MIN"],
            "max_cvg_len": [None, 12],
            "min_cvg_len": [None, 6],
            "obj_norm": [None, True],
            "crop_bboxes": [None, False],
        },
    )
    param |= {"image_size_x": width, "image_size_y": height}
    if rng.random() < 0.6:
        param["object_class"] = [{"src": 1, "dst": 1}, {"src": 3, "dst": 0}, {"src": 4, "dst": 1}]
    images, most = int(rng.integers(1, 3)), 4
    labels = np.zeros((images, 1, most + 1, 16), np.float32)
    for rows in labels[:, 0]:
        rows[0, :2] = rng.integers(0, most + 1), 16
        rows[1:, :2] = rng.uniform(-10, (width, height), (most, 2)).round(1)
        rows[1:, 2:4] = rng.uniform(0, 40, (most, 2)).round(1)
        rows[1:, 5] = rng.integers(1, 5, most)
        rows[1, :2] = width - 0.2, height - 9.3  # cut to a narrow strip
        rows[1, 5] = 1
    pictures = np.zeros((images, 3, height, width), np.float32)
    fields = {"detectnet_groundtruth_param": param}
    return Case(
        *("detectnet_grid", "nvidia", "DetectNetTransformation", [pictures, labels], fields, 2),
        phase="test",
        backward=False,
        leave_out=("out_y0",),
    )


def scaled_batch_norm(rng: Rng) -> Case:
    """BatchNorm with scale_bias of NVIDIA."""
    param = drawn(rng, {"moving_average_fraction": [None, 0.9], "eps": [None, 1e-3, 1e-6]})
    phase = str(rng.choice(["train", "train", "test"]))
    x = normal(rng, *rng.integers(2, 5, 4), scale=2) + normal(rng, 1)

    def params(shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
        mean, variance, one, *rest = shapes
        made = [normal(rng, *mean), rng.uniform(0.3, 3, variance), np.ones(one)]
        return made + [normal(rng, *shape) for shape in rest]

    ours = {"type": "BatchNorm", "batch_norm_param": param | {"scale_bias": True}}
    # On a CPU the moving variance is that of the batch with eps, and not the unbiased one as with cuDNN.
    return Case(
        *("scaled_batch_norm", "nvidia", "NVBatchNorm", [x], {"batch_norm_param": param}),
        phase=phase,
        backward=phase == "train",
        params=params,
        ours=ours,
        leave_out=("w_L_1", "gp_L_0", "gp_L_1", "gp_L_2"),
    )


def nvidia() -> Iterator[Case]:
    """What NVIDIA's Caffe has, but its loss (NVIDIA/caffe, branches caffe-0.15 and caffe-0.17)."""
    yield from several(5, detectnet_grid)
    yield from several(4, scaled_batch_norm)


FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {
    "ssd": ssd,
    "refinedet": refinedet,
    "segnet": segnet,
    "ctpn": ctpn,
    "yolo": yolo,
    "ctc": ctc,
    "crfrnn": crfrnn,
    "rfcn": rfcn,
    "losses": losses,
    "sequences": sequences,
    "pspnet": pspnet,
    "nvidia": nvidia,
}
