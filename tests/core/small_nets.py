"""Nets that several tests use, as YAML."""

CHAIN = """
name: chain
layer:
- {name: data, type: Input, input_param: {shape: {dim: [2, 3, 6, 6]}}}
- {name: conv, type: Convolution, convolution_param: {num_output: 4, kernel_size: 3, weight_filler: {type: xavier}}}
- {name: relu, type: ReLU, top: conv}
- {name: pool, type: Pooling, bottom: conv, pooling_param: {kernel_size: 2, stride: 2}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 5, weight_filler: {type: xavier}}}
- {name: prob, type: Softmax}
"""

TRAIN = """
name: train
layer:
- {name: data, type: Input, top: [data, label], input_param: {shape: [{dim: [4, 3]}, {dim: [4]}]}}
- {name: ip, type: InnerProduct, bottom: data, inner_product_param: {num_output: 3, weight_filler: {type: xavier}}}
- {name: accuracy, type: Accuracy, bottom: [ip, label]}
- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}
"""
