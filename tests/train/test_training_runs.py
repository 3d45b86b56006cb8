"""Runs of a solver: where snapshots go, which one ``latest`` is, what a resumed one reads, the log's lines."""

import json
import os
import random

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver
from minicaffe.train import snapshots
from minicaffe.train.preview import sizes
from tests.train.training import NET, SOLVER, arrays_of, write_job

PLAIN = SOLVER.replace("snapshot: 7", "snapshot: 0")
NO_PREFIX = SOLVER.replace("snapshot_prefix: snap/run\n", "")
SHORT = SOLVER.replace("max_iter: 40", "max_iter: 4").replace("snapshot: 7", "snapshot: 2")


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_job(tmp_path, solver=PLAIN)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".npz")


def events_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_that_has_ended_is_not_saved_and_tested_again(job, tmp_path, capsys):
    job.write_text(SHORT)
    assert main(["train", "solver.yaml"]) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "snap").glob("*.npz")}
    capsys.readouterr()
    assert main(["train", "solver.yaml", "--snapshot", "latest"]) == 0
    said = capsys.readouterr().out
    assert "Nothing to train: iteration 4, max_iter 4" in said and "Solving" not in said
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "snap").glob("*.npz")}


# -- where snapshots go


def test_without_a_prefix_snapshots_and_the_log_are_named_after_the_solver_file(job, tmp_path):
    job.write_text(SHORT.replace("snapshot_prefix: snap/run\n", ""))
    assert main(["train", "solver.yaml"]) == 0
    assert names_in(tmp_path) == [
        f"solver_iter_{n}{kind}.npz" for n in (2, 4) for kind in ("", ".solverstate")
    ]
    assert (tmp_path / "solver.log.jsonl").is_file()
    job.write_text(job.read_text().replace("max_iter: 4", "max_iter: 5"))
    assert main(["train", "solver.yaml", "--snapshot", "latest"]) == 0
    starts = [event for event in events_of(tmp_path / "solver.log.jsonl") if event["event"] == "start"]
    assert [event["resumed"] for event in starts] == [None, "solver_iter_4.solverstate.npz"]


def test_steps_without_a_prefix_leave_no_log(job, tmp_path):
    job.write_text(NO_PREFIX.replace("snapshot: 7", "snapshot: 0"))
    solver = mc.Solver(job)
    solver.step(1)
    solver.close()
    assert not list(tmp_path.glob("*.log.jsonl"))


@pytest.mark.parametrize("made", [True, False])
def test_a_prefix_that_is_a_folder_means_files_in_it(job, tmp_path, made):
    if made:
        (tmp_path / "dir").mkdir()
    job.write_text(SHORT.replace("snap/run", "dir" if made else "dir/"))
    assert main(["train", "solver.yaml"]) == 0
    assert "solver_iter_4.solverstate.npz" in names_in(tmp_path / "dir")


@pytest.mark.parametrize("prefix", ["solver.yaml/run", "x" * 245], ids=["a file", "a long name"])
@pytest.mark.parametrize("settings", ["snapshot: 2", "snapshot_after_train: true"])
def test_a_prefix_that_cannot_be_written_is_refused_before_the_first_iteration(job, capsys, prefix, settings):
    job.write_text(SHORT.replace("snap/run", prefix).replace("snapshot: 2", settings))
    assert main(["train", "solver.yaml"]) == 2
    output = capsys.readouterr()
    assert "check snapshot_prefix" in output.err and output.err.count("\n") == 1
    assert "Iteration" not in output.out
    solver = mc.Solver(job)
    with pytest.raises(mc.WriteError, match="check snapshot_prefix"):
        solver.solve()
    assert solver.iter == 0


def test_a_spec_of_no_file_without_a_prefix_is_refused_where_it_asks_for_snapshots(job, caplog):
    with pytest.raises(mc.SpecError, match=r"<string>:\d+: snapshot: there is no snapshot_prefix"):
        mc.Solver(parse_solver(NO_PREFIX)).solve()
    text = NO_PREFIX.replace("snapshot: 7\n", "").replace("max_iter: 40", "max_iter: 1")
    mc.Solver(parse_solver(text)).solve()
    assert caplog.text.index("nothing will be saved") < caplog.text.index("nothing is saved")


def test_weights_of_the_solver_are_looked_up_beside_it(job, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "minicaffe")
    mc.Solver(job).net.save(tmp_path / "start.npz")
    job.write_text(SOLVER + "weights: start.npz\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    mc.Solver(job)
    assert "copied: conv, ip" in caplog.text
    job.write_text(SOLVER + "weights: lost.npz\n")
    with pytest.raises(mc.SpecError, match=r"solver.yaml:\d+: weights: no file 'lost.npz' beside the solver"):
        mc.Solver(job)


# -- latest


def snapshots_at(job, *iterations):
    """Those of one run; its solver."""
    solver = mc.Solver(job)
    for iteration in iterations:
        solver.step(iteration - solver.iter)
        solver.snapshot()
    solver.close()
    return solver


def test_latest_is_of_the_run_that_was_started_last_and_not_the_highest_iteration(job):
    snapshots_at(job, 4, 9)
    snapshots_at(job, 3)
    assert snapshots.latest("snap/run").name == "run_iter_3.solverstate.npz"
    os.unlink("snap/run.log.jsonl")
    assert snapshots.latest("snap/run").name == "run_iter_3.solverstate.npz"


def test_a_run_that_was_killed_before_its_first_snapshot_is_not_taken_for_the_one_before(job):
    first = snapshots_at(job, 2)
    job.write_text(
        PLAIN.replace("display: 5", "display: 0").replace(
            "test_interval: 15", "test_interval: 50\ntest_initialization: false"
        )
    )
    killed = mc.Solver(job)
    killed.step(1)
    killed.close()
    with pytest.raises(mc.TrainingError, match=r"has left no snapshot; snap/run_iter_2.*name that to go on"):
        snapshots.latest("snap/run")
    again = mc.Solver(job)
    again.restore("snap/run_iter_2.solverstate.npz")
    again.close()
    assert again.run == first.run != killed.run
    assert snapshots.latest("snap/run").name == "run_iter_2.solverstate.npz"


def test_a_run_that_went_back_to_an_earlier_snapshot_goes_on_from_there(job):
    snapshots_at(job, 2, 8)
    solver = mc.Solver(job)
    solver.restore("snap/run_iter_2.solverstate.npz")
    solver.step(1)
    solver.snapshot()
    assert snapshots.latest("snap/run").name == "run_iter_3.solverstate.npz"


SMALL = """layer:
- {name: data, type: DummyData, top: [data, target], dummy_data_param: {shape: {dim: [2, 3]}}}
- {name: ip, type: InnerProduct, bottom: data, inner_product_param: {num_output: 3}}
- {name: loss, type: EuclideanLoss, bottom: [ip, target]}
"""


def test_latest_is_the_last_state_of_the_last_run_whatever_runs_were_begun_killed_and_gone_on_with(job):
    job.write_text("net: net.yaml\nbase_lr: 0.1\nlr_policy: fixed\nsnapshot_prefix: snap/run\n")
    (job.parent / "net.yaml").write_text(SMALL)
    rng = random.Random(1)
    expected = {}  # of each run, the state that it wrote last
    solver = None
    for _ in range(40):
        choice = rng.random()
        if solver is None or choice < 0.15:
            solver = mc.Solver(job)
        elif choice < 0.4 and expected.get(solver.run):
            run, state = solver.run, snapshots.latest("snap/run")
            solver = mc.Solver(job)
            solver.restore(state)
            assert (solver.run, str(state)) == (run, expected[run])
        solver.step(rng.randint(1, 4))
        if rng.random() < 0.6:
            state = str(solver.snapshot())
            expected = {run: old for run, old in expected.items() if old != state}
            expected[solver.run] = state
        if rng.random() < 0.5:
            solver.close()
        if solver.run in expected:
            assert str(snapshots.latest("snap/run")) == expected[solver.run]
        else:
            with pytest.raises(mc.TrainingError, match="snapshot"):
                snapshots.latest("snap/run")


def test_a_clock_that_was_set_back_does_not_change_what_is_latest(job, monkeypatch):
    snapshots_at(job, 2)
    monkeypatch.setattr(snapshots.time, "time", lambda: 1000.0)
    solver = mc.Solver(job)
    solver.restore("snap/run_iter_2.solverstate.npz")
    solver.step(1)
    solver.snapshot()
    assert snapshots.latest("snap/run").name == "run_iter_3.solverstate.npz"


def without_run(state):
    """As versions wrote it that did not note the run."""
    arrays = arrays_of(state)
    meta = json.loads(str(arrays["meta"]))
    for name in ("run", "saved"):
        del meta[name]
    np.savez(state, **{**arrays, "meta": np.array(json.dumps(meta))})


def test_states_of_earlier_versions_are_in_the_order_of_their_iterations(job):
    snapshots_at(job, 2, 10)
    for n in (2, 10):
        without_run(f"snap/run_iter_{n}.solverstate.npz")
    os.unlink("snap/run.log.jsonl")
    assert snapshots.latest("snap/run").name == "run_iter_10.solverstate.npz"
    solver = mc.Solver(job)
    solver.restore(snapshots.latest("snap/run"))
    solver.close()
    assert snapshots.latest("snap/run").name == "run_iter_10.solverstate.npz"


def broken_weights(name):
    arrays = arrays_of("snap/run_iter_9.npz")
    arrays["conv/0"][0] = np.inf
    np.savez("snap/run_iter_9.npz", **arrays)
    state = arrays_of(name)
    meta = json.loads(str(state["meta"]))
    meta["weights_crc32"] = snapshots._crc32(snapshots.Path("snap/run_iter_9.npz"))
    np.savez(name, **{**state, "meta": np.array(json.dumps(meta))})


BREAKS = {
    "are not finite (conv/0)": broken_weights,
    "is not of this state": lambda name: os.replace("snap/run_iter_4.npz", "snap/run_iter_9.npz"),
    "cannot be read": lambda name: os.unlink("snap/run_iter_9.npz"),
    "passed over": lambda name: snapshots.Path(name).write_bytes(b"PK\x03\x04 half"),
}


@pytest.mark.parametrize("problem", BREAKS)
def test_latest_passes_over_a_broken_snapshot_and_says_why(job, caplog, problem):
    snapshots_at(job, 2, 4, 9)
    BREAKS[problem]("snap/run_iter_9.solverstate.npz")
    found = snapshots.latest("snap/run").name
    assert found == f"run_iter_{2 if problem == 'is not of this state' else 4}.solverstate.npz"
    assert "run_iter_9" in caplog.text and problem in caplog.text


# -- data of a resumed run


RESUMED = {
    "batch_size": ("batch_size: 16", "batch_size: 8"),
    "source": ("source: sample/mnist-train", "source: sample/mnist-test"),
    "shuffle": ("shuffle: true", "shuffle: false"),
    "rand_skip": ("rand_skip: 50", "rand_skip: 5"),
}


@pytest.mark.parametrize("field", RESUMED)
def test_a_resumed_run_says_that_its_data_are_others(job, tmp_path, caplog, field):
    state = snapshots_at(job, 3).prefix + "_iter_3.solverstate.npz"
    write_job(tmp_path, NET.replace(*RESUMED[field]), PLAIN)
    solver = mc.Solver(job)
    solver.restore(state)
    assert "layer 'digits': continues on other data" in caplog.text and field in caplog.text
    assert solver.net.layers[0].prefetcher.number == (12 if field == "batch_size" else 6)  # iter_size is 2
    solver.close()


def test_a_resumed_run_says_that_a_data_layer_has_no_place_in_the_snapshot(job, tmp_path, caplog):
    state = snapshots_at(job, 3).prefix + "_iter_3.solverstate.npz"
    write_job(tmp_path, NET.replace("name: digits", "name: numbers", 1), PLAIN)
    solver = mc.Solver(job)
    solver.restore(state)
    assert "layer 'numbers': the snapshot has no state of this layer (but one of digits" in caplog.text


def test_a_resumed_run_with_the_same_data_says_nothing(job, caplog):
    state = snapshots_at(job, 3).prefix + "_iter_3.solverstate.npz"
    mc.Solver(job).restore(state)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


# -- the log


def test_every_run_has_a_start_in_the_log_with_what_it_is(job, tmp_path):
    first = snapshots_at(job, 2)
    resumed = mc.Solver(job)
    resumed.restore("snap/run_iter_2.solverstate.npz")
    resumed.close()
    snapshots_at(job, 1)
    events = events_of(tmp_path / "snap" / "run.log.jsonl")
    starts = [event for event in events if event["event"] == "start"]
    assert [event["iteration"] for event in starts] == [0, 2, 0]
    assert [event["run"] == first.run for event in starts] == [True, True, False]
    assert [event["resumed"] for event in starts] == [None, "snap/run_iter_2.solverstate.npz", None]
    net = (tmp_path / "net.yaml").read_text()
    for event in starts:
        assert (event["net"], event["seed"], event["solver"]) == ("small", 5, PLAIN)
        assert (event["net_spec"], event["losses"], event["weights"]) == (net, {"loss": 1}, [])
        assert event["time"] > 1e9
    assert events[0] == starts[0] and events[events.index(starts[1]) + 1]["event"] == "resume"


def test_a_start_names_the_weights_it_began_from_and_has_an_inline_net_once(job, tmp_path, capsys):
    mc.Solver(job).net.save(tmp_path / "start.npz")
    job.write_text(SHORT)
    assert main(["train", "solver.yaml", "--weights", "start.npz"]) == 0
    inline = "net_param:\n" + "".join(f"  {line}\n" for line in NET.splitlines())
    job.write_text(SHORT.replace("net: net.yaml\n", inline) + "weights: start.npz\n")
    with mc.Solver(job) as solver:
        solver.step(1)
    with mc.Solver(parse_solver(SHORT), parse_net(NET)) as solver:
        solver.step(1)
    events = events_of(tmp_path / "snap" / "run.log.jsonl")
    tuned, own, spoken = (event for event in events if event["event"] == "start")
    assert tuned["weights"] == ["start.npz"] and own["weights"] == [str(tmp_path / "start.npz")]
    assert (own["solver"], own["net_spec"]) == (job.read_text(), "")
    assert (spoken["solver"], spoken["net_spec"], spoken["weights"]) == ("", "", [])


@pytest.mark.parametrize("keep", [-1, -10])
def test_a_cut_last_line_of_the_log_does_not_spoil_the_next(job, tmp_path, keep):
    snapshots_at(job, 2)
    log = tmp_path / "snap" / "run.log.jsonl"
    before = log.read_bytes()
    log.write_bytes(before[:keep])
    snapshots_at(job, 1)
    events = events_of(log)
    lost = 0 if keep == -1 else 1
    assert [event["event"] for event in events].count("start") == 2
    assert (
        events[: before.count(b"\n") - lost]
        == [json.loads(line) for line in before.splitlines()][: before.count(b"\n") - lost]
    )


def test_the_log_is_json_where_an_output_is_no_number(job, tmp_path):
    solver = mc.Solver(job)
    solver.net.params["ip"][0].data[...] = np.nan
    solver.test_all()
    solver.close()
    log = (tmp_path / "snap" / "run.log.jsonl").read_text()
    assert "NaN" not in log
    assert json.loads(log.splitlines()[-1])["outputs"]["loss"] is None


# -- what a run is


def test_a_training_says_how_large_its_net_and_its_data_are(job, capsys):
    job.write_text(SHORT)
    assert main(["train", "solver.yaml"]) == 0
    output = capsys.readouterr().out
    rows = mc.Solver(job).net.layers[0].rows
    assert "Net: 1,666 parameters, " in output and " multiply-adds an image" in output
    assert f"Data of layer 'digits': {rows:,} images of 10 classes, 16 a batch: an epoch is " in output
    assert f"{rows / 32:,.4g} iterations" in output  # iter_size is 2


def test_labels_that_are_no_classes_are_not_counted_as_such(tmp_path):
    for name, labels in (("classes", [0, 1, 1, 4]), ("numbers", [0.5, 1, 2, 3])):
        np.savez(tmp_path / f"{name}.npz", data=np.zeros((4, 1, 2, 2), np.uint8), labels=labels)
    text = "layer: {name: d, type: Data, top: [d, l], data_param: {source: SOURCE, batch_size: 3}}"
    lines = []
    for name in ("classes", "numbers"):
        net = mc.Net(parse_net(text.replace("SOURCE", str(tmp_path / f"{name}.npz"))))
        lines += list(sizes(net, 2))
        net.close()
    assert lines[1::2] == [
        "Data of layer 'd': 4 images of 3 classes, 3 a batch: an epoch is 0.6667 iterations",
        "Data of layer 'd': 4 images, 3 a batch: an epoch is 0.6667 iterations",
    ]


@pytest.mark.parametrize(
    ("lines", "classes"), [("{} 0\n{} 2\n", " of 2 classes"), ("{} 0 1\n{} 2 3\n", ""), ("{}\n{}\n", "")]
)
def test_the_classes_of_a_list_are_counted(tmp_path, lines, classes):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text(lines.format("a.png", "a.png"))
    top = "[d]" if "{}\n" in lines else "[d, l]"
    param = f"{{source: {tmp_path / 'list.txt'}, batch_size: 2}}"
    text = f"layer: {{name: d, type: ImageData, top: {top}, image_data_param: {param}}}"
    with mc.Net(parse_net(text)) as net:
        line = list(sizes(net))[1]
    assert line == f"Data of layer 'd': 2 images{classes}, 2 a batch: an epoch is 1 iterations"


def test_weights_of_another_shape_say_how_to_learn_the_layer_anew(job, tmp_path):
    mc.Solver(job).net.save(tmp_path / "w.npz")
    write_job(tmp_path, NET.replace("num_output: 10", "num_output: 20"), PLAIN)
    solver = mc.Solver(job)
    with pytest.raises(mc.WeightError, match=r"'ip/0' has shape .*; give weights of .* or rename the layer"):
        solver.copy_from(tmp_path / "w.npz")
    write_job(tmp_path, NET.replace("num_output: 10", "bias_term: false, num_output: 10"), PLAIN)
    with pytest.raises(mc.WeightError, match=r"'ip' has 2 arrays, .* 1 parameters; .* or rename the layer"):
        mc.Solver(job).copy_from(tmp_path / "w.npz")
