"""Array computations: they know arrays and shapes, not layers. One op per file, for NumPy and CuPy alike."""
