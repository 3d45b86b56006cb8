"""Softmax over the leading axis, and picking the entry of a label."""

from __future__ import annotations

from minicaffe.array import Array, module_of, on_cpu
from minicaffe.errors import DataError


def softmax(x: Array, out: Array) -> None:
    """out[c] = exp(x[c]) / Σ_c exp(x[c]); the maximum is taken off first, so nothing overflows."""
    xp = module_of(x)
    xp.subtract(x, x.max(axis=0), out=out)
    xp.exp(out, out=out)
    out /= out.sum(axis=0)


def pick(x: Array, labels: Array) -> Array:
    """x[labels[p], p] for each place p: x (C, …), labels (…) whole numbers in [0, C)."""
    places = module_of(x).arange(labels.size)
    return x.reshape(x.shape[0], -1)[labels.reshape(-1), places].reshape(labels.shape)


def one_hot(labels: Array, classes: int) -> Array:
    """(classes, …) of truth values: which class each label is."""
    xp = module_of(labels)
    return xp.arange(classes).reshape(-1, *[1] * labels.ndim) == labels


def check_labels(labels: Array, classes: int, where: str) -> None:
    """Raise DataError unless all labels are in [0, classes). On a GPU it would cost a wait, and is left out."""
    if on_cpu(labels) and labels.size and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"{where}: labels from {labels.min()} to {labels.max()}, but there are {classes} classes, "
            f"0 to {classes - 1}; mend the labels, or num_output"
        )
