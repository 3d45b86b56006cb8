"""What the tests share: the device they run on, nets from YAML text, and the folder of real data."""

import gc
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache

from tests import ROOT

# Set before NumPy is imported. The suite is several processes, and BLAS threads that spin while waiting for a core
# make factorizations ten times slower. minicaffe's workers and the tests that count threads are unaffected.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Or each of the hundred processes that the tests start would compile the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import numpy as np
import pytest

import minicaffe as mc
from minicaffe import testing
from minicaffe.data.sources import idx
from minicaffe.data.sources.idx import read_idx
from minicaffe.device import array
from minicaffe.spec import edit, reader
from minicaffe.spec.net import parse_net
from tests.side_run import run_in_turn

SIDE_RUN = pytest.StashKey()
SAMPLE = ROOT / "minicaffe" / "data" / "sample"
SHARED_DATA = ROOT.parent / "shared" / "data"
Loader = edit.Loader  # the reader's, which ``edit`` keeps


@lru_cache(maxsize=2000)
def composed(text):
    """The nodes of a YAML text, which nothing changes once ``<<`` is resolved. An error is found anew each time."""
    loader = Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


class Remembering(Loader):
    """Most texts that the tests read they have read before, and reading them took a tenth of the time."""

    def __init__(self, text):
        self.text = text

    def get_single_node(self):
        return (composed.__wrapped__ if "<<" in self.text else composed)(self.text)

    def dispose(self):
        """Nothing is held here."""


@cache
def sample(path):
    """An array of the digits that come with the package. To unpack them took as long as many a test."""
    digits = read_idx(path)
    digits.flags.writeable = False
    return digits


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        choices=("cpu", "double", "gpu"),
        default="cpu",
        help="cpu; double: a strict double of CuPy, which refuses what a GPU would (tests/strict_cupy); "
        "gpu: a real one, for test_gpu.py alone",
    )


def pytest_configure(config):
    reader.Loader = Remembering
    idx.read_idx = lambda path: sample(path) if path.parent == SAMPLE else read_idx(path)
    if config.getoption("--device") == "gpu" and (problem := array.gpu_problem()):
        raise pytest.UsageError(f"--device gpu: {problem}")
    if config.getoption("--device") == "double":
        from tests import strict_cupy

        array.cupy, array.cupyx = strict_cupy.cupy, strict_cupy.cupyx
        sys.modules["cupy.cuda.nccl"] = strict_cupy.nccl
        mc.set_device("gpu")
        testing.MOST_ON_GPU = 4  # numbers of a blob: all are tried on the CPU, and the double is slow


def pytest_collection_modifyitems(config, items):
    refuse_shared_random_numbers()
    # What waits for a process of its own is last, as that runs beside the others; in workers first, as the longest.
    items.sort(key=is_side_run, reverse=is_worker(config))
    device = config.getoption("--device")
    if device == "cpu":
        return
    if device == "gpu":  # other tests mix NumPy's arrays with the device's, which only the double forgives
        config.hook.pytest_deselected(items=[item for item in items if not item.get_closest_marker("gpu")])
        items[:] = [item for item in items if item.get_closest_marker("gpu")]
        return
    for item in items:
        for marker in item.iter_markers("cpu_only"):
            item.add_marker(pytest.mark.skip(reason=f"of the CPU alone: {marker.args[0]}"))
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason="a page looks the same wherever its numbers come from"))


def is_side_run(item):
    return item.get_closest_marker("side_run") is not None


def is_worker(config):
    """Whether pytest-xdist (``-n 2``) shares out the tests, some of them to this process."""
    return hasattr(config, "workerinput")


def refuse_shared_random_numbers():
    """Of a generator in a module each test would get other numbers alone than after the tests before it."""
    kinds = (np.random.Generator, np.random.RandomState, random.Random)
    modules = [(name, module) for name, module in sys.modules.items() if name.startswith("tests.")]
    for name, module in modules:
        for variable, value in vars(module).items():
            if isinstance(value, kinds):
                raise pytest.UsageError(f"{name}.{variable} is shared by tests: take the fixture rng")


def pytest_collection_finish(session):
    """Starts, before any test, the runs that take as long as all other tests, and lets them run beside these.

    A worker of pytest-xdist begins them one by one instead, as tests like others.
    """
    gc.freeze()  # what was collected stays until the end: no need to look through it for garbage
    if session.config.option.collectonly or session.config.getoption("--device") != "cpu":
        return
    runs = []
    for item in session.items:
        is_skipped = any(marker.args[0] for marker in item.iter_markers("skipif"))
        for marker in () if is_skipped else item.iter_markers("side_run"):
            item.stash[SIDE_RUN] = marker.kwargs["begin"]()
            runs.append(item.stash[SIDE_RUN])
    if not is_worker(session.config):
        run_in_turn(runs)


def pytest_sessionfinish(session):
    gc.unfreeze()
    for item in getattr(session, "items", ()):
        if SIDE_RUN in item.stash:
            item.stash[SIDE_RUN].stop()


@pytest.fixture
def side_run(request, capsys):
    """The status and output of the test's ``side_run``, once it has ended; its progress is shown meanwhile."""
    run = request.node.stash[SIDE_RUN]
    if is_worker(request.config):  # it takes this worker's core, and the other workers show progress
        run.run()
        return run.finish(lambda progress: None)

    def show(progress):
        with capsys.disabled():
            print(f"\n{request.node.name}: {progress} ", end="", flush=True)

    return run.finish(show)


@pytest.fixture(autouse=True)
def on_the_chosen_device(request, monkeypatch):
    monkeypatch.delenv("MINICAFFE_DEVICE", raising=False)
    mc.set_device("cpu" if request.config.getoption("--device") == "cpu" else "gpu")


@pytest.fixture
def double(request, monkeypatch):
    """The double of CuPy is the device, whatever the other tests run on; what a test left running ends after it."""
    from tests.strict_cupy import cupy, cupyx, nccl

    monkeypatch.setattr(array, "cupy", cupy)
    monkeypatch.setattr(array, "cupyx", cupyx)
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", nccl)
    mc.set_device("gpu")
    yield
    cupy.cuda.Device(1).synchronize()
    cupy.cuda.Device(0).synchronize()
    cupy.cuda.Device(0).use()
    if (
        request.config.getoption("--device") == "cpu"
    ):  # what a module makes for its tests comes before the next
        mc.set_device("cpu")


@pytest.fixture
def rng():
    """Random numbers, the same ones for a test whether it runs alone or after others."""
    return np.random.default_rng(3)


@pytest.fixture
def in_thread():
    """Runs a function in a new thread, whose current GPU is number 0, and returns its result."""

    def run(function):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(function).result()

    return run


@pytest.fixture
def shared_data():
    """The folder of full data sets that lies beside some checkouts."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the full data sets are not beside this checkout")
    return SHARED_DATA


@pytest.fixture
def make_net():
    """A net from YAML text."""

    def make(text, **options):
        return mc.Net(parse_net(text), **options)

    return make
