"""Scorer: what a net says of any number of pictures, by the part of it between its pictures and its scores."""

from __future__ import annotations

from types import TracebackType

import numpy as np

from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.device.array import to_host
from minicaffe.errors import MinicaffeError

ROOM = 1 << 24  # numbers that the blobs of one batch may hold: 64 MiB in float32
MOST = 64  # pictures in a batch


class Scorer:
    """log p of each class for pictures (n, C, H, W) that stand as the net sees them, in the blob ``pictures``.

    ``scores`` is the blob with a score for each class. If a Softmax made it, log p is computed from what went into
    the Softmax, so that it is exact where float32 rounds p to 0; ``softmax`` says that the scores are still to go
    through one. Otherwise they are what is returned, and ``is_log_p`` is false.

    Layers that do not lie between the two blobs do not run: labels, losses, accuracies. Used as
    ``with Scorer(…) as scorer: scorer(pictures)``; at the end the net has run on the pictures that it had before.

    Raises MinicaffeError where the scores do not depend on the pictures, or on something else too.
    """

    def __init__(self, net: Net, pictures: str, scores: str, softmax: bool) -> None:
        self.net, self.pictures, self.scores = net, pictures, scores
        self.steps = _between(net, pictures, scores)
        last = net.steps[self.steps[-1]].layer
        self.is_log_p = softmax or last.type == "Softmax"
        if last.type == "Softmax":
            self.steps.pop()
            self.scores = last.spec.bottom[0]
        numbers = net.blobs[pictures].count + sum(top.count for i in self.steps for top in net.steps[i].top)
        one = max(1, numbers // max(1, net.blobs[pictures].num))
        self.batch = max(1, min(MOST, ROOM // one))

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one picture."""
        return sum(self.net.steps[i].multiply_adds for i in self.steps)

    def __enter__(self) -> Scorer:
        self.net.lock.__enter__()
        self._before = np.array(to_host(self.net.blobs[self.pictures].data))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self._before)
        finally:
            self.net.lock.__exit__(kind, error, trace)

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """What the net says of pictures (n, C, H, W): (n, classes) float32. It sees ``batch`` of them at a time."""
        parts = []
        for first in range(0, len(pictures), self.batch):
            self._run(pictures[first : first + self.batch])
            values = to_host(self.net.blobs[self.scores].data)
            parts.append(values.reshape(len(values), -1).astype(np.float64))
        scores = np.concatenate(parts)
        if self.is_log_p:
            scores -= scores.max(axis=1, keepdims=True)
            scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return scores.astype(np.float32)

    def _run(self, pictures: np.ndarray) -> None:
        blob = self.net.blobs[self.pictures]
        blob.reshape(*pictures.shape)
        blob.data[...] = self.net.setting.device.put(pictures)
        for i in self.steps:
            self.net.run_forward(i, i)


def _between(net: Net, pictures: str, scores: str) -> list[int]:
    """The steps, in order, that compute the blob ``scores`` from the blob ``pictures``. Raises MinicaffeError."""
    needed, found = {scores}, []
    for i in reversed(range(len(net.steps))):
        step: Step = net.steps[i]
        if not needed & set(step.layer.spec.top):
            continue
        if step.bottom:
            found.append(i)
            needed |= set(step.layer.spec.bottom)
        elif pictures not in step.layer.spec.top:
            raise MinicaffeError(
                f"'{scores}' depends on layer '{step.layer.name}' too, not on the picture alone"
            )
    if not found or pictures not in needed:
        raise MinicaffeError(f"'{scores}' does not depend on '{pictures}'")
    return found[::-1]
