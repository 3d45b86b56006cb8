"""Records what real Caffe computes for the cases in cases.yaml, nets.yaml, fillers.yaml and windows.yaml.

It needs Caffe 1.0, which is to be had as a package for Python 3.9:

    pip install kendryte-caffe 'numpy<1.24' 'protobuf<3.21' pyyaml pillow
    export GLOG_minloglevel=2
    python tests/golden/make_golden.py --recorded DIR                         # everything
    python tests/golden/make_golden.py layers Pooling LRN                     # some layer types
    python tests/golden/make_golden.py layers BatchNorm --recorded DIR
    python tests/golden/make_golden.py files                                  # windows.npz and hdf5_output.h5

That build cannot train BatchNorm and has no Clip, so these come from DIR, a folder of single cases recorded
with Caffe 1.0 as published; without it the two are left as they are. README.md explains the files' keys.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import caffe
import numpy as np
import yaml
from caffe_spec import Spec, as_spec, as_yaml, net_from_prototxt, net_message
from PIL import Image

HERE = Path(__file__).parent
Arrays = dict[str, np.ndarray]

WITHOUT_BACKWARD = {
    *("Accuracy", "ArgMax", "ContinuationIndicator", "DummyData", "LabelsequenceAccuracy", "Threshold")
}
IN_PART_RECORDED = {"BatchNorm", "Clip"}
CASE_FIELDS = {"in", "fill", "tops", "in_place", "phase", "params", "index_tops", "backward", "loss"}


# ------------------------------------------------------------------------------------------------- inputs


def filled(how: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """An input of ``shape``. ``how`` is one of the names below, or 'A..B': whole numbers from A to B."""
    if ".." in how:
        low, high = how.split("..")
        return rng.integers(int(low), int(high) + 1, shape).astype(np.float32)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "gaussian": lambda: rng.standard_normal(shape),
        "wide": lambda: rng.standard_normal(shape) * 30,
        "positive": lambda: rng.uniform(0.1, 2.1, shape),
        "unit": lambda: rng.uniform(0, 1, shape),
        "halves": lambda: np.round(rng.standard_normal(shape) * 2) / 2,
        "probabilities": lambda: rng.dirichlet(np.ones(shape[1]), shape[0]).reshape(shape),
        "zero": lambda: np.zeros(shape),
    }
    return ways[how]().astype(np.float32)


def generator(name: str) -> np.random.Generator:
    """Random numbers that depend on the case's name alone, so that a new case changes no other."""
    return np.random.default_rng(zlib.crc32(name.encode()))


# ------------------------------------------------------------------------------------------------ records


def open_net(spec: Spec, phase: str) -> caffe.Net:
    """Caffe's net for ``spec``, with Caffe's own random numbers seeded."""
    caffe.set_random_seed(1701)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(str(net_message(spec)))
        file.flush()
        return caffe.Net(file.name, caffe.TRAIN if phase == "train" else caffe.TEST)


def copies(prefix: str, blobs: dict[str, np.ndarray]) -> Arrays:
    """Copies of ``blobs`` under ``prefix``."""
    return {prefix + name: array.copy() for name, array in blobs.items()}


def param_arrays(net: caffe.Net, attribute: str) -> Arrays:
    """The ``data`` or ``diff`` of every parameter blob, by '<layer>_<index>'."""
    return {
        f"{layer}_{i}": getattr(blob, attribute)
        for layer, blobs in net.params.items()
        for i, blob in enumerate(blobs)
    }


def set_params(net: caffe.Net, how: list[str] | str, rng: np.random.Generator) -> None:
    """Give the parameters values; 'filler' keeps those that the layers' fillers gave."""
    if how == "filler":
        return
    for i, array in enumerate(param_arrays(net, "data").values()):
        array[...] = filled(how if isinstance(how, str) else how[i], array.shape, rng)


def set_inputs(net: caffe.Net, inputs: list[str], fills: list[str], rng: np.random.Generator) -> None:
    """Fill the inputs; their diffs become NaN, which stays where Caffe writes no gradient."""
    for i, name in enumerate(inputs):
        blob = net.blobs[name]
        blob.data[...] = filled(fills[i] if i < len(fills) else "gaussian", blob.data.shape, rng)
        blob.diff[...] = np.nan


def set_output_diffs(net: caffe.Net, index_tops: int, rng: np.random.Generator) -> Arrays:
    """Random diffs for the net's outputs; a net with losses starts from its loss weights (Caffe sets them).

    The last ``index_tops`` outputs hold indices, which no gradient goes through.
    """
    losses = {name for name, weight in net.blob_loss_weights.items() if weight}
    outputs = [name for name in net.outputs if name in losses] if losses else list(net.outputs)
    outputs = outputs[: len(outputs) - index_tops]
    for name in outputs:
        if not losses:
            net.blobs[name].diff[...] = filled("gaussian", net.blobs[name].diff.shape, rng)
    return copies("gout_", {name: net.blobs[name].diff for name in outputs})


def record_backward(net: caffe.Net, inputs: list[str], index_tops: int, rng: np.random.Generator) -> Arrays:
    """The gradients of the parameters, and of those inputs that Caffe writes one for."""
    net.clear_param_diffs()
    record = set_output_diffs(net, index_tops, rng)
    net.backward()
    gradients = {name: net.blobs[name].diff for name in inputs}
    record.update(copies("gin_", {name: g for name, g in gradients.items() if not np.isnan(g).all()}))
    record.update(copies("gp_", param_arrays(net, "diff")))
    return record


def record_net(name: str, spec: Spec, case: Spec) -> Arrays:
    """All that Caffe computes for a net: see README.md for the keys."""
    rng = generator(name)
    spec = as_spec(net_message(spec))
    phase = case.get("phase", "train")
    net = open_net(spec, phase)
    set_params(net, case.get("params", "gaussian"), rng)
    inputs = [top for layer in spec["layer"] if layer["type"] == "Input" for top in layer["top"]]
    set_inputs(net, inputs, case.get("fill", []), rng)
    record = {"net": as_yaml(spec), "phase": np.array(phase)}
    record.update(copies("p_", param_arrays(net, "data")))
    record.update(copies("in_", {blob: net.blobs[blob].data for blob in inputs}))
    net.forward()
    tops = {top for layer in spec["layer"] if layer["type"] != "Input" for top in layer.get("top", [])}
    record.update(copies("out_", {blob: net.blobs[blob].data for blob in sorted(tops)}))
    if case.get("backward", True) and not WITHOUT_BACKWARD & {layer["type"] for layer in spec["layer"]}:
        record.update(record_backward(net, inputs, case.get("index_tops", 0), rng))
    check_finite(name, record)
    return {f"{name.split('/')[-1]}/{key}": array for key, array in record.items()}


def check_finite(name: str, record: Arrays) -> None:
    """Raise ValueError where a case gives numbers that no test could use."""
    for key, array in record.items():
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise ValueError(f"{name}: {key} is not finite")


# -------------------------------------------------------------------------------------------------- cases


def layer_net(layer_type: str, case: Spec) -> Spec:
    """A net of Input layers x0, x1, … and the layer L under test with tops y0, y1, …

    Without force_backward Caffe goes back only from a loss, and only as far as a layer with parameters: there a
    Bias leads to L, and with ``loss`` the sum of squares of each top is a loss.
    """
    shapes = case["in"] if not case["in"] or isinstance(case["in"][0], list) else [case["in"]]
    bottoms = [f"x{i}" for i in range(len(shapes))]
    inputs = [
        {"name": bottom, "type": "Input", "top": [bottom], "input_param": {"shape": [{"dim": shapes[i]}]}}
        for i, bottom in enumerate(bottoms)
    ]
    tops = bottoms[:1] if case.get("in_place") else [f"y{i}" for i in range(case.get("tops", 1))]
    fields = {key: value for key, value in case.items() if key not in CASE_FIELDS}
    layer = {"name": "L", "type": layer_type, "bottom": bottoms, "top": tops, **fields}
    if "propagate_down" not in case:
        return {"name": "case", "force_backward": True, "layer": [*inputs, layer]}
    bias = {"name": "bias", "type": "Bias", "bottom": ["x0"], "top": ["b0"], "propagate_down": [True]}
    losses = [sum_of_squares(top) for top in tops] if case.get("loss") else []
    return {"name": "case", "layer": [*inputs, bias, {**layer, "bottom": ["b0", *bottoms[1:]]}, *losses]}


def sum_of_squares(blob: str) -> Spec:
    """A layer that makes a loss of any blob: the gradient is twice the blob."""
    param = {"operation": "SUMSQ"}
    fields = {"bottom": [blob], "top": [f"{blob}_loss"], "loss_weight": [1.0], "reduction_param": param}
    return {"name": f"{blob}_loss", "type": "Reduction", **fields}


def record_layer_case(layer_type: str, name: str, case: Spec) -> Arrays:
    """One case of cases.yaml."""
    return record_net(f"{layer_type}/{name}", layer_net(layer_type, case), case)


def record_whole_net(name: str, case: Spec) -> Arrays:
    """One case of nets.yaml: the weights are what the net's fillers give."""
    return record_net(name, {"name": name, "force_backward": True, "layer": case["layer"]}, case)


def record_filler(name: str, case: Spec) -> Arrays:
    """Statistics of a blob that a filler filled, or the whole blob where the filler is not random."""
    param = {"shape": [{"dim": case["shape"]}], "data_filler": [case["filler"]]}
    net = open_net(
        {"layer": [{"name": "blob", "type": "DummyData", "top": ["blob"], "dummy_data_param": param}]},
        "train",
    )
    net.forward()
    values = net.blobs["blob"].data
    record = {"filler": as_yaml(case["filler"]), "shape": np.array(values.shape)}
    if case["filler"]["type"] in ("constant", "bilinear"):
        record["values"] = values.copy()
        return {f"{name}/{key}": array for key, array in record.items()}
    rows = values.reshape(len(values), -1).astype(np.float64)
    record.update(
        mean=rows.mean(),
        std=rows.std(),
        min=rows.min(),
        max=rows.max(),
        nonzero=np.count_nonzero(rows),
        row_sums=rows.sum(1).astype(np.float32),
    )
    return {f"{name}/{key}": np.asarray(array) for key, array in record.items()}


# -------------------------------------------------------------------------------------------------- files


def record_windows(name: str, case: Spec) -> Arrays:
    """One case of windows.yaml: the image (height, width, 3) in the order blue, green, red; data and label."""
    height, width = case["image"]
    pixels = smooth_image(height, width, generator(f"windows/{name}"))
    with tempfile.TemporaryDirectory() as folder:
        image, source = Path(folder) / "image.png", Path(folder) / "windows.txt"
        Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).save(image)
        source.write_text(window_file(case, image))
        param = {
            "source": str(source),
            "batch_size": 2,
            "fg_fraction": 0.5,
            **case.get("window_data_param", {}),
        }
        layer = {"name": "L", "type": "WindowData", "top": ["data", "label"], "window_data_param": param}
        net = open_net({"layer": [{**layer, "transform_param": case["transform_param"]}]}, "train")
        net.forward()
        record = {"case": as_yaml(case), "image": pixels}
        record.update(copies("out_", {blob: net.blobs[blob].data for blob in ("data", "label")}))
        del net  # and its thread, which reads the files on and on
    return {f"{name}/{key}": array for key, array in record.items()}


def window_file(case: Spec, image: Path | str) -> str:
    """The window file of a case: a foreground and a background window of one image."""
    height, width = case["image"]
    windows = [["7", "0.9", *case["fg"]], ["3", "0.1", *case["bg"]]]
    lines = [f"# 0\n{image}\n3 {height} {width}\n{len(windows)}", *[" ".join(map(str, w)) for w in windows]]
    return "\n".join(lines) + "\n"


def smooth_image(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Slopes and waves, so that a shift by half a pixel shows: uint8 (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    a, b, c, d = rng.uniform(0.05, 0.4, (4, 3, 1, 1))
    waves = np.sin(a * x + b * y) + np.cos(c * x - d * y)
    return np.round(127.5 + 60 * waves).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def make_hdf5_output() -> None:
    """hdf5_output.h5: what HDF5Output writes of x0 (3, 2, 4) and x1 (3,), whole numbers in their order."""
    path = HERE / "hdf5_output.h5"
    inputs = [
        {"name": f"x{i}", "type": "Input", "top": [f"x{i}"], "input_param": {"shape": [{"dim": shape}]}}
        for i, shape in enumerate([[3, 2, 4], [3]])
    ]
    output = {"name": "L", "type": "HDF5Output", "bottom": ["x0", "x1"]}
    net = open_net({"layer": [*inputs, {**output, "hdf5_output_param": {"file_name": str(path)}}]}, "test")
    for blob in net.blobs.values():
        blob.data[...] = np.arange(blob.data.size).reshape(blob.data.shape)
    net.forward()
    print(f"{path.name}: data and label")


# ----------------------------------------------------------------------------------------------- recorded


def convert_recorded_case(path: Path) -> Arrays:
    """One recorded case in our keys. Its parameter blobs are from before the forward pass (see README.md)."""
    case = path.stem.split("_")[0]
    with np.load(path) as old:
        spec = net_from_prototxt(str(old["prototxt"]))
        record = {"net": as_yaml(spec), "phase": np.array("train")}
        for key in old.files:
            if key[0] == "p" and key[1:].isdigit():
                record[f"p_L_{key[1:]}"] = old[key]
            elif key.startswith(("in_", "out_", "gout_", "gin_")):
                record[key] = old[key]
    layer = spec["layer"][-1]
    if layer["type"] == "BatchNorm" and not layer["batch_norm_param"]["use_global_stats"]:
        record.update(
            moving_sums_after(record, layer["batch_norm_param"].get("moving_average_fraction", 0.999))
        )
    return {f"recorded_{case}/{key}": array for key, array in record.items()}


def moving_sums_after(record: Arrays, fraction: float) -> Arrays:
    """BatchNorm's blobs after a forward pass in training, which the recorded cases do not hold."""
    x = record["in_x0"].astype(np.float64)
    axes = (0, *range(2, x.ndim))
    news = x.mean(axes), x.var(axes, ddof=1), np.ones(1)
    return {f"w_L_{i}": np.float32(fraction * record[f"p_L_{i}"] + new) for i, new in enumerate(news)}


# --------------------------------------------------------------------------------------------------- runs


def in_children(record: Callable[..., Arrays], cases: list[tuple]) -> Arrays:
    """``record(*case)`` for every case, in a child process, since Caffe ends its process at a bad setting."""
    arrays: Arrays = {}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for case in cases:
            try:
                arrays.update(pool.submit(record, *case).result())
            except BrokenProcessPool:
                raise SystemExit(f"Caffe aborted in {case[:2]}") from None
    return arrays


def save(path: Path, arrays: Arrays) -> None:
    """Write ``arrays``, and say how many cases they are."""
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    cases = {key.split("/")[0] for key in arrays}
    print(f"{path.relative_to(HERE)}: {len(cases)} cases, {path.stat().st_size / 1024:.0f} KiB")


def load_table(name: str) -> dict[str, Any]:
    """A table of cases beside this file."""
    return yaml.safe_load((HERE / name).read_text(encoding="utf-8"))


def make_layers(types: list[str], recorded: Path | None) -> None:
    """layers/<Type>.npz for each type, or for all; recorded cases are put with those of their type."""
    table = load_table("cases.yaml")
    for layer_type in types or [*table, "Clip"]:
        if layer_type in IN_PART_RECORDED and recorded is None:
            print(f"layers/{layer_type}.npz: left as it is; it needs --recorded")
            continue
        cases = [(layer_type, name, case) for name, case in table.get(layer_type, {}).items()]
        arrays = in_children(record_layer_case, cases)
        if layer_type in IN_PART_RECORDED:
            for path in sorted(recorded.glob(f"*_{layer_type}.npz")):
                arrays.update(convert_recorded_case(path))
        save(HERE / "layers" / f"{layer_type}.npz", arrays)


def make_table(name: str, record: Callable[..., Arrays]) -> None:
    """<name>.npz from <name>.yaml."""
    save(HERE / f"{name}.npz", in_children(record, list(load_table(f"{name}.yaml").items())))


def main() -> None:
    """Read the command line and make what it asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", choices=["all", "layers", "nets", "fillers", "files"], default="all"
    )
    parser.add_argument("types", nargs="*", help="layer types, with 'layers'; all where none is given")
    parser.add_argument(
        "--recorded", type=Path, metavar="DIR", help="folder of recorded BatchNorm and Clip cases"
    )
    args = parser.parse_args()
    if args.what in ("all", "layers"):
        make_layers(args.types, args.recorded)
    if args.what in ("all", "nets"):
        make_table("nets", record_whole_net)
    if args.what in ("all", "fillers"):
        make_table("fillers", record_filler)
    if args.what in ("all", "files"):
        make_table("windows", record_windows)
        make_hdf5_output()


if __name__ == "__main__":
    main()
