"""A recording has what the net computes, and leaves the net as it was."""

import numpy as np
import pytest

from minicaffe.inspect.report.make import report
from tests.report.conftest import net_of

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


def test_the_net_stays_as_it_was():
    net = net_of("lenet")
    state = repr(net.state_dict())
    weights = {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}
    report(net, count=1, test=0)
    assert repr(net.state_dict()) == state
    assert all((a == b.data).all() for n in weights for a, b in zip(weights[n], net.params[n], strict=True))
    assert not any(blob.has_diff for blob in net.blobs.values())
