"""The layer types, one file each. A new type is a new file and its name in this list."""

from minicaffe.layers import (
    accuracy,
    convolution,
    inner_product,
    input,
    pooling,
    relu,
    softmax,
    softmax_with_loss,
    split,
)
