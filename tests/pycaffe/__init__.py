"""The package that scripts written for pycaffe import as caffe."""
