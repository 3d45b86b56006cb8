"""ShuffleChannel: the channels of each group dealt out over all groups, so that grouped convolutions mix.

    y[j · g + i] = x[i · c + j]        dx[i · c + j] = dy[j · g + i]

Shapes: x, y (N, C, …), stored (C, …, N), with C = g · c for g groups.

ShuffleNet (Zhang et al. 2017, arXiv 1707.01083); a layer of Caffe's forks (farmingyard/ShuffleNet).
"""

from __future__ import annotations

from collections.abc import Sequence

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.spec.fields import Int, Message


class ShuffleChannelParam(Message):
    """``group``: the number of groups, g."""

    group = Int(1, min=1)


@register_layer
class ShuffleChannel(Layer):
    """Transposes the channels, seen as (groups, channels per group)."""

    messages = {"shuffle_channel_param": ShuffleChannelParam}

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param, shape = self.spec.message(ShuffleChannelParam), bottom[0].shape
        if len(shape) < 2:
            raise self.shape_error(f"bottom has shape {shape}; expected a batch with channels (N, C, …)")
        if shape[1] % param.group:
            raise param.error("group", f"{param.group} does not divide the bottom's {shape[1]} channels")
        top[0].reshape(*shape)
        self.grouped = (param.group, shape[1] // param.group, -1)
        self.dealt = (shape[1] // param.group, param.group, -1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = bottom[0].stored.reshape(self.grouped), top[0].stored.reshape(self.dealt)
        y[...] = x.swapaxes(0, 1)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            dy, dx = top[0].stored_diff.reshape(self.dealt), bottom[0].stored_diff.reshape(self.grouped)
            dx[...] = dy.swapaxes(0, 1)
