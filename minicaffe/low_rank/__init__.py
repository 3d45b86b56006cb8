"""Convolution and InnerProduct with weights, or data matrices, of low rank: what ``low_rank_param`` makes of them.

``param.py`` says how a rank is given; ``factorization.py`` and ``truncation.py`` factorize plain matrices;
``schemes.py`` are the ways in which a product of two stands for a convolution's weights, and ``products.py``
multiplies with them. The layers: ``low_rank.py`` multiplies with two factors; where the factors come from is in
``factored_weights.py``, ``truncated_weights.py`` and ``held_basis.py``. What chooses ranks for a whole net is in
``minicaffe/compress``.
"""
