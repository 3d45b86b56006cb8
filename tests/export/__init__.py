"""Nets written for Caffe, OpenCV and ONNX compute there what they compute here."""
