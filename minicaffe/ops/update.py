"""One update of one parameter: the gradient is clipped, averaged and regularized, then the solver's rule applied.

    g ← clip · g / n + decay · w        (L1: decay · sign(w))
    g ← rule(g)
    w ← w − g

All in one pass: by chunks that stay in the cache on a CPU, by one kernel on a GPU. That kernel's source is put
together here, since a part of it is the rule's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol

from minicaffe.device.array import Array, module_of, on_cpu
from minicaffe.device.kernel import Kernel
from minicaffe.device.workers import elementwise, scratch


class Rule(Protocol):
    """What a step needs of an update rule: see ``train/solvers/rule.py``."""

    histories: ClassVar[int]
    cuda: ClassVar[str]

    def update(self, g: Array, history: tuple[Array, ...], rate: float, iteration: int) -> None:
        """Overwrite g with the update."""

    def constants(self, iteration: int) -> dict[str, float]:
        """The numbers that ``cuda`` refers to by name."""


@dataclass(frozen=True)
class UpdateStep:
    """What is the same for all elements of a parameter in one iteration.

    ``clip``: a 0-d array, or None; ``batches``: n, the passes whose gradients were added up.
    """

    rate: float
    iteration: int
    decay: float = 0.0
    is_l1: bool = False
    batches: int = 1
    clip: Array | None = None


def update(rule: Rule, w: Array, g: Array, history: tuple[Array, ...], step: UpdateStep) -> None:
    """Take a step: overwrite w with the new parameter and g with its update."""
    if on_cpu(w) or not rule.cuda:
        elementwise(lambda w, g, *history: _step(rule, w, g, history, step), w, g, *history)
        return
    constants = rule.constants(step.iteration)
    kernel = kernel_of(type(rule).__name__, rule.cuda, rule.histories, tuple(constants))
    clip = w if step.clip is None else step.clip  # the kernel needs some array
    kernel(
        w.size, w, g, *history, clip, int(step.clip is not None), 1 / step.batches, float(step.decay),
        int(step.is_l1), float(step.rate), *map(float, constants.values()),
    )  # fmt: skip


def _step(rule: Rule, w: Array, g: Array, history: tuple[Array, ...], step: UpdateStep) -> None:
    if step.clip is not None:
        g *= step.clip
    if step.batches > 1:
        g *= 1 / step.batches
    if step.decay:
        xp, term = module_of(w), scratch(w, w.shape)
        xp.multiply(xp.sign(w) if step.is_l1 else w, step.decay, out=term)
        g += term
    rule.update(g, history, step.rate, step.iteration)
    w -= g


@lru_cache(maxsize=64)
def kernel_of(name: str, cuda: str, histories: int, constants: tuple[str, ...]) -> Any:
    """The kernel of a rule: its ``cuda`` overwrites g with the update, and brings h and s up to date."""
    names = ("h", "s")[:histories]
    arrays = "".join(f", T* {x}_array" for x in names)
    numbers = "".join(f", T {x}" for x in constants)
    load = " ".join(f"T {x} = {x}_array[i];" for x in names)
    store = " ".join(f"{x}_array[i] = {x};" for x in names)
    return Kernel(f"update_{name}", f"""
KERNEL update_{name}(Index count, T* w_array, T* g_array{arrays}, const T* clip, Index clips, T average, T decay,
                     Index is_l1, T rate{numbers})
{{
    EACH(i) {{
        T w = w_array[i], g = g_array[i] * average;
        {load}
        if (clips) g *= clip[0];
        g += decay * (is_l1 ? (T)((w > 0) - (w < 0)) : w);
        {cuda}
        {store}
        g_array[i] = g;
        w_array[i] = w - g;
    }}
}}
""")  # fmt: skip
