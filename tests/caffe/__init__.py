"""Caffe's files: nets, solvers, weights and states are read as Caffe reads them."""
