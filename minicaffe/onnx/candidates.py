"""Of candidates, the best first, those that remain without duplicates: what the last layers of detectors share.

Names: N images, K labels, k candidates of each label. A candidate's place among the K · k of its image is its
label's and then its rank, so that places in order are rows in order.
"""

from __future__ import annotations

import math

import numpy as np

from minicaffe.onnx.graph import FLOAT, INT64, Graph


def without_duplicates(
    graph: Graph,
    boxes: str,
    scores: str,
    most: str,
    overlap: float,
    least: float = -math.inf,
    at_most: str | None = None,
) -> str:
    """(N, K, k): 1 for the candidates that remain, else 0. Each label of each image is suppressed by itself.

    ``boxes`` are (N, K, k, 4), ``scores`` (N, K, k), and ``most`` is the tensor [k]. A box goes if its overlap with
    a better one is more than ``overlap``, or its score no more than ``least``; ``at_most`` remain of each label.
    """
    table = graph.add("Reshape", scores, graph.add("Concat", graph.numbers([-1]), most, axis=0))
    own = graph.add("Concat", graph.numbers([-1]), most, graph.numbers([4]), axis=0)
    limits = [graph.constant([min(overlap, 1)])]
    if least > -math.inf:
        limits.append(graph.constant([least]))
    one_class = graph.add("Unsqueeze", table, graph.numbers([1]))
    chosen = graph.add(
        "NonMaxSuppression", graph.add("Reshape", boxes, own), one_class, at_most or most, *limits
    )  # (D, 3): batch, 0, candidate
    places = graph.add("Gather", chosen, graph.numbers([0, 2]), axis=1)
    ones = graph.add("Expand", graph.constant([1]), graph.sizes(chosen, (0,)))
    none = graph.add("Expand", graph.constant([0]), graph.add("Shape", table))
    return graph.add("Reshape", graph.add("ScatterND", none, places, ones), graph.add("Shape", scores))


def rows_of(graph: Graph, kept: str, labels: str, scores: str, boxes: str) -> str:
    """The rows (1, 1, D, 7) of those marked in ``kept`` (N, P): image, label, score, box.

    ``labels`` and ``scores`` are (N, P), ``boxes`` (N, P, 4). If none is marked, there is a row of −1 for each
    image, with its number.
    """
    places = graph.add("Transpose", graph.add("NonZero", kept), perm=[1, 0])  # (D, 2): image, place
    image = graph.add("Cast", graph.add("Gather", places, graph.numbers([0]), axis=1), to=FLOAT)
    columns = [
        graph.add("Unsqueeze", graph.add("GatherND", each, places), graph.numbers([1]))
        for each in (labels, scores)
    ]
    rows = graph.add("Concat", image, *columns, graph.add("GatherND", boxes, places), axis=1)
    rows = graph.add("Concat", rows, _where_there_is_none(graph, rows, kept), axis=0)
    return graph.add("Unsqueeze", rows, graph.numbers([0, 1]))


def _where_there_is_none(graph: Graph, rows: str, kept: str) -> str:
    """A row of −1 for each image, with its number, if there are no rows; else no row."""
    images = graph.sizes(kept, (0,))
    first = graph.add("Cast", count_up(graph, graph.add("Squeeze", images)), to=FLOAT)
    first = graph.add("Unsqueeze", first, graph.numbers([1]))
    rest = graph.add("Expand", graph.constant([-1]), graph.add("Concat", images, graph.numbers([6]), axis=0))
    is_none = graph.add("Equal", graph.sizes(rows, (0,)), graph.numbers([0]))
    amount = graph.add("Mul", images, graph.add("Cast", is_none, to=INT64))
    zero = graph.numbers([0])
    return graph.add("Slice", graph.add("Concat", first, rest, axis=1), zero, amount, zero)


def count_up(graph: Graph, amount: str) -> str:
    """The whole numbers from 0 on, so many."""
    return graph.add("Range", graph.constant(0, np.int64), amount, graph.constant(1, np.int64))
