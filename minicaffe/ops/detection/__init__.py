"""Detection: boxes, their overlap, and how they are matched, mined, judged and scored.

``Array`` is an array of the host, since the number of boxes is not known beforehand. Only the boxes and overlaps of
YOLO's grids (``yolo.grid_boxes``, ``yolo_overlaps``) are computed where the net is, on a GPU too.
"""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # on the host
