"""Runs the Python tests of a checkout of BVLC/caffe against ``minicaffe.pycaffe``, under the name ``caffe``.

    python tests/pycaffe/pycaffe_bvlc.py CAFFE_CHECKOUT

The tests are copied to a temporary folder and run there; the checkout is only read.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

from minicaffe.pycaffe import alias

NEEDED = (
    "coord_map",
    "io",
    "layer_type_list",
    "net",
    "net_spec",
    "python_layer",
    "python_layer_with_param_str",
    "solver",
)
OLD_NAMES = {"assertEquals": "assertEqual", "assertRaisesRegexp": "assertRaisesRegex"}  # gone in Python 3.12


def run(checkout: Path) -> unittest.TestResult:
    """Run the tests of the checkout, and show each that does not pass."""
    source = checkout / "python" / "caffe" / "test"
    for old, new in OLD_NAMES.items():
        setattr(unittest.TestCase, old, getattr(unittest.TestCase, new))
    alias.install()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        for name in NEEDED:
            shutil.copy(source / f"test_{name}.py", folder)
        try:
            os.chdir(folder)
            sys.path.insert(0, folder)
            tests = unittest.defaultTestLoader.loadTestsFromNames([f"test_{name}" for name in NEEDED])
            return unittest.TextTestRunner(verbosity=1).run(tests)
        finally:
            os.chdir(here)


def main() -> None:
    """Print how many tests ran, passed, and did not."""
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "python" / "caffe" / "test").is_dir():
        sys.exit("usage: python tests/pycaffe/pycaffe_bvlc.py CAFFE_CHECKOUT (a checkout of BVLC/caffe)")
    if importlib.util.find_spec("six") is None:
        sys.exit("error: Caffe's tests need the package six; pip install six")
    result = run(Path(sys.argv[1]))
    bad = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    passed = result.testsRun - bad - skipped
    print(f"{result.testsRun} tests of BVLC/caffe: {passed} pass, {bad} do not, {skipped} skipped")
    for test, trace in result.failures + result.errors:
        print(f"  {test.id()}: {trace.strip().splitlines()[-1]}")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
