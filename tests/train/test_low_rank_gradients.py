"""Gradients of low rank: what ranks send each other, and what is kept for later."""

import numpy as np
import pytest

from minicaffe.core.blob import Blob
from minicaffe.core.learnable_param import LearnableParam
from minicaffe.device.array import to_host
from minicaffe.spec.net import ParamSpec
from minicaffe.train.parallel.low_rank_gradients import LowRankBucket, is_worth_it, scheme_of
from tests.thread_ranks import ThreadRanks

SHAPES = {"conv/0": (6, 4, 3, 5), "ip/0": (9, 14), "ip/1": (9,)}


def make_bucket(communicator, rank, shapes=SHAPES):
    params = []
    for key, shape in shapes.items():
        blob = Blob(shape, np.float64, batch_last=False)
        params.append(LearnableParam(blob, ParamSpec(), key))
    whole = [param for param in params if not is_worth_it(param.blob.shape, rank)]
    return LowRankBucket(params, whole, communicator, rank, seed=3)


def put_gradients(bucket, gradients):
    for param in bucket.params:
        param.blob.diff[...] = param.blob.device.put(gradients[param.key])


def exchange(bucket):
    bucket.begin()
    bucket.go_on()
    bucket.finish()
    return {param.key: to_host(param.blob.diff).copy() for param in bucket.params}


def gradients(seed):
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal(shape) for key, shape in SHAPES.items()}


def mean_of(both):
    return {key: (both[0][key] + both[1][key]) / 2 for key in SHAPES}


def test_a_gradient_is_seen_as_the_matrix_with_the_smaller_factors():
    assert scheme_of((32, 32, 5, 5)).matrix_shape == (160, 160)  # rather than 32 × 800
    assert scheme_of((32, 3, 5, 5)).matrix_shape == (32, 75)  # rather than 15 × 160
    assert scheme_of((64, 1024)).matrix_shape == (64, 1024)
    assert is_worth_it((64, 1024), 4) and not is_worth_it((64,), 4) and not is_worth_it((4, 5), 4)


@pytest.mark.parametrize("rank", [1, 2])
def test_what_all_updates_get_and_what_is_left_make_the_sum_of_all_gradients(rank):
    """Nothing is lost: Σ Ĝ + mean(E) = Σ mean(G), though each Ĝ has a low rank."""
    steps = 5

    def on(communicator):
        bucket = make_bucket(communicator, rank)
        total = dict.fromkeys(SHAPES, 0)
        for step in range(steps):
            put_gradients(bucket, gradients((communicator.rank, step)))
            found = exchange(bucket)
            total = {key: total[key] + found[key] for key in total}
        left = {key: to_host(error) for key, (_, error) in bucket.state().items()}
        return total, left

    (total, left), (other, _) = ThreadRanks(2).run(on)
    for key, shape in SHAPES.items():
        expected = sum(mean_of([gradients((r, step)) for r in range(2)])[key] for step in range(steps))
        np.testing.assert_array_equal(total[key], other[key])
        rest = scheme_of(shape).weights(left[key][None]) if key in left else 0
        np.testing.assert_allclose(total[key] + rest, expected, atol=1e-12)


def test_of_the_same_gradient_again_and_again_the_leading_vectors_are_found():
    """A power iteration: without what was left, P · Qᵀ becomes the best approximation of rank r."""
    rank = 2

    def on(communicator):
        bucket = make_bucket(communicator, rank)
        for _ in range(100):
            put_gradients(bucket, gradients(0))
            for matrix in bucket._matrices:
                matrix.error[...] = 0
            found = exchange(bucket)
        return found

    found, _ = ThreadRanks(2).run(on)
    mean = gradients(0)
    for key in ("conv/0", "ip/0"):
        scheme = scheme_of(SHAPES[key])
        u, s, vt = np.linalg.svd(scheme.matrix(mean[key])[0])
        best = scheme.weights((u[:, :rank] * s[:rank] @ vt[:rank])[None])
        np.testing.assert_allclose(found[key], best, atol=1e-8)
    np.testing.assert_allclose(found["ip/1"], mean["ip/1"], atol=1e-15)


def test_nothing_is_lost_by_going_on_with_the_mean_of_what_is_left():
    def on(communicator):
        bucket = make_bucket(communicator, 2)
        total = dict.fromkeys(SHAPES, 0)
        for step in range(4):
            put_gradients(bucket, gradients((communicator.rank, step)))
            found = exchange(bucket)
            total = {key: total[key] + found[key] for key in total}
            if step == 1:
                kept = {key: [array.copy() for array in arrays] for key, arrays in bucket.state().items()}
                bucket = make_bucket(communicator, 2)
                bucket.restore(kept)
        return total, {key: to_host(error) for key, (_, error) in bucket.state().items()}

    (total, left), _ = ThreadRanks(2).run(on)
    for key in ("conv/0", "ip/0"):
        expected = sum(mean_of([gradients((r, step)) for r in range(2)])[key] for step in range(4))
        rest = scheme_of(SHAPES[key]).weights(left[key][None])
        np.testing.assert_allclose(total[key] + rest, expected, atol=1e-12)


def test_factors_and_what_is_whole_are_all_that_is_sent():
    ranks = ThreadRanks(2)

    def on(communicator):
        bucket = make_bucket(communicator, 2)
        put_gradients(bucket, gradients(communicator.rank))
        exchange(bucket)
        return bucket.sent_bytes

    sent, _ = ranks.run(on)
    (m, n), whole = scheme_of(SHAPES["conv/0"]).matrix_shape, 9
    numbers = 2 * (m + n) + 2 * (9 + 14) + whole
    assert sent == 8 * numbers == 8 * sum(shape[0] for kind, shape, _ in ranks.calls if kind == "sum")


def test_a_gradient_that_was_zero_is_still_learnt_from_later():
    def on(communicator):
        bucket = make_bucket(communicator, 2)
        for step in range(3):
            put_gradients(bucket, {key: value * (step > 0) for key, value in gradients(7).items()})
            found = exchange(bucket)
        return found

    found, _ = ThreadRanks(2).run(on)
    assert all(np.isfinite(value).all() and np.abs(value).max() > 0.1 for value in found.values())
