"""Factors that are trained from scratch: how they start."""

import pytest

from tests.low_rank.low_rank_cases import CASES, assert_close, canonical, combined, layer_of, truncated

FACTORED = {"channel": "rank: 2, factored: true", "spatial": "rank: 2, factored: true, scheme: spatial"}
SHAPES = {name: CASES[name] for name in ("plain", "strided", "groups", "one spatial axis", "inner product")}


@pytest.mark.parametrize(("case", "low_rank"), combined(FACTORED, SHAPES))
def test_factors_start_as_the_truncation_of_what_the_filler_gives_and_balanced(make_net, case, low_rank):
    dense, net = (make_net(case.text(text), seed=3, dtype="float64") for text in ("", low_rank))
    scheme, factors = ("spatial" if "spatial" in low_rank else "channel"), layer_of(net).low_rank.factors
    left, right = factors.scheme.factors(*factors.fixed_filters())
    expected = truncated(canonical(case, dense.params["conv"][0]), case.group, 2, scheme)
    assert_close(factors.scheme.weights(left @ right), expected, 1e-10)
    assert_close(left.swapaxes(-1, -2) @ left, right @ right.swapaxes(-1, -2), 1e-10)
