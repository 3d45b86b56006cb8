"""Connectionist temporal classification: sequences of labels from sequences of scores, without an alignment.

A path says a class, or blank, at each of T steps. It spells the labels that remain when equal neighbours are merged
and blanks left out. p(labels) is the sum of the probabilities of all paths that spell them, and −log p is the cost:

    ℓ = blank, l_1, blank, l_2, …, l_L, blank                  states s of a path, 2·L + 1 of them
    α_t(s) = p_t(ℓ_s) · (α_{t−1}(s) + α_{t−1}(s−1) + [skips] α_{t−1}(s−2))
    β_t(s) = p_{t+1}(ℓ_s) β_{t+1}(s) + p_{t+1}(ℓ_{s+1}) β_{t+1}(s+1) + [skips] p_{t+1}(ℓ_{s+2}) β_{t+1}(s+2)
    p = α_T(2·L + 1) + α_T(2·L)        γ_t(s) = α_t(s) · β_t(s) / p, the share of paths that are at s at step t
    ∂(−log p) / ∂x_t(c) = p_t(c) − Σ_{s: ℓ_s = c} γ_t(s), with p_t = softmax(x_t)

A path skips the blank between two labels if these differ. All of it is computed with logarithms, for all sequences
and states at once: only the steps are a loop.

Graves et al. 2006 (Connectionist temporal classification); the equations are 7.5 to 7.15 and 7.34 of Graves 2012.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minicaffe.device.array import Array, module_of

Integers = NDArray[np.int64]
NEVER = -1e30  # the logarithm of 0: finite, so that differences of two are numbers, and sums of thousands too


@dataclass(frozen=True)
class Targets:
    """What N sequences should spell, on the host: ``labels`` (N, L) of which ``lengths`` (N,) count each.

    ``steps`` (N,) is how many steps of each sequence count.
    """

    labels: Integers
    lengths: Integers
    steps: Integers

    def steps_needed(self, merges: bool = True) -> Integers:
        """The fewest steps (N,) that spell the labels: one each, and a blank between equal neighbours."""
        within = np.arange(1, self.labels.shape[1]) < self.lengths[:, None]
        repeats = ((self.labels[:, 1:] == self.labels[:, :-1]) & within).sum(axis=1)
        needed: Integers = self.lengths + merges * repeats
        return needed


def padded(rows: list[Integers]) -> tuple[Integers, Integers]:
    """Label sequences as one array (N, L) and their lengths (N,)."""
    lengths = np.array([len(row) for row in rows], np.int64)
    labels = np.zeros((len(rows), max(lengths, default=0)), np.int64)
    for place, row in zip(labels, rows, strict=True):
        place[: len(row)] = row
    return labels, lengths


def log_softmax(x: Array) -> Array:
    """Logarithms of the softmax over the last axis."""
    xp = module_of(x)
    away = x - x.max(axis=-1, keepdims=True)
    logs: Array = away - xp.log(xp.exp(away).sum(axis=-1, keepdims=True))
    return logs


def forward_backward(
    logs: Array, targets: Targets, blank: int, *, merges: bool = True
) -> tuple[Array, Array]:
    """log p (N,), and Σ γ_t(s) over the states of each class (T, N, C), 0 after the last step.

    ``logs`` (T, N, C) are log p_t. Where no path spells the labels, log p is −inf, and the sums are 0. Without
    ``merges`` a path spells every label that it says, equal neighbours too.
    """
    xp = module_of(logs)
    steps_in_all, batch, classes = logs.shape
    labels, lengths, steps = (xp.asarray(a) for a in (targets.labels, targets.lengths, targets.steps))
    path = xp.full((batch, 2 * labels.shape[1] + 1), blank)
    path[:, 1::2] = labels
    states = xp.arange(path.shape[1])
    is_label = states % 2 == 1
    skips = xp.zeros(path.shape, bool)
    skips[:, 2:] = is_label[2:] & ((path[:, 2:] != path[:, :-2]) | (not merges))
    stays = xp.ones_like(is_label) if merges else ~is_label
    emitted = xp.take_along_axis(xp.maximum(logs, NEVER), path[None], axis=2)  # (T, N, S)

    alpha = xp.full((steps_in_all, batch, len(states) + 2), NEVER, logs.dtype)  # two states before the first
    alpha[0, :, 2:4] = emitted[0, :, :2]
    for t in range(1, steps_in_all):
        old = alpha[t - 1]
        stayed, skipped = xp.where(stays, old[:, 2:], NEVER), xp.where(skips, old[:, :-2], NEVER)
        xp.add(_log_of_sum(stayed, old[:, 1:-1], skipped), emitted[t], out=alpha[t, :, 2:])

    last = 2 * lengths  # a path ends here, or at the label before
    ends = xp.where((states == last[:, None]) | (states == last[:, None] - 1), 0, NEVER)
    at_end, sequences = xp.maximum(steps - 1, 0), xp.arange(batch)
    log_p = _log_of_sum(alpha[at_end, sequences, last + 2], alpha[at_end, sequences, last + 1])
    exists = (log_p > NEVER / 2) & (steps > 0)
    log_p = xp.where(exists, log_p, -xp.inf)

    beta = xp.full((batch, len(states) + 2), NEVER, logs.dtype)  # two states after the last
    skips_on = xp.zeros_like(skips)
    skips_on[:, :-2] = skips[:, 2:]
    shares = alpha[:, :, 2:]
    for t in reversed(range(steps_in_all)):
        if t + 1 < steps_in_all:
            beta[:, :-2] += emitted[t + 1]
            stay, skip = xp.where(stays, beta[:, :-2], NEVER), xp.where(skips_on, beta[:, 2:], NEVER)
            beta[:, :-2] = _log_of_sum(stay, beta[:, 1:-1], skip)
        beta[:, :-2] = xp.where((steps == t + 1)[:, None], ends, beta[:, :-2])
        shares[t] += beta[:, :-2]
    counts = (xp.arange(steps_in_all)[:, None] < steps) & exists
    shares -= xp.where(exists, log_p, 0)[:, None]
    shares = xp.where(counts[..., None], xp.exp(shares), 0)

    hot = (labels[..., None] == xp.arange(classes)).astype(logs.dtype)  # (N, L, C)
    of_labels = xp.ascontiguousarray(shares[..., 1::2].transpose(1, 0, 2))  # as a product takes it
    sums: Array = xp.matmul(of_labels, hot).transpose(1, 0, 2)
    sums[..., blank] += shares[..., ::2].sum(axis=2)
    return log_p, sums


def _log_of_sum(*logs: Array) -> Array:
    """log Σ exp of each place; the largest is subtracted first: nothing overflows, and log is of 1 or more."""
    xp = module_of(logs[0])
    largest = logs[0]
    for a in logs[1:]:
        largest = xp.maximum(largest, a)
    total = xp.zeros_like(largest)
    for a in logs:
        total += xp.exp(a - largest)
    found: Array = xp.log(total, out=total)
    found += largest
    return found


def spelled(classes: Array, steps: Array, blank: int, *, merges: bool = True) -> tuple[Array, Array]:
    """What paths spell: labels (N, T), then −1, and how many labels there are (N,). ``classes`` (T, N).

    Without ``merges`` equal neighbours are different labels.
    """
    xp = module_of(classes)
    says = (classes != blank) & (xp.arange(len(classes))[:, None] < steps)
    if merges:
        says[1:] &= classes[1:] != classes[:-1]
    place = xp.cumsum(says, axis=0) - 1
    labels = xp.full(classes.shape[::-1], -1, classes.dtype)
    t, n = xp.nonzero(says)
    labels[n, place[t, n]] = classes[t, n]
    return labels, says.sum(axis=0)


def edit_distances(a: Integers, lengths_a: Integers, b: Integers, lengths_b: Integers) -> Integers:
    """The fewest labels to insert, delete or change to make b (N, M) of a (N, L), for each of N pairs; on the host.

    Row i of the table has the distances of a's first i labels to b's first j, for all j at once (Wagner and Fischer
    1974): insertions are a running minimum of distance − j.
    """
    places = np.arange(b.shape[1] + 1)
    row = np.broadcast_to(places, (len(b), len(places))).copy()
    for i, label in enumerate(a.T):
        new = row + 1
        new[:, 1:] = np.minimum(new[:, 1:], row[:, :-1] + (b != label[:, None]))
        new = np.minimum.accumulate(new - places, axis=1) + places
        row = np.where((i < lengths_a)[:, None], new, row)
    distances: Integers = row[np.arange(len(b)), lengths_b]
    return distances
