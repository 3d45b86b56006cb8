"""Makes weights for use of those that a net with SegNet's BN has been trained to.

    python prototxt/average_bn.py train.yaml --weights trained.npz -o for_use.npz

A BN with ``bn_mode: LEARN`` normalises by the mean μ and the variance σ² of its batch, whatever the phase. Here
they are averaged over batches of the training data, and the scale a and the shift b become

    a / √(σ² + 10⁻⁹)        b − a · μ / √(σ² + 10⁻⁹)

as a net with ``bn_mode: INFERENCE`` has them, whose answer for an image does not depend on others. That is what
compute_bn_statistics.py of alexgkendall/SegNet-Tutorial does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import minicaffe as mc
from minicaffe.cli.flags import positive
from minicaffe.device.array import to_host
from minicaffe.errors import MinicaffeError, SpecError, counted, report
from minicaffe.files.atomic import refuse_overwriting, refuse_unwritable
from minicaffe.layers.segnet_bn import VAR_EPS, SegNetBN


def average(net: mc.Net, batches: int) -> None:
    """Run some batches, and change the blobs of each BN that learns to those for inference.

    Raises SpecError for a net without such a BN.
    """
    layers = [layer for layer in net.layers if isinstance(layer, SegNetBN) and layer.learns]
    if not layers:
        raise SpecError(
            f"{net.name or 'this net'}: has no BN with 'bn_mode: LEARN', so there is nothing to average"
        )
    sums: dict[str, NDArray[np.float64]] = {layer.name: np.zeros((2, layer.channels)) for layer in layers}
    for _ in range(batches):
        net.forward()
        for layer in layers:
            mean, variance = (to_host(found).reshape(-1) for found in layer.statistics())
            sums[layer.name] += mean, variance
    for layer in layers:
        mean, variance = sums[layer.name] / batches
        count = net.blobs[layer.spec.bottom[0]].count // layer.channels
        scale, shift = (to_host(blob.data).astype(np.float64) for blob in layer.blobs)
        factor = scale / np.sqrt(variance * count / (count - 1) + VAR_EPS).reshape(scale.shape)
        moved = shift - factor * mean.reshape(scale.shape)
        for blob, numbers in zip(layer.blobs, (factor, moved), strict=True):
            blob.data[...] = net.setting.device.put(numbers.astype(np.float32))


def main() -> int:
    """Average, and write the weights; what a user can fix is one line. Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("net", type=Path, help="the net that was trained, with its data")
    parser.add_argument("--weights", type=Path, required=True, help="what it was trained to")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the weights to write (.npz)")
    parser.add_argument("--batches", type=positive, default=100, help="of training data (%(default)s)")
    args = parser.parse_args()
    try:
        refuse_overwriting([args.output], [args.net, args.weights])
        refuse_unwritable(args.output)
        with mc.Net(args.net, weights=args.weights, phase="train", seed=1) as net:
            average(net, args.batches)
            net.save(args.output)
    except MinicaffeError as error:
        return report(error)
    print(f"{args.output}: statistics of {counted(args.batches, 'batch')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
