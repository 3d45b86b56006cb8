"""Occlusion: what covering a part of a picture does to the scores."""

import numpy as np
import pytest

from minicaffe.errors import MinicaffeError
from minicaffe.inspect.report.occlusion import colour_of, covered, falls, few_places_on, places_on
from minicaffe.inspect.report.scorer import Scorer
from minicaffe.train.progress import Progress

pytestmark = pytest.mark.cpu_only("a report is made from NumPy arrays")

NET = """
layer:
- {name: data, type: Input, top: [data, label], input_param: {shape: [{dim: [2, 3, 14, 20]}, {dim: [2]}]}}
- name: conv
  type: Convolution
  bottom: data
  convolution_param: {num_output: 4, kernel_size: 3, weight_filler: {type: xavier}}
- {name: relu, type: ReLU, bottom: conv, top: conv}
- {name: z, type: InnerProduct, bottom: conv, inner_product_param: {num_output: 5, weight_filler: {type: xavier}}}
- {name: accuracy, type: Accuracy, bottom: [z, label]}
- {name: prob, type: Softmax, bottom: z}
"""


@pytest.fixture
def net(make_net, rng):
    net = make_net(NET, seed=1)
    net.forward(data=rng.normal(size=(2, 3, 14, 20)), label=np.zeros(2))
    return net


def test_places_overlap_by_half_and_end_at_the_border():
    places = places_on(28, 28)
    assert (places.side, places.tops[:3], places.tops[-1], places.count) == (4, (0, 2, 4), 24, 169)
    places = places_on(14, 21)
    assert (places.side, places.tops[-1] + places.side, places.lefts[-1] + places.side) == (2, 14, 21)
    assert places_on(3, 3).side == 1


def test_for_large_nets_places_lie_side_by_side():
    places = few_places_on(227, 227)
    assert (places.side, places.count, places.tops[:2], places.tops[-1]) == (32, 64, (0, 32), 195)


def test_scores_are_log_probabilities_of_any_number_of_pictures(net, rng):
    pictures = rng.normal(size=(5, 3, 14, 20)).astype(np.float32)
    with Scorer(net, "data", "prob", softmax=False) as scorer:
        scorer.batch = 2
        log_p = scorer(pictures)
    for picture, found in zip(pictures, log_p, strict=True):
        prob = net.forward(data=np.stack([picture, picture]))["prob"]
        np.testing.assert_allclose(np.exp(found), prob[0], rtol=1e-5)


def test_log_p_is_exact_where_p_is_0(net):
    net.params["z"][0].data[...] *= 1000
    with Scorer(net, "data", "prob", softmax=False) as scorer:
        log_p = scorer(net.blobs["data"].data.copy())
    assert (net.forward()["prob"] == 0).any()
    assert np.isfinite(log_p).all()
    assert log_p.min() < -200


def test_afterwards_the_net_is_as_before(net):
    before = {name: blob.data.copy() for name, blob in net.blobs.items()}
    with Scorer(net, "data", "prob", softmax=False) as scorer:
        scorer(np.zeros((7, 3, 14, 20), np.float32))
    for name, values in before.items():
        np.testing.assert_array_equal(net.blobs[name].data, values)


def test_falls_are_those_of_pictures_covered_by_hand(net, rng):
    picture = rng.normal(size=(3, 14, 20)).astype(np.float32)
    places, colour = places_on(14, 20), np.array([1, 2, 3], np.float32)
    with Scorer(net, "data", "prob", softmax=False) as scorer:
        alone, fall = falls(scorer, picture, places, colour, Progress(places.count))
    assert fall.shape == (5, len(places.tops), len(places.lefts))
    for row, column in ((0, 0), (3, 7), (12, 18)):
        hidden = picture.copy()
        hidden[:, places.tops[row] :, places.lefts[column] :][:, :2, :2] = colour[:, None, None]
        prob = net.forward(data=np.stack([picture, hidden]))["prob"]
        np.testing.assert_allclose(fall[:, row, column], np.log(prob[0] / prob[1]), atol=1e-5)
        np.testing.assert_allclose(np.exp(alone), prob[0], rtol=1e-5)


def test_the_square_has_the_mean_s_colour(rng):
    pictures = rng.random((2, 3, 4, 4), dtype=np.float32)
    np.testing.assert_allclose(colour_of(pictures, False), pictures.mean((0, 2, 3)))
    assert not colour_of(pictures, True).any()
    (copy,) = covered(pictures[0], places_on(4, 4), np.ones(3, np.float32), [5])
    assert (copy != pictures[0]).sum() == 3  # one pixel in three channels: 4 / 7 is a pixel


def test_scores_that_need_more_than_the_picture_are_refused(make_net):
    net = make_net(
        "layer:\n- {name: a, type: Input, input_param: {shape: {dim: [1, 3, 4, 4]}}}\n"
        "- {name: b, type: Input, input_param: {shape: {dim: [1, 3, 4, 4]}}}\n"
        "- {name: sum, type: Eltwise, bottom: [a, b]}\n"
    )
    with pytest.raises(MinicaffeError, match="depends on layer 'b' too"):
        Scorer(net, "a", "sum", softmax=False)
