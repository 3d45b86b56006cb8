"""AnnotatedData: batches of images with boxes around the objects on them, from an LMDB of AnnotatedDatums.

Shapes: the tops are the images (N, C, h, w), after ``transform_param``, in Caffe's channel order (blue, green,
red), and, if there is a second top, the G boxes of the batch (1, 1, G, 8), a row for each:

    image, label, instance, x_min, y_min, x_max, y_max, difficult

with corners in units of the image's sides; one row of −1 where there are none. With ``yolo_data_type: 1`` the
second top is (N, 1, 300, 5), for each image 300 rows (label − 1, x, y, width, height) with the centre of a box, and
zeros where there are fewer. An LMDB without types of annotation has classes in their place, (N,). A third top has
the masks that MobileNet-YOLO's Caffe keeps beside its images, (N, K, h', w'), with 1 where a pixel is of a class.

``minicaffe data annotated`` writes such an LMDB. The AnnotatedDataLayer of SSD's Caffe (Liu et al. 2016,
arXiv 1512.02325; weiliu89/caffe, branch ssd), with the label for YOLO of eric612/MobileNet-YOLO.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.data.annotated.augmenting import Augmenting
from minicaffe.data.annotated.batches import AnnotatedBatches
from minicaffe.data.annotated.label_map import names_in_file, read_label_map
from minicaffe.data.annotated.labels import Labels, SsdLabels, YoloLabels
from minicaffe.data.annotated.masks import Masks
from minicaffe.data.annotated.source import AnnotatedSource
from minicaffe.data.augmentation.sampling import BatchSampler
from minicaffe.data.order import Order
from minicaffe.data.prefetch import slots_for
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.data.transformer import DataTransformer, TransformParam
from minicaffe.errors import DataError, MinicaffeError
from minicaffe.layers.batch_source import BatchSourceLayer
from minicaffe.layers.data import DataParam
from minicaffe.spec.fields import Bool, Enum, Float, Int, Message, Nested, String
from minicaffe.spec.net import LayerSpec

YOLO_JITTER = 0.3  # the default of MobileNet-YOLO's Caffe
TYPES = ("BBOX", "BBOXANDSEG")  # names are read in upper case; LANE, the third, has no boxes


class AnnotatedDataParam(Message):
    """SSD's AnnotatedDataParameter, and from ``yolo_data_type`` on the fields of MobileNet-YOLO's.

    ``anno_type`` replaces the type in the LMDB. ``label_map_file`` names the labels for people; no number depends
    on it. ``train_diffcult``: whether difficult boxes are in a label of YOLO. ``yolo_data_jitter`` is used where
    there is no ``batch_sampler``; by default it is 0.3 with a label of YOLO, and 0 else, as in SSD's Caffe. From
    ``single_class`` on, fields are for masks, which have the size of the images divided by ``seg_scales``.
    """

    batch_sampler = Nested(BatchSampler, repeated=True)
    label_map_file = String("")
    anno_type = Enum(*TYPES)
    yolo_data_type = Int(0, min=0, max=1)
    yolo_data_jitter = Float(min=0, below=1)
    train_diffcult = Bool(True)
    single_class = Bool(True)
    seg_scales = Int(8, min=1)
    seg_resize_width = Int(0, min=0)
    seg_resize_height = Int(0, min=0)
    difficult_label_warmup = Bool(False)

    def check(self) -> None:
        if self.difficult_label_warmup and self.yolo_data_type and self.train_diffcult:
            raise self.error(
                "difficult_label_warmup",
                "the data do not know how far training is; first train with 'train_diffcult: false'",
            )

    @property
    def jitter(self) -> float:
        """How much smaller a part of an image may be, where no sampler draws it."""
        if self.yolo_data_jitter is None:
            return YOLO_JITTER if self.yolo_data_type else 0.0
        return self.yolo_data_jitter

    def labels(self) -> Labels:
        """How boxes become a label."""
        return YoloLabels(self.train_diffcult) if self.yolo_data_type else SsdLabels()

    def masks(self, folder: str) -> Masks:
        """How masks become planes; ``folder`` is that of the spec. Raises DataError without its label map."""
        classes: list[int] = []
        if not self.single_class:
            path = find_path(self.label_map_file, lookup_folders(folder), "label map")
            classes = [item.label_id for item in read_label_map(path).items]
            if not any(classes):
                raise self.error("label_map_file", "no item has a label_id, the class in a mask; add them")
        size = (self.seg_resize_height, self.seg_resize_width)
        return Masks(classes, self.seg_scales, size if all(size) else None)


@register_layer
class AnnotatedData(BatchSourceLayer):
    """Reads ``data_param.source`` in consecutive batches that run on from one epoch into the next."""

    messages = {
        "data_param": DataParam,
        "transform_param": TransformParam,
        "annotated_data_param": AnnotatedDataParam,
    }
    tops = (1, 3)

    def make_batches(self, top: Blobs) -> AnnotatedBatches:
        param, annotated = self.spec.message(DataParam), self.spec.message(AnnotatedDataParam)
        transform = self.spec.message(TransformParam)
        self._check(param, transform)
        self.depth = param.prefetch
        masks = None
        if len(top) > 2:
            self._check_masks(transform)
            masks = annotated.masks(self.setting.folder)
        path = find_path(param.source, lookup_folders(self.setting.folder))
        source = AnnotatedSource(Path(path), transform.color)
        try:
            order = Order(len(source), param.batch_size, self.seed, param.shuffle, param.rand_skip)
            transformer = DataTransformer(transform, self.phase, self.setting.folder)
            kind = None if annotated.anno_type is None else TYPES.index(annotated.anno_type)
            labels = annotated.labels() if len(top) > 1 else None
            augmenting = Augmenting(transform, annotated.batch_sampler, annotated.jitter)
            return AnnotatedBatches(
                source, augmenting, transformer, order, labels, kind, slots_for(self.depth), masks
            )
        except MinicaffeError:
            source.close()
            raise

    def names_of_labels(self) -> dict[int, str]:
        return names_in_file(self.spec.message(AnnotatedDataParam).label_map_file, self.setting.folder)

    @classmethod
    def shapes_beside(cls, spec: LayerSpec, first: tuple[int, ...], folder: str) -> list[tuple[int, ...]]:
        if len(first) != 4:
            return []
        param = spec.message(AnnotatedDataParam)
        shapes = [param.labels().shape(first[0], 1)]
        if len(spec.top) > 2:
            with suppress(DataError):  # the label map is missing too, which says how many planes there are
                shapes.append((first[0], *param.masks(folder).shape(first[1:])))
        return shapes

    def _check_masks(self, transform: TransformParam) -> None:
        if transform.expand_param or transform.crop or transform.pad:
            raise self.spec.error(
                "top", "masks are not expanded, cropped or padded with images; keep two tops"
            )
        if any(way.resize_mode != "WARP" for way in transform.resize_param):
            raise self.spec.error("top", "masks are resized as WARP does; keep two tops, or that resize_mode")

    def _check(self, param: DataParam, transform: TransformParam) -> None:
        if param.backend not in (None, "LMDB"):
            raise DataError(f"{param.source}: backend {param.backend}; AnnotatedData reads an LMDB")
        ways = transform.resize_param
        if param.batch_size > 1 and any(way.resize_mode == "FIT_SMALL_SIZE" for way in ways):
            raise param.error(
                "batch_size", "must be 1 with resize_mode FIT_SMALL_SIZE, after which sizes differ"
            )
        if len(ways) > 1 and abs(sum(way.prob for way in ways) - 1) > 0.01:
            raise transform.error("resize_param", "the values of prob of all of them must add up to 1")
