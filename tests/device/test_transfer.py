"""No copy of ``array.Transfer`` races with another, and each line that orders them is needed.

The double of CuPy finds races between streams and with pinned memory: see ``strict_cupy/order.py``, ``memory.py``.
"""

import inspect
import textwrap

import numpy as np
import pytest

from minicaffe.device import array
from tests.strict_cupy import cupy

pytestmark = pytest.mark.usefixtures("double")
SHAPES = [(3, 2)] * 6 + [(5, 2), (5, 2), (3, 2), (4,), (3, 2), (3, 2)]


def send_and_take(transfer, in_thread):
    """Batches of changing shapes and number types on their way to the second GPU; one of them nobody takes."""
    taken = []
    for number, shape in enumerate(SHAPES):
        x = np.full(shape, number, np.uint8 if number > 8 else np.float32)
        in_thread(lambda x=x: transfer.send(x))  # where the first GPU is current
        x[...] = 99
        if number != 4:
            with cupy.cuda.Device(1):  # as the net has entered it
                taken.append(cupy.zeros(shape, np.float32))
                transfer.take(taken[-1])
    assert [a.get().max() for a in taken] == [a.get().min() for a in taken] == [0, 1, 2, 3, *range(5, 12)]


def transfer_without(line):
    """The class, from its source without one line (or with another line in place of a ``with``)."""
    source = textwrap.dedent(inspect.getsource(array.Transfer))
    found = [each for each in source.splitlines() if each.partition("#")[0].strip() == line]
    assert found, f"no such line: {line}"
    for each in found:
        source = source.replace(each, each.replace(line, "if True:" if line.startswith("with") else "pass"))
    names = vars(array).copy()
    exec(source, names)
    return names["Transfer"]


def test_copies_of_many_batches_do_not_race(in_thread):
    send_and_take(array.Transfer(1), in_thread)


NEEDED = [
    "self._sent.synchronize()", "self._stream.wait_event(self._taken)", "self._sent.record(self._stream)",
    "with self._stream:", "stream.wait_event(self._sent)", "self._taken.record(stream)",
]  # fmt: skip


@pytest.mark.parametrize("line", NEEDED)
def test_without_any_line_that_orders_them_they_would(line, in_thread):
    with pytest.raises(RuntimeError, match="race: "):
        send_and_take(transfer_without(line)(1), in_thread)


def test_without_the_line_that_enters_the_gpu_it_would_be_the_wrong_one(in_thread):
    with pytest.raises(RuntimeError, match="device"):
        send_and_take(transfer_without("with self._device:")(1), in_thread)
