"""Detectors are scored by mean average precision: in the tests of a solver, by ``minicaffe test``, and in logs."""

import json
import logging

import h5py
import numpy as np
import pytest

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.inspect.logs import read_log
from minicaffe.ops.detection.average_precision import VERSIONS, precision_by_class
from minicaffe.spec.solver import AP_VERSIONS, parse_solver
from minicaffe.train.scoring import names_of_labels, score
from tests.data.annotated.bases import annotated, random_images, write

HERE, AWAY, NONE = [0.1, 0.1, 0.5, 0.5], [0.5, 0.5, 0.9, 0.9], [-1.0] * 4
FOUND = [  # two batches of two
    [0, 1, 0.8, *HERE],
    [0, 3, 0.9, *HERE],
    [1, 1, 0.9, *AWAY],
    [1, 1, 0.7, *HERE],
]
BOXES = [[0, 1, 0, *HERE, 0], [0, 2, 0, *AWAY, 0], [1, 1, 0, *HERE, 0], [-1, -1, -1, *NONE, -1]]
INTEGRAL = 0.5 * 1 / 2 + 0.5 * 2 / 3  # of class 1; of classes 2, never found, and 3, never there, it is 0
MAX_INTEGRAL = 2 / 3
NET = """layer:
- {name: data, type: HDF5Data, top: [rows, boxes], hdf5_data_param: {source: list.txt, batch_size: 2}}
- {name: found, type: Reshape, bottom: rows, reshape_param: {shape: {dim: [1, 1, -1, 7]}}}
- {name: truth, type: Reshape, bottom: boxes, reshape_param: {shape: {dim: [1, 1, -1, 8]}}}
- {name: eval, type: DetectionEvaluate, bottom: [found, truth], detection_evaluate_param: {num_classes: 4}}
"""
TRAINED = """layer:
- {name: x, type: DummyData, top: [x, y], dummy_data_param: {shape: [{dim: [2, 3]}, {dim: [2, 1]}]}}
- {name: ip, type: InnerProduct, bottom: x, inner_product_param: {num_output: 1}}
- {name: loss, type: EuclideanLoss, bottom: [ip, y]}
"""


@pytest.fixture
def detections(tmp_path, monkeypatch):
    """net.yaml, which reads FOUND and BOXES and judges them; train.yaml; and w.npz, without parameters."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("data.h5", "w") as file:
        file["rows"], file["boxes"] = np.array(FOUND, np.float32), np.array(BOXES, np.float32)
    (tmp_path / "list.txt").write_text("data.h5\n")
    (tmp_path / "net.yaml").write_text(NET)
    (tmp_path / "train.yaml").write_text(TRAINED)
    return tmp_path


def solver_text(more=""):
    return (
        "train_net: train.yaml\ntest_net: net.yaml\nbase_lr: 0.1\nlr_policy: fixed\nmax_iter: 1\ntest_iter: 2\n"
        f"test_interval: 1\nsnapshot_prefix: run\n{more}"
    )


@pytest.mark.parametrize(
    ("version", "expected"),
    [("Integral", INTEGRAL), ("MaxIntegral", MAX_INTEGRAL), ("11point", MAX_INTEGRAL)],
)
def test_detections_of_all_batches_make_one_precision(detections, version, expected):
    with mc.Net("net.yaml", phase="test") as net:
        result = score(net, 2, lambda _: True, version)
    assert result.precisions["eval"] == pytest.approx({1: expected, 2: 0, 3: 0})
    assert result.outputs["eval"].shape == () and float(result.outputs["eval"]) == pytest.approx(expected / 3)


def test_a_solver_may_ask_for_each_version_that_there_is():
    assert list(VERSIONS) == list(AP_VERSIONS)


def test_a_detection_that_is_neither_true_nor_false_does_not_count():
    rows = np.array([[-1, 1, 1, -1, -1], [0, 1, 0.9, 0, 0], [0, 1, 0.8, 1, 0], [0, 1, 0.7, 0, 1]])
    assert precision_by_class(rows, "Integral") == {1: 1.0}


def test_a_solver_shows_the_mean_as_ssds_caffe_does(detections, caplog):
    (detections / "solver.yaml").write_text(
        solver_text("eval_type: detection\nap_version: MaxIntegral\nshow_per_class_result: true\n")
    )
    with caplog.at_level(logging.INFO, "minicaffe"):
        solver = mc.Solver("solver.yaml")
        (outputs,) = solver.test_all()
    assert float(outputs["eval"]) == pytest.approx(MAX_INTEGRAL / 3)
    shown = [message for message in caplog.messages if "class" in message or "net output" in message]
    mean = f"    Test net output #0: eval = {MAX_INTEGRAL / 3:.6g}"
    assert shown == [f"class1: {MAX_INTEGRAL:.6g}", "class2: 0", "class3: 0", mean]


def test_the_log_has_the_mean_for_curves_and_each_class_if_asked_for(detections):
    for number, more in enumerate(("", "eval_type: detection\nshow_per_class_result: true\n")):
        (detections / "solver.yaml").write_text(solver_text(more).replace("run", f"run{number}"))
        mc.Solver("solver.yaml").solve()
        path = detections / f"run{number}.log.jsonl"
        run = read_log(path)[-1]
        assert run.outputs["test", "eval"].values == pytest.approx([INTEGRAL / 3] * 2)
        events = [json.loads(line) for line in path.read_text().splitlines()]
        tests = [event for event in events if event["event"] == "test"]
        of_classes = {"eval": {"1": pytest.approx(INTEGRAL), "2": 0, "3": 0}}
        assert [event.get("average_precisions") for event in tests] == [of_classes if more else None] * 2


def test_minicaffe_test_shows_each_class_and_the_mean(detections, capsys, caplog):
    mc.Net("net.yaml", phase="test").save("w.npz")
    with caplog.at_level(logging.INFO, "minicaffe"):
        assert main(["test", "net.yaml", "--weights", "w.npz", "--ap-version", "MaxIntegral"]) == 0
    text = caplog.text + capsys.readouterr().out
    assert f"eval, class 1 = {MAX_INTEGRAL:.6g}" in text and f"eval = {MAX_INTEGRAL / 3:.6g}" in text


LABEL_MAP = "".join(
    f'item {{ name: "{name}" label: {label} }}\n'
    for label, name in enumerate(("none_of_the_above", "cat", "dog"))
)


def with_label_map():
    """The net with boxes that are found among others, by a layer that names a label map; class 3 has no name."""
    priors = "{name: priors, type: DummyData, dummy_data_param: {shape: {dim: [1, 2, 4]}}}"
    found = "{num_classes: 2, save_output_param: {label_map_file: map.prototxt}}"
    return NET + (
        f"- {priors}\n- {{name: four, type: DummyData, dummy_data_param: {{shape: {{dim: [1, 4]}}}}}}\n"
        "- {name: two, type: DummyData, dummy_data_param: {shape: {dim: [1, 2]}}}\n"
        f"- {{name: other, type: DetectionOutput, bottom: [four, two, priors], detection_output_param: {found}}}\n"
        "- {name: none, type: Silence, bottom: other}\n"
    )


def test_classes_have_the_names_of_the_label_map(detections, capsys, caplog):
    (detections / "net.yaml").write_text(with_label_map())
    (detections / "map.prototxt").write_text(LABEL_MAP)
    (detections / "solver.yaml").write_text(
        solver_text("eval_type: detection\nshow_per_class_result: true\n")
    )
    mc.Net("net.yaml", phase="test").save("w.npz")
    with caplog.at_level(logging.INFO, "minicaffe"):
        assert main(["test", "net.yaml", "--weights", "w.npz"]) == 0
        mc.Solver("solver.yaml").test_all()
    text = caplog.text + capsys.readouterr().out
    assert f"eval, class 1 (cat) = {INTEGRAL:.6g}\n" in text and "eval, class 2 (dog) = 0\n" in text
    assert "eval, class 3 = 0\n" in text
    assert f"class1: {INTEGRAL:.6g} (cat)\n" in text and "class3: 0\n" in text


@pytest.mark.parametrize(("content", "problem"), [(None, "no such label map"), ("item {", "map.prototxt")])
def test_a_label_map_that_cannot_be_read_leaves_numbers_and_a_warning(detections, caplog, content, problem):
    if content is not None:
        (detections / "map.prototxt").write_text(content)
    net = mc.Net.from_text(with_label_map(), phase="test")
    assert names_of_labels(net) == {}
    (warning,) = [record for record in caplog.records if "labels are shown as numbers" in record.message]
    assert problem in warning.message and warning.levelno == logging.WARNING


def test_the_label_map_of_the_data_counts_too(tmp_path):
    (tmp_path / "map.prototxt").write_text(LABEL_MAP)
    (image,) = random_images(np.random.default_rng(0), 1)
    write(tmp_path / "lmdb", [annotated(image, {1: [(0, 0.1, 0.2, 0.5, 0.7, 0)]})])
    (tmp_path / "net.yaml").write_text(
        "layer: {name: d, type: AnnotatedData, top: [d, label], data_param: {source: lmdb, batch_size: 1}, "
        "annotated_data_param: {label_map_file: map.prototxt}}"
    )
    with mc.Net(tmp_path / "net.yaml", phase="test") as net:
        assert names_of_labels(net) == {0: "none_of_the_above", 1: "cat", 2: "dog"}


def test_what_ssds_and_nvidias_caffe_print_of_a_detector_is_read(tmp_path):
    (tmp_path / "train.log").write_text(
        "I1129 07:50:20.968062 22321 solver.cpp:433] Iteration 0, Testing net (#0)\n"
        "I1129 07:50:21.968062 22321 solver.cpp:540] class1: 0.5\n"
        "I1129 07:50:21.968062 22321 solver.cpp:546]     Test net output #0: detection_eval = 0.25\n"
        "I1129 07:50:22.968062 22321 solver.cpp:433] Iteration 5, Testing net (#0)\n"
        "I1129 07:50:23.968062 22321 solver.cpp:546] Test net output mAP #0: detection_eval = 0.75\n"
        "I1129 07:50:24.968062 22321 solver.cpp:433] Iteration 9, loss = 3\n"
    )
    (run,) = read_log(tmp_path / "train.log")
    found = run.outputs["test", "detection_eval"]
    assert (list(found.iterations), list(found.values)) == ([0, 5], [0.25, 0.75])


def test_detection_without_a_layer_that_judges_is_an_error_at_eval_type(detections):
    (detections / "net.yaml").write_text(TRAINED)
    (detections / "solver.yaml").write_text(solver_text("eval_type: detection\n"))
    with pytest.raises(
        mc.SpecError, match="eval_type: detection, but no output of test net 0 comes from a Det"
    ):
        mc.Solver("solver.yaml")


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("eval_type: detektion", "eval_type: unknown: 'detektion'"),
        ("ap_version: 12point", "ap_version: unknown"),
    ],
)
def test_unknown_types_and_versions_are_named(field, problem):
    with pytest.raises(mc.SpecError, match=f"{problem}.*one of "):
        parse_solver(f"net: a.yaml\nbase_lr: 1\nlr_policy: fixed\n{field}\n")
