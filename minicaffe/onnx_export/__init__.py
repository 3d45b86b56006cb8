"""Nets as ONNX models. (Not named onnx, which is the library's name.)"""

from minicaffe.onnx_export import convolution, neurons, normalization, pooling, shapes, sums
