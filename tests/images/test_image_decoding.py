"""The door for images: what OpenCV makes of the same bytes, a list of formats, bounded sizes, damaged files."""

import contextlib
import io
import logging
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.caffe.formats.messages import message_class
from minicaffe.classify.images import load_image
from minicaffe.data import decode
from minicaffe.data.decode import decode_image
from minicaffe.data.sources.backends import open_source
from minicaffe.data.sources.image_list import open_images
from minicaffe.errors import DataError
from minicaffe.spec.net import parse_net

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")

FORMATS = {
    "JPEG": {"quality": 85},
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "PPM": {},
}


def photo(height=48, width=64):
    """Colours that change slowly, and noise; the same ones every time."""
    rng = np.random.default_rng(0)
    slow = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (width, height), Image.BICUBIC
    )
    noise = rng.integers(-9, 10, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(slow) + noise, 0, 255).astype(np.uint8))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opencv(data, flag):
    """(K, H, W), or None."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    return image if image is None else np.atleast_3d(image).transpose(2, 0, 1)


def oriented(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "TIFF":
        return encoded(photo(), kind, tiffinfo={0x0112: orientation})
    return encoded(photo(), kind, exif=exif, **FORMATS[kind])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("color", [True, False])
def test_every_format_is_read_as_opencv_reads_it(kind, color):
    data = encoded(photo(), kind, **FORMATS[kind])
    expected = opencv(data, int(color))
    if expected is None:
        pytest.skip(f"this OpenCV reads no {kind}")
    np.testing.assert_array_equal(decode_image(io.BytesIO(data), color), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
@pytest.mark.parametrize("color", [True, False])
def test_every_kind_of_png_is_read_as_opencv_reads_it(mode, color):
    data = encoded(photo().convert(mode), "PNG")
    np.testing.assert_array_equal(decode_image(io.BytesIO(data), color), opencv(data, int(color)))


@pytest.mark.parametrize("color", [True, False])
def test_a_jpeg_of_four_inks_is_read_as_opencv_reads_it(color):
    data = encoded(photo().convert("CMYK"), "JPEG", quality=90)
    np.testing.assert_array_equal(decode_image(io.BytesIO(data), color), opencv(data, int(color)))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("color", [True, False])
def test_of_sixteen_bits_the_upper_eight_are_kept_as_opencv_does(kind, color, rng):
    data = encoded(Image.fromarray(rng.integers(0, 1 << 16, (9, 7), dtype=np.uint16)), kind)
    np.testing.assert_array_equal(decode_image(io.BytesIO(data), color), opencv(data, int(color)))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_a_tiff_of_thirty_two_bits_is_refused_as_opencv_refuses_it(dtype):
    data = encoded(Image.fromarray(np.arange(12).reshape(3, 4).astype(dtype)), "TIFF")
    assert opencv(data, 1) is None
    with pytest.raises(ValueError, match="which OpenCV and Caffe refuse"):
        decode_image(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_stands_upright_as_its_exif_data_say(kind, orientation):
    data = oriented(kind, orientation)
    for color in (True, False):
        np.testing.assert_array_equal(decode_image(io.BytesIO(data), color), opencv(data, int(color)))
    assert decode_image(io.BytesIO(data)).shape == ((3, 48, 64) if orientation < 5 else (3, 64, 48))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_that_is_read_unchanged_is_not_turned(kind):
    data = oriented(kind, 6)
    np.testing.assert_array_equal(decode_image(io.BytesIO(data), None), opencv(data, -1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_turn_nothing():
    data = encoded(photo(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_image(io.BytesIO(data)).shape == (3, 48, 64)


@pytest.mark.parametrize("color", [True, False])
def test_pycaffes_images_and_those_of_classify_stand_upright(tmp_path, color):
    (tmp_path / "x.jpg").write_bytes(oriented("JPEG", 6))
    assert load_image(tmp_path / "x.jpg", color).shape == (64, 48, 3 if color else 1)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.9, 0.4])
def test_a_truncated_jpeg_is_read_as_opencv_reads_it_and_named_once(tmp_path, caplog, progressive, part):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'opencv-python-headless<5'")
    data = encoded(photo(120, 160), "JPEG", progressive=progressive)
    (tmp_path / "x.jpg").write_bytes(data[: int(part * len(data))])
    decode._warned_of.clear()
    with caplog.at_level(logging.WARNING, "minicaffe"):
        for color in (True, False, True):
            expected = np.atleast_3d(cv2.imread(str(tmp_path / "x.jpg"), int(color))).transpose(2, 0, 1)
            np.testing.assert_array_equal(decode_image(tmp_path / "x.jpg", color), expected)
    assert caplog.text.count("x.jpg: a JPEG that ends too early") == 1


def test_a_jpeg_that_ends_before_its_pixels_is_refused(tmp_path):
    (tmp_path / "x.jpg").write_bytes(encoded(photo(), "JPEG")[:150])
    with pytest.raises(decode.BAD_IMAGE):
        decode_image(tmp_path / "x.jpg")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_other_truncated_images_are_refused(kind):
    data = encoded(photo(), kind, **FORMATS[kind])
    with pytest.raises(decode.BAD_IMAGE):
        decode_image(io.BytesIO(data[: len(data) // 2]))


def test_postscript_in_an_image_file_is_not_run(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    eps = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    (tmp_path / "cat.png").write_text(eps)
    with pytest.raises(ValueError, match=r"cannot identify it; JPEG, .* are read"):
        decode_image(tmp_path / "cat.png")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["TGA", "PCX", "ICO", "SGI", "JPEG2000", "ICNS", "DDS", "EPS", "PDF"])
def test_formats_that_are_not_named_are_refused(kind):
    try:
        data = encoded(photo(64, 64), kind)
    except (OSError, KeyError, ValueError):
        pytest.skip(f"this Pillow writes no {kind}")
    with pytest.raises(ValueError, match="cannot identify it"):
        decode_image(io.BytesIO(data))


WINDOWS = "# 0\n{name}\n3 48 64\n2\n1 0.9 0 0 9 9\n1 0 0 0 9 9\n"
WINDOW_NET = "layer: {name: w, type: WindowData, top: [data, label], transform_param: {crop_size: 4}, "
WINDOW_NET += "window_data_param: {source: windows.txt, batch_size: 2}}"


def read_windows(name):
    Path("windows.txt").write_text(WINDOWS.format(name=name))
    with mc.Net(parse_net(WINDOW_NET), phase="train") as net:
        return net.forward()


def read_list(name):
    Path("list.txt").write_text(f"{name} 0\n")
    return open_images("list.txt").read(np.arange(1))


def read_folder(name):
    Path("classes/one").mkdir(parents=True)
    shutil.copy(name, "classes/one")
    return open_images("classes").read(np.arange(1))


def read_lmdb(name):
    lmdb = pytest.importorskip("lmdb")
    datum = message_class("Datum")(encoded=True, data=Path(name).read_bytes(), label=0)
    with lmdb.open("db", map_size=1 << 22) as environment, environment.begin(write=True) as writing:
        writing.put(b"0", datum.SerializeToString())
    with contextlib.closing(open_source("db")) as source:
        return source.read(np.arange(1))


@pytest.mark.parametrize("read", [load_image, read_list, read_folder, read_windows, read_lmdb])
def test_whatever_reads_images_refuses_a_format_that_is_not_named(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo().save("good.png")
    read("good.png")
    for path in ("list.txt", "classes", "db"):
        shutil.rmtree(path, ignore_errors=True)
    (tmp_path / "bad.png").write_bytes(encoded(photo(), "PCX"))
    Image.open("bad.png").load()  # as Pillow would
    with pytest.raises(DataError, match="cannot identify it"):
        read("bad.png")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_more_pixels_than_an_image_may_have_are_refused_before_they_take_memory(monkeypatch, kind):
    monkeypatch.setattr(decode, "MAX_PIXELS", 999)
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it is decoded"))
    with pytest.raises(ValueError, match="40 × 25 pixels; an image may have 999"):
        decode_image(io.BytesIO(encoded_without_loading(kind)))


def encoded_without_loading(kind):
    head = b"IHDR\0\0\0\x28\0\0\0\x19\x08\x02\0\0\0"
    return {
        "PPM": b"P6 40 25 255\n",
        "BMP": b"BM" + bytes([0, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 40, 0, 0, 0, 25, 0, 0, 0])
        + bytes([1, 0, 24, 0]) + bytes(24),
        "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\r" + head + zlib.crc32(head).to_bytes(4, "big") + b"\0\0\0\0IDAT",
        "TIFF": b"II*\0\x08\0\0\0\x08\0"
        + b"".join(
            bytes([tag % 256, tag // 256, 3, 0, 1, 0, 0, 0, value, 0, 0, 0])
            for tag, value in ((256, 40), (257, 25), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (279, 9))
        )
        + bytes(4),
    }[kind]  # fmt: skip


def test_a_decompression_bomb_is_one_line():
    with pytest.raises(ValueError, match=r"pixels; an image may have 100,000,000"):
        decode_image(io.BytesIO(b"P6 65500 65500 255\n"))


def test_a_pipe_in_the_place_of_an_image_is_refused(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ValueError, match="a device or a pipe"):
        decode_image(tmp_path / "x.png")


def test_a_file_larger_than_an_image_may_be_is_refused_before_it_is_read(tmp_path, monkeypatch):
    photo().save(tmp_path / "x.png")
    size = (tmp_path / "x.png").stat().st_size
    monkeypatch.setattr(decode, "MAX_BYTES", size)
    assert decode_image(tmp_path / "x.png").shape == (3, 48, 64)
    monkeypatch.setattr(decode, "MAX_BYTES", size - 1)
    with pytest.raises(ValueError, match=f"{size:,} bytes; an image file may have {size - 1:,}"):
        decode_image(tmp_path / "x.png")


def test_a_damaged_image_for_pycaffe_is_one_line(tmp_path):
    (tmp_path / "x.png").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"x\.png: cannot be read as an image"):
        load_image(tmp_path / "x.png")
