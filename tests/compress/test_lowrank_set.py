"""``minicaffe lowrank set``: ranks by rules, into specs of any format, and the factors of trained weights."""

import difflib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.compress.rules import Rule, resolve, to_multiple
from minicaffe.compress.shrunk import shrunk_text
from minicaffe.compress.suitable import why_dense
from minicaffe.device.array import to_host
from minicaffe.files.spec_formats import load_net, open_net
from minicaffe.inspect.summary import count_computed
from minicaffe.low_rank import factors
from minicaffe.low_rank.layers import LowRankLayer
from minicaffe.spec.net import parse_net
from minicaffe.train.preview import count_multiply_adds
from tests import ROOT
from tests.compress.lenet_cases import rewrite, run
from tests.golden_files import FOLDER

ZOO = {path.parent.name: path for path in sorted((ROOT / "prototxt").glob("*/deploy.yaml"))}
SET = ["lowrank", "set", "deploy.yaml"]
counted = pytest.mark.cpu_only("texts are made and sizes counted, nothing is computed")


def rows_of(printed):
    """The table of the command, by layer: scheme, rank, …"""
    lines = printed.splitlines()[2:]
    return {line.split()[0]: line.split()[1:] for line in lines}


def totals_of(printed):
    """Parameters and multiply-adds, before and after."""
    line = next(line for line in printed.splitlines() if line.startswith("the whole net"))
    return [int(number.replace(",", "")) for number in re.findall(r"([\d,]+)(?: →| \()", line)]


def ranks_of(path):
    """The rank and scheme of each low-rank layer of a net's file."""
    layers = load_net(path).layer
    return {
        x.name: (x.low_rank_param.rank, x.low_rank_param.scheme) for x in layers if x.has("low_rank_param")
    }


def arrays_of(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@counted
@pytest.mark.parametrize("name", ZOO)
def test_half_of_the_multiply_adds_of_every_net_of_the_zoo(name):
    """The ranks are the largest that cost half, only they are added to the text, and the net is built from it."""
    spec, text = load_net(ZOO[name]), ZOO[name].read_text(encoding="utf-8")
    spec.set_batch(1)
    with mc.Net(spec, phase="test") as net:
        ruled = resolve(net, [Rule(["*"], "flops", 0.5)])
        plan = {key: found.choice for key, found in ruled.items() if found.choice}
        assert plan and all(ruled[key].candidate.share(choice) <= 0.5 for key, choice in plan.items())
        for key, found in ruled.items():
            assert key in plan or found.why.startswith("rank 1 costs")
        assert ruled.keys() == {step.layer.name for step in net.steps if why_dense(step) is None}
        added = [sum(numbers) for numbers in zip(*(found.added for found in ruled.values()), strict=True)]
        before = count_computed(net)[0], count_multiply_adds(net)
    shrunk = shrunk_text(text, spec, plan, adds_biases=False)
    changed = [line for line in difflib.ndiff(text.splitlines(), shrunk.splitlines()) if line[0] in "+-"]
    assert all("low_rank_param: {rank: " in x or "param: [{lr_mult" in x for x in changed if x[0] == "+")
    low = parse_net(shrunk)
    low.set_batch(1)
    with mc.Net(low, phase="test") as net:
        assert {x.name: x.low_rank.rank for x in net.layers if isinstance(x, LowRankLayer)} == {
            key: choice.rank for key, choice in plan.items()
        }
        after = count_computed(net)[0], count_multiply_adds(net)
    assert after == (before[0] + added[0], before[1] + added[1])


@counted
@pytest.mark.parametrize("case", ["det1", "det2"])
def test_nets_of_caffe_are_written_as_yaml_with_their_factors(case, shared_data, tmp_path, capsys):
    net, weights = (shared_data / "mtcnn" / f"{case}.{ending}" for ending in ("prototxt", "caffemodel"))
    run(capsys, "lowrank", "set", net, "--flops", "0.5", "--weights", weights, "-o", tmp_path / "low.yaml")
    dense = mc.Net(net, weights=weights, phase="test")
    low = mc.Net(tmp_path / "low.yaml", weights=tmp_path / "low.npz", phase="test")
    assert count_multiply_adds(low) <= 0.52 * count_multiply_adds(dense)


def test_ranks_and_fractions_are_written_and_the_rest_of_the_text_stays(folder, capsys):
    printed = run(capsys, *SET, "*=0.5", "conv2=12", "ip*=25%", "--except", "conv1,ip2")
    old, new = (Path(name).read_text() for name in ("deploy.yaml", "deploy_lowrank.yaml"))
    assert ranks_of("deploy_lowrank.yaml") == {"conv2": (12, "CHANNEL"), "ip1": (125, "CHANNEL")}
    changed = [line for line in difflib.ndiff(old.splitlines(), new.splitlines()) if line[0] in "+-"]
    assert changed == [
        "+   low_rank_param: {rank: 12, scheme: channel, factored: true}",
        "+   low_rank_param: {rank: 125, scheme: channel, factored: true}",
    ]
    rows = rows_of(printed)
    assert rows["conv2"] == ["channel", "12", "of", "50", "0.264"]
    assert rows["conv1"] == ["dense", "no", "rule", "is", "for", "it"]
    before, after = mc.Net("deploy.yaml"), mc.Net("deploy_lowrank.yaml")
    assert totals_of(printed) == [
        count_computed(before)[0], count_computed(after)[0],
        count_multiply_adds(before), count_multiply_adds(after),
    ]  # fmt: skip


@counted
def test_spatial_is_for_windows_and_an_inner_product_has_none(folder, capsys):
    run(capsys, *SET, "conv2=12", "ip1=20", "--scheme", "spatial", "-o", "low.yml")
    assert ranks_of("low.yml") == {"conv2": (12, "SPATIAL"), "ip1": (20, "CHANNEL")}


@pytest.mark.parametrize(
    ("rank", "multiple", "full", "expected"),
    [(20, 8, 50, 16), (16, 8, 50, 16), (7, 8, 50, 8), (7, 8, 8, None), (49, 1, 50, 49), (50, 1, 50, None)],
)
def test_ranks_are_rounded_down_to_a_multiple(rank, multiple, full, expected):
    assert to_multiple(rank, multiple, full) == expected


@counted
def test_layers_stay_dense_where_a_rank_saves_nothing(folder, capsys):
    rewrite("deploy.yaml", ("num_output: 10}", "num_output: 1}"))
    printed = run(capsys, *SET, "--flops", "50%", "--layers", "conv*", "ip1=500", "--multiple", "32")
    rows = {name: " ".join(row) for name, row in rows_of(printed).items()}
    assert rows["conv1"] == "dense rank 32 is not below the full rank, 20"
    assert rows["conv2"] == "channel 32 of 50 0.704"  # a multiple at least, though that costs more than half
    assert rows["ip1"] == "dense rank 480 of 500 saves nothing"
    assert rows["ip2"] == "dense its matrix has one row or one column: the rank is 1 already"
    printed = run(capsys, *SET, "--flops", "0.5", "--layers", "conv1", "--multiple", "16")
    assert rows_of(printed)["conv1"] == ["dense", "rank", "16", "of", "20", "saves", "nothing"]


@pytest.mark.parametrize("scheme", ["channel", "spatial"])
def test_the_factors_are_those_of_the_truncated_svd(folder, capsys, scheme):
    sizes = ["conv2=12", "ip1=30", "--scheme", scheme, "--weights", "lenet.npz", "-o", "low.yaml"]
    printed = run(capsys, *SET, *sizes)
    low = mc.Net("low.yaml", weights="low.npz", phase="test")
    expected = mc.Net("low.yaml", weights="lenet.npz", phase="test")  # factorized when they are loaded
    x = np.random.default_rng(1).random((64, 1, 28, 28), np.float32)
    np.testing.assert_allclose(
        to_host(low.forward(data=x)["prob"]), to_host(expected.forward(data=x)["prob"]), atol=1e-5
    )
    w = arrays_of("lenet.npz")["ip1/0"]
    squares = np.linalg.svd(w, compute_uv=False) ** 2
    assert float(rows_of(printed)["ip1"][-1]) == pytest.approx(squares[:30].sum() / squares.sum(), abs=1e-3)


def test_an_energy_becomes_a_number(folder, capsys):
    flags = ["--energy", "0.8", "--layers", "conv2,ip1", "--weights", "lenet.npz", "-o", "low.yaml"]
    printed = run(capsys, *SET, *flags)
    for name, array in (("conv2", "conv2/0"), ("ip1", "ip1/0")):
        w = arrays_of("lenet.npz")[array]
        squares = np.cumsum(np.linalg.svd(w.reshape(len(w), -1), compute_uv=False).astype(np.float64) ** 2)
        rank = int(np.searchsorted(squares, 0.8 * squares[-1])) + 1
        assert ranks_of("low.yaml")[name] == (rank, "CHANNEL")
        assert rows_of(printed)[name][-1] == f"{squares[rank - 1] / squares[-1]:.3f}"


def test_groups_and_an_image_axis_and_missing_biases_keep_their_factors(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    conv = (
        "type: Convolution, convolution_param: {weight_filler: {type: xavier}, num_output: 8, kernel_size: 3"
    )
    lines = [
        "- {name: x, type: Input, input_param: {shape: {dim: [2, 4, 12]}}}",
        f"- {{name: a, {conv}, group: 2, dilation: 2, bias_term: false}}, param: {{lr_mult: 3}}}}",
        f"- {{name: b, {conv}, stride: 2}}, low_rank_param: {{rank: 5, factored: true}}}}",
        f"- {{name: c, {conv}, pad: 1}}, low_rank_param: {{rank: 5}}}}",
    ]
    Path("net.yaml").write_text("layer:\n" + "\n".join(lines) + "\n")
    net = mc.Net("net.yaml", phase="test")
    net.save("net.npz")
    run(capsys, "lowrank", "set", "net.yaml", "a=2", "b=3", "c=8", "--weights", "net.npz", "-o", "low.yaml")
    assert ranks_of("low.yaml") == {"a": (2, "CHANNEL"), "b": (3, "CHANNEL")}
    low = mc.Net("low.yaml", weights="low.npz", phase="test")
    assert [len(low.params[name]) for name in "abc"] == [2, 3, 2]
    assert [param.lr_mult for param in low.layers[1].spec.param] == [3, 3]
    np.testing.assert_array_equal(low.params["c"][0].data, net.params["c"][0].data)

    def product(layer, name):
        first, second = (to_host(blob.data) for blob in layer.params[name][:2])
        return second[:, :, 0, 0] @ first.reshape(second.shape[1], -1)

    u, s, vt = np.linalg.svd(product(net, "b"), full_matrices=False)
    np.testing.assert_allclose(product(low, "b"), (u[:, :3] * s[:3]) @ vt[:3], atol=1e-5)


@counted
def test_a_caffemodel_brings_its_weights(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(FOLDER / "caffe" / "current.caffemodel", "model.caffemodel")
    names = [layer.name for layer in open_net("model.caffemodel").layer if layer.type == "Convolution"]
    run(capsys, "lowrank", "set", "model.caffemodel", f"{names[0]}=1")
    mc.Net("model_lowrank.yaml", weights="model_lowrank.npz", phase="test").close()
    assert list(ranks_of("model_lowrank.yaml")) == names[:1]


@counted
def test_a_deploy_net_without_weights_is_built_without_factorizing_zeros(monkeypatch):
    """Of a large net that would take minutes."""
    monkeypatch.setattr(factors, "svd", None)
    head = "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 4, 6, 6]}}}\n"
    conv = "- {name: y, type: Convolution, convolution_param: {num_output: 6, kernel_size: 3}"
    for scheme in ("channel", "spatial"):
        ranks = f"low_rank_param: {{rank: 2, factored: true, scheme: {scheme}}}"
        net = mc.Net.from_text(f"{head}{conv}, {ranks}}}\n")
        assert not any(to_host(blob.data).any() for blob in net.params["y"])
        net.blobs["x"].data[...] = 1
        assert not to_host(net.forward()["y"]).any()


WRONG = {
    "no rules": ([], r"set: no ranks; give LAYER=RANK"),
    "no number": (["conv2=many"], r"'conv2=many': write LAYER=RANK"),
    "no layer": (["=3"], r"'=3': write LAYER=RANK"),
    "rank 0": (["conv2=0"], r"'conv2=0': write LAYER=RANK"),
    "a fraction above 1": (["conv2=1.5"], r"'conv2=1.5': write LAYER=RANK"),
    "no rank at all": (["conv2=nan"], r"'conv2=nan': write LAYER=RANK"),
    "more than the full rank": (["conv2=51"], r"layer 'conv2': rank 51 is more than the full rank, 50"),
    "an unknown layer": (["conv3=4"], r"deploy.yaml: has no layer 'conv3'; did you mean 'conv\d'"),
    "an unfit layer": (["pool1=4"], r"layer 'pool1': no product of weights and inputs; leave the layer out"),
    "two goals": (["--flops", "0.5", "--energy", "0.5", "--weights", "lenet.npz"], r"one of --flops and --energy"),
    "energy without weights": (["--energy", "0.5"], r"give them with --weights"),
    "layers without a goal": (["conv2=4", "--layers", "conv1"], r"--layers are those of --flops or --energy"),
    "a share above 1": (["--flops", "2"], r"--flops: '2' must be a share above 0 and at most 1"),
    "onto the net": (["conv2=4", "-o", "deploy.yaml"], r"deploy.yaml: would be written over the deploy.yaml"),
    "onto the weights": (["conv2=4", "--weights", "lenet.npz", "-o", "lenet.yaml"], r"lenet.npz: would be written"),
    "as another format": (["conv2=4", "-o", "low.prototxt"], r"low.prototxt: set writes YAML"),
    "into no folder": (["conv2=4", "-o", "no/low.yaml"], r"no/low.yaml: cannot be written"),
    "weights of nan": (["conv2=4", "--weights", "nan.npz"], r"layer 'conv2': its weights have nan"),
    "weights of another net": (["conv2=4", "--weights", "other.npz"], r"other.npz: has no layer of this net"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(folder, capsys, arguments, message):
    arrays = arrays_of("lenet.npz")
    np.savez("nan.npz", **{**arrays, "conv2/0": np.full_like(arrays["conv2/0"], np.nan)})
    np.savez("other.npz", **{"other/0": np.zeros(3)})
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    try:
        status = main([*SET, *arguments])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    assert re.search(message, error), error
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
