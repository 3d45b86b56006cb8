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
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import minicaffe as mc
from minicaffe.device.array import to_host
from minicaffe.layers.segnet_bn import VAR_EPS, SegNetBN


def average(net: mc.Net, batches: int) -> None:
    """Run some batches, and change the blobs of each BN that learns to those for inference."""
    layers = [layer for layer in net.layers if isinstance(layer, SegNetBN) and layer.learns]
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


def main() -> None:
    """Average, and write the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("net", type=Path, help="the net that was trained, with its data")
    parser.add_argument("--weights", type=Path, required=True, help="what it was trained to")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the weights to write (.npz)")
    parser.add_argument("--batches", type=int, default=100, help="of training data (%(default)s)")
    args = parser.parse_args()
    with mc.Net(args.net, weights=args.weights, phase="train", seed=1) as net:
        average(net, args.batches)
        net.save(args.output)
    print(f"{args.output}: statistics of {args.batches} batches")


if __name__ == "__main__":
    main()
