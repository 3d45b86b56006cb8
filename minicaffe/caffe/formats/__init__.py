"""What Caffe's files hold. It builds no net; the only room that knows protobuf, which is an extra."""
