"""Folding BatchNorm and Scale into the weights before them: the net computes what it did, with fewer layers."""

import re

import numpy as np
import pytest
import yaml

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.compress.fold import find, fold
from minicaffe.spec.edit import remove_layers
from minicaffe.spec.net import parse_net
from tests.random_nets import RandomNet, comments_of, layers_of


def net_text(weighted, *after, shape=(2, 4, 6, 5)):
    """A net of an input, a layer ``conv`` and what comes after it, each given as YAML without its braces."""
    layers = [f"name: x, type: Input, input_param: {{shape: {{dim: {list(shape)}}}}}"]
    layers += [f"name: conv, {weighted}", *after]
    return "name: net\nlayer:\n" + "".join(f"- {{{layer}}}\n" for layer in layers)


def random_net(rng, text, **options):
    """The net of a text at TEST, with random weights, statistics and coefficients."""
    net = mc.Net(parse_net(text, "net.yaml"), phase="test", **options)
    for layer in net.layers:
        for i, blob in enumerate(layer.blobs):
            positive = layer.type in ("BatchNorm", "BN") and i
            blob.data[...] = rng.uniform(0.5, 2, blob.shape) if positive else rng.standard_normal(blob.shape)
    for layer in net.layers:  # a basis of the data is there only once one has been made
        if "data" in getattr(layer, "note", ""):
            layer.blobs[-1].data[...] = 0
    return net


def fold_text(text, net):
    return fold(text, net)


def assert_computes_the_same(rng, net, folded):
    x = rng.standard_normal(net.blobs["x"].shape)
    expected, found = net.forward(x=x), folded.forward(x=x)
    assert set(found) == set(expected)
    for name, y in expected.items():
        assert np.abs(y).max() > 0.01
        np.testing.assert_allclose(found[name], y, rtol=1e-4, atol=1e-4 * np.abs(y).max(), err_msg=name)


WEIGHTED = {
    "convolution": "type: Convolution, convolution_param: {num_output: 6, kernel_size: 3, pad: 1}",
    "no bias": "type: Convolution, convolution_param: {num_output: 6, kernel_size: 3, bias_term: false}",
    "groups": "type: Convolution, convolution_param: {num_output: 6, kernel_size: 3, group: 2, stride: 2}",
    "inner product": "type: InnerProduct, inner_product_param: {num_output: 6}",
    "inner product, no bias": "type: InnerProduct, inner_product_param: {bias_term: false, num_output: 6}",
    "transposed": "type: InnerProduct, inner_product_param: {num_output: 6, transpose: true}",
    "transposed, no bias": "type: InnerProduct, "
    "inner_product_param: {num_output: 6, transpose: true, bias_term: false}",
    "factored": "type: Convolution, convolution_param: {num_output: 6, kernel_size: 3}, "
    "low_rank_param: {rank: 2, factored: true}",
    "factored, spatial, groups, no bias": "type: Convolution, "
    "convolution_param: {num_output: 6, kernel_size: 3, group: 2, bias_term: false}, "
    "low_rank_param: {rank: 2, scheme: spatial, factored: true}",
    "factored inner product": "type: InnerProduct, inner_product_param: {num_output: 6}, "
    "low_rank_param: {rank: 2, factored: true}",
    "data basis": "type: Convolution, convolution_param: {num_output: 6, kernel_size: 3}, "
    "low_rank_param: {rank: 4, target: data}",
    "data basis, no bias": "type: Convolution, convolution_param: {num_output: 6, kernel_size: 3, "
    "bias_term: false}, low_rank_param: {rank: 4, target: data}",
}
NORM, SCALE = "name: norm, type: BatchNorm", "name: scale, type: Scale"
SHIFTED = f"{SCALE}, scale_param: {{bias_term: true}}"
AFTER = {
    "BatchNorm and Scale in place": (f"{NORM}, top: conv", f"{SHIFTED}, top: conv"),
    "BatchNorm and Scale with other tops": (NORM, SHIFTED),
    "BatchNorm alone": (f"{NORM}, batch_norm_param: {{eps: 0.3}}",),
    "Scale alone": (f"{SCALE}, top: conv",),
    "NVIDIA's BatchNorm": (f"{NORM}, batch_norm_param: {{scale_bias: true}}",),
    "PSPNet's BN": ("name: norm, type: BN, bn_param: {eps: 0.2}",),
    "SegNet's BN": ("name: norm, type: BN, top: conv, bn_param: {bn_mode: INFERENCE}",),
    "Scale, BatchNorm, Scale": (SCALE, NORM, f"{SHIFTED.replace('name: scale', 'name: scale2')}"),
}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
@pytest.mark.parametrize("weighted", WEIGHTED.values(), ids=WEIGHTED)
def test_a_folded_net_computes_what_the_net_did(weighted, after, rng):
    text = net_text(weighted, *after, "name: relu, type: ReLU", "name: tanh, type: TanH, bottom: relu")
    net = random_net(rng, text)
    new, folded = fold_text(text, net)
    assert [layer.name for layer in folded.layers] == ["x", "conv", "relu", "tanh"]
    assert_computes_the_same(rng, net, folded)
    assert [layer.name for layer in mc.Net(parse_net(new)).layers] == ["x", "conv", "relu", "tanh"]


def test_a_data_basis_that_is_held_is_held_by_the_folded_net(rng):
    text = net_text(WEIGHTED["data basis"], NORM)
    net = random_net(rng, text)
    basis = net.params["conv"][2].data
    basis[...] = np.linalg.qr(rng.standard_normal(basis.shape))[0]
    _, folded = fold_text(text, net)
    np.testing.assert_array_equal(folded.params["conv"][2].data, basis)
    assert_computes_the_same(rng, net, folded)


def test_statistics_of_no_batch_yet_count_as_zero(rng):
    text = net_text(WEIGHTED["convolution"], f"{NORM}, batch_norm_param: {{eps: 0.25}}")
    net = random_net(rng, text)
    net.params["norm"][2].data[...] = 0
    _, folded = fold_text(text, net)
    for found, given in zip(folded.params["conv"], net.params["conv"], strict=True):
        np.testing.assert_allclose(found.data, 2 * given.data, rtol=1e-6)
    assert_computes_the_same(rng, net, folded)


def test_several_layers_are_folded_at_once_and_the_net_that_was_given_stays_as_it_was(rng):
    after = (NORM, "name: ip, type: InnerProduct, inner_product_param: {num_output: 3}", SHIFTED)
    text = net_text(WEIGHTED["no bias"], *after)
    net = random_net(rng, text)
    before = {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}
    new, folded = fold_text(text, net)
    assert [layer.name for layer in folded.layers] == ["x", "conv", "ip"]
    assert_computes_the_same(rng, net, folded)
    assert "bias_term: false" not in new
    for name, blobs in net.params.items():
        for blob, values in zip(blobs, before[name], strict=True):
            np.testing.assert_array_equal(blob.data, values)


def test_what_reads_the_blob_after_the_fold_still_finds_it(rng):
    readers = [f"name: {name}, type: {kind}, bottom: scale" for name, kind in (("a", "ReLU"), ("b", "TanH"))]
    text = net_text(WEIGHTED["convolution"], NORM, SCALE, *readers)
    net = random_net(rng, text)
    _, folded = fold_text(text, net)
    assert not {"norm", "scale"} & {layer.name for layer in folded.layers}
    assert_computes_the_same(rng, net, folded)


def test_layers_of_one_name_for_two_phases_go_together(rng):
    phases = [
        f"{NORM}, top: conv, include: {{phase: {phase}}}, batch_norm_param: {{use_global_stats: {flag}}}"
        for phase, flag in (("TRAIN", "false"), ("TEST", "true"))
    ]
    text = net_text(WEIGHTED["convolution"], *phases)
    net = random_net(rng, text)
    new, folded = fold_text(text, net)
    assert "norm" not in new
    assert_computes_the_same(rng, net, folded)


# what comes after ``conv``, or what ``conv`` is, so that nothing can be folded
STAYS = {
    "a layer that reads the blob in between": ("", NORM, "name: other, type: TanH, bottom: conv"),
    "a blob in between that is read in place, too": ("", "name: relu, type: ReLU, top: conv", NORM),
    "a Scale with two bottoms": (
        "",
        "name: s, type: Input, input_param: {shape: {dim: [4]}}",
        f"{SCALE}, bottom: [conv, s]",
    ),
    "a Scale of another axis": ("", f"{SCALE}, scale_param: {{axis: 2}}"),
    "a Scale of more axes": ("", f"{SCALE}, scale_param: {{num_axes: 2}}"),
    "a Scale of one number": ("", f"{SCALE}, scale_param: {{num_axes: 0}}"),
    "statistics of the batch": ("", f"{NORM}, batch_norm_param: {{use_global_stats: false}}"),
    "statistics of the batch, SegNet's": ("", "name: norm, type: BN, bn_param: {bn_mode: LEARN}"),
    "weights that are truncated": (", low_rank_param: {rank: 2}", NORM),
    "weights that are truncated in a basis": (", low_rank_param: {rank: 2, refresh: 3}", NORM),
    "weights that are truncated by energy": (", low_rank_param: {energy: 0.9, scheme: spatial}", NORM),
    "nothing": ("",),
}


@pytest.mark.parametrize(("more", "after"), [(m, a) for m, *a in STAYS.values()], ids=STAYS)
def test_what_cannot_be_folded_stays(more, after, rng):
    same = "type: Convolution, convolution_param: {num_output: 4, kernel_size: 3, pad: 1}"
    text = net_text(same + more, *after)
    net = random_net(rng, text)
    assert find(net) == []
    with pytest.raises(
        mc.SpecError, match=r"^net\.yaml: no BatchNorm, BN or Scale follows .*nothing to fold$"
    ):
        fold_text(text, net)


def test_of_a_chain_only_what_nobody_else_reads_is_folded(rng):
    text = net_text(WEIGHTED["convolution"], NORM, SCALE, "name: other, type: TanH, bottom: norm")
    net = random_net(rng, text)
    _, folded = fold_text(text, net)
    assert {"scale", "other"} <= {layer.name for layer in folded.layers}
    assert "norm" not in folded.params
    assert_computes_the_same(rng, net, folded)


def test_a_deconvolution_stays(rng):
    deconvolution = "type: Deconvolution, convolution_param: {num_output: 4, kernel_size: 2}"
    assert find(random_net(rng, net_text(deconvolution, NORM))) == []


# -- what a fold must not get wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("top", ["", ", top: conv"], ids=["another top", "in place"])
def test_a_layer_that_read_what_was_folded_by_default_reads_it_still(top, rng):
    aside = "name: aside, type: TanH, bottom: x, top: aside"
    text = net_text(
        "type: Convolution, convolution_param: {num_output: 4, kernel_size: 1}",
        aside,
        f"{NORM}, bottom: conv{top}",
        "name: relu, type: ReLU",
        "name: sum, type: Eltwise, bottom: [relu, aside]",
    )
    net = random_net(rng, text)
    assert_computes_the_same(rng, net, fold_text(text, net)[1])


def test_weights_that_two_layers_share_are_not_folded_into(rng):
    shared = (
        "type: Convolution, bottom: x, param: {name: w}, convolution_param: {num_output: 3, kernel_size: 3}"
    )
    text = net_text(
        shared,
        "name: norm1, type: BatchNorm",
        f"name: conv2, {shared}",
        "name: norm2, type: BatchNorm",
        "name: sum, type: Eltwise, bottom: [norm1, norm2]",
    )
    net = random_net(rng, text)
    try:
        folded = fold_text(text, net)[1]
    except mc.SpecError:
        return  # as good
    assert_computes_the_same(rng, net, folded)


@pytest.mark.parametrize("rule", ["include", "exclude"])
def test_a_net_of_a_stage_is_folded_as_that_net(tmp_path, rule, rng):
    more = f"name: more, type: InnerProduct, inner_product_param: {{num_output: 2}}, {rule}: {{stage: use}}"
    path = tmp_path / "net.yaml"
    path.write_text(net_text(WEIGHTED["convolution"], NORM, more))
    net = random_net(rng, path.read_text(), stages=["use"])
    net.save(tmp_path / "w.npz")
    out = tmp_path / "folded.yaml"
    arguments = ["fold", str(path), "--weights", str(tmp_path / "w.npz"), "-o", str(out), "--stage", "use"]
    assert main(arguments) == 0
    folded = mc.Net(out, weights=out.with_suffix(".npz"), stages=["use"])
    assert ("more" in net.params) == (rule == "include")
    assert_computes_the_same(rng, net, folded)


# -- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A working directory with a net in block style, and its weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(LAYOUT)
    random_net(rng, LAYOUT).save("net.npz")
    return tmp_path


LAYOUT = """\
# a net to fold
name: net
layer:
# first of all
- name: x   # the input
  type: Input
  input_param: {shape: {dim: [2, 3, 5, 5]}}

# what has weights
- name: conv
  type: Convolution
  convolution_param:
    num_output: 4      # four
    bias_term: false   # BatchNorm has one
    kernel_size: 3

- name: norm
  type: BatchNorm      # goes
# between
- {name: scale, type: Scale,
   scale_param: {bias_term: true}}
# at last
- name: relu
  type: ReLU
"""
FOLDED = """\
# a net to fold
name: net
layer:
# first of all
- name: x   # the input
  type: Input
  input_param: {shape: {dim: [2, 3, 5, 5]}}

# what has weights
- name: conv
  type: Convolution
  convolution_param:
    num_output: 4      # four
    kernel_size: 3
  top: scale

# between
# at last
- name: relu
  type: ReLU
"""


def test_the_command_writes_a_spec_and_weights_that_make_the_folded_net(folder, capsys, rng):
    net = mc.Net("net.yaml", weights="net.npz")
    assert main(["fold", "net.yaml", "--weights", "net.npz", "-o", "folded.yaml"]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[-3:] == ["Wrote folded.yaml", "Wrote folded.npz", "2 layers less"]
    assert output.err == ""
    assert (folder / "folded.yaml").read_text() == FOLDED
    folded = mc.Net("folded.yaml")
    assert folded.copy_from("folded.npz").matched == ["conv"]
    assert_computes_the_same(rng, net, folded)
    assert (folder / "net.yaml").read_text() == LAYOUT


@pytest.mark.parametrize("ending", ["yaml", "prototxt", "onnx"])
def test_a_net_of_caffe_may_be_folded_and_one_for_caffe_or_onnx_be_written(folder, ending, rng):
    with mc.Net("net.yaml", weights="net.npz") as net:
        mc.export(net, "given.prototxt", "given.caffemodel")
    (folder / "out").mkdir()
    out = f"out/folded.{ending}"
    assert main(["fold", "given.prototxt", "--weights", "given.caffemodel", "-o", out]) == 0
    if ending == "onnx":
        x = rng.standard_normal((2, 3, 5, 5)).astype(np.float32)
        session = pytest.importorskip("onnxruntime").InferenceSession(out)
        (expected,) = net.forward(x=x).values()
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-4)
        return
    weights = {"yaml": "npz", "prototxt": "caffemodel"}[ending]
    folded = mc.Net(out, weights=f"out/folded.{weights}")
    assert [layer.type for layer in folded.layers] == ["Input", "Convolution", "ReLU"]
    assert_computes_the_same(rng, mc.Net("net.yaml", weights="net.npz"), folded)


FLOW = (
    "layer: [{name: x, type: Input, input_param: {shape: {dim: [2, 3, 5, 5]}}}, {name: conv, type: Convolution, "
    "convolution_param: {num_output: 4, kernel_size: 3, bias_term: false}}, {name: norm, type: BatchNorm}]\n"
)


@pytest.mark.parametrize(
    ("text", "array", "message"),
    [
        (LAYOUT.replace("  type: BatchNorm", "  type: TanH"), "conv/0", r"net.yaml: .*nothing to fold"),
        (FLOW, "conv/0", r"net.yaml:1: layer 'norm': write the list of layers one per line"),
        (LAYOUT, "elsewhere/0", r"w.npz: .*another net's weights"),
    ],
    ids=["nothing to fold", "a list in flow style", "weights of another net"],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(folder, capsys, text, array, message):
    (folder / "net.yaml").write_text(text)
    np.savez("w.npz", **{array: np.ones((4, 3, 3, 3))})
    before = sorted(path.name for path in folder.iterdir())
    assert main(["fold", "net.yaml", "--weights", "w.npz", "-o", "folded.yaml", "--allow-missing"]) == 2
    error = capsys.readouterr().err
    assert re.match(f"error: {message}", error) and error.count("\n") == 1, error
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_output_folder_that_is_not_there_is_one_line(folder, capsys):
    assert main(["fold", "net.yaml", "--weights", "net.npz", "-o", "no/folded.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no/folded.yaml: cannot be written") and error.count("\n") == 1


# -- taking layers out of a text -------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("last_end", [True, False], ids=["a line break at the end", "none"])
@pytest.mark.parametrize(
    "names",
    [["x"], ["conv"], ["norm"], ["scale"], ["relu"], ["norm", "scale"], ["x", "relu"], ["x", "conv", "norm"]],
    ids="-".join,
)
def test_layers_go_with_their_lines_and_everything_else_stays(names, end, last_end):
    text = LAYOUT if last_end else LAYOUT.rstrip("\n")
    lines = {"x": (4, 7), "conv": (9, 15), "norm": (16, 18), "scale": (19, 21), "relu": (22, 24)}
    gone = {i for name in names for i in range(*lines[name])}
    expected = "".join(line for i, line in enumerate(text.splitlines(keepends=True)) if i not in gone)
    assert remove_layers(text.replace("\n", end), names) == expected.replace("\n", end)


def test_layers_of_one_name_all_go():
    text = "layer:\n- name: a\n  type: X\n- {name: b}\n- name: a\n  type: Y\n"
    assert remove_layers(text, ["a"]) == "layer:\n- {name: b}\n"
    assert remove_layers(text.replace("layer:", "layers:"), ["a"]) == "layers:\n- {name: b}\n"


@pytest.mark.parametrize("last", ["- *x\n", "- <<: *x\n  top: y\n", "- {name: a, of: *y}\n"])
def test_a_layer_that_refers_to_others_may_go(last):
    """No other place refers to it."""
    text = "base: {one: &x {name: a}, two: &y [1]}\nlayer:\n- {name: b}\n"
    assert remove_layers(text + last.replace("<<: *x", "<<: *x\n  name: a"), ["a"]) == text


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        (
            "layer: [{name: a}, {name: b}]\n",
            ["a"],
            r"^n:1: layer 'a': write the list of layers one per line$",
        ),
        ("layer:\n- {name: a}\n- {name: b}\n", ["c"], r"^n: no layer is named 'c'"),
        ("layer:\n- {name: a}\n- {name: b}\n", ["a", "c"], r"^n: no layer is named 'c'"),
        ("layer:\n- &one {name: a}\n- {name: b, like: *one}\n", ["a"], r"^n:2: layer 'a': has an anchor"),
        ("layer:\n- {name: a, of: &x [1]}\n- {name: b, of: *x}\n", ["a"], r"^n: .*anchors do not let it"),
        ("layer:\n- {name: a}\n", ["a"], r"^n: "),
        ("layer: {name: a}\n", ["a"], r"^n: no layer is named 'a'"),
    ],
)
def test_what_cannot_be_taken_out_is_refused(text, names, message):
    with pytest.raises(mc.SpecError, match=message):
        remove_layers(text, names, "n")


@pytest.mark.parametrize(
    "text", ["-   # well-known\n  name: a\n", "-\n  name: a\n", "-\n  # a-b\n  name: a\n"]
)
def test_an_item_that_begins_on_another_line_than_its_dash_goes_whole_or_is_refused(text):
    around = "layer:\n- {name: b}\n" + text + "- {name: c}  # kept\n"
    try:
        assert remove_layers(around, ["a"], "n") == "layer:\n- {name: b}\n- {name: c}  # kept\n"
    except mc.SpecError as error:
        assert str(error).startswith("n: ")


@pytest.mark.parametrize("seeds", [range(40), range(40, 80)], ids=str)
@pytest.mark.cpu_only("of texts")
def test_in_any_layout_the_other_layers_and_their_comments_stay(seeds):
    removed = 0
    for net in map(RandomNet, seeds):
        layers = layers_of(net.text)
        if len(layers) < 2:
            continue
        gone = net.random.randrange(len(layers))
        new = remove_layers(net.text, [layers[gone]["name"]])
        assert layers_of(new) == layers[:gone] + layers[gone + 1 :]
        items = next(v.value for k, v in yaml.compose(net.text).value if k.value.startswith("layer"))
        starts, lines = [item.start_mark.line for item in items], net.text.splitlines()
        others = lines[: starts[gone]] + [
            line for start in starts[gone + 1 : gone + 2] for line in lines[start:]
        ]
        kept = [comment for comment in comments_of(new) if comment in "\n".join(others)]
        assert kept == comments_of("\n".join(others))
        removed += 1
    assert removed > 20
