"""The prefetcher: batches in order, errors at the consumer, and no thread left over."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from minicaffe.data.prefetch import Prefetcher, slots_for

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "minicaffe-prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    gc.collect()
    deadline = time.monotonic() + 60
    while prefetch_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not prefetch_threads()


def test_batches_come_in_order():
    prefetcher = Prefetcher(lambda k: k * k, depth=3)
    assert [prefetcher.next() for _ in range(20)] == [k * k for k in range(20)]
    assert prefetcher.number == 20
    prefetcher.close()


def test_thread_starts_at_the_first_next():
    prefetcher = Prefetcher(lambda k: k)
    assert not prefetch_threads()
    prefetcher.next()
    assert prefetch_threads()
    prefetcher.close()
    assert not prefetch_threads()


def test_at_most_depth_batches_are_made_ahead():
    made = []
    prefetcher = Prefetcher(lambda k: made.append(k) or k, depth=2)
    prefetcher.next()
    deadline = time.monotonic() + 60
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)  # for one that must not be made
    assert made == [0, 1, 2]
    prefetcher.close()


def test_a_batch_is_not_overwritten_before_the_following_next():
    slots = slots_for(2)
    buffers = [[-1] for _ in range(slots)]

    def make(k):
        buffers[k % slots][0] = k
        return buffers[k % slots]

    prefetcher = Prefetcher(make, depth=2)
    for k in range(50):
        batch = prefetcher.next()
        time.sleep(0.001)
        assert batch == [k]
        if k % 7 == 0:
            prefetcher.seek(k + 1)
            assert batch == [k]
    prefetcher.close()


def test_seek_goes_anywhere():
    prefetcher = Prefetcher(lambda k: k)
    assert [prefetcher.next(), prefetcher.next()] == [0, 1]
    prefetcher.seek(100)
    assert [prefetcher.next(), prefetcher.next()] == [100, 101]
    prefetcher.seek(3)
    assert prefetcher.next() == 3
    prefetcher.close()
    assert prefetcher.next() == 4
    prefetcher.close()


def test_an_error_is_raised_at_its_batch_and_the_batch_may_be_tried_again():
    broken = [True]

    def make(k):
        if k == 2 and broken[0]:
            raise ZeroDivisionError("batch 2")
        return k

    prefetcher = Prefetcher(make)
    assert [prefetcher.next(), prefetcher.next()] == [0, 1]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="batch 2"):
            prefetcher.next()
    assert not prefetch_threads()
    broken[0] = False
    assert [prefetcher.next(), prefetcher.next()] == [2, 3]
    prefetcher.close()


def test_dropping_the_prefetcher_ends_its_thread():
    prefetcher = Prefetcher(lambda k: k)
    prefetcher.next()
    del prefetcher  # the fixture sees that the thread is gone


def test_a_batch_lost_to_an_interrupt_is_made_again():
    prefetcher = Prefetcher(lambda k: k)
    assert prefetcher.next() == 0
    assert prefetcher._queue.take() == (1, 1)  # what an interrupt between taking and returning would lose
    assert [prefetcher.next(), prefetcher.next()] == [1, 2]
    prefetcher.close()


def run_python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300, **options
    )


def test_the_end_of_the_program_waits_for_the_batch_in_the_making_and_for_no_other():
    result = run_python(
        """
        import atexit, threading, time
        from minicaffe.data.prefetch import Prefetcher

        def make(k):
            if k == 2:
                begun.set()
                time.sleep(0.3)
            made.append(k)

        begun, made = threading.Event(), []
        atexit.register(lambda: print(made, threading.active_count()))
        quick, slow, dropped = Prefetcher(lambda k: k), Prefetcher(make), Prefetcher(lambda k: k)
        quick.next(), slow.next(), dropped.next()
        del dropped
        begun.wait()
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "[0, 1, 2] 1\n", "")


def test_batches_are_given_at_the_end_of_the_program_too():
    result = run_python(
        """
        import atexit
        from minicaffe.data.prefetch import Prefetcher
        prefetcher = Prefetcher(lambda k: k)
        atexit.register(lambda: print(prefetcher.next(), prefetcher.next()))
        prefetcher.next()
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "1 2\n", "")


def test_a_thread_of_the_users_that_takes_batches_ends_with_the_program():
    result = run_python(
        """
        import atexit, threading
        from minicaffe.data.prefetch import Prefetcher

        def take():
            while True:
                prefetcher.next()
                begun.set()

        def ended():
            thread.join(60)
            print(thread.is_alive())

        atexit.register(ended)
        begun, prefetcher = threading.Event(), Prefetcher(lambda k: k)
        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        begun.wait()
        """
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "False\n", "")


def test_the_end_of_the_program_leaves_a_batch_that_takes_for_ever():
    result = run_python(
        """
        import time
        from minicaffe.data import prefetch
        prefetch.EXIT_TIMEOUT = 0.1
        prefetcher = prefetch.Prefetcher(lambda k: time.sleep(3600 * k))
        prefetcher.next()
        """
    )
    assert result.returncode == 0 and result.stderr == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_goes_on_with_a_thread_of_its_own():
    result = run_python(
        """
        import os, sys
        from minicaffe.data.prefetch import Prefetcher
        prefetcher = Prefetcher(lambda k: k)
        assert prefetcher.next() == 0
        child = os.fork()
        assert [prefetcher.next() for _ in range(9)] == list(range(1, 10))
        if child:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="POSIX signals")
def test_control_c_interrupts_the_wait():
    result = run_python(
        """
        import os, signal, threading, time
        from minicaffe.data import prefetch
        from minicaffe.data.prefetch import Prefetcher
        prefetch.EXIT_TIMEOUT = 0.1
        signal.signal(signal.SIGINT, signal.default_int_handler)
        prefetcher = Prefetcher(lambda k: time.sleep(60))
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            prefetcher.next()
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert result.returncode == 0 and result.stdout == "interrupted\n"
