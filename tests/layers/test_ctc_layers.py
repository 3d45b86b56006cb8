"""Connectionist temporal classification: the losses of Caffe's forks, and what makes text of scores."""

import itertools
import json
import logging

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.ops.ctc import Targets, edit_distances, forward_backward, log_softmax, padded, spelled
from minicaffe.testing import check_gradients
from tests.golden_files import recorded
from tests.layer_cases import net_of

NEVER = np.inf


# ------------------------------------------------------------------------------------------- the arithmetic


def spelled_by(path, blank, merges=True):
    """What one path spells, by the definition."""
    kept = [c for i, c in enumerate(path) if c != blank and not (merges and i and path[i - 1] == c)]
    return tuple(int(c) for c in kept)


def by_all_paths(p, labels, blank, merges=True):
    """p(labels), and the share of all such paths that says each class at each step, from a list of all paths."""
    steps, classes = p.shape
    total, says = 0.0, np.zeros(p.shape)
    for path in itertools.product(range(classes), repeat=steps):
        if spelled_by(path, blank, merges) == tuple(labels):
            share = np.prod(p[np.arange(steps), path])
            total += share
            says[np.arange(steps), path] += share
    return total, says / total if total else says


LABELS = [(), (1,), (1, 2), (2, 2), (1, 1, 2), (2, 1, 2, 1), (1, 1, 1), (2, 1, 2, 1, 2), (1, 2, 2, 1)]


@pytest.mark.parametrize("blank", [0, 1, 2])
@pytest.mark.parametrize("merges", [True, False])
def test_forward_backward_is_the_sum_over_all_paths(blank, merges, rng):
    steps = 4
    logs = log_softmax(rng.standard_normal((steps, len(LABELS), 3)))
    rows = [(np.array(row, np.int64) + blank) % 3 for row in LABELS]  # without blank
    targets = Targets(*padded(rows), np.full(len(rows), steps))
    log_p, counts = forward_backward(logs, targets, blank, merges=merges)
    for n, row in enumerate(rows):
        total, says = by_all_paths(np.exp(logs[:, n]), row, blank, merges)
        assert np.exp(log_p[n]) == pytest.approx(total, rel=1e-12)
        np.testing.assert_allclose(counts[:, n], says, atol=1e-12)
        assert (targets.steps_needed(merges)[n] > steps) == (total == 0)


def test_each_sequence_ends_after_its_own_steps(rng):
    logs = log_softmax(rng.standard_normal((6, 6, 3)))
    rows = [np.array([1, 2, 1])] * 6
    together, counts = forward_backward(logs, Targets(*padded(rows), np.arange(1, 7)), 0)
    for n in range(6):
        one = Targets(*padded(rows[:1]), np.array([n + 1]))
        alone, own = forward_backward(logs[: n + 1, n : n + 1], one, 0)
        np.testing.assert_allclose(together[n], alone[0], rtol=1e-12)
        np.testing.assert_allclose(counts[: n + 1, n], own[:, 0], atol=1e-12)
        assert not counts[n + 1 :, n].any()


def test_scores_of_hundreds_neither_overflow_nor_give_nan():
    logs = log_softmax(np.array([[[900.0, -900, 0]], [[-900.0, 900, 0]]]))
    log_p, counts = forward_backward(logs, Targets(*padded([np.array([2])]), np.array([2])), 0)
    assert log_p[0] == pytest.approx(-900) and np.isfinite(counts).all()


@pytest.mark.parametrize("name", ["ctc_few", "ctc_many"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-6), (np.float32, 1e-5)])
def test_costs_and_gradients_are_pytorchs(name, dtype, tolerance):
    case = recorded("ocr")[name]
    x = case["in_x"].astype(dtype)
    targets = Targets(case["labels"], case["lengths"], case["steps"])
    logs = log_softmax(x)
    log_p, counts = forward_backward(logs, targets, int(case["blank"]))
    assert log_p.dtype == counts.dtype == dtype
    np.testing.assert_allclose(-log_p, case["costs"], rtol=tolerance)
    assert np.isinf(log_p).any() and np.isfinite(log_p).any()
    lasts = (np.arange(len(x))[:, None] < targets.steps) & np.isfinite(log_p)
    slope = np.where(lasts[..., None], np.exp(logs) - counts, 0)
    np.testing.assert_allclose(slope, case["gin_x"], atol=10 * tolerance)


@pytest.mark.parametrize("merges", [True, False])
def test_spelled_merges_equal_neighbours_and_drops_blanks(merges, rng):
    classes, steps = rng.integers(0, 3, (9, 40)), rng.integers(0, 10, 40)
    labels, lengths = spelled(classes, steps, 1, merges=merges)
    for n in range(40):
        expected = spelled_by(classes[: steps[n], n], 1, merges)
        assert tuple(labels[n, : lengths[n]]) == expected and (labels[n, lengths[n] :] == -1).all()


def test_edit_distances_are_those_of_the_recursion(rng):
    def distance(a, b):
        if not len(a) or not len(b):
            return max(len(a), len(b))
        return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + int(a[0] != b[0]))

    a, b = rng.integers(0, 3, (30, 5)), rng.integers(0, 3, (30, 4))
    lengths = rng.integers(0, 6, 30), rng.integers(0, 5, 30)
    expected = [distance(a[n, :i], b[n, :j]) for n, (i, j) in enumerate(zip(*lengths, strict=True))]
    np.testing.assert_array_equal(edit_distances(a, lengths[0], b, lengths[1]), expected)


# ----------------------------------------------------------------------------------------------- the losses

# Scores (4, 3, 3) with labels (1, 0), (1,) and (0, 0), blank 2; each layer's own way to say so.
ROWS = np.array([[1, 0], [1, 2], [0, 0]])  # (N, L), 2 is no label
COLUMNS = np.where(ROWS == 2, -1, ROWS).T
CONT = np.array([[0, 0, 0], *[[1, 1, 1]] * 3])
LOSSES = {
    "CtcLoss": ("ctc_loss_param: {alphabet_size: 3, time_step: 4, blank_label: 2}", [ROWS]),
    "WarpCTCLoss, rows": ("ctc_loss_param: {blank_index: 2}", [ROWS]),
    "WarpCTCLoss, blank_label": ("ctc_loss_param: {blank_label: 2}", [ROWS]),
    "WarpCTCLoss, cont": ("ctc_loss_param: {blank_index: 2}", [CONT, COLUMNS]),
    "WarpCTCLoss, lengths": (
        "ctc_loss_param: {blank_index: 2}",
        [[4, 4, 4], [2, 1, 2], np.maximum(COLUMNS, 0)],
    ),
    "CTCLoss": ("", [CONT, COLUMNS]),
    "CTCLoss, by axes": ("ctc_param: {nct_axis: [1, 2]}", [COLUMNS]),
    "CTCLoss, by axes, cont": ("ctc_param: {}", [CONT, COLUMNS]),
    "CTCLoss, by axes, first version": (
        "ctc_param: {nct_axis: [1, 2], already_softmax: false}",
        [COLUMNS],
    ),
}


def loss_layer(name, more=""):
    param = LOSSES[name][0]
    return f"type: {name.partition(',')[0]}{more}" + (f", {param}" if param else "")


def expected_loss(x, rows, blank, steps=None):
    """The costs (N,) of label lists, and the gradient of their sum."""
    rows = [np.array(row, np.int64) for row in rows]
    steps = np.full(len(rows), len(x)) if steps is None else np.array(steps)
    logs = log_softmax(x)
    log_p, counts = forward_backward(logs, Targets(*padded(rows), steps), blank)
    return -log_p, (np.exp(logs) - counts) * (np.arange(len(x))[:, None] < steps)[..., None]


def run_loss(layer, x, others, **options):
    """The loss and dx of a layer in float64."""
    others = [np.asarray(other, np.float64) for other in others]
    net = net_of(layer, x.shape, *(other.shape for other in others), dtype="float64", **options)
    loss = net.forward(x0=x, **{f"x{i + 1}": other for i, other in enumerate(others)})["L"]
    return float(loss), net.backward()["x0"]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weight", [1, 0.25])
def test_each_loss_is_the_mean_and_its_gradient_that_of_the_sum_as_in_the_forks(name, weight, rng):
    x = rng.standard_normal((4, 3, 3))
    costs, slope = expected_loss(x, [[1, 0], [1], [0, 0]], blank=2)
    loss, dx = run_loss(loss_layer(name, f", loss_weight: {weight}"), x, LOSSES[name][1])
    assert loss == pytest.approx(costs.mean(), rel=1e-12)
    divisor = (12 if "version" in name else 3) if "by axes" in name else 1  # all steps, or the sequences
    np.testing.assert_allclose(dx, weight * slope / divisor, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in LOSSES if "version" not in name])
@pytest.mark.parametrize(("row", "steps"), [([1, 1], 5), ([0, 1, 1], 6), ([1], 1), ([0, 1], 2)])
def test_backward_is_the_derivative_of_forward_for_one_sequence(name, row, steps):
    column = np.array(row)[:, None]
    cont = (np.arange(steps) > 0).astype(int)[:, None]
    others = {
        1: [column if "axes" in name else column.T],
        2: [cont, column],
        3: [[steps], [len(row)], column],
    }[len(LOSSES[name][1])]
    layer = loss_layer(name).replace("time_step: 4", f"time_step: {steps}")
    net = check_gradients(layer, [(steps, 1, 3), *map(np.array, others)])
    assert not any(net.blobs[f"x{i + 1}"].has_diff for i in range(len(others)))


def test_float32_scores_of_four_axes_are_taken(rng):
    x = rng.standard_normal((4, 3, 3, 1))
    net = net_of("type: WarpCTCLoss, ctc_loss_param: {blank_index: 2}", x.shape, ROWS.shape)
    loss = net.forward(x0=x, x1=ROWS)["L"]
    costs, slope = expected_loss(x[..., 0], [[1, 0], [1], [0, 0]], blank=2)
    assert loss.dtype == np.float32 and loss == pytest.approx(costs.mean(), rel=1e-5)
    np.testing.assert_allclose(net.backward()["x0"][..., 0], slope, atol=1e-5)


SHORT = [[1, 1], [1], [0, 0]]  # in two steps the first and the last cannot be


@pytest.mark.parametrize("name", ["CtcLoss", "WarpCTCLoss, rows", "WarpCTCLoss, cont"])
def test_a_sequence_too_short_for_its_labels_costs_nothing_as_around_warp_ctc(name, rng, caplog):
    x, rows = rng.standard_normal((2, 3, 3)), np.array([[1, 1], [1, 2], [0, 0]])
    costs, slope = expected_loss(x, SHORT, blank=2)
    others = [rows] if len(LOSSES[name][1]) == 1 else [CONT[:2], np.where(rows == 2, -1, rows).T]
    with caplog.at_level(logging.WARNING, "minicaffe"):
        loss, dx = run_loss(loss_layer(name).replace("time_step: 4", "time_step: 2"), x, others)
    assert loss == pytest.approx(costs[1] / 3) and np.isinf(costs[[0, 2]]).all()
    np.testing.assert_allclose(dx, slope * [[[0], [1], [0]]], atol=1e-12)
    assert "the 2 labels of sequence 0 need 3 steps, but it has 2; it counts as a loss of 0" in caplog.text


@pytest.mark.parametrize("name", ["CTCLoss", "CTCLoss, by axes"])
def test_a_sequence_too_short_for_its_labels_has_an_infinite_loss_elsewhere(name, rng, caplog):
    x, columns = rng.standard_normal((2, 3, 3)), np.array([[1, 1, 0], [1, -1, 0]])
    with caplog.at_level(logging.WARNING, "minicaffe"):
        loss, dx = run_loss(loss_layer(name), x, [CONT[:2], columns][-len(LOSSES[name][1]) :])
    assert loss == NEVER and "its loss is infinite" in caplog.text
    np.testing.assert_allclose(dx[:, 0] * (3 if "axes" in name else 1), np.exp(log_softmax(x[:, 0])))


def test_warp_ctc_skips_sequences_without_labels_if_cont_says_where_they_end(rng):
    x, cont, labels = rng.standard_normal((4, 3, 3)), CONT.copy(), COLUMNS.copy()
    cont[1:, 1], labels[:, 1] = 0, -1
    cont[3, 2] = 0  # three steps
    costs, slope = expected_loss(x, [[1, 0], [], [0, 0]], 2, [4, 0, 3])
    for name, divisor in (("WarpCTCLoss, cont", 2), ("CTCLoss", 3)):
        loss, dx = run_loss(loss_layer(name), x, [cont, labels])
        assert loss == pytest.approx((costs[0] + costs[2]) / divisor)
        np.testing.assert_allclose(dx, slope, atol=1e-12)
        assert not dx[:, 1].any() and not dx[3, 2].any()


@pytest.mark.parametrize(
    ("param", "blank", "offset"), [("", 0, 1), ("blank_label: 0", 0, 1), ("blank_index: 0", 0, 0)]
)
def test_warp_ctc_with_cont_counts_labels_from_0_without_blank_unless_blank_index_is_given(
    param, blank, offset, rng
):
    x, labels = rng.standard_normal((4, 3, 3)), np.array([[1, 1, 1], [-1, -1, -1]])
    costs, _ = expected_loss(x, [[1 + offset]] * 3, blank)
    assert run_loss(f"type: WarpCTCLoss, ctc_loss_param: {{{param}}}", x, [CONT, labels])[0] == pytest.approx(
        costs.mean()
    )


def test_warp_ctc_with_rows_has_blank_0_and_no_sequence_at_all_is_no_loss(rng):
    x = rng.standard_normal((4, 3, 3))
    costs, _ = expected_loss(x, [[1], [2, 1], []], 0)
    assert run_loss("type: WarpCTCLoss", x, [[[0, 1], [2, 1], [0, 0]]])[0] == pytest.approx(costs.mean())
    lengths = [[0, 0, 0], [0, 0, 0], np.ones((2, 3))]
    loss, dx = run_loss("type: WarpCTCLoss", x, lengths)
    assert loss == 0 and not dx.any()


def test_output_delay_leaves_out_the_first_steps(rng):
    x = rng.standard_normal((4, 3, 3))
    costs, slope = expected_loss(x[1:], [[1, 0], [1], [0, 0]], 2)
    loss, dx = run_loss("type: CTCLoss, ctc_loss_param: {output_delay: 1}", x, [CONT, COLUMNS])
    assert loss == pytest.approx(costs.mean())
    np.testing.assert_allclose(dx, np.concatenate([np.zeros((1, 3, 3)), slope]), atol=1e-12)


def test_steps_that_output_delay_leaves_out_need_labels_too():
    """Of two steps one is left after the delay; a sequence without labels may have one in all."""
    cont, layer = [[0], [1]], "type: CTCLoss, ctc_loss_param: {output_delay: 1}"
    with pytest.raises(mc.DataError, match="sequence 0 has 0 labels and 1 steps; expected"):
        run_loss(layer, np.zeros((2, 1, 3)), [cont, [[-1]]])
    assert run_loss(layer, np.zeros((2, 1, 3)), [[[0], [0]], [[-1]]])[0] == 0


def test_labels_end_at_a_blank_or_no_class_and_are_collapsed_if_asked(rng):
    x, labels = rng.standard_normal((4, 3, 3)), np.array([[1, 0, 1], [1, 0, 2], [2, 1, 2], [-1, 9, 9]])[:3]
    costs, _ = expected_loss(x, [[1, 1], [0, 0, 1], [1]], 2)
    assert run_loss("type: CTCLoss", x, [CONT, labels])[0] == pytest.approx(costs.mean())
    costs, _ = expected_loss(x, [[1], [0, 1], [1]], 2)
    param = "ctc_loss_param: {preprocess_collapse_repeated: true, blank_index: 2}"
    assert run_loss(f"type: CTCLoss, {param}", x, [CONT, labels])[0] == pytest.approx(costs.mean())
    with pytest.raises(mc.DataError, match="'L': label 2 of sequence 0 ends it, but others follow"):
        run_loss("type: CTCLoss", x, [CONT, [[1, 1, 1], [2, 1, 1], [0, -1, -1]]])


def test_without_merging_a_path_spells_all_that_it_says(rng):
    x = rng.standard_normal((4, 1, 3))
    p = np.exp(log_softmax(x[:, 0]))
    loss, _ = run_loss(
        "type: CTCLoss, ctc_loss_param: {ctc_merge_repeated: false}", x, [CONT[:, :1], [[1], [1]]]
    )
    assert loss == pytest.approx(-np.log(by_all_paths(p, [1, 1], 2, merges=False)[0]))


@pytest.mark.parametrize(
    ("shape", "param", "labels"),
    [
        ((3, 4, 5), "", (3, 2)),
        ((3, 4, 1, 5), "", (3, 2)),
        ((3, 4, 5, 1), "", (3, 2)),
        ((3, 5, 4), "nct_axis: [0, 2]", (3, 2)),
        ((5, 3, 1, 4), "nct_axis: [1, 3]", (2, 3)),
        ((1, 4, 5), "", (1, 2)),
        ((3, 4, 1), "", (3, 1)),
    ],
)
def test_the_axes_of_scores_may_be_named(shape, param, labels, rng):
    x = rng.standard_normal(shape)
    batch, classes = json.loads(param.partition(": ")[2] or "[0, 1]")
    time = [i for i in range(len(shape)) if i not in (batch, classes) and shape[i] > 1] or [2]
    ordered = np.moveaxis(x, [time[0], batch, classes], [0, 1, 2]).reshape(-1, shape[batch], shape[classes])
    given = rng.integers(0, 3, labels)  # blank is 3, the last
    rows = given if batch == 0 else given.T
    costs, slope = expected_loss(ordered, rows, 3)
    loss, dx = run_loss(f"type: CTCLoss, ctc_param: {{{param}}}", x, [given])
    assert loss == pytest.approx(costs.mean())
    moved = np.moveaxis(dx, [time[0], batch, classes], [0, 1, 2]).reshape(slope.shape)
    np.testing.assert_allclose(moved * shape[batch], slope, atol=1e-12)


def test_probabilities_in_place_of_scores_give_the_same_loss_and_their_own_gradient(rng):
    x = rng.standard_normal((4, 3, 3))
    p = np.exp(log_softmax(x))
    layer = "type: CTCLoss, ctc_param: {already_softmax: true, nct_axis: [1, 2]}"
    costs, slope = expected_loss(x, [[1, 0], [1], [0, 0]], blank=2)
    loss, dx = run_loss(layer, p, [COLUMNS])
    assert loss == pytest.approx(costs.mean())
    np.testing.assert_allclose(dx * 12, (slope - p) / p, atol=1e-9)  # Σ γ / p, and slope = p − Σ γ
    p[0, 0] = 0
    assert run_loss(layer, p, [COLUMNS])[0] == NEVER


def test_by_axes_cont_ends_a_sequence_at_its_last_1(rng):
    x, cont = rng.standard_normal((4, 3, 3)), CONT.copy()
    cont[2:, 1] = 0
    costs, slope = expected_loss(x, [[1, 0], [1], [0, 0]], 2, [4, 2, 4])
    loss, dx = run_loss("type: CTCLoss, ctc_param: {}", x, [cont, COLUMNS])
    assert loss == pytest.approx(costs.mean())
    np.testing.assert_allclose(dx * 3, slope, atol=1e-12)


# --------------------------------------------------------------------------------------------- the decoders


def test_greedy_decoder_gives_labels_scores_and_accuracy(rng):
    x, cont = rng.standard_normal((6, 20, 3)), np.ones((6, 20))
    cont[0] = 0
    steps = rng.integers(1, 7, 20)
    for n, length in enumerate(steps):
        cont[length:, n] = 0
    target = rng.integers(-1, 2, (4, 20))
    layer = "type: CTCGreedyDecoder, top: [y, s, a]"
    out = net_of(layer, x.shape, cont.shape, target.shape).forward(x0=x, x1=cont, x2=target)
    assert [out[top].shape for top in "ysa"] == [(20, 6, 1, 1), (20, 1, 1, 1), (1, 1, 1, 1)]
    shares = []
    for n in range(20):
        says = spelled_by(x[: steps[n], n].argmax(axis=1), 2)
        row = out["y"][n].ravel()
        assert tuple(row[: len(says)]) == says and (row[len(says) :] == -1).all()
        assert out["s"][n].item() == pytest.approx(-x[: steps[n], n].max(axis=1).sum(), rel=1e-5)
        wanted = list(itertools.takewhile(lambda label: label >= 0, target[:, n]))
        edits = edit_distances(
            *(np.array(v, np.int64) for v in ([wanted], [len(wanted)], [says], [len(says)]))
        )
        shares.append(edits[0] / max(len(wanted), len(says), 1))
    assert out["a"].item() == pytest.approx(1 - np.mean(shares), rel=1e-6)


@pytest.mark.parametrize(("tops", "same"), [(["y"], "y"), (["y", "s"], "ys")])
def test_greedy_decoder_without_labels_has_no_accuracy(tops, same, rng):
    x, cont = rng.standard_normal((4, 2, 3)), CONT[:, :2]
    whole = net_of("type: CTCGreedyDecoder, top: [y, s, a]", x.shape, cont.shape, (3, 2))
    three = whole.forward(x0=x, x1=cont, x2=-np.ones((3, 2)))
    got = net_of(f"type: CTCGreedyDecoder, top: [{', '.join(tops)}]", x.shape, cont.shape).forward(
        x0=x, x1=cont
    )
    for top in same:
        np.testing.assert_array_equal(got[top], three[top])


def test_greedy_decoder_of_scores_alone_and_with_rows_has_blank_0(rng):
    x, rows = rng.standard_normal((5, 8, 3)), rng.integers(0, 3, (8, 2))
    y = net_of("type: CTCGreedyDecoder", x.shape).forward(x0=x)["L"].reshape(8, 5)
    says = [spelled_by(x[:, n].argmax(axis=1), 0) for n in range(8)]
    assert [tuple(row[row >= 0]) for row in y.astype(int)] == says
    accuracy = net_of("type: CTCGreedyDecoder", x.shape, rows.shape).forward(x0=x, x1=rows)["L"]
    assert accuracy.shape == (1, 2, 1, 1)
    wanted = [tuple(row[row > 0]) for row in rows]
    right = [a == b and bool(a) for a, b in zip(says, wanted, strict=True)]
    assert accuracy.ravel()[1] == pytest.approx(np.mean(right)) and accuracy.ravel()[0] >= accuracy.ravel()[1]
    last = "type: CTCGreedyDecoder, ctc_loss_param: {blank_label: 2}"
    y = net_of(last, x.shape).forward(x0=x)["L"].reshape(8, 5)
    assert tuple(y[0][y[0] >= 0].astype(int)) == spelled_by(x[:, 0].argmax(axis=1), 2)


def test_greedy_decoder_with_rows_counts_two_empty_sequences_as_no_mistake_but_not_as_right():
    says = np.eye(3)[[[0, 1], [0, 0]]]  # of two sequences, the first is blank throughout
    accuracy = net_of("type: CTCGreedyDecoder", says.shape, (2, 1)).forward(x0=says, x1=[[0], [1]])["L"]
    np.testing.assert_array_equal(accuracy.ravel(), [1, 0.5])


def test_greedy_decoder_reads_no_more_labels_than_there_are_steps():
    says = np.eye(3)[[[0], [1]]]
    net = net_of("type: CTCGreedyDecoder, top: [y, a]", says.shape, (2, 1), (4, 1))
    assert net.forward(x0=says, x1=[[0], [1]], x2=[[0], [1], [0], [1]])["a"].item() == 1


def test_labels_are_rounded_half_up_as_the_forks_do(rng):
    x = rng.standard_normal((4, 1, 4))
    loss, _ = run_loss("type: WarpCTCLoss", x, [[[0.5, 2.5, 1.4]]])
    assert loss == run_loss("type: WarpCTCLoss", x, [[[1, 3, 1]]])[0] != NEVER


@pytest.mark.parametrize("more", ["", ", ctc_param: {decode: IN_PLACE}"])
def test_decoder_gives_the_best_path_or_what_it_spells(more, rng):
    x, cont = rng.standard_normal((3, 4, 6)), np.ones((6, 3))
    cont[0], cont[4:, 1] = 0, 0
    y = net_of(f"type: CTCDecoder{more}", x.shape).forward(x0=x)["L"].reshape(3, 6)
    turned = x.transpose(2, 0, 1)
    ended = net_of(f"type: CTCDecoder{more}", turned.shape, cont.shape).forward(x0=turned, x1=cont)["L"]
    for n, steps in enumerate((6, 4, 6)):
        best = x[n].argmax(axis=0)
        for row, count in ((y[n], 6), (ended[n].ravel(), steps)):
            expected = best[:count] if more else spelled_by(best[:count], 3)
            np.testing.assert_array_equal(row[: len(expected)], expected)
            assert (row[len(expected) :] == -1).all()


# ------------------------------------------------------------------------------------------------ a tiny net

# Three digits beside each other; the steps are windows from left to right.
TINY = """
name: tiny
layer:
- name: data
  type: Data
  top: [digits, digit]
  data_param: {source: sample/mnist-train, batch_size: 96}
  transform_param: {scale: 0.00390625}
- {name: pool, type: Pooling, bottom: digits, pooling_param: {pool: AVE, kernel_size: 2, stride: 2}}
- {name: threes, type: Reshape, reshape_param: {shape: {dim: [-1, 3, 14, 14]}}}
- {name: beside, type: Transpose, transpose_param: {dim: [0, 2, 1, 3]}}
- {name: image, type: Reshape, reshape_param: {shape: {dim: [-1, 1, 14, 42]}}}
- name: conv
  type: Convolution
  convolution_param:
    {num_output: 32, kernel_h: 14, kernel_w: 8, stride_w: 3, pad_w: 3, weight_filler: {type: xavier}}
- {name: relu, type: ReLU, top: conv}
- {name: columns, type: Transpose, transpose_param: {dim: [3, 0, 1, 2]}}
- {name: steps, type: Reshape, reshape_param: {shape: {dim: [0, 0, -1]}}}
- {name: lstm, type: Lstm, lstm_param: {num_output: 40, clipping_threshold: 1, weight_filler: {type: xavier}}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 11, axis: 2, weight_filler: {type: xavier}}}
- {name: text, type: Reshape, bottom: digit, reshape_param: {shape: {dim: [-1, 3]}}}
- {name: loss, type: WarpCTCLoss, bottom: [ip, text], ctc_loss_param: {blank_index: 10}}
- {name: read, type: CTCGreedyDecoder, bottom: [ip, text], ctc_decoder_param: {blank_index: 10}}
"""
SOLVER = """
net: net.yaml
type: Adam
base_lr: 0.01
lr_policy: fixed
momentum: 0.9
max_iter: 999
random_seed: 1
"""


@pytest.mark.cpu_only("takes long on the double")
def test_a_tiny_net_learns_to_read_rows_of_digits(tmp_path):
    (tmp_path / "net.yaml").write_text(TINY)
    (tmp_path / "solver.yaml").write_text(SOLVER)
    with mc.Solver(str(tmp_path / "solver.yaml")) as solver:
        solver.step(5)
        first = float(solver.net.blobs["loss"].data)
        solver.step(165)
        last, (in_part, _) = float(solver.net.blobs["loss"].data), solver.net.blobs["read"].data.ravel()
    assert first > 7.5 and last < 5 and in_part > 0.4  # blanks alone have a loss of 7.7


# -------------------------------------------------------------------------------------------------- errors

SCORES = (4, 3, 3)
WRONG_SHAPES = [
    (
        "type: CtcLoss, ctc_loss_param: {alphabet_size: 4, time_step: 4}",
        [SCORES, (3, 2)],
        "alphabet_size: 4, but",
    ),
    (
        "type: CtcLoss, ctc_loss_param: {alphabet_size: 3, time_step: 5}",
        [SCORES, (3, 2)],
        "time_step: 5, but",
    ),
    ("type: CtcLoss", [SCORES, (3, 2)], "required"),
    (
        "type: CtcLoss, ctc_loss_param: {alphabet_size: 3, time_step: 4, blank_label: 3}",
        [SCORES, (3, 2)],
        "blank_label: 3, but there are 3 classes",
    ),
    (
        "type: CtcLoss, ctc_loss_param: {alphabet_size: 3, time_step: 4}",
        [SCORES, (2, 2)],
        r"expected \(3 sequences",
    ),
    (
        "type: WarpCTCLoss",
        [(4, 3), (3, 2)],
        r"scores have shape \(4, 3\); expected \(steps, sequences, classes\)",
    ),
    ("type: WarpCTCLoss", [(4, 0, 3), (0, 2)], "scores have shape"),
    ("type: WarpCTCLoss", [SCORES, (4,)], r"labels have shape \(4,\)"),
    (
        "type: WarpCTCLoss",
        [SCORES, (4, 2), (2, 3)],
        r"cont of shape \(4, 2\); expected \(steps, 3 sequences\)",
    ),
    ("type: WarpCTCLoss", [SCORES, (5, 3), (2, 3)], r"cont .*expected \(4, 3\)"),
    ("type: WarpCTCLoss", [SCORES, (3,), (2,), (2, 3)], "expected 3 numbers each"),
    ("type: WarpCTCLoss, ctc_loss_param: {blank_index: 3}", [SCORES, (3, 2)], "blank is class 3"),
    ("type: CTCLoss", [SCORES, (4, 3), (2, 2)], "labels of shape"),
    ("type: CTCLoss", [SCORES, (3, 3), (2, 3)], "cont of shape"),
    (
        "type: CTCLoss, ctc_loss_param: {blank_index: 3}",
        [SCORES, (4, 3), (2, 3)],
        "blank_index: 3, but there are 3",
    ),
    ("type: CTCLoss, ctc_loss_param: {output_delay: 4}", [SCORES, (4, 3), (2, 3)], "output_delay: 4, but"),
    ("type: CTCLoss, ctc_loss_param: {blank_index: 0}", [(3, 4, 5), (3, 2)], "give 'ctc_param'"),
    ("type: CTCLoss", [(3, 4, 5, 2), (3, 2)], "one for the steps have size 1"),
    ("type: CTCLoss", [(3, 4, 5), (2, 2)], r"3 sequences on axis 0"),
    ("type: CTCLoss, ctc_param: {nct_axis: [0]}", [(3, 4, 5), (3, 2)], "nct_axis: .*or neither"),
    ("type: CTCLoss, ctc_param: {nct_axis: [2, 1]}", [(3, 4, 5), (3, 2)], "nct_axis: 2 for the sequences"),
    ("type: CTCLoss, ctc_param: {nct_axis: [1, 2]}", [SCORES, (4, 3), (2, 3)], "nct_axis: with cont"),
    ("type: CTCLoss, ctc_param: {blank_index: -5}", [(3, 4, 5), (3, 2)], "blank_index: -5, but there are 4"),
    ("type: CTCLoss, ctc_param: {gamma: 1}", [(3, 4, 5), (3, 2)], "gamma: other weights"),
    ("type: CTCLoss, ctc_param: {label_width: 2}", [(3, 4, 5), (3, 2)], "label_width: other weights"),
    ("type: CTCDecoder, ctc_param: {decode: BEAM_SEARCH}", [(3, 4, 5)], "give BEST_PATH"),
    ("type: CTCDecoder", [SCORES, (3, 3)], "cont of shape"),
    ("type: CTCDecoder, ctc_param: {nct_axis: [0, 1]}", [SCORES, (4, 3)], "nct_axis: with cont"),
    ("type: CTCGreedyDecoder, top: [a, b]", [SCORES], r"top: 2 given; with 1 bottom\(s\)"),
    ("type: CTCGreedyDecoder, top: [a, b, c]", [SCORES, (4, 3)], "top: 3 given"),
    ("type: CTCGreedyDecoder", [SCORES, (4, 2)], r"expected cont \(4, 3\), or labels \(3, labels\)"),
    ("type: CTCGreedyDecoder", [SCORES, (4, 2), (2, 3)], "cont of shape"),
    ("type: CTCGreedyDecoder, ctc_decoder_param: {blank_index: 3}", [SCORES], "blank is class 3"),
    ("type: LabelsequenceAccuracy", [(3, 4), (3, 2)], "scores have shape"),
    ("type: LabelsequenceAccuracy", [(3, 4, 3), (2, 2)], "labels have shape"),
    ("type: ContinuationIndicator, continuation_indicator_param: {time_step: 3}", [], "batch_size: required"),
]


@pytest.mark.parametrize(("layer", "shapes", "problem"), WRONG_SHAPES)
def test_unfit_bottoms_and_settings_are_an_error_at_the_layer(layer, shapes, problem):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        net_of(layer, *shapes)


WRONG_LABELS = [
    (
        "WarpCTCLoss, rows",
        [[[1, 3], [0, 0], [0, 0]]],
        "label 3 of sequence 0, but there are 3 classes, 0 to 2",
    ),
    ("WarpCTCLoss, rows", [[[1, 1], [0, -1], [0, 0]]], "label -1 of sequence 1"),
    ("CtcLoss", [[[1, 3], [0, 0], [0, 0]]], "label 3 of sequence 0"),
    (
        "WarpCTCLoss, cont",
        [[[0, 0, 0], *[[1, 0, 1]] * 3], np.zeros((2, 3))],
        "sequence 1 has 2 labels and 1 steps",
    ),
    ("CTCLoss", [[[0, 0, 0], *[[1, 0, 1]] * 3], np.zeros((2, 3))], "sequence 1 has 2 labels and 1 steps"),
    ("CTCLoss", [CONT, -np.ones((2, 3))], "sequence 0 has 0 labels and 4 steps"),
    (
        "WarpCTCLoss, lengths",
        [[5, 4, 4], [2, 1, 2], np.zeros((2, 3))],
        "sequences of 4 to 5 steps, but .* most 4",
    ),
    ("WarpCTCLoss, lengths", [[4, 4, 4], [2, -1, 2], np.zeros((2, 3))], "sequences of -1 to 2 labels"),
    ("CTCLoss, by axes", [[[1, 2, 0], [1, 0, 0]]], "label 2 of sequence 1 is blank; leave it out"),
    ("CTCLoss, by axes", [[[1, 7, 0], [1, 0, 0]]], "label 7 of sequence 1"),
]


@pytest.mark.parametrize(("name", "others", "problem"), WRONG_LABELS)
def test_labels_that_cannot_be_are_an_error_at_the_layer(name, others, problem):
    with pytest.raises(mc.DataError, match=f"layer 'L'.*{problem}"):
        run_loss(loss_layer(name), np.zeros(SCORES), others)
