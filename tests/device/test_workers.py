"""The workers: all parts are done, errors and interrupts surface, and BLAS gets its threads back."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from minicaffe.device import workers

threadpoolctl = pytest.importorskip(
    "threadpoolctl", minversion="3.5"
)  # the first that knows NumPy's own BLAS


def blas_threads():
    """Those of each BLAS that was loaded with NumPy; another package may bring its own later (OpenCV does)."""
    return [library.get_num_threads() for library in workers._libraries]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_part_is_done_once(count):
    done = []
    workers.run(done.append, count)
    assert sorted(done) == list(range(count))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shared_items_are_taken_in_turns(count):
    taken = [[] for _ in range(count)]
    workers.share(lambda item, worker: taken[worker].append(item), "abcde", count)
    assert taken == [list("abcde")[worker::count] for worker in range(count)]


def test_a_worker_without_an_item_is_not_woken(monkeypatch):
    used = []
    monkeypatch.setattr(workers, "run", lambda task, count: used.append(count))
    for items in ("", "a", "ab", "abcde"):
        workers.share(lambda item, worker: None, items, 3)
    assert used == [0, 1, 2, 3]


@pytest.mark.parametrize(("length", "parts"), [(10, 3), (4, 4), (2, 5), (0, 2), (7, 1)])
def test_a_length_is_cut_into_consecutive_parts_of_nearly_the_same_size(length, parts):
    cut = workers.cut(length, parts)
    assert [i for part in cut for i in range(length)[part]] == list(range(length))
    sizes = [part.stop - part.start for part in cut]
    assert len(cut) == parts and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_error_in_any_part_is_raised_after_all_have_ended(bad):
    ended = []

    def task(worker):
        time.sleep(0.01 * (worker != bad))
        if worker == bad:
            raise ValueError(f"part {worker}")
        ended.append(worker)

    with pytest.raises(ValueError, match=f"part {bad}"):
        workers.run(task, 3)
    assert sorted(ended) == [w for w in range(3) if w != bad]


def test_an_interrupt_leaves_no_part_unfinished_and_the_next_run_right():
    ended = []

    def slow(worker):
        if worker:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.05)
            ended.append(worker)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                workers.run(slow, 2)
        assert ended == [1, 1, 1]
        out = np.zeros(2)

        def task(worker):
            time.sleep(0.05 * worker)
            out[worker] = 1

        workers.run(task, 2)
        assert out.tolist() == [1, 1]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_run_inside_a_run_is_done_in_order():
    done = []
    workers.run(lambda outer: workers.run(lambda inner: done.append((outer, inner)), 2), 2)
    assert sorted(done) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_blas_has_one_thread_inside_and_its_own_number_after_it():
    with threadpoolctl.threadpool_limits(2, "blas"):
        before = blas_threads()
        with workers.one_blas_thread():
            with workers.one_blas_thread():
                assert set(blas_threads()) == {1}
            assert set(blas_threads()) == {1}
            seen = []
            workers.run(lambda worker: seen.extend(blas_threads()), 2)
            assert set(seen) == {1}
        assert blas_threads() == before
        with pytest.raises(ValueError), workers.one_blas_thread():
            raise ValueError
        assert blas_threads() == before


def test_a_pass_in_another_thread_does_not_keep_blas_at_one_thread():
    with threadpoolctl.threadpool_limits(2, "blas"):
        before = blas_threads()
        entered, leave = threading.Event(), threading.Event()

        def other():
            with workers.one_blas_thread():
                entered.set()
                leave.wait(5)

        thread = threading.Thread(target=other)
        with workers.one_blas_thread():
            thread.start()
            entered.wait(5)
        leave.set()
        thread.join()
        assert blas_threads() == before


def test_blas_stays_at_one_thread_until_the_last_pass_of_any_thread_ends():
    with threadpoolctl.threadpool_limits(2, "blas"):
        before, inside = blas_threads(), []
        first_left, begun = threading.Event(), threading.Event()

        def other():
            with workers.one_blas_thread():
                begun.set()
                first_left.wait(60)
                inside.extend(blas_threads())

        thread = threading.Thread(target=other)
        with workers.one_blas_thread():
            thread.start()
            begun.wait(60)
        first_left.set()
        thread.join()
        assert set(inside) == {1} and blas_threads() == before


def test_nets_in_threads_leave_blas_as_it_was():
    with threadpoolctl.threadpool_limits(2, "blas"):
        before = blas_threads()

        def passes(number):
            for _ in range(200):
                with workers.one_blas_thread(), workers.one_blas_thread():
                    np.ones((4, 4)) @ np.ones((4, 4))

        threads = [threading.Thread(target=passes, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert blas_threads() == before


class OpenMpLibrary:
    """A BLAS whose number of threads is a setting of each thread that asks."""

    threading_layer = "openmp"

    def __init__(self):
        self.held = threading.local()

    def get_num_threads(self):
        return getattr(self.held, "number", 8)

    def set_num_threads(self, number):
        self.held.number = number


def test_of_openmp_each_thread_gets_its_own_number_back():
    library = OpenMpLibrary()
    entered, leave, seen = threading.Event(), threading.Event(), []

    def other():
        mine = workers._OneThread([library])
        mine.enter()
        seen.append(library.get_num_threads())
        entered.set()
        leave.wait(60)
        mine.leave()
        seen.append(library.get_num_threads())

    thread = threading.Thread(target=other)
    mine = workers._OneThread([library])
    mine.enter()
    thread.start()
    entered.wait(60)
    assert library.get_num_threads() == 1
    mine.leave()
    assert library.get_num_threads() == 8
    leave.set()
    thread.join()
    assert seen == [1, 8] and workers._is_of_openmp(library)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_during_another_threads_pass_has_all_threads_of_blas():
    with threadpoolctl.threadpool_limits(2, "blas"):
        before = blas_threads()
        entered, leave = threading.Event(), threading.Event()

        def other():
            with workers.one_blas_thread():
                entered.set()
                leave.wait(60)

        thread = threading.Thread(target=other)
        thread.start()
        entered.wait(60)
        child = os.fork()
        if child == 0:
            own = blas_threads()
            with workers.one_blas_thread():
                inside = set(blas_threads())
            os._exit(0 if (own, inside, blas_threads()) == (before, {1}, before) else 1)
        leave.set()
        thread.join()
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_workers_of_its_own():
    workers.run(lambda worker: None, 2)
    child = os.fork()
    if child == 0:
        done = []
        workers.run(done.append, 2)
        os._exit(0 if sorted(done) == [0, 1] else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def cores(monkeypatch):
    """This process may use four cores, and each of its BLAS has as many threads; a list of these numbers."""

    class Blas:
        count = 4

        def get_num_threads(self):
            return self.count

        def set_num_threads(self, count):
            self.count = count

    blas = [Blas(), Blas()]
    monkeypatch.setattr(workers, "usable_cores", lambda: frozenset(range(4)))
    monkeypatch.setattr(workers, "worker_count", 4)
    monkeypatch.setattr(workers, "_libraries", blas)
    return lambda: [library.count for library in blas]


@pytest.mark.parametrize(
    "others, expected",
    [
        ([], 4),
        ([range(4)], 2),
        ([range(4)] * 2, 1),
        ([range(4)] * 7, 1),
        ([range(4, 8), range(8, 12)], 4),  # bound to others
        ([range(3, 5), range(8)], 1),
    ],
)
def test_ranks_of_one_machine_share_its_cores(cores, others, expected):
    workers.share_cores([frozenset(range(4)), *map(frozenset, others)])
    assert workers.worker_count == expected and cores() == [expected] * 2


def test_fewer_threads_that_a_user_has_asked_for_stay(cores, monkeypatch):
    monkeypatch.setattr(workers, "worker_count", 1)
    workers._libraries[0].count = 1
    workers.share_cores([frozenset(range(4))] * 2)
    assert workers.worker_count == 1 and cores() == [1, 2]


def test_ranks_are_warned_of_a_blas_that_cannot_be_limited(cores, monkeypatch, caplog):
    monkeypatch.setattr(workers, "_libraries", [])
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    workers.share_cores([frozenset(range(4))] * 2)
    assert "in each of 2 ranks: pip install 'minicaffe[cpu]'" in caplog.text
    caplog.clear()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    workers.share_cores([frozenset(range(4))] * 2)
    assert not caplog.text
