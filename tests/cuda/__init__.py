"""CUDA kernels, compiled without a GPU and run on the CPU."""
