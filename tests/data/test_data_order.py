"""Order and batches: pure functions of a seed and the number of the batch."""

from itertools import pairwise

import numpy as np
import pytest

from minicaffe.data.batches import ImageBatches
from minicaffe.data.order import Order
from minicaffe.data.prefetch import Prefetcher, slots_for
from minicaffe.data.sources.source import ArraySource
from minicaffe.data.transformer import DataTransformer, TransformParam

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


def test_batches_run_on_through_the_end_of_an_epoch():
    order = Order(5, batch_size=3)
    batches = [order.indices(k).tolist() for k in range(4)]
    assert batches == [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1]]


def test_a_batch_may_be_larger_than_the_data():
    assert Order(2, batch_size=5).indices(1).tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_every_epoch_has_each_image_once_in_an_order_of_its_own(batch_size):
    order = Order(7, batch_size, seed=3, shuffle=True)
    flat = np.concatenate([order.indices(k) for k in range(70 // batch_size + 1)])[:70].reshape(10, 7)
    assert all(sorted(epoch) == list(range(7)) for epoch in flat.tolist())
    assert len({tuple(epoch) for epoch in flat.tolist()}) > 8


def test_a_batch_does_not_depend_on_what_was_asked_before():
    forward = Order(11, 4, seed=5, shuffle=True)
    batches = [forward.indices(k) for k in range(12)]
    for k in (11, 3, 7, 0):
        np.testing.assert_array_equal(Order(11, 4, seed=5, shuffle=True).indices(k), batches[k])
        np.testing.assert_array_equal(forward.indices(k), batches[k])


def test_seeds_differ():
    assert (
        Order(50, 50, 1, shuffle=True).indices(0).tolist()
        != Order(50, 50, 2, shuffle=True).indices(0).tolist()
    )


def test_rand_skip_begins_within_its_range():
    starts = {int(Order(10, 1, seed, rand_skip=4).indices(0)[0]) for seed in range(60)}
    assert starts == {0, 1, 2, 3}


def test_files_are_shuffled_but_not_mixed():
    order = Order([4, 3, 5], 12, seed=1, shuffle=True)
    firsts = set()
    for k in range(20):
        files = np.searchsorted([4, 7, 12], order.indices(k), side="right").tolist()
        runs = [files[0], *(b for a, b in pairwise(files) if a != b)]
        assert sorted(runs) == [0, 1, 2]
        firsts.add(runs[0])
    assert firsts == {0, 1, 2}


def make_prefetcher(depth=3):
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    source = ArraySource("test", images, np.arange(20))
    transformer = DataTransformer(TransformParam(crop_size=6, mirror=True), "TRAIN")
    order = Order(20, 6, seed=9, shuffle=True)
    return Prefetcher(ImageBatches(source, transformer, order, True, slots_for(depth)), depth)


def take(prefetcher, count):
    return [[array.copy() for array in prefetcher.next()] for _ in range(count)]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_resume_is_bit_for_bit_whatever_was_prefetched(depth):
    reference = take(make_prefetcher(), 15)
    prefetcher = make_prefetcher(depth)
    take(prefetcher, 4)
    prefetcher.seek(9)
    for batch, expected in zip(take(prefetcher, 6), reference[9:], strict=True):
        for array, other in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(array, other)
    prefetcher.close()
