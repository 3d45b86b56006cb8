"""Layers of Caffe's forks agree with the forks' own code: forward within 1e-5, gradients within 1e-4.

The recorded numbers, the cases and the script that made them are in ``golden/forks/``.
"""

import pytest

from tests.golden_files import FOLDER, assert_agrees, recorded, recorded_names

FAMILIES = sorted(path.stem for path in (FOLDER / "forks").glob("*.npz"))
ALL_CASES = [(family, case) for family in FAMILIES for case in recorded_names(f"forks/{family}")]


@pytest.mark.parametrize(("family", "name"), ALL_CASES, ids=lambda part: part)
def test_layer_agrees_with_its_fork(family, name):
    assert_agrees(recorded(f"forks/{family}")[name])
