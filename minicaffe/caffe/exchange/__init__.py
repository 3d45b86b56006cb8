"""Nets of Caffe become ours, and ours become Caffe's."""
