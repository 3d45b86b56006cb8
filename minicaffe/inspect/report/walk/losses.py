"""The lines of losses, where the walk begins: a table of differences."""

from __future__ import annotations

import numpy as np

from minicaffe.inspect.report.walk.line import Index, Line, Spot, lines

MOST_ROWS = 10  # of a table


@lines.of("SoftmaxWithLoss")
def softmax_with_loss(spot: Spot) -> Line | None:
    """dL/dz = p − onehot, for all classes of the place whose gradient is largest."""
    dz, labels = spot.dx[0], spot.x[1].reshape(-1).astype(int)
    if dz is None or spot.x[0].ndim < 1:
        return None
    at = spot.largest(0, None)
    pixel = at[1:]
    z = _classes_at(spot.x[0], pixel).astype(np.float64)
    label = int(labels[np.ravel_multi_index(pixel, spot.x[0].shape[1:])] if pixel else labels[0])
    return cross_entropy(z, _classes_at(dz, pixel), label, at)


def _classes_at(scores: np.ndarray, pixel: Index) -> np.ndarray:
    """The scores (C,) of one place of (C, …)."""
    return np.asarray(np.moveaxis(scores, 0, -1)[pixel])


def cross_entropy(z: np.ndarray, dz: np.ndarray, label: int, at: Index) -> Line:
    """The table of p − onehot for the scores z, (C,), of one place; ``dz`` is what backward has computed."""
    p = softmax(z)
    onehot = np.arange(len(z)) == label
    rows = largest_rows(dz, (p, onehot, p - onehot), keep=label)
    factor = scale_between(p - onehot, dz)
    total = float(p[at[0]] - onehot[at[0]]) * factor
    rule = "dL/dz = p − onehot" if factor == 1 else f"dL/dz = (p − onehot) · {factor:.4g}"
    note = (
        "p is the softmax of the scores z; onehot is 1 for the class that the loss is of, and 0 for the others. "
        "Too much p is pushed down, too little up."
    )
    return Line(at, rule, total=total, note=note, head=("class", "p", "onehot", "p − onehot"), table=rows)


@lines.of("SigmoidCrossEntropyLoss")
def sigmoid_cross_entropy(spot: Spot) -> Line | None:
    """dL/dz = σ(z) − t."""
    z, dz = spot.x[0].astype(np.float64), spot.dx[0]
    if dz is None:
        return None
    p, t = 1 / (1 + np.exp(-z)), spot.x[1].reshape(z.shape).astype(np.float64)
    return _difference(spot, p, t, "σ(z) − t", ("σ(z)", "target t"))


@lines.of("EuclideanLoss")
def euclidean(spot: Spot) -> Line | None:
    """dL/da = a − b."""
    a = spot.x[0].astype(np.float64)
    if spot.dx[0] is None:
        return None
    return _difference(
        spot, a, spot.x[1].reshape(a.shape).astype(np.float64), "a − b", ("answer a", "target b")
    )


def _difference(spot: Spot, a: np.ndarray, b: np.ndarray, rule: str, names: tuple[str, str]) -> Line:
    """dL/dx = (a − b) · factor: a loss whose gradient is a difference."""
    dx = spot.dx[0]
    assert dx is not None
    at = spot.largest(0, None)
    factor = scale_between(a - b, dx)
    rows = largest_rows(dx.ravel(), (a.ravel(), b.ravel(), (a - b).ravel()))
    name = "dL/dz" if "z" in rule else "dL/da"
    formula = f"{name} = {rule}" if factor == 1 else f"{name} = ({rule}) · {factor:.4g}"
    total = float(a[at] - b[at]) * factor
    note = "The gradient is the error itself: what the net says, less what it should say."
    return Line(at, formula, total=total, note=note, head=("number", *names, rule), table=rows)


def largest_rows(
    gradient: np.ndarray, columns: tuple[np.ndarray, ...], keep: int | None = None
) -> tuple[tuple[float, ...], ...]:
    """Rows (index, …columns) in order; of many those with the largest gradient, and ``keep``."""
    order = np.argsort(-np.abs(gradient), kind="stable")[:MOST_ROWS].tolist()
    if keep is not None and keep not in order and 0 <= keep < len(gradient):
        order[-1] = keep
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
