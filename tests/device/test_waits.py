"""No layer and no solver waits for a GPU, but those in docs/gpu.md: waits are counted on the double of CuPy."""

import pytest

import minicaffe as mc
from minicaffe.core.layer import layer_classes
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver
from minicaffe.testing import layer_net
from minicaffe.train.solver import Solver
from tests import ROOT
from tests.device.in_package import needs_compiler
from tests.golden_files import FOLDER, parts, recorded, recorded_names
from tests.layer_cases import LAYERS, one_layer
from tests.strict_cupy import counting

pytestmark = pytest.mark.usefixtures("double")


# Layers that wait, and why: docs/gpu.md names them.
WAITING = {
    "Filter": "how many images are left is known on the host",
    "DetectionOutput": "boxes are chosen on the host",
    "Proposal": "boxes are chosen on the host",
    "DetectionEvaluate": "detections are compared with boxes on the host",
    "AssistedExcitation": "labels are read on the host",
    "RegionLoss": "labels are read on the host",
    "Yolov3": "labels are read on the host",
    "YoloDetectionOutput": "boxes are chosen on the host",
    "Yolov3DetectionOutput": "boxes are chosen on the host",
    "MultiBoxLoss": "priors are matched and mined on the host",
    "DetectNetTransformation": "pictures are changed on the host",
    "CtcLoss": "labels are read on the host",
    "CTCLoss": "labels are read on the host",
    "WarpCTCLoss": "labels are read on the host",
    "CTCDecoder": "what paths spell is found on the host",
    "CTCGreedyDecoder": "what paths spell is found on the host",
    "LabelsequenceAccuracy": "what paths spell is found on the host",
    "MultiStageMeanfield": "the lattice is built on the host",
    "HDF5Output": "a file is written",
}
NOT_TRIED = {  # data of the host, code of the user, and Split, which nets put in by themselves
    *("AnnotatedData", "Data", "DenseImageData", "DummyData", "HDF5Data", "ImageData", "ImageLabelmapData"),
    *("ImageSegData", "Input", "MemoryData", "WindowData"),
    *("Python", "Split"),
}
FILTERS = "convolution_param: {num_output: 6, kernel_size: 3, weight_filler: {type: xavier}}"
LSTM = "lstm_param: {num_output: 3, weight_filler: {type: xavier}}"
YOLO = "{num_classes: 2, num_box: 1, biases: [1, 1]}"
MORE_LAYERS = [
    ("type: PriorBox, prior_box_param: {min_size: 3, max_size: 5}", [(1, 8, 3, 2), (1, 3, 30, 20)]),
    (
        "type: Proposal, proposal_param: {ratio: 1, scale: [2, 4], post_nms_topn: 5}",
        [(1, 4, 3, 3), (1, 8, 3, 3), (1, 3)],
    ),
    (
        "type: PSROIPooling, psroi_pooling_param: {spatial_scale: 1, output_dim: 2, group_size: 2}",
        [(2, 8, 6, 6), (4, 5)],
    ),
    ("type: ROIPooling, roi_pooling_param: {pooled_h: 2, pooled_w: 2}", [(2, 3, 6, 6), (4, 5)]),
    ("type: Upsample, upsample_param: {scale: 2}", [(2, 3, 4, 5), (2, 3, 4, 5)]),
    ("type: BN, bn_param: {bn_mode: INFERENCE}", [(2, 3, 4, 5)]),
    (
        "type: SoftmaxWithLoss, loss_param: {weight_by_label_freqs: true, class_weighting: [1, 2, 3]}",
        [(4, 3), (4,)],
    ),
    ("type: BatchNorm, batch_norm_param: {scale_bias: true}", [(2, 3, 4, 5)]),
    ("type: SmoothL1Loss", [(3, 4), (3, 4)]),
    ("type: SmoothL1LossOHEM, top: [loss, each]", [(3, 4), (3, 4), (3, 4)]),
    ("type: SoftmaxWithLossOHEM, top: [loss, prob, each]", [(3, 4), (3,)]),
    (
        "type: BoxAnnotatorOHEM, top: [label, weights], box_annotator_ohem_param: {roi_per_img: 2}",
        [(3, 5), (3,), (3,), (3, 8)],
    ),
    ("type: L1Loss", [(3, 4), (3, 4)]),
    ("type: FocalLoss", [(3, 4), (3,)]),
    ("type: DiceCoefLoss", [(3, 4), (3, 4)]),
    ("type: SigmoidCrossEntropyBalanceLoss", [(3, 4), (3, 4)]),
    ("type: CenterLoss, center_loss_param: {num_output: 3}", [(3, 4), (3,)]),
    (
        "type: MarginInnerProduct, margin_inner_product_param: {num_output: 5, type: QUADRUPLE, "
        "weight_filler: {type: xavier}}",
        [(3, 4), (3,)],
    ),
    (
        "type: DetectNetTransformation, top: [a, b], "
        "detectnet_groundtruth_param: {image_size_x: 8, image_size_y: 8}",
        [(1, 3, 9, 7), (1, 1, 2, 16)],
    ),
    (
        "type: DetectionEvaluate, detection_evaluate_param: {num_classes: 3, background_label_id: -1}",
        [(1, 1, 2, 7), (1, 1, 3, 8)],
    ),
    ("type: DetectionOutput, detection_output_param: {num_classes: 3}", [(1, 8), (1, 6), (1, 2, 8)]),
    ("type: Reorg, reorg_param: {stride: 2}", [(2, 4, 2, 4)]),
    ("type: AssistedExcitation", [(2, 3, 4, 5), (2, 3, 5), (2, 4, 5)]),
    ("type: YoloSeg", [(2, 3, 4, 5), (2, 3, 4, 5), (2, 3)]),
    (
        "type: SegmentationEvaluate, segmentation_evaluate_param: {num_classes: 3}",
        [(2, 3, 4, 5), (2, 3, 4, 5)],
    ),
    (
        "type: RegionLoss, region_loss_param: {num_class: 2, num: 1, biases: [1, 1]}",
        [(2, 7, 3, 3), (2, 2, 5)],
    ),
    (
        "type: Yolov3, yolov3_param: {num_class: 2, num: 1, mask: 0, anchors_scale: 8, biases: [8, 8]}",
        [(2, 7, 3, 3), (2, 2, 5)],
    ),
    (f"type: YoloDetectionOutput, yolo_detection_output_param: {YOLO}", [(2, 7, 3, 3)]),
    (
        f"type: Yolov3DetectionOutput, yolov3_detection_output_param: {YOLO[:-1]}, mask: 0, mask_group_num: 1, "
        "anchors_scale: 8}",
        [(2, 7, 3, 3)],
    ),
    (
        "type: MultiBoxLoss, multibox_loss_param: {num_classes: 3}",
        [(1, 8), (1, 6), (1, 2, 8), (1, 1, 0, 8)],
    ),
    ("type: CTCLoss", [(4, 1, 3), (4, 1), (1, 1)]),
    ("type: WarpCTCLoss, ctc_loss_param: {blank_index: 2}", [(4, 1, 3), (1, 2)]),
    ("type: CTCDecoder", [(4, 1, 3)]),
    ("type: CTCGreedyDecoder", [(4, 1, 3), (4, 1)]),
    (
        "type: MultiStageMeanfield, multi_stage_meanfield_param: {num_iterations: 2, theta_alpha: 3, "
        "theta_beta: 2, theta_gamma: 1, spatial_filter_weight: 0.5, bilateral_filter_weight: 0.5}",
        [(2, 3, 5, 4), (2, 3, 5, 4), (2, 3, 5, 4)],
    ),
    (f"type: Lstm, {LSTM}", [(3, 2, 4)]),
    (f"type: Convolution, {FILTERS}, low_rank_param: {{rank: 2, factored: true}}", [(2, 4, 6, 6)]),
    ("type: HDF5Output, top: [], hdf5_output_param: {file_name: PATH}", [(2, 3), (2,)]),
]
CASES = [
    (layer_type, name)
    for layer_type in sorted(path.stem for path in (FOLDER / "layers").glob("*.npz"))
    for name in recorded_names(f"layers/{layer_type}")
]


@needs_compiler
def test_no_layer_waits_for_the_device_or_has_a_product_copy_its_factors(tmp_path):
    waiting, types = {}, set()
    for layer_type, net in waiting_cases(tmp_path):
        types |= {layer_type}
        for blob in net.gradient_starts:
            net.blobs[blob].diff[...] = 1
        with counting() as counts:
            net.run_forward()
            net.run_backward()
        if counts.waits:
            waiting.setdefault(layer_type, counts.places)
        if getattr(net.layers[-1], "group", 1) == 1:  # groups are a stack: its transposed matrices are copied
            assert not counts.product_copies, counts.places
    assert set(waiting) == set(WAITING), waiting
    ours = {name for name, cls in layer_classes.items() if cls.__module__.startswith("minicaffe.")}
    assert types >= ours - NOT_TRIED, ours - NOT_TRIED - types


def waiting_cases(folder):
    """(layer type, a net with it that has run forward)."""
    for layer_type, name in CASES:
        case = recorded(f"layers/{layer_type}")[name]
        try:
            net = mc.Net(parse_net(str(case["net"])), phase=str(case["phase"]).lower(), seed=1)
        except mc.MinicaffeError:
            continue  # what is refused here
        for blob, value in parts(case, "in_").items():
            net.blobs[blob].data[...] = mc.to_device(value)
        net.run_forward()
        yield layer_type, net
    for name in LAYERS:
        net = one_layer(name)
        net.run_forward()
        yield net.layers[-1].type, net
    for layer, shapes in MORE_LAYERS:
        text = layer_net(layer.replace("PATH", str(folder / "out.h5")), shapes)
        net = mc.Net(parse_net(text.replace("force_backward: true\n", "")), phase="train", seed=1)
        net.run_forward()
        yield net.layers[-1].type, net


LOW_RANKS = {"rank: 2": 1, "rank: 2, refresh: 3": 2, "rank: 2, target: data": 2, "rank: 2, factored: true": 0}


@needs_compiler
@pytest.mark.parametrize("low_rank", LOW_RANKS)
def test_a_low_rank_layer_waits_twice_in_a_forward_at_the_most(low_rank):
    layer = f"type: Convolution, {FILTERS}, low_rank_param: {{{low_rank}}}"
    net = mc.Net(parse_net(layer_net(layer, [(2, 4, 6, 6)])), phase="test", seed=1)
    net.run_forward()
    net.run_forward()
    with counting() as counts:
        net.run_forward()
    assert counts.waits == LOW_RANKS[low_rank], counts.places


SMALL_JOB = """layer:
- {name: d, type: Data, top: [data, label], data_param: {source: sample/mnist-train, batch_size: 4}}
- {name: conv, type: Convolution, bottom: data, convolution_param: {num_output: 3, kernel_size: 5, stride: 4,
   weight_filler: {type: xavier}}}
- {name: pool, type: Pooling, pooling_param: {kernel_size: 2, stride: 2}}
- {name: drop, type: Dropout}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 10, weight_filler: {type: xavier}}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
"""
SETTINGS = ["", "clip_gradients: 0.1", "iter_size: 2", "regularization_type: L1", "weight_decay: 0.1"]


@needs_compiler
@pytest.mark.parametrize("rule", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_no_solver_waits_for_the_device(rule, monkeypatch):
    rates = (
        "rms_decay: 0.9"
        if rule == "RMSProp"
        else "momentum: 0.9"
        if rule in ("SGD", "Nesterov", "AdaDelta")
        else ""
    )
    for settings in SETTINGS:
        text = f"net: none\ntype: {rule}\nbase_lr: 0.001\nlr_policy: fixed\n{rates}\n{settings}\n"
        assert_steps_do_not_wait(mc.Solver(parse_solver(text), net=parse_net(SMALL_JOB)), monkeypatch)


@needs_compiler
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_solver_looks_at_its_loss_every_twenty_iterations_and_where_step_ends(monkeypatch):
    text = "net: none\nbase_lr: 1e30\nlr_policy: fixed\n"
    solver = mc.Solver(parse_solver(text), net=parse_net(SMALL_JOB))
    iterations, step = [], Solver._step

    def counted(self, *args):
        with counting() as counts:
            iterations.append(counts)
            step(self, *args)

    monkeypatch.setattr(Solver, "_step", counted)
    with pytest.raises(mc.TrainingError, match="iteration 19: the loss is"):
        solver.step(100)
    solver.close()
    assert [counts.waits for counts in iterations[:19]] == [1] + [0] * 18
    assert len(iterations) == 20


@needs_compiler
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_solver_looks_at_its_loss_before_it_tests():
    text = "net: none\nbase_lr: 1e30\nlr_policy: fixed\ntest_iter: 1\ntest_interval: 5\n"
    solver = mc.Solver(parse_solver(text), net=parse_net(SMALL_JOB))
    with pytest.raises(mc.TrainingError, match="iteration 5: the loss is"):
        solver.step(100)
    solver.close()


def assert_steps_do_not_wait(solver, monkeypatch):
    iterations, step = [], Solver._step

    def counted(self, *args):
        with counting() as counts:
            step(self, *args)
        iterations.append(counts)

    with monkeypatch.context() as patch:
        patch.setattr(Solver, "_step", counted)
        solver.step(3)
    solver.close()
    waits = [counts.waits for counts in iterations]
    assert waits == [1, 0, 0], [counts.places for counts in iterations]  # the first loss is looked at


SOLVER = """net: net.yaml
base_lr: 0.01
momentum: 0.9
weight_decay: 0.0005
lr_policy: inv
gamma: 0.0001
power: 0.75
display: 3
random_seed: 1
"""


@needs_compiler
def test_lenet_trains_without_waiting_between_displays(tmp_path, monkeypatch):
    (tmp_path / "net.yaml").write_text((ROOT / "prototxt" / "lenet" / "train.yaml").read_text())
    (tmp_path / "solver.yaml").write_text(SOLVER)
    iterations, step = [], Solver._step

    def counted(self, *args):
        with counting() as counts:
            step(self, *args)
        iterations.append(counts)

    monkeypatch.setattr(Solver, "_step", counted)
    solver = mc.Solver(tmp_path / "solver.yaml")
    solver.step(6)
    solver.close()
    assert iterations[0].waits and iterations[3].waits, "a display reads the loss"
    for counts in iterations[1:3] + iterations[4:]:
        assert counts.waits == 0 and counts.copies_to_device == 0, counts.places
