"""Which pictures are trained on, and which are kept for validation: of each class the same share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from minicaffe.train.starter.folder import Picture


def split(pictures: Sequence[Picture], share: float) -> tuple[list[Picture], list[Picture]]:
    """Training and validation pictures: of each class ``share`` for validation, at least one.

    They are chosen by a hash of their names, so the same folder is always split alike, and most pictures stay
    on their side when others are added.
    """
    chosen: set[str] = set()
    for label in {picture.label for picture in pictures}:
        names = sorted((p.name for p in pictures if p.label == label), key=_hash)
        chosen.update(names[: max(1, round(share * len(names)))])
    return [p for p in pictures if p.name not in chosen], [p for p in pictures if p.name in chosen]


def _hash(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name.replace(os.sep, "/"))).digest()
