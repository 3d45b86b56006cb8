"""The live page of a training: what it is told, what it survives, and that its numbers are the log's."""

import json
import shutil

import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.inspect.logs import read_log
from minicaffe.inspect.report import watch
from minicaffe.inspect.report.views.training import run_data
from minicaffe.inspect.report.watch import LivePage
from tests.train.training import SOLVER, write_job

pytestmark = pytest.mark.cpu_only("pages are of NumPy's numbers")

SHORT = SOLVER.replace("display: 5", "display: 2").replace("max_iter: 40", "max_iter: 18")


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_job(tmp_path, solver=SHORT)


def events_of(script):
    return [
        json.loads(line.removeprefix("mc(").removesuffix(");")) for line in script.read_text().splitlines()
    ]


def small_net():
    text = "input: x\ninput_shape: {dim: [1, 1, 8, 8]}\n"
    conv = "layer: {name: c, type: Convolution, convolution_param: {num_output: 2, kernel_size: 3}}"
    return mc.Net.from_text(text + conv)


def start(run, resumed=None):
    return {
        "event": "start",
        "iteration": 0,
        "run": run,
        "resumed": resumed,
        "losses": {},
        "time": 0.0,
        "solver": "long",
    }


def train(iteration):
    return {
        "event": "train",
        "iteration": iteration,
        "loss": 1.5,
        "lr": 0.1,
        "outputs": {"x": 1},
        "time": 1.0,
    }


# -- the files


def test_a_training_tells_the_page_what_it_logs(job, tmp_path, capsys):
    assert main(["train", str(job), "--live", "--log-norms"]) == 0
    assert "snap/run.live.html; open it in a browser" in capsys.readouterr().out
    told = events_of(tmp_path / "snap" / "run.live.js")
    logged = [json.loads(line) for line in (tmp_path / "snap" / "run.log.jsonl").read_text().splitlines()]
    kinds = [event["event"] for event in told if event["event"] != "filters"]
    assert kinds == [e["event"] for e in logged] and kinds[-1] == "end" and kinds.count("end") == 1
    of_train = [(e["iteration"], e["loss"]) for e in logged if e["event"] == "train"]
    assert [(e["iteration"], e["loss"]) for e in told if e["event"] == "train"] == of_train
    norms = next(e["params"]["conv/0"] for e in logged if e["event"] == "norms")
    ratio = next(e["ratios"]["conv/0"] for e in told if e["event"] == "norms")
    assert ratio == pytest.approx(norms[2] / norms[0], rel=1e-3)
    filters = next(event for event in told if event["event"] == "filters")
    assert (filters["layer"], filters["shape"]) == ("conv", [6, 1, 5, 5])
    page = (tmp_path / "snap" / "run.live.html").read_text()
    assert '"source":"run.live.js"' in page and '"last":18' in page


def test_without_the_flag_there_is_no_page(job, tmp_path):
    assert main(["train", str(job)]) == 0
    assert not list(tmp_path.glob("snap/*.live.*"))


def test_nothing_is_written_before_anything_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    live = LivePage("name", small_net())
    live.close()
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_goes_on_and_another_begins_anew(tmp_path):
    """What a resumed run has done is in the log, even if there was no page then."""

    def tell(*events):
        with (tmp_path / "x y.log.jsonl").open("a") as log:  # a start is written with the event after it
            log.writelines(json.dumps(event) + "\n" for event in events)
        live = LivePage(str(tmp_path / "x y"), small_net())
        for event in events:
            live(event)
        live.close()
        return [event["event"] for event in events_of(tmp_path / "x y.live.js")]

    assert tell(start("b"), train(0)) == ["start", "train", "filters", "end"]
    assert tell(start("a"), train(0)) == ["start", "train", "filters", "end"]
    (tmp_path / "x y.live.js").unlink()
    again = ["start", "train", "start", "train", "filters", "end"]
    assert tell(start("a", "x_iter_0.solverstate.npz"), train(0)) == again
    assert '"source":"x%20y.live.js"' in (tmp_path / "x y.live.html").read_text()
    (tmp_path / "x y.log.jsonl").unlink()
    assert tell(start("c"), train(0)) == ["start", "train", "filters", "end"]


def test_a_log_that_is_damaged_does_not_stop_the_training(job, tmp_path, capsys):
    assert main(["train", str(job)]) == 0
    log = tmp_path / "snap" / "run.log.jsonl"
    log.write_text(log.read_text() + '{"event": "norms", "iteration": 3, "params": 7}\n')
    assert main(["train", str(job), "--live", "--snapshot", "snap/run_iter_14.solverstate.npz"]) == 0
    output = capsys.readouterr().out
    assert (
        output.count("The live page stays as it is") == 1 and "Iteration 16" in output.partition("stays")[2]
    )


@pytest.fixture
def long(tmp_path, monkeypatch):
    """Tells a page of 400 iterations that are shown, with filters after each; returns the events in its .js."""

    def tell(**limits):
        for name, value in {"FILTERS_EVERY": 0, **limits}.items():
            monkeypatch.setattr(watch, name, value)
        live = LivePage(str(tmp_path / "x"), small_net())
        live(start("a"))
        for i in range(400):
            live(train(i))
        return events_of(tmp_path / "x.live.js")

    return tell


def test_many_events_are_thinned(long):
    told = long(MOST_EVENTS=100)
    assert told[0]["event"] == "start" and len(told) <= 101
    shown = [event["iteration"] for event in told if event["event"] == "train"]
    assert shown == sorted(shown) and shown[-1] == 399 and len(shown) > 20
    assert told[-1]["event"] == "filters" and told[-1]["iteration"] == 399


def test_what_is_rare_is_not_thinned():
    """Of a run that was resumed twice all starts stay, as the curves have a line at each."""
    kinds = ["start", "train", "train", "resume", "start", "train", "test", "train"]
    kinds += ["start", "filters", "test", "end"]
    kept = watch._halved([(kind, b"%d" % i) for i, kind in enumerate(kinds)])
    assert [int(line) for _, line in kept] == [0, 2, 3, 4, 7, 8, 9, 10, 11]


def test_filters_go_before_numbers_do(long):
    """400 losses take 27 kB, 400 times the filters twice as much."""
    told = long(MOST_BYTES=60_000)
    assert [event["iteration"] for event in told if event["event"] == "train"] == [*range(400)]
    assert sum(event["event"] == "filters" for event in told) < 350


def test_a_disk_that_fails_is_told_once_and_the_training_goes_on(job, tmp_path, caplog, monkeypatch):
    caplog.set_level("WARNING", "minicaffe")
    append, count = LivePage._append, []

    def failing(self, event):
        count.append(event)
        if len(count) > 5:
            with self.script.open("a") as file:
                file.write('mc({"half')
            raise OSError(28, "No space left on device")
        append(self, event)

    monkeypatch.setattr(LivePage, "_append", failing)
    assert main(["train", str(job), "--live"]) == 0
    assert (tmp_path / "snap" / "run_iter_18.npz").exists()
    assert len(count) == 6
    assert len(events_of(tmp_path / "snap" / "run.live.js")) == 5  # no half line


def test_a_folder_in_the_way_is_told(job, tmp_path, capsys):
    (tmp_path / "snap" / "run.live.js").mkdir(parents=True)
    assert main(["train", str(job), "--live"]) == 0
    output = capsys.readouterr().out
    assert output.count("The live page stays as it is") == 1 and "run.live.js" in output


def test_a_solver_that_shows_nothing_is_told(job, capsys):
    job.write_text(SHORT.replace("display: 2", "display: 0").replace("max_iter: 18", "max_iter: 1"))
    assert main(["train", str(job), "--live"]) == 0
    assert "solver.yaml: display is 0, so no iteration is shown" in capsys.readouterr().out


# -- in a browser


@pytest.fixture
def live_page(job, browser, tmp_path):
    """A page of a training that was resumed, with its log; the context is offline."""
    for resume in ([], ["--snapshot", "snap/run_iter_14.solverstate.npz"]):
        assert main(["train", str(job), "--live", "--log-norms", *resume]) == 0
    context = browser.new_context(offline=True, viewport={"width": 1366, "height": 700})
    tab, problems = context.new_page(), []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.goto((tmp_path / "snap" / "run.live.html").as_uri())
    tab.locator("body[data-read]").wait_for(timeout=20_000)
    yield tab
    context.close()
    assert problems == []


def close(one, other):
    """Equal, numbers within rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == other or one == pytest.approx(other, rel=1e-3, abs=2e-3)


@pytest.mark.browser
def test_the_page_has_the_numbers_of_the_log_and_goes_on_reading(live_page, tmp_path):
    found = live_page.evaluate("() => R.views.training.runs[0]")
    (run,) = read_log(tmp_path / "snap" / "run.log.jsonl")
    expected = run_data(run)
    assert expected["resumes"] == [14]
    for key in ("loss", "scores", "rate", "snapshots", "ratios", "resumes", "seed", "diverged"):
        assert close(found[key], expected[key]), key
    assert "iteration 18 of 18" in live_page.locator("#status").inner_text()
    assert "the training has ended" in live_page.locator("#status").inner_text()
    assert live_page.locator("[data-chart]").count() == 4
    assert live_page.locator('[data-focus^="training-filter"]').count() == 6
    with (tmp_path / "snap" / "run.live.js").open("a") as file:
        file.write('mc({"event":"train","iteration":19,"loss":0.125,"lr":0.001,"time":2e9});\n')
    for _ in range(2):  # it reads at once when the pause ends
        live_page.get_by_role("button", name="pause").click()
    live_page.get_by_text("iteration 19 of 18").wait_for(timeout=20_000)
    assert "0.125" in live_page.locator("#status").inner_text()
    (loss,) = live_page.evaluate("() => Object.keys(R.views.training.runs[0].losses)")
    with (tmp_path / "snap" / "run.live.js").open("a") as file:
        file.write(f'mc({{"event":"test","iteration":20,"outputs":{{"{loss}":null}},"time":2e9}});\n')
    for _ in range(2):
        live_page.get_by_role("button", name="pause").click()
    live_page.get_by_text("It diverged at iteration 20.").wait_for(timeout=20_000)


@pytest.mark.browser
def test_a_page_without_its_script_says_what_it_lacks(job, browser, tmp_path):
    live = LivePage(str(tmp_path / "x"), small_net())
    live(start("a"))
    shutil.move(tmp_path / "x.live.html", tmp_path / "moved.html")
    (tmp_path / "x.live.js").unlink()
    context = browser.new_context(offline=True)
    tab = context.new_page()
    tab.goto((tmp_path / "moved.html").as_uri())
    tab.get_by_text("x.live.js is not beside this page").wait_for(timeout=20_000)
    context.close()
