"""Convolution as one GEMM over the data matrix: the products in blocks, and the cases that have faster ways."""
