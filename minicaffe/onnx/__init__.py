"""Nets as ONNX models."""

from minicaffe.onnx import convolution, neurons, normalization, pooling, shapes, sums
