"""The losses: gradients against central differences, and what recordings of Caffe cannot show."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.caffe.formats.messages import message_class
from minicaffe.testing import away_from, check_gradients, layer_net
from tests.layer_cases import net_of

SHAPES = [(4, 3), (1, 5), (3,), (2, 3, 2), (2, 2, 3, 1)]


@pytest.mark.parametrize("mode", ["", "FULL", "VALID", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("ignore", ["", "ignore_label: -1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sigmoid_cross_entropy_backward_is_the_derivative_of_forward(mode, ignore, shape, rng):
    fields = ", ".join(filter(None, [ignore, mode and f"normalization: {mode}"]))
    layer = f"type: SigmoidCrossEntropyLoss, loss_weight: 0.7, loss_param: {{{fields}}}"
    targets = rng.random(shape)
    targets.flat[1] = -1 if ignore else 1
    check_gradients(layer, [shape, targets])


def test_sigmoid_cross_entropy_of_huge_scores_is_finite():
    net = net_of("type: SigmoidCrossEntropyLoss", (2, 2), (2, 2))
    out = net.forward(x0=[[1e4, -1e4], [1e4, -1e4]], x1=[[1, 0], [0, 1]])
    assert out["L"] == 1e4  # two scores are right and cost nothing, two are wrong by 1e4; the batch is 2
    net.backward()
    np.testing.assert_array_equal(net.blobs["x0"].diff, [[0, 0], [0.5, -0.5]])


def test_targets_of_another_shape_with_as_many_elements_are_taken_in_the_same_order(rng):
    x, t = rng.standard_normal((2, 3, 2)), rng.random((2, 3, 2))
    for layer in ("type: SigmoidCrossEntropyLoss", "type: EuclideanLoss"):
        same = net_of(layer, (2, 3, 2), (2, 3, 2))
        flat = net_of(layer, (2, 3, 2), (2, 6))
        assert same.forward(x0=x, x1=t)["L"] == flat.forward(x0=x, x1=t.reshape(2, 6))["L"]


@pytest.mark.parametrize("layer", ["SigmoidCrossEntropyLoss", "InfogainLoss"])
def test_a_batch_of_ignored_labels_costs_nothing(layer):
    shapes = [(2, 3), (2, 3)] if layer.startswith("Sigmoid") else [(2, 3), (2,), (3, 3)]
    net = net_of(f"type: {layer}, loss_param: {{ignore_label: 255, normalization: VALID}}", *shapes)
    inputs = {f"x{i}": np.full(shape, 255.0) for i, shape in enumerate(shapes)}
    assert net.forward(**inputs)["L"] == 0
    net.backward()
    assert not net.blobs["x0"].diff.any()


@pytest.mark.parametrize("shape", SHAPES)
def test_euclidean_backward_is_the_derivative_of_forward(shape):
    layer = "type: EuclideanLoss, loss_weight: 1.3"
    net = check_gradients(layer, [shape, shape])
    np.testing.assert_array_equal(net.blobs["x0"].diff, -net.blobs["x1"].diff)


def test_euclidean_gives_no_gradient_where_propagate_down_is_false():
    net = net_of("type: EuclideanLoss, propagate_down: [false, true]", (2, 3), (2, 3))
    net.forward(x0=np.ones((2, 3)), x1=np.zeros((2, 3)))
    reached = net.backward()
    assert list(reached) == ["x1"]
    np.testing.assert_array_equal(reached["x1"], np.full((2, 3), -0.5))


@pytest.mark.parametrize("norm", ["L1", "L2"])
@pytest.mark.parametrize("shape", [(4, 3), (1, 5), (3, 2, 2), (2, 2, 3, 1)])
def test_hinge_backward_is_the_derivative_of_forward(norm, shape, rng):
    x = away_from([-1, 1], rng.standard_normal(shape))
    labels = rng.integers(0, np.prod(shape[1:]), shape[0])
    layer = f"type: HingeLoss, hinge_loss_param: {{norm: {norm}}}"
    check_gradients(layer, [x, labels])


@pytest.mark.parametrize(
    ("shape", "labels"), [((4, 3), (4,)), ((1, 5), (1, 1)), ((3, 2, 2, 1), (3, 1, 1, 1))]
)
def test_multinomial_logistic_backward_is_the_derivative_of_forward(shape, labels, rng):
    p = 0.1 + rng.random(shape)
    y = rng.integers(0, np.prod(shape[1:]), labels)
    check_gradients("type: MultinomialLogisticLoss", [p, y])


def test_multinomial_logistic_of_probability_zero_is_finite():
    net = net_of("type: MultinomialLogisticLoss", (1, 2), (1,))
    assert net.forward(x0=[[0, 1]], x1=[0])["L"] == pytest.approx(-np.log(1e-20))


@pytest.mark.parametrize("mode", ["FULL", "VALID", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("ignore", ["", ", ignore_label: 1"])
@pytest.mark.parametrize(
    ("shape", "labels", "axis"),
    [((4, 3), (4,), 1), ((2, 3, 2, 2), (2, 1, 2, 2), 1), ((2, 2, 4), (2, 2), -1), ((2, 2), (2,), 0)],
)
def test_infogain_backward_is_the_derivative_of_forward(mode, ignore, shape, labels, axis, rng):
    layer = (
        f"type: InfogainLoss, loss_weight: 0.7, infogain_loss_param: {{axis: {axis}}}, "
        f"loss_param: {{normalization: {mode}{ignore}}}"
    )
    classes = shape[axis]
    y = rng.integers(0, classes, labels)
    y.flat[0], y.flat[1] = 0, 1
    matrix = rng.standard_normal((1, 1, classes, classes))
    check_gradients(layer, [shape, y, matrix], by=["x0"])


def test_infogain_with_the_identity_is_softmax_with_loss(rng):
    x, y = rng.standard_normal((4, 3)), [0, 2, 1, 1]
    softmax = net_of("type: SoftmaxWithLoss", (4, 3), (4,))
    infogain = net_of("type: InfogainLoss, top: [loss, prob]", (4, 3), (4,), (3, 3))
    expected = softmax.forward(x0=x, x1=y)["L"]
    out = infogain.forward(x0=x, x1=y, x2=np.eye(3))
    assert out["loss"] == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_allclose(out["prob"].sum(axis=1), 1, rtol=1e-6)
    softmax.backward(), infogain.backward()
    np.testing.assert_allclose(infogain.blobs["x0"].diff, softmax.blobs["x0"].diff, atol=1e-7)


def test_infogain_takes_the_row_of_the_label(rng):
    matrix = rng.random((3, 3))
    loss = net_of("type: InfogainLoss", (1, 3), (1,), (3, 3)).forward(x0=[[0, 0, 0]], x1=[2], x2=matrix)["L"]
    assert loss == pytest.approx(matrix[2].sum() * np.log(3), rel=1e-6)


@pytest.mark.parametrize("file", ["h.npy", "h.npz", "h.binaryproto"])
def test_infogain_reads_its_matrix_from_a_file_beside_the_spec(file, tmp_path, make_net, rng):
    matrix, x, y = rng.random((3, 3)), rng.standard_normal((4, 3)), [0, 2, 1, 1]
    path = tmp_path / file
    if file == "h.npy":
        np.save(path, matrix)
    elif file == "h.npz":
        np.savez(path, H=matrix)
    else:
        pytest.importorskip("google.protobuf")
        blob = message_class("BlobProto")()
        blob.num = blob.channels = 1
        blob.height = blob.width = 3
        blob.data.extend(matrix.reshape(-1))
        path.write_bytes(blob.SerializeToString())
    spec = tmp_path / "net.yaml"
    spec.write_text(layer_net(f"type: InfogainLoss, infogain_loss_param: {{source: {file}}}", [(4, 3), (4,)]))
    from_file = mc.Net(spec).forward(x0=x, x1=y)["L"]
    from_bottom = net_of("type: InfogainLoss", (4, 3), (4,), (3, 3)).forward(x0=x, x1=y, x2=matrix)["L"]
    assert from_file == from_bottom


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "no such infogain matrix"), (b"not numpy", "not a matrix"), ((2, 2), r"expected 3 × 3")],
)
def test_a_matrix_file_that_does_not_serve_is_an_error_that_names_it(content, problem, tmp_path):
    spec = tmp_path / "net.yaml"
    spec.write_text(layer_net("type: InfogainLoss, infogain_loss_param: {source: h.npy}", [(4, 3), (4,)]))
    if isinstance(content, bytes):
        (tmp_path / "h.npy").write_bytes(content)
    elif content:
        np.save(tmp_path / "h.npy", np.ones(content))
    with pytest.raises(mc.MinicaffeError, match=f"net.yaml:.*layer 'L'.*{problem}"):
        mc.Net(spec)


@pytest.mark.parametrize("legacy", ["false", "true"])
@pytest.mark.parametrize("shape", [(5, 3), (1, 4), (4, 2, 1, 1), (3, 2, 2)])
def test_contrastive_backward_is_the_derivative_of_forward(legacy, shape, rng):
    a, b = 0.3 * rng.standard_normal((2, *shape))
    a[2:3] += 4  # beyond the margin
    similar = np.arange(shape[0]) % 3 == 1
    layer = f"type: ContrastiveLoss, contrastive_loss_param: {{margin: 3, legacy_version: {legacy}}}"
    # Caffe divides by D + 1e-4: its gradient is the derivative but for this
    tolerance = 1e-6 if legacy == "true" else 1e-3
    net = check_gradients(layer, [a, b, similar], by=["x0", "x1"], tolerance=tolerance)
    np.testing.assert_array_equal(net.blobs["x0"].diff, -net.blobs["x1"].diff)


def test_contrastive_leaves_dissimilar_pairs_beyond_the_margin_alone():
    net = net_of("type: ContrastiveLoss", (2, 2), (2, 2), (2,))
    out = net.forward(x0=[[3, 4], [3, 4]], x1=np.zeros((2, 2)), x2=[0, 1])
    net.backward()
    assert out["L"] == 25 / 4
    np.testing.assert_array_equal(net.blobs["x0"].diff, [[0, 0], [1.5, 2]])


def test_contrastive_of_two_equal_points_has_a_finite_gradient():
    net = net_of("type: ContrastiveLoss", (1, 2), (1, 2), (1,))
    net.forward(x0=np.ones((1, 2)), x1=np.ones((1, 2)), x2=[0])
    net.backward()
    np.testing.assert_array_equal(net.blobs["x0"].diff, np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("layer", "shapes", "reached"),
    [
        ("EuclideanLoss", [(2, 3), (2, 3)], ["x0", "x1"]),
        ("ContrastiveLoss", [(2, 3), (2, 3), (2,)], ["x0", "x1"]),
        ("InfogainLoss", [(2, 3), (2,), (3, 3)], ["x0"]),
        ("HingeLoss", [(2, 3), (2,)], ["x0"]),
    ],
)
def test_force_backward_asks_for_no_gradient_of_labels(layer, shapes, reached):
    net = net_of(f"type: {layer}", *shapes)
    net.forward()
    assert list(net.backward()) == reached


LOSSES = {
    "type: SigmoidCrossEntropyLoss": lambda n: [(n, 3), (n, 3)],
    "type: EuclideanLoss": lambda n: [(n, 3), (n, 3)],
    "type: HingeLoss": lambda n: [(n, 3), (n,)],
    "type: MultinomialLogisticLoss": lambda n: [(n, 3), (n,)],
    "type: InfogainLoss": lambda n: [(n, 3), (n,), (3, 3)],
    "type: ContrastiveLoss": lambda n: [(n, 3), (n, 3), (n,)],
}


@pytest.mark.parametrize("layer", LOSSES)
def test_a_loss_net_reshaped_and_back_gives_the_same_numbers_and_stays_float32(layer, rng):
    def run(n, inputs):
        for name, value in inputs.items():
            net.blobs[name].reshape(*value.shape)
        net.reshape()
        out = net.forward(**inputs)["L"]
        net.backward()
        assert out.dtype == np.float32
        assert net.blobs["x0"].diff.shape == (n, 3)
        return out, net.blobs["x0"].diff.copy()

    net = net_of(layer, *LOSSES[layer](4))
    first = {
        f"x{i}": rng.random(s) if len(s) > 1 else rng.integers(0, 2, s)
        for i, s in enumerate(LOSSES[layer](4))
    }
    small = {name: value[:2] if name != "x2" or len(value) == 4 else value for name, value in first.items()}
    loss, gradient = run(4, first)
    other, _ = run(2, small)
    again, gradient_again = run(4, first)
    assert loss == again != other
    np.testing.assert_array_equal(gradient, gradient_again)


def test_losses_of_a_float32_net_keep_float32_inside():
    for layer, shapes in LOSSES.items():
        net = net_of(layer, *shapes(4))
        net.run_forward()
        arrays = [
            a for a in vars(net.layers[-1]).values() if isinstance(a, np.ndarray) and a.dtype.kind == "f"
        ]
        assert all(a.dtype == np.float32 for a in arrays), layer


@pytest.mark.parametrize(
    ("layer", "shapes", "problem"),
    [
        ("type: EuclideanLoss", [(2, 3), (2, 4)], "differ in size"),
        ("type: EuclideanLoss", [(2, 3), (3, 2)], "batch sizes"),
        ("type: SigmoidCrossEntropyLoss", [(2, 3), (2,)], "differ in size"),
        ("type: HingeLoss, hinge_loss_param: {norm: L3}", [(2, 3), (2,)], "expected one of L1, L2"),
        ("type: InfogainLoss", [(2, 3), (2,)], "source: required"),
        ("type: InfogainLoss", [(2, 3), (2,), (3, 2)], "expected 3 × 3"),
        ("type: InfogainLoss, loss_param: {normalize: true}", [(2, 3), (2,), (3, 3)], "use 'normalization'"),
        ("type: ContrastiveLoss", [(2, 3), (2, 3), (2, 2)], "4 labels .* for 2 pairs"),
    ],
)
def test_a_wrong_loss_is_an_error_at_its_layer(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)


@pytest.mark.cpu_only("a GPU would have to wait for it")
@pytest.mark.parametrize("layer", ["HingeLoss", "MultinomialLogisticLoss"])
def test_a_label_that_is_no_class_is_an_error(layer):
    net = net_of(f"type: {layer}", (2, 3), (2,))
    with pytest.raises(mc.DataError, match="layer 'L': labels from 1 to 3, but there are 3 classes"):
        net.forward(x0=np.ones((2, 3)), x1=[1, 3])
