"""Caffe's own file formats. The only room that knows protobuf, which is an extra."""
