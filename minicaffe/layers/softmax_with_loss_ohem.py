"""SoftmaxWithLossOHEM: SoftmaxWithLoss that also says what each label loses, for online hard example mining.

    loss = −Σ log p[label] / n        third top: −log p[label] of each label, 0 where it is ignored

Shapes: those of SoftmaxWithLoss; the third top has the shape of the labels.

The SoftmaxWithLossOHEMLayer of R-FCN's Caffe for Python (Shrivastava et al. 2016, arXiv 1604.03540;
Microsoft/caffe, as YuwenXiong/py-R-FCN uses it). In daijifeng001/caffe-rfcn the same layer is called
SoftmaxWithLoss.
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.layers.softmax_with_loss import SoftmaxWithLoss


@register_layer
class SoftmaxWithLossOHEM(SoftmaxWithLoss):
    """SoftmaxWithLoss, under the name that py-R-FCN has for it."""
