"""Parameters that layers of a net share by name, and nets with each other."""

import pytest

import minicaffe as mc
from tests.core.small_nets import CHAIN, TRAIN


def test_nets_that_share_see_each_others_weights(make_net):
    net, other = make_net(CHAIN, seed=1), make_net(CHAIN, seed=2)
    other.share_with(net)
    net.params["ip"][0].data[...] = 0.25
    assert (other.params["ip"][0].data == 0.25).all()
    other.params["conv"][1].data[...] = 3
    assert (net.params["conv"][1].data == 3).all()


def test_a_net_without_a_common_layer_is_told_of_the_other_net_and_of_no_file(make_net):
    other = make_net(CHAIN.replace("name: conv,", "name: first,").replace("name: ip,", "name: last,"))
    report = str(make_net(CHAIN).share_with(other))
    assert "(not in the other net): conv, ip" in report and "file" not in report


def test_layers_that_share_a_parameter_use_one_blob_and_the_solver_sees_it_once(make_net):
    layer = "type: InnerProduct, param: {name: w}, inner_product_param: {num_output: 3, bias_term: false}"
    net = make_net(f"""
layer:
- {{name: x, type: Input, input_param: {{shape: {{dim: [1, 3]}}}}}}
- {{name: a, {layer}}}
- {{name: b, {layer}}}
""")
    net.params["a"][0].data[...] = 7
    assert (net.params["b"][0].data == 7).all()
    assert len(net.learnable) == 1


def test_shared_parameters_of_other_shapes_are_refused(make_net):
    with pytest.raises(mc.ShapeError, match=r"layer 'b'.*\(4, 3\).*'w'.*\(3, 3\)"):
        make_net("""
layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 3]}}}
- {name: a, type: InnerProduct, param: {name: w}, inner_product_param: {num_output: 3, bias_term: false}}
- {name: b, type: InnerProduct, param: {name: w}, inner_product_param: {num_output: 4, bias_term: false}}
""")


def test_shared_parameters_agree_on_their_multipliers(make_net):
    layer = "type: InnerProduct, inner_product_param: {num_output: 3, bias_term: false}"
    text = """
layer:
- {name: x, type: Input, input_param: {shape: {dim: [1, 3]}}}
- {name: a, %s, param: {name: w, lr_mult: %s}}
- {name: b, %s, param: {name: w, %s}}
"""
    net = make_net(text % (layer, 2, layer, "decay_mult: 3"))
    assert (net.learnable[0].lr_mult, net.learnable[0].decay_mult) == (2, 3)
    with pytest.raises(mc.SpecError, match=r"lr_mult: 4, but 'w', which is shared, has 2"):
        make_net(text % (layer, 2, layer, "lr_mult: 4"))


def test_nets_with_other_shapes_or_types_do_not_share(make_net):
    net = make_net(CHAIN)
    with pytest.raises(mc.ShapeError, match="layer 'ip' has parameters"):
        net.share_with(make_net(CHAIN.replace("num_output: 5", "num_output: 6")))
    with pytest.raises(mc.ShapeError, match="one dtype"):
        net.share_with(make_net(CHAIN, dtype="float64"))
    with pytest.raises(mc.ShapeError, match="layer 'ip'"):
        net.share_with(make_net(TRAIN))
    report = net.share_with(make_net(CHAIN.replace("name: conv,", "name: other,")))
    assert (report.matched, report.missing, report.unused) == (["ip"], ["conv"], ["other"])


def test_clearing_a_shared_gradient_clears_it():
    one, other = mc.Blob((3,)), mc.Blob((3,))
    other.share_diff(one)
    other.diff[...] = 9
    other.clear_diff()
    assert not one.diff.any() and not other.diff.any()


def test_nets_whose_images_differ_in_size_name_the_blob_and_the_mend(make_net):
    spec = (
        "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [1, 3, SIZE]}}}\n"
        "- {name: ip, type: InnerProduct, inner_product_param: {num_output: 2}}"
    )
    trained, tested = (make_net(spec.replace("SIZE", size)) for size in ("4, 6", "5, 5"))
    with pytest.raises(
        mc.ShapeError, match=r"layer 'ip' .*'data' is \(3, 5, 5\) here and \(3, 4, 6\) there: give"
    ):
        tested.share_with(trained)
