"""``python -m minicaffe.cli`` is ``minicaffe``."""

import sys

from minicaffe.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
