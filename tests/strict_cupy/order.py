"""In which order a GPU does what it is asked for: streams, and the host that waits for them.

Streams of ``non_blocking=True`` run beside one another and beside the null stream. One comes after another only
where it waits for an event, or where the host waits in between and then launches (CUDA Runtime API, "Stream
synchronization behavior" and "Event Management"). The double does everything at once, but knows what a GPU was told
to do first: each stream, and the host, has a clock, and knows up to which time of each other all is done (vector
clocks: Fidge 1988, Mattern 1988).
"""

from __future__ import annotations

import threading
from typing import Any

DEVICES = 2


class Order:
    """What is done one after the other: the work of a stream, or that of the host, whose threads count as one."""

    def __init__(self, name: str, device: int | None = None) -> None:
        self.name, self.device = name, device
        self.time = 1
        self._knows: dict[Order, int] = {}
        orders.append(self)

    def moment(self) -> dict[Order, int]:
        """What is done as soon as all that was asked for here, up to now, is done. What follows is later."""
        with _lock:
            moment = {**self._knows, self: self.time}
            self.time += 1
        return moment

    def learn(self, moment: dict[Order, int]) -> None:
        """What follows here comes after that moment."""
        with _lock:
            for order, time in moment.items():
                if time > self._knows.get(order, 0):
                    self._knows[order] = time

    def comes_after(self, other: Order, time: int) -> bool:
        """Whether what follows here, which the host launches, comes after what another did at a time."""
        if other is self or other is host:
            return True
        return max(self._knows.get(other, 0), host._knows.get(other, 0)) >= time


class _Here(threading.local):
    """What CUDA and CuPy keep for each thread: a current device, at first number 0, and a stream on each."""

    device = 0

    def __init__(self) -> None:
        self.streams: dict[int, Any] = {}  # where one was entered
        self.left: list[Any] = []  # the devices and streams that were current before


def order_of(stream: Any = None, device: int | None = None) -> Order:
    """That of a stream, by default the current one of a device, by default the current one."""
    device = here.device if device is None else device
    stream = here.streams.get(device) if stream is None else stream
    return (stream and stream._order) or nulls[device]


def host_waits(order: Order) -> None:
    """The host waits until all is done that was asked for there."""
    with _lock:
        host.learn(order.moment())
        order._knows.clear()  # the host knows it, and so does all that it launches


_lock = threading.RLock()
orders: list[Order] = []
here = _Here()
host = Order("the host")
nulls = [Order(f"the null stream of device {device}", device) for device in range(DEVICES)]
