"""No copy of ``array.Transfer`` races with another: a model of CUDA's streams checks what happens before what.

Each actor (the host, each stream) counts what it does, and knows how far each other was, at least, when it did it
(a vector clock). Who touches memory that another has written, or writes what another has touched, must know the
other to be done.
"""

import inspect
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest

from minicaffe import array


class Race(Exception):
    """Two touch the same memory, and neither is known to be first."""


class Actor:
    """The host, or a stream."""

    def __init__(self, name):
        self.name, self.done = name, 0
        self.knows = {}  # actor -> how much of it is done

    def learn(self, knowledge):
        for other, done in knowledge.items():
            self.knows[other] = max(done, self.knows.get(other, 0))

    def act(self):
        self.done += 1
        self.knows[self] = self.done
        return self.done


class Memory:
    """Who has touched it, and when."""

    def __init__(self):
        self.writes, self.reads = [], []

    def touch(self, actor, writes):
        for other, time in self.writes + (self.reads if writes else []):
            if actor.knows.get(other, 0) < time:
                raise Race(f"{actor.name} {'writes' if writes else 'reads'} what {other.name} may still need")
        (self.writes if writes else self.reads).append((actor, actor.act()))


class Machine:
    """What ``Transfer`` uses of cupy and cupyx."""

    def __init__(self):
        machine = self
        self.host, self.null, self.streams, self.device = Actor("the host"), Actor("the net's stream"), [], 0
        self.current = [self.null]
        self.freed = {}  # stream -> memory that its pool may give out again

        class Stream(Actor):
            def __init__(self, non_blocking):
                super().__init__("the copying stream")

            def __enter__(self):
                machine.current.append(self)

            def __exit__(self, *error):
                machine.current.pop()

            def wait_event(self, event):
                machine.needs_device()
                self.learn(event.knows)

        class Event:
            def __init__(self, disable_timing):
                self.knows = {}

            def record(self, stream):
                machine.needs_device()
                self.knows = dict(stream.knows)

            def synchronize(self):
                machine.host.learn(self.knows)

        class Device:
            def __init__(self, index):
                self.index = index

            def __enter__(self):
                self.before, machine.device = machine.device, self.index

            def __exit__(self, *error):
                machine.device = self.before

        class Array:
            """Memory of the device, which is its stream's to give out again when the array is gone."""

            def __init__(self, shape, dtype):
                machine.needs_device()
                self.shape, self.stream = shape, machine.current[-1]
                free = machine.freed.setdefault(self.stream, [])
                self.memory = free.pop() if free else Memory()
                self.free = free
                self.use(self.stream, writes=True)

            def use(self, stream, writes):
                stream.learn(machine.host.knows)  # whatever the host knew when it asked for this
                self.memory.touch(stream, writes)

            def set(self, pinned, stream):
                machine.needs_device()
                stream.learn(machine.host.knows)
                pinned.memory.touch(stream, writes=False)
                self.use(stream, writes=True)

            def __del__(self):
                if hasattr(self, "free"):
                    self.free.append(self.memory)

        class Pinned:
            def __init__(self, shape, dtype):
                self.shape, self.dtype, self.memory = shape, np.dtype(dtype), Memory()

            def __setitem__(self, key, values):
                machine.host.act()
                self.memory.touch(machine.host, writes=True)

        class Target:
            """A blob's array."""

            def __setitem__(self, key, source):
                source.use(machine.null, writes=False)

        self.null.wait_event = lambda event: self.null.learn(event.knows)
        self.target = Target()
        cuda = SimpleNamespace(
            Stream=Stream, Event=Event, Device=Device, get_current_stream=lambda: self.current[-1]
        )
        self.cupy = SimpleNamespace(cuda=cuda, empty=Array)
        self.cupyx = SimpleNamespace(empty_pinned=Pinned)

    def needs_device(self):
        """Of every call of CUDA in this test."""
        if self.device != 1:
            raise Race(f"on device {self.device}, but this is of device 1")


def transfer_without(line=""):
    """The class, from its source without one line (or with another line in place of a ``with``)."""
    source = textwrap.dedent(inspect.getsource(array.Transfer))
    assert line in source
    block = "if True:" if line.startswith("with") else "pass"
    names = vars(array).copy()
    exec(source.replace(line, block) if line else source, names)
    return names


def send_and_take(names):
    """Batches of changing shapes, one of which nobody takes."""
    machine = Machine()
    names |= {"cupy": machine.cupy, "cupyx": machine.cupyx}
    transfer = names["Transfer"](1)
    for number, rows in enumerate([3, 3, 3, 5, 5, 3, 4, 3, 3]):
        transfer.send(np.zeros((rows, 2), np.float32))  # by a thread, whose current device is 0
        if number != 1:
            with machine.cupy.cuda.Device(1):  # as the net has entered it
                transfer.take(machine.target)


def test_copies_of_many_batches_do_not_race():
    send_and_take(transfer_without())


NEEDED = [
    "self._sent.synchronize()", "self._stream.wait_event(self._taken)", "self._sent.record(self._stream)",
    "with self._stream:", "stream.wait_event(self._sent)", "self._taken.record(stream)", "with self._device:",
]  # fmt: skip


@pytest.mark.parametrize("line", NEEDED)
def test_without_any_line_that_orders_them_they_would(line):
    with pytest.raises(Race):
        send_and_take(transfer_without(line))
