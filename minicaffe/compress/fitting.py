"""Factors fitted to data: the Ŵ of rank r that minimises E‖y − Ŵ·x − b̂‖², given the moments of x and y.

``layer_fits`` is the door: it has the factors of a layer at any rank, and what each rank misses. The ways
themselves are in ``channel_fits.py`` and ``spatial_fits.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from minicaffe.compress.channel_fits import BasisFits, ChannelFits, DataFits
from minicaffe.compress.layer_fits import LayerFits
from minicaffe.compress.moments import Moments
from minicaffe.compress.spatial_fits import SpatialFits
from minicaffe.device import workers
from minicaffe.device.array import Array, on_cpu
from minicaffe.low_rank.schemes import ChannelScheme, Scheme

Name = TypeVar("Name")


def layer_fits(way: str, scheme: Scheme, seen: Moments, w: Array, bias: Array | None = None) -> LayerFits:
    """The fits of a layer in one way: CHANNEL, SPATIAL, or a basis of the data, DATA or BASIS.

    ``w`` (M, C/g, kh, kw) and ``bias`` are the dense layer's: what DATA keeps, and what the others stay near to.
    """
    if isinstance(scheme, ChannelScheme):
        if way == "DATA":
            return DataFits(scheme, seen, w, bias)
        return BasisFits(scheme, seen, w) if way == "BASIS" else ChannelFits(scheme, seen, w)
    return SpatialFits(scheme, seen, w)


def missed_at_all_ranks(fits: Mapping[Name, LayerFits]) -> dict[Name, np.ndarray]:
    """``missed`` of each. On a CPU each worker takes the next layer that none has, the largest matrices first."""
    found: dict[Name, np.ndarray] = {}
    names = iter(sorted(fits, key=lambda name: -fits[name].seen.x_mean.size))

    def find(worker: int) -> None:
        for name in names:
            found[name] = fits[name].missed()

    on_host = all(on_cpu(each.seen.x_mean) for each in fits.values())
    with workers.one_blas_thread():
        workers.run(find, workers.worker_count if on_host else 1)
    return {name: found[name] for name in fits}
