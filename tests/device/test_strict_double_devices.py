"""The double of CuPy has two GPUs, and their streams: arrays of another GPU and races are found."""

import numpy as np
import pytest

from minicaffe.device import array
from tests.device.in_package import SOURCE, planted
from tests.strict_cupy import cupy, cupyx

pytestmark = pytest.mark.usefixtures("double")


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
