"""Nets written in Python, for real pycaffe (golden/make_pycaffe_golden.py) and for ours alike."""

CLASSIFIED = """name: "classified"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 10 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" }
    bias_filler { type: "constant" value: 0.5 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""

DETECTED = """layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 1 dim: 35 dim: 35 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { global_pooling: true } }
"""
CONTEXT_PAD = 5
# of an image (20, 24); what is beyond it ends at 3.5 and 2.5 of the input's pixels
WINDOWS = [(0, 12, 6, 26), (13, 1, 20, 9)]


def lenet(caffe):
    L, P = caffe.layers, caffe.params
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        batch_size=64, backend=P.Data.LMDB, source="train_lmdb", transform_param=dict(scale=1.0 / 255), ntop=2
    )
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=dict(type="xavier"))
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool1, num_output=500, weight_filler=dict(type="xavier"))
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(
        n.relu1, num_output=10, param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)]
    )
    n.loss = L.SoftmaxWithLoss(n.score, n.label, include=dict(phase=caffe.TRAIN), loss_weight=2)
    return n.to_proto()


def without_names(caffe):
    L, P = caffe.layers, caffe.params
    data, label = L.DummyData(shape=[dict(dim=[2, 3]), dict(dim=[2])], ntop=2)
    one = L.InnerProduct(data, num_output=4)
    two = L.InnerProduct(one, num_output=4)
    both = L.Eltwise(one, two, operation=P.Eltwise.MAX)
    return caffe.to_proto(L.ReLU(both, in_place=True), L.SoftmaxWithLoss(both, label))


def odd_settings(caffe):
    L, P = caffe.layers, caffe.params
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 4, 9, 9]))
    n["conv"] = L.Convolution(
        n.data, convolution_param=dict(num_output=4, kernel_size=[3, 2], pad=[1, 0], group=2)
    )
    n.up = L.Deconvolution(n["conv"], convolution_param=dict(num_output=2, kernel_size=4, bias_term=False))
    n.a, n.b = L.Slice(n.up, ntop=2, axis=1, slice_point=1)
    n.lrn = L.LRN(n.a, local_size=3, norm_region=P.LRN.WITHIN_CHANNEL, alpha=1e-4)
    n.mine = L.Python(n.b, module="mine", layer="Mine", param_str="{'x': \"y\"}\n")
    n.drop = L.Dropout(n.lrn, dropout_ratio=0.3, in_place=True, propagate_down=False)
    n.out = L.Concat(n.drop, n.mine, axis=1)
    return n.to_proto()


NETS = {"lenet": lenet, "without_names": without_names, "odd_settings": odd_settings}


def net_of(name, caffe):
    """A net, as a NetParameter of this ``caffe``."""
    return NETS[name](caffe)
