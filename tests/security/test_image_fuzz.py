"""Damaged images, lists and annotations, a few of each; ``image_fuzz.py`` reads as many as one likes."""

import pytest

from tests.security.image_fuzz import run

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


@pytest.mark.parametrize("kind", ["images", "lists", "annotations"])
def test_a_damaged_file_is_read_or_refused_in_one_line(kind):
    read, refused, peak = run(kind, 150)
    assert sum(read.values()) > 5 and sum(refused.values()) > 50
    assert peak < 1000
