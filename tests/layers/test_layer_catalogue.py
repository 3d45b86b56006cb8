"""Which layer types there are: all of Caffe 1.0's. tests/docs compares docs/layers.md with them."""

import pytest

import minicaffe as mc
from minicaffe.caffe.formats.layer_types import RELEASE_1_0, SINCE_1_0
from minicaffe.core.layer import layer_classes
from minicaffe.spec.net import parse_net

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")


@pytest.mark.parametrize("layer_type", sorted(RELEASE_1_0 | SINCE_1_0))
def test_every_layer_type_of_caffe_is_here(layer_type):
    assert layer_type in layer_classes


SSD_HEAD = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [2, 3, 30, 30]}}}
- {name: conv, type: Convolution, convolution_param: {num_output: 8, kernel_size: 3, stride: 4}}
- {name: norm, type: Normalize, bottom: conv,
   norm_param: {across_spatial: false, channel_shared: false, scale_filler: {type: constant, value: 20}}}
- {name: loc, type: Convolution, bottom: norm, convolution_param: {num_output: 16, kernel_size: 3, pad: 1}}
- {name: loc_perm, type: Permute, bottom: loc, permute_param: {order: [0, 2, 3, 1]}}
- {name: loc_flat, type: Flatten, bottom: loc_perm}
- {name: conf, type: Convolution, bottom: norm, convolution_param: {num_output: 84, kernel_size: 3, pad: 1}}
- {name: conf_perm, type: Permute, bottom: conf, permute_param: {order: [0, 2, 3, 1]}}
- {name: conf_flat, type: Flatten, bottom: conf_perm}
- {name: prior, type: PriorBox, bottom: [norm, data],
   prior_box_param: {min_size: 6, max_size: 12, aspect_ratio: 2, variance: [0.1, 0.1, 0.2, 0.2], step: 4}}
- {name: priors, type: Concat, bottom: [prior, prior], concat_param: {axis: 2}}
- {name: locs, type: Concat, bottom: [loc_flat, loc_flat]}
- {name: confs, type: Concat, bottom: [conf_flat, conf_flat]}
- {name: scores, type: Reshape, bottom: confs, reshape_param: {shape: {dim: [0, -1, 21]}}}
- {name: probs, type: Softmax, bottom: scores, softmax_param: {axis: 2}}
- {name: probs_flat, type: Flatten, bottom: probs}
- name: detection_out
  type: DetectionOutput
  bottom: [locs, probs_flat, priors]
  include: {phase: TEST}
  detection_output_param:
    num_classes: 21
    share_location: true
    background_label_id: 0
    nms_param: {nms_threshold: 0.45, top_k: 400}
    save_output_param: {label_map_file: data/VOC0712/labelmap_voc.prototxt}
    code_type: CENTER_SIZE
    keep_top_k: 200
    confidence_threshold: 0.01
"""


def test_a_deploy_net_of_ssd_runs_to_its_detections():
    net = mc.Net(parse_net(SSD_HEAD))
    out = net.forward()["detection_out"]
    assert out.shape[:2] == (1, 1) and out.shape[3] == 7 and 0 < out.shape[2] <= 2 * 200
    assert set(out[0, 0, :, 0].tolist()) == {0, 1} and 0 not in out[0, 0, :, 1]
