"""How good a net is on some batches, figure by figure, and how that changes from the dense net."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple, Protocol

import numpy as np

from minicaffe.compress.batches import Batch, run
from minicaffe.core.net import Net
from minicaffe.errors import DataError
from minicaffe.train.scoring import scores_not_finite

UNSEEN = 3  # answers that may have changed where none was seen to: the rule of three (``_change``)


class Figures(NamedTuple):
    """What a net does on one batch: see ``Measured``, which has the same of several."""

    score: float
    loss: float
    lost: float
    reckoned: float
    counted: int


@dataclass(frozen=True)
class Change:
    """A mean over batches of something that changed, and its standard error (nan for one batch)."""

    mean: float
    error: float

    def __str__(self) -> str:
        error = "" if math.isnan(self.error) else f" ± {100 * self.error:.2f}"
        return f"{100 * self.mean:+.2f}{error} points"


@dataclass(frozen=True)
class Measured:
    """What a net does on some batches, a figure for each of them.

    ``scores``: right answers, answers that agree with the dense net's, or nearness to its outputs; 1 is perfect.
    ``losses``: the training loss, or what stands for it. ``lost``: what is expected to be lost of the score, and
    ``reckoned``: what one should reckon with, if one is careful. ``counted``: how many answers the scores count; 0
    where they are no counts.
    """

    scores: tuple[float, ...]
    losses: tuple[float, ...]
    lost: tuple[float, ...]
    reckoned: tuple[float, ...]
    counted: tuple[int, ...]

    @property
    def score(self) -> float:
        """The mean score."""
        return fmean(self.scores)

    @property
    def loss(self) -> float:
        """The mean loss."""
        return fmean(self.losses)

    @property
    def expected(self) -> Change:
        """How the score is expected to change, seen from the dense net's."""
        return _change([-x for x in self.lost])

    def change_from(self, dense: Measured) -> Change:
        """How the score changes, from a net that was measured on the same batches."""
        return _change([a - b for a, b in zip(self.scores, dense.scores, strict=True)], sum(self.counted))

    def drop_from(self, dense: Measured, is_agreement: bool = False) -> float:
        """The drop to reckon with: what is expected, with care, or what was surely counted.

        ``is_agreement``: answers that differ from the dense net's are no accuracy that was lost. Where that was in
        doubt, another answer may as well be right; so it is what is expected that counts.
        """
        if is_agreement:
            return fmean(self.reckoned)
        counted = self.change_from(dense)
        surely = -math.inf if math.isnan(counted.error) else -counted.mean - 2 * counted.error
        return max(fmean(self.reckoned), surely)


def _change(differences: Sequence[float], counted: int = 0) -> Change:
    """The mean, and its standard error: that over the batches, which a few batches may make too small.

    So of ``counted`` answers it is at least √m / n: m of n changed, as many as the mean says, and at least three.
    Where none of n was seen to change, up to 3 / n may (Hanley and Lippman-Hand 1983,
    doi 10.1001/jama.1983.03330370053031).
    """
    mean, batches = fmean(differences), len(differences)
    if batches < 2:
        return Change(mean, math.nan)
    least = math.sqrt(max(abs(mean) * counted, UNSEEN)) / counted if counted else 0.0
    return Change(mean, max(stdev(differences) / math.sqrt(batches), least))


Answers = list[np.ndarray]  # of one batch: arrays (numbers of an answer, answers), float64


class Score(Protocol):
    """One way to score a net. ``name`` is what is scored; ``remember`` notes the dense net's answers in a batch.

    ``is_agreement``: answers are compared with the dense net's, but what is expected to be lost is accuracy.
    ``of_what`` says what that is, after "points", where it is not the score.
    """

    name: str
    is_agreement: bool
    of_what: str

    @property
    def reads(self) -> list[str]:
        """The blobs that the score is read off."""

    def remember(self, net: Net, batch: Batch) -> None:
        """Note what the dense net, which has just run on a batch, says of it."""

    def of(self, net: Net, batch: Batch) -> Figures:
        """The figures of a net that has just run on a batch."""

    def answers(self, net: Net) -> Answers:
        """The numbers that the score is read off, of a net that has just run on a batch."""

    def distance(self, answers: Sequence[Answers], exact: Sequence[Answers]) -> float:
        """How far answers to some batches are off; small distances add up."""

    def drops(self, exact: Sequence[Answers]) -> tuple[np.ndarray, np.ndarray]:
        """Distances, rising, and what is expected to be lost of the score where answers are off by that much."""


def not_finite(score: Score, net: Net) -> DataError:
    """The error for a net whose answers to the batch that has just run are nan or infinite."""
    what = scores_not_finite(net, net.loss()) or "a score"
    return DataError(
        f"{net.spec.where.file}: {what} is not finite, so there is no {score.name} to keep; check the weights, and "
        "what pictures go through"
    )


def measure(score: Score, net: Net, batches: Sequence[Batch]) -> Measured:
    """Run a net over batches. Raises DataError for nan."""
    found = []
    for batch in batches:
        run(net, batch)
        found.append(score.of(net, batch))
        if not np.isfinite(found[-1]).all():
            raise not_finite(score, net)
    return Measured(*zip(*found, strict=True))
