"""The lines of layers at which the graph branches or comes together: gradients add, or go one of several ways."""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.inspect.report.walk.line import Line, Spot, Term, lines, sum_of
from minicaffe.layers.eltwise import EltwiseParam


@lines.of("Split")
def split(spot: Spot) -> Line:
    """Gradients add."""
    terms = [
        Term(f"from {user}", (float(dy[spot.at]),), k == spot.top)
        for k, (user, dy) in enumerate(zip(spot.users, spot.dy, strict=True))
        if dy is not None
    ]
    note = "One number is used at several places, and moves the loss through each: the gradients add up."
    return sum_of(spot.at, "dL/dx = Σ dL/dy, over the layers that take x", terms, note)


@lines.of("Eltwise")
def eltwise(spot: Spot) -> Line | None:
    """SUM: the gradient goes to all bottoms alike; the walk takes the branch whose last layer is deepest."""
    param = spot.layer.spec.message(EltwiseParam)
    taken = [i for i, dx in enumerate(spot.dx) if dx is not None]
    if not taken or param.operation != "SUM":
        return None
    bottom = max(taken, key=lambda i: spot.makers[i])
    coefficients: Sequence[float] = getattr(spot.layer, "coeff", [1.0] * len(spot.x))
    note = f"A sum passes its gradient to all {len(spot.x)} bottoms; the walk goes on through one of them."
    term = Term("", (float(coefficients[bottom]), spot.above), True)
    return sum_of(spot.at, "dL/dx = coefficient · dL/dy", [term], note, bottom)


@lines.of("Concat")
def concat(spot: Spot) -> Line | None:
    """The gradient goes to the bottom that the number came from."""
    axis = next(
        (k for k in range(spot.y[0].ndim) if any(x.shape[k] != spot.y[0].shape[k] for x in spot.x)), None
    )
    if axis is None:
        return None
    first = 0
    for bottom, x in enumerate(spot.x):
        if spot.at[axis] < first + x.shape[axis]:
            at = (*spot.at[:axis], spot.at[axis] - first, *spot.at[axis + 1 :])
            term = Term("", (1.0, spot.above), True)
            note = f"This number came from the bottom number {bottom}, so its gradient goes back there."
            return sum_of(at, "dL/dx = 1 · dL/dy", [term], note, bottom)
        first += x.shape[axis]
    return None
