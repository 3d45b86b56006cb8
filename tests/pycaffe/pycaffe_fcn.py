"""Runs the scripts that write the nets of FCN with ``minicaffe.pycaffe`` as their ``caffe``, and compares the nets.

    git clone https://github.com/shelhamer/fcn.berkeleyvision.org fcn && python tests/pycaffe/pycaffe_fcn.py fcn

Beside each ``net.py`` lie the .prototxt files that it wrote with pycaffe in 2016. The scripts run in a temporary
folder; the checkout is only read.
"""

from __future__ import annotations

import ast
import os
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from minicaffe.pycaffe import alias
from minicaffe.pycaffe.proto import caffe_pb2


def net_of(path: Path) -> Any:
    """The net in a file; a dict that is handed to a Python layer is sorted, which Python 2 left to chance."""
    net = caffe_pb2.NetParameter()
    text_format.Merge(path.read_text(), net)
    for layer in net.layer:
        if layer.python_param.param_str.startswith("{"):
            layer.python_param.param_str = str(sorted(ast.literal_eval(layer.python_param.param_str).items()))
    return net


def compared(script: Path, folder: Path) -> Iterator[tuple[str, bool]]:
    """Each net that a script writes into the folder, and whether it is the one beside the script."""
    os.chdir(folder)
    runpy.run_path(str(script), run_name="__main__")
    for written in sorted(folder.glob("*.prototxt")):
        yield f"{script.parent.name}/{written.name}", net_of(written) == net_of(script.parent / written.name)


def main() -> None:
    """Print the nets that differ, and how many do not."""
    scripts = sorted(Path(sys.argv[1]).resolve().glob("*/net.py")) if len(sys.argv) == 2 else []
    if not scripts:
        sys.exit(
            "usage: python tests/pycaffe/pycaffe_fcn.py FCN_CHECKOUT (of shelhamer/fcn.berkeleyvision.org)"
        )
    alias.install()
    nets: dict[str, bool] = {}
    for script in scripts:
        with tempfile.TemporaryDirectory() as folder:
            nets.update(compared(script, Path(folder)))
            os.chdir(script.parent)
    for name in nets:
        if not nets[name]:
            print(f"  {name} differs")
    print(f"{len(nets)} nets of {len(scripts)} scripts: {sum(nets.values())} as pycaffe wrote them")
    sys.exit(not all(nets.values()))


if __name__ == "__main__":
    main()
