"""How large a step is beside what it changes: ‖w‖, ‖g‖ and ‖Δw‖ of each parameter (``train --log-norms``).

‖Δw‖ / ‖w‖ is usually about 1/1000; at 1/10 a training jumps, at 1/100,000 it sleeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minicaffe.core.learnable_param import LearnableParam
from minicaffe.device.array import Array, module_of, to_host


class StepNorms:
    """The norms of one update. It is made before the update, for that overwrites the gradients.

    ``batches``: n, the passes whose gradients were added up; ‖g‖ is that of their mean, before clipping and decay.
    """

    def __init__(self, params: Sequence[LearnableParam], batches: int) -> None:
        self._params = params
        self._gradients = _norms([param.blob.stored_diff for param in params])
        self._batches = batches

    def after_update(self) -> dict[str, list[float | None]]:
        """‖w‖, ‖g‖ and ‖Δw‖ by parameter, w being the new one; None for what is not finite. Waits for the device.

        They have six digits.
        """
        weights = _norms([param.blob.stored for param in self._params])
        updates = _norms([param.blob.stored_diff for param in self._params])  # where the update leaves them
        columns = [[float(x) for x in to_host(array)] for array in (weights, self._gradients, updates)]
        columns[1] = [norm / self._batches for norm in columns[1]]
        return {
            param.key: [float(f"{norm:.6g}") if math.isfinite(norm) else None for norm in norms]
            for param, *norms in zip(self._params, *columns, strict=True)
        }


def _norms(arrays: Sequence[Array]) -> Array:
    """The Euclidean norm of each array, on the arrays' device."""
    xp = module_of(arrays[0])
    norms: Array = xp.sqrt(xp.stack([xp.vdot(x, x) for x in arrays]))
    return norms
