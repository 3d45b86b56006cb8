"""Inputs that tests of layers share."""

import numpy as np
import pytest


@pytest.fixture
def distinct(rng):
    """Makes arrays of numbers that are at least 0.1 apart, in a random order: no maximum is a tie."""

    def draw(*shape):
        return rng.permutation(int(np.prod(shape))).reshape(shape) * 0.1 - 0.7

    return draw
