"""Softmax over the leading axis, the cross entropy of labels, and how far two distributions are apart.

p[c] = exp(x[c]) / Σ_c exp(x[c])        loss = −log p[label]        dx[c] = p[c] − (c = label)
"""

from __future__ import annotations

from functools import partial

import numpy as np

from minicaffe.device import workers
from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.kernel import kernels_beside
from minicaffe.device.workers import Calls
from minicaffe.errors import DataError

# On a GPU one thread goes through all classes of a place if there are
FEW_CLASSES = 64  # at most this many classes,
MANY_PLACES = 1 << 13  # or at least this many places, enough to keep the GPU busy
SMALLEST = np.finfo(np.float32).tiny  # smaller probabilities count as this in the logarithm
KERNELS = kernels_beside(__file__)


def softmax(x: Array, out: Array) -> None:
    """out[c] = exp(x[c]) / Σ_c exp(x[c]); the maximum is subtracted first, so nothing overflows."""
    if not x.size:
        return
    if _fits_kernel(x, out) and (x.shape[0] <= FEW_CLASSES or x[0].size >= MANY_PLACES):
        KERNELS["softmax"](x[0].size, x, out, x.shape[0])
        return
    workers.make(softmax_calls(x, out))


def softmax_calls(x: Array, out: Array) -> Calls:
    """The calls that ``softmax`` makes without a kernel."""
    xp = module_of(x)
    of_place = xp.empty(x.shape[1:], x.dtype)
    return [
        partial(x.max, axis=0, out=of_place),
        partial(xp.subtract, x, of_place, out=out),
        partial(xp.exp, out, out=out),
        partial(out.sum, axis=0, out=of_place),
        partial(xp.divide, out, of_place, out=out),
    ]


def _fits_kernel(*arrays: Array) -> bool:
    """Whether they are on a GPU, and contiguous (arrays with moved axes are not)."""
    return not on_cpu(arrays[0]) and all(a.flags.c_contiguous for a in arrays)


def cross_entropy(probability: Array, labels: Array) -> Array:
    """−log p[label] for each place: probability (C, …), labels (…) whole numbers in [0, C)."""
    xp = module_of(probability)
    if _fits_kernel(probability, labels):
        losses: Array = xp.empty(labels.shape, probability.dtype)
        KERNELS["cross_entropy"](
            labels.size, probability, labels, losses, probability.shape[0], float(SMALLEST)
        )
        return losses
    losses = -xp.log(xp.maximum(pick(probability, labels), SMALLEST))
    return losses


def cross_entropy_grad(probability: Array, labels: Array, out: Array) -> None:
    """The gradient of Σ cross_entropy by the scores: p − onehot(label)."""
    if _fits_kernel(probability, labels, out):
        KERNELS["cross_entropy_grad"](out.size, probability, labels, out, labels.size)
        return
    module_of(out).subtract(probability, one_hot(labels, probability.shape[0]), out=out)


def divergence(p: Array, q: Array) -> Array:
    """Σ_c p[c] · log(p[c] / q[c]) of each place, the divergence of Kullback and Leibler: p, q (C, …)."""
    xp = module_of(p)
    ratio = xp.log(xp.maximum(p, SMALLEST)) - xp.log(xp.maximum(q, SMALLEST))
    of_place: Array = (p * ratio).sum(axis=0)
    return of_place


def pick(x: Array, labels: Array) -> Array:
    """x[labels[p], p] for each place p: x (C, …), labels (…) whole numbers in [0, C)."""
    places = module_of(x).arange(labels.size)
    picked: Array = x.reshape(x.shape[0], labels.size)[labels.reshape(-1), places].reshape(labels.shape)
    return picked


def one_hot(labels: Array, classes: int) -> Array:
    """(classes, …) of booleans: whether each label is that class."""
    xp = module_of(labels)
    hot: Array = xp.arange(classes).reshape(-1, *[1] * labels.ndim) == labels
    return hot


def check_labels(labels: Array, classes: int, where: object) -> None:
    """Raise DataError unless all labels are in [0, classes). Not checked on a GPU, where it would have to wait."""
    if on_cpu(labels) and labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"{where}: labels from {labels.min()} to {labels.max()}, but there are {classes} classes, "
            f"0 to {classes - 1}; mend the labels, or num_output"
        )
