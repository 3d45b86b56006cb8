"""Ranks with a GPU each sum their arrays by NCCL, in order, and refuse to share a GPU.

The double of CuPy is NCCL too: see ``strict_cupy/collectives.py``. Its ranks are threads here, and processes once.
"""

import os
import shutil
import subprocess
import sys
import threading
import types

import numpy as np
import pytest

from minicaffe.device import array, launch, nccl
from minicaffe.device.array import CPU, Device, SideStream
from minicaffe.device.nccl import NcclCommunicator
from minicaffe.errors import CommunicatorError
from tests import ROOT
from tests.strict_cupy import counting, cupy, memory
from tests.strict_cupy import nccl as library
from tests.strict_cupy.devices import Event, Stream
from tests.thread_ranks import ThreadCommunicator, ThreadRanks

pytestmark = pytest.mark.usefixtures("double")
TYPES = ["float32", "float64", "float16", "int8", "int32", "int64", "uint8", "uint32", "uint64"]


def run_on_gpus(function):
    """What ``function(communicator)`` returns on two ranks, each with a GPU of its own, which it computes on."""

    def run(ranks):
        device = Device("gpu", ranks.rank)
        communicator = NcclCommunicator(ranks, device)
        with device.entered():
            return function(communicator)

    return ThreadRanks(2).run(run)


# -- what is sent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3, 4, 5), (0, 3)])
def test_a_sum_and_a_broadcast_are_those_of_numpy(dtype, shape, rng):
    given = [(20 * rng.random(shape)).astype(dtype) for _ in range(2)]

    def both(ranks):
        summed, sent = (cupy.asarray(given[ranks.rank]) for _ in range(2))
        assert ranks.sum(summed) is summed
        ranks.broadcast(sent)
        assert summed.device.id == ranks.rank
        return summed.get(), sent.get()

    for summed, sent in run_on_gpus(both):
        np.testing.assert_array_equal(summed, given[0] + given[1])
        np.testing.assert_array_equal(sent, given[0])


def test_sums_that_were_started_together_are_waited_for_in_any_order():
    def several(ranks):
        arrays = [cupy.full(3, number + ranks.rank, np.float32) for number in range(4)]
        pending = [ranks.start_sum(a) for a in arrays]
        for number in (2, 0, 3, 1):
            pending[number].wait()
            pending[number].wait()  # once more changes nothing
            arrays[number] *= 2
        return [a.get()[0] for a in arrays]

    assert run_on_gpus(several) == [[2, 6, 10, 14]] * 2


def test_columns_one_after_the_other_are_an_array_with_gaps_to_nobody_but_numpy():
    def refused(ranks):
        with pytest.raises(ValueError, match="an array with gaps cannot be sent"):
            ranks.sum(cupy.zeros((4, 6))[:, :3])
        with pytest.raises(TypeError, match="NCCL sums no numbers of type bool"):
            ranks.sum(cupy.zeros(3, bool))

    run_on_gpus(refused)


def test_arrays_of_the_host_and_objects_go_by_mpi(monkeypatch):
    by_mpi = []
    for name in ("start_sum", "broadcast", "gather", "from_root", "highest", "progress"):
        right = getattr(ThreadCommunicator, name)
        monkeypatch.setattr(
            ThreadCommunicator,
            name,
            lambda self, *args, name=name, right=right: (by_mpi.append(name), right(self, *args))[1],
        )

    def host(ranks):
        with counting() as counts:
            a = np.full(3, ranks.rank + 1.0)
            ranks.sum(a)
            b = np.full(3, ranks.rank + 1.0)
            ranks.broadcast(b)
            ranks.progress()
            found = ranks.gather(ranks.rank), ranks.from_root(ranks.rank + 5), ranks.highest(ranks.rank)
        assert counts.launches == counts.waits == 0
        return a.tolist(), b.tolist(), *found

    assert run_on_gpus(host) == [([3, 3, 3], [1, 1, 1], [0, 1], 5, 1)] * 2
    assert {"start_sum", "broadcast", "gather", "from_root", "highest", "progress"} == set(by_mpi)


def test_the_id_is_made_by_rank_0_alone(monkeypatch):
    made, right = [], library.get_unique_id

    def noting():
        made.append(right())
        return made[-1]

    monkeypatch.setattr(library, "get_unique_id", noting)
    run_on_gpus(lambda ranks: ranks.sum(cupy.ones(2)))
    assert len(made) == 1


# -- in which order --------------------------------------------------------------------------------------


def sum_and_use(ranks):
    """Gradients that are computed, summed, used and computed again, and a parameter that is sent and used."""
    a, sent = cupy.full(5, ranks.rank + 1.0), cupy.full(5, ranks.rank + 1.0)
    for _ in range(2):
        a *= 2
        pending = ranks.start_sum(a)
        cupy.ones(5) + 1  # what goes on meanwhile
        pending.wait()
        a += 1
    ranks.broadcast(sent)
    return (a + sent).tolist()


def test_no_host_waits_for_a_sum():
    def counted(ranks):
        a = cupy.ones(5)
        with counting() as counts:
            ranks.sum(a)
            ranks.broadcast(a)
            ranks.progress()
        return counts.waits

    assert run_on_gpus(counted) == [0, 0]


def test_sums_are_in_order_with_what_makes_and_uses_their_arrays():
    # 1 and 2 become 2 and 4, then 6 + 1, then 28 + 1; and 1 from rank 0.
    assert run_on_gpus(sum_and_use) == [[30] * 5] * 2


def nothing(*_):
    return None


def without_waits_of(is_null):
    """``Stream.wait_event``, where the null stream's waits, or those of all others, do nothing."""
    right = Stream.wait_event
    return lambda self, event: None if (self is Stream.null) is is_null else right(self, event)


NEEDED = {
    "the side stream follows the current one": (SideStream, "follow", nothing),
    "the current stream follows the side stream": (SideStream, "let_follow", nothing),
    "the end of a sum is noted": (SideStream, "mark", lambda self: Event()),
    "the side stream waits": (Stream, "wait_event", without_waits_of(False)),
    "the current stream waits": (Stream, "wait_event", without_waits_of(True)),
    "events are recorded": (Event, "record", nothing),
}


@pytest.mark.parametrize("call", NEEDED.values(), ids=NEEDED)
@pytest.mark.parametrize("use", ["sum_and_use", "broadcast"])
def test_without_any_of_the_calls_that_order_them_sums_race(call, use, monkeypatch):
    def broadcast(ranks):
        a = cupy.ones(3)
        ranks.broadcast(a)
        a + 1

    monkeypatch.setattr(*call)
    with pytest.raises(RuntimeError, match="race: "):
        run_on_gpus(sum_and_use if use == "sum_and_use" else broadcast)


@pytest.mark.parametrize("keeps", ["pending", "nothing"])
def test_memory_of_an_array_that_is_let_go_is_not_used_anew_before_the_sum_is_done(keeps):
    def let_go(ranks):
        kept = [ranks.start_sum(cupy.ones(1000))]
        if keeps == "nothing":
            kept.clear()
        return cupy.full(1000, 3.0).sum().item()

    assert run_on_gpus(let_go) == [3000, 3000]


def test_memory_that_was_summed_is_let_go_after_the_wait():
    def bytes_left(ranks):
        before = cupy.get_default_memory_pool().used_bytes()
        ranks.sum(cupy.ones(1000))
        return cupy.get_default_memory_pool().used_bytes() - before

    assert run_on_gpus(bytes_left) == [0, 0]


def test_sums_are_in_order_on_their_own_gpu_whichever_is_current():
    def elsewhere(ranks):
        a = cupy.ones(3)
        with cupy.cuda.Device(1 - ranks.rank):
            ranks.sum(a)
            ranks.broadcast(a)
        return (a + 1).tolist()

    assert run_on_gpus(elsewhere) == [[3] * 3] * 2


# -- which GPU -------------------------------------------------------------------------------------------


def refused(size, device_of, match, make=nccl.check_devices):
    """Every rank of some is told the same."""

    def run(ranks):
        with pytest.raises(CommunicatorError, match=match) as caught:
            make(ranks, device_of(ranks.rank))
        return caught.value.on_every_rank, str(caught.value)

    found = ThreadRanks(size).run(run)
    assert found == [found[0]] * size and found[0][0]


def test_two_ranks_on_one_gpu_are_refused_with_what_to_do():
    refused(
        3,
        lambda rank: Device("gpu", rank % 2),
        r"3 ranks on this machine \(.*\), but 2 GPU\(s\): ranks 0 and 2 share gpu:0; start as many ranks as",
    )
    refused(2, lambda rank: Device("gpu", 1), r"ranks 0 and 1 share gpu:1 \(.*\); --device gpu gives each")


def test_ranks_on_cpus_and_on_gpus_do_not_go_together():
    refused(
        2,
        lambda rank: Device("gpu") if rank else CPU,
        r"rank 1 \(.*\) computes on gpu:0, but rank 0 .* on cpu",
    )
    ThreadRanks(2).run(lambda ranks: nccl.check_devices(ranks, CPU))


@pytest.mark.parametrize("devices", ["gpu:0 gpu:0", "cpu gpu:0", "gpu:0 cpu"])
def test_a_communicator_is_refused_to_ranks_whose_devices_do_not_go_together(devices, monkeypatch):
    monkeypatch.setattr(launch, "launch_of", lambda: launch.Launch(2))
    mine = threading.local()
    monkeypatch.setattr(launch, "MpiCommunicator", lambda: mine.ranks)

    def make(ranks, device):
        mine.ranks = ranks
        launch.communicator(device)

    places = [Device(name[:3], 0) for name in devices.split()]
    refused(2, lambda rank: places[rank], "share gpu:0|either all ranks need a GPU or none", make)


def test_gpus_of_the_same_number_on_two_machines_are_two(monkeypatch):
    names = iter(["one", "other"])
    monkeypatch.setattr(nccl.platform, "node", lambda: next(names))
    ThreadRanks(2).run(lambda ranks: nccl.check_devices(ranks, Device("gpu")))


def test_a_rank_without_nccl_is_an_error_of_all(monkeypatch):
    def missing_on_rank_1():
        if cupy.cuda.Device().id == 1:
            monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", types.SimpleNamespace(available=False))
        return array.nccl_library()

    def make(ranks, device):
        with device.entered():
            NcclCommunicator(ranks, device)

    monkeypatch.setattr(nccl, "nccl_library", missing_on_rank_1)
    match = "need NCCL, and CuPy finds none: pip install nvidia-nccl-cu12"
    refused(2, lambda rank: Device("gpu", rank), match, make)


def test_a_process_by_itself_and_one_on_a_cpu_do_not_ask_for_gpus(monkeypatch):
    monkeypatch.delattr(launch, "gpu_count")
    assert launch.device_of_rank("auto", launch.Launch()) == "auto"
    assert launch.device_of_rank("cpu", launch.Launch(2, 1, 1)) == "cpu"


def test_to_choose_a_gpu_takes_no_memory_of_another(monkeypatch):
    used, ones = [], cupy.ones
    monkeypatch.setattr(cupy, "ones", lambda *args: (used.append(cupy.cuda.Device().id), ones(*args))[1])
    array.parse_device("gpu:1")
    assert set(used) == {1}


OF_RANK = [
    ("gpu", 0, "gpu:0"),
    ("gpu", 1, "gpu:1"),
    (" GPU ", 3, "gpu:1"),
    ("auto", 1, "gpu:1"),
    ("gpu:0", 1, "gpu:0"),
    ("cpu", 1, "cpu"),
    ("nonsense", 1, "nonsense"),
]


@pytest.mark.parametrize(("name", "local_rank", "device"), OF_RANK)
def test_a_rank_takes_the_gpu_of_its_number_on_its_machine(name, local_rank, device):
    assert launch.device_of_rank(name, launch.Launch(8, 4 + local_rank, local_rank)) == device
    assert launch.device_of_rank(name, launch.Launch()) == name


def test_a_rank_takes_no_gpu_where_there_is_none_that_computes(monkeypatch):
    second = launch.Launch(2, 1, 1)
    monkeypatch.setattr(launch, "gpu_problem", lambda index: "broken" if index == 1 else "")
    assert launch.device_of_rank("auto", second) == "cpu"
    monkeypatch.setattr(array, "cupy", None)
    assert [launch.device_of_rank(name, second) for name in ("auto", "gpu")] == ["auto", "gpu"]


# -- processes -------------------------------------------------------------------------------------------

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
RANK = """
import sys
import numpy as np
from minicaffe.device import array, launch
from tests import strict_cupy

array.cupy, array.cupyx = strict_cupy.cupy, strict_cupy.cupyx
sys.modules["cupy.cuda.nccl"] = strict_cupy.nccl
ranks = launch.communicator()
with array.current_device().entered():
    a, b = (strict_cupy.cupy.full(3, ranks.rank + 1.0) for _ in range(2))
    ranks.sum(a)
    ranks.broadcast(b)
    found = ranks.gather((str(array.current_device()), a.tolist(), b.tolist()))
    host = ranks.sum(np.full(2, 0.5))
if ranks.is_root:
    print(found, host)
ranks.end()
"""


def run_python(script, *before):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [*before, sys.executable, "-c", script]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.cpu_only("processes of their own")
@pytest.mark.skipif(
    MPIEXEC is None, reason="mpiexec is not installed beside Python (pip install 'minicaffe[mpi]')"
)
def test_processes_that_mpiexec_starts_take_a_gpu_each_and_sum_by_nccl():
    pytest.importorskip("mpi4py")
    found = [(f"gpu:{rank}", [3.0] * 3, [1.0] * 3) for rank in range(2)]
    assert run_python(RANK, MPIEXEC, "-n", "2") == f"{found} [1. 1.]\n"


ALONE = """
import sys
import minicaffe
from minicaffe.device.launch import communicator
assert communicator().size == 1
print([name for name in sys.modules if name.partition(".")[0] == "mpi4py" or "nccl" in name])
"""


@pytest.mark.cpu_only("a process of its own")
def test_one_process_imports_neither_mpi_nor_nccl():
    assert run_python(ALONE) == "['minicaffe.device.nccl']\n"


# -- faults ----------------------------------------------------------------------------------------------


def test_an_error_of_nccl_is_one_of_the_device_and_ends_what_waits_for_other_ranks(monkeypatch):
    def broken(self):
        raise library.NcclError("NCCL_ERROR_REMOTE_ERROR: a rank has gone")

    def on(ranks):
        with pytest.raises(library.NcclError, match="a rank has gone") as caught:
            ranks.progress()
        with pytest.raises(library.NcclError, match="was destroyed"):
            ranks.sum(cupy.ones(3))
        return array.is_device_error(caught.value)

    monkeypatch.setattr(library.NcclCommunicator, "check_async_error", broken)
    assert run_on_gpus(on) == [True, True]


def of_another_device(ranks):
    with cupy.cuda.Device(1 - ranks.rank):
        a = cupy.ones(3)
    ranks.sum(a)


def of_other_numbers(ranks):
    ranks.sum(cupy.ones(3 + ranks.rank))


def of_other_kinds(ranks):
    (ranks.broadcast if ranks.rank else ranks.sum)(cupy.ones(3))


def after_the_end(ranks):
    ranks.end()
    ranks.sum(cupy.ones(3))


def of_memory_that_is_gone(ranks):
    address = cupy.ones(3).data.ptr
    assert address not in memory._at
    ranks._gpus.allReduce(address, address, 3, library.NCCL_FLOAT64, library.NCCL_SUM, 0)


def of_too_many(ranks):
    a = cupy.ones(3)
    ranks._gpus.allReduce(a.data.ptr, a.data.ptr, 4, library.NCCL_FLOAT64, library.NCCL_SUM, 0)


def of_another_type(ranks):
    a = cupy.ones(3)
    ranks._gpus.allReduce(a.data.ptr, a.data.ptr, 3, library.NCCL_INT64, library.NCCL_SUM, 0)


WRONG = [
    (
        of_another_device,
        RuntimeError,
        r"rank (.) is on device \1, but the current one is \1, that of the array (?!\1)",
    ),
    (of_other_numbers, library.NcclError, "ranks ask for different things"),
    (of_other_kinds, library.NcclError, "ranks ask for different things"),
    (after_the_end, library.NcclError, "was destroyed"),
    (of_memory_that_is_gone, RuntimeError, "no array is at address"),
    (of_too_many, TypeError, "4 numbers of float64 are not the 3 of float64 there"),
    (of_another_type, TypeError, "3 numbers of int64 are not the 3 of float64 there"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
def test_the_double_refuses_what_nccl_would_misread(wrong, error, message):
    with pytest.raises(error, match=message):
        run_on_gpus(wrong)


def test_the_double_refuses_an_id_of_its_own_and_a_gpu_for_two():
    with pytest.raises(library.NcclError, match="an id that rank 0 has not made for all"):
        ThreadRanks(2).run(lambda ranks: library.NcclCommunicator(2, bytes(128), ranks.rank))
    unique = library.get_unique_id()
    with pytest.raises(library.NcclError, match="two ranks have the same GPU"):
        ThreadRanks(2).run(lambda ranks: library.NcclCommunicator(2, unique, ranks.rank))
    with pytest.raises(ValueError, match="commId length 3 != 128"):
        library.NcclCommunicator(2, b"abc", 0)
