"""Batches of no images, and other blobs without an element: nothing is computed, and gradients are 0."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core.layer import layer_classes
from minicaffe.device.array import to_host
from minicaffe.errors import MinicaffeError
from minicaffe.spec.net import parse_net
from tests.layer_cases import LAYERS
from tests.security import spec_fuzz

BATCHED = [name for name, (_, shapes) in LAYERS.items() if len({shape[0] for shape in shapes}) == 1]


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_of_no_images_runs_or_is_one_line(name):
    layer, shapes = LAYERS[name]
    lines = [
        f"- {{name: x{i}, type: Input, input_param: {{shape: {{dim: {[0, *shape[1:]]}}}}}}}"
        for i, shape in enumerate(shapes)
    ]
    bottoms = ", ".join(f"x{i}" for i in range(len(shapes)))
    text = "\n".join(
        ["force_backward: true", "layer:", *lines, f"- {{name: L, bottom: [{bottoms}], {layer}}}"]
    )
    try:
        net = mc.Net(parse_net(text), phase="train", seed=1)
    except MinicaffeError:
        return
    net.forward()
    for top in net.gradient_starts:
        net.blobs[top].diff[...] = 1
    net.backward()
    for blobs in net.params.values():
        for blob in blobs:
            assert np.isfinite(to_host(blob.data)).all()
            assert not to_host(blob.diff).any()


def test_the_gradient_of_what_only_an_empty_top_came_from_is_0(make_net):
    net = make_net(
        "force_backward: true\nlayer:\n- {name: x, type: Input, input_param: {shape: {dim: [2, 3, 4]}}}\n"
        "- {name: y, type: Tile, tile_param: {axis: 1, tiles: 1}}\n"
        "- {name: c, type: Crop, bottom: [y, r], top: c, crop_param: {axis: 1}}".replace(
            "- {name: y", "- {name: r, type: Input, input_param: {shape: {dim: [2, 0, 4]}}}\n- {name: y", 1
        ).replace("type: Tile,", "type: Tile, bottom: x,")
    )
    net.blobs["x"].diff[...] = 7
    net.forward()
    net.blobs["c"].diff[...] = 1
    net.backward()
    assert net.blobs["c"].shape == (2, 0, 4)
    assert not to_host(net.blobs["x"].diff).any()


def test_an_empty_blob_beyond_reason_is_one_line(make_net):
    with pytest.raises(
        MinicaffeError, match=r"layer 'y': blob shape \(0, 7000000000\): more than 2147483647"
    ):
        make_net(
            "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [0, 7]}}}\n"
            "- {name: y, type: Tile, tile_param: {axis: 1, tiles: 1000000000}}\n"
        )


def test_a_layer_without_bottoms_and_one_that_always_reshapes_run_all_the_same():
    calls = []

    class Seen(mc.Layer):
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)

        def forward(self, bottom, top):
            calls.append(self.name)

    try:
        mc.register_layer("SeenLayer", Seen)
        text = "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [0, 3]}}}\n- {name: y, type: SeenLayer}"
        net = mc.Net(parse_net(text))
        net.forward()
        assert calls == []
        net.layers[-1].reshapes_always = True
        net.forward()
        assert calls == ["y"]
    finally:
        layer_classes.pop("SeenLayer")


@pytest.mark.cpu_only("children compute on the CPU")
def test_random_nets_run_or_are_refused_with_one_line():
    found = list(spec_fuzz.fuzz(240, first=0, batch=240))
    assert [line for line in found if line.startswith("seed")] == []
    assert sum(line == "ran" for line in found) > 60


@pytest.mark.filterwarnings("ignore:invalid value")  # a mean of nothing is nan, as in Caffe
@pytest.mark.parametrize(
    ("shapes", "layer"),
    [
        ([[]], "type: ArgMax"),
        ([[]], "type: Permute, permute_param: {order: []}"),
        ([[0, 3], [0]], "type: SoftmaxWithLoss"),
        ([[0, 0], [0]], "type: MultinomialLogisticLoss"),
        ([[0, 0], [0]], "type: Accuracy"),
        ([[2, 0], [2]], "type: SoftmaxWithLoss"),
        ([[2, 0], [2, 0], [1, 2, 0]], "type: DetectionOutput, detection_output_param: {num_classes: 2}"),
        (
            [[0, 8], [0, 6], [1, 2, 8], [1, 1, 0, 8]],
            "type: MultiBoxLoss, multibox_loss_param: {num_classes: 3}",
        ),
        ([[2, 0, 3]], "type: Softmax"),
        ([[2, 0]], "type: InnerProduct, inner_product_param: {num_output: 3}"),
        ([[2, 0, 3]], "type: Reduction, reduction_param: {axis: 1, operation: MEAN}"),
        ([[0, 3], [0, 3]], "type: L1Loss"),
        ([[0, 3], [0]], "type: FocalLoss"),
        ([[0, 3], [0, 3]], "type: DiceCoefLoss"),
        ([[2, 0], [2, 0]], "type: DiceCoefLoss"),
        ([[0, 3], [0, 3]], "type: SigmoidCrossEntropyBalanceLoss"),
        ([[2, 0], [2, 0]], "type: SigmoidCrossEntropyBalanceLoss"),
        ([[0, 3], [0]], "type: CenterLoss, center_loss_param: {num_output: 2}"),
        ([[2, 0], [2]], "type: CenterLoss, center_loss_param: {num_output: 2}"),
        ([[0, 3], [0]], "type: MarginInnerProduct, top: [y, z], margin_inner_product_param: {num_output: 2}"),
        ([[0, 3, 4, 4], [0, 16]], "type: DetectNetTransformation, top: [y, z]"),
        ([[2, 3], [2, 3]], "type: SmoothL1Loss, smooth_l1_loss_param: {sigma: 1e300}"),
    ],
)
def test_what_has_no_elements_runs_or_is_one_line(shapes, layer):
    lines = [
        f"- {{name: x{i}, type: Input, input_param: {{shape: {{dim: {shape}}}}}}}"
        for i, shape in enumerate(shapes)
    ]
    bottoms = ", ".join(f"x{i}" for i in range(len(shapes)))
    try:
        net = mc.Net(parse_net("\n".join(["layer:", *lines, f"- {{name: L, bottom: [{bottoms}], {layer}}}"])))
        net.forward()
    except MinicaffeError as error:
        assert str(error).startswith("<string>:")
