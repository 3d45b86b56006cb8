"""The interpolations that ``resize_param`` can name, by OpenCV's names without ``INTER_``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicaffe.data.resize import resize

INTERPOLATIONS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {"LINEAR": resize}
