"""Records what real Caffe makes of the nets beside this file. Runs as ../make_golden.py does (see its docstring):

    GLOG_minloglevel=2 python tests/golden/caffe/record.py [--mtcnn FOLDER]

v0_saved.caffemodel          the net of v0 as Caffe saves it while it trains, with splits and phases
v0, v1, current.caffemodel   weights, the first two in the binary form of their generation (blobs of four axes)
current.caffemodel.h5        the same weights in HDF5
mean.binaryproto             a mean image
<Rule>_iter_6.*              a snapshot after 6 of 12 steps of training, for each update rule (SGD's in HDF5 too)
nets.npz, train.npz          inputs and outputs; weights after 12 steps, and the batches (see README.md)
mtcnn.npz                    outputs for the nets det1 and det2 in FOLDER, which are not kept here

It also holds ``caffe.proto`` of the package against the messages of real Caffe.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor

HERE = Path(__file__).parent
PACKAGE = HERE.parent.parent.parent / "minicaffe" / "caffe" / "formats"
NEWER = {"clip_param"}  # than the build of Caffe that records
RULES = {
    "SGD": "momentum: 0.9 lr_policy: 'multistep' gamma: 0.5 stepvalue: 3 stepvalue: 6 base_lr: 0.1",
    "Nesterov": "momentum: 0.9 lr_policy: 'inv' gamma: 0.1 power: 0.75 base_lr: 0.1",
    "AdaGrad": "lr_policy: 'fixed' base_lr: 0.1",
    "RMSProp": "rms_decay: 0.9 lr_policy: 'fixed' base_lr: 0.01",
    "AdaDelta": "momentum: 0.9 delta: 1e-6 lr_policy: 'fixed' base_lr: 1",
    "Adam": "momentum: 0.9 momentum2: 0.99 lr_policy: 'step' gamma: 0.5 stepsize: 5 base_lr: 0.01",
}
STEPS = 12


def fill(net: caffe.Net, rng: np.random.Generator) -> None:
    """Parameters of a size that keeps all numbers near 1; statistics of BatchNorm are positive."""
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            numbers = rng.standard_normal(blob.data.shape) * 0.5
            blob.data[...] = 0.5 + np.abs(numbers) if layer == "norm" and i else numbers


def record_net(name: str) -> dict[str, np.ndarray]:
    """Weights of a net in its own generation, and what Caffe, having read them again, computes with them."""
    rng = np.random.default_rng(len(name))
    text = str(HERE / f"{name}.prototxt")
    net = caffe.Net(text, caffe.TEST)
    fill(net, rng)
    weights = HERE / f"{name}.caffemodel"
    if name == "current":
        net.save(str(weights))
        net.save_hdf5(f"{weights}.h5")
    else:
        weights.write_bytes(in_generation(name, net).SerializeToString())
    net = caffe.Net(text, str(weights), caffe.TEST)
    if name == "v0":
        training = caffe.Net(text, str(weights), caffe.TRAIN)
        training.save(str(HERE / "v0_saved.caffemodel"))
    record = {f"{name}/upgraded": np.array(upgraded(net))}
    for blob in net.inputs:
        net.blobs[blob].data[...] = rng.standard_normal(net.blobs[blob].data.shape)
        record[f"{name}/in_{blob}"] = net.blobs[blob].data.copy()
    net.forward()
    tops = {blob: array.data.copy() for blob, array in net.blobs.items() if "split" not in blob}
    record.update({f"{name}/out_{blob}": array for blob, array in tops.items() if blob not in net.inputs})
    for layer, blobs in net.params.items():
        record.update({f"{name}/p_{layer}_{i}": blob.data.copy() for i, blob in enumerate(blobs)})
    return record


def in_generation(name: str, net: caffe.Net) -> caffe_pb2.NetParameter:
    """The net's message as old programs wrote it: its own text, with arrays of four axes."""
    message = text_format.Parse((HERE / f"{name}.prototxt").read_text(), caffe_pb2.NetParameter())
    for old in message.layers:
        layer = old.layer if old.HasField("layer") else old
        for blob in net.params.get(layer.name, []):
            shape = (1,) * (4 - blob.data.ndim) + blob.data.shape
            layer.blobs.add(
                num=shape[0], channels=shape[1], height=shape[2], width=shape[3], data=blob.data.flat
            )
    return message


def upgraded(net: caffe.Net) -> str:
    """The text of the net as Caffe has it after its own upgrade, without arrays."""
    with tempfile.NamedTemporaryFile(suffix=".caffemodel") as file:
        net.save(file.name)
        message = caffe_pb2.NetParameter.FromString(Path(file.name).read_bytes())
    for layer in message.layer:
        del layer.blobs[:]
    return str(message)


def record_rule(
    rule: str, settings: str, data: np.ndarray, label: np.ndarray, ending: str = ""
) -> dict[str, np.ndarray]:
    """Train, with a snapshot half way; the weights at the end."""
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(
            f"net: '{HERE / 'train.prototxt'}' type: '{rule}' {settings} weight_decay: 0.01 random_seed: 3 "
        )
        file.write(f"snapshot_prefix: '{rule}' snapshot_format: {'HDF5' if ending else 'BINARYPROTO'}")
        file.flush()
        solver = caffe.get_solver(file.name)
    for step in range(STEPS):
        if step == STEPS // 2:
            solver.snapshot()
            for kind in ("caffemodel", "solverstate"):
                os.replace(f"{rule}_iter_{step}.{kind}{ending}", HERE / f"{rule}_iter_{step}.{kind}{ending}")
        solver.net.blobs["data"].data[...] = data[step]
        solver.net.blobs["label"].data[...] = label[step]
        solver.step(1)
    record = {f"{rule}/settings": np.array(settings)}
    for layer, blobs in solver.net.params.items():
        record.update({f"{rule}/p_{layer}_{i}": blob.data.copy() for i, blob in enumerate(blobs)})
    return record


def record_mtcnn(folder: Path) -> dict[str, np.ndarray]:
    """The two nets at the size of their files, and the first, which is all convolution, at another."""
    record = {}
    for case, shape in (("det1", None), ("det1_large", (2, 3, 31, 26)), ("det2", None)):
        name = str(folder / case.split("_")[0])
        net = caffe.Net(f"{name}.prototxt", f"{name}.caffemodel", caffe.TEST)
        net.blobs["data"].reshape(*(shape or net.blobs["data"].data.shape))
        data = np.random.default_rng(1).standard_normal(net.blobs["data"].data.shape).astype(np.float32)
        out = net.forward(data=data)
        record[f"{case}/in_data"] = data
        record.update({f"{case}/out_{blob}": array.copy() for blob, array in out.items()})
    return record


def check_schema() -> None:
    """Every field of ours is one of Caffe's, with the same number and type."""
    spec = importlib.util.spec_from_file_location("schema", PACKAGE / "schema.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["schema"] = module
    spec.loader.exec_module(module)
    kinds = {v: k[5:].lower() for k, v in vars(FieldDescriptor).items() if k.startswith("TYPE_")}
    for message, fields in module.parse_schema(module.PROTO.read_text()).items():
        if message == "ClipParameter":
            continue
        real = getattr(caffe_pb2, message).DESCRIPTOR.fields_by_name
        for field in fields.values():
            if field.name in NEWER:
                continue
            its = real[field.name]
            kind = its.message_type.name if its.message_type else "enum" if its.enum_type else kinds[its.type]
            repeated = its.label == its.LABEL_REPEATED
            same = (its.number, kind, repeated, its.GetOptions().packed)
            assert same == (field.number, field.kind, field.repeated, field.packed), (message, field)
            for value, number in field.values.items():
                assert its.enum_type.values_by_name[value].number == number, (message, field, value)


def main() -> None:
    """Record all of it, beside this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mtcnn", type=Path, metavar="FOLDER", help="with det1 and det2, .prototxt and .caffemodel"
    )
    args = parser.parse_args()
    check_schema()
    nets = {}
    for name in ("v0", "v1", "current"):
        nets.update(record_net(name))
    np.savez_compressed(HERE / "nets.npz", **nets)
    rng = np.random.default_rng(5)
    data = np.round(rng.standard_normal((STEPS, 4, 2, 5, 5)) * 16).astype(np.float32) / 16
    label = rng.integers(0, 4, (STEPS, 4)).astype(np.float32)
    runs = {"data": data, "label": label}
    for rule, settings in RULES.items():
        runs.update(record_rule(rule, settings, data, label))
    record_rule("SGD", RULES["SGD"], data, label, ending=".h5")
    np.savez_compressed(HERE / "train.npz", **runs)
    mean = rng.standard_normal((1, 3, 4, 5)).astype(np.float32)
    (HERE / "mean.binaryproto").write_bytes(caffe.io.array_to_blobproto(mean).SerializeToString())
    np.save(HERE / "mean.npy", mean[0])
    if args.mtcnn:
        np.savez_compressed(HERE / "mtcnn.npz", **record_mtcnn(args.mtcnn))


if __name__ == "__main__":
    main()
