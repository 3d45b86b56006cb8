"""The layer types, one file each. A new type is a new file and its name in this list."""

from minicaffe.layers import (
    accuracy,
    convolution,
    data,
    hdf5_data,
    image_data,
    inner_product,
    input,
    memory_data,
    pooling,
    relu,
    softmax,
    softmax_with_loss,
    split,
)
