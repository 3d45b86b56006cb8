"""A model of Caffe here and in OpenCV: ``python tests/golden/caffe/check_opencv.py NET.prototxt NET.caffemodel``.

Prints the largest difference of each output, as a share of the largest number in it: of the files as they are, and
of those that ``minicaffe convert`` and then ``minicaffe export`` make of them. The input is ``--image``, resized,
less ``--mean``, times ``--scale``; or seeded noise. Exits with 1 where a difference is above ``--tolerance``.

``--random-16-bit FILE`` writes weights for the net first, seeded, with its arrays as 16-bit ``raw_data``: for nets
whose own weights are not at hand. ``--shrink FILE`` has OpenCV write the given weights in 16 bits, and reads those.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

import minicaffe as mc
from minicaffe.caffe.formats.messages import message_class
from minicaffe.device.array import to_host

FLOAT16 = 2
NOTHING = 1e-2  # outputs smaller than this are not shares of themselves


def write_16_bits(net: mc.Net, path: Path) -> None:
    """The net's parameters in a .caffemodel whose arrays are raw_data, and their shapes."""
    model = message_class("NetParameter")(name=net.name)
    for name, blobs in net.params.items():
        layer = model.layer.add(name=name, type=next(x.type for x in net.layers if x.name == name))
        for blob in blobs:
            array = to_host(blob.data)
            written = layer.blobs.add(raw_data_type=FLOAT16, raw_data=array.astype("<f2").tobytes())
            written.shape.dim.extend(array.shape)
    path.write_bytes(model.SerializeToString())


def randomize(net: mc.Net) -> None:
    """Weights that keep numbers in range from layer to layer, with statistics in BatchNorm."""
    rng = np.random.default_rng(16)
    for layer in net.layers:
        for i, blob in enumerate(layer.blobs):
            fan_in = max(1, int(np.prod(blob.shape[1:])))
            numbers = rng.standard_normal(blob.shape) * np.sqrt(2 / fan_in)
            if layer.type == "BatchNorm":
                numbers = [numbers * 0.1, rng.uniform(0.5, 1.5, blob.shape), np.ones(blob.shape)][i]
            elif layer.type in ("Scale", "Normalize", "PReLU"):
                numbers = rng.uniform(0.5, 1.5, blob.shape) if i == 0 else numbers * 0.1
            elif len(blob.shape) == 1:
                numbers = numbers * 0.1
            blob.data[...] = net.setting.device.put(numbers.astype(np.float32))


def rows(found: np.ndarray) -> np.ndarray:
    """The detections (…, 7) in one order, without the empty rows that OpenCV adds."""
    found = found.reshape(-1, 7)
    found = found[found[:, 2] > 0]
    corners = [found[:, i].round(2) for i in (6, 5, 4, 3)]
    return found[np.lexsort((*corners, -found[:, 2].round(5), found[:, 1], found[:, 0]))]


def differences(net: mc.Net, files: list[str], inputs: dict[str, np.ndarray]) -> dict[str, float]:
    """Of each output: the largest difference, as a share of its largest number; infinite where OpenCV has none."""
    wanted = net.forward(**inputs)
    makers = {top: layer for layer in net.layers for top in layer.spec.top}
    try:
        other = cv2.dnn.readNetFromCaffe(*files)
        for name, array in inputs.items():
            other.setInput(array, name)
        theirs = {name: other.forward(makers[name].name) for name in wanted}
    except cv2.error as error:
        print(f"  OpenCV does not take these files: {str(error).splitlines()[0]}")
        return dict.fromkeys(wanted, np.inf)
    result = {}
    for name, values in wanted.items():
        found, mine = theirs[name], np.asarray(values)
        if makers[name].type == "DetectionOutput":
            found, mine = rows(found), rows(mine)
            print(f"  {name}: {len(mine)} detections here, {len(found)} in OpenCV")
        same = found.size == mine.size
        largest = max(np.abs(mine).max(initial=0), NOTHING)
        result[name] = (
            float(np.abs(found.reshape(mine.shape) - mine).max(initial=0) / largest) if same else np.inf
        )
    return result


def the_inputs(net: mc.Net, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """An image, or noise, for each input."""
    rng, found = np.random.default_rng(1), {}
    for name in net.inputs:
        shape = net.blobs[name].shape
        found[name] = (rng.random(shape, np.float32) * 255 - 127) * np.float32(args.scale)
        if args.image and len(shape) == 4:
            image = cv2.resize(cv2.imread(str(args.image)), (shape[3], shape[2])).astype(np.float32)
            image = (image - np.float32(args.mean)) * np.float32(args.scale)
            found[name] = np.ascontiguousarray(np.broadcast_to(image.transpose(2, 0, 1), shape))
    return found


def main() -> int:
    """Check one model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("net", type=Path)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--random-16-bit", type=Path, metavar="FILE", help="weights to make up, and to write")
    parser.add_argument("--shrink", type=Path, metavar="FILE", help="the weights in 16 bits, to write")
    parser.add_argument("--image", type=Path)
    parser.add_argument(
        "--mean", type=float, nargs="+", default=[127.5], help="one number, or blue, green, red"
    )
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    args = parser.parse_args()
    weights = args.weights
    if args.random_16_bit:
        net = mc.Net(args.net, phase="test")
        randomize(net)
        weights = args.random_16_bit
        write_16_bits(net, weights)
    if args.shrink:
        cv2.dnn.shrinkCaffeModel(str(weights), str(args.shrink))
        weights = args.shrink
    net = mc.Net(args.net, weights=weights, phase="test")
    inputs = the_inputs(net, args)
    found = {"as it is": differences(net, [str(args.net), str(weights)], inputs)}
    with tempfile.TemporaryDirectory() as folder:
        files = mc.convert(args.net, weights, folder)
        again = mc.Net(files.spec, weights=files.weights, phase="test")
        out = [str(Path(folder) / f"out.{ending}") for ending in ("prototxt", "caffemodel")]
        mc.export(again, *out)
        found["converted and exported"] = differences(net, out, inputs)
    for way, shares in found.items():
        for name, share in shares.items():
            print(f"{way:24} {name:20} {share:.1e}")
    return int(any(not share <= args.tolerance for shares in found.values() for share in shares.values()))


if __name__ == "__main__":
    sys.exit(main())
