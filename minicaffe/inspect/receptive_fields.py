"""How much of the image each unit of a layer sees: its receptive field, from the windows on the way to it."""

from __future__ import annotations

from minicaffe.core.graph import Step
from minicaffe.core.net import Net
from minicaffe.layers.concat import Concat
from minicaffe.layers.convolution import Convolution
from minicaffe.layers.deconvolution import Deconvolution
from minicaffe.layers.lrn import LRN
from minicaffe.layers.neuron import Neuron
from minicaffe.layers.pooling import Pooling
from minicaffe.ops.convolution.geometry import ReceptiveField, Window

POINTWISE = {  # layers that keep every pixel in its place, besides Neurons
    "BN", "BatchNorm", "Bias", "Dropout", "Eltwise", "PReLU", "ReLU", "Scale", "ShuffleChannel", "Softmax", "Split",
}  # fmt: skip


def receptive_fields(net: Net) -> dict[str, ReceptiveField | None]:
    """The field of the first top of each layer, by the layer's name, on the images that the net begins with.

    None for layers that do not see the image through windows (all that come after an InnerProduct, for
    example), and where branches of different strides meet. Volumes and sequences have none.
    """
    by_blob: dict[int, ReceptiveField | None] = {}
    fields: dict[str, ReceptiveField | None] = {}
    for step in net.steps:
        field = _field_of(step, by_blob)
        by_blob.update((id(blob), field) for blob in step.top)
        fields[step.layer.name] = field
    return fields


def _field_of(step: Step, by_blob: dict[int, ReceptiveField | None]) -> ReceptiveField | None:
    layer, top = step.layer, step.top
    if not top or len(top[0].shape) != 4:
        return None
    if not step.bottom:
        return Window.receptive_field([])
    fields = [by_blob.get(id(blob)) for blob in step.bottom]
    first = fields[0]
    if first is None:
        return None
    if isinstance(layer, Pooling) or (
        isinstance(layer, Convolution) and not isinstance(layer, Deconvolution)
    ):
        return first.under(layer.window)
    if isinstance(layer, LRN):
        return first.under(_square(2 * layer.response.half + 1)) if 1 in layer.response.axes else first
    keeps_places = isinstance(layer, (Neuron, Concat)) or layer.type in POINTWISE
    if not keeps_places or any(blob.shape[2:] != top[0].shape[2:] for blob in step.bottom):
        return None
    for other in fields[1:]:
        first = first.joined(other) if first and other else None
    return first


def _square(side: int) -> Window:
    """A window of this odd side, that keeps the size of the image."""
    return Window((side, side), pad=(side // 2, side // 2))
