"""The repository itself: the source archive and the benchmarks."""
