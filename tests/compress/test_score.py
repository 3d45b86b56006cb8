"""How a net is scored, and what it loses against its dense self, against plain NumPy."""

import math

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.compress.answers import CAUTION, NOISE, ClassScore, MixedScore, NearnessScore, score_of
from minicaffe.compress.batches import LABELS, run
from minicaffe.compress.score import Measured, measure
from minicaffe.device.array import to_device, to_host
from minicaffe.errors import DataError, SpecError

COUNT, CLASSES = 12, 5
HEAD = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [12, 4, 3, 2]}}}
- {name: label, type: Input, top: label, input_param: {shape: {dim: [LABELS]}}}
"""
FILLED = "weight_filler: {type: gaussian, std: 1}"
VECTOR = HEAD.replace("LABELS", "12") + (
    f"- {{name: ip, type: InnerProduct, bottom: data, inner_product_param: {{num_output: 5, {FILLED}}}}}\n"
)
SPATIAL = HEAD.replace("LABELS", "12, 1, 3, 2") + (
    "- {name: ip, type: Convolution, bottom: data, "
    f"convolution_param: {{num_output: 5, kernel_size: 1, {FILLED}}}}}\n"
)
ACCURACY = "- {name: right, type: Accuracy, bottom: [ip, label], top: acc}\n"
LOSS = "- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}\n"
SOFTMAX = "- {name: prob, type: Softmax, bottom: ip}\n"
# Two classifiers of one net, as in GoogLeNet
INCEPTION = (
    "- {name: early, type: Accuracy, bottom: [ip, label]}\n"
    f"- {{name: ip2, type: InnerProduct, bottom: data, inner_product_param: {{num_output: 5, {FILLED}}}}}\n"
    "- {name: early_5, type: Accuracy, bottom: [ip, label], accuracy_param: {top_k: 3}}\n"
    "- {name: late, type: Accuracy, bottom: [ip2, label], top: last}\n"
)


def two_nets(text):
    """The dense net, and one whose weights are a little off."""
    dense, other = (mc.Net.from_text(text, seed=1) for _ in range(2))
    rng = np.random.default_rng(5)
    for blobs in other.params.values():
        w = blobs[0].data
        w[...] += to_device(0.5 * rng.standard_normal(w.shape).astype(np.float32))
    return dense, other


def batches_of(net, count=3):
    """Random images and labels for a net."""
    rng = np.random.default_rng(2)
    shapes = {name: net.blobs[name].shape for name in ("data", "label")}
    return [
        {
            "data": to_device(rng.standard_normal(shapes["data"]).astype(np.float32)),
            "label": to_device(rng.integers(0, CLASSES, shapes["label"]).astype(np.float32)),
        }
        for _ in range(count)
    ]


def remember(score, net, batches):
    for batch in batches:
        run(net, batch)
        score.remember(net, batch)


def blobs_of(net, batches, name):
    """What a blob holds for each of the batches, float64."""
    found = []
    for batch in batches:
        run(net, batch)
        found.append(to_host(net.blobs[name].data).astype(np.float64))
    return found


def predictions(scores):
    """Probabilities of each prediction, one vector of classes after the other."""
    vectors = [v for image in scores for v in image.reshape(CLASSES, -1).T]
    return [np.exp(v - v.max()) / np.exp(v - v.max()).sum() for v in vectors]


# -- what is scored --------------------------------------------------------------------------------------


NAMED = {
    None: "last",
    "late": "last",
    "last": "last",
    "early": "early",
    "early_5": "early_5",
}  # or by its blob


@pytest.mark.parametrize(("name", "accuracy"), NAMED.items())
def test_of_several_accuracy_layers_the_last_counts_unless_one_is_named(name, accuracy):
    dense, other = two_nets(VECTOR + INCEPTION)
    score = score_of(dense, name)
    assert (score.accuracy, score.name) == (accuracy, f"accuracy '{accuracy}'")
    batches = batches_of(dense)
    remember(score, dense, batches)
    counted = [float(x) for x in blobs_of(other, batches, accuracy)]
    assert measure(score, other, batches).scores == pytest.approx(counted)
    (scores,) = blobs_of(other, batches[2:], "ip2" if accuracy == "last" else "ip")
    np.testing.assert_allclose(to_host(score.probabilities(other)).T, predictions(scores), rtol=1e-4)


def test_an_unknown_accuracy_layer_is_an_error_that_names_the_nearest():
    net = mc.Net.from_text(VECTOR + INCEPTION)
    with pytest.raises(
        SpecError, match=r"has no Accuracy layer and no output 'lat' in phase TEST.*(last|late)"
    ):
        score_of(net, "lat")
    with pytest.raises(SpecError, match=r"no output 'right' in phase TEST; there is ip$"):
        score_of(mc.Net.from_text(VECTOR), "right")


PROB_RIGHT = SOFTMAX + ACCURACY.replace("ip", "prob")
AGAIN = ACCURACY.replace("ip", "prob").replace("right", "right_again").replace("acc", "acc_again")
KINDS = {
    "Accuracy": (VECTOR + ACCURACY, "accuracy 'acc'", "ip"),
    "Accuracy as it is called mostly": (VECTOR + ACCURACY.replace("acc}", "accuracy}"), "accuracy", "ip"),
    "Accuracy, beside a Softmax": (VECTOR + ACCURACY + SOFTMAX, "accuracy 'acc'", "ip"),
    "Accuracy, beside a loss": (VECTOR + ACCURACY + LOSS, "accuracy 'acc'", "ip"),
    "Accuracy of probabilities": (VECTOR + PROB_RIGHT, "accuracy 'acc'", "prob"),
    "two of probabilities": (VECTOR + PROB_RIGHT + AGAIN, "accuracy 'acc_again'", "prob"),
    "a loss": (VECTOR + LOSS, "accuracy", "ip"),
    "a loss, beside a Softmax": (VECTOR + LOSS + SOFTMAX, "accuracy", "ip"),
    "Softmax": (VECTOR + SOFTMAX, "agreement", "prob"),
    "spatial Softmax": (SPATIAL + SOFTMAX, "agreement", "prob"),
    "spatial loss": (SPATIAL + LOSS, "accuracy", "ip"),
    "spatial Accuracy": (SPATIAL + ACCURACY, "accuracy 'acc'", "ip"),
}


@pytest.mark.parametrize(("text", "name", "blob"), KINDS.values(), ids=KINDS)
def test_a_net_that_classifies_loses_what_its_dense_self_would_not(text, name, blob):
    dense, other = two_nets(text)
    score, batches = score_of(dense), batches_of(dense)
    assert isinstance(score, ClassScore)
    assert (score.name, score.axis, score.normalized) == (name, 1, blob == "prob")
    remember(score, dense, batches)
    found = measure(score, other, batches)
    exact, answers = (blobs_of(net, batches, "ip") for net in (dense, other))
    for i, batch in enumerate(batches):
        labels = [int(x) for x in to_host(batch["label"]).ravel()]
        right, lost, divergence, loss = [], [], [], []
        for p, p_hat, label in zip(predictions(exact[i]), predictions(answers[i]), labels, strict=True):
            c, c_hat = int(p.argmax()), int(p_hat.argmax())
            right.append(c_hat == (c if name == "agreement" else label))
            lost.append(p[c] - p[c_hat])
            divergence.append(sum(a * math.log(a / b) for a, b in zip(p, p_hat, strict=True)))
            loss.append(-math.log(p_hat[label]))
        assert found.scores[i] == pytest.approx(np.mean(right))
        assert found.lost[i] == pytest.approx(np.mean(lost), rel=1e-4)
        assert found.losses[i] == pytest.approx(np.mean(loss if LOSS in text else divergence), rel=1e-4)
        assert found.counted[i] == len(labels)
    assert 0 < sum(found.lost) < 3
    assert found.reckoned == pytest.approx([CAUTION * lost for lost in found.lost])
    assert score.is_agreement == (name == "agreement")


DENSE = {
    "vector": VECTOR + SOFTMAX,
    "spatial": SPATIAL + SOFTMAX,
    "labels": VECTOR + ACCURACY,
    "no classes": VECTOR,
}


@pytest.mark.parametrize("text", DENSE.values(), ids=DENSE)
def test_the_dense_net_itself_loses_nothing(text):
    dense, _ = two_nets(text)
    score, batches = score_of(dense), batches_of(dense)
    remember(score, dense, batches)
    found = measure(score, dense, batches)
    assert found.lost == (0, 0, 0)
    assert found.drop_from(found) == 0
    if ACCURACY not in text:
        assert found.scores == (1, 1, 1)


def test_a_softmax_that_is_no_output_and_scores_alone_are_no_classes():
    inner = (
        SOFTMAX + "- {name: more, type: InnerProduct, bottom: prob, inner_product_param: {num_output: 2}}\n"
    )
    for text, blobs in ((VECTOR, ["ip"]), (VECTOR + inner, ["more"])):
        score = score_of(mc.Net.from_text(text))
        assert isinstance(score, NearnessScore)
        assert score.blobs == blobs
        assert score.name == f"nearness of {', '.join(blobs)}"


def test_labels_of_pictures_are_counted_where_a_net_has_none_of_its_own():
    text = (
        VECTOR.replace("- {name: label, type: Input, top: label, input_param: {shape: {dim: [12]}}}\n", "")
        + SOFTMAX
    )
    dense, other = two_nets(text)
    batches = [{"data": batch["data"], LABELS: batch["label"]} for batch in batches_of(two_nets(VECTOR)[0])]
    score = score_of(dense, has_labels=True)
    assert (score.name, score.labels) == ("accuracy", LABELS)
    remember(score, dense, batches)
    found = measure(score, other, batches)
    answers = blobs_of(other, batches, "prob")
    for right, p, batch in zip(found.scores, answers, batches, strict=True):
        assert right == pytest.approx((p.argmax(axis=1) == to_host(batch[LABELS])).mean())
    assert score_of(dense).name == "agreement"
    assert score_of(two_nets(VECTOR + LOSS)[0], has_labels=True).labels != LABELS  # its own come first


# -- nets that do not classify ---------------------------------------------------------------------------

TWO = VECTOR + (
    f"- {{name: few, type: InnerProduct, bottom: data, inner_product_param: {{num_output: 2, {FILLED}}}}}\n"
    "- {name: none, type: Power, bottom: label, power_param: {scale: 0}}\n"
)
BOXES = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 3, 24, 24]}}}
- {name: loc, type: Convolution, bottom: data, convolution_param: {num_output: 16, kernel_size: 3, stride: 4}}
- {name: loc_flat, type: Flatten}
- {name: conf, type: Convolution, bottom: data, convolution_param: {num_output: 12, kernel_size: 3, stride: 4}}
- {name: conf_flat, type: Flatten}
- {name: priors, type: PriorBox, bottom: [loc, data], prior_box_param: {min_size: 8, max_size: 16, aspect_ratio: 2}}
- {name: found, type: DetectionOutput, bottom: [loc_flat, conf_flat, priors],
   detection_output_param: {num_classes: 3, nms_param: {nms_threshold: 0.45, top_k: 40}}}
"""
GRIDS = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 3, 24, 24]}}}
- {name: fine, type: Convolution, bottom: data, convolution_param: {num_output: 14, kernel_size: 4, stride: 4}}
- {name: coarse, type: Convolution, bottom: data, convolution_param: {num_output: 14, kernel_size: 8, stride: 8}}
- {name: found, type: Yolov3DetectionOutput, bottom: [coarse, fine],
   yolov3_detection_output_param: {num_classes: 2, num_box: 2, anchors_scale: [8, 4], mask: [2, 3, 0, 1],
                                   biases: [3, 4, 5, 5, 9, 8, 12, 14]}}
"""


def test_nearness_is_that_of_the_worst_output():
    dense, other = two_nets(TWO)
    score, batches = score_of(dense), batches_of(dense)
    assert isinstance(score, NearnessScore)
    assert sorted(score.blobs) == ["few", "ip", "none"]
    remember(score, dense, batches)
    found = measure(score, other, batches)
    exact, answers = ({b: blobs_of(net, batches, b) for b in ("few", "ip")} for net in (dense, other))
    errors = np.array([
        [np.linalg.norm(y - z) / np.linalg.norm(y) for y, z in zip(exact[b], answers[b], strict=True)]
        for b in exact
    ])  # fmt: skip
    assert len(set(errors.argmax(axis=0))) == 2  # now the one, now the other
    np.testing.assert_allclose(found.lost, errors.max(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.scores, 1 - errors.max(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.losses, errors.max(axis=0) ** 2, rtol=1e-5)
    assert found.reckoned == found.lost and found.counted == (0, 0, 0)
    assert not score.is_agreement


JUDGED = f"""
layer:
- {{name: label, type: Input, input_param: {{shape: {{dim: [1, 1, 1, 8]}}}}}}
{BOXES.replace("layer:", "").strip()}
- {{name: judged, type: DetectionEvaluate, bottom: [found, label],
   detection_evaluate_param: {{num_classes: 3}}}}
"""


def test_a_detector_that_is_judged_is_scored_by_what_its_boxes_are_made_of():
    for accuracy in (None, "judged"):
        other, dense = two_nets(JUDGED)  # the weights of the first are 0, and say nothing
        score, rng = score_of(dense, accuracy), np.random.default_rng(0)
        assert isinstance(score, NearnessScore) and score.blobs == ["loc_flat", "conf_flat"]
        label = np.array([0, 1, 0, 0.2, 0.2, 0.6, 0.7, 0], np.float32).reshape(1, 1, 1, 8)
        pictures = rng.standard_normal((1, 3, 24, 24)).astype(np.float32)
        batches = [{"data": to_device(pictures), "label": to_device(label)}]
        remember(score, dense, batches)
        rows = dense.blobs["judged"].shape
        assert measure(score, other, batches).lost == (1,)
        assert other.blobs["judged"].shape != rows  # which could not be compared


@pytest.mark.parametrize("what", ["nearness", "classes", "mixed"])
def test_answers_of_another_number_are_one_line(what):
    dense = two_nets(TWO)[0]
    classes = ClassScore("ip", 1, False)
    score = {"nearness": NearnessScore(["few"]), "classes": classes, "mixed": MixedScore(classes, ["few"])}[
        what
    ]
    (batch,) = batches_of(dense, 1)
    remember(score, dense, [batch])
    name = "ip" if what == "classes" else "few"
    dense.blobs[name].reshape(3, dense.blobs[name].shape[1])
    dense.blobs[name].data[...] = 0
    with pytest.raises(
        mc.DataError, match=rf"'{name}' has shape .* in the dense net, so they cannot be compared"
    ):
        score.of(dense, batch)


def test_an_output_that_should_be_zero_and_is_not_is_wholly_wrong():
    dense, other = two_nets(TWO)
    score, batches = NearnessScore(["none"]), batches_of(dense)
    remember(score, dense, batches)
    assert measure(score, other, batches).scores == (1, 1, 1)
    run(other, batches[0])
    other.blobs["none"].data[...] = 0.5
    assert score.of(other, batches[0])[:3] == (0, 1, 1)


def test_boxes_are_scored_by_the_numbers_that_they_are_made_of():
    score = score_of(mc.Net.from_text(BOXES))
    assert isinstance(score, NearnessScore)
    assert score.blobs == ["loc_flat", "conf_flat"]


def test_boxes_of_yolo_are_scored_by_their_grids():
    score = score_of(mc.Net.from_text(GRIDS))
    assert isinstance(score, NearnessScore)
    assert score.blobs == ["coarse", "fine"]


# -- distances and drops ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [VECTOR + SOFTMAX, SPATIAL + ACCURACY, TWO], ids=["vector", "spatial", "none"]
)
def test_distances_and_drops_start_at_nothing_and_never_fall(text):
    dense, _ = two_nets(text)
    score, exact = score_of(dense), []
    for batch in batches_of(dense):
        run(dense, batch)
        exact.append(score.answers(dense))
    distances, drops = score.drops(exact)
    assert distances[0] == drops[0] == 0 == score.distance(exact, exact)
    assert (np.diff(distances) >= 0).all() and (np.diff(drops) >= 0).all()
    assert len(distances) == len(drops) > 10
    assert drops[-1] > 0.2
    if isinstance(score, ClassScore):
        assert drops[-1] < 1


def test_the_distance_of_classes_is_the_mean_divergence():
    dense, other = two_nets(SPATIAL + SOFTMAX)
    score, batches, seen = score_of(dense), batches_of(dense), []
    for net in (dense, other):
        answers = []
        for batch in batches:
            run(net, batch)
            answers.append(score.answers(net))
        seen.append(answers)
    pairs = zip(blobs_of(dense, batches, "ip"), blobs_of(other, batches, "ip"), strict=True)
    divergences = [
        (p * np.log(p / q)).sum()
        for y, z in pairs
        for p, q in zip(predictions(y), predictions(z), strict=True)
    ]
    assert score.distance(seen[1], seen[0]) == pytest.approx(np.mean(divergences), rel=1e-4)


def test_the_distance_of_outputs_is_the_squared_error_of_the_worst_over_all_batches():
    score, rng = NearnessScore(["y", "z"]), np.random.default_rng(1)
    exact = [[rng.standard_normal((4, 3)), rng.standard_normal((4, 2))] for _ in range(3)]
    answers = [[y + 0.1, z * 1.5] for y, z in exact]
    assert score.distance(answers, exact) == pytest.approx(0.25)
    zero = [[0 * y, 0 * z] for y, z in exact]
    assert score.distance(zero, zero) == 0


# -- what was measured -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*DENSE.values(), VECTOR + LOSS], ids=[*DENSE, "loss"])
def test_answers_that_are_nan_are_an_error(text):
    dense, other = two_nets(text)
    score, batches = score_of(dense), batches_of(dense)
    remember(score, dense, batches)
    other.params["ip"][0].data[...] = math.nan
    with pytest.raises(
        DataError, match=r"is not finite, so there is no (accuracy|agreement|nearness).* to keep"
    ):
        measure(score, other, batches)


def test_an_output_that_is_nan_is_found_after_one_that_is_not():
    dense, other = two_nets(TWO)
    batches = batches_of(dense)
    other.params["ip"][0].data[...] = math.nan
    for blobs in (["few", "ip"], ["ip", "few"]):
        score = NearnessScore(blobs)
        remember(score, dense, batches)
        with pytest.raises(DataError, match="not finite"):
            measure(score, other, batches)


def measured(scores, lost=None, caution=1.0, counted=0):
    """Figures of some batches, of ``counted`` answers each."""
    lost = lost or [0.0] * len(scores)
    reckoned = tuple(caution * x for x in lost)
    losses = tuple(1 - s for s in scores)
    return Measured(tuple(scores), losses, tuple(lost), reckoned, (counted,) * len(scores))


def test_a_change_has_the_standard_error_of_the_differences_in_pairs():
    rng = np.random.default_rng(4)
    before = rng.uniform(0.5, 1, 8)
    after = before - 0.02 + rng.normal(0, 0.005, 8)
    dense, found = measured(before), measured(after)
    change = found.change_from(dense)
    assert change.mean == pytest.approx((after - before).mean()) == pytest.approx(found.score - dense.score)
    assert change.error == pytest.approx((after - before).std(ddof=1) / math.sqrt(8))
    assert change.error < before.std() / 10
    assert str(change) == f"{100 * change.mean:+.2f} ± {100 * change.error:.2f} points"
    assert found.loss == pytest.approx(1 - after.mean())


def test_of_one_batch_there_is_no_standard_error():
    change = measured([0.5]).change_from(measured([0.75]))
    assert change.mean == -0.25 and math.isnan(change.error)
    assert str(change) == "-25.00 points"
    assert measured([0.5]).drop_from(measured([0.75])) == 0  # nothing was surely counted


CHANGES = {  # scores of two batches of 50 answers, and the least that the error may be
    "none": ([0.9, 0.8], math.sqrt(3) / 100),
    "two, one in each": ([0.88, 0.78], math.sqrt(3) / 100),
    "ten, five in each": ([0.8, 0.7], math.sqrt(10) / 100),
    "for the better": ([1.0, 0.9], math.sqrt(10) / 100),
}


@pytest.mark.parametrize(("scores", "least"), CHANGES.values(), ids=CHANGES)
def test_batches_that_changed_alike_are_not_sure_as_answers_are_counted(scores, least):
    dense = measured([0.9, 0.8], counted=50)
    found = measured(scores, counted=50)
    assert found.change_from(dense).error == pytest.approx(least)
    assert measured(scores).change_from(measured([0.9, 0.8])).error == pytest.approx(0)  # these are no counts
    unlike = measured([0.9, 0.4], counted=50).change_from(dense)
    assert unlike.error == pytest.approx(0.2)  # which the batches tell
    assert measured([0.9], counted=50).drop_from(measured([1.0], counted=50)) == 0
    assert found.expected.error == 0


def test_two_answers_that_were_counted_as_lost_are_not_surely_lost():
    assert measured([0.88, 0.78], counted=50).drop_from(measured([0.9, 0.8], counted=50)) == 0


def test_what_is_expected_to_be_lost_is_a_change_for_the_worse():
    found = measured([0.9, 0.9], [0.01, 0.03])
    assert found.expected.mean == pytest.approx(-0.02)
    assert found.expected.error == pytest.approx(0.01)


def test_the_drop_to_reckon_with_is_what_is_expected_with_caution_or_what_was_surely_counted():
    dense = measured([0.9, 0.8, 0.85])
    alike = measured([0.9, 0.8, 0.85], [0.01, 0.02, 0.03], caution=2)
    assert alike.drop_from(dense) == pytest.approx(2 * 0.02)
    lucky = measured([0.95, 0.85, 0.9], [0.01, 0.02, 0.03], caution=2)
    assert lucky.drop_from(dense) == pytest.approx(2 * 0.02)
    unlucky = measured([0.8, 0.72, 0.75], [0.01, 0.02, 0.03], caution=2)
    change = unlucky.change_from(dense)
    assert unlucky.drop_from(dense) == -change.mean - 2 * change.error > 2 * 0.02
    unsure = measured([0.9, 0.5, 0.99])
    assert unsure.score < dense.score and unsure.drop_from(dense) == 0


def test_nets_that_were_measured_on_other_numbers_of_batches_are_not_compared():
    with pytest.raises(ValueError, match="argument"):
        measured([0.5, 0.5]).change_from(measured([0.5]))


def test_of_the_first_five_what_is_lost_is_the_probability_of_all_five():
    rng = np.random.default_rng(3)
    p, p_hat = (x / x.sum(axis=0) for x in rng.random((2, 8, 6)))
    score = ClassScore("prob", 1, True, "label", "top5", top_k=5)
    lost = np.mean(
        [np.sort(a)[-5:].sum() - a[np.argsort(b)[-5:]].sum() for a, b in zip(p.T, p_hat.T, strict=True)]
    )
    assert lost > 0 and score._lost(p, p_hat).mean() == pytest.approx(lost)
    assert (score._lost(p, p) == 0).all()


# -- several outputs ---------------------------------------------------------------------------------------

TWO_OUTPUTS = VECTOR + (
    "- {name: prob, type: Softmax, bottom: ip}\n"
    f"- {{name: box, type: InnerProduct, bottom: data, inner_product_param: {{num_output: 4, {FILLED}}}}}\n"
)


def test_an_output_beside_the_classes_is_kept_too():
    net, other = two_nets(TWO_OUTPUTS)
    for blob, its in zip(other.params["ip"], net.params["ip"], strict=True):
        blob.data[...] = its.data  # only the boxes are wrong
    score, batches = score_of(net), batches_of(net)
    remember(score, net, batches)
    assert "box" in score.name
    assert measure(score, net, batches).lost == (0, 0, 0)
    found = measure(score, other, batches)
    boxes = [blobs_of(each, batches, "box") for each in (net, other)]
    varies = np.concatenate(boxes[0]).var(axis=0).sum()
    for lost, exact, y in zip(found.lost, *boxes, strict=True):
        assert lost == pytest.approx(((y - exact) ** 2).sum(axis=1).mean() / varies, rel=1e-4)
    assert found.reckoned == found.lost  # what is measured needs no care
    assert found.losses == pytest.approx([lost / 2 for lost in found.lost])  # in nats
    distances, drops = score.drops(answers_of(score, net, batches))
    assert distances[0] == drops[0] == 0 and (drops >= np.minimum(2 * distances, 1)).all() and drops[-1] == 1
    distance = score.distance(answers_of(score, other, batches), answers_of(score, net, batches))
    assert distance == pytest.approx(np.mean(found.lost) / 2, rel=1e-4)


def test_of_classes_and_another_output_what_is_lost_more_of_counts_and_distances_add_up():
    net, other = two_nets(TWO_OUTPUTS)
    for blob, its in zip(other.params["box"], net.params["box"], strict=True):
        blob.data[...] = its.data * 0.99
    mixed, classes, batches = score_of(net), score_of(net, "prob"), batches_of(net)
    assert isinstance(mixed, MixedScore) and isinstance(classes, ClassScore)
    for score in (mixed, classes):
        remember(score, net, batches)
    found, of_classes = (measure(score, other, batches) for score in (mixed, classes))
    exact, y = (np.concatenate(blobs_of(each, batches, "box")) for each in (net, other))
    share = ((y - exact) ** 2).sum() / ((exact - exact.mean(axis=0)) ** 2).sum()
    assert 0 < share < min(of_classes.lost)
    assert (found.lost, found.reckoned) == (of_classes.lost, of_classes.reckoned)
    more = np.subtract(found.losses, of_classes.losses)
    assert more.mean() == pytest.approx(share / 2, rel=1e-3)
    distances = [
        score.distance(answers_of(score, other, batches), answers_of(score, net, batches))
        for score in (mixed, classes)
    ]
    assert distances[0] - distances[1] == pytest.approx(share / 2, rel=1e-3)
    assert found.counted == of_classes.counted == (12, 12, 12)
    assert mixed.is_agreement


def test_of_another_output_as_much_is_lost_in_batches_of_one_image():
    net, other = two_nets(TWO_OUTPUTS.replace("dim: [12", "dim: [1"))
    for blob, its in zip(other.params["ip"], net.params["ip"], strict=True):
        blob.data[...] = its.data  # only the boxes are wrong
    score, batches = score_of(net), batches_of(net, 12)
    remember(score, net, batches)
    exact, y = (np.concatenate(blobs_of(each, batches, "box")) for each in (net, other))
    share = ((y - exact) ** 2).sum() / ((exact - exact.mean(axis=0)) ** 2).sum()
    assert np.mean(measure(score, other, batches).lost) == pytest.approx(share, rel=1e-4)


def answers_of(score, net, batches):
    found = []
    for batch in batches:
        run(net, batch)
        found.append(score.answers(net))
    return found


def test_predictions_with_an_ignored_label_do_not_count():
    net, other = two_nets(SPATIAL + LOSS.replace("[ip, label]", "[ip, label], loss_param: {ignore_label: 3}"))
    score, batches = score_of(net), batches_of(net)
    remember(score, net, batches)
    found = measure(score, other, batches)
    for right, batch, y in zip(found.scores, batches, blobs_of(other, batches, "ip"), strict=True):
        labels = to_host(batch["label"]).reshape(12, 3, 2)
        assert right == pytest.approx((y.argmax(axis=1) == labels)[labels != 3].mean())


IGNORING = SPATIAL + LOSS.replace("[ip, label]", "[ip, label], loss_param: {ignore_label: 3}")


def test_predictions_whose_label_is_ignored_count_nowhere():
    """As if the images were one pixel wide, and had no others."""
    net, other = two_nets(IGNORING)
    batches = batches_of(net)
    for batch in batches:
        labels = to_host(batch["label"])
        labels[labels == 3] = 2
        labels[..., 1:, :] = labels[..., 1:] = 3
        batch["label"] = to_device(labels)
    score = score_of(net)
    remember(score, net, batches)
    found, exact, answers = (
        measure(score, other, batches),
        *(answers_of(score, x, batches) for x in (net, other)),
    )
    p, q = (
        np.array([predictions(y)[::6] for y in blobs_of(x, batches, "ip")]) for x in (net, other)
    )  # (batch, image, class) of the first pixels
    divergences = (p * np.log(p / q)).sum(axis=2)
    assert score.distance(answers, exact) == pytest.approx(divergences.mean(), rel=1e-4)
    assert found.counted == (12, 12, 12)
    alone = ClassScore("prob", 1, True).drops([[one.T] for one in p])
    for of_all, of_some in zip(score.drops(exact), alone, strict=True):
        np.testing.assert_allclose(of_all, of_some, rtol=1e-4, atol=1e-7)


def test_a_batch_of_which_nothing_counts_loses_nothing_and_where_none_does_there_is_no_prediction():
    net, other = two_nets(IGNORING)
    batches = batches_of(net)
    batches[0]["label"][...] = 3
    score = score_of(net)
    remember(score, net, batches)
    found = measure(score, other, batches)
    assert (found.scores[0], found.lost[0], found.counted[0]) == (0, 0, 0)
    assert min(found.lost[1:]) > 0
    with pytest.raises(DataError, match=r"^no prediction counts: all labels are 3; take other test images$"):
        score.drops(answers_of(score, net, batches[:1]))


def test_drops_are_what_noise_in_the_scores_does():
    """Simulated anew, with other noise, for predictions whose scores vary by 2."""
    rng = np.random.default_rng(8)
    z = 2 * rng.standard_normal((CLASSES, 4000))
    p = np.exp(z) / np.exp(z).sum(axis=0)
    spread = np.log(p).std(axis=1).mean()
    distances, drops = ClassScore("prob", 1, True).drops([[p[:, :1000]], [p[:, 1000:]]])
    assert len(distances) == len(NOISE) + 1
    for i in range(20, len(NOISE), 5):
        q = np.exp(z + NOISE[i] * spread * rng.standard_normal(z.shape))
        q /= q.sum(axis=0)
        lost = p.max(axis=0) - p[q.argmax(axis=0), np.arange(4000)]
        assert distances[i + 1] == pytest.approx((p * np.log(p / q)).sum(axis=0).mean(), rel=0.1)
        assert drops[i + 1] == pytest.approx(lost.mean(), rel=0.35, abs=2e-4)


def test_of_outputs_a_distance_costs_its_root():
    score, y = NearnessScore(["y"]), np.random.default_rng(3).standard_normal((4, 3))
    for wrong in (0.01, 0.3, 1):
        distance = score.distance([[y * (1 + wrong)]], [[y]])
        assert np.interp(distance, *score.drops([[y]])) == pytest.approx(wrong, rel=0.01)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_few_predictions_tell_a_loss_too(count):
    p = np.random.default_rng(1).dirichlet(np.full(CLASSES, 0.3), count).T
    distances, drops = ClassScore("prob", 1, True).drops([[p]])
    assert distances[0] == drops[0] == 0
    assert drops[-1] > 0.05 and (np.diff(drops) >= 0).all() and (np.diff(distances) >= 0).all()


def test_one_output_may_be_named_to_be_looked_at_alone(caplog):
    net = mc.Net.from_text(TWO_OUTPUTS)
    assert isinstance(score_of(net, "prob"), ClassScore)
    assert "Nothing is asked of box" in caplog.text
    boxes = score_of(net, "box")
    assert isinstance(boxes, NearnessScore) and boxes.blobs == ["box"]
    with pytest.raises(SpecError, match=r"no Accuracy layer and no output 'bax'.*'box'"):
        score_of(net, "bax")
