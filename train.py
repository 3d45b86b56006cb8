"""Train a net: ``python train.py prototxt/lenet/solver.yaml`` (the same as ``minicaffe train``)."""

import sys

from minicaffe.cli.program import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
