"""Whole nets agree with Caffe 1.0: every blob forward, every gradient backward."""

import pytest

from tests.golden_files import assert_agrees, recorded

pytestmark = pytest.mark.cpu_only("test_gpu.py has these tests on the double")


@pytest.mark.parametrize("name", sorted(recorded("nets")))
def test_net_agrees_with_caffe(name):
    assert_agrees(recorded("nets")[name])
