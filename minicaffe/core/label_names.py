"""What the labels of a net stand for: of images in a folder for each class, label k is the class number k.

Classes are numbered as in training, so that a folder of test images that lacks a class does not shift the others.
What training had is known from the net that trains, or from the weights (``trained``); otherwise from the same
spec's layers in phase TRAIN (``training_layers``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minicaffe.spec.net import LayerSpec


@dataclass
class LabelNames:
    """The names of the classes, label 0 first, by the top that has the labels."""

    trained: Sequence[str] = ()
    training_layers: Sequence[LayerSpec] = ()
    of_top: dict[str, list[str]] = field(default_factory=dict)

    def get(self, top: str) -> list[str]:
        """The names for the labels in a top; [] if it has none that are known."""
        return self.of_top.get(top, [])

    def first(self) -> list[str]:
        """The names for the first labels of the net that have some; [] if there are none."""
        return next(iter(self.of_top.values()), [])
