"""CTCDecoder: the best class of each step, or the labels that these spell.

    y_n = spelled(argmax_c x_t(c)), or with ``decode: IN_PLACE`` y_n(t) = argmax_c x_t(c)

Shapes: scores x (N, C, T), of 3 or 4 axes, of which ``nct_axis`` says which are N and C; or with a second bottom
cont (T, N), 0 where a sequence begins and 1 where it goes on, x (T, N, C). y (N, T, 1, 1), −1 after the last label.

The class of blank is ``blank_index``, by default the last. Of equal scores the first class counts. What a path of
classes spells is in ``ops/ctc.py``. There is no gradient.

The CTCDecoderLayer of hzli-ucas/caffe. Its BEAM_SEARCH ends the program there at any ``beam_width``, and is
refused.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.device.array import to_host
from minicaffe.layers.ctc import check_cont, lengths_by_breaks, sizes_of
from minicaffe.layers.ctc_loss_by_axes import CTCParam, axes_of, blank_of
from minicaffe.ops.ctc import spelled


@register_layer
class CTCDecoder(Layer):
    """Text from scores."""

    messages = {"ctc_param": CTCParam}
    bottoms = (1, 2)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param = param = self.spec.message(CTCParam)
        if param.decode == "BEAM_SEARCH":
            raise param.error("decode", "BEAM_SEARCH is not there; give BEST_PATH")
        shape = bottom[0].shape
        if len(bottom) == 2:
            if param.nct_axis:
                raise param.error("nct_axis", "with cont, the scores are (steps, sequences, classes)")
            steps, batch, classes = sizes_of(self, bottom[0])
            self.axes = list(range(len(shape)))
            check_cont(self, bottom[1], steps, batch)
        else:
            self.axes = axes_of(self, bottom[0], param)
            steps, batch, classes = (shape[axis] for axis in self.axes[:3])
        self.sizes = steps, batch, classes
        self.blank = blank_of(self, param, classes)
        top[0].reshape(batch, steps, 1, 1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = to_host(bottom[0].data).transpose(self.axes).reshape(self.sizes)
        steps_in_all, batch, _ = self.sizes
        steps = np.full(batch, steps_in_all)
        if len(bottom) == 2:
            steps = lengths_by_breaks((to_host(bottom[1].data) != 0).astype(np.int64).reshape(-1, batch))
        best = x.argmax(axis=2)
        if self.param.decode == "IN_PLACE":
            found = np.where(np.arange(steps_in_all)[:, None] < steps, best, -1).T
        else:
            found, _ = spelled(best, steps, self.blank)
        top[0].data[...] = self.setting.device.put(found.astype(self.dtype).reshape(top[0].shape))
