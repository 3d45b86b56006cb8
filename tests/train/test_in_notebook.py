"""In a notebook a training shows its log in the cell, if nothing else shows it; in a script it does not."""

import logging
import sys
from types import SimpleNamespace

import pytest

import minicaffe as mc
from minicaffe.train.in_notebook import CellOutput
from tests.train.training import NET, SOLVER, write_job

logger = logging.getLogger("minicaffe")


@pytest.fixture(autouse=True)
def fresh_logging(monkeypatch):
    """The logging of a fresh process."""
    root = logging.getLogger()
    levels = [(each, each.level) for each in (logger, root)]
    for each in (logger, root):
        monkeypatch.setattr(each, "handlers", [])
    logger.setLevel(logging.NOTSET)
    root.setLevel(logging.WARNING)
    yield
    for each, level in levels:
        each.setLevel(level)


@pytest.fixture
def solver(tmp_path, monkeypatch):
    """A short training."""
    monkeypatch.chdir(tmp_path)
    with mc.Solver(write_job(tmp_path, NET, SOLVER.replace("max_iter: 40", "max_iter: 6"))) as solver:
        yield solver
    assert (logger.level, logger.propagate) == (logging.NOTSET, True)
    assert not any(isinstance(handler, CellOutput) for handler in logger.handlers)


@pytest.fixture
def in_ipython(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))


def test_a_cell_shows_the_log_and_then_how_far_it_is(solver, in_ipython, monkeypatch, capsys):
    monkeypatch.setattr(CellOutput, "EVERY", 0.0)
    solver.solve()
    out, err = capsys.readouterr()
    assert "Solving small from iteration 0 to 6" in out and "Snapshot to snap/run_iter_6" in out
    assert "Iteration 5" in out and "loss = " in out and "Test net output #0: accuracy" in out
    assert "\rIteration 4 of 6 (" in out and " left)" in out
    assert out.endswith(("\n", "\r")), "nothing is left of the line that says how far it is"
    assert not err


def test_a_line_of_the_log_takes_the_place_of_how_far_it_is(in_ipython, capsys):
    cell = CellOutput()
    cell.EVERY = 0.0
    for iteration in (1, 2, 3):
        cell.tick(iteration, 10)
    cell.emit(logging.LogRecord("minicaffe", logging.INFO, "", 0, "a line", (), None))
    screen = capsys.readouterr().out.split("\r")
    assert screen[-1] == "a line\n" and screen[-2].strip() == "", "the line before it is blank"
    assert screen[0].startswith("Iteration 2 of 10 (")


def test_a_script_shows_nothing(solver, capsys):
    solver.step(1)
    assert capsys.readouterr() == ("", "")


def test_a_python_that_has_imported_ipython_but_does_not_run_in_it_is_a_script(solver, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    solver.step(1)
    assert capsys.readouterr().out == ""


def test_a_log_that_is_shown_already_is_not_shown_twice(solver, in_ipython, capsys):
    handler = logging.StreamHandler(sys.stdout)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        solver.step(1)
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)
    assert capsys.readouterr().out.count("Iteration 0, loss") == 1


def test_who_has_silenced_the_log_sees_none(solver, in_ipython, capsys):
    logger.setLevel(logging.ERROR)
    try:
        solver.step(1)
    finally:
        logger.setLevel(logging.NOTSET)
    assert capsys.readouterr().out == ""


def test_other_handlers_take_warnings_as_ever_and_nothing_else(solver, in_ipython, monkeypatch, capsys):
    taken = []
    handler = logging.Handler()
    handler.emit = taken.append
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    solver.iter = 6
    solver.solve()
    assert [record.levelname for record in taken] == ["WARNING"]
    out = capsys.readouterr().out
    assert "Solving small" in out and "Nothing to train" not in out


def test_the_cell_is_as_before_after_an_error(solver, in_ipython, monkeypatch):
    monkeypatch.setattr(solver.net, "run_forward", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        solver.step(1)
