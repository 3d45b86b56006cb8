"""WindowData: windows cut out of images and resized: batches of objects and background, to train R-CNN on.

Shapes: the tops are the windows (N, 3, s, s), with s = ``crop_size`` of transform_param, in Caffe's channel order
(blue, green, red), and their classes (N,), 0 for background. The N windows are drawn at random; the last
``fg_fraction`` · N are foreground.

With ``crop_mode`` warp the window is resized to a square, with square the square around it is cut out. With
``context_pad`` that many output pixels on each side show the surroundings of the window. Beyond the image's border
pixels are 0, after subtracting the mean. The format of the window file is in ``data/windows.py``.

R-CNN: Girshick et al. 2014 (arXiv 1311.2524). Caffe's WindowDataLayer.
"""

from __future__ import annotations

import numpy as np

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.data.mean import load_mean
from minicaffe.data.prefetch import slots_for
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.data.transformer import TransformParam
from minicaffe.data.windows import Cropping, WindowBatches, read_windows
from minicaffe.layers.batch_source import BatchSourceLayer
from minicaffe.layers.missing_data import Sizes
from minicaffe.spec.fields import Bool, Float, Int, Message, String


class WindowDataParam(Message):
    """``source``: the window file. ``cache_images``: keep the image files in memory, undecoded."""

    source = String(required=True)
    scale = Float(1.0)
    batch_size = Int(required=True, min=1)
    fg_threshold = Float(0.5)
    bg_threshold = Float(0.5)
    fg_fraction = Float(0.25, min=0, max=1)
    context_pad = Int(0, min=0)
    crop_mode = String("warp")
    cache_images = Bool(False)
    root_folder = String("")

    def check(self) -> None:
        if self.crop_mode not in ("warp", "square"):
            raise self.error("crop_mode", f"expected warp or square, got '{self.crop_mode}'")


@register_layer
class WindowData(BatchSourceLayer):
    """Reads the windows that ``window_data_param.source`` lists."""

    messages = {"window_data_param": WindowDataParam, "transform_param": TransformParam}
    tops = (2, 2)

    def make_batches(self, top: Blobs) -> WindowBatches:
        param, transform = self.spec.message(WindowDataParam), self.spec.message(TransformParam)
        transform.check_without_resizing()
        if not transform.crop_size:
            raise transform.error(
                "crop_size", "required, but not given: the size of the windows; add 'crop_size: …'"
            )
        if 2 * param.context_pad >= transform.crop_size:
            raise param.error(
                "context_pad",
                f"{param.context_pad} on each side leaves nothing of crop_size {transform.crop_size}",
            )
        windows = read_windows(
            param.source, self.setting.folder, param.root_folder, param.fg_threshold, param.bg_threshold
        )
        cropping = Cropping(transform.crop_size, param.context_pad, param.crop_mode == "square")
        return WindowBatches(
            windows,
            cropping,
            param.batch_size,
            param.fg_fraction,
            self.seed,
            slots_for(self.depth),
            transform.mirror,
            self._mean(transform),
            param.scale * transform.scale,
            param.cache_images,
        )

    def sizes_read(self) -> Sizes:
        return 3, None, None

    def _mean(self, transform: TransformParam) -> np.ndarray | None:
        """The middle of the mean image (3, s, s), the mean values (3, 1, 1), or None. Raises SpecError."""
        size, values = transform.crop_size, transform.mean_value
        if transform.mean_file:
            mean = load_mean(find_path(transform.mean_file, lookup_folders(self.setting.folder), "mean file"))
            first = (mean.shape[2] - size) // 2  # for the rows too, as in Caffe
            mean = mean[:, first : first + size, first : first + size] if first >= 0 else mean
            if mean.shape != (3, size, size):
                raise transform.error(
                    "mean_file", f"its shape {mean.shape} has no middle of (3, {size}, {size})"
                )
            return mean
        if len(values) not in (0, 1, 3):
            raise transform.error("mean_value", f"{len(values)} values for 3 channels; give 1 or 3")
        return np.resize(np.array(values, np.float32), (3, 1, 1)) if values else None
