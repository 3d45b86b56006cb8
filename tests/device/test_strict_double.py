"""The double of CuPy refuses what CuPy refuses, and the whole suite passes on it."""

import re
import subprocess
import sys

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.layers import neuron
from minicaffe.layers.absval import AbsVal
from minicaffe.spec.net import parse_net
from tests import ROOT
from tests.device.in_package import SOURCE, in_package, needs_compiler, planted
from tests.side_run import SideRun, run_in_turn
from tests.strict_cupy import counting, cupy, cupyx, nccl
from tests.strict_cupy.names import RECORD
from tests.strict_cupy.record import find, record

pytestmark = pytest.mark.usefixtures("double")


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["np.asarray(a)", "np.array([a, a])", "x[...] = a", "x[0] = a[0]"])
def test_an_array_does_not_become_one_of_numpy_by_itself(statement):
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array is not allowed"):
        in_package(statement)


MIXED = [
    "a + x", "x + a", "a < x", "x == a", "a @ x.T", "x.T @ a", "a += x", "x += a", "xp.maximum(a, x)",
    "np.maximum(a, x)", "xp.where(a > 0, a, x)", "xp.concatenate([a, x])", "np.concatenate([a, x])", "a.dot(x.T)",
    "xp.stack([a, x])", "xp.tensordot(a, x, 2)", "xp.sum(x)", "xp.moveaxis(x, 0, 1)", "xp.exp([1.0, 2.0])",
    "xp.add(a, a, out=x)", "np.add(a, a, out=x)", "a.sum(axis=0, out=x[0])", "xp.matmul(a, a.T, out=x)",
    "xp.matmul(a, 2)", "xp.empty_like(x)",
]  # fmt: skip


@pytest.mark.parametrize("statement", MIXED)
def test_arrays_of_numpy_are_no_arguments(statement):
    with pytest.raises(TypeError, match=r"Unsupported type <class '(numpy.ndarray|list|int)'>"):
        in_package(statement)


@pytest.mark.parametrize("statement", ["xp.linalg.svd(x)", "xp.linalg.solve(a[:, :3], x[:, :3])"])
def test_factorizations_take_arrays_of_the_device_alone(statement):
    with pytest.raises(np.linalg.LinAlgError, match=r"only supports cupy.ndarray"):
        in_package(statement)


@pytest.mark.parametrize(
    "statement", ["a[...] = x", "a[1:] = x[1:]", "a[0] = [1, 2, 3, 4]", "a.fill(x)", "xp.copyto(a, x)"]
)
def test_nothing_is_set_from_arrays_of_numpy(statement):
    with pytest.raises(ValueError, match=r"non-scalar numpy.ndarray cannot be used for"):
        in_package(statement)


UNKNOWN = [
    "xp.errstate()", "xp.vecdot(a, a)", "xp.linalg.svdvals(a)", "xp.random.SFC64(1)", "xp.maximum.identity",
    "a.ctypes", "a.__array_interface__", "a.partitioned()", "a.flags.writeable",
]  # fmt: skip


@pytest.mark.parametrize("statement", UNKNOWN)
def test_names_that_cupy_lacks_are_missing(statement):
    with pytest.raises(AttributeError):
        in_package(statement)


KEYWORDS = [
    "xp.maximum(a, a, where=a > 0)", "a.sum(where=a > 0)", "a.max(initial=0)", "xp.max(a, initial=0)",
    "xp.zeros(3, like=a)", "xp.take(a, 0, mode='clip')", "xp.broadcast_to(a, (2, 3, 4), subok=True)",
    "xp.copyto(a, a, axis=0)", "xp.linalg.svd(a, hermitian=True)", "xp.linalg.eigh(a, 'L', 3)",
    "xp.lib.stride_tricks.as_strided(a, writeable=True)", "xp.random.Philox4x3210(3, 4)",
    "xp.random.default_rng(3).random(3, method='x')",
]  # fmt: skip


@pytest.mark.parametrize("statement", KEYWORDS)
def test_keywords_that_cupys_function_lacks_are_refused(statement):
    with pytest.raises(TypeError, match=r"keyword argument|Wrong arguments|arguments by place"):
        in_package(statement)


OTHER = [
    ("range(a[0, 0])", TypeError, "cannot be interpreted as an integer"),
    ("[1, 2][a[0, 0].astype(int)]", TypeError, "must be integers"),
    ("bool(a)", ValueError, "more than one element is ambiguous"),
    ("xp.argsort(a, kind='quicksort')", ValueError, "'stable'"),
    ("xp.asarray(['a'])", ValueError, "Unsupported dtype"),
    ("xp.zeros(3, object)", ValueError, "Unsupported dtype"),
    ("xp.subtract(a > 0, a > 0)", TypeError, "Wrong type|numpy boolean subtract"),
    ("xp.add.reduceat(a, [0])", AttributeError, "reduceat"),
    ("xp.maximum.reduce(a)", NotImplementedError, "not supported yet"),
    ("xp.where(True, a, a)", TypeError, "Unsupported type <class 'bool'>"),
    ("xp.add.at(xp.zeros(8, 'int64'), xp.arange(3), 1)", TypeError, "does not support int64"),
    ("xp.vdot(a, a[0])", ValueError, "dimension mismatch"),
    ("xp.linalg.inv(a)", np.linalg.LinAlgError, "must be square"),
    ("xp.random.default_rng(1).standard_normal(3, 'f2')", TypeError, "Unsupported dtype float16"),
    ("xp.random.default_rng(1).random(3, 'f4', a)", ValueError, "size must match"),
    ("xp.random.default_rng(1).integers(0, 300, 3, 'u1')", ValueError, "high is out of bounds"),
    ("xp.cuda.Device(2).use()", RuntimeError, "invalid device ordinal"),
]


@pytest.mark.parametrize(("statement", "error", "message"), OTHER)
def test_what_else_cupy_refuses(statement, error, message):
    with pytest.raises(error, match=message):
        in_package(statement)


ARGUMENTS = [
    ("a, 12", TypeError, "an argument is a <class 'int'>"),
    ("a, 12.0", TypeError, "an argument is a <class 'float'>"),
    ("x, np.int32(12)", TypeError, "an argument is a <class 'numpy.ndarray'>"),
    ("a.T, np.int32(12)", ValueError, "is not contiguous"),
    ("a[:, 1:], np.int32(9)", ValueError, "is not contiguous"),
    ("a.astype(int), np.int32(12)", TypeError, "an array of int64 is passed as 'float\\* a'"),
    ("a, np.int64(12)", TypeError, "a number of int64 is passed as 'int n'"),
    ("np.float32(1), np.int32(12)", TypeError, "a number of float32 is passed as 'float\\* a'"),
    ("a, a", TypeError, "an array of float32 is passed as 'int n'"),
    ("a,", TypeError, "1 arguments for 2 parameters"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), ARGUMENTS)
def test_a_kernel_refuses_what_it_would_misread(arguments, error, message):
    with pytest.raises(error, match=message):
        in_package(f"xp.RawKernel({SOURCE!r}, 'twice')((1,), (1,), ({arguments}))")


@needs_compiler
def test_a_kernel_computes():
    in_package(
        f"xp.RawKernel({SOURCE!r}, 'twice')((1,), (1,), (a, np.int32(12))); assert a[2, 3].item() == 22"
    )


# -- what is given ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sum", "max", "mean", "all", "argmax", "trace"])
def test_a_reduction_is_an_array_without_axes(method):
    for found in (getattr(cupy.ones((2, 2)), method)(), getattr(cupy, method)(cupy.ones((2, 2)))):
        assert isinstance(found, cupy.ndarray) and found.shape == ()


def test_an_element_is_an_array_that_can_be_written():
    a = cupy.zeros((2, 3))
    a[1, 2].fill(5)
    a[0][0] += 1
    np.testing.assert_array_equal(a, [[1, 0, 0], [0, 0, 5]])


def test_what_is_uninitialised_is_no_number():
    for a in (cupy.empty((2, 3)), cupy.empty_like(cupy.ones(3, np.float32)), cupy.ndarray((4,))):
        assert np.isnan(a.get()).all()


def test_places_out_of_bounds_wrap_around():
    a, places = cupy.arange(5), cupy.array([4, 5, -1, -6])
    np.testing.assert_array_equal(a[places], [4, 0, 4, 4])
    np.testing.assert_array_equal(a.take(places), [4, 0, 4, 4])
    a[places[1:2]] = 9
    assert a[0] == 9


def test_results_have_their_rows_one_after_the_other_and_orthogonal_matrices_their_columns():
    a = cupy.ones((3, 4)).T
    assert all(b.flags.c_contiguous for b in (a + 1, a.copy(), a.sum(axis=0, keepdims=True), cupy.exp(a)))
    assert cupy.linalg.qr(a)[0].flags.f_contiguous
    assert cupy.linalg.eigh(cupy.eye(3))[1].flags.f_contiguous


def test_number_types_are_those_of_cupys_loops():
    a = cupy.ones(3, np.float32)
    assert (2 * a).dtype == (a / 3).dtype == (a**0.5).dtype == np.float32
    assert (np.float64(2) * a).dtype == (cupy.ones(3, np.uint8) * 0.5).dtype == np.float64
    assert (a > 0).sum().dtype == np.int64


def test_a_factorization_that_fails_gives_nan_unless_it_is_to_raise():
    broken = cupy.full((2, 3, 3), np.nan)
    assert all(np.isnan(part.get()).all() for part in cupy.linalg.svd(broken))
    assert np.isnan(cupy.linalg.inv(cupy.zeros((2, 2))).get()).all()
    with pytest.raises(np.linalg.LinAlgError, match="cuSOLVER"), cupyx.errstate(linalg="raise"):
        cupy.linalg.svd(broken)


def test_equal_seeds_give_equal_numbers():
    one, same = (cupy.random.Generator(cupy.random.Philox4x3210(3)) for _ in range(2))
    np.testing.assert_array_equal(one.random((2, 3), "f4"), same.random((2, 3), "f4"))
    assert not hasattr(one.bit_generator, "state")


# -- what is counted -------------------------------------------------------------------------------------

COUNTED = [
    ("xp.add(a, a, out=out)", {"launches": 1}),
    ("a @ a.T", {"launches": 1}),
    ("a[:, 1:] @ a[:, 1:].T", {"launches": 1, "product_copies": 2}),
    ("a[:, ::2] @ a[:2]", {"launches": 1, "product_copies": 1}),
    ("a.T[0] @ a", {"launches": 1, "product_copies": 1}),  # the vector is not contiguous
    ("xp.matmul(a.T, a[:, :2], out=out.reshape(-1)[:8].reshape(4, 2))", {"launches": 1, "product_copies": 1}),
    ("xp.matmul(a, a.T, out=out[:, :3])", {"launches": 1, "product_copies": 1}),
    ("xp.matmul(a, a.T[:, :3], out=a.reshape(-1)[3:].reshape(3, 3))", {"launches": 1, "product_copies": 1}),
    ("a[None] @ a.T[None]", {"launches": 1, "product_copies": 1}),
    ("a[None] @ a.reshape(1, 4, 3)", {"launches": 1}),
    ("a.sum(axis=0)", {"launches": 1}),
    ("a.reshape(-1)[2:].reshape(2, 5).T", {}),
    ("a.T.reshape(-1)", {"launches": 1}),
    ("out[...] = a", {"launches": 1}),
    ("xp.maximum(a[1:], 0, out=a[1:])", {"launches": 2}),  # with a copy: the two a[1:] are two objects
    ("xp.asarray(x)", {"copies_to_device": 1}),
    ("xp.asarray(a)", {}),
    ("a.get()", {"host_reads": 1}),
    ("xp.asnumpy(a)", {"host_reads": 1}),
    ("float(a[0, 0])", {"host_reads": 1}),
    ("int(a[0, 0]), bool(a[0, 0]), a[0, 0].item(), a.tolist(), str(a), f'{a[0, 0]:g}'", {"host_reads": 6}),
    ("a.nonzero()", {"synchronizations": 1, "launches": 2}),
    ("m = a > 3; a[m]", {"synchronizations": 1, "launches": 2}),
    ("xp.cuda.Stream.null.synchronize()", {"synchronizations": 1}),
]


@pytest.mark.parametrize(("statement", "expected"), COUNTED)
def test_launches_copies_and_waits_are_counted(statement, expected):
    with counting() as counts:
        in_package("pass")
    made = counts.launches
    with counting() as counts:
        in_package(statement)
    counts.launches -= made
    found = {name: value for name, value in vars(counts).items() if value and name != "places"}
    assert found == expected
    assert len(counts.places) == counts.waits + counts.product_copies
    assert all("planted.py:2" in place for place in counts.places)


def test_a_factorization_that_is_to_raise_waits_for_the_device():
    with counting() as counts, cupyx.errstate(linalg="raise"):
        cupy.linalg.svd(cupy.ones((2, 3)))
    assert counts.waits == 1


def test_tests_may_mix_arrays_which_is_counted_apart():
    a, x = cupy.ones((2, 3)), np.ones((2, 3))
    with counting() as counts:
        a[...] = 2 * x
        a += x
        assert type(a * x) is type(x - a) is type(np.concatenate([a, x])) is np.ndarray
        x += a
        np.testing.assert_array_equal(a, 3 * np.ones((2, 3)))
    np.testing.assert_array_equal(x, 4)
    assert counts.of_tests == 7 and counts.waits == 0


# -- the names of CuPy -----------------------------------------------------------------------------------


def test_the_double_has_the_recorded_names_and_no_others(monkeypatch):
    assert not hasattr(cupy.cuda, "nccl"), "CuPy has it only where it was imported by itself"
    monkeypatch.setattr(cupy.cuda, "nccl", nccl, raising=False)
    recorded = [
        *RECORD["functions"],
        *RECORD["ufuncs"],
        *RECORD["constants"],
        *RECORD["methods"],
        *RECORD["errors"],
        *RECORD["numbers"],
    ]
    assert all(find(cupy, name) is not None for name in recorded if name != "newaxis")
    top = {name for name in vars(cupy) if not name.startswith("__")}
    assert top == {name.partition(".")[0] for name in recorded}
    for owner, methods in RECORD["methods"].items():
        own = {name for name in vars(find(cupy, owner)) if not name.startswith("_")}
        assert own <= {*methods, *RECORD["attributes"].get(owner, [])}, owner
        assert all(hasattr(find(cupy, owner), name) for name in methods)


def test_the_record_is_that_of_the_installed_cupy(monkeypatch):
    real = pytest.importorskip(
        "cupy", reason="CuPy is not installed here: the record stands as it was written"
    )
    monkeypatch.delitem(sys.modules, "cupy.cuda.nccl")
    has_nccl = pytest.importorskip("cupy.cuda.nccl").available
    found = record(real, pytest.importorskip("cupyx"), "" if has_nccl else "cuda.nccl")
    for part, names in RECORD.items():
        if isinstance(names, dict) and not has_nccl:
            names = {name: value for name, value in names.items() if not name.startswith("cuda.nccl")}
        assert found[part] == names, f"{part}: python -m tests.strict_cupy.record"


# -- faults in the package are found ---------------------------------------------------------------------

SMALL = """layer:
- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 4, weight_filler: {type: xavier}}}
- {name: abs, type: AbsVal}
"""
FAULTS = [
    (
        "y[...] = self.xp.asarray(np.abs(np.asarray(x)))",
        TypeError,
        "Implicit conversion to a NumPy array",
    ),
    (
        "self.xp.maximum(x, np.zeros(x.shape, x.dtype), out=y)",
        TypeError,
        "Unsupported type <class 'numpy.ndarray'>",
    ),
    ("self.xp.maximum(x, self.xp.spacing(x), out=y)", AttributeError, "'cupy' has no attribute 'spacing'"),
]


@pytest.mark.parametrize(("fault", "error", "message"), FAULTS)
def test_a_fault_planted_in_a_layer_is_found(monkeypatch, fault, error, message):
    net = mc.Net(parse_net(SMALL), seed=1)
    assert (net.forward(x=np.ones((2, 3)))["abs"] >= 0).all()
    monkeypatch.setattr(AbsVal, "compute", planted(f"def compute(self, x, y):\n    {fault}", "compute"))
    with pytest.raises(error, match=message):
        net.forward(x=np.ones((2, 3)))


def test_a_fault_planted_in_an_op_is_found(monkeypatch):
    net = mc.Net(parse_net(SMALL), seed=1)
    fault = "def elementwise(function, x, y):\n    y[...] = np.abs(xp.asnumpy(x))"
    monkeypatch.setattr(neuron, "elementwise", planted(fault, "elementwise"))
    with pytest.raises(ValueError, match=r"non-scalar numpy.ndarray cannot be used for fill"):
        net.forward(x=np.ones((2, 3)))


# -- the suite, and training -----------------------------------------------------------------------------


@needs_compiler
@pytest.mark.whole_suite
@pytest.mark.cpu_only("the suite runs on the double already")
@pytest.mark.side_run(begin=lambda: SideRun.of_pytest("--device", "double", "-n", "2", "--dist", "worksteal"))
def test_the_rest_of_the_suite_passes_on_the_double(side_run):
    status, output = side_run
    failures = re.search(r"=+ (FAILURES|ERRORS) =+.*", output, re.DOTALL)
    assert status == 0, failures.group() if failures else output[-10_000:]


def test_the_progress_of_a_long_run_is_shown():
    script = "for k in range(0, 101, 4): print('.' * 72, f'[{k:3}%]')"
    shown, run = [], SideRun(sys.executable, "-c", script)
    run_in_turn([run])
    status, output = run.finish(shown.append)
    assert status == 0 and output.count("%]") == 26
    assert shown[-1] == "[100%]" and len(shown) == len(set(shown))


def test_a_side_run_that_cannot_begin_says_so_and_holds_up_none():
    runs = [SideRun("no-such-program"), SideRun(sys.executable, "-c", "print(3)")]
    run_in_turn(runs)
    status, output = runs[0].finish(print)
    assert status == 1 and "no-such-program" in output
    assert runs[1].finish(print) == (0, "3\n")


def test_side_runs_take_turns_and_one_that_was_stopped_does_not_begin(tmp_path):
    runs = [SideRun(sys.executable, "-c", f"open({str(tmp_path / name)!r}, 'x')") for name in "abc"]
    runs[1].stop()
    run_in_turn(runs)
    assert runs[2].finish(print)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


@pytest.mark.cpu_only("a process of its own")
def test_asking_for_the_tests_of_a_gpu_where_there_is_none_says_why():
    command = [sys.executable, "-m", "pytest", "--device", "gpu", "-p", "no:cacheprovider", "--co", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        assert "test_gpu.py" in done.stdout and "test_cli.py" not in done.stdout
    else:
        assert re.fullmatch(r"ERROR: --device gpu: CuPy .*\n+", done.stderr), done.stdout + done.stderr
