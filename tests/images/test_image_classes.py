"""Folders of classes: numbered by name, alike in training and tests, kept in snapshots, and what is warned of."""

import logging

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.data.sources.image_list import open_images
from minicaffe.errors import DataError, TrainingError
from minicaffe.spec.net import parse_net
from tests import ROOT


def write_classes(folder, *names, count=2):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for image in range(count):
            Image.new("RGB", (4, 4), (number, image, 0)).save(folder / name / f"{image}.png")


def images(source, phase, batch_size=4):
    return (
        f"- {{name: d, type: ImageData, top: [data, label], include: {{phase: {phase}}}, "
        f"image_data_param: {{source: {source}, batch_size: {batch_size}}}}}\n"
    )


def spec_text(train="train", val="val", num_output=3):
    return (
        f"layer:\n{images(train, 'TRAIN')}{images(val, 'TEST')}"
        f"- {{name: ip, type: InnerProduct, bottom: data, inner_product_param: {{num_output: {num_output}}}}}\n"
        "- {name: loss, type: SoftmaxWithLoss, bottom: [ip, label]}\n"
        "- {name: accuracy, type: Accuracy, bottom: [ip, label], include: {phase: TEST}}\n"
    )


def make_solver(folder, text=None, test_text=None):
    (folder / "net.yaml").write_text(text or spec_text())
    nets = "net: net.yaml"
    if test_text is not None:
        (folder / "test.yaml").write_text(test_text)
        nets = "train_net: net.yaml\ntest_net: test.yaml"
    (folder / "solver.yaml").write_text(
        f"{nets}\ntest_iter: 1\ntest_interval: 10\nbase_lr: 0.01\nlr_policy: fixed\nmax_iter: 2\n"
        f"snapshot_prefix: {folder}/s\n"
    )
    return mc.Solver(folder / "solver.yaml")


def labels_of(net):
    return np.asarray(net.forward(["label"])["label"]).tolist()


@pytest.fixture
def folder(tmp_path):
    """Training images of three classes, and test images of the first and the last."""
    write_classes(tmp_path / "train", "ant", "bee", "cat")
    write_classes(tmp_path / "val", "ant", "cat")
    return tmp_path


def test_a_class_that_the_test_folder_lacks_shifts_no_labels(folder, caplog):
    solver = make_solver(folder)
    assert labels_of(solver.test_nets[0]) == [0, 0, 2, 2]
    assert solver.net.class_names == solver.test_nets[0].class_names == ["ant", "bee", "cat"]
    assert "val: no images of bee, which is trained on" in caplog.text
    solver.close()


def test_the_test_net_alone_numbers_its_folder_as_its_spec_does_in_training(folder):
    net = mc.Net(parse_net(spec_text(), str(folder / "net.yaml")), phase="test")
    assert labels_of(net) == [0, 0, 2, 2] and net.class_names == ["ant", "bee", "cat"]
    net.close()


def test_a_test_net_of_its_own_file_is_numbered_by_the_training_net(folder):
    text = spec_text()
    only = text.replace(images("train", "TRAIN"), "")
    solver = make_solver(folder, text.replace(images("val", "TEST"), ""), only)
    assert labels_of(solver.test_nets[0]) == [0, 0, 2, 2]
    solver.close()
    net = mc.Net(parse_net(only, str(folder / "test.yaml")), phase="test", class_names=["cat", "bee", "ant"])
    assert labels_of(net) == [2, 2, 0, 0]
    net.close()


def test_a_test_folder_with_a_class_of_its_own_is_refused(folder):
    write_classes(folder / "val", "dog")
    with pytest.raises(DataError, match=r"layer 'd': .*val: class dog is not one of the classes trained on"):
        make_solver(folder)


def test_hidden_folders_and_files_and_those_of_macos_are_no_classes(folder):
    for name in (".cache", "__MACOSX", "ant/nested"):
        (folder / "train" / name).mkdir()
        Image.new("RGB", (4, 4)).save(folder / "train" / name / "x.png")
    (folder / "train" / "bee" / "._0.png").write_bytes(b"\0\5\x16\7")
    (folder / "train" / "bee" / "folder.png").mkdir()
    source = open_images(folder / "train")
    assert source.class_names == ["ant", "bee", "cat"]
    assert len(source) == 6 and source.read(np.arange(6))[1].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_snapshot_is_of_its_classes(folder):
    solver = make_solver(folder)
    solver.step(1)
    state = solver.snapshot()
    solver.close()
    solver = make_solver(folder)
    solver.restore(state)
    solver.close()
    (folder / "train" / "bee").rename(folder / "train" / "bug")
    solver = make_solver(folder)
    with pytest.raises(
        TrainingError, match=r"trained on the classes ant, bee, cat; the data have ant, bug, cat;"
    ):
        solver.restore(state)
    assert solver.iter == 0
    solver.close()


def test_weights_of_other_classes_are_told_to_a_net_that_numbers_a_folder_alone(folder, caplog):
    trained = make_solver(folder).net
    trained.save(folder / "w.npz")
    alone = parse_net(
        spec_text().replace("TRAIN", "NEVER, stage: x").replace("phase: NEVER, ", ""), str(folder / "x.yaml")
    )
    net = mc.Net(alone)
    assert net.class_names == ["ant", "cat"]
    net.copy_from(folder / "w.npz")
    assert "trained on the classes ant, bee, cat, and the folder here has ant, cat" in caplog.text
    caplog.clear()
    mc.Net(alone, class_names=trained.class_names).copy_from(folder / "w.npz")
    assert "trained on the classes" not in caplog.text


def test_the_test_command_numbers_a_folder_as_the_weights_were_trained(folder, capsys):
    trained = make_solver(folder).net
    trained.params["ip"][0].data[...] = 0
    trained.params["ip"][1].data[...] = [0, 0, 1]  # whatever the picture, it is a cat
    trained.save(folder / "w.npz")
    (folder / "alone.yaml").write_text(f"layer:\n{images('val', 'TEST')}" + spec_text().split("\n", 3)[3])
    assert (
        main(["test", str(folder / "alone.yaml"), "--weights", str(folder / "w.npz"), "--device", "cpu"]) == 0
    )
    assert "\naccuracy = 0.5\n" in capsys.readouterr().out


def test_weights_in_a_file_of_caffe_say_that_pictures_are_not_in_it(folder, caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    make_solver(folder).net.save(folder / "w.caffemodel")
    assert "w.caffemodel cannot say what pictures go through: resized to" in caplog.text


def test_more_outputs_than_classes_are_warned_of_once(folder, caplog):
    solver = make_solver(folder, spec_text(num_output=10))
    solver.test_nets[0].reshape()
    solver.close()
    told = [record.getMessage() for record in caplog.records if "num_output" in record.getMessage()]
    assert len(told) == 2  # one for each net
    assert "layer 'loss': scores of 10 classes, but the images are of 3: ant, bee, cat; num_output" in told[0]


def test_as_many_outputs_as_classes_and_other_images_are_no_warning(folder, caplog):
    write_classes(folder / "val", "bee")
    with caplog.at_level(logging.WARNING, "minicaffe"):
        make_solver(folder).close()
    assert not caplog.records


@pytest.mark.cpu_only("to look at labels, a GPU would have to be waited for")
def test_the_error_on_a_label_that_is_no_class_lists_them(folder):
    net = mc.Net(parse_net(spec_text(num_output=2), str(folder / "net.yaml")), phase="test")
    with pytest.raises(DataError, match=r"0 to 1; .*; the images' classes are ant, bee, cat"):
        net.forward()
    net.close()


@pytest.mark.parametrize("in_list", [False, True])
def test_the_same_images_in_both_phases_are_warned_of(folder, caplog, in_list):
    if in_list:
        (folder / "val.txt").write_text("val/ant/0.png 0\ntrain/bee/1.png 1\n")
        (folder / "train.txt").write_text("train/ant/0.png 0\ntrain/bee/1.png 1\n")
    text = spec_text("train.txt", "val.txt") if in_list else spec_text("train", "train")
    make_solver(folder, text).close()
    count = "1 of its 2" if in_list else "6 of its 6"
    assert f"layer 'd': {count} images are trained on too (layer 'd')" in caplog.text


def test_the_same_data_base_in_both_phases_is_warned_of(tmp_path, caplog):
    np.savez(tmp_path / "x.npz", data=np.zeros((4, 1, 4, 4), np.uint8), label=np.arange(4) % 3)
    data = "- {name: d, type: Data, top: [data, label], data_param: {source: x.npz, batch_size: 2}}\n"
    text = spec_text().replace(images("train", "TRAIN") + images("val", "TEST"), data)
    make_solver(tmp_path, text).close()
    assert "4 of its 4 images are trained on too" in caplog.text


def test_the_net_of_the_docs_takes_folders_of_classes(tmp_path):
    docs = ROOT / "docs" / "images.md"
    text = docs.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    write_classes(tmp_path / "photos" / "train", "ant", "bee", "cat")
    write_classes(tmp_path / "photos" / "val", "ant", "cat")
    (tmp_path / "net.yaml").write_text(text)
    for phase, batch in (("train", 32), ("test", 50)):
        with mc.Net(tmp_path / "net.yaml", phase=phase) as net:
            net.forward()
            assert net.blobs["data"].shape == (batch, 3, 56, 56) and net.class_names == ["ant", "bee", "cat"]
