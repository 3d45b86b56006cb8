"""Nets: graphs, shapes, phases, weights, and where gradients go."""

import contextlib

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.core.layer import layer_classes
from minicaffe.device.array import to_host
from minicaffe.spec.net import parse_net
from tests.core.small_nets import CHAIN, TRAIN
from tests.layer_cases import LAYERS, one_layer


def test_blobs_have_caffes_shapes_outside_and_the_batch_last_inside(make_net):
    net = make_net(CHAIN)
    assert net.blobs["conv"].data.shape == (2, 4, 4, 4)
    assert net.blobs["conv"].stored.shape == (4, 4, 4, 2)
    assert net.blobs["conv"].stored.flags.c_contiguous
    assert np.shares_memory(net.blobs["conv"].data, net.blobs["conv"].stored)
    assert [b.data.shape for b in net.params["conv"]] == [(4, 3, 3, 3), (4,)]
    assert list(net.blobs) == ["data", "conv", "pool", "ip", "prob"]
    assert net.inputs == ["data"]
    assert net.outputs == ["prob"]


def test_forward_returns_copies_of_the_outputs_in_caffes_shape(make_net, rng):
    net = make_net(CHAIN)
    x = rng.standard_normal((2, 3, 6, 6)).astype("f4")
    first = net.forward(data=x)
    assert first["prob"].shape == (2, 5)
    np.testing.assert_allclose(first["prob"].sum(axis=1), 1, rtol=1e-6)
    kept = first["prob"].copy()
    net.forward(data=-x)
    np.testing.assert_array_equal(first["prob"], kept)
    np.testing.assert_array_equal(net.forward(data=x)["prob"], kept)


def test_blobs_written_in_place_are_what_forward_reads(make_net, rng):
    net = make_net(CHAIN)
    x = rng.standard_normal((2, 3, 6, 6)).astype("f4")
    expected = net.forward(data=x)["prob"]
    net.blobs["data"].data[...] = 0
    net.blobs["data"].data[1] = x[1]
    np.testing.assert_allclose(net.forward()["prob"][1], expected[1], rtol=1e-5)


def test_forward_from_and_to_a_layer_runs_only_that_part(make_net, rng):
    net = make_net(CHAIN)
    x = rng.standard_normal((2, 3, 6, 6)).astype("f4")
    whole = net.forward(data=x, blobs=["pool"])
    part = net.forward(end="pool", data=x)
    assert list(part) == ["pool"]
    np.testing.assert_array_equal(part["pool"], whole["pool"])
    net.blobs["pool"].data[...] = 0
    zero = net.forward(start="ip")["prob"]
    np.testing.assert_allclose(zero, 1 / 5, rtol=1e-6)


@pytest.mark.parametrize("written", [True, False], ids=["written before", "given"])
def test_gradients_start_at_the_tops_of_the_layer_that_backward_starts_from(make_net, rng, written):
    net = make_net(CHAIN, phase="test")
    x, dy = rng.standard_normal((2, 3, 6, 6)).astype("f4"), rng.standard_normal((2, 5)).astype("f4")
    net.forward(data=x)
    if written:
        net.blobs["ip"].diff[...] = dy
    net.backward(start="ip", **({} if written else {"ip": dy}))
    weights, pooled = net.params["ip"][0].data, net.blobs["pool"].data.reshape(2, -1)
    np.testing.assert_allclose(net.blobs["pool"].diff.reshape(2, -1), dy @ weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.params["ip"][0].diff, dy.T @ pooled, rtol=1e-5, atol=1e-6)
    assert np.abs(net.params["conv"][0].diff).max() > 0


def test_a_gradient_that_backward_would_never_read_is_refused(make_net, rng):
    net = make_net(CHAIN, phase="test")
    net.forward(data=rng.standard_normal((2, 3, 6, 6)).astype("f4"))
    with pytest.raises(
        mc.MinicaffeError, match=r"no gradient starts at 'ip', .* start='ip' lets it start there"
    ):
        net.backward(ip=np.ones((2, 5)))


def test_a_reshaped_net_follows_its_input_and_comes_back(make_net, rng):
    net = make_net(CHAIN)
    x = rng.standard_normal((2, 3, 6, 6)).astype("f4")
    before = net.forward(data=x)["prob"]
    net.blobs["data"].reshape(5, 3, 6, 6)
    net.reshape()
    assert net.blobs["prob"].shape == (5, 5)
    many = net.forward(data=np.concatenate([x, x, x[:1]]))["prob"]
    np.testing.assert_allclose(many[2:4], before, rtol=1e-5)
    net.blobs["data"].reshape(2, 3, 6, 6)
    np.testing.assert_array_equal(net.forward(data=x)["prob"], before)


def test_an_image_size_that_the_weights_do_not_fit_is_refused(make_net):
    net = make_net(CHAIN)
    net.blobs["data"].reshape(2, 3, 9, 9)
    with pytest.raises(mc.ShapeError, match=r"layer 'ip'.*64 inputs, the weights are for 16"):
        net.reshape()


@pytest.mark.parametrize("name", LAYERS)
def test_a_net_whose_reshape_failed_computes_as_before_when_it_has_its_shape_again(name):
    """A layer that stopped half way through its reshape must not be taken for one that fits."""
    net, rng = one_layer(name), np.random.default_rng(3)
    x = {key: rng.random(net.blobs[key].shape, np.float32) for key in net.inputs}
    before = net.forward(**x)
    shape = net.blobs["x0"].shape
    for axis in range(1, len(shape)):
        net.blobs["x0"].reshape(*shape[:axis], shape[axis] + 1, *shape[axis + 1 :])
        with contextlib.suppress(mc.MinicaffeError):
            net.reshape()
        net.blobs["x0"].reshape(*shape)
        after = net.forward(**x)
        for key, value in before.items():
            np.testing.assert_array_equal(to_host(after[key]), to_host(value))


def test_an_input_of_another_shape_is_refused_with_the_mend(make_net):
    with pytest.raises(mc.ShapeError, match=r"'data' has shape \(1, 3, 6, 6\).*reshape"):
        make_net(CHAIN).forward(data=np.zeros((1, 3, 6, 6)))


def test_an_unknown_input_or_layer_is_refused_with_the_nearest_name(make_net):
    net = make_net(CHAIN)
    with pytest.raises(mc.MinicaffeError, match="no blob 'dta'; did you mean 'data'"):
        net.forward(dta=np.zeros(3))
    with pytest.raises(mc.MinicaffeError, match="no layer 'pol'; did you mean 'pool'"):
        net.forward(end="pol")


def test_a_diff_written_on_an_output_starts_the_gradient(make_net, rng):
    net = make_net(CHAIN)
    net.forward(data=rng.standard_normal((2, 3, 6, 6)))
    net.blobs["prob"].diff[...] = rng.standard_normal((2, 5))
    assert net.backward() == {}
    assert np.abs(net.params["conv"][0].diff).max() > 0
    assert not net.blobs["data"].has_diff


def test_force_backward_reaches_the_inputs(make_net, rng):
    net = make_net(CHAIN.replace("name: chain", "name: chain\nforce_backward: true"))
    net.forward(data=rng.standard_normal((2, 3, 6, 6)))
    gradient = net.backward(prob=rng.standard_normal((2, 5)))
    assert gradient["data"].shape == (2, 3, 6, 6)
    assert np.abs(gradient["data"]).max() > 0


def test_backward_before_forward_is_refused(make_net):
    net = make_net(CHAIN)
    net.blobs["prob"].diff[...] = 1
    with pytest.raises(mc.MinicaffeError, match="has not run forward"):
        net.backward()
    net.forward()
    net.backward()
    net.blobs["data"].reshape(3, 3, 6, 6)
    net.reshape()
    net.blobs["prob"].diff[...] = 1
    with pytest.raises(mc.MinicaffeError, match="has not run forward at this size"):
        net.backward()


def test_without_a_start_no_layer_runs_backward(make_net):
    net = make_net(CHAIN)
    net.forward()
    net.backward()
    assert not any(blob.has_diff for blobs in net.params.values() for blob in blobs)


def test_parameter_gradients_add_until_they_are_cleared(make_net, rng):
    net = make_net(TRAIN, phase="train")
    net.forward(data=rng.standard_normal((4, 3)), label=[0, 1, 2, 0])
    net.backward()
    once = net.params["ip"][0].diff.copy()
    net.backward()
    np.testing.assert_allclose(net.params["ip"][0].diff, 2 * once, rtol=1e-6)
    net.clear_param_diffs()
    assert not net.params["ip"][0].diff.any()


def test_a_blob_used_twice_is_split_under_caffes_names(make_net):
    net = make_net(TRAIN, phase="train")
    assert [layer.name for layer in net.layers if layer.type == "Split"] == [
        "label_data_1_split",
        "ip_ip_0_split",
    ]
    assert "ip_ip_0_split_1" in net.blobs
    assert np.shares_memory(net.blobs["ip_ip_0_split_1"].data, net.blobs["ip"].data)


def test_a_layer_with_lr_mult_0_below_the_rest_gets_no_gradient(make_net, rng):
    frozen = CHAIN.replace("type: Convolution,", "type: Convolution, param: [{lr_mult: 0}, {lr_mult: 0}],")
    net = make_net(frozen)
    net.forward(data=rng.standard_normal((2, 3, 6, 6)))
    net.backward(prob=rng.standard_normal((2, 5)))
    assert net.params["ip"][0].diff.any()
    assert not net.blobs["conv"].has_diff
    assert not net.params["conv"][0].has_diff


def test_propagate_down_false_stops_the_gradient(make_net, rng):
    net = make_net(CHAIN.replace("type: InnerProduct,", "type: InnerProduct, propagate_down: false,"))
    net.forward(data=rng.standard_normal((2, 3, 6, 6)))
    net.backward(prob=rng.standard_normal((2, 5)))
    assert net.params["ip"][0].diff.any()
    assert not net.params["conv"][0].has_diff


def test_a_loss_weight_scales_loss_and_gradient(make_net, rng):
    plain = make_net(TRAIN, phase="train", seed=1)
    heavy = make_net(
        TRAIN.replace("type: SoftmaxWithLoss", "type: SoftmaxWithLoss, loss_weight: 3"), phase="train", seed=1
    )
    x = rng.standard_normal((4, 3))
    for net in (plain, heavy):
        net.forward(data=x, label=[0, 1, 2, 0])
        net.backward()
    assert heavy.loss() == pytest.approx(3 * plain.loss())
    np.testing.assert_allclose(heavy.params["ip"][0].diff, 3 * plain.params["ip"][0].diff, rtol=1e-5)


def test_a_loss_that_feeds_another_layer_still_counts_as_a_loss(make_net):
    text = TRAIN + "- {name: twice, type: Power, bottom: loss, power_param: {scale: 2}, loss_weight: 0.5}\n"
    net, plain = make_net(text, phase="train", seed=1), make_net(TRAIN, phase="train", seed=1)
    for each in (net, plain):
        each.forward(data=np.eye(4, 3), label=[0, 1, 2, 0])
        each.backward()
    assert net.loss() == pytest.approx(2 * plain.loss())
    np.testing.assert_allclose(net.params["ip"][0].diff, 2 * plain.params["ip"][0].diff, rtol=1e-5)


RULES = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [1, 2]}}}
- {name: train_only, type: ReLU, include: {phase: TRAIN}}
- {name: not_test, type: ReLU, exclude: {phase: TEST}}
- {name: high, type: ReLU, include: {min_level: 2}}
- {name: low, type: ReLU, include: {max_level: 1}}
- {name: staged, type: ReLU, include: {stage: [a, b]}}
- {name: unstaged, type: ReLU, include: {not_stage: a}}
- {name: either, type: ReLU, include: [{phase: TRAIN, stage: a}, {min_level: 5}]}
- {name: neither, type: ReLU, exclude: [{stage: c}, {phase: TRAIN}, {max_level: 1}]}
- {name: no_two, type: ReLU, include: {stage: c, not_stage: [a, b]}}
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"phase": "train"}, {"train_only", "not_test", "low", "unstaged"}),
        ({"phase": "test"}, {"low", "unstaged"}),
        ({"phase": "test", "level": 1}, {"low", "unstaged"}),
        ({"phase": "test", "level": 2}, {"high", "unstaged", "neither"}),
        ({"phase": "test", "level": 2, "stages": ["c"]}, {"high", "unstaged", "no_two"}),
        ({"phase": "test", "stages": ["c", "b"]}, {"low", "unstaged"}),
        ({"phase": "test", "stages": ["a"]}, {"low"}),
        ({"phase": "test", "stages": ["a", "b"]}, {"low", "staged"}),
        ({"phase": "train", "stages": ["a"]}, {"train_only", "not_test", "low", "either"}),
        ({"phase": "test", "level": 5}, {"high", "unstaged", "either", "neither"}),
    ],
)
def test_rules_choose_the_layers(make_net, options, expected):
    assert {layer.name for layer in make_net(RULES, **options).layers} - {"data"} == expected


def test_a_nets_own_stages_count_too_but_not_its_level_or_phase(make_net):
    """As Caffe's Net does, which adds stages to ``state`` and writes its phase and level over."""
    own = "state: {stage: b, level: 3, phase: TRAIN}\n" + RULES
    layers = {layer.name for layer in make_net(own, stages=["a"], level=np.int64(0)).layers}
    assert layers - {"data"} == {"low", "staged"}


def test_weights_saved_and_copied_are_the_same(make_net, tmp_path):
    net = make_net(CHAIN, seed=1)
    net.save(tmp_path / "w.npz")
    other = make_net(CHAIN, seed=2)
    report = other.copy_from(tmp_path / "w.npz")
    assert report.matched == ["conv", "ip"]
    for name, blobs in net.params.items():
        for mine, its in zip(blobs, other.params[name], strict=True):
            np.testing.assert_array_equal(mine.data, its.data)


def test_copying_weights_says_what_matched_and_what_did_not(make_net, tmp_path):
    make_net(CHAIN).save(tmp_path / "w.npz")
    net = make_net(CHAIN.replace("name: ip,", "name: fc,"))
    report = net.copy_from(tmp_path / "w.npz")
    assert (report.matched, report.missing, report.unused) == (["conv"], ["fc"], ["ip"])
    assert "conv" in str(report) and "fc" in str(report) and "ip" in str(report)


def test_weights_that_do_not_fit_leave_the_net_as_it_was(make_net, tmp_path):
    make_net(CHAIN.replace("num_output: 5", "num_output: 6")).save(tmp_path / "w.npz")
    net = make_net(CHAIN)
    before = net.params["conv"][0].data.copy()
    with pytest.raises(mc.WeightError, match=r"'ip/0' has shape \(6, 16\), the net expects \(5, 16\)"):
        net.copy_from(tmp_path / "w.npz")
    np.testing.assert_array_equal(net.params["conv"][0].data, before)


def test_a_registered_layer_type_works_like_any_other(make_net, rng):
    @mc.register_layer
    class TestDouble(mc.Layer):
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)

        def forward(self, bottom, top):
            top[0].data[...] = 2 * bottom[0].data

    net = make_net(
        "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}\n- {name: y, type: TestDouble}\n"
    )
    x = rng.standard_normal((2, 3)).astype("f4")
    np.testing.assert_array_equal(net.forward(x=x)["y"], 2 * x)


def test_a_net_takes_a_path_and_finds_its_weights(tmp_path, make_net):
    (tmp_path / "net.yaml").write_text(CHAIN)
    make_net(CHAIN, seed=4).save(tmp_path / "w.npz")
    net = mc.Net(str(tmp_path / "net.yaml"), weights=str(tmp_path / "w.npz"), phase="test")
    np.testing.assert_array_equal(net.params["ip"][0].data, make_net(CHAIN, seed=4).params["ip"][0].data)


def test_equal_seeds_give_equal_weights_and_others_do_not(make_net):
    first, same, other = (make_net(CHAIN, seed=s).params["conv"][0].data for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_debug_info_prints_every_layer_forward_and_backward(make_net, caplog):
    caplog.set_level("INFO", "minicaffe")
    net = make_net(CHAIN.replace("name: chain", "name: chain\ndebug_info: true"))
    net.forward(data=np.ones((2, 3, 6, 6)))
    net.backward(prob=np.ones((2, 5)))
    text = caplog.text
    assert "[Forward] Layer conv, top blob conv data:" in text
    assert "[Forward] Layer conv, param blob 0 data:" in text
    assert "[Backward] Layer ip, bottom blob pool diff:" in text
    assert "[Backward] Layer conv, param blob 1 diff:" in text


SHARED = """
debug_info: true
layer:
- {name: data, type: DummyData, top: [data, target], dummy_data_param: {
    shape: {dim: [2, 3]}, data_filler: [{type: constant, value: 0.5}, {type: constant, value: 1}]}}
- {name: a, type: InnerProduct, bottom: data, param: [{name: w}, {name: b}], inner_product_param: {
    num_output: 3, weight_filler: {type: constant, value: 0.3}}}
- {name: c, type: InnerProduct, bottom: a, param: {name: w}, inner_product_param: {num_output: 3}}
- {name: loss, type: EuclideanLoss, bottom: [c, target]}
"""
AS_CAFFE = """
    [Forward] Layer data, top blob data data: 0.5
    [Forward] Layer data, top blob target data: 1
    [Forward] Layer a, top blob a data: 0.45
    [Forward] Layer a, param blob w data: 0.3
    [Forward] Layer a, param blob b data: 0
    [Forward] Layer c, top blob c data: 0.405
    [Forward] Layer c, param blob w data: 0.3
    [Forward] Layer c, param blob 1 data: 0
    [Forward] Layer loss, top blob loss data: 0.531037
    [Backward] Layer loss, bottom blob c diff: 0.2975
    [Backward] Layer c, bottom blob a diff: 0.26775
    [Backward] Layer c, param blob 0 diff: 0.26775
    [Backward] Layer c, param blob 1 diff: 0.595
    [Backward] Layer a, param blob 0 diff: 0.5355
    [Backward] Layer a, param blob 1 diff: 0.5355
    [Backward] All net params (data, diff): L1 norm = (2.7, 8.211); L2 norm = (0.9, 2.12207)
"""


def test_debug_info_of_shared_parameters_and_the_line_of_all_norms_are_as_caffe_prints_them(make_net, caplog):
    caplog.set_level("INFO", "minicaffe")
    net = make_net(SHARED, phase="train")
    net.forward()
    net.backward()
    assert caplog.messages == AS_CAFFE.strip("\n").split("\n")


def test_a_diff_written_on_another_output_later_is_followed_too(make_net):
    two = TRAIN + "- {name: side, type: Power, bottom: ip, power_param: {scale: 2}}\n"
    net = make_net(two, phase="train", seed=1)
    net.forward(data=np.eye(4, 3), label=[0, 1, 2, 0])
    net.backward()
    plain = net.params["ip"][0].diff.copy()
    net.clear_param_diffs()
    net.blobs["side"].diff[...] = 1
    net.backward()
    assert np.abs(net.params["ip"][0].diff - plain).max() > 0.1


def test_permissive_sharing_needs_the_same_count_only(make_net):
    text = """
layer:
- {name: x, type: Input, top: [x, y], input_param: {shape: [{dim: [1, 2]}, {dim: [1, %d]}]}}
- {name: a, type: InnerProduct, bottom: x, param: {name: w},
   inner_product_param: {num_output: 6, bias_term: false, weight_filler: {type: xavier}}}
- {name: b, type: InnerProduct, bottom: y, param: {name: w, share_mode: PERMISSIVE},
   inner_product_param: {num_output: 3, bias_term: false}}
"""
    net = make_net(text % 4)
    np.testing.assert_array_equal(net.params["b"][0].data.ravel(), net.params["a"][0].data.ravel())
    with pytest.raises(mc.ShapeError, match="which it shares"):
        make_net(text % 5)


def test_sharing_with_each_other_or_oneself_ends_nowhere_in_a_circle(make_net):
    net, other = make_net(CHAIN, seed=1), make_net(CHAIN, seed=2)
    net.share_with(net)
    net.share_with(other)
    other.share_with(net)
    np.testing.assert_array_equal(net.params["ip"][0].data, other.params["ip"][0].data)


def test_labels_that_do_not_match_are_refused_when_the_net_is_built(make_net):
    with pytest.raises(mc.ShapeError, match=r"layer 'accuracy'.*8 labels"):
        make_net(TRAIN.replace("{dim: [4]}", "{dim: [4, 2]}"))


def test_propagate_down_on_labels_is_refused(make_net):
    with pytest.raises(mc.SpecError, match=r"propagate_down: .* can have no gradient"):
        make_net(
            TRAIN.replace("type: SoftmaxWithLoss", "type: SoftmaxWithLoss, propagate_down: [true, true]")
        )


class Growing(mc.Layer):
    """Its top is one larger after each reshape, of which there is one before each forward."""

    reshapes_always = True
    size = 0

    def reshape(self, bottom, top):
        self.size += 1
        top[0].reshape(bottom[0].shape[0], self.size)

    def forward(self, bottom, top):
        top[0].stored[...] = 1

    def backward(self, top, propagate_down, bottom):
        bottom[0].stored_diff[...] = 1


def test_backward_is_refused_where_a_reshape_of_the_layers_own_has_changed_its_top():
    mc.register_layer(Growing)
    x = "- {name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}"
    text = f"force_backward: true\nlayer:\n{x}\n- {{name: y, type: Growing}}"
    try:
        net = mc.Net(parse_net(text))
        net.forward()
        net.backward(y=np.ones((2, 2)))
        net.reshape()
        with pytest.raises(mc.MinicaffeError, match="has not run forward at this size"):
            net.backward(y=np.ones((2, 3)))
    finally:
        layer_classes.pop("Growing")


def test_a_class_that_replaces_a_layer_type_of_the_package_is_warned_of(caplog):
    built_in = layer_classes["Silence"]
    try:
        mc.register_layer("Silence", Growing)
        assert "'Silence' replaces the layer type of this name" in caplog.text
        caplog.clear()
        mc.register_layer("Growing", Growing)
        mc.register_layer("Growing", Growing)
        assert not caplog.text
    finally:
        layer_classes.pop("Growing", None)
        mc.register_layer("Silence", built_in)
