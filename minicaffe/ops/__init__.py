"""Array kernels. They know arrays and shapes, not layers: NumPy and CUDA versions of one op in one file."""
