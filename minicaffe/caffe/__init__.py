"""Caffe's own files: their formats, and the exchange of whole nets."""
