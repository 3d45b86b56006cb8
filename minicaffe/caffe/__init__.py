"""Caffe's own files: their formats below the nets, and the exchange of whole nets above them."""
