"""Convolution and InnerProduct with weights, or data matrices, of low rank: what ``low_rank_param`` makes of them.

``low_rank.py`` multiplies with two factors; where the factors come from is in ``factored_weights.py``,
``truncated_weights.py`` and ``held_basis.py``.
"""

from minicaffe.layers.low_rank import convolution, inner_product
