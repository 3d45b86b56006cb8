"""The gradients of all ranks are averaged, bucket by bucket, while backward still runs.

    backward      loss → ip2 → ip1 → conv3 → conv2 → conv1
    bucket 1                  └── sum over ranks ──┐
    bucket 2                             └── sum over ranks ──┐
    update                                         1          2

A bucket holds the gradients of some layers, from the last on: about 4 MB of them, or a quarter of a small net's.
Its sum is started as soon as these layers are done, and the update of its parameters waits for it alone. All ranks
start the same buckets in the same order. (Li et al. 2020, arXiv 2006.15704, section 3.2.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Protocol

from minicaffe.core.learnable_param import LearnableParam
from minicaffe.core.net import Net
from minicaffe.device.array import Array
from minicaffe.device.communicator import Communicator, Done, Pending
from minicaffe.device.workers import one_blas_thread
from minicaffe.train.parallel.low_rank_gradients import (
    LowRankBucket,
    copy_in,
    copy_out,
    is_worth_it,
    parts_of,
)

BUCKET_BYTES, FEWEST_BUCKETS = 4 << 20, 4
SMALLEST = 64 << 10  # of fewer bytes it is the latency that counts


class Bucket(Protocol):
    """Gradients that travel together. What is collective is done in ``begin``, then in ``go_on``."""

    params: Sequence[LearnableParam]
    sent_bytes: int  # by a rank in one exchange

    def begin(self) -> None:
        """The gradients are there: send what depends on these alone."""

    def go_on(self) -> None:
        """Send what depends on the answer to that."""

    def finish(self) -> None:
        """Wait, and leave in each gradient the mean over all ranks."""


class WholeBucket:
    """Gradients that are sent as they are, one after the other."""

    def __init__(self, params: Sequence[LearnableParam], ranks: Communicator) -> None:
        self.params, self._ranks = params, ranks
        self._pending: Pending = Done()
        self._flat: Array | None = None
        self._parts: list[Array] = []
        self.sent_bytes = sum(map(bytes_of, params))

    def begin(self) -> None:
        """Start the sum of all gradients."""
        if len(self.params) == 1:  # it travels where it lies
            self._pending = self._ranks.start_sum(self.params[0].blob.stored_diff)
            return
        blob = self.params[0].blob
        if self._flat is None:
            self._flat = blob.device.xp.empty(sum(p.blob.count for p in self.params), blob.dtype)
            self._parts = parts_of(self._flat, [param.blob.stored_shape for param in self.params])
        copy_in(self.params, self._parts)
        self._pending = self._ranks.start_sum(self._flat)

    def go_on(self) -> None:
        """There is nothing more to send."""

    def finish(self) -> None:
        """Wait for the sum; each gradient becomes the mean."""
        self._pending.wait()
        share = 1 / self._ranks.size
        if self._flat is None:
            self.params[0].blob.stored_diff[...] *= share
            return
        copy_out(self.params, self._parts, share)


class GradientExchange:
    """Averages the gradients of a net's trained parameters over all ranks.

    Backward tells it which layers are done; ``averaged`` then gives the parameters as their gradients arrive. With
    a ``gradient_rank`` matrices travel as factors of that rank (``low_rank_gradients.py``); ``seed`` starts these.
    ``waited``: the seconds in which this rank waited for others or for the link, so that nothing hid them, and
    those in which it worked on what had arrived.
    """

    def __init__(
        self,
        net: Net,
        params: Sequence[LearnableParam],
        ranks: Communicator,
        gradient_rank: int | None = None,
        seed: int = 0,
    ) -> None:
        self._params, self._ranks = params, ranks
        self._buckets: list[Bucket] = []
        self._first_layers: list[int] = []  # of each bucket: below it, none of its parameters is used
        self.dense_bytes = sum(map(bytes_of, params)) if ranks.size > 1 else 0
        for first, group in _groups(net, params) if ranks.size > 1 else ():
            self._first_layers.append(first)
            whole = [p for p in group if not is_worth_it(p.blob.shape, gradient_rank)]
            bucket: Bucket = WholeBucket(group, ranks)
            if gradient_rank is not None and len(whole) < len(group):
                bucket = LowRankBucket(group, whole, ranks, gradient_rank, seed)
            self._buckets.append(bucket)
        self._begun = self._gone_on = self._finished = 0  # how many buckets
        self.waited = 0.0

    @property
    def sent_bytes(self) -> int:
        """What a rank gives to the sums of one iteration, in bytes."""
        return sum(bucket.sent_bytes for bucket in self._buckets)

    def begin(self) -> None:
        """The gradients of a new iteration are about to come."""
        self._begun = self._gone_on = self._finished = 0

    def layers_done(self, first: int) -> None:
        """Backward has done all layers from ``first`` (an index) on: send what is complete."""
        while self._begun < len(self._buckets) and self._first_layers[self._begun] >= first:
            self._begin_next()
        self._ranks.progress()

    def _begin_next(self) -> None:
        """Start the next bucket. The one before has travelled meanwhile: it can go on.

        At fixed points, so that all ranks do the same in the same order, however fast their links are.
        """
        if self._gone_on < self._begun:
            self._go_on_next()
        with one_blas_thread():
            self._buckets[self._begun].begin()
        self._begun += 1

    def _go_on_next(self) -> None:
        with self.waiting():
            self._buckets[self._gone_on].go_on()
        self._gone_on += 1

    def averaged(self) -> Iterator[LearnableParam]:
        """The parameters, each as soon as its gradient is the mean over all ranks."""
        while self._begun < len(self._buckets):
            self._begin_next()
        while self._gone_on < len(self._buckets):
            self._go_on_next()
        if not self._buckets:
            yield from self._params
        for number, bucket in enumerate(self._buckets):
            if number >= self._finished:
                with self.waiting():
                    bucket.finish()
                self._finished += 1
            yield from bucket.params

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait, or work on what has arrived.

        With one thread of BLAS: its threads would go on asking for work during the next forward, and on machines
        with other numbers of cores products might be rounded otherwise, so that ranks would drift apart.
        """
        start = time.perf_counter()
        try:
            with one_blas_thread():
                yield
        finally:
            self.waited += time.perf_counter() - start

    # -- what a snapshot keeps ---------------------------------------------------------------------------

    def state(self) -> dict[str, list[Array]]:
        """The arrays that the next exchange starts from, by parameter; the same on all ranks. Collective."""
        kept: dict[str, list[Array]] = {}
        for bucket in self._low_rank_buckets():
            kept |= bucket.state()
        return kept

    def arrays(self) -> list[Array]:
        """The same arrays, of this rank."""
        return [array for bucket in self._low_rank_buckets() for array in bucket.arrays()]

    def restore(self, state: Mapping[str, Sequence[Any]]) -> None:
        """Start the next exchange from what ``state`` returned, as far as it has the parameters in their shapes."""
        for bucket in self._low_rank_buckets():
            bucket.restore(state)

    def _low_rank_buckets(self) -> list[LowRankBucket]:
        return [bucket for bucket in self._buckets if isinstance(bucket, LowRankBucket)]


def _groups(net: Net, params: Sequence[LearnableParam]) -> Iterator[tuple[int, list[LearnableParam]]]:
    """Parameters for one bucket each, from the last layer on, with the first layer that uses one of them.

    Those of a layer stay together: they are there at the same time.
    """
    limit = min(BUCKET_BYTES, max(sum(map(bytes_of, params)) // FEWEST_BUCKETS, SMALLEST))
    used = sorted(((_first_use(net, param), param) for param in params), key=lambda item: -item[0])
    group: list[LearnableParam] = []
    above = 0
    for layer, of_layer in groupby(used, key=lambda item: item[0]):
        params = [param for _, param in of_layer]
        if group and sum(map(bytes_of, [*group, *params])) > limit:
            yield above, group
            group = []
        group += params
        above = layer
    if group:
        yield above, group


def _first_use(net: Net, param: LearnableParam) -> int:
    """The index of the first layer with this parameter. Layers that share it add up their gradients."""
    owner = param.blob.data_owner
    return next(i for i, layer in enumerate(net.layers) if any(b.data_owner is owner for b in layer.blobs))


def bytes_of(param: LearnableParam) -> int:
    """The bytes of a parameter's gradient."""
    return param.blob.count * param.blob.dtype.itemsize
