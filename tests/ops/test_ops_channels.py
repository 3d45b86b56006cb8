"""Loops over rows: what the setting of NumPy's buffer must not change."""

import numpy as np
import pytest

from minicaffe.ops.channels import RowLoops


@pytest.mark.parametrize("elements", [1, 399, 400, 3000, 8191, 8192])
def test_within_row_loops_numbers_are_the_same_and_the_buffer_is_put_back(elements, rng):
    x = rng.standard_normal((200, elements, 1)).astype(np.float32)
    factors, before = x[:, :1].copy(), np.getbufsize()
    expected = x * factors
    with RowLoops(x):
        found = x * factors
    assert np.array_equal(found, expected)
    assert np.getbufsize() == before
    with pytest.raises(ZeroDivisionError), RowLoops(x):
        _ = 1 / 0
    assert np.getbufsize() == before
