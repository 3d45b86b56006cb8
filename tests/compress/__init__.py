"""Choosing ranks, fitting factors, and folding layers into each other."""
