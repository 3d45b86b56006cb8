"""MultiStageMeanfield: against the authors' CRF code, its formula written out, and central differences."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.device.array import Device, to_host
from minicaffe.ops.permutohedral import lattice_of
from minicaffe.testing import check_gradients
from tests.golden_files import recorded, recorded_names
from tests.layer_cases import net_of

THETAS = "theta_alpha: 4, theta_beta: 1.5, theta_gamma: 2"


def field(more="", iterations=3, thetas=THETAS):
    param = f"num_iterations: {iterations}, {thetas}{more}"
    return f"type: MultiStageMeanfield, multi_stage_meanfield_param: {{{param}}}"


def shapes_of(n, c, h, w):
    return [(n, c, h, w), (n, c, h, w), (n, 3, h, w)]


def softmax(x):
    e = np.exp(x - x.max(axis=0))
    return e / e.sum(axis=0)


@pytest.mark.parametrize("name", recorded_names("meanfield"))
def test_labels_are_those_of_the_authors_crf(name):
    case = recorded("meanfield")[name]
    iterations, gamma, alpha, beta, spatial, bilateral = case["settings"]
    thetas = f"theta_gamma: {gamma}, theta_alpha: {alpha}, theta_beta: {beta}"
    weights = f", spatial_filter_weight: {spatial}, bilateral_filter_weight: {bilateral}"
    scores, image = case["scores"][None], case["image"][None]
    net = net_of(field(weights, int(iterations), thetas), scores.shape, scores.shape, image.shape)
    y = net.forward(x0=scores, x1=scores, x2=image)["L"]
    np.testing.assert_allclose(softmax(np.float64(to_host(y[0]))), case["q"], atol=2e-6)


def test_forward_is_the_formula_with_any_parameters_and_for_each_image(rng):
    shapes = shapes_of(2, 3, 5, 4)
    net = net_of(field(), *shapes, dtype="float64")
    u, first, image = (rng.standard_normal(shape) for shape in shapes)
    w_s, w_b, k = (rng.standard_normal((3, 3)) for _ in range(3))
    for blob, matrix in zip(net.params["L"], (w_s, w_b, k), strict=True):
        blob.data[0, 0] = net.setting.device.put(matrix)
    y = net.forward(x0=u, x1=first, x2=image)["L"]
    rows, columns = np.divmod(np.arange(20), 4)
    places = np.stack([columns, rows], axis=1)
    for n in range(2):
        near = np.concatenate([places / 4, image[n].reshape(3, 20).T / 1.5], axis=1)
        filters = []
        for points in (places / 2, near):
            lattice = lattice_of(points, Device())
            filters.append(lambda q, a=lattice: a.filtered(q) / a.filtered(np.ones((1, 20))))
        x = first[n].reshape(3, 20)
        for _ in range(3):
            q = softmax(x)
            x = u[n].reshape(3, 20) - k @ (w_s @ filters[0](q) + w_b @ filters[1](q))
        np.testing.assert_allclose(y[n].reshape(3, 20), x, rtol=1e-10)


@pytest.mark.parametrize(("shape", "iterations"), [((1, 2, 3, 5), 2), ((2, 2, 3, 2), 3), ((1, 4, 1, 7), 2)])
def test_backward_is_the_derivative_of_forward(shape, iterations):
    weights = ", spatial_filter_weight: 0.7, bilateral_filter_weight: 0.6"
    net = check_gradients(field(weights, iterations), shapes_of(*shape), by=["x0", "x1"])
    assert not net.blobs["x2"].has_diff


def test_frozen_parameters_get_no_gradient(rng):
    layer = field() + ", param: [{lr_mult: 0}, {lr_mult: 0}]"
    net = net_of(layer, *shapes_of(1, 2, 3, 3))
    net.forward(**{f"x{i}": rng.standard_normal(s) for i, s in enumerate(shapes_of(1, 2, 3, 3))})
    net.backward(L=np.ones((1, 2, 3, 3)))
    assert [blob.has_diff for blob in net.params["L"]] == [False, False, True]


def test_parameters_begin_as_diagonals(rng):
    more = ', spatial_filter_weight: 3, bilateral_filter_weights_str: "5 4.5 4"'
    blobs = net_of(field(more), *shapes_of(1, 3, 2, 2)).params["L"]
    assert [blob.shape for blob in blobs] == [(1, 1, 3, 3)] * 3
    for blob, diagonal in zip(blobs, ([3, 3, 3], [5, 4.5, 4], [-1, -1, -1]), strict=True):
        np.testing.assert_array_equal(to_host(blob.data)[0, 0], np.diag(diagonal))
    one = net_of(field(", spatial_filter_weights_str: 2"), *shapes_of(1, 3, 2, 2)).params["L"][0]
    np.testing.assert_array_equal(to_host(one.data)[0, 0], 2 * np.eye(3))


def test_another_size_of_image_gets_another_lattice(rng):
    net, other = (net_of(field(), *shapes_of(1, 2, *size)) for size in ((3, 4), (5, 2)))
    inputs = {f"x{i}": rng.standard_normal(s) for i, s in enumerate(shapes_of(1, 2, 5, 2))}
    for name, value in inputs.items():
        net.blobs[name].reshape(*value.shape)
    np.testing.assert_array_equal(net.forward(**inputs)["L"], other.forward(**inputs)["L"])


def test_pixels_of_one_colour_get_one_label(rng):
    """What it is for: scores with noise, and an image whose two halves differ."""
    image = np.zeros((1, 3, 12, 12))
    image[..., 6:] = 200
    truth = (image[0, 0] > 0).astype(int)
    scores = np.stack([1 - truth, truth])[None] + 1.5 * rng.standard_normal((1, 2, 12, 12))
    weights, thetas = (
        ", spatial_filter_weight: 1, bilateral_filter_weight: 12",
        "theta_alpha: 20, theta_beta: 10",
    )
    net = net_of(field(weights, 5, f"{thetas}, theta_gamma: 1"), *shapes_of(1, 2, 12, 12))
    y = net.forward(x0=scores, x1=scores, x2=image)["L"]
    assert (scores[0].argmax(axis=0) != truth).sum() > 20
    assert (to_host(y[0]).argmax(axis=0) == truth).all()


def test_the_first_generation_of_files_has_its_own_name_for_it(tmp_path):
    (tmp_path / "n.prototxt").write_text(
        'input: "s" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 3 '
        'input: "i" input_dim: 1 input_dim: 3 input_dim: 3 input_dim: 3\n'
        'layers { name: "split" type: SPLIT bottom: "s" top: "u" top: "q" }\n'
        'layers { name: "crf" type: MULTI_STAGE_MEANFIELD bottom: "u" bottom: "q" bottom: "i" top: "y" blobs_lr: 9 '
        "multi_stage_meanfield_param { num_iterations: 10 compatibility_mode: POTTS threshold: 2 theta_alpha: 160 "
        "theta_beta: 3 theta_gamma: 3 spatial_filter_weight: 3 bilateral_filter_weight: 5 } }"
    )
    net = mc.Net(str(tmp_path / "n.prototxt"), phase="test")
    assert net.layers[-1].type == "MultiStageMeanfield" and net.forward()["y"].shape == (1, 2, 3, 3)


WRONG = [
    (field(iterations=1), shapes_of(1, 2, 3, 3), "num_iterations: 1"),
    (field(thetas="theta_alpha: 1, theta_beta: 1"), shapes_of(1, 2, 3, 3), "theta_gamma: required"),
    (field(", compatibility_mode: LEARNED"), shapes_of(1, 2, 3, 3), "compatibility_mode"),
    (
        field(),
        [(1, 2, 3, 3), (1, 2, 3, 3), (1, 1, 3, 3)],
        r"expected scores \(N, C, H, W\) twice, and images",
    ),
    (field(), [(1, 2, 3, 3), (1, 2, 3, 4), (1, 3, 3, 3)], "bottoms have shapes"),
    (field(", spatial_filter_weights_str: '1 2 3'"), shapes_of(1, 2, 3, 3), "3 numbers for 2 labels"),
    (field(", bilateral_filter_weights_str: 'a b'"), shapes_of(1, 2, 3, 3), "numbers separated by spaces"),
]


@pytest.mark.parametrize(("layer", "shapes", "problem"), WRONG)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)


def test_colours_too_far_apart_are_an_error_at_the_layer():
    net = net_of(field(thetas="theta_alpha: 1, theta_beta: 1e-6, theta_gamma: 1"), *shapes_of(1, 2, 2, 2))
    image = 100 * np.arange(12.0).reshape(1, 3, 2, 2)
    with pytest.raises(mc.DataError, match=r"layer 'L'.*; raise the theta that is too small"):
        net.forward(x2=image)


def test_another_number_of_labels_is_an_error():
    net = net_of(field(), *shapes_of(1, 2, 3, 3))
    for name in ("x0", "x1"):
        net.blobs[name].reshape(1, 4, 3, 3)
    with pytest.raises(mc.ShapeError, match="the parameters are for 2 labels"):
        net.reshape()
