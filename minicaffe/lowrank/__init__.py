"""Low rank: factorizations, the schemes by which they stand for a convolution's weights, and how a rank is given.

Plain matrices come in and go out; layers that use them are in ``layers/low_rank``, and what chooses ranks for a
whole net is in ``compress``.
"""
