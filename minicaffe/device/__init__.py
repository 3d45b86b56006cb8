"""Where numbers live and who computes: arrays of NumPy or CuPy, CUDA kernels, and workers on the cores."""
