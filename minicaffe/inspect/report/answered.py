"""What a net says of test images: counts of right and wrong, and the images that it is surest of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.inspect.confusion import Confusion, confusion_counts, find_answers, names_of, said_classes
from minicaffe.inspect.report.pixels import shrunk
from minicaffe.inspect.report.test_run import Batch

PER_CELL, MISTAKES = 12, 24
THUMBNAIL = 64  # pixels a side, at most
MOST_CLASSES = 40  # with more, cells are those of the most confused pairs
MOST_PAIRS = 20


@dataclass(frozen=True)
class Example:
    """Test image ``number``, of class ``true``: what the net ``said``, with probability ``share``.

    ``own`` is the probability of its own class. ``picture`` is its place in ``TestPass.pictures``.
    """

    number: int
    true: int
    said: int
    share: float
    own: float
    picture: int


@dataclass
class Answered:
    """Counts, and examples with their pictures: as in a TestPass."""

    confusion: Confusion | None = None
    examples: list[Example] = field(default_factory=list)
    cells: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    mistakes: list[int] = field(default_factory=list)
    pictures: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))


class AnswerCollector:
    """What the net said of each image, and how sure it was. Raises SpecError where nothing compares with labels."""

    def __init__(self, net: Net) -> None:
        self.answers = find_answers(net)
        self.names = names_of(net)
        self._rows: list[NDArray[np.float64]] = []  # number, true, said, share, own
        self._thumbnails: dict[int, NDArray[np.uint8]] = {}

    def after(self, step: Step, batch: Batch) -> None:
        """Read the scores once the layer that compares them has run."""
        if step.layer.name != self.answers.layer:
            return
        shares, labels, counted = self.answers.read(batch.count)
        rows = np.arange(len(labels))
        said = said_classes(shares, labels)
        table = np.stack([batch.numbers, labels, said, shares[rows, said], shares[rows, labels]], axis=1)
        self._rows.append(table[counted])
        if batch.pixels is None:
            return
        for i in np.flatnonzero(counted):
            self._thumbnails[int(batch.numbers[i])] = shrunk(batch.pixels[i], THUMBNAIL)
        self._drop_thumbnails()

    def _drop_thumbnails(self) -> None:
        """Keep those that may be shown, so that memory stays small."""
        table = np.concatenate(self._rows)
        shown = np.concatenate([np.flatnonzero(_rank_in_cell(table) < PER_CELL), _surest_mistakes(table)])
        kept = {int(number) for number in table[shown, 0]}
        self._thumbnails = {number: self._thumbnails[number] for number in kept & {*self._thumbnails}}

    def found(self, room: int) -> Answered:
        """The counts, and examples whose pictures take at most ``room`` bytes."""
        if not self._rows:
            return Answered()
        table, classes = np.concatenate(self._rows), self.answers.classes
        counts = confusion_counts(table[:, 1].astype(np.int64), table[:, 2].astype(np.int64), classes)
        confusion = Confusion(counts, self.names)
        in_cells, mistakes = self._chosen(table, confusion, room), _surest_mistakes(table)
        sure = np.argsort(-table[:, 3], kind="stable")
        places = sure[np.isin(sure, in_cells) | np.isin(sure, mistakes)]  # the most confident first
        examples = [_example(table[place], k) for k, place in enumerate(places)]
        cells: dict[tuple[int, int], list[int]] = {}
        for k in np.flatnonzero(np.isin(places, in_cells)).tolist():
            cells.setdefault((examples[k].true, examples[k].said), []).append(k)
        where = {int(place): k for k, place in enumerate(places)}
        found = Answered(confusion, examples, cells, [where[int(place)] for place in mistakes])
        if self._thumbnails and examples:
            found.pictures = _stacked([self._thumbnails[example.number] for example in examples])
        return found

    def _chosen(self, table: NDArray[np.float64], confusion: Confusion, room: int) -> NDArray[np.int64]:
        """The rows that are examples of their cell: as many of each as there is room for, and at most 12."""
        shown = np.ones(len(table), bool)
        if self.answers.classes > MOST_CLASSES:
            listed = {pair[:2] for pair in confusion.pairs(MOST_PAIRS)}
            shown = np.array([(int(true), int(said)) in listed for true, said in table[:, 1:3]])
        bytes_each = max((picture.nbytes for picture in self._thumbnails.values()), default=0)
        ranks, mistakes = _rank_in_cell(table), _surest_mistakes(table)
        for most in (PER_CELL, 8, 4, 2, 1, 0):
            chosen = np.flatnonzero(shown & (ranks < most))
            if len(np.union1d(chosen, mistakes)) * bytes_each <= room:
                break
        return chosen


def _surest_mistakes(table: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rows of the mistakes with the highest probabilities, these first."""
    sure = np.argsort(-table[:, 3], kind="stable")
    mistakes: NDArray[np.int64] = sure[table[sure, 1] != table[sure, 2]][:MISTAKES]
    return mistakes


def _example(row: NDArray[np.float64], picture: int) -> Example:
    number, true, said, share, own = row
    return Example(int(number), int(true), int(said), float(share), float(own), picture)


def _rank_in_cell(table: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many images of the same class that were said to be the same are more confident; for each row."""
    order = np.lexsort((-table[:, 3], table[:, 2], table[:, 1]))
    cells = table[order, 1:3]
    begins = np.ones(len(table), bool)
    begins[1:] = (cells[1:] != cells[:-1]).any(axis=1)
    first = np.maximum.accumulate(np.where(begins, np.arange(len(table)), 0))
    ranks = np.empty(len(table), np.int64)
    ranks[order] = np.arange(len(table)) - first
    return ranks


def _stacked(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures as one array; smaller ones lie in the upper left corner."""
    size = tuple(max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    stacked = np.zeros((len(pictures), *size, 3), np.uint8)
    for place, picture in zip(stacked, pictures, strict=True):
        place[: picture.shape[0], : picture.shape[1]] = picture
    return stacked
