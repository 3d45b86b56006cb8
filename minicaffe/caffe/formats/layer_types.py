"""Which layer types Caffe has. The list of its release is complete: any other type is not in it.

Caffe's CMakeLists.txt says 1.0.0 for the release of April 2017 and for the master branch after it.
"""

from __future__ import annotations

RELEASE_1_0 = frozenset([
    "AbsVal", "Accuracy", "ArgMax", "BNLL", "BatchNorm", "BatchReindex", "Bias", "Concat", "ContrastiveLoss",
    "Convolution", "Crop", "Data", "Deconvolution", "Dropout", "DummyData", "ELU", "Eltwise", "Embed",
    "EuclideanLoss", "Exp", "Filter", "Flatten", "HDF5Data", "HDF5Output", "HingeLoss", "Im2col", "ImageData",
    "InfogainLoss", "InnerProduct", "Input", "LRN", "LSTM", "LSTMUnit", "Log", "MVN", "MemoryData",
    "MultinomialLogisticLoss", "PReLU", "Parameter", "Pooling", "Power", "Python", "RNN", "ReLU", "Reduction",
    "Reshape", "SPP", "Scale", "Sigmoid", "SigmoidCrossEntropyLoss", "Silence", "Slice", "Softmax",
    "SoftmaxWithLoss", "Split", "TanH", "Threshold", "Tile", "WindowData",
])  # fmt: skip
SINCE_1_0 = frozenset(["Clip", "Swish"])  # of the master branch, both in 2018


def who_lacks(kind: str) -> str:
    """Which versions of Caffe cannot read layers of a type; "" where all can."""
    if kind in RELEASE_1_0:
        return ""
    if kind in SINCE_1_0:
        return f"type {kind} came to Caffe's master branch after its release 1.0; older builds lack it"
    return f"type {kind} is not in Caffe 1.0, only in forks of it"
