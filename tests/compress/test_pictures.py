"""Pictures: image files become batches of a deploy net, prepared as ``minicaffe classify`` prepares them."""

import argparse
import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.classify.classifier import Classifier
from minicaffe.classify.images import load_image
from minicaffe.cli.preparation import add_preparation_flags, make_classifier
from minicaffe.compress import pictures
from minicaffe.compress.batches import run
from minicaffe.compress.pictures import LABELS, Pictures
from minicaffe.data.preparation import Preparation
from minicaffe.device.array import to_host
from minicaffe.errors import DataError, ShapeError

DEPLOY = """
layer:
- {name: data, type: Input, input_param: {shape: {dim: [BATCH, 3, 6, 5]}}}
- {name: ip, type: InnerProduct, inner_product_param: {num_output: 3, weight_filler: {type: xavier}}}
- {name: prob, type: Softmax}
"""


def net(batch=1, more=""):
    return mc.Net.from_text(DEPLOY.replace("BATCH", str(batch)) + more, seed=1)


def write(folder, *names, size=(7, 9)):
    """Files of different pixels, (height, width) ``size``."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(name) + sum(name.encode())).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)


def first_pixels(batches):
    """What tells the images of batches apart."""
    return [tuple(image[:, 0, 0]) for batch in batches for image in to_host(batch["data"])]


def labels(batches):
    return np.concatenate([to_host(batch[LABELS]) for batch in batches])


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "minicaffe")
    return caplog


def test_a_picture_is_prepared_as_the_classifier_does_it(tmp_path):
    write(tmp_path, "a.jpg")
    mean, swap = np.array([10, 20, 30], np.float32), (2, 1, 0)
    prepared = Preparation(image_dims=(8, 6), channel_swap=swap, raw_scale=255.0, mean=mean, as_bytes=True)
    deploy = net()
    deploy.prepare_as(prepared)
    (batch,) = Pictures(deploy, tmp_path).draw(1)
    expected = Classifier(net(), preparation=prepared).prepare([load_image(tmp_path / "a.jpg")])
    assert batch.keys() == {"data"}
    assert batch["data"].dtype == np.float32
    np.testing.assert_array_equal(to_host(batch["data"]), expected)
    assert abs(expected).max() > 50


def test_flags_say_how_pictures_are_prepared(tmp_path):
    write(tmp_path, "a.png")
    parser = argparse.ArgumentParser()
    add_preparation_flags(parser)
    args = parser.parse_args(
        ["--mean", "1,2,3", "--raw-scale", "255", "--channel-swap", "0,1,2", "--image-dims", "6,5"]
    )
    (batch,) = Pictures(make_classifier(net(), args), tmp_path).draw(1)
    given = Classifier(
        net(), image_dims=(6, 5), mean=np.array([1, 2, 3]), raw_scale=255, channel_swap=(0, 1, 2)
    )
    np.testing.assert_array_equal(to_host(batch["data"]), given.prepare([load_image(tmp_path / "a.png")]))


def test_batches_run_through_the_net_and_have_no_label_where_none_is_known(tmp_path):
    write(tmp_path, *(f"{i}.png" for i in range(5)))
    deploy = net()
    found = Pictures(deploy, tmp_path, batch_size=2)
    assert (found.count, found.available, found.has_labels) == (5, 2, False)
    for batch in found.draw(2):
        run(deploy, batch)
        scores = to_host(deploy.blobs["prob"].data)
        assert scores.shape == (2, 3)
        np.testing.assert_array_equal(scores, to_host(deploy.forward(data=batch["data"])["prob"]))


def test_draws_never_repeat_a_picture_and_come_in_the_same_order_again(tmp_path):
    write(tmp_path, *(f"{i:02}.png" for i in range(11)))
    found = Pictures(net(), tmp_path, batch_size=3)
    drawn = first_pixels(found.draw(1) + found.draw(2))
    assert len(set(drawn)) == 9
    assert found.available == 0
    with pytest.raises(DataError, match=r"1 batch of 3 pictures wanted.* 2 pictures left of 11; give more"):
        found.draw(1)
    assert first_pixels(Pictures(net(), tmp_path, batch_size=3).draw(3)) == drawn
    in_order = Pictures(net(), tmp_path, batch_size=3)
    in_order._order = np.arange(11)
    assert first_pixels(in_order.draw(3)) != drawn  # folders come sorted by class


def test_folders_named_as_the_classes_are_labels(tmp_path):
    write(tmp_path, "dog/1.png", "dog/2.png", "ant/1.png", "ant/2.png", "ant/3.png")
    deploy = net()
    deploy.prepare_as(replace(Classifier(deploy).preparation, class_names=("cat", "dog", "ant")))
    found = Pictures(deploy, tmp_path, batch_size=5)
    assert found.has_labels
    batches = found.draw(1)
    assert batches[0][LABELS].dtype == np.float32
    assert sorted(labels(batches)) == [1, 1, 2, 2, 2]
    is_dog = {
        tuple(Classifier(deploy).prepare([load_image(tmp_path / "dog" / f"{i}.png")])[0, :, 0, 0])
        for i in (1, 2)
    }
    assert [pixels in is_dog for pixels in first_pixels(batches)] == list(labels(batches) == 1)


def test_as_many_folders_as_classes_are_labels_in_sorted_order_and_the_log_says_which(tmp_path, log):
    write(tmp_path, "a/1.png", "b/1.png", "c/1.png", "c/2.png")
    assert sorted(labels(Pictures(net(), tmp_path, batch_size=4).draw(1))) == [0, 1, 2, 2]
    advice = "; if these are not the net's classes, give a folder without folders, or a list"
    assert f"{tmp_path}: labels from folders: 0 = a, 1 = b, 2 = c{advice}\n" in log.text


def test_the_log_names_the_first_labels_that_folders_give_by_the_names_of_the_net(tmp_path, log):
    write(tmp_path, *(f"{name}/1.png" for name in "abce"))
    deploy = mc.Net.from_text(DEPLOY.replace("BATCH", "1").replace("num_output: 3", "num_output: 5"))
    deploy.prepare_as(replace(Classifier(deploy).preparation, class_names=tuple("edcba")))
    Pictures(deploy, tmp_path)
    assert "labels from folders: 0 = e, 2 = c, 3 = b and 1 more;" in log.text


@pytest.mark.parametrize(
    ("files", "names", "why"),
    [
        (["a/1.png", "b/1.png"], (), "it has 2 folders, and the net 3 classes without names"),
        (["a/1.png", "b/1.png", "d/1.png"], ("a", "b", "c"), "no classes called d, but a, b, c"),
        (["a/1.png", "b/1.png", "c/1.png", "2.png"], ("a", "b", "c"), "there are some beside its folders"),
        (["x/a/1.png", "x/b/1.png", "y/deep/er/1.png", "z/z/1.png"], (), "its folders hold folders"),
    ],
)
def test_other_folders_are_searched_for_images(tmp_path, log, files, names, why):
    write(tmp_path, *files)
    deploy = net()
    deploy.prepare_as(replace(Classifier(deploy).preparation, class_names=names))
    found = Pictures(deploy, tmp_path)
    assert (found.count, found.has_labels) == (len(files), False)
    assert why in log.text
    assert all(LABELS not in batch for batch in found.draw(1))


def test_a_search_ends_where_links_go_in_circles(tmp_path):
    write(tmp_path, "one/1.png", "one/two/2.png", "3.png")
    (tmp_path / "one" / "two" / "up").symlink_to(tmp_path)
    write(tmp_path, ".hidden/4.png")
    assert Pictures(net(), tmp_path).count == 3


@pytest.mark.parametrize("labelled", [True, False])
def test_a_list_names_pictures_with_or_without_labels(tmp_path, log, labelled):
    write(tmp_path, "a.png", "b.png", "c d.png")
    lines = [f"{name}{f' {i}' if labelled else ''}\n" for i, name in enumerate(["a.png", "b.png", "c d.png"])]
    (tmp_path / "list.txt").write_text("".join(lines + lines[:1]))
    found = Pictures(net(), tmp_path / "list.txt", batch_size=3)
    assert (found.count, found.has_labels) == (3, labelled)
    assert "1 picture named before" in log.text
    if labelled:
        assert sorted(labels(found.draw(1))) == [0, 1, 2]


@pytest.mark.parametrize("label", ["3", "0.5", "-1", "1 2"])
def test_labels_that_are_no_classes_of_the_net_are_left_out_with_a_warning(tmp_path, log, label):
    write(tmp_path, "a.png", "b.png")
    (tmp_path / "list.txt").write_text(f"a.png {'0 0' if ' ' in label else 0}\nb.png {label}\n")
    assert not Pictures(net(), tmp_path / "list.txt").has_labels
    assert f"list.txt:{1 if ' ' in label else 2}: " in log.text
    assert "the net's classes are 0 … 2: the labels are not used" in log.text


@pytest.mark.parametrize(
    ("files", "error"),
    [
        (["notes.txt"], "no images in this folder, nor in those within it; expected files of bmp, gif, jp"),
        (None, "no such image list or folder"),
    ],
)
def test_no_pictures_is_an_error(tmp_path, files, error):
    folder = tmp_path / "pictures"
    if files is not None:
        folder.mkdir()
        (folder / "notes.txt").write_text("none")
    with pytest.raises(DataError, match=error):
        Pictures(net(), folder)


def test_pictures_that_cannot_be_read_are_skipped_and_named_in_one_line(tmp_path, log):
    write(tmp_path, *(f"{i}.png" for i in range(12)))
    good = set(first_pixels(Pictures(net(), tmp_path, batch_size=12).draw(1)))
    whole = (tmp_path / "0.png").read_bytes()
    for i in range(4):
        (tmp_path / f"bad{i}.png").write_bytes(b"none" if i else whole[: len(whole) // 2])
    found = Pictures(net(), tmp_path, batch_size=3)
    drawn = found.draw(2) + found.draw(2)
    assert len(drawn) == 4 and set(first_pixels(drawn)) == good
    warnings = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert 1 <= len(warnings) <= 2
    assert sum(text.count("cannot be read as an image (") for text in warnings) >= 3  # one may come last
    assert all(re.match(r"\d pictures? skipped: \S+bad\d.png: ", text) for text in warnings)


@pytest.mark.parametrize("within", ["", "a/"])
def test_a_link_that_leads_nowhere_is_skipped_and_named(tmp_path, log, within):
    write(tmp_path, *(f"{folder}1.png" for folder in (["a/", "b/", "c/"] if within else [""])))
    (tmp_path / within / "lost.png").symlink_to(tmp_path / "nowhere.png")
    found = Pictures(net(), tmp_path, batch_size=1)
    assert found.has_labels == bool(within)
    assert len(found.draw(found.available)) == found.count - 1
    assert re.search(r"1 picture skipped: \S+lost.png: no such image", log.text)


def test_where_skipped_pictures_leave_too_few_there_are_fewer_batches(tmp_path, log):
    write(tmp_path, "a.png", "b.png", "c.png")
    lines = ["a.png 1", *(f"gone{i}.png 0" for i in range(5)), "b.png 2", "c.png 0"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = Pictures(net(), tmp_path / "list.txt", batch_size=2)
    assert found.available == 4
    batches = found.draw(4)
    assert len(batches) == 1 and found.available == 0
    of_files = {tuple(Classifier(net()).prepare([load_image(tmp_path / f"{x}.png")])[0, :, 0, 0]): label
                for x, label in (("a", 1), ("b", 2), ("c", 0))}  # fmt: skip
    assert [of_files[pixels] for pixels in first_pixels(batches)] == list(labels(batches))
    (text,) = [record.getMessage() for record in log.records if record.levelname == "WARNING"]
    assert text.startswith("5 pictures skipped: ")
    assert text.count("no such image (named at ") == pictures.NAMED
    assert text.endswith("; and 2 more; that leaves 1 batch of the 4 wanted")


def test_the_batch_is_the_nets_own_or_larger_and_smaller_for_few_pictures(tmp_path, monkeypatch):
    write(tmp_path, *(f"{i}.png" for i in range(24)))
    assert Pictures(net(batch=2), tmp_path).batch_size == 2
    assert Pictures(net(batch=24), tmp_path).batch_size == 2
    monkeypatch.setattr(pictures, "FEW_BATCHES", 1)
    assert Pictures(net(batch=5), tmp_path).batch_size == 5
    deploy = net()
    assert Pictures(deploy, tmp_path).batch_size == 24
    assert deploy.blobs["data"].shape == (1, 3, 6, 5)
    monkeypatch.setattr(pictures, "BATCH_BYTES", 7 * pictures._bytes(deploy))
    assert Pictures(deploy, tmp_path).batch_size == 7


def test_a_net_whose_batch_is_fixed_keeps_it(tmp_path):
    write(tmp_path, *(f"{i}.png" for i in range(4)))
    fixed = "- {name: one, type: Reshape, bottom: prob, reshape_param: {shape: {dim: [1, -1]}}}\n"
    deploy = net(more=fixed)
    assert Pictures(Classifier(deploy, output="one"), tmp_path).batch_size == 1
    assert deploy.blobs["one"].shape == (1, 3)


def test_pictures_are_read_when_they_are_drawn(tmp_path, log):
    write(tmp_path, *(f"{i}.png" for i in range(4)))
    found = Pictures(net(), tmp_path, batch_size=2)
    for path in tmp_path.iterdir():
        path.unlink()
    assert found.draw(1) == []
    assert "no such image" in log.text


def test_a_net_of_scores_for_each_place_has_no_labels(tmp_path, log):
    write(tmp_path, "a/1.png", "b/1.png")
    deploy = mc.Net.from_text(
        "layer:\n- {name: data, type: Input, input_param: {shape: {dim: [1, 3, 8, 8]}}}\n"
        "- {name: conv, type: Convolution, convolution_param: {num_output: 2, kernel_size: 3}}\n"
    )
    assert not Pictures(deploy, tmp_path).has_labels
    assert "it has 2 folders, and the net no scores of classes" in log.text


def test_a_net_without_an_input_of_images_is_refused(tmp_path):
    write(tmp_path, "a.png")
    vectors = "layer:\n- {name: x, type: Input, input_param: {shape: {dim: [1, 3]}}}\n"
    with pytest.raises(ShapeError, match="it needs one input of images"):
        Pictures(mc.Net.from_text(vectors), tmp_path)
