"""What Caffe's files hold. It knows no net; the only room that knows protobuf, which is an extra."""
