"""No copy of ``array.Transfer`` races with another, and each call that orders them is needed.

The double of CuPy finds races between streams and with pinned memory: see ``strict_cupy/order.py``, ``memory.py``.
"""

import numpy as np
import pytest

from minicaffe.device import array
from tests.strict_cupy import cupy
from tests.strict_cupy.devices import Device, Event, Stream

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


def without(monkeypatch, transfer, kind, method, name):
    """The transfer, where calls of this method that concern its attribute ``name`` do nothing."""
    subject = getattr(transfer, name)

    def skipping(right):
        return lambda self, *args: None if subject in (self, *args) else right(self, *args)

    for name in (method, "__exit__") if method == "__enter__" else (method,):
        monkeypatch.setattr(kind, name, skipping(getattr(kind, name)))
    return transfer


def test_copies_of_many_batches_do_not_race(in_thread):
    send_and_take(array.Transfer(1), in_thread)


NEEDED = {
    "send waits until the pinned memory has been read": (Event, "synchronize", "_sent"),
    "a copy waits until the buffer has been read": (Stream, "wait_event", "_taken"),
    "the end of a copy is noted": (Event, "record", "_sent"),
    "a new buffer belongs to the stream of the copies": (Stream, "__enter__", "_stream"),
    "the net's stream waits for the copy": (Stream, "wait_event", "_sent"),
    "the end of the reading is noted": (Event, "record", "_taken"),
}


@pytest.mark.parametrize("call", NEEDED.values(), ids=NEEDED)
def test_without_any_of_the_calls_that_order_them_copies_race(call, in_thread, monkeypatch):
    with pytest.raises(RuntimeError, match="race: "):
        send_and_take(without(monkeypatch, array.Transfer(1), *call), in_thread)


def test_a_transfer_that_does_not_enter_its_gpu_is_on_the_wrong_one(in_thread, monkeypatch):
    with pytest.raises(RuntimeError, match="device"):
        send_and_take(without(monkeypatch, array.Transfer(1), Device, "__enter__", "_device"), in_thread)
