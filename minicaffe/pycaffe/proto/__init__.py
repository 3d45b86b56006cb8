"""Where scripts look for ``caffe_pb2``."""
