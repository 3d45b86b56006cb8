"""Reading and writing Caffe's files. Nothing here builds a net; protobuf, an extra, is needed for the binary ones.

Importing this package enters each format into the tables in ``files/``.
"""

from minicaffe.caffe.formats import caffemodel, hdf5, solverstate, specs
