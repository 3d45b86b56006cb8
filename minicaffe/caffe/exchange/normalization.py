"""Normalization for Caffe, where each GPU has the statistics of its own batch."""

from __future__ import annotations

from minicaffe.caffe.exchange.plain_layers import CaffeLayer, PlainLayers, conversions
from minicaffe.layers.batch_norm import BatchNormParam
from minicaffe.layers.bn import BNParam


@conversions.of("BatchNorm")
def batch_norm(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """BatchNorm without ``sync``."""
    return _without_sync(export, plain, "batch_norm_param", plain.spec.message(BatchNormParam).sync)


@conversions.of("BN")
def bn(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """BN without ``sync``."""
    return _without_sync(export, plain, "bn_param", plain.spec.message(BNParam).sync)


def _without_sync(export: PlainLayers, plain: CaffeLayer, name: str, is_lost: bool) -> list[CaffeLayer]:
    for param in plain.tree.trees(name):
        param.pop("sync")
    if is_lost:
        export.note(plain, "Caffe does not know sync: it is left out, and each GPU has statistics of its own")
    return [plain]
