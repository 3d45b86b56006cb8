"""WindowData: the windows that real Caffe cuts out, how they are drawn, and what is refused."""

import numpy as np
import pytest
import yaml
from PIL import Image

import minicaffe as mc
from minicaffe.data import windows
from minicaffe.spec.net import parse_net
from tests.golden_files import recorded

CASES = recorded("windows")


def write_image(path, pixels):
    """``pixels`` (height, width, 3) are blue, green, red."""
    Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).save(path)


def window_net(folder, window_param, transform_param, seed=1):
    param = {"source": str(folder / "windows.txt"), "root_folder": str(folder), **window_param}
    layer = {"name": "L", "type": "WindowData", "top": ["data", "label"], "window_data_param": param}
    text = yaml.safe_dump({"layer": [{**layer, "transform_param": transform_param}]})
    return mc.Net(parse_net(text, "net.yaml"), phase="train", seed=seed)


@pytest.fixture
def folder(tmp_path):
    """Two images in grey, each with windows of several classes."""
    for number, grey in enumerate((50, 200)):
        write_image(tmp_path / f"{number}.png", np.full((20, 30, 3), grey, np.uint8))
    (tmp_path / "windows.txt").write_text(
        "# 0\n0.png\n3 20 30\n3\n1 0.9 0 0 9 9\n2 0.5 3 3 12 12\n4 0.3 1 1 5 5\n"
        "# 1\n1.png\n3 20 30\n2\n3 0.75 2 2 19 19\n3 0.1 5 5 15 15\n"
    )
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_windows_are_those_of_caffe(name, tmp_path):
    case = yaml.safe_load(str(CASES[name]["case"]))
    write_image(tmp_path / "image.png", CASES[name]["image"])
    height, width = case["image"]
    windows = [f"{head} {' '.join(map(str, case[box]))}" for head, box in (("7 0.9", "fg"), ("3 0.1", "bg"))]
    lines = ["# 0", "image.png", f"3 {height} {width}", "2", *windows]
    (tmp_path / "windows.txt").write_text("\n".join(lines))
    param = {"batch_size": 2, "fg_fraction": 0.5, **case.get("window_data_param", {})}
    net = window_net(tmp_path, param, case["transform_param"])
    out = net.forward()
    net.close()
    np.testing.assert_array_equal(out["label"], CASES[name]["out_label"])
    np.testing.assert_allclose(out["data"], CASES[name]["out_data"], atol=1e-3)
    if "mean_value" not in case["transform_param"]:  # then 0 is outside of the image
        np.testing.assert_array_equal(out["data"] == 0, CASES[name]["out_data"] == 0)


def test_a_batch_has_background_first_and_the_asked_fraction_of_foreground(folder):
    net = window_net(folder, {"batch_size": 10, "fg_fraction": 0.38}, {"crop_size": 4})
    labels = np.array([np.array(net.forward()["label"]) for _ in range(20)])
    net.close()
    assert (labels[:, :7] == 0).all()
    assert set(labels[:, 7:].ravel()) == {1, 2, 3}


def test_an_image_is_decoded_once_in_a_batch_however_many_windows_are_of_it(folder, monkeypatch):
    decoded = []
    decode = windows.decode_image
    monkeypatch.setattr(windows, "decode_image", lambda file: (decoded.append(file.name), decode(file))[1])
    listed = windows.read_windows(folder / "windows.txt", folder, bg_threshold=0.2)
    make = windows.WindowBatches(listed, windows.Cropping(4), 24, 0.5, seed=1, slots=1)
    assert decoded == []
    labels = make(0)[1]
    assert sorted(decoded) == ["0.png", "1.png"] and len(labels) == 24


def test_thresholds_say_what_is_foreground_and_what_background(folder):
    thresholds = {"fg_threshold": 0.8, "bg_threshold": 0.2}
    net = window_net(folder, {"batch_size": 8, "fg_fraction": 0.5, **thresholds}, {"crop_size": 4})
    out = net.forward()
    net.close()
    assert (out["label"][4:] == 1).all()
    assert (out["data"][:4] == 200).all() and (out["data"][4:] == 50).all()


def test_equal_seeds_draw_equal_batches_and_others_do_not(folder):
    param, transform = {"batch_size": 16}, {"crop_size": 5, "mirror": True}
    nets = [window_net(folder, param, transform, seed) for seed in (1, 1, 2)]
    labels = [[np.array(net.forward()["label"]) for _ in range(4)] for net in nets]
    np.testing.assert_array_equal(labels[0], labels[1])
    assert not np.array_equal(labels[0], labels[2])
    nets[0].layers[0].restore({"next_batch": 2})
    np.testing.assert_array_equal(nets[0].forward()["label"], labels[0][2])
    for net in nets:
        net.close()


def test_mirrored_windows_are_the_others_turned_round_with_their_padding(tmp_path):
    slope = np.broadcast_to(np.arange(0, 240, 8, dtype=np.uint8)[None, :, None], (20, 30, 3))
    write_image(tmp_path / "a.png", slope)
    (tmp_path / "windows.txt").write_text("# 0\na.png\n3 20 30\n1\n0 0.1 0 4 9 12\n")
    param = {"batch_size": 24, "fg_fraction": 0, "context_pad": 3}
    net = window_net(tmp_path, param, {"crop_size": 12, "mirror": True, "mean_value": [7, 7, 7]})
    images = np.array(net.forward()["data"])
    net.close()
    plain = images[np.argmax([(image[..., :2] == 0).all() for image in images])]
    is_mirrored = [not np.array_equal(image, plain) for image in images]
    assert 4 < sum(is_mirrored) < 20
    for image in images[is_mirrored]:
        np.testing.assert_array_equal(image, plain[..., ::-1])


@pytest.mark.parametrize("cache", [False, True])
def test_a_mean_image_is_taken_off_where_the_window_lies(cache, folder):
    mean = np.arange(3 * 8 * 8, dtype=np.float32).reshape(3, 8, 8)
    np.save(folder / "mean.npy", mean)
    param = {"batch_size": 2, "fg_fraction": 0.5, "bg_threshold": 0.2, "scale": 0.5, "cache_images": cache}
    net = window_net(folder, param, {"crop_size": 4, "mean_file": str(folder / "mean.npy")})
    out = net.forward()["data"]
    net.close()
    np.testing.assert_allclose(out[0], (200 - mean[:, 2:6, 2:6]) / 2)


def broken(text, old, new):
    assert old in text
    return text.replace(old, new)


FILES = [
    ("# 0", "# 7", "image 0: '# 7', but '# 0' is expected"),
    ("# 1", "+ 1", "image 1: '[+] 1', but '# 1' is expected"),
    ("3 20 30\n3\n", "3 20 30\nmany\n", "image 0: invalid literal"),
    ("3 0.1 5 5 15 15\n", "3 0.1 5 5", "image 1: cannot reshape"),
    ("1 0.9 0 0", "1 high 0 0", "image 0: could not convert"),
    ("0.png", "none.png", "no image none.png in .*; set root_folder"),
    ("1 0.9 0 0 9 9", "0 0.9 0 0 9 9", "image 0: a foreground window of class 0; 0 is the background"),
]


@pytest.mark.parametrize(("old", "new", "problem"), FILES)
def test_a_broken_window_file_is_an_error_that_names_the_image(old, new, problem, folder):
    path = folder / "windows.txt"
    path.write_text(broken(path.read_text(), old, new))
    with pytest.raises(mc.DataError, match=f"layer 'L': .*windows.txt: .*{problem}"):
        window_net(folder, {"batch_size": 2}, {"crop_size": 4})


@pytest.mark.parametrize(
    ("param", "transform", "problem"),
    [
        ({}, {}, "transform_param.crop_size: required"),
        ({"context_pad": 2}, {"crop_size": 4}, "context_pad: 2 on each side leaves nothing of crop_size 4"),
        ({"crop_mode": "round"}, {"crop_size": 4}, "crop_mode: expected warp or square, got 'round'"),
        (
            {"fg_threshold": 2},
            {"crop_size": 4},
            "no foreground windows; change fg_fraction or the thresholds",
        ),
        ({"bg_threshold": 0}, {"crop_size": 4}, "no background windows"),
        ({"source": "/no/such.txt"}, {"crop_size": 4}, "no such window file"),
        ({}, {"crop_size": 4, "mean_value": [1, 2]}, "mean_value: 2 values for 3 channels"),
    ],
)
def test_a_wrong_setting_is_an_error_at_the_layer(param, transform, problem, folder):
    with pytest.raises(mc.MinicaffeError, match=f"layer 'L'.*{problem}"):
        window_net(folder, {"batch_size": 4, **param}, transform)


def test_a_mean_image_without_a_middle_of_the_size_is_an_error(folder):
    np.save(folder / "mean.npy", np.zeros((3, 3, 3), np.float32))
    with pytest.raises(mc.SpecError, match=r"mean_file: its shape .* has no middle"):
        window_net(folder, {"batch_size": 4}, {"crop_size": 4, "mean_file": str(folder / "mean.npy")})


@pytest.mark.parametrize("box", ["0 0 30 9", "5 5 4 9", "-1 0 5 5", "0 0 5 20"])
def test_a_window_outside_of_its_image_is_an_error_that_names_it(box, folder):
    (folder / "windows.txt").write_text(f"# 0\n0.png\n3 20 30\n1\n1 0.9 {box}\n")
    net = window_net(folder, {"batch_size": 1, "fg_fraction": 1}, {"crop_size": 4})
    with pytest.raises(mc.DataError, match=r"image 0, .*0.png: window .* is not inside the image of 20 × 30"):
        net.forward()
    net.close()


def test_an_image_that_is_gone_or_no_image_is_an_error_that_names_it(folder):
    net = window_net(folder, {"batch_size": 2, "fg_fraction": 1, "fg_threshold": 0.8}, {"crop_size": 4})
    (folder / "0.png").write_bytes(b"no image")
    with pytest.raises(mc.DataError, match=r"image 0, .*0.png: cannot identify"):
        net.forward()
    (folder / "0.png").unlink()
    with pytest.raises(mc.DataError, match=r"image 0: no such file .*0.png; set root_folder"):
        net.forward()
    net.close()
