"""The double of CuPy refuses what CuPy refuses, and the whole suite passes on it.

What is refused is refused to the package, so the sources here are compiled as if they lay in it.
"""

import re
import subprocess
import sys
from pathlib import Path

import cuda_on_cpu
import numpy as np
import pytest
from golden_files import FOLDER, parts, recorded
from gradient_check import layer_net
from layer_cases import LAYERS, one_layer
from strict_cupy import counting, cupy, cupyx
from strict_cupy.names import RECORD
from strict_cupy.record import find, record

import minicaffe as mc
from minicaffe import array
from minicaffe.layer import layer_classes
from minicaffe.layers import neuron
from minicaffe.layers.absval import AbsVal
from minicaffe.solver import Solver
from minicaffe.spec.net import parse_net
from minicaffe.spec.solver import parse_solver

ROOT = Path(__file__).parent.parent
PACKAGE = Path(mc.__file__).parent
pytestmark = pytest.mark.usefixtures("double")
needs_compiler = pytest.mark.skipif(bool(cuda_on_cpu.MISSING), reason=cuda_on_cpu.MISSING)


def planted(source, name="planted"):
    """A function whose code lies in the package."""
    names = {"np": np, "xp": cupy, "cupyx": cupyx}
    exec(compile(source, str(PACKAGE / "planted.py"), "exec"), names)
    return names[name]


def in_package(statement):
    """Run a statement about a (on the device, 3 × 4), x (the same in NumPy) and out, in the package."""
    a = cupy.arange(12, dtype=np.float32).reshape(3, 4)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    planted(f"def planted(a, x, out):\n    {statement}")(a, x, cupy.empty_like(a))


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


SOURCE = 'extern "C" __global__ void twice(float* a, int n) { for (int i = 0; i < n; i++) a[i] *= 2; }'
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


# -- devices ---------------------------------------------------------------------------------------------

USES = [
    "a + 1", "xp.add(1, a)", "xp.exp(b, out=a)", "a @ a.T", "xp.matmul(b, b, out=a)", "a.sum()", "xp.maximum(b, a)",
    "a.copy()", "a.astype(int)", "a.ravel('F')", "a.argmax()", "a.fill(1)", "a[:] = b", "b[:] = a", "a[[0]]",
    "b[a.astype(int)]", "xp.where(b, b, a)", "xp.concatenate([b, a])", "xp.stack([b, a])", "xp.copyto(b, a)",
    "xp.copyto(a, b)", "a.sum(out=b[0, 0])", "b.sum(axis=1, out=a[0])", "xp.linalg.inv(a)",
    "a.set(np.ones((2, 2)))", "a.nonzero()", "a.take(0)", "b.take(0, out=a[0, 0])", "xp.argsort(a)",
    "xp.ascontiguousarray(a.T)",
    "xp.full((2, 2), a[0, 0])", "xp.vdot(b, a)", "xp.add.at(b, ([0], [0]), a[0, 0])",
    "xp.RawKernel(source, 'twice')((1,), (1,), (a, np.int32(4)))",
]  # fmt: skip


@pytest.mark.parametrize("statement", USES)
def test_an_array_of_another_device_is_refused(statement):
    b = cupy.ones((2, 2))
    with cupy.cuda.Device(1):
        a = cupy.ones((2, 2))
    names = f"import numpy as np\ndef planted(a, b, xp, source):\n    {statement}"
    with pytest.raises(RuntimeError, match="an array of device 1 is used on device 0"):
        planted(names)(a, b, cupy, SOURCE.replace("float", "double"))


def test_an_array_of_another_device_is_looked_at_and_read():
    with cupy.cuda.Device(1):
        a = cupy.arange(6.0).reshape(2, 3)
    views = [
        a,
        a.T,
        a[0],
        a[:, None],
        a.reshape(3, 2),
        cupy.reshape(a, -1),
        a.real,
        cupy.broadcast_to(a, (2, 2, 3)),
    ]
    assert {view.device.id for view in views} == {1}
    assert a.shape == (2, 3) and cupy.get_array_module(a) is cupy
    np.testing.assert_array_equal(a.T.get(), [[0, 3], [1, 4], [2, 5]])
    assert cupy.ones(3).device.id == 0


def test_an_array_of_another_device_is_put_on_this_one_as_a_copy():
    with cupy.cuda.Device(1):
        a = cupy.ones(3)
        assert cupy.asarray(a) is a
    assert cupy.asarray(a).device.id == 0


def test_the_current_device_is_that_of_the_thread(in_thread):
    with cupy.cuda.Device(1):
        assert in_thread(lambda: cupy.cuda.Device().id) == 0
        assert cupy.cuda.Device().id == 1
        with cupy.cuda.Device(0):
            assert cupy.ones(2).device.id == 0
    assert cupy.cuda.Device().id == 0
    cupy.cuda.Device(1).use()
    assert cupy.zeros(2).device.id == 1


def test_random_numbers_streams_and_events_belong_to_their_device():
    rng, stream, event = array.Device("gpu", 1).rng(3), cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event()
    with pytest.raises(RuntimeError, match="allocated in a different device"):
        rng.random(3)
    with cupy.cuda.Device(1):
        assert rng.random(3).device.id == 1
        with pytest.raises(RuntimeError, match="is different from the current device"), stream:
            pass
        with pytest.raises(RuntimeError, match="a stream of another device"):
            cupy.ones(3).set(np.ones(3), stream=stream)
        with pytest.raises(RuntimeError, match="an event of another device"):
            cupy.cuda.get_current_stream().record(event)


def test_the_bytes_in_use_are_those_of_the_arrays_that_there_are():
    before = array.pool_bytes()
    a = cupy.zeros((10, 100), np.float32)
    view = a[1:]
    assert array.pool_bytes() == before + 4000
    del a
    assert array.pool_bytes() == before + 4000
    del view
    assert array.pool_bytes() == before


# -- streams ---------------------------------------------------------------------------------------------


NULL = "the null stream of device 0"


def race(who, does, whom, done):
    return pytest.raises(RuntimeError, match=f"race: {who} {does} memory that {whom} has {done}, and nothing")


@pytest.fixture
def stream():
    return cupy.cuda.Stream(non_blocking=True)


def made_in(stream):
    with stream:
        return cupy.zeros(3)


def test_what_two_streams_do_is_in_order_only_by_an_event(stream):
    event, a = cupy.cuda.Event(), made_in(stream)
    with race(NULL, "reads", r"stream \d+", "written"):
        a + 1
    event.record(stream)
    cupy.cuda.Stream.null.wait_event(event)
    b = a + 1
    with race(r"stream \d+", "writes", NULL, "read"):
        a.set(np.ones(3), stream=stream)
    with stream, race(r"stream \d+", "reads", NULL, "written"):
        b + 1
    stream.wait_event(cupy.cuda.Stream.null.record())
    a.set(np.ones(3), stream=stream)
    with stream:
        assert (a + b).sum().item() == 6


@pytest.mark.parametrize("wait", ["stream.synchronize()", "a.get(stream)", "xp.cuda.Device(0).synchronize()"])
def test_what_the_host_waited_for_is_done_before_all_that_it_launches_next(stream, wait):
    a = made_in(stream)
    eval(wait, {"stream": stream, "a": a, "xp": cupy})
    a += 1


def test_two_streams_may_read_at_a_time(stream):
    a = cupy.zeros(3)
    stream.wait_event(cupy.cuda.Stream.null.record())
    with stream:
        b = a + 1
    a + 1
    with race(NULL, "writes", r"stream \d+", "read"):
        a += 1
    with race(NULL, "reads", r"stream \d+", "written"):
        b += 1


def test_memory_that_was_let_go_may_still_be_in_use_by_another_stream_than_its_own(stream):
    a = made_in(stream)
    cupy.cuda.Stream.null.wait_event(stream.record())
    a + 1
    del a
    with race(r"stream \d+", "writes", NULL, "read"):
        made_in(stream)
    stream.wait_event(cupy.cuda.Stream.null.record())
    made_in(stream)


def test_the_host_does_not_write_pinned_memory_that_is_still_to_be_read(stream):
    a, x = made_in(stream), cupyx.empty_pinned((3,), np.float64)
    x[...] = 1
    a.set(x, stream=stream)
    with race("the host", "writes", r"stream \d+", "read"):
        x[1:][0] = 2
    for write in ("np.copyto(x, 2)", "x.fill(2)", "np.add(1, 1, out=x)"):  # what would not be seen
        with pytest.raises(ValueError, match="read-only"):
            eval(write, {"np": np, "x": x})
    stream.synchronize()
    x[...] = 2
    assert a.get().tolist() == [1, 1, 1] and x.tolist() == [2, 2, 2]


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


def test_the_double_has_the_recorded_names_and_no_others():
    recorded = [
        *RECORD["functions"],
        *RECORD["ufuncs"],
        *RECORD["constants"],
        *RECORD["methods"],
        *RECORD["errors"],
    ]
    assert all(find(cupy, name) is not None for name in recorded if name != "newaxis")
    top = {name for name in vars(cupy) if not name.startswith("__")}
    assert top == {name.partition(".")[0] for name in recorded}
    for owner, methods in RECORD["methods"].items():
        own = {name for name in vars(find(cupy, owner)) if not name.startswith("_")}
        assert own <= {*methods, *RECORD["attributes"].get(owner, [])}, owner
        assert all(hasattr(find(cupy, owner), name) for name in methods)


def test_the_record_is_that_of_the_installed_cupy():
    real = pytest.importorskip(
        "cupy", reason="CuPy is not installed here: the record stands as it was written"
    )
    found = record(real, pytest.importorskip("cupyx"))
    for part, names in RECORD.items():
        assert found[part] == names, f"{part}: run tests/strict_cupy/record.py"


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
def test_the_rest_of_the_suite_passes_on_the_double(request):
    if request.config.getoption("--device") == "double":
        pytest.skip("the suite runs on the double already")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--device",
        "double",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    failures = re.search(r"=+ (FAILURES|ERRORS) =+.*", done.stdout, re.DOTALL)
    assert done.returncode == 0, (failures.group() if failures else done.stdout[-10_000:]) + done.stderr[
        -2_000:
    ]


def test_asking_for_the_tests_of_a_gpu_where_there_is_none_says_why():
    command = [sys.executable, "-m", "pytest", "--device", "gpu", "-p", "no:cacheprovider", "--co", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        assert "test_gpu.py" in done.stdout and "test_cli.py" not in done.stdout
    else:
        assert re.fullmatch(r"ERROR: --device gpu: CuPy .*\n+", done.stderr), done.stdout + done.stderr


# Layers that wait, and why: the README names them.
WAITING = {
    "Filter": "how many images are left is known on the host",
    "DetectionOutput": "boxes are chosen on the host",
    "HDF5Output": "a file is written",
}
NOT_TRIED = {  # data of the host, code of the user, and Split, which nets put in by themselves
    *("Data", "DummyData", "HDF5Data", "ImageData", "Input", "MemoryData", "WindowData", "Python", "Split"),
}
FILTERS = "convolution_param: {num_output: 6, kernel_size: 3, weight_filler: {type: xavier}}"
MORE_LAYERS = [
    ("type: PriorBox, prior_box_param: {min_size: 3, max_size: 5}", [(1, 8, 3, 2), (1, 3, 30, 20)]),
    ("type: ROIPooling, roi_pooling_param: {pooled_h: 2, pooled_w: 2}", [(2, 3, 6, 6), (4, 5)]),
    ("type: SmoothL1Loss", [(3, 4), (3, 4)]),
    ("type: DetectionOutput, detection_output_param: {num_classes: 3}", [(1, 8), (1, 6), (1, 2, 8)]),
    (f"type: Convolution, {FILTERS}, low_rank_param: {{rank: 2, factored: true}}", [(2, 4, 6, 6)]),
    ("type: HDF5Output, top: [], hdf5_output_param: {file_name: PATH}", [(2, 3), (2,)]),
]
CASES = [
    (layer_type, name)
    for layer_type in sorted(path.stem for path in (FOLDER / "layers").glob("*.npz"))
    for name in recorded(f"layers/{layer_type}")
]


@needs_compiler
def test_no_layer_waits_for_the_device_or_has_a_product_copy_its_factors(tmp_path):
    waiting, types = {}, set()
    for layer_type, net in waiting_cases(tmp_path):
        types |= {layer_type}
        for blob in net.gradient_starts:
            net.blobs[blob].diff[...] = 1
        with counting() as counts:
            net.run_forward()
            net.run_backward()
        if counts.waits:
            waiting.setdefault(layer_type, counts.places)
        if getattr(net.layers[-1], "group", 1) == 1:  # groups are a stack: its transposed matrices are copied
            assert not counts.product_copies, counts.places
    assert set(waiting) == set(WAITING), waiting
    ours = {name for name, cls in layer_classes.items() if cls.__module__.startswith("minicaffe.")}
    assert types >= ours - NOT_TRIED, ours - NOT_TRIED - types


def waiting_cases(folder):
    """(layer type, a net with it that has run forward)."""
    for layer_type, name in CASES:
        case = recorded(f"layers/{layer_type}")[name]
        try:
            net = mc.Net(parse_net(str(case["net"])), phase=str(case["phase"]).lower(), seed=1)
        except mc.MinicaffeError:
            continue  # what is refused here
        for blob, value in parts(case, "in_").items():
            net.blobs[blob].data[...] = mc.to_device(value)
        net.run_forward()
        yield layer_type, net
    for name in LAYERS:
        net = one_layer(name)
        net.run_forward()
        yield net.layers[-1].type, net
    for layer, shapes in MORE_LAYERS:
        text = layer_net(layer.replace("PATH", str(folder / "out.h5")), shapes)
        net = mc.Net(parse_net(text.replace("force_backward: true\n", "")), phase="train", seed=1)
        net.run_forward()
        yield net.layers[-1].type, net


LOW_RANKS = {"rank: 2": 1, "rank: 2, refresh: 3": 2, "rank: 2, target: data": 2, "rank: 2, factored: true": 0}


@needs_compiler
@pytest.mark.parametrize("low_rank", LOW_RANKS)
def test_a_low_rank_layer_waits_twice_in_a_forward_at_the_most(low_rank):
    layer = f"type: Convolution, {FILTERS}, low_rank_param: {{{low_rank}}}"
    net = mc.Net(parse_net(layer_net(layer, [(2, 4, 6, 6)])), phase="test", seed=1)
    net.run_forward()
    net.run_forward()
    with counting() as counts:
        net.run_forward()
    assert counts.waits == LOW_RANKS[low_rank], counts.places


SMALL_JOB = """layer:
- {name: d, type: Data, top: [data, label], data_param: {source: sample/mnist-train, batch_size: 4}}
- {name: conv, type: Convolution, bottom: data, convolution_param: {num_output: 3, kernel_size: 5, stride: 4,
   weight_filler: {type: xavier}}}
- {name: pool, type: Pooling, pooling_param: {kernel_size: 2, stride: 2}}
- {name: drop, type: Dropout}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 10, weight_filler: {type: xavier}}}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
"""
SETTINGS = ["", "clip_gradients: 0.1", "iter_size: 2", "regularization_type: L1", "weight_decay: 0.1"]


@needs_compiler
@pytest.mark.parametrize("rule", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_no_solver_waits_for_the_device(rule, monkeypatch):
    rates = (
        "rms_decay: 0.9"
        if rule == "RMSProp"
        else "momentum: 0.9"
        if rule in ("SGD", "Nesterov", "AdaDelta")
        else ""
    )
    for settings in SETTINGS:
        text = f"net: none\ntype: {rule}\nbase_lr: 0.001\nlr_policy: fixed\n{rates}\n{settings}\n"
        assert_steps_do_not_wait(mc.Solver(parse_solver(text), net=parse_net(SMALL_JOB)), monkeypatch)


def assert_steps_do_not_wait(solver, monkeypatch):
    iterations, step = [], Solver._step

    def counted(self, *args):
        with counting() as counts:
            step(self, *args)
        iterations.append(counts)

    with monkeypatch.context() as patch:
        patch.setattr(Solver, "_step", counted)
        solver.step(3)
    solver.close()
    assert [counts.waits for counts in iterations] == [0, 0, 0], [counts.places for counts in iterations]


SOLVER = """net: net.yaml
base_lr: 0.01
momentum: 0.9
weight_decay: 0.0005
lr_policy: inv
gamma: 0.0001
power: 0.75
display: 3
random_seed: 1
"""


@needs_compiler
def test_lenet_trains_without_waiting_between_displays(tmp_path, monkeypatch):
    (tmp_path / "net.yaml").write_text((ROOT / "prototxt" / "lenet" / "train.yaml").read_text())
    (tmp_path / "solver.yaml").write_text(SOLVER)
    iterations, step = [], Solver._step

    def counted(self, *args):
        with counting() as counts:
            step(self, *args)
        iterations.append(counts)

    monkeypatch.setattr(Solver, "_step", counted)
    solver = mc.Solver(tmp_path / "solver.yaml")
    solver.step(6)
    solver.close()
    assert iterations[0].waits and iterations[3].waits, "a display reads the loss"
    for counts in iterations[1:3] + iterations[4:]:
        assert counts.waits == 0 and counts.copies_to_device == 0, counts.places
