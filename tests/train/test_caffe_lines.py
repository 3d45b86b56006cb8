"""``--log-format caffe``: the expressions by which Caffe's parse_log.py and parse_log.sh find their numbers."""

import re

import pytest

from minicaffe.cli.program import main
from tests.train.training import SOLVER, write_job

pytestmark = pytest.mark.cpu_only("of printed lines")

ITERATION, RATE = (
    re.compile(r"Iteration (\d+)"),
    re.compile(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)"),
)
OUTPUT = {kind: re.compile(rf"{kind} net output #(\d+): (\S+) = ([\.\deE+-]+)") for kind in ("Train", "Test")}


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    job = write_job(folder, solver=SOLVER.replace("max_iter: 40", "max_iter: 16"))
    with pytest.MonkeyPatch.context() as patch, (folder / "log").open("w+") as out:
        patch.chdir(folder)
        patch.setattr("sys.stdout", out)
        assert main(["train", str(job), "--log-format", "caffe"]) == 0
        out.seek(0)
        return out.read().splitlines()


def test_every_line_has_a_date_a_time_with_microseconds_and_a_place(lines):
    """extract_seconds.py splits at blanks, and takes fixed places of the first two words."""
    times = []
    for line in lines:
        date, time, process, place = line.split()[:4]
        assert date[0] in "IWE" and 1 <= int(date[1:3]) <= 12 and 1 <= int(date[3:]) <= 31
        clock, _, micros = time.rpartition(".")
        hour, minute, second = map(int, clock.split(":"))
        assert len(micros) == 6 and process.isdecimal() and re.fullmatch(r"\w+\.py:\d+\]", place)
        times.append((hour, minute, second, int(micros)))
    assert times == sorted(times) or times[0][0] == 23  # unless it went over midnight
    assert sum("] Solving " in line for line in lines) == 1


def test_parse_log_py_finds_outputs_and_rates_by_iteration(lines):
    iteration, rate, rows = -1, None, {"Train": {}, "Test": {}}
    for line in lines:
        iteration = int(found[1]) if (found := ITERATION.search(line)) else iteration
        rate = float(found[1]) if (found := RATE.search(line)) else rate
        for kind, pattern in OUTPUT.items():
            if found := pattern.search(line):
                rows[kind].setdefault(iteration, {})[found[2]] = float(found[3])
    assert sorted(rows["Train"]) == [0, 5, 10, 15] and sorted(rows["Test"]) == [0, 15]
    assert all(row.keys() == {"accuracy", "loss"} for row in rows["Test"].values())
    assert rate == 0.0014


def test_parse_log_sh_cuts_the_right_words_out(lines):
    """plot_training_log.py draws what it writes: the second part between "=", words 9 and 11."""
    losses = [line.split("=")[1].strip() for line in lines if ", loss = " in line]
    rates = [line.split()[8] for line in lines if ", lr = " in line]
    scores = [line.split()[10] for line in lines if "Test net output #0" in line]
    assert (len(losses), len(rates), len(scores)) == (5, 5, 2)  # the end's, too
    assert all(0 < float(number) < 10 for number in (*losses, *rates, *scores))
