"""``minicaffe.testing``: a right backward passes; of a wrong one it names the blob, the place and both numbers."""

import re

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core.layer import layer_classes
from minicaffe.layers.inner_product import InnerProduct
from minicaffe.layers.relu import ReLU
from minicaffe.layers.tanh import TanH
from minicaffe.spec.net import parse_net
from minicaffe.testing import away_from, check_gradients, compare_gradients, layer_net

NET = """
name: two
force_backward: true
layer:
- {name: x, type: Input, input_param: {shape: {dim: [3, 4]}}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 2, weight_filler: {type: xavier}}}
- {name: tanh, type: TanH}
"""
FOUND = r"(\S+)\[([\d, ]+)\]: backward (\S+), central difference (\S+) \((\d+) of (\d+) differ\)"


class Square(mc.Layer):
    """y = factor · x², with the gradient of y = x²."""

    factor = 1

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data ** 2

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * bottom[0].data * top[0].diff


@pytest.fixture
def square():
    """The layer type, registered for one test."""
    mc.register_layer(Square)
    yield Square
    del layer_classes["Square"]


def test_a_layer_may_be_a_class_or_text_on_one_line_or_on_several(square):
    assert [blob.shape for blob in check_gradients(square, [(2, 3)]).blobs.values()] == [(2, 3), (2, 3)]
    check_gradients("type: Power, power_param: {power: 2, shift: 3}", [(2, 3)])
    check_gradients("\n  type: InnerProduct\n  inner_product_param:\n    num_output: 2\n", [(2, 3)])
    check_gradients("type: SoftmaxWithLoss", [(4, 3), np.array([0, 2, 1, 1])])


def test_a_net_may_be_text_a_spec_or_the_net_itself_whose_parameters_stay():
    check_gradients(NET, {"x": (5, 4)})
    check_gradients(parse_net(NET), [(3, 4)])
    net = mc.Net(parse_net(NET), dtype="float64", seed=1)
    before = [blob.data.copy() for blob in net.params["ip"]]
    assert check_gradients(net, [(3, 4)]) is net
    for blob, data in zip(net.params["ip"], before, strict=True):
        np.testing.assert_array_equal(blob.data, data)


def test_a_wrong_gradient_of_an_input_is_told_with_its_place_and_both_numbers(square, monkeypatch):
    monkeypatch.setattr(square, "factor", 1.5)
    with pytest.raises(AssertionError) as error:
        check_gradients(square, [np.array([[1.0, 2.0, 3.0]])])
    blob, index, backward, difference, wrong, count = re.fullmatch(FOUND, str(error.value)).groups()
    assert (blob, wrong, count) == ("x0", "3", "3") and index in ("0, 0", "0, 1", "0, 2")
    assert float(difference) == pytest.approx(1.5 * float(backward), rel=1e-5)


def test_one_wrong_number_of_a_parameters_gradient_is_found_and_no_other(monkeypatch):
    right = InnerProduct.backward

    def wrong(self, top, propagate_down, bottom):
        right(self, top, propagate_down, bottom)
        self.blobs[0].diff[1, 2] += 0.25

    monkeypatch.setattr(InnerProduct, "backward", wrong)
    with pytest.raises(AssertionError) as error:
        check_gradients(NET, [(3, 4)], most=12)
    blob, index, backward, difference, wrong, count = re.fullmatch(FOUND, str(error.value)).groups()
    assert (blob, index, wrong, count) == ("ip/0", "1, 2", "1", "8")
    assert float(backward) - float(difference) == pytest.approx(0.25, rel=1e-4)


def test_a_gradient_that_is_no_number_is_wrong(monkeypatch):
    monkeypatch.setattr(TanH, "backward", lambda self, top, down, bottom: bottom[0].diff.fill(np.nan))
    with pytest.raises(AssertionError, match=r"^x0\[0, \d\]: backward nan, central difference -?\d"):
        check_gradients("type: TanH", [(1, 2)])


def test_a_line_for_each_blob_that_is_wrong(monkeypatch):
    monkeypatch.setattr(TanH, "backward", lambda self, top, down, bottom: bottom[0].diff.fill(7))
    with pytest.raises(AssertionError) as error:
        check_gradients(NET, [(3, 4)])
    assert [line.partition("[")[0] for line in str(error.value).splitlines()] == ["x", "ip/0", "ip/1"]


def test_only_the_inputs_that_are_named_count(square, monkeypatch):
    monkeypatch.setattr(square, "factor", 2)
    text = layer_net("type: Eltwise, bottom: [y, x1]", [(2, 3), (2, 3)])
    text = text.replace("- {name: L", "- {name: y, type: Square, bottom: x0}\n- {name: L")
    check_gradients(text, [(2, 3), (2, 3)], by=["x1"])
    with pytest.raises(AssertionError, match=r"^x0"):
        check_gradients(text, [(2, 3), (2, 3)])


def test_of_a_large_blob_the_largest_gradients_are_tried_and_others(square, monkeypatch):
    calls, x = [], np.full((100, 100), 0.1)
    x[42, 17], right = 5, Square.forward
    monkeypatch.setattr(square, "forward", lambda self, *blobs: [calls.append(1), right(self, *blobs)])
    monkeypatch.setattr(square, "factor", 2)
    with pytest.raises(AssertionError, match=r"^x0\[42, 17\].*\(10 of 10 differ\)$"):
        check_gradients(square, [x], most=10)
    assert 20 <= len(calls) < 30


def test_dropout_draws_the_same_mask_at_every_forward():
    check_gradients("type: Dropout, dropout_param: {dropout_ratio: 0.4}", [(4, 6)])


def test_where_nothing_has_a_gradient_or_all_are_zero_the_check_says_so():
    with pytest.raises(AssertionError, match="nothing gets a gradient"):
        check_gradients(
            NET.replace("force_backward: true", "").replace("InnerProduct, inner", "Power} #"), [(3, 4)]
        )
    with pytest.raises(AssertionError, match="x0: every central difference is 0"):
        check_gradients("type: ReLU", [-np.ones((2, 3))])


@pytest.mark.parametrize(
    ("checked", "inputs", "problem"),
    [
        (Square, [(2, 3)], "Square is no layer type"),
        (NET, [(2, 4), (2, 4)], "the inputs are x; given are 2"),
        (NET, {"y": (2, 4)}, "the inputs are x; given are y"),
        ("type: Tan", [(2, 3)], "unknown layer type 'Tan'"),
    ],
)
def test_what_cannot_be_checked_is_one_line(checked, inputs, problem):
    with pytest.raises(mc.MinicaffeError, match=problem) as error:
        check_gradients(checked, inputs)
    assert "\n" not in str(error.value)


def test_a_float32_net_is_refused():
    with pytest.raises(mc.MinicaffeError, match="dtype='float64'"):
        check_gradients(mc.Net(parse_net(NET)), [(3, 4)])


def test_numbers_near_corners_are_moved_off_them_and_no_others():
    np.testing.assert_array_equal(away_from([0, 6], [0.0004, 6.0, 0.5, -1.0], 0.01), [0.02, 6.02, 0.5, -1])


# -- kinks ---------------------------------------------------------------------------------------------------


def relu_at(*numbers):
    return compare_gradients("type: ReLU", [np.array([numbers])]).blobs[0]


def test_numbers_at_a_kink_are_counted_and_stepped_over():
    blob = relu_at(0.0, 1.0, -1.0, 0.0)
    assert (blob.tried, blob.kinks, blob.near, blob.wrong, blob.problem()) == (4, 2, 0, 0, "")
    ties = np.array([[[[3.0, 3.0], [1.0, 2.0]]]])
    check_gradients("type: Pooling, pooling_param: {kernel_size: 2}", [ties])
    check_gradients("type: Eltwise, eltwise_param: {operation: MAX}", [np.ones((2, 2)), np.eye(2)])


def test_numbers_beside_a_kink_are_compared_at_smaller_steps():
    blob = relu_at(3e-6, 1.0, -4e-7)
    assert (blob.kinks, blob.near, blob.wrong) == (0, 2, 0)


def test_kinks_alone_say_nothing():
    assert relu_at(0.0, 0.0).problem().startswith("x0: all 2 numbers tried are at kinks")


def test_a_wrong_backward_is_found_among_kinks(monkeypatch):
    def wrong(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff * np.where(bottom[0].data > 0, 1, 0.25)

    monkeypatch.setattr(ReLU, "backward", wrong)
    blob = relu_at(0.0, 1.0, -1.0, 0.0)
    assert (blob.kinks, blob.wrong, blob.place) == (2, 1, (0, 2)) and blob.problem()


def test_a_gradient_that_lies_beyond_the_slopes_of_a_kink_is_wrong(monkeypatch):
    monkeypatch.setattr(ReLU, "backward", lambda self, top, down, bottom: bottom[0].diff.fill(9))
    assert relu_at(0.0, 1.0).wrong == 2


def test_each_number_is_told_of_before_it_is_tried():
    told = []
    compare_gradients("type: TanH", [(2, 3)], most=12, watch=lambda done, total: told.append((done, total)))
    assert told == [(i, 6) for i in range(6)]
