"""Layers of low rank: factorizations, schemes, ranks, training."""
