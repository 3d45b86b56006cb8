"""Nets of Caffe become ours, and ours become Caffe's.

What a layer becomes in Caffe is a function in the table ``plain_layers.conversions``; these modules fill it.
"""

from minicaffe.caffe.exchange import forks, normalization, pooling, products, sources
