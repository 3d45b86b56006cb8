"""Lists of images in every form that people write them, images of other sizes that are named, and large lists."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.data.sources.image_list import open_images, read_list
from minicaffe.errors import DataError
from minicaffe.spec.net import parse_net


@pytest.fixture
def folder(tmp_path):
    """Images a.png, "b c.png" and d.png of one size, and tall.png of another."""
    for number, name in enumerate(("a.png", "b c.png", "d.png")):
        Image.new("RGB", (4, 3), (number, 0, 0)).save(tmp_path / name)
    Image.new("RGB", (4, 9)).save(tmp_path / "tall.png")
    return tmp_path


def listed(folder, text):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "list.txt").write_bytes(data)
    return open_images("list.txt", folder)


@pytest.mark.parametrize(
    "text",
    [
        "a.png 5\nb c.png 7\n",
        b"\xef\xbb\xbfa.png 5\nb c.png 7\n",
        "a.png\t5\nb c.png\t7",
        "a.png 5\r\nb c.png 7\r\n",
        "a.png 5\rb c.png 7\r",
        "\n  a.png   5 \n\n\nb c.png \t 7\n\n",
        "a.png 5.0\nb c.png 7e0\n",
    ],
)
def test_lists_are_read_as_people_write_them(folder, text):
    source = listed(folder, text)
    images, labels = source.read(np.arange(2))
    assert labels.tolist() == [5, 7] and images[:, 2, 0, 0].tolist() == [0, 1]


def test_several_labels_are_rows(folder):
    source = listed(folder, "a.png 0 1 0.5\nb c.png 1 0 -2\n")
    np.testing.assert_array_equal(source.read(np.array([1, 0]))[1], [[1, 0, -2], [0, 1, 0.5]])


def test_a_path_that_ends_in_a_number_has_one_label_if_it_is_there(folder):
    (folder / "a.png").rename(folder / "scan 12")
    source = listed(folder, "scan 12 3\nb c.png 1\n")
    assert source.read(np.arange(2))[1].tolist() == [3, 1]


def test_a_later_path_may_end_in_a_number_too(folder):
    (folder / "a.png").rename(folder / "scan 12")
    source = listed(folder, "b c.png 1\nscan 12 3\nscan 13 3\n")
    assert source.read(np.arange(2))[1].tolist() == [1, 3]
    with pytest.raises(DataError, match=r"scan 13: no such image \(named at .*list.txt:3\)"):
        source.read(np.array([2]))


def net_of(folder, text, top="[data, label]", options="batch_size: 2"):
    (folder / "list.txt").write_text(text)
    layer = (
        f"- {{name: images, type: ImageData, top: {top}, image_data_param: {{source: list.txt, {options}}}}}"
    )
    return mc.Net(parse_net(f"layer:\n{layer}\n", str(folder / "net.yaml")))


def test_a_net_has_a_row_of_labels_for_each_image(folder):
    net = net_of(folder, "a.png 0 1 2\nb c.png 3 4 5\nd.png 6 7 8\n")
    assert net.blobs["label"].shape == (2, 3)
    assert net.forward()["label"].tolist() == [[0, 1, 2], [3, 4, 5]]
    net.close()


def test_a_list_without_labels_is_for_a_layer_with_one_top(folder):
    net = net_of(folder, "a.png\nb c.png\n", top="data")
    assert net.forward()["data"].shape == (2, 3, 3, 4)
    net.close()
    with pytest.raises(DataError, match=r"no labels \(.*list\.txt:1 has only a path"):
        net_of(folder, "a.png\nb c.png\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png 1\nb c.png nan\n", r"list\.txt:2: a label that is nan or infinite; write a number"),
        ("a.png inf\n", r"list\.txt:1: a label that is nan or infinite"),
        ("a.png 1\nd.png 1e300\n", r"list\.txt:2: a label that is nan or infinite"),
        ("a.png 1 2\nb c.png 1\n", r"list\.txt:2: 'b c\.png 1' does not end in 2 labels, as the first line"),
        ("a.png 1\n\nb c.png\n", r"list\.txt:3: 'b c\.png' does not end in a label"),
        (
            "a.png 1\nb c.png 2 3\n",
            r"list\.txt:2: labels: 2 here, 1 on the first line; write as many on each",
        ),
        ("a.png\nb c.png 2\n", r"list\.txt:2: labels: 1 here, 0 on the first line"),
        ("gone.png\n", r"list\.txt:1: no image gone\.png in"),
        ("x\x1b[31m" + 5000 * "y" + ".png 1\n", r"list\.txt:1: no image x\\x1b\[31myy.{,400} in"),
        ("a.png 1\0\n", r"not a text file"),
        ("a.png 1\n".encode("utf-16").decode("latin-1"), "not a text file"),
        ("\n \n", "lists no images"),
    ],
)
def test_a_bad_list_names_its_line(folder, text, message):
    with pytest.raises(DataError, match=message) as caught:
        listed(folder, text)
    assert len(str(caught.value)) < 2000


def test_names_that_are_no_utf8_are_found(folder):
    if sys.platform != "linux":
        pytest.skip("names are bytes on Linux alone")
    os.rename(folder / "a.png", os.fsencode(folder) + b"/\xe9.png")
    assert listed(folder, b"\xe9.png 1\n").read(np.array([0]))[1] == 1


def test_an_image_of_another_size_names_layer_file_line_and_field(folder):
    net = net_of(folder, "a.png 1\nd.png 2\ntall.png 3\nb c.png 4\n")
    net.forward()
    with pytest.raises(DataError) as caught:
        net.forward()
    net.close()
    message = str(caught.value)
    assert "net.yaml:2: layer 'images': " in message and "tall.png (named at" in message
    assert "list.txt:3): 3 × 9 × 4, but others in its batch are 3 × 3 × 4" in message
    assert "give new_height and new_width in image_data_param" in message


def test_an_image_that_is_smaller_than_the_crop_is_named(folder):
    Image.new("RGB", (2, 2)).save(folder / "d.png")
    layer = "- {name: images, type: ImageData, top: [data, label], transform_param: {crop_size: 3}, "
    (folder / "list.txt").write_text("a.png 1\nd.png 2\n")
    text = layer + "image_data_param: {source: list.txt, batch_size: 2}}"
    net = mc.Net(parse_net(f"layer:\n{text}\n", str(folder / "net.yaml")))
    with pytest.raises(DataError, match=r"d\.png \(named at .*list\.txt:2\): .*crop_size: 3 is more than"):
        net.forward()
    net.close()


def test_an_lmdb_names_the_key_of_an_image_of_another_size(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    from minicaffe.caffe.formats.messages import message_class

    with lmdb.open(str(tmp_path / "db")) as environment, environment.begin(write=True) as transaction:
        for key, height in ((b"first", 2), (b"odd one", 3), (b"other", 2)):
            datum = message_class("Datum")(channels=1, height=height, width=2, data=bytes(2 * height))
            transaction.put(key, datum.SerializeToString())
    layer = "{name: d, type: Data, top: [data, label], data_param: {source: db, batch_size: 3}}"
    net = mc.Net(parse_net(f"layer:\n- {layer}\n", str(tmp_path / "net.yaml")))
    with pytest.raises(DataError, match=r"layer 'd': .*db: key b'odd one': 1 × 3 × 2, but .* give crop_size"):
        net.forward()
    net.close()


def test_a_large_list_takes_few_bytes_more_than_its_text(folder):
    (folder / "list.txt").write_text("".join(f"d.png/../a.png/{i:08}.png {i}\n" for i in range(20_000)))
    names = read_list(folder / "list.txt", lambda name: True).names
    assert names[19_999].endswith("00019999.png")
    held = sys.getsizeof(names._bytes) + sys.getsizeof(names._ends)
    assert held < 1.3 * (folder / "list.txt").stat().st_size


def test_two_nets_share_what_is_kept_of_a_list_and_see_when_it_was_written_again(folder):
    first, second = (listed(folder, "a.png 5\nd.png 7\n") for _ in range(2))
    assert first.listed.names is not second.listed.names  # it was written again
    third = open_images("list.txt", folder)
    assert second.listed.names is third.listed.names
