"""A confusion matrix as text: its counts, the accuracy within each class, and the most frequent mistakes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from minicaffe.core.table import format_table
from minicaffe.inspect.confusion import Confusion

MOST_CLASSES, MOST_PAIRS, FEW_PAIRS = 40, 20, 5
WIDEST = 100  # characters of all names above columns; wider ones are numbered


def confusion_text(confusion: Confusion) -> str:
    """The matrix as a table, rows true and columns said, and below it the most frequent mistakes.

    Of more than 40 classes, the mistakes alone. "·" stands for 0.
    """
    lines = [*_matrix(confusion)] if len(confusion.counts) <= MOST_CLASSES else []
    most = FEW_PAIRS if lines else MOST_PAIRS
    lo, hi = confusion.interval
    lines += [
        f"Accuracy {100 * confusion.accuracy:.1f} % of {confusion.count:,} images; "
        f"of all such images {100 * lo:.1f} to {100 * hi:.1f} %",
        *_pairs(confusion, most),
    ]
    return "\n".join(lines)


def _matrix(confusion: Confusion) -> Iterator[str]:
    classes = range(len(confusion.counts))
    names = [confusion.name(c) for c in classes]
    has_names = bool(confusion.names)
    heads = names if sum(len(name) + 2 for name in names) <= WIDEST else [str(c) for c in classes]
    rows = []
    for c, counts, recall in zip(classes, confusion.counts, confusion.recall, strict=True):
        name = f"{c}  {names[c]}" if has_names and heads != names else names[c]
        share = "–" if math.isnan(recall) else f"{100 * recall:.1f} %"
        rows.append((name, *(str(count) if count else "·" for count in counts), share))
    yield "Rows: true class; columns: what the net said"
    yield format_table(("", *heads, "recall"), rows, right=range(1, len(names) + 2))


def _pairs(confusion: Confusion, most: int) -> Iterator[str]:
    pairs = confusion.pairs(most)
    if not pairs:
        yield "No mistakes"
        return
    in_class = confusion.counts.sum(axis=1)
    yield "The most frequent mistakes:"
    rows = [
        (
            confusion.name(true),
            "taken for",
            confusion.name(said),
            f"{count:,}",
            f"{100 * count / in_class[true]:.0f} %",
        )
        for true, said, count in pairs
    ]
    yield format_table(("true", "", "said", "images", "of its class"), rows, right=(3, 4))
    more = confusion.as_frequent(pairs)
    if more:
        yield f"and {more:,} more with {pairs[-1][2]:,} image{'s' if pairs[-1][2] > 1 else ''} each"
