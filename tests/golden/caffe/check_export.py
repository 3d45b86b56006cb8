"""Exported nets in the real Caffe: ``python tests/golden/caffe/check_export.py CAFFE_PYTHON``.

The nets are those of ``export_cases.py``. ``CAFFE_PYTHON`` is a Python that can import Caffe 1.0. Prints, for each,
the largest difference of an output as a share of the largest output; exits with 1 where one is above 1e-4, or where
that Caffe lacks a type that ``minicaffe/caffe/formats/layer_types.py`` says every Caffe has.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RUN = """
import json, os, sys
os.environ["GLOG_minloglevel"] = "2"
import caffe, numpy as np
given = np.load("case.npz")
net = caffe.Net("net.prototxt", "net.caffemodel", caffe.TEST)
for name in net.inputs:
    net.blobs[name].data[...] = given["in_" + name]
found = net.forward()
print(json.dumps({
    name: float(np.abs(found[name] - given["out_" + name]).max() / max(np.abs(given["out_" + name]).max(), 1e-2))
    for name in net.outputs
}))
"""

TYPES = """
import os
os.environ["GLOG_minloglevel"] = "2"
import caffe
print(*caffe.layer_type_list())
"""


def difference(caffe_python: str, folder: Path) -> float:
    """The largest over the outputs of one exported net."""
    command = [caffe_python, "-c", RUN]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:])
        return float("inf")
    return max(json.loads(done.stdout.splitlines()[-1]).values())


def main() -> int:
    """Check every case."""
    root = Path(__file__).resolve().parents[3]
    sys.path.insert(0, str(root))
    import minicaffe as mc
    from minicaffe.caffe.formats.layer_types import RELEASE_1_0
    from tests.export.export_cases import CASES, inputs_of, make_net, outputs_of

    types = subprocess.run([sys.argv[1], "-c", TYPES], capture_output=True, text=True, check=True).stdout
    lacking = RELEASE_1_0 - set(types.split())
    print("types of the release that this Caffe lacks:", *(sorted(lacking) or ["none"]))
    worst = 0.0
    for name in CASES:
        net = make_net(name)
        inputs = inputs_of(net)
        outputs = outputs_of(net, inputs)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            mc.export(net, folder / "net.prototxt", folder / "net.caffemodel")
            arrays = {f"in_{k}": v for k, v in inputs.items()} | {f"out_{k}": v for k, v in outputs.items()}
            np.savez(folder / "case.npz", **arrays)
            found = difference(sys.argv[1], folder)
        print(f"{name:28} {found:.1e}")
        worst = max(worst, found)
    return int(bool(lacking) or not worst <= 1e-4)


if __name__ == "__main__":
    sys.exit(main())
