"""``python -m minicaffe.pycaffe script.py …`` runs a script that says ``import caffe``, with this package as it."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from minicaffe.pycaffe import alias


def main() -> None:
    """Run the script that the first argument names, as ``python script.py …`` would."""
    if len(sys.argv) < 2:
        sys.exit("error: give a script: python -m minicaffe.pycaffe script.py …")
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    alias.install()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
