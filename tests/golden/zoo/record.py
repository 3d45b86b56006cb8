"""Records what real Caffe computes for the nets of nets.yaml. Runs as ../make_golden.py does (see its docstring):

    GLOG_minloglevel=2 python tests/golden/zoo/record.py [NET …]

nets.npz has for each net ``<net>/blobs``, every blob after the forward pass, and ``<net>/gradients``, those of the
images and of every parameter that is trained; a row is what seeded.py keeps of an array, ``<net>/blob_names`` and
``<net>/gradient_names`` say of which.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import caffe
import numpy as np
import yaml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from caffe_spec import Spec, net_message  # noqa: E402
from zoo.seeded import digest, normal, parameters  # noqa: E402

PROTOTXT = HERE.parent.parent.parent / "prototxt"
Arrays = dict[str, np.ndarray]


def open_spec(name: str, case: dict[str, Any]) -> Spec:
    """The spec in prototxt/ with the case's changes, and with the bottoms and tops that it leaves out."""
    spec = yaml.safe_load((PROTOTXT / name / "deploy.yaml").read_text(encoding="utf-8"))
    spec["force_backward"] = True
    spec["layer"][0]["input_param"]["shape"]["dim"] = case["images"]
    top = ""
    for layer in spec["layer"]:
        for path, value in case.get("change", {}).get(layer["name"], {}).items():
            message, field = path.split(".")
            layer[message].pop(field, None)
            layer[message].update({} if value is None else {field: value})
        if layer["type"] != "Input":
            layer.setdefault("bottom", top)
        top = layer.setdefault("top", layer["name"])
    return spec


def record(name: str, case: dict[str, Any]) -> Arrays:
    """What Caffe computes for one net, forward and backward."""
    spec = open_spec(name, case)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(str(net_message(spec)))
        file.flush()
        net = caffe.Net(file.name, caffe.TEST)
    kinds = {layer["name"]: layer["type"] for layer in spec["layer"]}
    held = [layer["name"] for layer in spec["layer"] if layer["type"] == "BatchNorm" or "param" in layer]
    for layer, blobs in net.params.items():
        for i, values in enumerate(parameters(layer, kinds[layer], [blob.data.shape for blob in blobs])):
            blobs[i].data[...] = values
    net.blobs["data"].data[...] = normal("images", case["images"])
    net.forward()
    output = net.outputs[0]
    net.blobs[output].diff[...] = normal("diff", net.blobs[output].data.shape)
    net.backward()
    blobs = {key: blob.data for key, blob in net.blobs.items() if "_split_" not in key}
    gradients = {"data": net.blobs["data"].diff}
    for layer, params in net.params.items():
        if layer not in held:
            gradients.update({f"{layer}/{i}": blob.diff for i, blob in enumerate(params)})
    return {f"{name}/blob{key}": value for key, value in digests(blobs).items()} | {
        f"{name}/gradient{key}": value for key, value in digests(gradients).items()
    }


def digests(arrays: Arrays) -> Arrays:
    """A row for each array, and their names."""
    rows = np.array([digest(name, array) for name, array in arrays.items()])
    if not np.isfinite(rows).all() or not rows[:, -1].all():
        raise ValueError("some numbers are not finite, or an array is all zeros: no test could use them")
    return {"s": rows, "_names": np.array(list(arrays))}


def main() -> None:
    """Record the nets that the command line names, or all."""
    cases = yaml.safe_load((HERE / "nets.yaml").read_text(encoding="utf-8"))
    path, wanted = HERE / "nets.npz", sys.argv[1:] or list(cases)
    arrays: Arrays = {}
    if path.exists():
        with np.load(path) as old:
            arrays = {key: old[key] for key in old.files if key.split("/")[0] in cases}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # Caffe may end its process
        for name in wanted:
            arrays.update(pool.submit(record, name, cases[name]).result())
            print(name, *(f"{arrays[f'{name}/{key}s'].shape[0]} {key}s" for key in ("blob", "gradient")))
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
