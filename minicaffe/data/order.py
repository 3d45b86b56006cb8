"""Which images make up batch k: a pure function of a seed and k.

As in Caffe, batches run on from the end of one epoch into the next. Since nothing depends on what was drawn
before, the number of the next batch is all that a snapshot has to store.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# One family of random streams for each purpose. The purpose comes before the number: NumPy pads a seed with
# zeros, so [seed, k] would be the same stream as [seed, k, 0].
ORDER, AUGMENTATION, SKIP, SIZE = 0, 1, 2, 3


def random_stream(seed: int, purpose: int, number: int = 0) -> np.random.Generator:
    """The generator for one epoch's order, one batch's augmentation, the skip, or some batches' size."""
    return np.random.default_rng([seed, purpose, number])


class Order:
    """The image numbers of every batch.

    ``blocks``: the number of images, or of each of several files. With ``shuffle``, every epoch has its own
    random order: the files are shuffled, and the images within each file, but files are not mixed (Caffe's
    HDF5Data: one file at a time is in memory). ``rand_skip``: begin at a random one of the first ``rand_skip``
    images.
    """

    def __init__(
        self,
        blocks: int | Sequence[int],
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        rand_skip: int = 0,
    ) -> None:
        self.blocks = [blocks] if isinstance(blocks, int) else list(blocks)
        self.count = sum(self.blocks)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.rand_skip = rand_skip
        self._ends = False
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Change the seed, and with it the images of every batch."""
        self.seed = seed
        self.skip = int(random_stream(seed, SKIP).integers(self.rand_skip)) if self.rand_skip else 0
        self._last: tuple[int, np.ndarray] | None = None

    def end_a_pass(self) -> None:
        """Make the last batch of the first pass over the images shorter, so that no image comes twice."""
        self._ends = True

    def indices(self, batch: int) -> np.ndarray:
        """The image numbers of a batch, (batch_size,), or fewer if it ends the pass."""
        position = self.skip + batch * self.batch_size
        parts, missing = [], self.batch_size
        if self._ends and batch == self.count // self.batch_size:
            missing = self.count % self.batch_size or missing
        while missing:
            epoch, offset = divmod(position, self.count)
            part = self.epoch(epoch)[offset : offset + missing]
            parts.append(part)
            position += len(part)
            missing -= len(part)
        return np.concatenate(parts)

    def first(self) -> np.ndarray:
        """The number of the very first image, (1,)."""
        epoch, offset = divmod(self.skip, self.count)
        return self.epoch(epoch)[offset : offset + 1]

    def epoch(self, number: int) -> np.ndarray:
        """The order of one epoch: each image number once, (count,)."""
        if self._last is None or (self.shuffle and self._last[0] != number):
            self._last = number, self._shuffled(number) if self.shuffle else np.arange(self.count)
        return self._last[1]

    def _shuffled(self, epoch: int) -> np.ndarray:
        rng = random_stream(self.seed, ORDER, epoch)
        starts = np.cumsum([0, *self.blocks])
        blocks = rng.permutation(len(self.blocks)) if len(self.blocks) > 1 else [0]
        return np.concatenate([starts[b] + rng.permutation(self.blocks[b]) for b in blocks])


class EvenOrder(Order):
    """``count`` images that lie evenly among ``rows``, in their order: some of each class of a folder."""

    def __init__(self, rows: int, count: int, batch_size: int) -> None:
        super().__init__(count, batch_size)
        self.numbers = np.arange(count) * rows // count

    def indices(self, batch: int) -> np.ndarray:
        chosen: np.ndarray = self.numbers[super().indices(batch)]
        return chosen

    def first(self) -> np.ndarray:
        chosen: np.ndarray = self.numbers[super().first()]
        return chosen
