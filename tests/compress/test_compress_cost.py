"""A plan's time: layers are timed at some ranks, and in between by a straight line; the rest of the net stays."""

import pytest

from minicaffe.compress import cost, workbench
from minicaffe.compress.batches import draw
from minicaffe.compress.cost import ParamCost, TimeCost
from minicaffe.compress.plan import LayerRank
from minicaffe.compress.workbench import Workbench
from minicaffe.spec.net import parse_net


@pytest.fixture
def timed(folder, monkeypatch):
    """The cost of LeNet, in which a layer takes the square of its rank, and the ranks that were timed."""
    ranks = []
    monkeypatch.setattr(TimeCost, "_measure", lambda self, layer, scheme, rank: ranks.append(rank) or rank**2)
    monkeypatch.setattr(TimeCost, "_measure_dense", lambda self, candidate: 1000.0)
    monkeypatch.setattr(cost, "_milliseconds", lambda *of_what: 2100.0)
    bench = Workbench("net.yaml", "lenet.npz", calibration=1)
    return TimeCost(bench, draw(bench.original, 1)[0]), ranks


@pytest.mark.parametrize(
    ("rank", "milliseconds", "timed_at"),
    [(1, 1, [1]), (7, 49, [7]), (8, 64, [8]), (9, (64 + 100) / 2, [8, 10]), (20, 400, [20]),
     (33, (32**2 * 7 + 40**2) / 8, [32, 40]), (49, (48**2 + 50**2) / 2, [48, 50])],
)  # fmt: skip
def test_a_rank_between_two_that_are_timed_lies_on_the_line_between_them(timed, rank, milliseconds, timed_at):
    of_layers, ranks = timed
    assert of_layers.of("conv2", LayerRank("CHANNEL", rank)) == pytest.approx(milliseconds, rel=1e-12)
    assert sorted(set(ranks)) == timed_at
    of_layers.of("conv2", LayerRank("CHANNEL", rank))
    assert sorted(ranks) == timed_at  # none is timed again


def test_a_plans_time_is_that_of_its_layers_and_of_all_else(timed):
    of_layers, _ = timed
    assert of_layers.total({}) == 2100  # two convolutions of 1000, and the rest
    assert of_layers.total({"conv2": LayerRank("CHANNEL", 4)}) == 1116


def test_data_layers_are_shuffled_for_calibration_and_the_spec_stays():
    text = (
        "layer:\n- {name: a, type: ImageData, image_data_param: {source: x, batch_size: 1}}\n"
        "- {name: b, type: Data, data_param: {source: y, batch_size: 1}}\n- {name: c, type: ReLU}\n"
    )
    spec = parse_net(text)
    images, data, _ = workbench.shuffled(spec).layer
    assert images.image_data_param.shuffle
    assert data.data_param.shuffle
    assert not spec.layer[0].image_data_param.shuffle


def test_layers_are_timed_with_as_many_images_as_the_whole_net(folder, monkeypatch):
    """Candidates are made when the net has the batch of its spec; pictures may come in larger ones."""
    shapes = []
    monkeypatch.setattr(
        TimeCost, "_measure_dense", lambda self, c: shapes.append(c.product.geometry.shape) or 1.0
    )
    bench = Workbench("net.yaml", "lenet.npz", calibration=1)
    batch = {name: array[:7] for name, array in draw(bench.original, 1)[0].items()}
    TimeCost(bench, batch)
    assert [shape[3] for shape in shapes] == [7, 7]


def test_weights_are_those_of_a_net_with_that_rank_and_a_basis_comes_beside_them(folder):
    bench = Workbench("net.yaml", "lenet.npz", ["conv2"], calibration=1)
    of_layers, dense = ParamCost(bench), 50 * 20 * 25
    assert of_layers.of("conv2", None) == dense
    assert of_layers.of("conv2", LayerRank("CHANNEL", 6)) == 6 * (20 * 25 + 50)
    assert of_layers.of("conv2", LayerRank("SPATIAL", 6)) == 6 * (20 * 5 + 50 * 5)
    assert of_layers.of("conv2", LayerRank("BASIS", 6)) == dense + 6 * 20 * 25
