"""Layers of Caffe's forks, written so that every fork, and OpenCV, computes what is computed here."""

from __future__ import annotations

from minicaffe.caffe.exchange.plain_layers import CaffeLayer, PlainLayers, conversions
from minicaffe.caffe.formats.spec_tree import number, text
from minicaffe.caffe.formats.tree import Scalar
from minicaffe.layers.detection_output import DetectionOutputParam
from minicaffe.layers.prior_box import PriorBoxParam

LOWEST = -3.4028235e38  # of float32


@conversions.of("Axpy")
def axpy(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """a · x + b as a Scale of x by a, which has two axes there, and an Eltwise sum.

    OpenCV 4.14 computes something else for an Axpy.
    """
    (a, x, b), flat = plain.spec.bottom, []
    sent = plain.tree.pop("propagate_down")
    if len(export.net_with(plain).blobs[a].shape) > 2:
        name = export.unused(f"{plain.spec.name}_flat")
        flat = [plain.beside(name, "Flatten", [a], [name])]
        a = name
    name = export.unused(f"{plain.spec.name}_scaled")
    scale = plain.beside(name, "Scale", [x, a], [name], "phase")
    scale.tree.child("scale_param").set("axis", number(0))
    plain.tree.set("type", text("Eltwise"))
    plain.tree.fields["bottom"] = [text(name), text(b)]
    if sent:
        for layer in flat:
            layer.tree.fields["propagate_down"] = sent[:1]
        scale.tree.fields["propagate_down"] = [sent[1], sent[0]]
        plain.tree.fields["propagate_down"] = [Scalar("true"), sent[2]]
    return [*flat, scale, plain]


@conversions.of("PriorBox")
def prior_box(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """Whole pixels, to which sizes are cut here and in SSD's Caffe, not in OpenCV; a variance, which it wants."""
    param, fields = plain.spec.message(PriorBoxParam), plain.tree.child("prior_box_param").fields
    fields["min_size"] = [number(int(size)) for size in param.min_size]
    fields["max_size"] = [number(int(size)) for size in param.max_size]
    fields["variance"] = [number(value) for value in param.variance or [0.1]]
    plain.tree.child("prior_box_param").fields = {name: values for name, values in fields.items() if values}
    return [plain]


@conversions.of("DetectionOutput")
def detection_output(export: PlainLayers, plain: CaffeLayer) -> list[CaffeLayer]:
    """With thresholds for which OpenCV has other defaults, and as many detections kept as there can be.

    With -1, which means that, OpenCV has no room for any.
    """
    param, tree = plain.spec.message(DetectionOutputParam), plain.tree.child("detection_output_param")
    tree.child("nms_param").set("nms_threshold", number(param.nms_param.nms_threshold))
    if "confidence_threshold" not in tree.fields:  # OpenCV's default is 0
        tree.set("confidence_threshold", number(LOWEST))
    if param.keep_top_k < 0:
        priors = export.net_with(plain).blobs[plain.spec.bottom[2]].count // 8
        tree.set("keep_top_k", number(priors * param.num_classes))
    return [plain]
