"""The package says in which order its files are read: all of them, and no others."""

import re
from pathlib import Path

from minicaffe import compress


def test_the_reading_order_names_every_file_once():
    named = re.findall(r"\b(\w+)\.py\b", compress.__doc__)
    there = {path.stem for path in Path(compress.__file__).parent.glob("*.py")} - {"__init__"}
    assert set(named) == there
    assert len(named) == len(there)
