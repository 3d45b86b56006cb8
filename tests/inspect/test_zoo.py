"""``minicaffe zoo-check``: what opens, what stops, and what cannot be told."""

import pytest

from minicaffe.cli.program import main
from minicaffe.files.spec_formats import open_net
from minicaffe.inspect import zoo
from minicaffe.inspect.missing_inputs import NeedsDataError, StandInNet

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }
"""
TRAIN = """
layer { name: "data" type: "Data" top: "data" top: "label"
        data_param { source: "gone_lmdb" backend: LMDB batch_size: 5 } transform_param { CROP } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
STRANGE = 'layer { name: "a" type: "Strange" bottom: "data" top: "a" strange_param { depth: 3 } }'
ODD_FIELD = 'layer { name: "b" type: "ReLU" bottom: "conv" top: "b" relu_param { slope: 3 } }'
SOLVER = 'net: "train.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 10'


@pytest.fixture
def folder(tmp_path):
    texts = {
        "one/deploy.prototxt": DEPLOY,
        "one/train.prototxt": TRAIN.replace("CROP", "crop_size: 7 mean_value: [1, 2, 3]"),
        "one/solver.prototxt": SOLVER,
        "one/labelmap.prototxt": 'item {\n  name: "dog"\n  label: 1\n}',
        "one/notes.yaml": "just: notes",
        "one/.hidden/deploy.prototxt": "layer {",
        "one/deploy.txt": "layer {",
        "two/strange.prototxt": DEPLOY + STRANGE + ODD_FIELD,
        "two/solver.prototxt": SOLVER + ' lr_rule: "odd"',
        "two/sized.prototxt": TRAIN.replace("CROP", "") + DEPLOY.replace("data", "data2"),
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def states(folder, **more):
    checked = zoo.check_folder(folder, (3, 10, 10), **more)
    return {str(file.path.relative_to(folder)): file for file in checked}


def test_each_spec_is_opened_or_said_what_stops_it(folder):
    found = states(folder)
    assert {name: (file.kind, file.state) for name, file in found.items()} == {
        "one/deploy.prototxt": ("net", "opens"),
        "one/labelmap.prototxt": ("label map", "opens"),
        "one/notes.yaml": ("", "opens"),
        "one/solver.prototxt": ("solver", "opens"),
        "one/train.prototxt": ("net", "opens"),
        "two/sized.prototxt": ("net", "opens"),
        "two/solver.prototxt": ("solver", "STOPS"),
        "two/strange.prototxt": ("net", "STOPS"),
    }
    assert found["one/train.prototxt"].without_data and not found["one/deploy.prototxt"].without_data


def test_all_that_stops_a_net_is_said_not_only_the_first(folder):
    file = states(folder)["two/strange.prototxt"]
    assert file.reasons() == {"layer type Strange", "relu_param.slope: unknown field"}


def test_a_net_that_does_not_take_the_size_assumed_waits_for_its_data(folder):
    cropped = TRAIN.replace("CROP", "").replace('"label"', '"label" top: "more"')
    siamese = """
    layer { name: "slice" type: "Slice" bottom: "data" top: "u" top: "v" slice_param { slice_point: 5 } }
    """
    (folder / "one/train.prototxt").write_text(TRAIN.replace("CROP", "") + siamese)
    (folder / "two/sized.prototxt").write_text(cropped)
    found = states(folder)
    assert found["one/train.prototxt"].state == "data?"
    assert "'data' is not known without data; --image gives one" in found["one/train.prototxt"].problems[0]
    assert found["two/sized.prototxt"].state == "STOPS"  # three tops: no data would mend that


def test_data_whose_shapes_nobody_knows_are_waited_for(folder):
    text = (
        'layer { name: "d" type: "HDF5Data" top: "x" hdf5_data_param { source: "gone.txt" batch_size: 2 } }'
    )
    (folder / "one/train.prototxt").write_text(text)
    assert states(folder)["one/train.prototxt"].state == "data?"


def test_a_python_layer_is_not_run(folder, tmp_path, monkeypatch, capsys):
    (folder / "one/evil.py").write_text("raise SystemExit('was run')")
    monkeypatch.syspath_prepend(folder / "one")
    (folder / "one/deploy.prototxt").write_text(
        DEPLOY
        + 'layer { name: "p" type: "Python" bottom: "conv" top: "p" python_param { module: "evil" layer: "E" } }'
    )
    assert main(["zoo-check", str(folder / "one")]) == 0
    assert "code?  deploy.prototxt" in capsys.readouterr().out


DUMMY = 'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 1 dim: 2 } } RULE }'
AFTER = 'layer { name: "z" type: "Softmax" bottom: "BOTTOM" top: "z" RULE }'


@pytest.mark.parametrize(
    ("first", "then", "bottom", "state"),
    [
        ("", "include { phase: TRAIN }", "gone", "STOPS"),  # it has data for both phases
        ("include { phase: TEST }", "include { phase: TRAIN }", "gone", "opens"),
        ("include { phase: TRAIN }", "", "d", "opens"),
        ('include { stage: "deploy" }', "", "d", "opens"),
        ("", 'include { stage: "deploy" }', "gone", "STOPS"),
    ],
)
def test_a_net_is_built_in_the_states_that_it_is_for(folder, first, then, bottom, state):
    text = DUMMY.replace("RULE", first) + AFTER.replace("RULE", then).replace("BOTTOM", bottom)
    (folder / "one/deploy.prototxt").write_text(text)
    assert states(folder)["one/deploy.prototxt"].state == state


def test_what_fails_only_in_forward_is_found_by_running(folder):
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
    layer { name: "e" type: "Embed" bottom: "x" top: "e" embed_param { num_output: 2 input_dim: 1 } }
    """
    (folder / "one/deploy.prototxt").write_text(text)
    assert states(folder)["one/deploy.prototxt"].state == "opens"
    assert states(folder, run=True)["one/deploy.prototxt"].state == "STOPS"


def test_the_command_counts_and_its_status_says_whether_all_open(folder, capsys):
    assert main(["zoo-check", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "opens  one/train.prototxt: net, without its data" in out
    assert "STOPS  two/strange.prototxt:5: layer 'a': type: unknown layer type 'Strange'" in out
    assert "4 nets: 3 open (2 of them without their data), 1 stopped" in out
    assert "2 solvers: 1 open, 1 stopped" in out
    assert [line.split() for line in out.splitlines() if line.startswith("layer type")] == [
        ["layer", "type", "Strange", "1", "1"]
    ]
    assert main(["zoo-check", str(folder / "one")]) == 0


@pytest.mark.parametrize("name, problem", [("nowhere", "no such folder"), ("empty", "no files that end in")])
def test_a_folder_without_specs_is_an_error(tmp_path, capsys, name, problem):
    (tmp_path / "empty").mkdir()
    assert main(["zoo-check", str(tmp_path / name)]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ('AnnotatedData" data_param { source: "gone" batch_size: 5 }', (1, 1, 1, 8)),
        (
            'AnnotatedData" data_param { source: "gone" batch_size: 5 } annotated_data_param { yolo_data_type: 1 }',
            (5, 1, 300, 5),
        ),
        ('DenseImageData" dense_image_data_param { source: "gone" batch_size: 5 }', (5, 1, 10, 10)),
        (
            'DenseImageData" dense_image_data_param { source: "gone" batch_size: 5 label_divide_factor: 2 }',
            (5, 1, 5, 5),
        ),
        ('ImageLabelmapData" image_data_param { source: "gone" batch_size: 5 }', (5, 1, 10, 10)),
    ],
)
def test_what_stands_in_for_labels_has_the_shape_of_labels(tmp_path, data, shape):
    pytest.importorskip("google.protobuf")
    path = tmp_path / "net.prototxt"
    path.write_text(f'layer {{ name: "data" top: "data" top: "label" type: "{data} }}')
    with StandInNet(open_net(path), "train", (3, 10, 10)) as net:
        assert net.blobs["data"].shape == (5, 3, 10, 10) and net.blobs["label"].shape == shape
        net.forward()
        net.backward()


MASKED = (
    'layer {{ name: "data" top: "data" top: "label" top: "mask" type: "AnnotatedData" '
    'data_param {{ source: "gone" batch_size: 5 }} annotated_data_param {{ yolo_data_type: 1 seg_scales: 4 {} }} }}'
)


def test_what_stands_in_for_masks_has_their_size_and_a_plane_for_each_class(tmp_path):
    pytest.importorskip("google.protobuf")
    path = tmp_path / "net.prototxt"
    path.write_text(MASKED.format("single_class: true"))
    with StandInNet(open_net(path), "train", (3, 20, 12)) as net:
        assert net.blobs["label"].shape == (5, 1, 300, 5) and net.blobs["mask"].shape == (5, 1, 5, 3)
    path.write_text(MASKED.format('single_class: false label_map_file: "gone"'))
    with pytest.raises(NeedsDataError, match="gone"), StandInNet(open_net(path), "train", (3, 20, 12)):
        pass


def test_all_three_tops_of_pspnets_data_have_a_shape_without_the_data(tmp_path):
    path = tmp_path / "train.prototxt"
    path.write_text(
        'layer { name: "data" type: "ImageSegData" top: "data" top: "label" top: "size" '
        'image_data_param { source: "gone.txt" batch_size: 2 } transform_param { crop_size: 9 } }'
    )
    with StandInNet(open_net(path), "train", (3, 20, 12)) as net:
        shapes = [net.blobs[name].shape for name in ("data", "label", "size")]
    assert shapes == [(2, 3, 9, 9), (2, 1, 9, 9), (2, 1, 1, 2)]


def test_one_file_is_looked_at_and_what_has_run_is_said(folder, capsys):
    assert main(["zoo-check", str(folder / "one/deploy.prototxt"), "--run"]) == 0
    assert "opens  deploy.prototxt: net, runs\n\n1 net: 1 open, 1 of them run" in capsys.readouterr().out
