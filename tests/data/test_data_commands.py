"""``minicaffe data images`` and ``data mean``, as Caffe's convert_imageset and compute_image_mean."""

import io
import os

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.caffe.formats.messages import parse_message
from minicaffe.cli.program import main
from minicaffe.data.mean import load_mean
from minicaffe.data.sources.lmdb import LmdbSource
from minicaffe.data.sources.lmdb_file import LmdbFile
from minicaffe.spec.net import parse_net
from minicaffe.train.progress import Progress

pytest.importorskip("lmdb")
pytest.importorskip("google.protobuf")


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A folder of two classes, and a list of its four images with other labels."""
    monkeypatch.chdir(tmp_path)
    for name in ("ant/0.png", "ant/1.jpg", "bee/0.png", "bee/1.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(path)
    (tmp_path / "list.txt").write_text("ant/0.png 7\nbee/1.png 3\nant/1.jpg 5\nbee/0.png 1\n")
    return tmp_path


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))[:, :, ::-1].transpose(2, 0, 1)


def read_all(path):
    file, source = LmdbFile(path), LmdbSource(path)
    try:
        keys = [file.read(number)[0] for number in range(len(file))]
        return keys, *source.read(np.arange(len(source)))
    finally:
        source.close()
        file.close()


def test_a_folder_of_classes_becomes_an_lmdb(folder, capsys):
    assert main(["data", "images", "photos", "-o", "db"]) == 0
    keys, images, labels = read_all(folder / "db")
    assert keys[1] == b"00000001_" + os.path.join("ant", "1.jpg").encode()
    assert labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(images[0], pixels("photos/ant/0.png"))
    assert capsys.readouterr().out == "Wrote 4 images to db\n  0  ant\n  1  bee\n"


def test_a_list_becomes_an_lmdb_in_its_order(folder):
    assert main(["data", "images", "list.txt", "--root", "photos", "-o", "db"]) == 0
    _, images, labels = read_all(folder / "db")
    assert labels.tolist() == [7, 3, 5, 1]
    np.testing.assert_array_equal(images[3], pixels("photos/bee/0.png"))


def test_shuffled_images_keep_their_labels_and_are_the_same_for_the_same_seed(folder):
    flags = ["data", "images", "list.txt", "--root", "photos", "--shuffle", "--seed", "2"]
    for name in ("db", "again"):
        assert main([*flags, "-o", name]) == 0
    keys, images, labels = read_all(folder / "db")
    assert labels.tolist() == read_all(folder / "again")[2].tolist() != [7, 3, 5, 1]
    place = labels.tolist().index(3)
    np.testing.assert_array_equal(images[place], pixels("photos/bee/1.png"))
    assert keys[place] == b"%08d_bee/1.png" % place


def test_grey_and_resized_images(folder):
    flags = ["--gray", "--resize-height", "3", "--resize-width", "4"]
    assert main(["data", "images", "photos", *flags, "-o", "db"]) == 0
    assert read_all(folder / "db")[1].shape == (4, 1, 3, 4)


def test_encoded_images_are_the_files_bytes_where_nothing_changes(folder):
    lmdb = pytest.importorskip("lmdb")
    from minicaffe.caffe.formats.messages import parse_message

    assert main(["data", "images", "photos", "--encoded", "-o", "db"]) == 0
    with (
        lmdb.open(str(folder / "db"), readonly=True, lock=False) as environment,
        environment.begin() as reading,
    ):
        datums = [parse_message("Datum", value) for _, value in reading.cursor()]
    assert datums[1].encoded and datums[1].data == (folder / "photos" / "ant" / "1.jpg").read_bytes()
    np.testing.assert_array_equal(read_all(folder / "db")[1][0], pixels("photos/ant/0.png"))


def test_encoded_images_that_change_are_encoded_anew(folder):
    flags = ["--encoded", "--encode-type", "png", "--resize-height", "3", "--resize-width", "4"]
    assert main(["data", "images", "photos", *flags, "-o", "db"]) == 0
    assert main(["data", "images", "photos", *flags[3:], "-o", "plain"]) == 0
    np.testing.assert_array_equal(read_all(folder / "db")[1], read_all(folder / "plain")[1])


def test_an_image_that_cannot_be_read_is_named_and_left_out(folder, capsys):
    """As convert_imageset does it."""
    (folder / "photos" / "ant" / "0.png").write_bytes(b"no image")
    assert main(["data", "images", "list.txt", "--root", "photos", "-o", "db"]) == 0
    out = capsys.readouterr().out
    assert "ant/0.png: cannot be decoded (named at list.txt:1)" in out
    assert "Wrote 3 images to db; 1 could not be read" in out
    assert read_all(folder / "db")[2].tolist() == [3, 5, 1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--resize-height", "3"], "--resize-height and --resize-width: give both"),
        (["--encode-type", "png"], "--encode-type: only with --encoded"),
    ],
)
def test_flags_that_make_no_sense_are_one_line(folder, capsys, flags, message):
    assert main(["data", "images", "photos", *flags, "-o", "db"]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (folder / "db").exists()


def test_what_fails_half_way_leaves_nothing(folder, capsys):
    Image.new("RGB", (9, 9)).save(folder / "photos" / "bee" / "1.png")
    assert main(["data", "images", "photos", "--check-size", "-o", "db"]) == 2
    assert "1.png: 3 × 9 × 9, but the first is 3 × 6 × 5; give --resize-height" in capsys.readouterr().err
    (folder / "list.txt").write_text("ant/0.png 1 2\n")
    assert main(["data", "images", "list.txt", "--root", "photos", "-o", "db"]) == 2
    assert "list.txt:1): 2 labels; an LMDB has one" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["list.txt", "photos"]


def test_a_binaryproto_has_the_four_axes_that_scripts_for_caffe_read(folder):
    assert main(["data", "mean", "photos", "-o", "mean.binaryproto"]) == 0
    blob = parse_message("BlobProto", (folder / "mean.binaryproto").read_bytes())
    assert (blob.num, blob.channels, blob.height, blob.width) == (1, *pixels("photos/ant/0.png").shape)


@pytest.mark.parametrize("ending", ["binaryproto", "npz", "npy"])
def test_the_mean_of_images_is_a_mean_file(folder, capsys, ending):
    expected = np.mean([pixels(p) for p in sorted((folder / "photos").glob("*/*"))], axis=0)
    assert main(["data", "images", "photos", "-o", "db"]) == 0
    for source in ("photos", "db"):
        assert main(["data", "mean", source, "-o", f"mean.{ending}"]) == 0
        np.testing.assert_allclose(load_mean(folder / f"mean.{ending}"), expected, rtol=1e-6)
    assert f"Wrote mean.{ending}: 3 × 6 × 5; mean_value of its channels: " in capsys.readouterr().out
    layer = (
        "{name: d, type: ImageData, top: data, image_data_param: {source: photos, batch_size: 4}, "
        f"transform_param: {{mean_file: mean.{ending}}}}}"
    )
    net = mc.Net(parse_net(f"layer:\n- {layer}\n", str(folder / "net.yaml")))
    assert abs(net.forward()["data"].mean()) < 1e-4
    net.close()


def test_the_mean_of_a_list_that_is_resized_and_grey(folder):
    flags = ["--root", "photos", "--gray", "--resize-height", "3", "--resize-width", "4"]
    assert main(["data", "mean", "list.txt", *flags, "-o", "mean.npz"]) == 0
    assert load_mean(folder / "mean.npz").shape == (1, 3, 4)


def test_the_mean_of_the_sample(folder):
    assert main(["data", "mean", "sample/mnist-test", "-o", "mean.npz"]) == 0
    assert load_mean(folder / "mean.npz").shape == (1, 28, 28)


def test_what_has_no_mean_is_one_line(folder, capsys):
    Image.new("RGB", (9, 9)).save(folder / "photos" / "bee" / "1.png")
    assert main(["data", "mean", "photos", "-o", "mean.npz"]) == 2
    message = "1.png: 3 × 9 × 9, but others are 3 × 6 × 5; give --resize-height and --resize-width"
    assert message in capsys.readouterr().err
    assert main(["data", "mean", "sample/mnist-test", "--resize-height", "3", "-o", "mean.npz"]) == 2
    assert "--resize-height, --resize-width and --root are for image files" in capsys.readouterr().err
    assert main(["data", "mean", "sample/mnist-test", "-o", "mean.png"]) == 2
    assert "the name of a mean image must end in .binaryproto, .npz or .npy" in capsys.readouterr().err
    assert not list(folder.glob("mean.*"))


def test_progress_is_said_now_and_then(caplog, monkeypatch):
    monkeypatch.setattr(Progress, "EVERY", 0.0)
    progress = Progress(2000)
    with caplog.at_level("INFO", "minicaffe"):
        progress.say_some(1500)
        progress.say_some()
    assert [r.getMessage().startswith("1,500 of 2,000 images (") for r in caplog.records] == [True]


def test_an_orientation_that_the_exif_data_have_is_in_the_pixels(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (5, 6)).save(file, "JPEG", exif=exif)
    (folder / "photos" / "one").mkdir()
    (folder / "photos" / "one" / "x.jpg").write_bytes(file.getvalue())
    (folder / "list.txt").write_text("one/x.jpg 0\n")
    assert main(["data", "images", "list.txt", "--root", "photos", "-o", "db"]) == 0
    assert read_all(folder / "db")[1].shape == (1, 3, 5, 6)


def test_without_one_image_that_can_be_read_nothing_is_written(folder, capsys):
    (folder / "photos" / "x.jpg").write_bytes(b"no image")
    (folder / "list.txt").write_text("x.jpg 1\n")
    assert main(["data", "images", "list.txt", "--root", "photos", "-o", "db"]) == 2
    assert capsys.readouterr().err == "error: db: no image could be read; nothing is written\n"
    assert not (folder / "db").exists()
