"""The lines of losses, where the walk begins: a table of differences."""

from __future__ import annotations

import numpy as np

from minicaffe.inspect.report.walk.line import Index, Line, Spot, lines
from minicaffe.layers.sigmoid_cross_entropy_loss import SigmoidCrossEntropyLoss
from minicaffe.layers.softmax_with_loss import SoftmaxWithLoss

MOST_ROWS = 10  # of a table


@lines.of("SoftmaxWithLoss")
def softmax_with_loss(spot: Spot) -> Line | None:
    """dL/dz = p − onehot, for all classes of the place whose gradient is largest."""
    assert isinstance(spot.layer, SoftmaxWithLoss)
    z, dz, axis = spot.x[0], spot.dx[0], spot.layer.axis - 1
    if dz is None or axis < 0:
        return None
    at = spot.largest(0, None)
    place = at[:axis] + at[axis + 1 :]
    labels = spot.x[1].reshape(z.shape[:axis] + z.shape[axis + 1 :])
    scores, gradients = (np.moveaxis(array, axis, -1)[place] for array in (z, dz))
    return cross_entropy(scores, gradients, int(labels[place]), at, axis)


def cross_entropy(z: np.ndarray, dz: np.ndarray, label: int, at: Index, axis: int = 0) -> Line:
    """The table of p − onehot for the scores z, (C,), of one place; ``dz`` is what backward has computed.

    ``at`` is where the walk goes on; its class stands at ``axis``.
    """
    p = softmax(z.astype(np.float64))
    chosen = at[axis]
    onehot = np.arange(len(z)) == label
    rows = largest_rows(dz, (p, onehot, p - onehot))
    factor = scale_between(p - onehot, dz)
    total = float(p[chosen] - onehot[chosen]) * factor
    rule = "dL/dz = p − onehot" if factor == 1 else f"dL/dz = (p − onehot) · {factor:.4g}"
    note = (
        "p is the softmax of the scores z; onehot is 1 for the class that the loss is of, and 0 for the others. "
        "Too much p is pushed down, too little up."
    )
    head = ("class", "p", "onehot", "p − onehot")
    return Line(at, rule, total=total, note=note, head=head, table=rows, row=chosen)


@lines.of("SigmoidCrossEntropyLoss")
def sigmoid_cross_entropy(spot: Spot) -> Line | None:
    """dL/dz = σ(z) − t."""
    z, dz = spot.x[0].astype(np.float64), spot.dx[0]
    if dz is None:
        return None
    p, t = 1 / (1 + np.exp(-z)), spot.x[1].reshape(z.shape).astype(np.float64)
    assert isinstance(spot.layer, SigmoidCrossEntropyLoss)
    ignored = spot.layer.ignore
    counts = None if ignored is None else np.trunc(t) != ignored
    return _difference(spot, p, t, "σ(z) − t", ("σ(z)", "target t"), counts)


@lines.of("EuclideanLoss")
def euclidean(spot: Spot) -> Line | None:
    """dL/da = a − b."""
    a = spot.x[0].astype(np.float64)
    if spot.dx[0] is None:
        return None
    b = spot.x[1].reshape(a.shape).astype(np.float64)
    return _difference(spot, a, b, "a − b", ("answer a", "target b"))


def _difference(
    spot: Spot,
    a: np.ndarray,
    b: np.ndarray,
    rule: str,
    names: tuple[str, str],
    counts: np.ndarray | None = None,
) -> Line:
    """dL/dx = (a − b) · factor: a loss whose gradient is a difference, of the numbers that count (None: all)."""
    dx = spot.dx[0]
    assert dx is not None
    at = spot.largest(0, None)
    difference = a - b if counts is None else np.where(counts, a - b, 0.0)
    factor = scale_between(difference, dx)
    rows = largest_rows(dx.ravel(), (a.ravel(), b.ravel(), difference.ravel()))
    name = "dL/dz" if "z" in rule else "dL/da"
    formula = f"{name} = {rule}" if factor == 1 else f"{name} = ({rule}) · {factor:.4g}"
    total = float(difference[at]) * factor
    note = "The gradient is the error itself: what the net says, less what it should say."
    if counts is not None and not counts.all():
        note += " Targets that are to be ignored have no error."
    row = int(np.ravel_multi_index(at, a.shape)) if at else 0
    return Line(at, formula, total=total, note=note, head=("number", *names, rule), table=rows, row=row)


def largest_rows(gradient: np.ndarray, columns: tuple[np.ndarray, ...]) -> tuple[tuple[float, ...], ...]:
    """Rows (index, …columns) in order; of many those with the largest gradient."""
    order = np.argsort(-np.abs(gradient), kind="stable")[:MOST_ROWS].tolist()
    return tuple((i, *(float(column[i]) for column in columns)) for i in sorted(order))


def scale_between(derived: np.ndarray, said: np.ndarray) -> float:
    """What the loss multiplies its gradient by (its weight, its normalization): 1 unless it is clearly another."""
    k = int(np.abs(derived).argmax())
    if not derived.size or derived.ravel()[k] == 0:
        return 1.0
    factor = float(said.ravel()[k]) / float(derived.ravel()[k])
    return 1.0 if abs(factor - 1) < 1e-3 else factor


def softmax(z: np.ndarray) -> np.ndarray:
    """exp(z) / Σ exp(z)."""
    e: np.ndarray = np.exp(z - z.max())
    return np.asarray(e / e.sum())
