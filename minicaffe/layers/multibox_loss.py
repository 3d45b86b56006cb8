"""MultiBoxLoss: what a single-shot detector trains: where its boxes are, and what is in them.

    loss = (loc_weight · Σ f(d) + Σ ℓ) / n        the first sum over matches, the second over examples
    d = (locations − target) of a matched prior; f(d) = d² / 2 if |d| < 1, else |d| − 1 / 2 (for L2 always d² / 2)
    ℓ = −log softmax(confidences)[label], or Σ of the sigmoid's cross entropies with onehot(label) (LOGISTIC)
    ∂f = loss_weight · loc_weight · f′(d) / n        ∂ℓ = loss_weight · (p − onehot(label)) / n

Shapes, for P priors and K classes: locations (N, L · P · 4), where L is 1 or, with ``share_location: false``, K;
confidences (N, P · K); priors (1, 2, P · 4), as PriorBox makes them; boxes (1, 1, R, 8), as AnnotatedData makes
them. RefineDet's second detector takes two more: the first one's probabilities (N, P · 2) and its locations (N,
P · 4).

**Matches.** Priors are matched with the boxes (``ops/detection/multibox.py``); with ``use_prior_for_matching:
false`` the boxes that the locations predict are. The target is the box as an offset from the prior, as
``code_type`` says, divided by the prior's variances. With ``encode_variance_in_target`` the locations are
divided by them too, and so is their gradient, which SSD's Caffe forgets.

**Examples** are all priors if ``mining_type`` is NONE. Else they are, in each image that has boxes,

- MAX_NEGATIVE: the matched priors, and for each the ``neg_pos_ratio`` hardest of those that overlap every box by
  less than ``neg_overlap``;
- HARD_EXAMPLE: the ``sample_size`` hardest of all priors; other matches do not count.

Hard are those with a high ℓ, in HARD_EXAMPLE a high ℓ + Σ f(d) (``ops/detection/mining.py``). The label of a
prior without a match is the background; of LOGISTIC without mining it is no class.

n is the number of matches (VALID, the default), N · P (FULL), N (BATCH_SIZE) or 1 (NONE), and at least 1.

**RefineDet.** With a fifth bottom only priors whose second probability is ``objectness_score`` or more are
mined. With a sixth the priors are those that the first detector has moved.

Locations and confidences get gradients; the loss of one that has ``propagate_down: false`` is left out. The host
matches and mines: a GPU's losses are waited for. The MultiBoxLossLayer of SSD's Caffe (Liu et al. 2016, arXiv
1512.02325; weiliu89/caffe, branch ssd), and of RefineDet's (Zhang et al. 2018, arXiv 1711.06897;
sfzhang15/RefineDet).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicaffe.core.layer import Blobs, register_layer
from minicaffe.device.array import Array, to_host
from minicaffe.errors import DataError
from minicaffe.layers.detection_output import NonMaximumSuppressionParam
from minicaffe.layers.loss import LossLayer, LossParam
from minicaffe.layers.prior_boxes import count_of_priors, has_for_each
from minicaffe.ops.detection import Array as HostArray
from minicaffe.ops.detection import boxes
from minicaffe.ops.detection.ground_truth import ROW, GroundTruth, ground_truth
from minicaffe.ops.detection.matching import NONE
from minicaffe.ops.detection.multibox import MatchRules, MiningRules, match_images, mine
from minicaffe.ops.sigmoid import sigmoid, softplus
from minicaffe.ops.softmax import cross_entropy, cross_entropy_grad, softmax
from minicaffe.spec.fields import Bool, Enum, Float, Int, Message, Nested

logger = logging.getLogger("minicaffe")


class MultiBoxLossParam(Message):
    """``match_type``: BIPARTITE gives each box one prior, PER_PREDICTION all that overlap it enough too.

    ``background_label_id``: −1 (LOGISTIC only) for none. ``use_difficult_gt``: whether difficult boxes count.
    ``map_object_to_agnostic``: all labels become the one after the background's.
    ``ignore_cross_boundary_bbox``: priors that reach out of the image are neither matched nor mined.
    ``bp_inside``: of a prior only the sides in the image learn.
    ``nms_param``: no hard example overlaps a harder one by more than its ``nms_threshold``, as a prior with
    ``use_prior_for_nms``, else as the box that the locations predict.
    ``do_neg_mining`` is the old form of ``mining_type``; NVIDIA's ``ignore_difficult_gt`` has no effect, as there.
    """

    loc_loss_type = Enum("L2", "SMOOTH_L1", default="SMOOTH_L1")
    conf_loss_type = Enum("SOFTMAX", "LOGISTIC", default="SOFTMAX")
    loc_weight = Float(1.0)
    num_classes = Int(required=True, min=1)
    share_location = Bool(True)
    match_type = Enum("BIPARTITE", "PER_PREDICTION", default="PER_PREDICTION")
    overlap_threshold = Float(0.5)
    use_prior_for_matching = Bool(True)
    background_label_id = Int(0, min=-1)
    use_difficult_gt = Bool(True)
    do_neg_mining = Bool()
    neg_pos_ratio = Float(3.0, min=0)
    neg_overlap = Float(0.5)
    code_type = Enum(*boxes.ENCODERS, default="CORNER")
    encode_variance_in_target = Bool(False)
    map_object_to_agnostic = Bool(False)
    ignore_cross_boundary_bbox = Bool(False)
    bp_inside = Bool(False)
    mining_type = Enum("NONE", "MAX_NEGATIVE", "HARD_EXAMPLE", default="MAX_NEGATIVE")
    nms_param = Nested(NonMaximumSuppressionParam, optional=True)
    sample_size = Int(64, min=1)
    use_prior_for_nms = Bool(False)
    objectness_score = Float(0.01)
    ignore_difficult_gt = Bool(False)

    def check(self) -> None:
        if self.do_neg_mining is not None and self.do_neg_mining != self.mines:
            raise self.error(
                "do_neg_mining",
                f"contradicts mining_type {self.mining_type}; leave it out, or give mining_type: "
                + ("MAX_NEGATIVE" if self.do_neg_mining else "NONE"),
            )
        if self.mines and not self.share_location:
            raise self.error("share_location", "false needs mining_type: NONE")
        if self.conf_loss_type == "SOFTMAX" and not 0 <= self.background_label_id < self.num_classes:
            raise self.error(
                "background_label_id",
                f"{self.background_label_id}, but SOFTMAX needs a class, 0 to {self.num_classes - 1}",
            )
        classes = 2 if self.background_label_id >= 0 else 1
        if self.map_object_to_agnostic and self.num_classes != classes:
            raise self.error("num_classes", f"must be {classes} with map_object_to_agnostic")

    @property
    def mines(self) -> bool:
        """Whether examples are chosen."""
        return self.mining_type != "NONE"


@register_layer
class MultiBoxLoss(LossLayer):
    """The loss of SSD; with five or six bottoms, of RefineDet's second detector."""

    messages = {"multibox_loss_param": MultiBoxLossParam, "loss_param": LossParam}
    bottoms = (4, 6)

    def takes_gradient(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        nms = self.spec.message(MultiBoxLossParam).nms_param
        if nms is not None and not nms.has("top_k"):
            problem = "without a top_k nothing is mined, as in SSD's Caffe; add 'top_k: -1' to the nms_param"
            logger.warning("%s", nms.error("top_k", problem))

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.param = param = self.spec.message(MultiBoxLossParam)
        self.mode = self.spec.message(LossParam).mode()
        priors, truth = bottom[2].shape, bottom[3].shape
        self.prior_count = count_of_priors(self, priors)
        if not truth or truth[-1] != ROW or math.prod(truth[:-2]) != 1:
            raise self.shape_error(f"boxes have shape {truth}; expected (1, 1, R, 8), as AnnotatedData makes")
        self.images = bottom[0].num
        self.location_classes = 1 if param.share_location else param.num_classes
        each = [4 * self.location_classes, param.num_classes, 0, 0, 2, 4]
        for i, name in enumerate(self.spec.bottom):
            shape = bottom[i].shape
            if each[i] and not has_for_each(shape, self.images, self.prior_count * each[i]):
                raise self.shape_error(
                    f"bottom '{name}' has shape {shape}; expected {self.prior_count * each[i]} for each of "
                    f"{self.images} images, for {self.prior_count} priors and {param.num_classes} classes"
                )
        if len(bottom) > 5 and not param.share_location:
            raise param.error("share_location", "must be true with the locations of a first detector")
        asked = self.spec.propagate_down or [True, True]
        self.locates, self.classifies = asked[0], asked[1]
        self.p = self.new_array((param.num_classes, self.prior_count, self.images))

    # -- forward ---------------------------------------------------------------------------------------

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param
        self.truth = self._read_truth(bottom)
        self.prior_boxes, self.variances = to_host(bottom[2].data).reshape(2, self.prior_count, 4)
        moved = self._moved(bottom)
        matches, highest = self._match(bottom, moved)
        self._classify(bottom, matches)
        losses = self._confidence_losses(bottom)
        self.counts = None
        if param.mines:
            examples = self._mine(bottom, to_host(losses), matches, highest)
            self.counts = self.setting.device.put(examples, self.dtype)
            losses = losses * self.counts
        total = losses.sum() if self.classifies else 0
        self.matched, d, slope_per_location = self._distances(bottom, matches, moved)
        location_losses, slope = self._robust(d)
        self.slope = param.loc_weight * slope * slope_per_location
        if self.locates:
            total = total + param.loc_weight * location_losses.sum()
        sizes = {
            "FULL": self.images * self.prior_count,
            "VALID": len(d),
            "BATCH_SIZE": self.images,
            "NONE": 1,
        }
        self.divisor = max(1, sizes[self.mode])
        top[0].stored[...] = total / self.divisor

    def _read_truth(self, bottom: Blobs) -> GroundTruth:
        """The boxes that count."""
        param = self.param
        rows = to_host(bottom[3].data).reshape(-1, ROW)
        if not param.use_difficult_gt:
            rows = rows[rows[:, 7] == 0]
        if param.map_object_to_agnostic:
            rows = rows.copy()
            rows[rows[:, 1] != param.background_label_id, 1] = param.background_label_id + 1
        try:
            return ground_truth(rows[rows[:, 0] < self.images], param.num_classes, param.background_label_id)
        except DataError as error:
            raise DataError(f"{self.spec.where}: {error}; mend the data, or num_classes") from None

    # Where the boxes are

    def _locations(self, stored: Array) -> Array:
        """A stored array of locations or their gradient as (P, L, 4, N)."""
        return stored.reshape(self.prior_count, self.location_classes, 4, self.images)

    def _decoded(self, locations: HostArray, priors: HostArray, variances: HostArray) -> HostArray:
        """The boxes that locations (…, 4) of priors stand for."""
        given = None if self.param.encode_variance_in_target else variances
        return boxes.decode(self.param.code_type, locations, priors, given)

    def _predicted(self, bottom: Blobs, image: int, location_class: int = 0) -> HostArray:
        """The boxes (P, 4) that the locations predict for an image."""
        locations = to_host(self._locations(bottom[0].stored)[:, location_class, :, image])
        return self._decoded(locations, self.prior_boxes, self.variances)

    def _moved(self, bottom: Blobs) -> HostArray:
        """The priors (N, P, 4) of each image, which the first detector has moved if there is one."""
        shape = self.images, self.prior_count, 4
        if len(bottom) < 6:
            return np.broadcast_to(self.prior_boxes, shape)
        return self._decoded(to_host(bottom[5].data).reshape(shape), self.prior_boxes, self.variances)

    def _match(self, bottom: Blobs, moved: HostArray) -> tuple[HostArray, HostArray]:
        """Which box in ``truth`` each prior matches (N, L, P), and the highest overlap of each (N, L, P)."""
        param = self.param
        rules = MatchRules(
            threshold=param.overlap_threshold if param.match_type == "PER_PREDICTION" else None,
            ignore_outside=param.ignore_cross_boundary_bbox,
            by_class=not param.use_prior_for_matching and not param.share_location,
        )

        def candidates(image: int, location_class: int) -> HostArray:
            predicts = not param.use_prior_for_matching
            found: HostArray = self._predicted(bottom, image, location_class) if predicts else moved[image]
            return found

        shape = self.images, self.location_classes, self.prior_count
        return match_images(self.truth, candidates, shape, rules, self.dtype)

    def _distances(
        self, bottom: Blobs, matches: HostArray, moved: HostArray
    ) -> tuple[tuple[Any, ...], Array, Array]:
        """Of the M matches: the indices of their locations, d (M, 4), and how d changes with them (M, 4)."""
        param = self.param
        image, row, prior = np.nonzero(matches > NONE)
        near, variances = moved[image, prior], self.variances[prior]
        if not (variances > 0).all():
            raise DataError(f"{self.spec.where}: variances of priors must be above 0, as PriorBox has them")
        target = self._encoded(self.truth.boxes[matches[image, row, prior]], near) / variances
        put = self.setting.device.put
        matched: tuple[Any, ...] = (put(prior), put(row), slice(None), put(image))
        x = self._locations(bottom[0].stored)[matched]
        per_location = 1 / variances if param.encode_variance_in_target else np.ones_like(variances)
        if param.bp_inside:
            box = near if param.use_prior_for_matching else self._decoded(to_host(x), near, variances)
            per_location = per_location * ((box >= 0) & (box <= 1))
            target = target * (per_location > 0)
        scale = put(per_location, self.dtype)
        return matched, x * scale - put(target, self.dtype), scale

    def _encoded(self, found: HostArray, priors: HostArray) -> HostArray:
        if self.param.code_type != "CORNER" and not (priors[:, 2:] > priors[:, :2]).all():
            raise DataError(f"{self.spec.where}: a matched prior has no area; mend the priors")
        return boxes.ENCODERS[self.param.code_type](found, priors)

    def _robust(self, d: Array) -> tuple[Array, Array]:
        """f(d) and f′(d)."""
        if self.param.loc_loss_type == "L2":
            return d * d / 2, d
        xp, size = self.xp, abs(d)
        return xp.where(size < 1, d * d / 2, size - 0.5), xp.clip(d, -1, 1)

    # What is in them

    def _confidences(self, stored: Array) -> Array:
        """A stored array of confidences or their gradient as (K, P, N)."""
        moved: Array = self.xp.moveaxis(
            stored.reshape(self.prior_count, self.param.num_classes, self.images), 1, 0
        )
        return moved

    def _classify(self, bottom: Blobs, matches: HostArray) -> None:
        """Compute p (K, P, N), and the labels (P, N) or the targets (K, P, N) that it should have."""
        x, background = self._confidences(bottom[1].stored), self.param.background_label_id
        image, row, prior = np.nonzero(matches > NONE)
        matched = self.truth.labels[matches[image, row, prior]]
        if self.param.conf_loss_type == "SOFTMAX":
            softmax(x, out=self.p)
            labels = np.full((self.prior_count, self.images), background)
            labels[prior, image] = matched  # of several classes the last
            self.labels = self.setting.device.put(labels)
            return
        sigmoid(x, self.p)
        targets = np.zeros(self.p.shape, bool)
        if self.param.mines and 0 <= background < len(targets):
            targets[background] = ~(matches > NONE).any(axis=1).T
        targets[matched, prior, image] = True
        self.targets = self.setting.device.put(targets, self.dtype)

    def _confidence_losses(self, bottom: Blobs) -> Array:
        """ℓ of each prior (P, N)."""
        if self.param.conf_loss_type == "SOFTMAX":
            return cross_entropy(self.p, self.labels)
        x, losses = self._confidences(bottom[1].stored), self.new_array(self.p.shape)
        softplus(x, losses)
        losses -= x * self.targets
        of_priors: Array = losses.sum(axis=0)
        return of_priors

    def _mine(self, bottom: Blobs, losses: HostArray, matches: HostArray, highest: HostArray) -> HostArray:
        """Which priors (P, N) are examples; HARD_EXAMPLE takes other matches back."""
        param, nms = self.param, self.param.nms_param
        is_negative = param.mining_type == "MAX_NEGATIVE"
        rules = MiningRules(
            negatives_per_match=param.neg_pos_ratio if is_negative else None,
            neg_overlap=param.neg_overlap,
            most=param.sample_size,
            threshold=nms.nms_threshold if nms else None,
            top_k=nms.top_k if nms and nms.has("top_k") else 0,
        )
        losses = losses.T if is_negative else losses.T + self._location_losses(bottom, matches)
        is_object = None
        if len(bottom) > 4:
            objectness = to_host(bottom[4].data).reshape(self.images, self.prior_count, 2)[..., 1]
            is_object = objectness >= param.objectness_score

        def candidates(image: int) -> HostArray:
            return self.prior_boxes if param.use_prior_for_nms else self._predicted(bottom, image)

        images = np.unique(self.truth.images)
        return mine(rules, images, losses, matches[:, 0], highest[:, 0], is_object, candidates).T

    def _location_losses(self, bottom: Blobs, matches: HostArray) -> HostArray:
        """Σ f(d) of each prior (N, P), which no first detector moves here; 0 where it is not matched."""
        unmoved = np.broadcast_to(self.prior_boxes, (self.images, self.prior_count, 4))
        _, d, _ = self._distances(bottom, matches, unmoved)
        losses = np.zeros(matches[:, 0].shape, self.dtype)
        losses[matches[:, 0] > NONE] = to_host(self._robust(d)[0]).sum(axis=1)
        return losses

    # -- backward --------------------------------------------------------------------------------------

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        scale = top[0].stored_diff / self.divisor
        if propagate_down[0]:
            gradient = bottom[0].stored_diff
            gradient.fill(0)
            self._locations(gradient)[self.matched] = self.slope * scale
        if propagate_down[1]:
            dx = self._confidences(bottom[1].stored_diff)
            if self.param.conf_loss_type == "SOFTMAX":
                cross_entropy_grad(self.p, self.labels, out=dx)
            else:
                self.xp.subtract(self.p, self.targets, out=dx)
            if self.counts is not None:
                dx *= self.counts
            dx *= scale
