"""SmoothL1LossOHEM: SmoothL1Loss that also says what each region loses, for online hard example mining.

    loss = Σ f(d) / n,  d = w · (a − b)        f(d) = ½ d² if |d| < 1, else |d| − ½        second top: Σ f(d)

Shapes: a, b (N, C, H, W), and optionally weights w of the same shape; the second top (N, 1, H, W),
summed over C.

n is N · H · W, unless ``loss_param`` says otherwise: FULL and VALID are that, BATCH_SIZE is N, PRE_FIXED is
``pre_fixed_normalizer``, NONE is 1. The gradient is that of SmoothL1Loss.

The SmoothL1LossOHEMLayer of R-FCN's Caffe for Python (Shrivastava et al. 2016, arXiv 1604.03540;
Microsoft/caffe, as YuwenXiong/py-R-FCN uses it). In daijifeng001/caffe-rfcn the same layer is called
SmoothL1Loss.
"""

from __future__ import annotations

from minicaffe.core.layer import register_layer
from minicaffe.layers.loss import LossParam
from minicaffe.layers.smooth_l1_loss import SmoothL1Loss


@register_layer
class SmoothL1LossOHEM(SmoothL1Loss):
    """SmoothL1Loss with σ = 1, and without outside weights."""

    messages = {"loss_param": LossParam}
    bottoms = (2, 3)

    def sigma(self) -> float:
        return 1.0

    def mode(self) -> str:
        return self.spec.message(LossParam).mode()
