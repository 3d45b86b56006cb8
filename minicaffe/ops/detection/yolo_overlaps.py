"""How much boxes (4, …) of centre, width and height overlap, in four ways, and the gradients that YOLO takes.

    IoU = I / U            intersection over union
    GIoU = IoU − (C − U) / C                        (Rezatofighi et al. 2019, arXiv 1902.09630)
    DIoU = IoU − (d² / D²)^0.6                      (Zheng et al. 2019, arXiv 1911.08287)
    CIoU = IoU − d² / D² − α · v,  v = 4/π² · (atan(w_t/h_t) − atan(w/h))²,  α = v / (1 − IoU + v + 1e-6)

C is the area of the smallest box around both, D its diagonal, d the distance of the centres. These are darknet's
(AlexeyAB/darknet), as eric612/MobileNet-YOLO has them, with its power of 0.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minicaffe.device.array import Array, module_of


def iou(a: Array, b: Array) -> Array:
    """Intersection over union; 0 if neither box has an area."""
    xp = module_of(a)
    common, union = _common_and_union(a, b)
    found: Array = common / xp.where(union > 0, union, 1)
    return found


def giou(a: Array, b: Array) -> Array:
    """IoU, less the share of the box around both that neither covers."""
    xp = module_of(a)
    _, union = _common_and_union(a, b)
    width, height = _around(a, b)
    area = width * height
    found: Array = iou(a, b) - xp.where(area > 0, (area - union) / xp.where(area > 0, area, 1), 0)
    return found


def diou(a: Array, b: Array) -> Array:
    """IoU, less a power of how far the centres are apart."""
    found: Array = iou(a, b) - _apart(a, b) ** 0.6
    return found


def ciou(a: Array, b: Array) -> Array:
    """IoU, less how far the centres, and the shapes, are apart; ``b`` is the truth."""
    ratios, overlap = _shapes_apart(a, b), iou(a, b)
    v = 4 / math.pi**2 * ratios**2
    found: Array = overlap - _apart(a, b) - v * v / (1 - overlap + v + 1e-6)
    return found


OVERLAPS: dict[str, Callable[[Array, Array], Array]] = {
    "IOU": iou,
    "GIOU": giou,
    "DIOU": diou,
    "CIOU": ciou,
}


def ascent(kind: str, boxes: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """In which direction (4, M) the overlap of M boxes with their truths grows: by x, y, width and height.

    These are darknet's numbers, not all of them derivatives: by width and height, those of IoU and GIoU are
    twice as large; the distance of the centres counts without the power; what D adds by x and y has the other
    sign; and v's lack a divisor of w² + h². I is the product of the sides of the intersection, which may be
    negative. Of boxes apart, only what the kind adds to IoU counts.
    """
    (x, y, width, height), (true_x, true_y, _, _) = boxes, truths
    low, high = (
        boxes[:2] - boxes[2:] / 2,
        boxes[:2] + boxes[2:] / 2,
    )  # edges (2, M): left and top, right and bottom
    true_low, true_high = truths[:2] - truths[2:] / 2, truths[:2] + truths[2:] / 2
    sides = np.minimum(high, true_high) - np.maximum(low, true_low)  # of the intersection
    common = sides[0] * sides[1]
    union = width * height + truths[2] * truths[3] - common
    around = np.maximum(high, true_high) - np.minimum(low, true_low)
    apart = (sides <= 0).any(axis=0)

    # derivatives by the edges (2, M): an area changes with an edge by the length of the other side
    area_by_high = boxes[2:][::-1]
    common_by_low = np.where(low > true_low, -sides[::-1], 0)
    common_by_high = np.where(high < true_high, sides[::-1], 0)
    union_by_low, union_by_high = -area_by_high - common_by_low, area_by_high - common_by_high
    safe = np.where(union > 0, union, 1)
    by_low = np.where(union > 0, (union * common_by_low - common * union_by_low) / safe**2, 0)
    by_high = np.where(union > 0, (union * common_by_high - common * union_by_high) / safe**2, 0)
    if kind == "GIOU":
        hull = around[0] * around[1]
        hull_by_low = np.where(low < true_low, -around[::-1], 0)
        hull_by_high = np.where(high > true_high, around[::-1], 0)
        more_by_low = (hull * union_by_low - union * hull_by_low) / hull**2
        more_by_high = (hull * union_by_high - union * hull_by_high) / hull**2
        by_low = np.where(apart, 0, by_low) + more_by_low
        by_high = np.where(apart, 0, by_high) + more_by_high
    found = np.concatenate([by_low + by_high, by_high - by_low])
    if kind in ("DIOU", "CIOU"):
        diagonal = (around**2).sum(axis=0)
        distance = (x - true_x) ** 2 + (y - true_y) ** 2
        sooner, later = low < true_low, high > true_high
        by_centre = 2 * around * (later.astype(x.dtype) - sooner)
        by_size = around * (later.astype(x.dtype) + sooner)
        towards = 2 * (truths[:2] - boxes[:2])
        more = np.concatenate([towards * diagonal - by_centre * distance, by_size * distance]) / diagonal**2
        if kind == "CIOU":
            ratios = _shapes_apart(boxes, truths)
            v = 4 / math.pi**2 * ratios**2
            weight = v / (1 - common / np.where(union == 0, 1, union) + v + 1e-6) * 8 / math.pi**2 * ratios
            more[2] += weight * height
            more[3] -= weight * width
        found = np.where(apart, 0, found) + more
    return found


def _common_and_union(a: Array, b: Array) -> tuple[Array, Array]:
    """The areas of intersection and union."""
    xp = module_of(a)
    width, height = (
        xp.minimum(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - xp.maximum(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (0, 1)
    )
    common = xp.where((width < 0) | (height < 0), 0, width * height)
    return common, a[2] * a[3] + b[2] * b[3] - common


def _around(a: Array, b: Array) -> tuple[Array, Array]:
    """Width and height of the smallest box around both."""
    xp = module_of(a)
    width, height = (
        xp.maximum(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - xp.minimum(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (0, 1)
    )
    return width, height


def _apart(a: Array, b: Array) -> Array:
    """d² / D²."""
    xp = module_of(a)
    width, height = _around(a, b)
    diagonal = width**2 + height**2
    found: Array = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / xp.where(diagonal > 0, diagonal, 1)
    return found


def _shapes_apart(a: Array, b: Array) -> Array:
    """atan of the ratio of b's sides, less that of a's."""
    xp = module_of(a)
    found: Array = xp.arctan(b[2] / b[3]) - xp.arctan(a[2] / a[3])
    return found
