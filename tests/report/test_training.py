"""View 7: the curves of logs are their numbers, and snapshots show their own filters and answers."""

import json

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.data.preparation import Preparation
from minicaffe.inspect.logs import read_log, running_mean
from minicaffe.inspect.report import make
from minicaffe.inspect.report.first_filters import first_filters
from minicaffe.inspect.report.make import make_report
from minicaffe.inspect.report.options import Options
from minicaffe.inspect.report.pack import Packer
from minicaffe.inspect.report.pictures import from_data
from minicaffe.inspect.report.record import copy_of, record
from minicaffe.inspect.report.views import training
from tests.train.training import SOLVER, write_job

pytestmark = pytest.mark.cpu_only("pages are of NumPy's numbers")

SHORT = SOLVER.replace("display: 5", "display: 2").replace("average_loss: 4", "average_loss: 1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run of 20 iterations, its log with norms, and snapshots at 7 and 14."""
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        mc.set_device("cpu")
        with mc.Solver(write_job(folder, solver=SHORT)) as solver:
            solver.log_norms = True
            solver.step(20)
    return folder


@pytest.fixture(scope="module")
def twin(trained):
    weights = trained / "snap" / "run_iter_14.npz"
    with mc.Net(trained / "net.yaml", weights, phase="test", seed=0) as net, copy_of(net) as twin:
        yield twin


@pytest.fixture(scope="module")
def options(trained):
    snap = trained / "snap"
    snapshots = [snap / "run_iter_7.npz", snap / "run_iter_14.npz"]
    return Options(3, logs=[snap / "run.log.jsonl"], snapshots=snapshots, test=0)


@pytest.fixture(scope="module")
def pictures(twin):
    return from_data(twin, 3)


@pytest.fixture(scope="module")
def page(twin, pictures, options, make_page):
    return make_page(make_report(twin, pictures, options))


@pytest.fixture(scope="module")
def run(trained):
    (run,) = read_log(trained / "snap" / "run.log.jsonl")
    return run


def test_without_logs_the_view_says_what_it_lacks(twin, pictures):
    recording = record(twin, pictures)
    assert training.data(recording, Packer(), Options())["missing"].startswith("a training log: --log LOG")


def test_snapshots_have_their_own_filters_and_answers(trained, twin, pictures, options):
    recording = record(twin, pictures)
    before, after = training.data(recording, Packer(), options)["snapshots"]
    assert (before["iteration"], after["iteration"]) == (7, 14)
    np.testing.assert_allclose(after["scores"], recording.scores, rtol=1e-5)
    assert not np.allclose(before["scores"], recording.scores, rtol=1e-3)
    with np.load(trained / "snap" / "run_iter_7.npz") as file:
        weights = file["conv/0"]
    assert before["filters"]["layer"] == "conv" and before["filters"]["values"]["shape"] == [6, 1, 5, 5]
    assert (
        before["filters"]["values"]["lo"] == weights.min()
        and before["filters"]["values"]["hi"] == weights.max()
    )


def test_colour_filters_are_turned_to_red_green_blue():
    text = "layer: {name: c, type: Convolution, convolution_param: {num_output: 70, kernel_size: 3}}\n"
    net = mc.Net.from_text("input: x\ninput_shape: {dim: [1, 3, 8, 8]}\n" + text)
    values = np.arange(70 * 27, dtype=np.float32).reshape(70, 3, 3, 3)
    net.params["c"][0].data[...] = values
    filters = first_filters(net)
    np.testing.assert_array_equal(filters.values, values[:64, ::-1])
    assert (filters.layer, filters.note) == ("c", "64 of 70 filters")
    for order in ((0, 1, 2), (1, 2, 0)):  # a filter's channel 1 sees the image's channel order[1]
        net.preparation = Preparation(channel_swap=order)
        np.testing.assert_array_equal(first_filters(net).values[:, order], values[:64])
    assert (
        first_filters(mc.Net.from_text("input: x\ninput_shape: {dim: [1, 3]}\nlayer: {name: r, type: ReLU}"))
        is None
    )


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path):
    events = [{"event": "start", "iteration": 0, "run": "a"}]
    events += [
        {"event": "train", "iteration": i, "loss": 1 / (i + 1), "lr": 0.1, "outputs": {}, "time": i}
        for i in range(4500)
    ]
    log = tmp_path / "x.log.jsonl"
    log.write_text("".join(json.dumps(event) + "\n" for event in events))
    found = training.run_data(read_log(log)[0])
    assert found["note"] == "one in 5 of 4,500 points"
    assert len(found["loss"]["train"]["x"]) == 900 and found["loss"]["train"]["x"][-1] == 4499


def test_a_log_that_is_none_is_told_before_the_work(tmp_path, twin, pictures):
    (tmp_path / "x.log").write_text("name: net\n")
    with pytest.raises(mc.DataError) as raised:
        make_report(twin, pictures, Options(logs=[tmp_path / "x.log"]))
    assert str(raised.value).startswith(f"{tmp_path / 'x.log'}: not a training log")  # not from within a view


def test_solver_states_among_the_snapshots_are_left_out(trained, twin, pictures, caplog):
    """As ``--snapshots snap/run_iter_*.npz`` names them."""
    caplog.set_level("INFO", "minicaffe")
    options = Options(snapshots=sorted(trained.glob("snap/run_iter_*.npz")))
    assert len(options.snapshots) == 4
    training.check(twin, options)
    assert "2 solver states are left out" in caplog.text
    found = training.data(record(twin, pictures), Packer(), options)["snapshots"]
    assert {snapshot["iteration"] for snapshot in found} == {7, 14}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none.npz", "none.npz: cannot be read"),
        ("snap/run_iter_7.solverstate.npz", "a solver state, not weights"),
        ("wide.npz", "'conv/0' has shape .* the net expects"),
        ("half.npz", "half.npz: has no weights for layer ip; give snapshots of this net"),
    ],
)
def test_snapshots_that_do_not_fit_are_told_before_the_work(
    trained, twin, pictures, monkeypatch, name, problem
):
    weights = dict(np.load(trained / "snap" / "run_iter_7.npz"))
    np.savez(trained / "half.npz", **{key: weights[key] for key in ("conv/0", "conv/1")})
    np.savez(trained / "wide.npz", **{**weights, "conv/0": np.zeros((6, 1, 7, 7), np.float32)})
    monkeypatch.setattr(make, "record", None)
    with pytest.raises(mc.WeightError, match=problem):
        make_report(twin, pictures, Options(snapshots=[trained / name]))


def test_a_run_that_diverged_says_when(tmp_path):
    event = {"event": "train", "iteration": 0, "loss": 2.5, "lr": 9, "outputs": {}, "time": 0}
    end = {"event": "end", "iteration": 3, "loss": None, "time": 1}
    log = tmp_path / "x.log.jsonl"
    for events, iteration in (([event, end], 3), ([event], None)):
        log.write_text("".join(json.dumps(event) + "\n" for event in events))
        assert training.run_data(read_log(log)[0])["diverged"] == iteration


# -- in the page


def numbers(rows, column):
    """The cells of a column of "as table", by the number in the first one."""
    index = rows[0].index(column)
    return {float(row[0]): float(row[index]) for row in rows[1:] if row[index]}


@pytest.mark.browser
def test_the_charts_are_the_log(page, run):
    page.at("view=training&smooth=3")
    rows = page.numbers("Does the loss still fall?")
    raw, test = run.loss["train"], run.loss["test"]
    assert numbers(rows, "train, as shown") == pytest.approx(
        dict(zip(raw.iterations, raw.values, strict=True))
    )
    mean = running_mean(raw.values, 3)
    assert numbers(rows, "train") == pytest.approx(dict(zip(raw.iterations, mean, strict=True)), rel=1e-6)
    assert numbers(rows, "test") == pytest.approx(dict(zip(test.iterations, test.values, strict=True)))
    ratios = page.numbers("How large is an update beside the weights?")
    ratio = run.norms["conv/0"].ratio
    assert numbers(ratios, "conv") == pytest.approx(
        dict(zip(ratio.iterations, ratio.values, strict=True)), rel=1e-6
    )
    assert numbers(page.numbers("How well does it do?"), "accuracy").keys() == {0, 15}
    rates = numbers(page.numbers("Where was the learning rate cut?"), "")
    assert rates == pytest.approx(dict(zip(run.rate.iterations, run.rate.values, strict=True)))
    marks = page.js("() => [...document.querySelectorAll('[data-mark]')].map(m => m.dataset.mark)")
    assert set(marks) == {"snapshot of 7", "snapshot of 14"}
    assert page.problems == []


@pytest.mark.browser
def test_a_first_loss_that_flattens_all_others_is_told_and_left_out(page):
    page.at("view=training")
    whole = page.tab.locator('[data-chart="Does the loss still fall?"]')
    circles = whole.locator("circle").count()
    first = page.js(
        "() => { const {y} = R.views.training.runs[0].loss.test; State.redraw(); return y.splice(0, 1, 6554)[0]; }"
    )
    page.tab.get_by_text("test: 6,554 at iteration 0 is above").wait_for()
    assert whole.locator("circle").count() == circles - 1
    highest = whole.locator("polyline").last.evaluate("n => Math.min(...[...n.points].map(p => p.y))")
    assert highest < 60  # in 24 … 220: the others fill the axis
    page.js("was => { R.views.training.runs[0].loss.test.y[0] = was; State.redraw(); }", first)
    page.tab.get_by_text("is above").wait_for(state="detached")


@pytest.mark.browser
def test_a_run_that_diverged_at_once_is_a_point_and_a_word(page):
    page.js(
        """() => {
        const [run] = window.runs = R.views.training.runs;
        const train = {x: [0, 3], s: [0, 1], y: [2.5, null]};
        R.views.training.runs = [{...run, loss: {train}, diverged: 3}];
        }"""
    )
    try:
        chart = page.at("view=training").tab.locator('[data-chart="Does the loss still fall?"]')
        assert chart.locator("circle").count() == 1
        assert "It diverged at iteration 3." in page.tab.locator("main").inner_text()
    finally:
        page.js("() => { R.views.training.runs = window.runs; }")
    assert "diverged" not in page.at("view=training").tab.locator("main").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1024, 1366])
def test_all_curves_are_on_the_first_screen(page, width):
    page.tab.set_viewport_size({"width": width, "height": 700})
    try:
        page.at("view=training").js(
            "() => document.querySelectorAll('main details').forEach(d => { d.open = false; })"
        )
        charts = page.tab.locator(".chart svg").all()
        assert len(charts) == 4
        for chart in charts:
            box = chart.bounding_box()
            assert box["y"] + box["height"] <= 700 and box["x"] + box["width"] <= width
    finally:
        page.tab.set_viewport_size({"width": 1366, "height": 700})


@pytest.mark.browser
def test_time_goes_across_when_it_is_chosen(page, run):
    page.at("view=training")
    page.tab.get_by_role("button", name="time", exact=True).click()
    page.drawn()
    rows = page.numbers("Does the loss still fall?")
    assert rows[0][0] == "seconds of training"
    train = run.loss["train"]
    assert [*numbers(rows, "train")] == pytest.approx([*train.seconds], rel=1e-5)


@pytest.mark.browser
def test_the_scrubber_shows_what_a_snapshot_answers(page, trained, twin, pictures, options):
    first = training.data(record(twin, pictures), Packer(), options)["snapshots"][0]["scores"]
    for at, iteration in ((0, 7), (1, 14)):
        page.at(f"view=training&snapshot={at}")
        assert f"iteration {iteration}" in page.tab.locator("label", has_text="snapshot").inner_text()
        assert page.tab.locator('[data-focus^="training-filter"]').count() == 6
    page.at("view=training&snapshot=0")
    shown = page.js("() => [...document.querySelectorAll('[data-image-row] .num')].map(n => Number(n.title))")
    labels = [picture.label for picture in pictures.items]
    expected = [number for row, label in zip(first, labels, strict=True) for number in (max(row), row[label])]
    assert shown == pytest.approx(expected, rel=1e-6)
    assert page.problems == []


@pytest.mark.browser
def test_every_line_has_its_name_biases_too(page):
    page.at("view=training")
    chart = page.tab.locator('[data-chart^="How large is an update"]')
    assert {"conv", "conv, bias", "ip", "ip, bias"} <= set(chart.locator(".end").all_text_contents())


@pytest.mark.browser
def test_where_the_rate_was_cut_is_asked_only_where_it_was(page):
    """A policy as inv never cuts: the rate falls a little all the time."""
    page.at("view=training")
    assert "Where was the learning rate cut" in page.tab.locator(".try").inner_text()
    page.js("() => { window.rate = R.views.training.runs[0].rate; }")
    slow = "rate => ({...rate, y: rate.x.map(n => 0.01 * (1 + 0.0001 * n) ** -0.75)})"
    page.js(f"() => {{ R.views.training.runs[0].rate = ({slow})(window.rate); }}")
    page.at("view=training")
    told = page.tab.locator("main").inner_text()
    page.js("() => { R.views.training.runs[0].rate = window.rate; }")
    assert "rate cut" not in told and "How large was the learning rate?" in told
