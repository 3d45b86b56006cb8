"""``minicaffe plot``: what its pictures and its events have of the logs."""

import builtins
import json
import struct
import sys
from pathlib import Path

import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.inspect import plot as plot_module
from minicaffe.inspect.logs import Series, read_log, read_logs
from minicaffe.inspect.plot import _names_to_show, loss_limits, plot_runs, smooth_width, spread
from minicaffe.inspect.tensorboard import _folders
from tests.golden_files import FOLDER

pytestmark = pytest.mark.cpu_only("of files that are read")


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Two runs, one with norms; names that matplotlib could misread."""
    monkeypatch.chdir(tmp_path)
    path, events = tmp_path / "$_x_$.log.jsonl", []
    for run in "ab":
        events.append({"event": "start", "iteration": 0, "run": run, "losses": {"loss": 1}, "time": 0})
        for i in range(0, 50, 10):
            loss, score = 2.0 / (i + 1), {"accuracy": i / 50, "loss": 3.0 / (i + 1)}
            events += [
                {"event": "train", "iteration": i, "loss": loss, "lr": 0.1 ** (i // 20 + 1), "time": i + 1},
                {"event": "test", "iteration": i, "net": 0, "outputs": score, "time": i + 1},
                {"event": "snapshot", "iteration": i, "file": f"x_iter_{i}.solverstate.npz", "time": i + 1},
            ]
    norms = {f"conv{k}/{part}": [1.0, 5.0, 0.001 * k] for k in range(1, 12) for part in (0, 1)}
    events.append({"event": "norms", "iteration": 0, "params": norms, "time": 1})
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures that were drawn, by the name of their y axis."""
    found, check = {}, plot_module.check

    def checked(path):
        new_figure, kind = check(path)

        def figure(**settings):
            found["figure"] = new_figure(**settings)
            return found["figure"]

        return figure, kind

    monkeypatch.setattr(plot_module, "check", checked)
    return lambda: {axes.get_ylabel().split(" (")[0]: axes for axes in found["figure"].axes}


def test_a_picture_has_losses_scores_rates_and_ratios_of_each_run(log, drawn, capsys):
    assert main(["plot", str(log), "-o", "curves.png", "--smooth", "3"]) == 0
    assert capsys.readouterr().out == "Curves of $_x_$ (1), $_x_$ (2) in curves.png\n"
    with Image.open("curves.png") as image:
        assert min(image.size) > 1000
    axes = drawn()
    assert list(axes) == ["loss", "score", "rate", "‖Δw‖ / ‖w‖"]
    first, second = read_log(log)
    raw, mean, test, ticks = axes["loss"].get_lines()[:4]
    assert [*raw.get_ydata()] == [*first.loss["train"].values] and [*raw.get_xdata()] == [0, 10, 20, 30, 40]
    assert mean.get_ydata()[1] == pytest.approx(sum(first.loss["train"].values[:3]) / 3)
    assert [*test.get_ydata()] == [*first.loss["test"].values]
    assert [*ticks.get_xdata()] == [snapshot.iteration for snapshot in first.snapshots]
    of_runs = axes["score"].get_lines()
    for look in ("get_linestyle", "get_color", "get_marker"):  # each run has its own
        assert len({getattr(line, look)() for line in of_runs}) == 2
    legend = [text.get_text() for text in axes["loss"].get_legend().get_texts()]
    assert legend == [
        "train, mean of 3 shown",
        "train, as shown",
        "test",
        "snapshot",
        "$_x_$ (1)",
        "$_x_$ (2)",
    ]
    names = [text.get_text() for text in axes["score"].texts]
    assert sorted(names) == ["$_x_$ (1), accuracy", "$_x_$ (2), accuracy"]
    ratios = [*axes["‖Δw‖ / ‖w‖"].get_lines()[2].get_ydata()]
    assert ratios == [*second.norms["conv2/0"].ratio.values] == [0.002]
    ends = [text.get_text() for text in axes["‖Δw‖ / ‖w‖"].texts]
    assert ends == [
        "$_x_$ (2), conv1",
        "$_x_$ (2), conv11",
    ]  # which are those that change least and most, too


def test_a_run_that_diverged_says_where_and_its_tests_are_joined(log, drawn):
    with log.open("a") as file:
        file.write(json.dumps({"event": "end", "iteration": 47, "loss": None, "time": 60}))
    plot_runs(read_log(log)[1:], "a.svg")
    axes = drawn()["loss"]
    assert "diverged at iteration 47" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert [line.get_linestyle() for line in axes.get_lines() if line.get_marker() == "o"] == ["-"]


def test_time_is_of_the_training(log, drawn):
    plot_runs(read_log(log)[:1], "a.svg", x="time")
    assert [*drawn()["loss"].get_lines()[0].get_xdata()] == [1, 11, 21, 31, 41]
    assert drawn()["rate"].get_xlabel() == "seconds of training"


def test_the_same_log_gives_the_same_bytes(log):
    for name in ("a.svg", "b.svg"):
        plot_runs(read_log(FOLDER / "training_log.txt"), name)
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["lost.log"], "lost.log: cannot be read"),
        (["net.yaml"], "net.yaml: not a training log: it has neither"),
        (["{log}", "-o", "x.jpg"], "x.jpg: a plot is a .png or .svg file"),
        (["{log}", "-o", "{log}"], "would be written over"),
        (["out.txt", "--x", "time"], "out.txt: has no times; draw it over the iterations"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(log, capsys, arguments, problem):
    (log.parent / "net.yaml").write_text("name: x\n")
    (log.parent / "out.txt").write_text("Iteration 0, loss = 2.3, lr = 0.1\n")
    assert main(["plot", *(word.format(log=log) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1


@pytest.mark.parametrize("part", ["loss", "score"])
def test_a_name_stands_at_the_height_of_its_line_s_end(part, drawn, tmp_path):
    (run,) = read_log(FOLDER / "training_log.txt")
    plot_runs([run], tmp_path / "x.svg")
    axes = drawn()[part]
    series = {**run.loss, **{name: scores for (_, name), scores in run.scores.items()}}
    for text in axes.texts:
        end = axes.transData.transform((1, series[text.get_text()].values[-1]))
        assert text.xy[1] == pytest.approx(axes.transAxes.inverted().transform(end)[1])


def test_a_rate_that_ends_at_0_has_its_name(drawn, tmp_path):
    """On a logarithmic axis: at the last rate that is on it."""
    for name in "ab":
        lines = [f"Iteration {i}, loss = 1, lr = {(1 - i / 40) ** 4}\n" for i in range(0, 41, 10)]
        (tmp_path / f"{name}.log").write_text("".join(lines))
    plot_runs(read_logs([tmp_path / "a.log", tmp_path / "b.log"]), tmp_path / "x.svg")
    texts = drawn()["rate"].texts
    assert [text.get_text() for text in texts] == ["a", "b"]
    assert all(-0.3 < text.xy[1] < 0.3 for text in texts)


def test_a_log_of_rates_alone_is_drawn(drawn, tmp_path):
    """A log whose beginning was cut off may have no loss."""
    path = tmp_path / "cut.log"
    path.write_text("Iteration 100, lr = 0.1\nIteration 200, lr = 0.01\n")
    plot_runs(read_log(path), tmp_path / "x.svg")
    assert list(drawn()) == ["rate"]


def test_a_first_loss_beside_which_all_others_lie_flat_is_told_and_left_out_of_the_axis(drawn, tmp_path):
    events = [{"event": "start", "iteration": 0, "run": "a", "losses": {"loss": 1}, "time": 0}]
    for i, (loss, test) in enumerate([(2.5, 65.54), (0.9, 1.5), (0.4, 0.7)]):
        at = {"iteration": 20 * i, "time": i + 1}
        events += [{"event": "test", "net": 0, "outputs": {"loss": test}, **at},
                   {"event": "train", "loss": loss, "lr": 0.1, **at}]  # fmt: skip
    path = tmp_path / "a.log.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    runs = read_log(path)
    assert loss_limits(runs)[1] == ["test: 65.5 at iteration 0 is above"]
    plot_runs(runs, tmp_path / "a.svg")
    axes = drawn()["loss"]
    assert axes.get_ylim()[1] == pytest.approx(2.5 + 0.05 * 2.1) and axes.get_ylim()[0] < 0.4
    assert "test: 65.5 at iteration 0 is above" in [text.get_text() for text in axes.texts]


def test_a_clock_that_was_set_back_is_no_matter(tmp_path):
    path = tmp_path / "back.log"
    lines = [(f"02:{minute}:00", loss) for minute, loss in ((30, 2), (50, 1), (10, 0.5))]
    path.write_text("".join(f"I1029 {at}.000000  1 a.cpp:1] Iteration 0, loss = {x}\n" for at, x in lines))
    plot_runs(read_log(path), tmp_path / "x.svg", x="time")


def test_of_many_ratios_the_first_the_last_the_least_and_the_largest_are_named():
    ratios = {
        f"{i}": Series((0,), (0.0,), (float(size),)) for i, size in enumerate([5, 9, 6, 1, 7, 8, 2, 3, 4])
    }
    assert _names_to_show(ratios) == ["0", "8", "3", "1"]


def test_names_at_the_ends_stand_apart():
    assert spread([0.1, 0.5], 0.1) == [0.1, 0.5]
    assert spread([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    assert spread([0.1, 0.42, 0.5, 0.55], 0.1) == pytest.approx([0.1, 0.39, 0.49, 0.59])


@pytest.mark.parametrize(("points", "width"), [(0, 1), (39, 1), (40, 3), (200, 11), (1000, 51), (9999, 101)])
def test_the_mean_is_of_a_20th_of_the_points_and_odd(points, width):
    assert smooth_width(points) == width


# -- TensorBoard


def scalars_of(folder):
    """Tag, step and value of all events: the records have a length, its checksum, the event and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.iterdir()
    data, at, found = file.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        at += 16 + length
    return found


def test_events_for_tensorboard_are_the_logs_numbers(log, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # which tensorboardX would import, for seconds
    pytest.importorskip("tensorboardX")
    assert main(["plot", str(log), "--tensorboard", "board"]) == 0
    assert not (log.parent / "curves.svg").exists()
    folder = log.parent / "board"
    assert {path.name for path in folder.iterdir()} == {"__x__ (1)", "__x__ (2)"}
    found = scalars_of(folder / "__x__ (2)")
    assert ("loss/train", 10, pytest.approx(2 / 11)) in found and ("loss/test", 0, 3.0) in found
    assert ("test/accuracy", 40, pytest.approx(0.8)) in found
    assert ("updates/conv2/0", 0, pytest.approx(0.002)) in found
    assert {tag for tag, _, _ in found} >= {"learning_rate", "weights/conv1/1", "gradients/conv1/1"}
    assert main(["plot", str(log), "--tensorboard", "board"]) == 2
    assert "has events already; remove it" in capsys.readouterr().err


def test_runs_whose_names_no_folder_can_have_get_folders_of_their_own():
    assert _folders(["a/b", "a:b", "a_b", "..", "..."]) == ["a_b", "a_b 2", "a_b 3", "run", "run 2"]


def test_the_missing_extra_is_named(log, monkeypatch, capsys):
    load = builtins.__import__

    def without(name, *rest, **more):
        if name.partition(".")[0] in ("matplotlib", "tensorboardX"):
            raise ImportError(name)
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["plot", str(log)]) == main(["plot", str(log), "--tensorboard", "x"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'minicaffe[plot]'" in error and "pip install 'minicaffe[tensorboard]'" in error
    with pytest.raises(mc.MinicaffeError, match="plots need matplotlib"):
        plot_runs(read_log(log), "x.png")
