"""Where arrays are and what computes: NumPy or CuPy arrays, CUDA kernels, and workers on the CPU's cores."""
