"""Which layers can be of low rank, what their weights are, and what ``minicaffe lowrank errors`` prints of them."""

import re

import numpy as np
import pytest

from minicaffe.cli.program import main
from minicaffe.compress.survey import MatrixLayer, input_moments, matrix_layer
from minicaffe.compress.ways import WAYS
from minicaffe.compress.workbench import calibration_batches
from minicaffe.core.net import Net
from minicaffe.device.array import to_device, to_host
from minicaffe.files.spec_formats import load_net
from minicaffe.low_rank.products import product_of_rank
from minicaffe.ops.convolution.geometry import Window
from minicaffe.ops.convolution.reference import im2col
from minicaffe.spec.net import parse_net
from minicaffe.train.progress import Progress
from tests.compress.lenet_cases import rewrite, run, with_ranks

CONV = "type: Convolution, convolution_param: {num_output: 6, kernel_size: 3"
# what a layer's spec says after its name: the layer's g, m, k, or why it is left out
LAYERS = {
    f"{CONV}}}": (1, 6, 36),
    f"{CONV}, group: 2, bias_term: false}}": (2, 3, 18),
    "type: InnerProduct, inner_product_param: {num_output: 5, transpose: true}": (1, 5, 120),
    f"{CONV}}}, low_rank_param: {{rank: 2, scheme: spatial}}": (1, 6, 36),
    f"{CONV}}}, low_rank_param: {{rank: 4, target: data}}": (1, 6, 36),
    "type: Convolution, convolution_param: {num_output: 4, kernel_size: 3, group: 4}": "depthwise",
    "type: Convolution, convolution_param: {num_output: 1, kernel_size: 3}": "one row or one column",
    "type: InnerProduct, inner_product_param: {num_output: 5, axis: 2}": "its axis is not 1",
    "type: Deconvolution, convolution_param: {num_output: 4, kernel_size: 3}": "a Deconvolution takes",
    "type: ReLU": "no product",
}


@pytest.mark.parametrize("text", LAYERS)
def test_a_layer_is_a_matrix_or_there_is_a_reason(text):
    fillers = "weight_filler: {type: xavier}, bias_filler: {type: constant, value: 1}"
    expected = LAYERS[text]
    filled = text.replace("num_output", f"{fillers}, num_output")
    net = Net(parse_net(
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [2, 4, 6, 5]}}}\n"
        f"- {{name: y, bottom: x, {filled}}}\n"
    ), seed=1)  # fmt: skip
    layer = matrix_layer(net.steps[-1])
    if isinstance(expected, str):
        assert isinstance(layer, str) and expected in layer
        return
    assert isinstance(layer, MatrixLayer)
    assert layer.weights.shape == expected
    assert (layer.bias is None) == ("bias_term: false" in text)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 4, 6, 5)).astype(np.float32)
    found = input_moments(net, [layer], [{"x": to_device(x)}])["y"]
    answers = layer.weights @ found.x_mean[..., None]
    if "low_rank" not in text:  # the weights are those that the layer computes with
        bias = 0 if layer.bias is None else layer.bias.reshape(answers.shape)
        mean = net.blobs["y"].data.reshape(
            2, len(layer.weights), layer.weights.shape[1], layer.product.geometry.columns // 2
        )
        np.testing.assert_allclose((answers + bias)[..., 0], mean.mean((0, 3)), rtol=1e-4)
    low = {"rank: 2": (2, "spatial"), "rank: 4": (4, "data")}
    known = [value for key, value in low.items() if key in text]
    assert (layer.rank, layer.way) == (known[0] if known else (None, None))


def test_without_a_bias_nothing_makes_up_for_means():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((8, 4, 6, 5)).astype(np.float32) + 1
    head = "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [8, 4, 6, 5]}}}\n"
    filled = CONV.replace("num_output", "weight_filler: {type: xavier}, num_output")
    found = {}
    for term in ("true", "false"):
        text = f"{head}- {{name: y, bottom: x, {filled}, bias_term: {term}}}}}\n"
        net = Net(parse_net(text), seed=1)
        layer = matrix_layer(net.steps[-1])
        moments_of_x = input_moments(net, [layer], [{"x": to_device(x)}])["y"]
        directions = layer.directions("fitted", moments_of_x)
        found[term] = (
            directions.response_errors[2],
            layer.bias_change("fitted", moments_of_x, directions, 2),
        )
    assert found["true"][0] < found["false"][0]
    assert abs(to_host(found["true"][1])).max() > 0 == abs(to_host(found["false"][1])).max()


def test_cost_of_a_rank_is_that_of_the_layer_that_would_run(folder):
    net = Net("net.yaml", weights="lenet.npz")
    layer = next(matrix_layer(step) for step in net.steps if step.layer.name == "conv2")
    dense = layer.product.geometry.multiply_adds
    assert layer.break_even == 50 * 500 // 550
    for rank in (1, layer.break_even, layer.break_even + 1, 50):
        assert min(dense, rank * layer.cost_of_rank) == product_of_rank(
            layer.product, layer.scheme, rank
        ).multiply_adds  # fmt: skip


def test_layers_of_low_rank_have_the_weights_that_they_approximate_or_the_product_of_their_factors(folder):
    with_ranks(folder, conv2="rank: 12", ip1="rank: 20, factored: true")
    net, dense = Net("low.yaml", weights="lenet.npz"), Net("net.yaml", weights="lenet.npz")
    conv2, ip1 = (matrix_layer(s) for s in net.steps if s.layer.name in ("conv2", "ip1"))
    assert (conv2.rank, conv2.way, conv2.factored) == (12, "weights", False)
    assert (ip1.rank, ip1.way, ip1.factored) == (20, "weights", True)
    np.testing.assert_allclose(conv2.weights[0], dense.params["conv2"][0].data.reshape(50, 500))
    assert np.linalg.matrix_rank(ip1.weights[0], tol=1e-4) == 20


@pytest.mark.parametrize("term", ["true", "false"])
@pytest.mark.parametrize("way", WAYS)
def test_errors_on_other_images_are_those_of_the_factors_that_were_found(way, term):
    filled = CONV.replace("num_output", f"weight_filler: {{type: xavier}}, bias_term: {term}, num_output")
    net = Net(parse_net(
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [8, 4, 6, 5]}}}\n"
        f"- {{name: y, bottom: x, {filled}}}}}\n"
    ), seed=1)  # fmt: skip
    layer, rng = matrix_layer(net.steps[-1]), np.random.default_rng(1)
    xs = [rng.standard_normal((8, 4, 6, 5)).astype(np.float32) + 1 for _ in range(2)]
    fitted, seen = (input_moments(net, [layer], [{"x": to_device(x)}])["y"] for x in xs)
    found = layer.directions(way, fitted)
    columns = im2col(np.moveaxis(xs[1], 0, -1).astype("f8"), Window((3, 3)))
    for rank in (1, 4):
        own = layer.error(way, found, rank, fitted, fitted)
        assert own == pytest.approx(float(found.response_errors[rank]), rel=1e-6)
        kept, w = to_host(found.vectors[0, :, :rank]), to_host(layer.weights[0]).astype("f8")
        approximated = w @ kept @ kept.T if way == "data" else kept @ kept.T @ w
        shift = to_host(layer.bias_change(way, fitted, found, rank))[:, None]
        exact = w @ columns
        expected = np.linalg.norm(exact - approximated @ columns - shift) / np.linalg.norm(exact)
        assert layer.error(way, found, rank, fitted, seen) == pytest.approx(expected, rel=1e-5)
        assert abs(expected / own - 1) > 1e-3


def test_the_pass_over_the_batches_says_how_far_it_is(folder, caplog, monkeypatch):
    caplog.set_level("INFO", "minicaffe")
    monkeypatch.setattr(Progress, "EVERY", 0)
    net = Net("net.yaml", weights="lenet.npz", seed=0)
    layer = next(matrix_layer(step) for step in net.steps if step.layer.name == "conv1")
    input_moments(net, [layer], calibration_batches(load_net("net.yaml"), 2))
    assert "50 of 100 % of the covariances" in caplog.text


def test_errors_prints_the_three_errors_at_each_rank(folder, capsys):
    arguments = ["--weights", "lenet.npz", "--layers", "conv2", "--ranks", "12,50%", "--calibration", "2"]
    _, *lines, said = run(capsys, "lowrank", "errors", "net.yaml", *arguments).splitlines()
    printed = [line.split() for line in lines]
    assert printed[0] == ["layer", "rank", "of", *WAYS, "multiply-adds"]
    assert [row[:3] for row in printed[2:]] == [["conv2", "12", "50"], ["conv2", "25", "50"]]
    net = Net("net.yaml", weights="lenet.npz", seed=0)
    layer = next(matrix_layer(step) for step in net.steps if step.layer.name == "conv2")
    batches = calibration_batches(load_net("net.yaml"), 4)
    fitted, seen = (input_moments(net, [layer], part)["conv2"] for part in (batches[:2], batches[2:]))
    errors = [layer.error(way, layer.directions(way, fitted), 12, fitted, seen) for way in WAYS]
    assert printed[2][3:] == [f"{e:.3f}" for e in (*errors, 12 * 550 / 25000)]
    assert errors[2] < errors[1] < errors[0]  # LeNet: what must be kept is the answers
    assert said == "Fitted to 32 training images, and measured on 32 others."


def test_errors_of_the_images_that_are_fitted_to_are_said_to_be_that(folder, capsys):
    rewrite("net.yaml", ("batch_size: 16", "batch_size: 500"))  # of 640
    arguments = ["--weights", "lenet.npz", "--layers", "conv2,ip1", "--calibration", "1"]
    said = run(capsys, "lowrank", "errors", "net.yaml", *arguments)
    assert "Fitted to 500 training images, and measured on the same." in said
    assert said.count("too few") == 1
    assert (
        "ip1: the errors are those of the images that factors are fitted to, which are too few to say anything of "
        "others (500 columns of 800 rows); give less with --calibration, or more training data"
    ) in said


def test_errors_says_where_a_rank_is_none_of_the_layer_or_saves_no_work(folder, capsys):
    arguments = ["--weights", "lenet.npz", "--layers", "conv1", "--ranks", "12,99,1.0", "--calibration", "1"]
    said = run(capsys, "lowrank", "errors", "net.yaml", *arguments)
    assert "conv1: above rank 11 two factors are no less work than the layer" in said  # 20 · 25 / (20 + 25)
    assert "conv1: no rank is above 20, its full rank, which is shown" in said
    assert re.findall(r"^conv1 +(\d+)", said, re.MULTILINE) == ["12", "20"]  # 1.0 is all of it


@pytest.mark.parametrize(
    ("layers", "problem"),
    [("pool1", "layer 'pool1': no product of weights"), ("conv3", "has no layer 'conv3'.*did you mean")],
)
def test_errors_of_a_layer_that_is_none(folder, capsys, layers, problem):
    assert main(["lowrank", "errors", "net.yaml", "--weights", "lenet.npz", "--layers", layers]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert re.search(problem, error)
