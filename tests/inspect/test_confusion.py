"""Confusion: counts are those of a plain loop; scores are found where the net compares them with labels."""

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.inspect.confusion import (
    Confusion,
    ConfusionCounter,
    confusion_counts,
    find_answers,
    said_classes,
    wilson_interval,
)
from minicaffe.inspect.confusion_table import confusion_text
from minicaffe.spec.net import parse_net

NET = """
layer:
- {name: scores, type: Input, input_param: {shape: {dim: [6, 3]}}}
- {name: label, type: Input, input_param: {shape: {dim: [6]}}}
"""
ACCURACY = "- {name: accuracy, type: Accuracy, bottom: [scores, label]%s}\n"


def net_of(*layers):
    return mc.Net(parse_net(NET + "\n".join(layers)))


def counted(net, scores, labels, layer=None):
    counter = ConfusionCounter(net, layer)
    net.forward(scores=scores, label=labels)
    counter.look()
    return counter.result()


def test_counts_and_accuracy_are_those_of_a_loop_and_of_the_accuracy_layer(rng):
    net = net_of(ACCURACY % "")
    scores, labels = rng.integers(3, size=(6, 3)).astype(np.float32), rng.integers(3, size=6)
    scores[0, labels[0]] = np.nan  # wrong, whatever the others are
    scores[1] = 1  # a tie counts against the label
    confusion = counted(net, scores, labels)
    expected = np.zeros((3, 3), int)
    for row, label in zip(scores, labels, strict=True):
        others = [c for c in range(3) if c != label]
        right = all(row[label] > row[c] for c in others)
        said = label if right else max(others, key=lambda c: (row[c], -c))
        expected[label, said] += 1
    np.testing.assert_array_equal(confusion.counts, expected)
    assert confusion.accuracy == pytest.approx(float(net.blobs["accuracy"].data))


def test_recall_interval_and_pairs():
    confusion = Confusion(np.array([[8, 2, 0], [0, 0, 0], [3, 0, 7]]), ["cat", "dog"])
    assert (confusion.count, confusion.accuracy) == (20, 0.75)
    assert confusion.interval == pytest.approx((0.531295, 0.888140), abs=1e-6)
    np.testing.assert_array_equal(confusion.recall, [0.8, np.nan, 0.7])
    assert confusion.pairs(5) == [(2, 0, 3), (0, 1, 2)] and confusion.pairs(1) == [(2, 0, 3)]
    assert [confusion.name(c) for c in range(3)] == ["cat", "dog", "2"]
    assert Confusion(np.zeros((2, 2), int)).accuracy == 0


def test_an_accuracy_of_0_or_1_is_not_taken_for_certain():
    assert wilson_interval(1.0, 200) == pytest.approx((0.981154, 1.0), abs=1e-6)
    assert wilson_interval(0.0, 200) == pytest.approx((0.0, 0.018846), abs=1e-6)
    assert wilson_interval(0.0, 0) == (0.0, 1.0)
    for p, n in ((1.0, 200), (0.755, 1000), (0.1, 10)):  # Wilson's are the p' from which p is 1.96 sigma away
        for bound in wilson_interval(p, n):
            assert abs(p - bound) == pytest.approx(1.96 * (bound * (1 - bound) / n) ** 0.5, abs=1e-9)


def test_mistakes_as_frequent_as_the_last_one_listed_are_listed_or_counted():
    ring = Confusion(np.roll(2 * np.eye(6, dtype=int), 1, axis=1))
    assert [count for *_, count in ring.pairs(5)] == [2] * 6 and ring.as_frequent(ring.pairs(5)) == 0
    assert "more with" not in confusion_text(ring)
    many = Confusion(2 - 2 * np.eye(6, dtype=int))
    assert len(many.pairs(5)) == 10 and many.as_frequent(many.pairs(5)) == 20
    assert confusion_text(many).endswith("and 20 more with 2 images each")
    assert Confusion(np.eye(2, dtype=int)).as_frequent([]) == 0


def test_the_last_accuracy_is_taken_unless_a_layer_is_named(rng):
    net = net_of(
        ACCURACY % "",
        "- {name: other, type: Power, bottom: scores, power_param: {scale: -1}}",
        "- {name: last, type: Accuracy, bottom: [other, label]}",
        "- {name: loss, type: SoftmaxWithLoss, bottom: [scores, label]}",
    )
    scores, labels = rng.standard_normal((6, 3)), rng.integers(3, size=6)
    assert (find_answers(net).layer, find_answers(net).name) == ("last", "other")
    by_name = {name: counted(net, scores, labels, name).counts for name in ("accuracy", "last", "loss")}
    plain = confusion_counts(labels, scores.argmax(axis=1), 3)
    np.testing.assert_array_equal(by_name["accuracy"], plain)
    np.testing.assert_array_equal(by_name["loss"], plain)
    np.testing.assert_array_equal(by_name["last"], confusion_counts(labels, scores.argmin(axis=1), 3))
    with pytest.raises(mc.SpecError, match=r"no layer 'lost' .* did you mean 'loss'.*: accuracy, last, loss"):
        find_answers(net, "lost")


def test_labels_that_are_ignored_do_not_count():
    net = net_of(ACCURACY % ", accuracy_param: {ignore_label: 255}")
    confusion = counted(net, np.eye(3)[[0, 1, 2, 0, 0, 2]], [0, 1, 255, 0, 0, 255])
    np.testing.assert_array_equal(confusion.counts, [[3, 0, 0], [0, 1, 0], [0, 0, 0]])


def test_probabilities_are_not_put_through_a_softmax_again(rng):
    net = net_of(
        "- {name: prob, type: Softmax, bottom: scores}",
        "- {name: a, type: Accuracy, bottom: [prob, label]}",
        "- {name: b, type: Accuracy, bottom: [scores, label]}",
    )
    net.forward(scores=rng.standard_normal((6, 3)), label=np.zeros(6))
    for layer in ("a", "b"):
        np.testing.assert_allclose(find_answers(net, layer).read(6)[0], net.blobs["prob"].data, rtol=1e-5)


def test_a_label_for_each_pixel_and_a_net_without_labels_are_refused():
    text = NET.replace("[6, 3]", "[6, 3, 2, 2]").replace("[6]", "[6, 2, 2]")
    with pytest.raises(mc.SpecError, match=r"'accuracy'.*one label for each image, not one for each pixel"):
        find_answers(mc.Net(parse_net(text + ACCURACY % "")))
    with pytest.raises(mc.SpecError, match="no layer in phase TEST compares scores with labels"):
        find_answers(net_of("- {name: prob, type: Softmax, bottom: scores}"))


def test_a_table_has_the_names_of_classes_and_the_most_frequent_mistakes():
    confusion = Confusion(np.array([[8, 2, 0], [0, 0, 0], [3, 0, 7]]), ["cat", "dog", "emu"])
    assert (
        confusion_text(confusion)
        == """\
Rows: true class; columns: what the net said
     cat  dog  emu  recall
---  ---  ---  ---  ------
cat    8    2    ·  80.0 %
dog    ·    ·    ·       –
emu    3    ·    7  70.0 %
Accuracy 75.0 % of 20 images; of all such images 53.1 to 88.8 %
The most frequent mistakes:
true             said  images  of its class
----  ---------  ----  ------  ------------
emu   taken for  cat        3          30 %
cat   taken for  dog        2          20 %"""
    )
    long = confusion_text(Confusion(confusion.counts, ["a name" + 100 * "!", "b", "c"]))
    assert "0  a name!" in long and "   0  1  2  recall" in long
    assert confusion_text(Confusion(np.eye(2, dtype=int))).endswith("No mistakes")


def test_of_many_classes_the_table_lists_the_twenty_most_confused_pairs(rng):
    counts = rng.permutation(2500).reshape(50, 50)
    lines = confusion_text(Confusion(counts)).splitlines()
    assert len(lines) == 1 + 1 + 2 + 20
    true, said, count = Confusion(counts).pairs(1)[0]
    assert counts[true, said] == count == (counts - np.diag(np.diag(counts))).max()
    assert lines[4].split() == [str(true), "taken", "for", str(said), f"{count:,}", *lines[4].split()[5:]]


def test_a_single_class_is_always_said():
    np.testing.assert_array_equal(said_classes(np.array([[1.0], [np.nan]]), np.array([0, 0])), [0, 0])


def test_the_command_prints_it_after_the_score(capsys):
    lenet = ["test", "prototxt/lenet/train.yaml", "--weights", "models/lenet.npz", "--iterations", "2"]
    assert main([*lenet, "--confusion"]) == 0
    out = capsys.readouterr().out
    shown = next(line for line in out.splitlines() if line.startswith("accuracy = ")).split()[-1]
    assert (
        f"Accuracy {100 * float(shown):.1f} % of 200 images; of all such images " in out
        and "Confusion of 'ip2' (layer 'accuracy')" in out
    )
    assert main([*lenet, "--confusion-layer", "loss"]) == 0
    assert "Confusion of 'ip2' (layer 'loss')" in capsys.readouterr().out
