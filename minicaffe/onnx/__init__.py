"""Nets as ONNX models.

What a layer becomes in ONNX is a function in the table ``graph.writers``; these modules fill it.
"""

from minicaffe.onnx import (
    convolution,
    detection,
    neurons,
    normalization,
    pooling,
    proposals,
    regions,
    shapes,
    sums,
    yolo,
)
