"""Wrong answers to the exercises of the course, of the kind that students give: the exercise must refuse them.

The key is the page and which of its blocks of ``python exercise`` it is, from 1 on. Each line takes the place of
one ``raise NotImplementedError(…)`` of the block, in order. Exercises without that begin with a wrong answer.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tests.docs.pages import Block, blocks_of

WRONG_ANSWERS = {
    ("inside", 1): [
        "return filters.mean(axis=2).std(axis=1) / filters.mean(axis=1).std(axis=1)"
    ],  # the other axis
    ("im2col", 1): ["return (size - k) // stride + 1"],  # no padding
    ("im2col", 2): ["return np.full(shape, float(k * k))"],  # no border
    ("rank", 1): ["values = np.linalg.svd(matrix)[1]; return values[:r].sum() / values.sum()"],  # no squares
    ("rank", 2): ["return M * K // (M + K)"],  # as dear, not cheaper
    ("backward", 1): ["return z - t"],  # no mean
    ("layer", 1): [
        "beta = self.spec.message(BetaParam).beta; x = bottom[0].data; self.s = 1 / (1 + np.exp(-beta * x)); "
        "top[0].data[...] = x * self.s",
        "bottom[0].diff[...] = top[0].diff * (self.s + top[0].data * (1 - self.s))",  # no β
    ],
    ("layer", 3): ["bottom[0].diff[...] = np.tanh(bottom[0].data - bottom[1].data)"],  # no mean
    ("surgery", 1): ["w.data[0], b.data[0] = 1, 0"],  # the sum
    ("surgery", 2): ["return wide.forward(data=scene)['prob'][0].max(axis=(1, 2)).argmax(), 0"],  # a class
    ("lab", 1): ["return x.reshape(len(x), -1)[:, :64].repeat(k * k, axis=0)"],  # no windows
}
TO_DO = re.compile(r"raise NotImplementedError\(.*\)")


def number_of(block: Block) -> int:
    """Which of its page's exercises a block is, from 1 on."""
    return [other for other in blocks_of(block.page) if other.is_exercise].index(block) + 1


def with_wrong_answer(block: Block) -> Block | None:
    """An exercise, completed wrongly, or None if none is known."""
    answers = WRONG_ANSWERS.get((block.page.stem, number_of(block)))
    if answers is None:
        return None
    lines = iter(answers)
    return replace(block, text=TO_DO.sub(lambda _: next(lines), block.text))
