"""Logs become runs: ours, Caffe's, and what is printed; resumed runs are one, and others are kept apart."""

import json
import math

import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.inspect.logs import Series, read_log, read_logs, running_mean
from tests.golden_files import FOLDER
from tests.train.training import NET, SOLVER, write_job

pytestmark = pytest.mark.cpu_only("of files that are read")

SHORT = SOLVER.replace("max_iter: 40", "max_iter: 20").replace("display: 5", "display: 3")


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_job(tmp_path, solver=SHORT)


def write_events(path, *events):
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def start(run, iteration=0, time=0.0, **more):
    return {"event": "start", "iteration": iteration, "run": run, "time": time, **more}


def train(iteration, loss, time=0.0):
    return {"event": "train", "iteration": iteration, "loss": loss, "lr": 0.1, "outputs": {}, "time": time}


def losses_of(run, phase="train"):
    series = run.loss[phase]
    return dict(zip(series.iterations, series.values, strict=True))


# -- ours


def test_a_log_of_ours_has_what_the_solver_has_shown(job, caplog):
    caplog.set_level("INFO", "minicaffe")
    with mc.Solver(job) as solver:
        solver.solve()
        seed = solver.seed
    (run,) = read_log("snap/run.log.jsonl")
    assert (run.name, run.net, run.seed, run.losses) == ("small", "small", seed, {"loss"})
    assert (run.solver, run.net_spec) == (job.read_text(), job.with_name("net.yaml").read_text())
    assert run.loss["train"].iterations == (0, 3, 6, 9, 12, 15, 18, 20) and run.loss["test"].iterations == (
        0,
        15,
    )
    for iteration, loss in losses_of(run).items():
        assert f"Iteration {iteration}" in caplog.text and f"loss = {loss:.6g}" in caplog.text
    assert set(run.scores) == {("test", "accuracy")}
    assert run.outputs["test", "loss"] == run.loss["test"]
    assert run.rate.values[:5] == (0.002,) * 5 and run.rate.values[5] == pytest.approx(0.0014)
    assert [snapshot.iteration for snapshot in run.snapshots] == [7, 14, 20]
    assert list(run.loss["train"].seconds) == sorted(run.loss["train"].seconds)
    assert run.resumes == () and run.norms == {}


def test_two_runs_of_one_log_do_not_mix_and_a_run_resumed_is_one(job):
    for _ in range(2):
        with mc.Solver(job) as solver:
            solver.step(10)
    with mc.Solver(job) as solver:  # from iteration 7, past the first run's end
        solver.restore("snap/run_iter_7.solverstate.npz")
        solver.step(6)
    first, second = read_log("snap/run.log.jsonl")
    assert [first.name, second.name] == ["small (1)", "small (2)"]
    assert first.loss["train"].iterations == (0, 3, 6, 9) and first.resumes == ()
    assert second.loss["train"].iterations == (0, 3, 6, 9, 12) and second.resumes == (7,)
    assert losses_of(first)[9] == losses_of(second)[9]


def test_what_was_trained_again_replaces_what_was_there_and_a_pause_takes_no_time(tmp_path):
    log = write_events(
        tmp_path / "x.log.jsonl",
        start("a", time=100.0), train(0, 9.0, 101.0), train(10, 8.0, 110.0), train(20, 7.0, 120.0),
        {"event": "snapshot", "iteration": 15, "file": "x_iter_15.solverstate.npz", "time": 115.0},
        {"event": "snapshot", "iteration": 20, "file": "x_iter_20.solverstate.npz", "time": 120.0},
        start("a", 15, 5000.0), {"event": "resume", "iteration": 15, "run": "a", "time": 5000.0},
        train(20, 6.5, 5005.0), train(30, 6.0, 5015.0),
    )  # fmt: skip
    (run,) = read_log(log)
    assert losses_of(run) == {0: 9.0, 10: 8.0, 20: 6.5, 30: 6.0}
    assert run.loss["train"].seconds == (1.0, 10.0, 20.0, 30.0)
    assert [snapshot.iteration for snapshot in run.snapshots] == [15] and run.resumes == (15,)


def test_a_run_of_another_name_that_resumes_a_state_of_this_log_is_joined(tmp_path):
    """As from a .solverstate, which does not have the run's name."""
    state = {"event": "snapshot", "iteration": 10, "file": "x_iter_10.solverstate", "time": 2.0}
    log = write_events(
        tmp_path / "x.log.jsonl",
        start("a"), train(0, 9.0), train(10, 8.0), state,
        start("b", 10, resumed="x_iter_10.solverstate"), train(10, 7.5), train(20, 7.0),
        start("c", 30, resumed="elsewhere.solverstate"), train(30, 1.0),
    )  # fmt: skip
    first, other = read_log(log)
    assert losses_of(first) == {0: 9.0, 10: 7.5, 20: 7.0} and losses_of(other) == {30: 1.0}


def test_the_total_of_a_test_weighs_its_losses(tmp_path):
    test = {"event": "test", "iteration": 0, "net": 1, "outputs": {"a": 2.0, "b": [3.0], "c": [0.5, 0.6]}}
    log = write_events(tmp_path / "x.log.jsonl", start("a", losses={"a": 0.5, "b": 1}), test)
    (run,) = read_log(log)
    assert losses_of(run, "test 1") == {0: 4.0}
    assert set(run.outputs) == {("test 1", "a"), ("test 1", "b")} and run.scores == {}


def test_norms_have_their_ratio(tmp_path):
    norms = {
        "event": "norms",
        "iteration": 5,
        "params": {"conv/0": [2.0, 30.0, 0.01], "conv/1": [0, 1, None]},
    }
    (run,) = read_log(write_events(tmp_path / "x.log.jsonl", start("a"), norms))
    assert run.norms["conv/0"].gradient.values == (30.0,)
    assert run.norms["conv/0"].ratio.values == (0.005,)
    assert math.isnan(run.norms["conv/1"].ratio.values[0])


def test_names_tell_logs_apart(tmp_path):
    paths = [tmp_path / place for place in ("a/run.log.jsonl", "b/run.log.jsonl", "other.log.jsonl")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        write_events(path, start("x"), train(0, 1.0))
    assert [run.name for run in read_logs(paths)] == ["a/run", "b/run", "other"]
    with paths[0].open("a") as file:
        file.write(json.dumps(start("y")) + "\n" + json.dumps(train(0, 1.0)) + "\n")
    assert [run.name for run in read_logs(paths, last=1)] == ["a/run (2)", "b/run", "other"]


def test_runs_are_named_by_their_nets_unless_these_have_one_name(tmp_path):
    nets = {"a": ["pets"], "b": ["birds", "fish", "birds"], "c": ["pets"]}
    for name, of_log in nets.items():
        events = [e for i, net in enumerate(of_log) for e in (start(f"{name}{i}", net=net), train(0, 1.0))]
        write_events(tmp_path / f"{name}.log.jsonl", *events)
    logs = [tmp_path / f"{name}.log.jsonl" for name in nets]
    assert [run.name for run in read_logs(logs[:2])] == ["pets", "birds (1)", "fish", "birds (2)"]
    assert [run.name for run in read_logs(logs)] == ["a", "birds (1)", "fish", "birds (2)", "c"]


def test_the_last_loss_of_a_run_is_that_of_its_end_and_null_where_it_diverged(tmp_path):
    def ended(**more):
        end = {"event": "end", "iteration": 7, "time": 9.0, **more}
        (run,) = read_log(
            write_events(tmp_path / "x.log.jsonl", start("x"), train(0, 2.0), train(5, 1.0), end)
        )
        return run

    assert ended(loss=0.5).loss["train"].values == (2.0, 1.0, 0.5) and ended(loss=0.5).diverged_at is None
    assert ended(loss=None).diverged_at == 7
    assert ended(iteration=5, loss=0.5).loss["train"].iterations == (0, 5)


# -- texts


def test_caffes_log_is_read_and_its_resumed_run_joined():
    """training_log.txt: 20 iterations, then again from the snapshot at 10."""
    (run,) = read_log(FOLDER / "training_log.txt")
    assert (run.name, run.net, run.losses) == ("Small", "Small", {"loss"})
    assert run.loss["train"].iterations == (0, 4, 8, 12, 16, 20)
    assert run.loss["test"].iterations == (0, 10, 20) and run.resumes == (10,)
    assert set(run.scores) == {("test", "accuracy")}  # per_class has four numbers
    text = (FOLDER / "training_log.txt").read_text().split("Restoring")
    assert f"loss = {losses_of(run)[8]:.6g}\n" in text[0] and f"loss = {losses_of(run)[16]:.6g}\n" in text[1]
    assert losses_of(run, "test")[20] == pytest.approx(run.outputs["test", "loss"].values[2] / 2, rel=1e-5)
    assert dict(zip(run.rate.iterations, run.rate.values, strict=True))[12] == 0.01
    assert [snapshot.iteration for snapshot in run.snapshots] == [10, 20]
    assert 0 < run.loss["train"].seconds[-1] < 1  # not the seconds between the two


GLOG = """I1231 23:59:58.500000   12 solver.cpp:279] Solving LeNet
I1231 23:59:59.500000   12 solver.cpp:228] Iteration 0, loss = 2.3
I0101 00:00:09.500000   12 solver.cpp:228] Iteration 50, loss = -nan
I0101 00:00:09.500000   12 sgd_solver.cpp:106] Iteration 50, lr = 1e-05
"""


def test_an_older_log_without_paces_goes_over_the_new_year(tmp_path):
    (tmp_path / "caffe.INFO").write_text(GLOG)
    (run,) = read_log(tmp_path / "caffe.INFO")
    assert run.loss["train"].seconds == (1.0, 11.0)
    assert math.isnan(run.loss["train"].values[1]) and run.rate.values == (1e-05,)


HEADERS = """I1129 14:00:00.000000   12 solver.cpp:279] Solving LeNet
I1129 10:00:01.000000   12 solver.cpp:228] Iteration 0, loss = 2.3
I1129 10:00:11.000000   12 solver.cpp:228] Iteration 50, loss = 1
I1129 10:00:12.000000   12 solver.cpp:449] Snapshotting solver state to binary proto file x_iter_50.solverstate
I1129 15:00:00.000000   12 solver.cpp:279] Solving LeNet
I1129 15:00:00.000000   12 caffe.cpp:241] Resuming from x_iter_50.solverstate
I1129 11:00:05.000000   12 solver.cpp:228] Iteration 50, loss = 0.9
I1129 11:00:15.000000   12 solver.cpp:228] Iteration 100, loss = 0.5
"""


def test_headers_that_are_newer_than_the_lines_below_take_no_time(tmp_path):
    (tmp_path / "caffe.log").write_text(HEADERS)
    (run,) = read_log(tmp_path / "caffe.log")
    assert run.loss["train"].seconds == (0.0, 11.0, 21.0) and run.resumes == (50,)


@pytest.mark.parametrize("kind", ["plain", "caffe"])
def test_what_we_print_reads_as_our_log_does(job, capsys, kind):
    assert main(["train", str(job), "--log-format", kind]) == 0
    assert (
        main(["train", str(job), "--log-format", kind, "--snapshot", "snap/run_iter_14.solverstate.npz"]) == 0
    )
    job.with_name("out.txt").write_text(capsys.readouterr().out)
    (printed,), (logged,) = read_log("out.txt"), read_log("snap/run.log.jsonl")
    assert printed.resumes == logged.resumes == (14,)
    assert (printed.net, printed.losses) == (logged.net, logged.losses)
    assert [s.iteration for s in printed.snapshots] == [s.iteration for s in logged.snapshots]
    assert printed.outputs.keys() == logged.outputs.keys()
    for mine, its in [
        (printed.rate, logged.rate),
        *((printed.loss[phase], logged.loss[phase]) for phase in ("train", "test")),
        *((printed.outputs[key], logged.outputs[key]) for key in printed.outputs),
    ]:
        assert mine.iterations == its.iterations
        assert mine.values == pytest.approx(its.values, rel=1e-5)


def test_what_a_script_of_pycaffe_prints_reads_as_caffes_log_does(job, capsys, monkeypatch):
    from minicaffe import pycaffe as caffe

    logger = caffe.mode.logger
    monkeypatch.setattr(logger, "handlers", logger.handlers)
    monkeypatch.setattr(logger, "level", logger.level)
    monkeypatch.setattr(logger, "propagate", False)  # to what other tests have set up
    monkeypatch.setattr(caffe.mode._process, "log_is_shown", False)
    caffe.init_log()
    caffe.AdamSolver(str(job)).solve()
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line[:1] not in "IW" or not line[1:5].isdecimal()] == []
    assert any(line.endswith("] Iteration 3, lr = 0.002") for line in lines)
    job.with_name("err.txt").write_text("\n".join(lines))
    (run,) = read_log("err.txt")
    assert run.loss["train"].iterations == (0, 3, 6, 9, 12, 15, 18, 20)
    assert all(math.isfinite(time) for time in run.loss["train"].seconds)


# -- what is none


def test_a_thinned_series_ends_where_the_whole_one_does():
    numbers = tuple(range(11))
    assert Series(numbers, numbers, numbers).thinned(4).iterations == (1, 4, 7, 10)
    assert Series(numbers, numbers, numbers).thinned(11).values == numbers


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a training log"),
        ("loss = 3\n", "not a training log"),
        ('{"a": 1}\n', "not a training log"),
        (NET, "not a training log"),
        (
            '{"event": "start", "iteration": 0, "run": "a"}\n',
            "no iteration was shown in it yet; let it train",
        ),
    ],
    ids=["empty", "a text", "other JSON", "a spec", "only started"],
)
def test_a_file_that_is_no_log_is_told_in_one_line(tmp_path, text, problem):
    (tmp_path / "x.log").write_text(text)
    with pytest.raises(mc.DataError, match=problem) as raised:
        read_log(tmp_path / "x.log")
    assert str(raised.value).startswith(str(tmp_path / "x.log"))
    with pytest.raises(mc.DataError, match="cannot be read"):
        read_log(tmp_path / "lost.log")


def test_lines_that_are_no_events_are_passed_over(tmp_path):
    log = write_events(tmp_path / "x.log.jsonl", start("a"), train(0, 1.0))
    with log.open("a") as file:
        file.write('{"event": "train", "iter\n[1]\n\n{"event": "train", "iteration": "5"}\n')
        file.write('{"event": "train", "iteration": 7, "loss": "much", "outputs": 3}\n')
    (run,) = read_log(log)
    assert run.loss["train"].iterations == (0, 7) and math.isnan(run.loss["train"].values[1])


@pytest.mark.parametrize(
    ("width", "mean"), [(1, [1, 2, 6, 0]), (3, [1, 3, 8 / 3, 3]), (99, [1, 3, 9 / 4, 9 / 4])]
)
def test_a_running_mean_has_as_many_on_both_sides_but_at_the_end(width, mean):
    assert running_mean([1, 2, 6, 0], width) == pytest.approx(mean)
    assert running_mean([1, math.nan, 3], 3)[1] == 2 and math.isnan(running_mean([math.nan], 5)[0])
