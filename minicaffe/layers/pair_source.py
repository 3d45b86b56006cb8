"""What data layers have in common that read pairs of an image and a map of labels, from a list."""

from __future__ import annotations

import numpy as np

from minicaffe.data.order import Order
from minicaffe.data.pairs import PairBatches, PairTransformer
from minicaffe.data.prefetch import slots_for
from minicaffe.data.sources.image_list import ImageList, ImageListSource
from minicaffe.layers.batch_source import BatchSourceLayer
from minicaffe.layers.missing_data import Sizes
from minicaffe.spec.fields import Bool, Int, Message, String
from minicaffe.spec.net import LayerSpec

Size = tuple[int, int]


class PairListParam(Message):
    """``source``: a list with lines "image label_image"; ``root_folder`` goes before both paths."""

    source = String(required=True)
    batch_size = Int(1, min=1)
    rand_skip = Int(0, min=0)
    shuffle = Bool(False)
    new_height = Int(0, min=0)
    new_width = Int(0, min=0)
    is_color = Bool(True)
    root_folder = String("")

    def check(self) -> None:
        self.check_pair("new")

    def check_pair(self, name: str) -> None:
        """Raise SpecError unless a height and a width are given together."""
        height, width = getattr(self, f"{name}_height"), getattr(self, f"{name}_width")
        if bool(height) != bool(width):
            missing = f"{name}_width" if height else f"{name}_height"
            raise self.error(missing, f"{name}_height and {name}_width must be given together; give both")

    @property
    def new_size(self) -> Size | None:
        """(height, width) to which images are resized."""
        return (self.new_height, self.new_width) if self.new_height else None


class PairLayer(BatchSourceLayer):
    """A data layer whose second top has a label for each pixel of its first."""

    tops = (2, 2)

    def pair_batches(
        self,
        images: ImageList,
        maps: ImageListSource | np.ndarray,
        transformer: PairTransformer,
        batches: type[PairBatches] = PairBatches,
    ) -> PairBatches:
        """The batches of listed images, and of their ``maps``. Raises DataError."""
        param = self.spec.message(PairListParam)
        source = ImageListSource(images, param.is_color, param.new_size)
        source.one_size = f"give new_height and new_width in {self._message_name()}"
        order = Order(len(source), param.batch_size, self.seed, param.shuffle, param.rand_skip)
        return batches(source, maps, transformer, order, slots_for(self.depth))

    def listed(self) -> tuple[str, str, str]:
        """Where ``data/sources/image_pairs.py`` finds the list and what it lists."""
        param = self.spec.message(PairListParam)
        return param.source, self.setting.folder, param.root_folder

    def _message_name(self) -> str:
        return next(name for name in self.messages if name != "transform_param")

    def sizes_read(self) -> Sizes:
        param = self.spec.message(PairListParam)
        return 3 if param.is_color else 1, param.new_height or None, param.new_width or None

    @classmethod
    def shapes_beside(cls, spec: LayerSpec, first: tuple[int, ...], folder: str) -> list[tuple[int, ...]]:
        if len(first) != 4:
            return []
        count, _, height, width = first
        return [(count, 1, height, width)]
