"""Convolution and InnerProduct with weights, or data matrices, of low rank: what ``low_rank_param`` makes of them.

To be read in this order: ``param.py`` (what the spec says), ``layers.py`` (what forward and backward do),
``factors.py`` (where the two factors come from, and what becomes of their gradients), ``products.py`` (how they are
multiplied). Below these: ``schemes.py``, the ways in which a product of two stands for a convolution's weights;
``factorization.py``, plain matrices; ``data_basis.py``, data matrices. What chooses ranks for a whole net is in
``minicaffe/compress``.
"""
