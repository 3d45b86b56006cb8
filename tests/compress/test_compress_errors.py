"""``minicaffe lowrank``: what cannot be done is one line, at the start; nets that are out of the common."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from minicaffe.cli.program import main
from minicaffe.compress import batches, shrunk
from minicaffe.compress.batches import draw
from minicaffe.compress.cost import FlopCost
from minicaffe.compress.plan import LayerRank
from minicaffe.compress.workbench import Workbench
from minicaffe.core.net import Net
from minicaffe.errors import SpecError
from minicaffe.files.spec_formats import load_net
from minicaffe.spec.net import parse_net
from tests.compress.lenet_cases import SIZES, rewrite, select, with_ranks

pytestmark = pytest.mark.usefixtures("folder")


def assert_one_line(capsys, arguments, message):
    capsys.readouterr()
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("error: ") and error.count("\n") == 1, error
    assert re.search(message, error), error


SELECT = [
    "lowrank",
    "select",
    "net.yaml",
    "--weights",
    "lenet.npz",
    "-o",
    "low.yaml",
    *SIZES,
]
APPLY = ["lowrank", "apply", "low.yaml", "--weights", "lenet.npz", "--calibration", "1", "-o", "out.npz"]
NO_GOAL = r"give one of --max-drop, --flops, --params and --time"
SWEEP = ["lowrank", "sweep", "net.yaml", "--weights", "lenet.npz", "--ranks", "0.5", *SIZES]
FLAGS = {
    "no goal": (SELECT, NO_GOAL),
    "two goals": ([*SELECT, "--max-drop", "1%", "--time", "0.5"], NO_GOAL),
    "what to make small for a cost": (
        [*SELECT, "--flops", "0.5", "--by", "time"], r"--by time says what --max-drop makes small; leave it out",
    ),
    "a whole drop": ([*SELECT, "--max-drop", "100%"], r"--max-drop: '100%' must be a share from 0 to below 1"),
    "a negative drop": ([*SELECT, "--max-drop=-1%"], r"--max-drop: '-1%' must be a share"),
    "text for a drop": ([*SELECT, "--max-drop", "two%"], r"--max-drop: 'two%' must be a share"),
    "a drop of nan": ([*SELECT, "--max-drop", "nan"], r"--max-drop: 'nan' must be a share"),
    "no share": ([*SELECT, "--flops", "0"], r"--flops: '0' must be a share above 0 and at most 1"),
    "a share above one": ([*SELECT, "--time", "1.1"], r"--time: '1.1' must be a share"),
    "a percent above one": ([*SELECT, "--flops", "101%"], r"--flops: '101%' must be a share"),
    "no batches": ([*SELECT, "--flops", "0.5", "--batches", "0"], r"--batches: '0' must be a whole number"),
    "a rank of two": ([*SWEEP, "--ranks", "0.5,2"], r"--ranks: '2' must be a share"),
    "an unknown scheme": ([*SWEEP, "--scheme", "cp"], r"--scheme: invalid choice: 'cp'"),
    "an unknown layer": ([*SELECT, "--flops", "0.5", "--layers", "conv1,convv"], r"net.yaml: has no layer 'convv'"),
    "a layer of another type": (
        [*SWEEP, "--layers", "relu1"], r"net.yaml:\d+: layer 'relu1': no product of weights",
    ),
    "a net that is not there": (["lowrank", "sweep", "no.yaml", *SWEEP[3:]], r"no.yaml: cannot be read"),
    "weights that are not there": ([*SWEEP, "--weights", "no.npz"], r"no.npz: cannot be read"),
    "a net without data": (
        ["lowrank", "sweep", "deploy.yaml", *SWEEP[3:]], r"deploy.yaml: has no data layer; give image files",
    ),
    "an unknown device": ([*SWEEP, "--device", "tpu"], r"device 'tpu'"),
    "a multiple above all ranks": (
        [*SELECT, "--flops", "0.5", "--multiple", "999"], r"net.yaml: no rank of these layers saves anything;",
    ),
    "fine-tuning for another form": (
        [*SELECT[:6], "low.onnx", *SELECT[7:], "--flops", "0.5", "--finetune", "solver.yaml"],
        r"--finetune trains a YAML spec; give an -o that ends in .yaml, not low.onnx",
    ),
    "apply without ranks": (["lowrank", "apply", "net.yaml", *APPLY[3:]], r"net.yaml: no layer has low_rank_param"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), FLAGS.values(), ids=FLAGS)
def test_what_cannot_be_done_is_one_line_before_anything_is_measured(
    capsys, measured, folder, arguments, message
):
    before = sorted(path.name for path in folder.iterdir())
    assert_one_line(capsys, arguments, message)
    assert not measured
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.cpu_only("of words")
def test_a_drop_of_an_accuracy_that_is_not_there_is_one_line(capsys):
    command = [*SELECT, "--max-drop", "1%", "--accuracy", "acuracy"]
    assert_one_line(capsys, command, r"net.yaml: has no Accuracy layer and no output 'acuracy'.*'accuracy'")
    command[-1] = "nope"
    assert_one_line(capsys, command, r"no output 'nope' in phase TEST; there are accuracy, loss$")
    command[-1] = "conv1"
    assert_one_line(
        capsys, command, r"'conv1' is neither an Accuracy layer nor an output .*; there are accuracy, loss$"
    )


@pytest.mark.cpu_only("of words")
def test_pictures_for_a_net_that_reads_its_own_and_their_flags_without_pictures_are_one_line(capsys):
    assert_one_line(capsys, [*SWEEP, "--images", "."], r"net.yaml: reads images itself; leave --images out")
    assert_one_line(capsys, [*SWEEP, "--mean", "1"], r"--mean is for image files, and --images names none")


@pytest.mark.cpu_only("of words")
@pytest.mark.parametrize("command", [[*SELECT, "--flops", "0.5"], SWEEP], ids=["select", "sweep"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [((20, 3, 5, 5), r"'conv1/0' has shape \(20, 3, 5, 5\)"), (None, r"another net's weights")],
)
def test_weights_of_another_net_are_one_line(capsys, command, shape, message):
    np.savez("lenet.npz", **{"conv1/0" if shape else "other/0": np.zeros(shape or 3), "conv1/1": np.zeros(20)}
             if shape else {"other/0": np.zeros(3)})  # fmt: skip
    assert_one_line(capsys, command, message)


WITH_WEIGHTS = {
    "plan": ["lowrank", "plan", *SELECT[2:5]],
    "select": [*SELECT, "--flops", "0.5"],
    "sweep": SWEEP,
    "apply": APPLY,
    "errors": ["lowrank", "errors", *SELECT[2:5]],
}


@pytest.mark.cpu_only("of words")
@pytest.mark.parametrize("command", WITH_WEIGHTS)
def test_weights_that_lack_layers_are_one_line_that_names_them(capsys, caplog, folder, measured, command):
    with_ranks(folder, conv1="rank: 4")
    weights = {key: x for key, x in np.load("lenet.npz").items() if key.split("/")[0] not in ("conv2", "ip1")}
    np.savez("lenet.npz", **weights)
    problem = r"lenet.npz: has no weights for 2 layers: conv2, ip1; give weights of this net\n"
    assert_one_line(capsys, WITH_WEIGHTS[command], problem)
    assert not measured and "fillers' values" not in caplog.text


@pytest.mark.cpu_only("of words")
def test_the_output_of_select_as_its_input_is_one_line_that_says_so(capsys, folder):
    with_ranks(folder, conv1="rank: 4, factored: true")
    Net("low.yaml", weights="lenet.npz").save("low.npz")
    problem = "low.npz: layer 'conv1' has 3 arrays, the net's layer 2 parameters; "
    low = ["low.yaml", "--weights", "low.npz", "-o", "again.yaml"]
    already = "the net is of low rank already: start from the dense net and its weights\n"
    assert_one_line(capsys, ["lowrank", "select", *low, "--flops", "0.5"], f"{problem}{already}")
    low[-1] = "again.npz"
    assert_one_line(capsys, ["lowrank", "apply", *low], f"{problem}give the weights of the dense net\n")
    low = ["net.yaml", *low[1:3]]
    assert_one_line(
        capsys, ["lowrank", "sweep", *low, "--ranks", "0.5"], f"{problem}give weights of this net\n"
    )


def test_apply_with_energy_is_one_line(capsys, folder):
    with_ranks(folder, conv1="energy: 0.9")
    assert_one_line(
        capsys, APPLY, r"low.yaml:\d+: layer 'conv1': low_rank_param.energy: .*give rank or flops"
    )


@pytest.mark.cpu_only("of words")
def test_a_cost_that_no_ranks_reach_is_one_line(capsys, measured):
    assert_one_line(
        capsys,
        [*SELECT, "--flops", "0.001"],
        r"no ranks bring FLOPs down to 0.001 of these layers when dense; the least that they reach is 0\.0\d+;",
    )


LATE = {
    "select": ([*SELECT, "--flops", "0.5", "-o", "no/low.yaml"], r"^error: no/low"),
    "select onto the trained weights": (
        [*SELECT, "--flops", "0.5", "-o", "lenet.yaml"], r"lenet.npz: would be written over the lenet.npz",
    ),
    "select onto the net": (
        [*SELECT, "--flops", "0.5", "-o", "net.yaml"], r"net.yaml: would be written over the net.yaml",
    ),
    "select a spec that ends as weights do": (
        [*SELECT, "--flops", "0.5", "-o", "foo.npz"], r"foo.npz: ends in none of .yaml, .prototxt and .onnx",
    ),
    "select onto the copy of another net": (
        [*SELECT, "--flops", "0.5", "-o", "deploy_lowrank.yaml", "--also", "deploy.yaml"],
        r"deploy_lowrank.yaml: would be written over the deploy_lowrank.yaml that is written",
    ),
    "select onto the solver": (
        [*SELECT, "--flops", "0.5", "-o", "solver.yaml", "--finetune", "solver.yaml"],
        r"solver.yaml: would be written over the solver.yaml that is read",
    ),
    "select with a copy that is a folder": (
        [*SELECT, "--flops", "0.5", "--also", "also.yaml"], r"also_lowrank.yaml: is a folder",
    ),
    "apply onto the trained weights": ([*APPLY, "-o", "lenet.npz"], r"lenet.npz: would be written over"),
    "select onto a folder": ([*SELECT, "--flops", "0.5", "-o", "is.yaml"], r"is.yaml: is a folder"),
    "sweep": ([*SWEEP, "--plot", "no/x.png"], r"^error: no/x"),
    "sweep to a gif": ([*SWEEP, "--plot", "x.gif"], r"x.gif: a plot is a .png or .svg file"),
    "no solver to finetune with": (
        [*SELECT, "--flops", "0.5", "--finetune", "no.yaml"], r"no.yaml: cannot be read",
    ),
    "no net to write too": ([*SELECT, "--flops", "0.5", "--also", "no.yaml"], r"no.yaml: cannot be read"),
}  # fmt: skip


@pytest.mark.cpu_only("of words")
@pytest.mark.parametrize(("arguments", "message"), LATE.values(), ids=LATE)
def test_what_cannot_be_written_or_read_in_the_end_is_said_at_the_start(
    capsys, measured, folder, arguments, message
):
    (folder / "is.yaml").mkdir()
    (folder / "also_lowrank.yaml").mkdir()
    assert_one_line(capsys, arguments, message)
    assert len(measured) <= 1


def test_apply_says_at_the_start_that_its_output_cannot_be_written(capsys, folder, monkeypatch):
    with_ranks(folder, conv1="rank: 4")
    fitted = []
    approximate = Workbench.approximate
    monkeypatch.setattr(Workbench, "approximate", lambda *args: fitted.append(args) or approximate(*args))
    assert_one_line(capsys, [*APPLY, "-o", "no/out.npz"], r"no/out.npz: cannot be written \(No such file")
    assert not fitted


# -- nets that are out of the common ---------------------------------------------------------------------


CONV = "type: Convolution, bottom: c, convolution_param:"
LAYERS = {
    "groups, no bias": f"{CONV} {{num_output: 8, kernel_size: 3, group: 2, bias_term: false}}",
    "strided, padded": f"{CONV} {{num_output: 6, kernel_size: [5, 3], stride: [2, 1], pad: [2, 0]}}",
    "dilated, with one param": f"param: {{lr_mult: 3}}, {CONV} {{num_output: 6, kernel_size: 2, dilation: 3}}",
    "1×1": f"{CONV} {{num_output: 7, kernel_size: 1}}",
    "1×3": f"{CONV} {{num_output: 5, kernel_h: 1, kernel_w: 3}}",
    "inner product": "type: InnerProduct, bottom: c, inner_product_param: {num_output: 9, bias_term: false}",
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_the_net_that_is_written_computes_what_the_trial_net_did_and_costs_what_was_counted(layer):
    data = "type: Data, top: [data, label], transform_param: {scale: 0.01, crop_size: 9}, data_param: "
    filler, source = (
        "weight_filler: {type: msra}, bias_filler: {type: uniform}",
        "{source: train.npz, batch_size: 9}",
    )
    layers = [
        f"name: d, {data}{source}",
        f"name: c, type: Convolution, bottom: data, convolution_param: {{num_output: 8, kernel_size: 3, {filler}}}",
        "name: relu, type: ReLU, top: c",
        f"name: layer, {layer[:-1]}, {filler}}}",
        f"name: ip, type: InnerProduct, bottom: layer, inner_product_param: {{num_output: 10, {filler}}}",
        "name: accuracy, type: Accuracy, bottom: [ip, label], include: {phase: TEST}",
        "name: loss, type: SoftmaxWithLoss, bottom: [ip, label]",
    ]
    Path("own.yaml").write_text("layer:\n" + "".join(f"- {{{text}}}\n" for text in layers))
    Net("own.yaml", seed=1).save("own.npz")
    bench = Workbench("own.yaml", "own.npz", ["layer", "c"], calibration=5)
    schemes = list(bench.candidates["layer"].schemes)
    for scheme in schemes:
        plan = {"layer": LayerRank(scheme, 2), "c": LayerRank("CHANNEL", 3)}
        fits = bench.approximate(plan)
        text = shrunk.shrunk_text(Path("own.yaml").read_text(), load_net("own.yaml"), plan)
        net = Net(parse_net(text))
        shrunk.fill(net, bench.original, fits)
        batch = draw(bench.original, 1)[0]
        for one in (net, bench.trial):
            batches.run(one, batch)
        expected = bench.trial.blobs["ip"].data
        np.testing.assert_allclose(net.blobs["ip"].data, expected, atol=1e-3 * np.abs(expected).max())
        costs = [
            sum(step.multiply_adds for step in any_net.steps if step.layer.name in plan)
            for any_net in (net, bench.original)
        ]
        assert FlopCost(bench).share(plan) == pytest.approx(costs[0] / costs[1], rel=1e-12)


def test_a_net_to_write_too_that_lacks_a_layer_is_one_line(capsys):
    rewrite("deploy.yaml", ("name: conv2", "name: other"))
    assert_one_line(capsys, [*SELECT, "--flops", "0.1", "--also", "deploy.yaml"], r"deploy.yaml: .*'conv2'")


def test_a_deconvolution_to_approximate_is_one_line(capsys):
    rewrite("net.yaml", ("- name: pool2\n", "- name: up\n  type: Deconvolution\n  convolution_param: "
            "{num_output: 50, kernel_size: 1}\n- name: pool2\n"))  # fmt: skip
    np.savez("lenet.npz", **np.load("lenet.npz"), **{"up/0": np.ones((50, 50, 1, 1)), "up/1": np.ones(50)})
    assert_one_line(
        capsys,
        [*SELECT, "--flops", "0.5", "--layers", "up"],
        r"layer 'up': a Deconvolution takes no low_rank_param",
    )


def test_a_transposed_inner_product_can_be_approximated_or_is_refused_at_the_start(capsys, measured, folder):
    rewrite("net.yaml", ("num_output: 500,", "num_output: 500, transpose: true,"))
    weights = dict(np.load("lenet.npz"))
    np.savez("lenet.npz", **{**weights, "ip1/0": weights["ip1/0"].T})
    status = main([*SELECT, "--flops", "0.3", "--layers", "ip1"])
    assert status == 0 or not (measured or Path("low.yaml").exists())


@pytest.mark.cpu_only("of words and of the ranks that a spec gets; other searches run on the double")
@pytest.mark.parametrize(
    "arguments", [["--flops", "1"], ["--flops", "0.5", "--layers", "conv2"]], ids=["all", "conv2"]
)
def test_ranks_are_chosen_anew_for_a_net_that_has_some(capsys, folder, arguments):
    with_ranks(folder, conv1="rank: 3, factored: true")
    capsys.readouterr()
    select(capsys, *arguments, net="low.yaml", out="again.yaml")
    dense, low = Net("net.yaml", weights="lenet.npz"), Net("again.yaml", weights="again.npz")
    np.testing.assert_array_equal(low.params["conv1"][0].data, dense.params["conv1"][0].data)


def test_a_layer_that_shares_its_weights_stays_dense(folder):
    conv1 = "- name: conv1\n  type: Convolution\n  bottom: data\n"
    shared = "  param: [{name: w}, {name: b}]\n"
    twin = conv1.replace("conv1", "twin") + shared + "  convolution_param: {num_output: 20, kernel_size: 5}\n"
    rewrite(
        "net.yaml",
        (f"{conv1}  param: [{{lr_mult: 1}}, {{lr_mult: 2}}]\n", conv1 + shared),
        ("- name: pool1\n", f"{twin}- name: pool1\n"),
    )
    with pytest.raises(SpecError, match=r"layer 'conv1': shares its weights with another layer"):
        Workbench("net.yaml", "lenet.npz", ["conv1"], calibration=1)
    assert list(Workbench("net.yaml", "lenet.npz", calibration=1).candidates) == ["conv2"]


def test_apply_does_not_write_over_the_weights_that_it_is_given(folder):
    with_ranks(folder, conv1="rank: 2, factored: true")
    shutil.copy("lenet.npz", "low.npz")
    main(["lowrank", "apply", "low.yaml", "--weights", "low.npz", "--calibration", "1"])
    assert Path("low.npz").read_bytes() == Path("lenet.npz").read_bytes()
