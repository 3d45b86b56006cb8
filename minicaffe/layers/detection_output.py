"""DetectionOutput: a detector's predictions as a list of boxes: decoded, thresholded, and without duplicates.

Shapes, for P priors and K classes: locations (N, L · P · 4), where L is 1 or, with ``share_location: false``, K;
confidences (N, P · K); priors (1, 2, P · 4), as PriorBox makes them -> y (1, 1, D, 7), a row for each detection:

    image, label, confidence, x_min, y_min, x_max, y_max

Locations are multiplied by the priors' variances, unless ``variance_encoded_in_target``, and become boxes as
``code_type`` says. For each class except the background, at most ``top_k`` boxes with a confidence above
``confidence_threshold`` go through non-maximum suppression; of all classes together, at most ``keep_top_k``
remain. D is only known in forward. If nothing is found, y has one row of −1 for each image, with the image's
number.

RefineDet's second detector takes two more: the first one's probabilities (N, P · 2) and locations (N, P · 4). A
prior whose second probability is below ``objectness_score`` has a confidence of 1 in class 0 and of 0 in the
others, and locations are offsets from the boxes to which the first detector has moved the priors. A fourth
bottom of another size is SSD's: images to draw boxes on, which is not done here.

There is no gradient. It works on the host: on a GPU it waits for its bottoms. The DetectionOutputLayer of SSD's
Caffe (Liu et al. 2016, arXiv 1512.02325; weiliu89/caffe, branch ssd; ``clip`` is from OpenCV), and of RefineDet's
(Zhang et al. 2018, arXiv 1711.06897; sfzhang15/RefineDet).
"""

from __future__ import annotations

import logging
import math

import numpy as np

from minicaffe.core.layer import Blobs, Layer, register_layer
from minicaffe.data.annotated.label_map import names_in_file
from minicaffe.data.augmentation.resizing import ResizeParam
from minicaffe.device.array import to_host
from minicaffe.layers.prior_boxes import count_of_priors, has_for_each
from minicaffe.ops.detection import boxes
from minicaffe.ops.detection.detection_rows import rows_of_images
from minicaffe.spec.fields import Bool, Enum, Float, Int, Message, Nested, String

logger = logging.getLogger("minicaffe")


class NonMaximumSuppressionParam(Message):
    """``nms_threshold``: the largest overlap with a better box; ``eta``: see ``ops/detection/boxes.py``."""

    nms_threshold = Float(0.3, min=0)
    top_k = Int(-1, min=-1)
    eta = Float(1.0, above=0, max=1)


class SavedResizeParam(ResizeParam):
    """How the net's images were made. It is not used, so a size may be missing."""

    def check(self) -> None:
        return


class SaveOutputParam(Message):
    """Where SSD's Caffe writes results to files. Nothing is written here, and a warning says so.

    ``label_map_file`` names the labels where precisions are shown.
    """

    output_directory = String("")
    output_name_prefix = String("")
    output_format = String("")
    label_map_file = String("")
    name_size_file = String("")
    num_test_image = Int(0)
    resize_param = Nested(SavedResizeParam, optional=True)


class DetectionOutputParam(Message):
    """``background_label_id``: −1 for no background class. ``clip``: cut boxes off at the image's border, 0 and 1.

    ``variance_encoded_in_target``: locations are not multiplied by variances. ``objectness_score``: RefineDet's.
    """

    num_classes = Int(required=True, min=1)
    share_location = Bool(True)
    background_label_id = Int(0, min=-1)
    nms_param = Nested(NonMaximumSuppressionParam)
    save_output_param = Nested(SaveOutputParam)
    code_type = Enum(*boxes.DECODERS, default="CORNER")
    variance_encoded_in_target = Bool(False)
    keep_top_k = Int(-1, min=-1)
    confidence_threshold = Float(-math.inf)
    visualize = Bool(False)
    visualize_threshold = Float(0.6)
    save_file = String("")
    objectness_score = Float(0.01)
    clip = Bool(False)


@register_layer
class DetectionOutput(Layer):
    """The last layer of a detector."""

    messages = {"detection_output_param": DetectionOutputParam}
    bottoms = (3, 5)

    def names_of_labels(self) -> dict[int, str]:
        saved = self.spec.message(DetectionOutputParam).save_output_param
        return names_in_file(saved.label_map_file, self.setting.folder)

    def takes_gradient(self, bottom_index: int) -> bool:
        return False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.spec.message(DetectionOutputParam)
        for ignored, name, of in (
            (param.save_output_param.output_directory, "output_directory", param.save_output_param),
            (param.save_file, "save_file", param),
            (param.visualize, "visualize", param),
        ):
            if ignored:
                logger.warning("%s", of.error(name, "ignored: boxes are only in the top"))

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.param = param = self.spec.message(DetectionOutputParam)
        locations, confidences, priors = (blob.shape for blob in bottom[:3])
        self.prior_count = count_of_priors(self, priors)
        self.location_classes = 1 if param.share_location else param.num_classes
        for name, shape, each in (
            ("locations", locations, 4 * self.location_classes),
            ("confidences", confidences, param.num_classes),
        ):
            if not locations or not has_for_each(shape, locations[0], self.prior_count * each):
                raise self.shape_error(
                    f"{name} have shape {shape}; expected {self.prior_count * each} for each of {locations[:1]} "
                    f"images, for {self.prior_count} priors and {param.num_classes} classes"
                )
        first = [blob.shape for blob in bottom[3:]]
        self.has_objectness = bool(first) and has_for_each(first[0], locations[0], self.prior_count * 2)
        if len(first) > 1:
            if not self.has_objectness or not has_for_each(first[1], locations[0], self.prior_count * 4):
                raise self.shape_error(
                    f"bottoms of the first detector have shapes {first[0]} and {first[1]}; expected "
                    f"{(locations[0], self.prior_count * 2)} and {(locations[0], self.prior_count * 4)}"
                )
            if not param.share_location:
                raise param.error("share_location", "must be true with the locations of a first detector")
        top[0].reshape(1, 1, 1, 7)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        locations, confidences, priors = (to_host(blob.data) for blob in bottom[:3])
        images = len(locations)
        prior_boxes, variances = priors.reshape(2, 1, self.prior_count, 1, 4)
        if len(bottom) > 4:
            moved = to_host(bottom[4].data).reshape(images, self.prior_count, 1, 4)
            prior_boxes = self._decode(moved, prior_boxes, variances)
        decoded = self._decode(
            locations.reshape(images, self.prior_count, self.location_classes, 4), prior_boxes, variances
        )
        if self.param.clip:
            decoded = decoded.clip(0, 1)
        confidences = confidences.reshape(images, self.prior_count, self.param.num_classes)
        if self.has_objectness:
            objectness = to_host(bottom[3].data).reshape(images, self.prior_count, 2)[..., 1:]
            nothing = (np.arange(self.param.num_classes) == 0).astype(self.dtype)
            confidences = np.where(objectness < self.param.objectness_score, nothing, confidences)
        found = [self._detect(i, decoded[i], confidences[i]) for i in range(images)]
        rows = rows_of_images(found, images)
        top[0].reshape(1, 1, len(rows), 7)
        top[0].data[0, 0] = self.setting.device.put(rows, self.dtype)

    def _decode(self, locations: np.ndarray, prior_boxes: np.ndarray, variances: np.ndarray) -> np.ndarray:
        """Boxes (N, P, L, 4)."""
        given = None if self.param.variance_encoded_in_target else variances
        return boxes.decode(self.param.code_type, locations, prior_boxes, given)

    def _detect(self, image: int, decoded: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """The rows of one image, from its boxes (P, L, 4) and confidences (P, K): by label, the best first."""
        param = self.param
        rows = [np.empty((0, 7))]
        for label in range(param.num_classes):
            if label == param.background_label_id:
                continue
            scores = confidences[:, label]
            candidates = boxes.best_first(scores, param.confidence_threshold, param.nms_param.top_k)
            found = decoded[candidates, 0 if param.share_location else label]
            chosen = boxes.suppress(found, param.nms_param.nms_threshold, param.nms_param.eta)
            image_and_label = np.broadcast_to([image, label], (len(chosen), 2))
            rows.append(
                np.concatenate([image_and_label, scores[candidates[chosen], None], found[chosen]], axis=1)
            )
        all_rows = np.concatenate(rows)
        if 0 <= param.keep_top_k < len(all_rows):
            best = np.argsort(-all_rows[:, 2], kind="stable")[: param.keep_top_k]
            all_rows = all_rows[np.sort(best)]
        return all_rows
