"""What Caffe's files hold. It builds no net; the only room that knows protobuf, which is an extra.

Importing it lets minicaffe read and write them: each format enters the tables in ``files/``.
"""

from minicaffe.caffe.formats import caffemodel, hdf5, solverstate, specs
