"""The ranks of the tests behave as ranks do."""

import numpy as np
import pytest

from tests.thread_ranks import RanksError, ThreadRanks

pytestmark = pytest.mark.cpu_only("threads and host arrays")


def test_every_rank_has_what_all_of_them_gave():
    def together(ranks):
        array = np.full(3, 10.0**ranks.rank)
        first = np.full(2, ranks.rank)
        ranks.broadcast(first)
        started = [ranks.start_sum(array), ranks.start_sum(also := np.ones(1))]
        for sum_ in reversed(started):
            sum_.wait()
        return (
            array.tolist(), also.tolist(), first.tolist(), ranks.gather("abc"[ranks.rank]),
            ranks.from_root(ranks.rank), ranks.highest(-ranks.rank), ranks.is_root,
        )  # fmt: skip

    found = ThreadRanks(3).run(together)
    for rank, values in enumerate(found):
        assert values == ([111.0] * 3, [3.0], [0, 0], ["a", "b", "c"], 0, 0, rank == 0)


def test_what_ranks_did_is_listed_in_order():
    ranks = ThreadRanks(2)
    ranks.run(lambda r: (r.sum(np.ones((2, 3), np.float32)), r.gather(0)))
    assert ranks.calls == [("sum", (2, 3), "float32"), ("gather",)]


def test_ranks_that_do_different_things_fail_at_once():
    with pytest.raises(RanksError, match=r"call 0 of rank . is \('sum', \(.,\), 'float64'\)"):
        ThreadRanks(2).run(lambda r: r.sum(np.ones(1 + r.rank)))


def test_an_error_on_one_rank_ends_the_others():
    def on(ranks):
        if ranks.rank == 1:
            raise ZeroDivisionError
        ranks.sum(np.ones(1))

    with pytest.raises(ZeroDivisionError):
        ThreadRanks(3).run(on)
