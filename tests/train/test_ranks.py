"""Several ranks that train one net together. Here they are threads; ``test_mpi.py`` has real ones."""

from functools import partial

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core.net import Net
from minicaffe.data.batches import SharedOut
from minicaffe.data.order import Order
from minicaffe.device.array import to_host
from minicaffe.errors import CommunicatorError
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver
from minicaffe.train import snapshots
from minicaffe.train.parallel import exchange
from tests.thread_ranks import ThreadRanks
from tests.train.training import NET, SOLVER, write_job

FIXED = (  # nothing is drawn: ranks and one process see the same
    NET.replace(", pad: 2, crop_size: 26, mirror: true", "")
    .replace(", crop_size: 26", "")
    .replace("STOCHASTIC", "MAX")
    .replace("dropout_ratio: 0.3", "dropout_ratio: 0")
    .replace("batch_size: 16", "batch_size: 6")
)
STEPS = SOLVER.replace("snapshot: 7", "snapshot: 0").replace("test_interval: 15", "test_interval: 100")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def double(monkeypatch):
    """Nets in float64, where nothing is lost by adding in another order."""
    monkeypatch.setattr("minicaffe.train.solver.Net", partial(Net, dtype=np.float64))


def train(ranks, net, solver, steps, begin=lambda solver: None):
    """Make the solver of each rank and train; the parameters of each rank."""

    def on(communicator):
        with mc.Solver(parse_solver(solver), parse_net(net), communicator=communicator) as made:
            begin(made)
            made.step(steps)
            return params_of(made)

    return ThreadRanks(ranks).run(on)


def params_of(solver):
    return {
        f"{name}/{i}": to_host(blob.data).copy()
        for name, blobs in solver.net.params.items()
        for i, blob in enumerate(blobs)
    }


def assert_same(found, expected, tolerance):
    for key, value in expected.items():
        assert np.abs(found[key] - value).max() <= tolerance * np.abs(value).max(), key


# -- N ranks train as one process


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    "bucket_bytes, more",
    [(4 << 20, ""), (300, ""), (300, "clip_gradients: 0.5\n"), (1000, "regularization_type: L1\n")],
)
def test_ranks_train_as_one_process_with_their_batches_together(
    folder, double, monkeypatch, ranks, bucket_bytes, more
):
    monkeypatch.setattr(exchange, "BUCKET_BYTES", bucket_bytes)
    net, solver = FIXED, STEPS.replace("net: net.yaml", "net: unused") + more
    (one,) = train(1, net.replace("batch_size: 6", f"batch_size: {6 * ranks}"), solver, 6)
    for found in train(ranks, net, solver, 6):
        assert_same(found, one, 1e-12)


def test_a_parameter_that_layers_share_is_sent_when_the_first_of_them_is_done(folder, double, monkeypatch):
    monkeypatch.setattr(exchange, "BUCKET_BYTES", 1)
    param = "inner_product_param: {num_output: 12, bias_term: false, weight_filler: {type: xavier}}"
    layers = [
        f"- {{name: first, type: InnerProduct, bottom: drop, {param}}}",
        f"- {{name: a, type: InnerProduct, param: {{name: w}}, {param}}}",
        f"- {{name: b, type: InnerProduct, param: {{name: w}}, {param}}}",
        "- {name: ip,",
    ]
    net = FIXED.replace("- {name: ip,", "\n".join(layers))
    (one,) = train(1, net.replace("batch_size: 6", "batch_size: 12"), STEPS, 4)
    for found in train(2, net, STEPS, 4):
        assert_same(found, one, 1e-12)


def test_a_script_that_updates_by_itself_gets_averaged_gradients(folder, double):
    def on(communicator):
        with mc.Solver(parse_solver(STEPS), parse_net(FIXED), communicator=communicator) as solver:
            solver.step(1)
            for _ in range(2):
                solver.net.clear_param_diffs()
                solver.net.forward()
                solver.net.backward()
                solver.apply_update(0.01)
            return params_of(solver)

    first, second = ThreadRanks(2).run(on)
    assert_same(first, second, 0)


# -- when gradients travel


def test_a_bucket_is_sent_before_backward_reaches_the_layers_below_it(folder, monkeypatch):
    monkeypatch.setattr(exchange, "BUCKET_BYTES", 300)
    seen = []

    def on(communicator):
        with mc.Solver(parse_solver(STEPS), parse_net(FIXED), communicator=communicator) as solver:
            solver.step(1)
            layer = solver.net.layer_dict["conv"]
            backward = type(layer).backward

            def watched(*args):
                if communicator.is_root:
                    seen.append(solver.exchange._begun)
                backward(layer, *args)

            layer.backward = watched
            solver.step(1)
            conv = solver.net.layers.index(layer)
            return sum(first > conv for first in solver.exchange._first_layers)

    above, _ = ThreadRanks(2).run(on)
    assert above and seen[-1] == above  # of the passes of an iteration (iter_size), the last


def test_an_update_waits_for_its_own_bucket_alone(folder, monkeypatch):
    monkeypatch.setattr(exchange, "BUCKET_BYTES", 300)

    def on(communicator):
        with mc.Solver(parse_solver(STEPS), parse_net(FIXED), communicator=communicator) as solver:
            solver.step(1)
            solver._accumulate()
            arriving = solver.exchange.averaged()
            next(arriving)
            finished = solver.exchange._finished
            list(arriving)
            return finished

    assert ThreadRanks(2).run(on) == [1, 1]


# -- data and random numbers


def test_no_rank_reads_what_another_trains_on_and_epochs_end_together():
    order = Order(50, 4, seed=3, shuffle=True)
    shares = [SharedOut(order.indices, rank, 3) for rank in range(3)]
    read = [share(batch) for batch in range(5) for share in shares]
    assert sorted(np.concatenate(read)[:50]) == list(range(50))  # the first epoch, each image once
    one = Order(50, 12, seed=3, shuffle=True)
    assert np.array_equal(np.concatenate(read), np.concatenate([one.indices(batch) for batch in range(5)]))


def test_ranks_begin_alike_and_draw_differently(folder):
    def on(communicator):
        random = STEPS.replace("random_seed: 5", "random_seed: -1")
        with mc.Solver(parse_solver(random), parse_net(NET), communicator=communicator) as solver:
            start, drawn = params_of(solver), to_host(solver.net.setting.rng.random(9, dtype=np.float32))
            solver.net.forward()
            return start, solver.seed, drawn, to_host(solver.net.blobs["label"].data)

    first, second = ThreadRanks(2).run(on)
    assert_same(first[0], second[0], 0)
    assert first[1] == second[1]
    assert (first[2] != second[2]).all() and (first[3] != second[3]).any()


def test_the_loss_is_the_mean_over_all_ranks(folder, double):
    def on(communicator, batch):
        net = parse_net(FIXED.replace("batch_size: 6", f"batch_size: {batch}"))
        with mc.Solver(parse_solver(STEPS), net, communicator=communicator) as solver:
            solver.step(1)
            return solver.smoothed_loss()

    (one,) = ThreadRanks(1).run(lambda ranks: on(ranks, 18))
    assert ThreadRanks(3).run(lambda ranks: on(ranks, 6)) == [pytest.approx(one, rel=1e-12)] * 3


def test_weights_and_states_that_rank_0_has_read_are_those_of_all_at_once(folder):
    path = write_job(folder, solver=SOLVER)

    def first(communicator):
        with mc.Solver(path, communicator=communicator) as solver:
            solver.step(7)

    def then(communicator):
        with mc.Solver(path, communicator=communicator) as solver:
            found = []
            for read in (
                lambda: solver.copy_from("snap/run_iter_7.npz"),
                lambda: solver.restore("snap/run_iter_7.solverstate.npz"),
            ):
                for blobs in solver.net.params.values():
                    blobs[0].data[...] = communicator.rank
                read()
                found.append(params_of(solver))
            return found

    ThreadRanks(2).run(first)
    with np.load("snap/run_iter_7.npz") as saved:
        for found in ThreadRanks(2).run(then):
            for params in found:
                assert_same(params, {key: saved[key] for key in params}, 0)


def test_gradients_of_low_rank_are_smaller_and_others_than_whole_ones(folder, caplog):
    caplog.set_level("INFO")
    whole = train(2, FIXED, STEPS, 3)[0]
    thin = train(2, FIXED, STEPS + "gradient_rank: 1\n", 3)
    assert any((whole[key] != thin[0][key]).any() for key in whole)
    assert_same(thin[0], thin[1], 0)

    def on(communicator):
        solver = parse_solver(STEPS + "gradient_rank: 1\n")
        with mc.Solver(solver, parse_net(FIXED), communicator=communicator) as made:
            return made.exchange.sent_bytes, made.exchange.dense_bytes

    sent, dense = ThreadRanks(2).run(on)[0]
    assert 3 * sent < dense


def test_a_layer_that_a_script_freezes_stays_as_it_is(folder):
    with mc.Solver(parse_solver(STEPS), parse_net(FIXED)) as solver:
        solver.step(2)
        for param in solver.net.learnable[:1]:
            param.lr_mult = 0
        before = params_of(solver)
        solver.step(2)
        after = params_of(solver)
    assert (before["conv/0"] == after["conv/0"]).all() and (before["ip/0"] != after["ip/0"]).any()


# -- snapshots

LOW_RANK = SOLVER + "gradient_rank: 2\n"


@pytest.mark.cpu_only("a GPU's generator does not tell its state")
@pytest.mark.parametrize("solver", [SOLVER, LOW_RANK])
def test_a_run_of_ranks_goes_on_bit_for_bit(folder, solver):
    path = write_job(folder, solver=solver)

    def whole(communicator):
        with mc.Solver(path, communicator=communicator) as made:
            made.step(12)
            return params_of(made)

    def resumed(communicator):
        with mc.Solver(path, communicator=communicator) as made:
            made.restore("snap/run_iter_7.solverstate.npz")
            made.step(5)
            return params_of(made)

    expected = ThreadRanks(2).run(whole)
    for found in ThreadRanks(2).run(resumed):
        assert_same(found, expected[0], 0)


def test_with_another_number_of_ranks_a_run_goes_on_where_the_images_were_read_up_to(folder, caplog):
    path = write_job(folder, solver=LOW_RANK)

    def first(communicator):
        with mc.Solver(path, communicator=communicator) as made:
            made.step(7)

    def then(communicator):
        with mc.Solver(path, communicator=communicator) as made:
            made.restore("snap/run_iter_7.solverstate.npz")
            drawn = to_host(made.net.setting.rng.random(9, dtype=np.float32)).tolist()
            made.step(1)
            return made.iter, made.net.layers[0].prefetcher.number, drawn

    ThreadRanks(2).run(first)  # 7 iterations of 2 passes: 14 batches of each of the 2 ranks
    three = ThreadRanks(3).run(then)
    assert [found[:2] for found in three] == [(8, 14 * 2 // 3 + 2)] * 3
    assert len({tuple(drawn) for _, _, drawn in three}) == 3
    assert ThreadRanks(1).run(then)[0][:2] == (8, 14 * 2 + 2)
    assert "a snapshot of 2 ranks" in caplog.text


def test_rank_0_alone_writes_tests_and_logs(folder, caplog):
    path = write_job(folder)

    def on(communicator):
        with mc.Solver(path, communicator=communicator) as solver:
            solver.step(8)
            return len(solver.test_nets), solver.log.path is not None

    assert ThreadRanks(2).run(on) == [(1, True), (0, False)]
    assert snapshots.latest("snap/run").name == "run_iter_7.solverstate.npz"


# -- what goes wrong


def test_ranks_with_other_specs_are_told_what_differs(folder):
    def on(communicator):
        net = FIXED.replace("num_output: 6", f"num_output: {6 + communicator.rank}")
        mc.Solver(parse_solver(STEPS), parse_net(net), communicator=communicator)

    with pytest.raises(
        CommunicatorError, match=r"rank 1 .*'conv', convolution_param, num_output.*: 7, but"
    ) as e:
        ThreadRanks(2).run(on)
    assert e.value.on_every_rank


@pytest.mark.parametrize("field, ending", [("base_lr: 0.002", "1"), ("rrrun", "n")])
def test_ranks_with_another_solver_are_told_so(folder, field, ending):
    text = STEPS.replace("snap/run", f"snap/{120 * 'r'}un")

    def on(communicator):
        solver = text.replace(field, field + ending) if communicator.rank else text
        mc.Solver(parse_solver(solver), parse_net(FIXED), communicator=communicator)

    with pytest.raises(CommunicatorError, match=r"rank 1 .*solver spec, "):
        ThreadRanks(2).run(on)


def test_ranks_with_other_data_are_told_so(folder):
    digits = np.arange(40 * 28 * 28).reshape(40, 1, 28, 28) % 251
    for rank in range(2):
        (folder / f"{rank}").mkdir()
        images = (digits + rank).astype(np.uint8)
        np.savez(folder / f"{rank}" / "digits.npz", data=images, labels=np.arange(40) % 10)
    net = FIXED.replace("source: sample/mnist-train", "source: digits.npz")

    def on(communicator):
        spec = parse_net(net, str(folder / f"{communicator.rank}" / "net.yaml"))
        mc.Solver(parse_solver(STEPS), spec, communicator=communicator)

    with pytest.raises(CommunicatorError, match=r"rank 1 .*data of layer 'digits': 40 images.*rank 0"):
        ThreadRanks(2).run(on)


def test_an_error_of_one_rank_while_its_net_is_made_is_raised_by_all(folder):
    errors = []

    def on(communicator):
        net = FIXED if communicator.rank != 1 else FIXED.replace("sample/mnist-train", "nowhere")
        try:
            mc.Solver(parse_solver(STEPS), parse_net(net), communicator=communicator)
        except mc.MinicaffeError as error:
            errors.append((type(error), str(error), error.on_every_rank))
            raise

    with pytest.raises(mc.DataError):
        ThreadRanks(3).run(on)
    assert len(errors) == 3 and len({*errors}) == 1
    assert errors[0][1].startswith("rank 1: ") and "nowhere" in errors[0][1] and errors[0][2]


def test_a_loss_that_is_not_finite_on_one_rank_ends_all_and_names_it(folder):
    def on(communicator):
        solver = mc.Solver(parse_solver(STEPS), parse_net(FIXED), communicator=communicator)
        if communicator.rank == 1:
            solver.step(0)
            layer = solver.net.layers[0]
            forward = layer.forward

            def broken(bottom, top):
                forward(bottom, top)
                top[0].data[...] = np.nan

            layer.forward = broken
        solver.step(1)

    with pytest.raises(mc.TrainingError, match=r"loss is nan.*first that is not finite is .*\(rank 1\)") as e:
        ThreadRanks(2).run(on)
    assert e.value.on_every_rank


def test_a_stop_goes_before_a_snapshot_and_one_that_is_asked_for_meanwhile_is_kept(folder):
    path = write_job(folder, solver=STEPS)

    def on(communicator):
        with mc.Solver(path, communicator=communicator) as solver:
            highest = communicator.highest

            def interrupted(number):
                found = highest(number)
                if solver.iter == 2 and communicator.is_root:
                    solver.request("stop")  # a signal that arrives while the rank waits
                return found

            communicator.highest = interrupted
            solver.request("snapshot")
            solver.step(9)
            return solver.iter, solver.stopped_early

    assert ThreadRanks(2).run(on) == [(3, True)] * 2


@pytest.mark.parametrize("asked, stopped", [("stop", True), ("snapshot", False)])
def test_what_one_rank_is_asked_for_all_do_at_the_same_iteration(folder, asked, stopped):
    path = write_job(folder, solver=STEPS)

    def on(communicator):
        with mc.Solver(path, communicator=communicator) as solver:
            solver.step(2)
            if communicator.rank == 1:
                solver.request(asked)
            solver.step(3)
            return solver.iter, solver.stopped_early

    assert ThreadRanks(2).run(on) == [(3 if stopped else 5, stopped)] * 2
    assert snapshots.latest("snap/run").name == "run_iter_3.solverstate.npz"


def drift_and_save(path, by):
    def on(communicator):
        with mc.Solver(path, communicator=communicator) as solver:
            solver.step(2)
            solver.net.params["ip"][0].data[...] *= 1 + by * communicator.rank
            solver.snapshot()
            return params_of(solver)

    return ThreadRanks(2).run(on)


def test_ranks_whose_parameters_have_come_apart_do_not_save_them(folder):
    path = write_job(folder, solver=STEPS)
    with pytest.raises(mc.TrainingError, match="rank 1 has other parameters than rank 0"):
        drift_and_save(path, 0.5)
    assert not [*folder.glob("snap/*.npz")]


def test_ranks_that_differ_by_rounding_go_on_with_the_parameters_of_rank_0(folder):
    path = write_job(folder, solver=STEPS)
    first, second = drift_and_save(path, 1e-6)
    assert_same(second, first, 0)
    assert [*folder.glob("snap/*.solverstate.npz")]


def test_a_snapshot_that_cannot_be_written_is_an_error_of_all_ranks(folder):
    path = write_job(folder, solver=STEPS)
    errors = []

    def on(communicator):
        with mc.Solver(path, communicator=communicator) as solver:
            solver.step(1)
            if communicator.is_root:
                solver.prefix = "/proc/none/run"
            try:
                solver.snapshot()
            except mc.WriteError as error:
                errors.append(error.on_every_rank)

    ThreadRanks(2).run(on)
    assert errors == [True, True]


def test_a_solver_without_a_communicator_says_that_it_trains_alone(folder, monkeypatch, caplog):
    monkeypatch.setenv("PMI_SIZE", "4")
    mc.Solver(parse_solver(STEPS), parse_net(FIXED)).close()
    assert "4 ranks were started, and this solver trains in each of them by itself" in caplog.text
