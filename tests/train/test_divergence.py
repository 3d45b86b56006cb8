"""Training that goes wrong says so at once: losses and weights that are no numbers, nets that learn nothing."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.core.layer import layer_classes
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver
from tests.train.training import NET, SOLVER, write_job

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of what is tried here
PLAIN_SGD = "net: none\nbase_lr: {rate}\nlr_policy: fixed\nmax_iter: 100\nrandom_seed: 1\n"
SQUARES = """
layer:
- {name: data, type: DummyData, top: [data, target], dummy_data_param: {
    shape: {dim: [2, 3]}, data_filler: {type: constant, value: 1}}}
- {name: ip, type: InnerProduct, bottom: data, inner_product_param: {num_output: 3, weight_filler: {type: xavier}}}
- {name: loss, type: EuclideanLoss, bottom: [ip, target]}
"""


def job_in(folder, monkeypatch, net=NET, solver=SOLVER):
    monkeypatch.chdir(folder)
    return write_job(folder, net, solver)


def squares(rate, net=SQUARES, more=""):
    return mc.Solver(parse_solver(PLAIN_SGD.format(rate=rate) + more), net=parse_net(net))


# -- numbers that are none


@pytest.mark.parametrize("display", [0, 1000])
def test_a_loss_that_is_no_number_ends_the_training_in_its_iteration(display):
    solver = squares(1e10, more=f"display: {display}\n")
    losses = []
    accumulate = solver._accumulate
    solver._accumulate = lambda: losses.append(accumulate()) or losses[-1]
    with pytest.raises(
        mc.TrainingError, match=r"the loss is (nan|inf); training has diverged: lower base_lr"
    ):
        solver.step(100)
    assert solver.iter == len(losses) - 1
    assert 1 < len(losses) <= 20
    if solver.net.setting.device.kind == "cpu":  # where a look at a loss is for nothing
        assert np.isfinite(losses[:-1]).all() and not np.isfinite(losses[-1])


def test_a_training_that_diverges_shows_one_test_of_it_and_says_what_that_is(tmp_path, monkeypatch, capsys):
    text = SOLVER.replace("base_lr: 0.002", "base_lr: 1e20").replace("snapshot: 7", "snapshot: 0")
    text = text.replace("display: 5", "display: 100").replace("test_interval: 15", "test_interval: 1")
    job_in(tmp_path, monkeypatch, solver=text)
    assert main(["train", "solver.yaml"]) == 2
    output = capsys.readouterr()
    assert "training has diverged" in output.err
    assert output.out.count("loss = nan (") == 1 == output.out.count("scores of nan are wrong ones")


def test_a_parameter_that_is_not_finite_is_told_once_where_the_loss_does_not_show_it(caplog):
    """As the variance of a BatchNorm, which training does not read."""
    solver = squares(1e-3, more="display: 1\n")
    solver.net.params["ip"][1].data[...] = np.inf
    solver.net.layers[1].forward = lambda bottom, top: None
    solver.step(3)
    told = [r.getMessage() for r in caplog.records if "training has diverged" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("Iteration 0: parameter 1 of layer 'ip' is not finite: training has diverged")


def test_an_iteration_that_diverges_writes_no_snapshot(tmp_path, monkeypatch):
    text = SOLVER.replace("type: Adam", "type: SGD").replace("base_lr: 0.002", "base_lr: 1e39")
    solver = mc.Solver(job_in(tmp_path, monkeypatch, solver=text.replace("snapshot: 7", "snapshot: 1")))
    with pytest.raises(
        mc.TrainingError, match=r"parameter 0 of layer 'conv' is not finite.*training has div"
    ):
        solver.step(1)
    assert not list((tmp_path / "snap").glob("*.npz"))


def test_trained_weights_that_are_not_finite_are_not_written(tmp_path, monkeypatch):
    solver = mc.Solver(job_in(tmp_path, monkeypatch))
    solver.step(1)
    solver.snapshot()
    solver.net.params["ip"][1].data[3] = np.nan
    with pytest.raises(
        mc.TrainingError, match="parameter 1 of layer 'ip' is not finite, so there is no snap"
    ):
        solver.snapshot()
    assert len(list((tmp_path / "snap").glob("*.npz"))) == 2


def test_a_divergence_after_a_snapshot_says_that_it_may_have_gone_too_far():
    solver = squares(1e10)
    solver.step(1)
    solver._saved_at = 1
    with pytest.raises(mc.TrainingError, match="the last, of iteration 1, may have gone too far"):
        solver.step(20)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (
            "data_filler: {type: constant, value: 1}",
            "data_filler: {type: constant, value: 1e30}",
            "blob 'loss'",
        ),
        ("weight_filler: {type: xavier}", "weight_filler: {type: constant, value: 3e38}", "blob 'ip'"),
    ],
)
def test_a_loss_that_is_no_number_before_any_update_names_what_is_not_finite_first(old, new, named):
    solver = squares(0.1, SQUARES.replace(old, new))
    with pytest.raises(mc.TrainingError) as caught:
        solver.step(5)
    assert "iteration 0: the loss is" in str(caught.value) and "no update was made yet" in str(caught.value)
    assert str(caught.value).endswith(f"the first that is not finite is {named}")
    assert solver.iter == 0


def test_bad_weights_are_named_at_the_first_iteration():
    solver = squares(0.1)
    solver.net.params["ip"][0].data[0, 1] = np.nan
    with pytest.raises(mc.TrainingError, match="first that is not finite is parameter 0 of layer 'ip'"):
        solver.step(1)


def test_a_test_whose_scores_are_no_numbers_says_so(tmp_path, monkeypatch, caplog):
    solver = mc.Solver(job_in(tmp_path, monkeypatch))
    solver.test_all()
    assert "not finite" not in caplog.text
    solver.net.params["ip"][0].data[...] = np.nan
    solver.test_all()
    assert "Batch 0: parameter 0 of layer 'ip' is not finite, and scores of nan are wrong ones" in caplog.text


# -- what learns nothing


class Distance(mc.Layer):
    """A loss of a user's own that has forgotten to say that it is one."""

    bottoms = (2, 2)

    def reshape(self, bottom, top):
        top[0].reshape()

    def forward(self, bottom, top):
        top[0].data[...] = abs(bottom[0].data - bottom[1].data).sum()

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = np.sign(bottom[0].data - bottom[1].data) * top[0].diff


@pytest.fixture
def own_loss(monkeypatch):
    monkeypatch.setitem(layer_classes, "OwnLoss", Distance)
    mc.register_layer("OwnLoss", Distance)


def warnings_of(net, caplog):
    solver = squares(0.1, net)
    assert not caplog.records
    solver.step(1)
    return [record.getMessage() for record in caplog.records]


def test_a_loss_of_ones_own_that_is_not_trained_on_is_told(own_loss, caplog):
    loss, nothing = warnings_of(SQUARES.replace("EuclideanLoss", "OwnLoss"), caplog)
    assert "layer 'loss': a layer OwnLoss that is not trained on: give it 'loss_weight: 1'" in loss
    assert "'is_loss = True'" in loss
    assert "nothing will be trained: the net has no loss" in nothing


@pytest.mark.parametrize("weight", ["loss_weight: 1", "loss_weight: 0"])
def test_a_loss_with_a_given_weight_is_meant_so(own_loss, caplog, weight):
    net = SQUARES.replace("type: EuclideanLoss", f"type: OwnLoss, {weight}")
    other = "- {name: more, type: EuclideanLoss, bottom: [ip, target]}\n"
    assert warnings_of(net + other, caplog) == []


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (SQUARES.replace("type: InnerProduct", "type: InnerProduct, param: [{lr_mult: 0}, {lr_mult: 0}]"),
         "no layer has parameters with an lr_mult above 0"),
        (SQUARES.replace("type: EuclideanLoss", "type: EuclideanLoss, propagate_down: [false, false]"),
         "no gradient gets from the loss to a parameter"),
        (SQUARES.replace("type: EuclideanLoss", "type: EuclideanLoss, loss_weight: 0"), "the net has no loss"),
    ],
)  # fmt: skip
def test_a_net_where_nothing_is_trained_is_told_before_the_first_iteration(caplog, net, why):
    (warning,) = warnings_of(net, caplog)
    assert f"nothing will be trained: {why}" in warning


def test_a_net_that_learns_is_told_nothing(caplog):
    assert warnings_of(SQUARES, caplog) == []
