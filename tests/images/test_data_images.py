"""Image files: lists, folders of classes, decoding as OpenCV does, and what is broken."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from minicaffe.data.decode import decode_image
from minicaffe.data.resize import resize
from minicaffe.data.sources import image_list
from minicaffe.data.sources.image_list import open_images
from minicaffe.errors import DataError
from tests.golden_files import recorded

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")


def save(rng, path, height=6, width=5):
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels[:, :, ::-1].transpose(2, 0, 1)


@pytest.fixture
def listed(tmp_path, rng):
    """A list of three images, one of whose paths has spaces; and their pixels."""
    names = ["a.png", "with two spaces.png", "sub/c.png"]
    pixels = [save(rng, tmp_path / "images" / name) for name in names]
    lines = [f"{name} {label}" for label, name in enumerate(names, 5)]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path, np.stack(pixels)


def test_listed_images_come_back_blue_green_red(listed):
    folder, pixels = listed
    source = open_images("list.txt", folder, root_folder="images")
    images, labels = source.read(np.array([1, 2, 1, 0]))
    np.testing.assert_array_equal(images, pixels[[1, 2, 1, 0]])
    np.testing.assert_array_equal(labels, [6, 7, 6, 5])


def test_folder_of_classes_has_sorted_classes_as_labels(tmp_path, rng):
    pixels = {(c, n): save(rng, tmp_path / c / n) for c in ("cat", "ant", "bee") for n in ("1.png", "0.png")}
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    images, labels = open_images(tmp_path).read(np.arange(6))
    np.testing.assert_array_equal(labels, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(images[0], pixels["ant", "0.png"])
    np.testing.assert_array_equal(images[5], pixels["cat", "1.png"])


def test_second_epoch_reads_no_files(listed):
    folder, pixels = listed
    source = open_images("list.txt", folder, root_folder="images")
    source.read(np.arange(3))
    for file in (folder / "images").rglob("*.png"):
        file.unlink()
    np.testing.assert_array_equal(source.read(np.array([2, 0]))[0], pixels[[2, 0]])


def test_images_too_large_for_memory_are_read_each_time(listed):
    folder, pixels = listed
    kept = open_images("list.txt", folder, root_folder="images")
    source = image_list.ImageListSource(kept.listed, cache_bytes=100)
    np.testing.assert_array_equal(source.read(np.array([2, 0]))[0], pixels[[2, 0]])
    (folder / "images" / "a.png").unlink()
    with pytest.raises(DataError, match="no such image"):
        source.read(np.array([0]))


def test_images_of_differing_sizes_come_as_a_list(tmp_path, rng):
    pixels = [save(rng, tmp_path / "x" / f"{n}.png", height=4 + n) for n in range(3)]
    images, _ = open_images(tmp_path).read(np.array([2, 0]))
    assert isinstance(images, list)
    np.testing.assert_array_equal(images[0], pixels[2])
    np.testing.assert_array_equal(images[1], pixels[0])


def test_resized_images_have_one_size(tmp_path, rng):
    for n in range(3):
        save(rng, tmp_path / "x" / f"{n}.png", height=4 + n)
    images, _ = open_images(tmp_path, size=(7, 3)).read(np.arange(3))
    assert images.shape == (3, 3, 7, 3)


def bilinear(pixels, height, width):
    """OpenCV's INTER_LINEAR in plain NumPy: pixel centres, four neighbours, edges repeated."""
    rows = (np.arange(height) + 0.5) * pixels.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * pixels.shape[1] / width - 0.5
    out = np.zeros((height, width))
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            top, left = int(np.floor(row)), int(np.floor(column))
            for dy in (0, 1):
                for dx in (0, 1):
                    weight = abs(1 - dy - (row - top)) * abs(1 - dx - (column - left))
                    source = (
                        np.clip(top + dy, 0, pixels.shape[0] - 1),
                        np.clip(left + dx, 0, pixels.shape[1] - 1),
                    )
                    out[y, x] += weight * pixels[source]
    return out


@pytest.mark.parametrize("size", [(4, 3), (9, 11), (20, 7), (5, 13)])
def test_resize_is_opencv_bilinear(size, rng):
    pixels = rng.integers(0, 256, (9, 11), dtype=np.uint8)
    resized = resize(pixels, *size).astype(float)
    np.testing.assert_allclose(resized, bilinear(pixels.astype(float), *size), atol=1.01)


RESIZED = recorded("resized")


@pytest.mark.parametrize("name", [name for name, case in RESIZED.items() if "out" in case])
def test_resize_is_opencvs_to_the_last_bit(name):
    case = RESIZED[name]
    np.testing.assert_array_equal(resize(case["in"], *case["out"].shape[:2]), case["out"])


@pytest.mark.parametrize("name", [name for name, case in RESIZED.items() if "sha256" in case])
def test_a_large_image_too_is_resized_to_the_last_bit(name):
    case = RESIZED[name]
    resized = resize(case["in"], *case["size"])
    assert hashlib.sha256(resized.tobytes()).hexdigest() == str(case["sha256"])


def test_resize_is_that_of_the_opencv_that_is_installed():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'")
    rng = np.random.default_rng(3)
    for _ in range(60):
        height, width, new_height, new_width = (int(size) for size in rng.integers(1, 400, 4))
        pixels = rng.integers(0, 256, (height, width), dtype=np.uint8)
        expected = cv2.resize(pixels, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
        where = f"{height} x {width} -> {new_height} x {new_width}"
        np.testing.assert_array_equal(resize(pixels, new_height, new_width), expected, err_msg=where)


def test_an_image_is_resized_as_it_is_read(tmp_path):
    case = recorded("resized")["smaller"]
    Image.fromarray(case["in"][:, :, ::-1]).save(tmp_path / "x.png")
    found = decode_image(tmp_path / "x.png", size=case["out"].shape[:2])
    np.testing.assert_array_equal(found, case["out"].transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16", "CMYK", "LA"])
def test_every_kind_of_image_becomes_eight_bits_of_one_or_three_channels(tmp_path, mode):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    if mode == "I;16":
        Image.fromarray(np.full((4, 4), 0x8001, np.uint16)).save(path)
    else:
        Image.new("L", (4, 4), 128).convert(mode).save(path)
    for color, channels in ((True, 3), (False, 1)):
        image = decode_image(path, color)
        assert image.shape == (channels, 4, 4) and image.dtype == np.uint8
        if mode != "1":
            assert abs(image.mean() - 128) <= 2


def test_grey_is_opencv_luminance(tmp_path):
    Image.new("RGB", (1, 1), (200, 100, 50)).save(tmp_path / "x.png")
    assert (
        abs(int(decode_image(tmp_path / "x.png", False)[0, 0, 0]) - (0.299 * 200 + 0.587 * 100 + 0.114 * 50))
        < 1
    )


def test_image_that_cannot_be_decoded_is_named_with_its_line(listed):
    folder, _ = listed
    (folder / "images" / "sub" / "c.png").write_bytes(b"not a picture")
    source = open_images("list.txt", folder, root_folder="images")
    with pytest.raises(DataError, match=r"sub/c\.png: cannot be decoded \(named at .*list\.txt:3\)"):
        source.read(np.array([2]))


def test_truncated_image_is_named(listed):
    folder, _ = listed
    path = folder / "images" / "sub" / "c.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"sub/c\.png: cannot be decoded"):
        open_images("list.txt", folder, root_folder="images").read(np.array([2]))


def test_missing_image_is_named_with_its_line(listed):
    folder, _ = listed
    (folder / "images" / "sub" / "c.png").unlink()
    with pytest.raises(DataError, match=r"sub/c\.png: no such image \(named at .*list\.txt:3\)"):
        open_images("list.txt", folder, root_folder="images").read(np.array([2]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no images"),
        ("a.png 0\nb.png\n", r"list\.txt:2: 'b\.png' does not end in a label"),
        ("a.png one\n", r"list\.txt:1: 'a\.png one' does not end in a label"),
        ("a.png 0\n", r"list\.txt:1: no image a\.png in .*; set root_folder"),
    ],
)
def test_broken_list_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        open_images("list.txt", tmp_path)


def test_binary_list_and_empty_folder_are_named(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(DataError, match="not a text file"):
        open_images("list.txt", tmp_path)
    (tmp_path / "folder" / "class").mkdir(parents=True)
    with pytest.raises(DataError, match="folder: no images in sub-folders"):
        open_images("folder", tmp_path)


def test_missing_cifar_folder_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="minicaffe data get cifar10"):
        open_images("data/cifar10/train", tmp_path)
