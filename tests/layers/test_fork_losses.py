"""Losses and neurons of Caffe's forks, against short references written from their formulas."""

import numpy as np
import pytest

from minicaffe.errors import ShapeError
from minicaffe.testing import away_from, check_gradients
from tests.layer_cases import net_of

SHAPES = [(4, 3), (1, 5), (3,), (2, 3, 2), (2, 2, 3, 1)]

# --------------------------------------------------------------------------------------------------- SeLu


@pytest.mark.parametrize("layer_type", ["SeLu", "SeLU"])
def test_selu_bends_at_zero_as_its_paper_says(layer_type, rng):
    x = rng.standard_normal((2, 3, 4))
    expected = 1.0507009 * np.where(x > 0, x, 1.6732632 * (np.exp(x) - 1))
    np.testing.assert_allclose(net_of(f"type: {layer_type}", x.shape).forward(x0=x)["L"], expected, rtol=1e-5)


def test_selu_takes_other_constants_and_huge_numbers():
    net = net_of("type: SeLu, selu_param: {alpha: 0.5, lambda: 3}, bottom: x0, top: x0", (4,))
    np.testing.assert_array_equal(net.forward(x0=[1e4, -1e4, 0, 2])["x0"], [3e4, -1.5, 0, 6])


# ------------------------------------------------------------------------------------------------- L1Loss


@pytest.mark.parametrize("shape", SHAPES)
def test_l1_is_the_absolute_distance_over_the_batch_and_backward_its_derivative(shape, rng):
    a = rng.standard_normal(shape)
    b = a - away_from(0, rng.standard_normal(shape))
    net = check_gradients("type: L1Loss, loss_weight: 1.3", [a, b])
    np.testing.assert_allclose(net.forward(x0=a, x1=b)["L"], abs(a - b).sum() / shape[0], rtol=1e-6)


def test_l1_gives_no_gradient_where_two_numbers_are_equal():
    net = net_of("type: L1Loss", (2, 2), (2, 2))
    net.forward(x0=[[1, 2], [3, 4]], x1=[[1, 3], [2, 4]])
    net.backward()
    np.testing.assert_array_equal(net.blobs["x0"].diff, [[0, -0.5], [0.5, 0]])


def test_l1_of_different_sizes_is_refused():
    with pytest.raises(ShapeError, match="differ in size"):
        net_of("type: L1Loss", (2, 3), (2, 4))
