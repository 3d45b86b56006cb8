"""Array kernels: they know arrays and shapes, not layers. One op a file, written for NumPy and CuPy alike."""
