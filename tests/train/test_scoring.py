"""Scoring: what ``minicaffe test`` and the test passes of training make of batches, and of nan."""

import logging
import re
from contextlib import closing

import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.data.order import Order
from minicaffe.spec.net import parse_net
from minicaffe.train.scoring import first_not_finite, output_lines, score
from tests.train.training import write_job

NAN = np.nan
SCORED = """layer:
- name: data
  type: Data
  top: [data, label]
  data_param: {{source: sample/mnist-test, batch_size: {0}}}
  transform_param: {{scale: 0.00390625}}
- name: ip
  type: InnerProduct
  bottom: data
  inner_product_param: {{num_output: 10, weight_filler: {{type: xavier}}}}
- {{name: accuracy, type: Accuracy, bottom: [ip, label], top: [accuracy, per_class]}}
- {{name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}}
"""


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """net.yaml with batches of 300 of the 1,000 digits, its weights w.npz, and nan.npz, one number nan."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(SCORED.format(300))
    with mc_net("net.yaml") as net:
        net.save("w.npz")
        net.params["ip"][0].data[3, 5] = NAN
        net.save("nan.npz")
    return tmp_path


def mc_net(*args, **named):
    """A net that is closed in the end."""
    return closing(mc.Net(*args, **named))


def accuracy_of(scores, labels, **param):
    classes = len(scores[0])
    net = mc.Net(
        parse_net(
            f"layer:\n- {{name: x, type: Input, input_param: {{shape: {{dim: [{len(scores)}, {classes}]}}}}}}\n"
            f"- {{name: y, type: Input, input_param: {{shape: {{dim: [{len(scores)}]}}}}}}\n"
            f"- {{name: a, type: Accuracy, bottom: [x, y], top: [a, of], accuracy_param: {param or {}}}}\n"
        )
    )
    out = net.forward(x=np.array(scores), y=np.array(labels))
    return float(out["a"]), mc.to_host(out["of"]).tolist()


# -- nan is never right ------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_a_label_whose_score_is_nan_is_wrong_for_every_top_k(top_k):
    assert accuracy_of([[NAN, 0, 0], [NAN] * 3], [0, 1], top_k=top_k)[0] == 0


def test_nan_counts_as_higher_than_the_label():
    assert accuracy_of([[2, NAN, 0], [2, 1, 0]], [0, 0])[0] == 0.5
    assert accuracy_of([[2, NAN, 0]], [0], top_k=2) == (1, [1, 0, 0])


def test_a_tie_still_counts_against_the_label():
    assert accuracy_of([[1, 1, 0], [1, 0, 0]], [0, 0])[0] == 0.5


def test_the_first_that_is_not_finite_is_a_parameter_before_what_is_made_of_it(scored):
    with mc_net("net.yaml", weights="nan.npz") as net:
        net.run_forward()
        assert first_not_finite(net) == "parameter 0 of layer 'ip'"
        net.params["ip"][0].data[...] = 0
        net.run_forward()
        assert first_not_finite(net) is None
        net.blobs["ip"].data[0, 0] = np.inf
        assert first_not_finite(net) == "blob 'ip'"


def test_the_test_command_names_what_is_not_finite_and_fails(scored, capsys):
    assert main(["test", "net.yaml", "--weights", "nan.npz"]) == 2
    said = capsys.readouterr()
    assert "Batch 0: parameter 0 of layer 'ip' is not finite" in said.out
    assert "accuracy = 0\n" in said.out and "accuracy = 1" not in said.out
    assert said.err.startswith("error: parameter 0 of layer 'ip' is not finite") and said.err.count("\n") == 1


def test_one_picture_of_nan_is_told_with_its_batch(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = np.ones((6, 1, 2, 2), np.float32)
    images[4, 0, 1, 1] = NAN
    np.savez("d.npz", data=images, labels=np.zeros(6))
    (tmp_path / "net.yaml").write_text(
        SCORED.format(2).replace("sample/mnist-test", "d.npz").replace("0.00390625", "1")
    )
    with mc_net("net.yaml") as net:
        net.save("w.npz")
    assert main(["test", "net.yaml", "--weights", "w.npz"]) == 2
    assert "Batch 2: blob 'data' is not finite" in capsys.readouterr().out


def test_every_test_pass_of_a_training_says_it(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    solver = mc.Solver(write_job(tmp_path))
    solver.net.params["ip"][0].data[0, 0] = NAN
    with caplog.at_level(logging.WARNING, logger="minicaffe"):
        (outputs,) = solver.test_all()
    solver.close()
    assert outputs["accuracy"] == 0
    assert "Batch 0: parameter 0 of layer 'ip' is not finite" in caplog.text
    assert caplog.text.count("is not finite") == 1


@pytest.mark.parametrize("command", ["select", "sweep"])
def test_ranks_are_not_chosen_for_weights_that_are_not_finite(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    with mc_net("net.yaml", phase="train") as net:
        net.params["conv"][0].data[0, 0, 0, 0] = NAN
        net.save("nan.npz")
    goal = ["--max-drop", "1%"] if command == "select" else []
    assert main(["lowrank", command, "net.yaml", "--weights", "nan.npz", *goal]) == 2
    assert "nan.npz: parameter 0 of layer 'conv' has nan or infinite numbers" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["select", "sweep"])
def test_ranks_are_not_chosen_by_scores_that_are_not_finite(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    with mc_net("net.yaml", phase="train") as net:
        last = [layer.name for layer in net.layers if layer.blobs][-1]
        net.params[last][0].data[...] = 3e38  # finite, but for what is made of it
        net.save("large.npz")
    goal = ["--max-drop", "1%"] if command == "select" else []
    assert main(["lowrank", command, "net.yaml", "--weights", "large.npz", *goal]) == 2
    assert re.search(
        r"net\.yaml: blob '\w+' is not finite, so there is no accuracy to keep", capsys.readouterr().err
    )


def test_a_mean_of_outputs_that_are_finite_is_said_without_a_word(scored, caplog):
    with mc_net("net.yaml", weights="w.npz") as net, caplog.at_level(logging.WARNING, logger="minicaffe"):
        assert score(net, 2, lambda _: True).not_finite is None
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("drop", "said"),
    [
        (
            "0.5",
            "--max-drop 0.5 allows a loss of 50 points of accuracy; for 0.5 points write --max-drop 0.5%\n",
        ),
        ("0.5%", ""),
        ("0.1", ""),
    ],
)
def test_a_large_drop_is_hardly_meant(tmp_path, capsys, drop, said):
    assert (
        main(["lowrank", "select", str(tmp_path / "gone.yaml"), "--weights", "w.npz", "--max-drop", drop])
        == 2
    )
    lines = capsys.readouterr().out.splitlines(keepends=True)
    assert "".join(line for line in lines if not line.startswith("Computing on ")) == said


# -- one pass over the data --------------------------------------------------------------------------------


def test_the_test_command_takes_each_image_once(scored, capsys):
    """1,000 images in batches of 300: the mean is that of one batch of 1,000."""
    assert main(["test", "net.yaml", "--weights", "w.npz"]) == 0
    said = capsys.readouterr().out
    assert "One pass: 1,000 images, 3 batches of 300 and one of 100" in said
    (scored / "net.yaml").write_text(SCORED.format(1000))
    assert main(["test", "net.yaml", "--weights", "w.npz"]) == 0
    whole = capsys.readouterr().out
    assert "One pass: 1,000 images, 1 batch of 1000\n" in whole and "Batch 0" not in whole
    by_batches, at_once = numbers_of(said), numbers_of(whole)
    assert len(at_once) == 13  # the loss twice, the accuracy, and that of each class
    assert by_batches == pytest.approx(at_once, rel=1e-5)  # sums of float32 in another order


def numbers_of(text):
    """The numbers after the batches' lines, by their names."""
    lines = [line for line in text.splitlines() if not line.startswith(("Batch", "One", "Computing"))]
    return {name: float(value) for name, value in (re.split(" = |: ", line) for line in lines)}


def test_iterations_are_caffes_flag(scored, capsys):
    assert main(["test", "net.yaml", "--weights", "w.npz", "--iterations", "5"]) == 0
    said = capsys.readouterr().out
    assert "Batch 4, " in said and "Batch 5, " not in said and "One pass" not in said


@pytest.mark.parametrize(
    ("size", "said"), [(7, "142 batches of 7 images; the last 6 are left out"), (8, "125 batches")]
)
def test_a_net_of_one_batch_size_runs_whole_batches_and_says_so(scored, capsys, size, said):
    fixed = "- {{name: fixed, type: Reshape, bottom: data, reshape_param: {{shape: {{dim: [{0}, 784]}}}}}}\n"
    text = SCORED.replace("- name: ip", fixed + "- name: ip").replace("  bottom: data", "  bottom: fixed")
    (scored / "net.yaml").write_text(text.format(size))
    assert main(["test", "net.yaml", "--weights", "w.npz"]) == 0
    assert said in capsys.readouterr().out


def test_data_without_a_known_size_is_50_batches(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.yaml").write_text(
        "layer:\n- {name: x, type: DummyData, dummy_data_param: {shape: {dim: [2, 3]}}}\n"
        "- {name: ip, type: InnerProduct, inner_product_param: {num_output: 2}}\n"
    )
    mc.Net("net.yaml").save("w.npz")
    assert main(["test", "net.yaml", "--weights", "w.npz"]) == 0
    said = capsys.readouterr().out
    assert "Data without a known size: 50 batches" in said and "Loss" not in said
    assert "ip[1, 0] = 0" in said


def test_only_the_batch_that_ends_the_pass_is_short():
    order = Order(10, 4)
    order.end_a_pass()
    assert [order.indices(k).tolist() for k in range(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [2, 3, 4, 5]]
    exact = Order(8, 4)
    exact.end_a_pass()
    assert len(exact.indices(2)) == 4


def test_a_deploy_net_is_not_scored(scored, capsys):
    (scored / "deploy.yaml").write_text(
        "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [1, 1, 28, 28]}}}\n"
        "- {name: ip, type: InnerProduct, inner_product_param: {num_output: 10}}\n"
    )
    assert main(["test", "deploy.yaml", "--weights", "w.npz"]) == 2
    said = capsys.readouterr()
    assert "deploy.yaml:2: layer 'data'" in said.err and "nothing to score" in said.err
    assert "Loss" not in said.out and said.err.count("\n") == 1


@pytest.mark.parametrize("has_loss", [True, False])
def test_a_loss_is_said_of_a_net_that_has_one(scored, capsys, has_loss):
    text = SCORED.format(500)
    if not has_loss:
        text = "".join(line for line in text.splitlines(keepends=True) if "SoftmaxWithLoss" not in line)
    (scored / "net.yaml").write_text(text)
    assert main(["test", "net.yaml", "--weights", "w.npz"]) == 0
    said = capsys.readouterr().out
    assert "\naccuracy = " in said and ("\nLoss: " in said) == has_loss


def test_the_lines_are_caffes_each_once_and_a_weight_tells_how_a_loss_counts(scored, capsys):
    second = "- {{name: half, type: SoftmaxWithLoss, bottom: [ip, label], loss_weight: 0.5}}\n"
    (scored / "net.yaml").write_text((SCORED + second).format(500))
    assert main(["test", "net.yaml", "--weights", "w.npz"]) == 0
    lines = capsys.readouterr().out.splitlines()
    means = [line for line in lines if "Batch" not in line and "oss" in line]
    number = r"(\d+\.\d+)"
    pattern = rf"Loss: {number}\nhalf = {number} \(\* 0\.5 = {number} loss\)\nloss = {number}"
    total, half, part, loss = map(float, re.fullmatch(pattern, "\n".join(means)).groups())
    np.testing.assert_allclose([total, half, part], [1.5 * loss, loss, loss / 2], rtol=1e-4)
    assert len({line.partition(" = ")[0] for line in lines}) == len(lines)


# -- outputs of many numbers -------------------------------------------------------------------------------


def test_a_top_of_a_number_for_each_class_is_printed(scored, capsys):
    assert main(["test", "net.yaml", "--weights", "w.npz"]) == 0
    said = capsys.readouterr().out
    assert all(f"\nper_class[{i}] = " in said for i in range(10))


def test_the_accuracy_within_a_class_is_the_mean_over_its_images(tmp_path, monkeypatch):
    """Not over batches, of which most have no image of a class where the data are sorted by class."""
    monkeypatch.chdir(tmp_path)
    labels = np.repeat([0, 1, 2], [4, 3, 1])
    np.savez("d.npz", data=np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 1, 1, 2]], labels=labels)
    text = (
        SCORED.format(2)
        .replace("sample/mnist-test", "d.npz")
        .replace("0.00390625", "1")
        .replace("output: 10", "output: 3")
    )
    with mc_net(parse_net(text)) as net:
        net.params["ip"][0].data[...] = np.eye(3)
        result = score(net, 4, lambda _: True)
    np.testing.assert_allclose(result.outputs["per_class"], [0.75, 1, 1])
    np.testing.assert_allclose(result.outputs["accuracy"], 7 / 8)


def test_an_output_whose_shape_changes_is_one_mean(tmp_path):
    net = mc.Net(
        parse_net(
            "layer: [{name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}, {name: y, type: Power}]"
        )
    )
    net.blobs["x"].data[...] = 1

    def grow(number):
        net.blobs["x"].reshape(6, 3)
        net.blobs["x"].data[...] = 5
        return True

    assert score(net, 2, grow).outputs["y"] == 4  # (2 · 1 + 6 · 5) / 8


def test_a_large_output_is_a_line_with_shape_and_mean():
    net = mc.Net(parse_net("layer: [{name: x, type: Input, input_param: {shape: {dim: [2, 3]}}}]"))
    values = {"big": np.full((100, 1000), 2.0), "classes": np.zeros(100), "loss": np.zeros(())}
    lines = list(output_lines(net, values, "Test"))
    assert lines[0] == "    Test net output #0: big = 100 × 1000 numbers, mean 2"
    assert lines[1] == "    Test net output #100000: classes = 0" and len(lines) == 102


def test_an_input_beside_data_is_zeros_and_is_told(scored, capsys):
    extra = "- {{name: extra, type: Input, input_param: {{shape: {{dim: [2]}}}}}}\n"
    (scored / "net.yaml").write_text((SCORED + extra).format(500))
    assert main(["test", "net.yaml", "--weights", "w.npz"]) == 0
    assert "Inputs that nothing fills are zeros: extra" in capsys.readouterr().out
