"""What is predicted of plans is near enough to what they do, on LeNet and a few digits."""

import itertools

import numpy as np
import pytest

from minicaffe.compress import spatial_fits
from minicaffe.compress.batches import first_images, run
from minicaffe.compress.cost import FlopCost, ParamCost
from minicaffe.compress.curves import path
from minicaffe.compress.plan import LayerRank
from minicaffe.compress.prediction import FLATTEST, PROBED, STEEPEST, Prediction, _effect, first_to_rerun
from minicaffe.compress.workbench import Workbench
from minicaffe.core.net import Net
from minicaffe.spec.net import parse_net
from tests.compress.lenet_cases import with_ranks

LAYERS = ("conv1", "conv2", "ip1")


@pytest.fixture(scope="module")
def bench(digits):
    """LeNet without its last layer on the bench."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spatial_fits, "SWEEPS", 2)  # to be quick
        patch.chdir(digits)
        made = Workbench("net.yaml", "lenet.npz", LAYERS, calibration=4)
        yield made
        made.close()


@pytest.fixture(scope="module")
def batches(bench):
    return bench.draw(3)


@pytest.fixture(scope="module")
def prediction(bench, batches):
    return Prediction(bench, batches, ("CHANNEL",))


@pytest.fixture
def distance(bench, batches):
    """How far the answers are off under a plan."""

    def of(plan):
        bench.approximate(plan)
        exact, found = (answers(bench, net, batches) for net in (bench.original, bench.trial))
        return bench.score.distance(found, exact)

    return of


def answers(bench, net, batches):
    found = []
    for batch in batches:
        run(net, batch)
        found.append(bench.score.answers(net))
    return found


def ranks(numbers):
    return np.argsort(np.argsort(numbers))


def plan(**chosen):
    return {name: LayerRank("CHANNEL", rank) for name, rank in chosen.items()}


PLANS = [
    plan(conv1=9, conv2=40),
    plan(conv1=6, conv2=30),
    plan(conv2=12, ip1=40),
    plan(conv1=4, conv2=16),
    plan(conv1=2, conv2=6),
    plan(conv2=3, ip1=5),
]


def test_plans_that_are_predicted_to_lose_more_lose_more(prediction, distance):
    predicted = [sum(prediction.rise(name, choice) for name, choice in p.items()) for p in PLANS]
    found = [distance(p) for p in PLANS]
    assert np.corrcoef(ranks(predicted), ranks(found))[0, 1] >= 0.9
    drops = [prediction.drop(p) for p in PLANS]
    assert all(0 <= drop < 1 for drop in drops)
    assert (np.diff(np.array(drops)[np.argsort(predicted)]) >= 0).all()
    assert max(drops) > 0.05
    assert prediction.drop({}) == 0


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_loses_the_less_the_higher_its_rank(prediction, name):
    rises = [prediction.rise(name, choice) for choice in prediction.choices(name)]
    assert len(rises) > 5
    assert all(a > b > 0 for a, b in itertools.pairwise(rises))


@pytest.mark.parametrize("name", LAYERS)
def test_where_a_layer_was_tried_what_is_predicted_is_what_was_measured(prediction, distance, name):
    choices = prediction.choices(name)
    for share in PROBED:
        near = min(choices, key=lambda choice: abs(np.log(prediction.missed(name, choice) / share)))
        assert prediction.rise(name, near) == pytest.approx(distance({name: near}), rel=1e-3)


@pytest.mark.parametrize("probed", [(0.05,), (0.02, 0.1)])
def test_beyond_what_was_tried_distances_grow_as_a_power_of_what_is_missed(bench, batches, probed):
    prediction = Prediction(bench, batches[:1], ("CHANNEL",), probed=probed)
    for name in LAYERS:
        ends = []
        for choices in (prediction.choices(name)[:2], prediction.choices(name)[-2:]):
            x, y = (
                np.log([of(name, choice) for choice in choices])
                for of in (prediction.missed, prediction.rise)
            )
            ends.append((y[1] - y[0]) / (x[1] - x[0]))
        assert ends[0] == pytest.approx(ends[1])
        assert FLATTEST - 1e-9 <= ends[0] <= STEEPEST + 1e-9
        if len(probed) == 1:
            assert ends[0] == pytest.approx(1)


def test_a_layer_that_misses_more_is_never_taken_to_be_off_by_less():
    m, d = _effect({-6.0: 0.01, -4.0: 0.2, -2.0: 0.05})
    assert (np.diff(m) > 0).all()
    np.testing.assert_allclose(np.exp(d[1:-1]), [0.01, 0.2, 0.2])
    assert (np.diff(d) >= 0).all()


def test_plans_that_are_off_by_more_than_any_layer_was_alone_are_beyond_what_was_measured(
    prediction, distance
):
    assert not prediction.is_beyond({})
    alone = [
        {name: min(prediction.choices(name), key=lambda c: abs(np.log(prediction.missed(name, c) / share)))}
        for name in LAYERS
        for share in PROBED
    ]
    off = [distance(p) for p in alone]
    assert not any(prediction.is_beyond(p) for p in alone)
    farthest = alone[int(np.argmax(off))]
    assert [prediction.is_beyond({**farthest, **plan(**{x: 1})}) for x in LAYERS if x not in farthest] == [
        True
    ] * 2


def test_the_trial_net_is_dense_after_the_layers_were_tried(bench, batches):
    bench.approximate(PLANS[-1])
    Prediction(bench, batches[:1], ("CHANNEL",))
    exact, found = (answers(bench, net, batches) for net in (bench.original, bench.trial))
    for (p,), (q,) in zip(exact, found, strict=True):
        np.testing.assert_allclose(q, p, rtol=1e-4, atol=1e-7)


def test_choices_are_all_ranks_that_save_something(bench, prediction):
    for name in LAYERS:
        candidate = bench.candidates[name]
        choices = prediction.choices(name)
        assert [choice.rank for choice in choices] == list(range(1, len(choices) + 1))
        assert candidate.share(choices[-1]) < 1
        after = LayerRank("CHANNEL", choices[-1].rank + 1)
        assert candidate.share(after) == 1 or after.rank == candidate.full_rank("CHANNEL")


def test_a_multiple_gives_only_multiples(bench, batches):
    prediction = Prediction(bench, batches[:1], ("CHANNEL",), multiple=8)
    assert {name: [c.rank for c in prediction.choices(name)] for name in LAYERS} == {
        "conv1": [8],
        "conv2": [8, 16, 24, 32, 40],
        "ip1": list(range(8, 308, 8)),
    }
    for p in path(prediction.curves(FlopCost(bench))):
        assert all(choice.rank % 8 == 0 for choice in p.values())


def test_a_multiple_above_all_ranks_leaves_a_layer_dense(bench, batches):
    prediction = Prediction(bench, batches[:1], ("CHANNEL",), multiple=64)
    curves = prediction.curves(FlopCost(bench))
    assert [len(curves[name]) > 1 for name in LAYERS] == [False, False, True]
    assert all(p.keys() <= {"ip1"} for p in path(curves))


def test_of_a_basis_of_the_data_there_is_nothing_else(bench, batches):
    prediction = Prediction(bench, batches[:1], ("BASIS",))
    curves = prediction.curves(FlopCost(bench))
    for name, curve in curves.items():
        assert len(curve) > 2
        assert {point.choice.scheme for point in curve[1:]} == {"BASIS"}, name


def test_a_window_of_one_pixel_has_no_spatial_scheme_and_others_have_both(bench, batches):
    prediction = Prediction(bench, batches[:1])
    schemes = {name: {choice.scheme for choice in prediction.choices(name)} for name in LAYERS}
    assert schemes == {"conv1": {"CHANNEL", "SPATIAL"}, "conv2": {"CHANNEL", "SPATIAL"}, "ip1": {"CHANNEL"}}


COUNTED = {"CHANNEL": ("conv1", "conv2", "ip1"), "SPATIAL": ("conv1", "conv2")}


@pytest.mark.parametrize(("scheme", "name"), [(s, n) for s, names in COUNTED.items() for n in names])
def test_the_weights_of_a_rank_are_those_of_a_net_that_has_it(bench, folder, scheme, name):
    cost = ParamCost(bench)
    dense = Net("net.yaml")
    assert cost.of(name, None) == dense.params[name][0].data.size
    assert cost.total({}) == sum(dense.params[layer][0].data.size for layer in LAYERS)
    for rank in (1, 4):
        with_ranks(folder, **{name: f"rank: {rank}, scheme: {scheme.lower()}, factored: true"})
        low = Net("low.yaml")
        factors = sum(blob.data.size for blob in low.params[name]) - dense.params[name][1].data.size
        choice = LayerRank(scheme, rank)
        assert cost.of(name, choice) == factors
        assert cost.total({}) - cost.total({name: choice}) == cost.of(name, None) - factors


def test_curves_have_the_costs_of_a_net_with_that_rank(bench, prediction):
    for cost in (ParamCost(bench), FlopCost(bench)):
        for name, curve in prediction.curves(cost).items():
            assert curve[0].cost == cost.of(name, None)
            for point in curve[1:]:
                assert point.cost == cost.of(name, point.choice)
                assert point.rise == prediction.rise(name, point.choice)


BRANCHES = """
name: branches
layer:
- name: in
  type: Input
  top: x
  input_param: {shape: {dim: [2, 3, 6, 6]}}
- name: first
  type: Convolution
  bottom: x
  top: a
  convolution_param: {num_output: 4, kernel_size: 3, weight_filler: {type: msra}}
- name: second
  type: Convolution
  bottom: x
  top: b
  convolution_param: {num_output: 4, kernel_size: 3, weight_filler: {type: msra}}
- {name: relu, type: ReLU, bottom: a, top: a}
- {name: sum, type: Eltwise, bottom: [a, b], top: c}
- name: last
  type: Convolution
  bottom: c
  top: d
  convolution_param: {num_output: 2, kernel_size: 3, weight_filler: {type: msra}}
"""


@pytest.mark.parametrize("name, first", [("first", "first"), ("second", "first"), ("last", "last")])
def test_a_net_is_run_again_from_where_all_blobs_are_those_of_a_whole_pass(name, first):
    net = Net(parse_net(BRANCHES), phase="test", seed=0)
    batch = {"x": np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    run(net, batch)
    net.params[name][0].data[...] *= -1
    start = first_to_rerun(net, name)
    assert net.layers[start].name == first
    run(net, batch, start)
    partly = net.blobs["d"].data.copy()
    run(net, batch)
    np.testing.assert_array_equal(partly, net.blobs["d"].data)


def test_the_first_images_of_a_batch_are_taken_where_all_arrays_are_of_the_same_images():
    batch = {"x": np.arange(12).reshape(6, 2), "label": np.arange(6), "\0of the dense net": np.zeros((10, 6))}
    few = first_images(batch, 4)
    assert {name: len(array) for name, array in few.items()} == {"x": 4, "label": 4}
    np.testing.assert_array_equal(few["x"], batch["x"][:4])
    regions = {"x": np.zeros((6, 2)), "rois": np.zeros((9, 5))}
    assert {name: len(array) for name, array in first_images(regions, 4).items()} == {"x": 6, "rois": 9}
