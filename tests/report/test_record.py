"""A recording has what the net computes, and leaves the net as it was."""

from types import SimpleNamespace

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.inspect.report import record as record_module
from minicaffe.inspect.report.make import report
from minicaffe.inspect.report.pictures import from_images
from minicaffe.inspect.report.record import copy_of, record
from tests.report.conftest import net_of, photos

pytestmark = pytest.mark.cpu_only("the recording copies to the host")


def test_every_stage_is_what_the_layer_wrote(lenet_recording):
    recording, net = lenet_recording, lenet_recording.net
    recording.feed(1)
    for key, stage in recording.stages.items():
        if "@" not in key:
            blob = net.blobs[stage.blob].data
            np.testing.assert_array_equal(stage.values[1].ravel(), blob.ravel(), err_msg=key)


def test_a_stage_that_is_overwritten_in_place_is_seen_before_and_after(lenet_recording):
    before, after = (lenet_recording.stages[f"ip1@{name}"].values for name in ("ip1", "relu1"))
    assert before.min() < 0
    np.testing.assert_array_equal(np.maximum(before, 0), after)


def test_the_gradient_of_the_scores_is_p_minus_onehot(lenet_recording):
    recording = lenet_recording
    onehot = np.eye(10)[[picture.label for picture in recording.images]]
    np.testing.assert_allclose(recording.stages["ip2"].diff, recording.scores - onehot, atol=1e-6)


def test_the_loss_of_a_picture_is_its_own(lenet_recording):
    labels = [picture.label for picture in lenet_recording.images]
    p = lenet_recording.scores[np.arange(len(labels)), labels]
    np.testing.assert_allclose(lenet_recording.losses, -np.log(p), atol=1e-6)


DEPLOY = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 3, 8, 8]}}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 4, weight_filler: {type: gaussian, std: 0.01}}}
- {name: prob, type: Softmax}
"""


def test_a_net_without_a_loss_has_the_gradient_of_minus_log_p_and_ends_with_its_first_picture():
    with copy_of(mc.Net.from_text(DEPLOY, seed=1)) as net:
        found = record(net, from_images(mc.Classifier(net), photos(2, 8), [1, None]))
        chosen = [1, int(found.scores[1].argmax())]  # without a label that of the class it says
        np.testing.assert_allclose(found.losses, -np.log(found.scores[[0, 1], chosen]), atol=1e-6)
        np.testing.assert_allclose(found.stages["ip"].diff, found.scores - np.eye(4)[chosen], atol=1e-6)
        np.testing.assert_array_equal(net.blobs["ip"].diff, found.stages["ip"].diff[:1])


def test_a_layer_that_is_disturbed_once_does_not_seem_slow(lenet_recording, monkeypatch):
    """Each layer takes 1 s by this clock, but for one, once: 1000 s, as where another process has the core."""
    spans = [1.0] * 100
    spans[17] = 1000.0
    clock = iter(np.cumsum([0, *(x for span in spans for x in (span, 0))]).tolist())
    monkeypatch.setattr(record_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert set(lenet_recording.milliseconds(1)) == {0.0, 1000.0}


def test_the_net_stays_as_it_was():
    net = net_of("lenet")
    state = repr(net.state_dict())
    weights = {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}
    report(net, count=1, test=0)
    assert repr(net.state_dict()) == state
    assert all((a == b.data).all() for n in weights for a, b in zip(weights[n], net.params[n], strict=True))
    assert not any(blob.has_diff for blob in net.blobs.values())
