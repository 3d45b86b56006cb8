"""The layer types, one file each. A new type is a new file and its name in this list."""

from minicaffe.layers import (
    accuracy,
    contrastive_loss,
    convolution,
    data,
    deconvolution,
    euclidean_loss,
    hdf5_data,
    hinge_loss,
    image_data,
    infogain_loss,
    inner_product,
    input,
    memory_data,
    multinomial_logistic_loss,
    pooling,
    relu,
    sigmoid_cross_entropy_loss,
    softmax,
    softmax_with_loss,
    split,
)
