"""The tests, in a folder for each subject; conftest.py has what they share."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
