"""ImageSegData: images and labels scaled, padded, cropped and mirrored alike, as PSPNet trains."""

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.data.decode import decode_image
from minicaffe.data.resize import resize, resize_nearest
from tests.images.test_image_pairs import batches, net_on

pytestmark = pytest.mark.cpu_only("of files: no device computes here")
SEG = """
layer:
- name: data
  type: ImageSegData
  top: [data, label, dim]
  transform_param: {TRANSFORM}
  image_data_param: {source: list.txt, PARAM}
"""


@pytest.fixture
def folder(tmp_path, rng):
    """Two images whose red names the pixel, as the label does: so what belongs together shows."""
    lines = {"PIXEL": [], "IMAGE": [], "NONE": []}
    for i, (height, width) in enumerate([(6, 5), (4, 9)]):
        numbers = (10 + np.arange(height * width, dtype=np.uint8)).reshape(height, width)
        pixels = np.stack([numbers, *rng.integers(0, 255, (2, height, width), dtype=np.uint8)], axis=-1)
        Image.fromarray(pixels).save(tmp_path / f"i{i}.png")
        Image.fromarray(numbers).save(tmp_path / f"l{i}.png")
        lines["PIXEL"].append(f"/i{i}.png /l{i}.png\n")
        lines["IMAGE"].append(f"i{i}.png {7 * i}\n")
        lines["NONE"].append(f"i{i}.png something else\n")
    for name, own in lines.items():
        (tmp_path / f"{name}.txt").write_text("".join(own))
    return tmp_path


def read(folder, label_type, count, param="", transform="", **options):
    (folder / "list.txt").write_text((folder / f"{label_type}.txt").read_text())
    return batches(
        net_on(folder, SEG, f"label_type: {label_type}, root_folder: ./, {param}", transform, **options),
        count,
    )


def test_images_come_as_they_are_with_their_labels_and_sizes(folder):
    found = read(folder, "PIXEL", 3)
    for i, batch in zip((0, 1, 0), found, strict=True):
        np.testing.assert_array_equal(batch["data"][0], decode_image(folder / f"i{i}.png"))
        np.testing.assert_array_equal(batch["label"][0], decode_image(folder / f"l{i}.png", False))
        assert batch["dim"].tolist() == [[[list(batch["label"].shape[2:])]]]


@pytest.mark.parametrize("phase", ["train", "test"])
def test_small_images_are_padded_with_the_mean_and_labels_with_what_is_ignored(folder, phase):
    transform = "crop_height: 8, crop_width: 7, mean_value: [1, 2, 3], scale: 2"
    (batch,) = read(folder, "PIXEL", 1, "batch_size: 2, ignore_label: 200", transform, phase=phase)
    assert batch["data"].shape == (2, 3, 8, 7) and batch["label"].shape == (2, 1, 8, 7)
    assert batch["dim"].tolist() == [[[[6, 5]]], [[[4, 7]]]]
    first, mean = decode_image(folder / "i0.png"), np.array([1, 2, 3]).reshape(3, 1, 1)
    np.testing.assert_array_equal(batch["data"][0, :, :6, :5], (first - mean) * 2)
    assert (batch["data"][0, :, 6:] == 0).all() and (batch["data"][0, :, :, 5:] == 0).all()
    assert (batch["label"][0, 0, 6:] == 200).all() and (batch["label"][0, 0, :, 5:] == 200).all()
    kept = batch["label"][1, 0] != 200
    assert kept.sum() == 4 * 7
    np.testing.assert_array_equal(batch["label"][1, 0][kept], batch["data"][1, 2][kept] / 2 + 3)
    if phase == "test":
        np.testing.assert_array_equal(
            batch["label"][1, 0, :4], decode_image(folder / "l1.png", False)[0, :, 1:8]
        )


def test_both_are_mirrored_and_cropped_alike_and_otherwise_in_each_batch(folder):
    found = read(folder, "PIXEL", 20, "batch_size: 2, shuffle: true", "crop_size: 3, mirror: true")
    for batch in found:
        np.testing.assert_array_equal(batch["label"][:, 0], batch["data"][:, 2])
    firsts = [batch["label"][0, 0] for batch in found]
    assert {np.sign(labels[0, 1] - labels[0, 0]) for labels in firsts} == {1, -1}
    assert len({labels.tobytes() for labels in firsts}) > 8


def test_scale_factors_enlarge_images_bilinearly_and_labels_by_nearest_pixels(folder):
    transform = "scale_factors: [0.5, 1, 1.75], crop_size: 18"
    found = read(folder, "PIXEL", 30, "", transform)
    image, labels = decode_image(folder / "i0.png"), decode_image(folder / "l0.png", False)[0]
    seen = set()
    for batch in found[::2]:  # of the first image
        kept = batch["label"][0, 0] != 255
        height, width = kept.any(axis=1).sum(), kept.any(axis=0).sum()
        seen.add((int(height), int(width)))
        expected = resize(image.transpose(1, 2, 0), height, width).transpose(2, 0, 1)
        np.testing.assert_array_equal(batch["data"][0, :, :height, :width], expected)
        np.testing.assert_array_equal(
            batch["label"][0, 0, :height, :width], resize_nearest(labels, height, width)
        )
        assert batch["dim"].tolist() == [[[[6, 5]]]]
    assert seen == {(3, 2), (6, 5), (10, 8)}  # 10.5 × 8.75, less what is no whole pixel


@pytest.mark.parametrize(("label_type", "labels"), [("IMAGE", [0, 7]), ("NONE", [9, 9])])
def test_a_label_may_be_one_for_all_pixels_or_none(folder, label_type, labels):
    found = read(folder, label_type, 2, "ignore_label: 9")
    for batch, label in zip(found, labels, strict=True):
        assert batch["label"].shape[2:] == batch["data"].shape[2:]
        assert (batch["label"] == label).all()


def test_new_height_resizes_both_bilinearly_as_in_the_original(folder):
    (batch,) = read(folder, "PIXEL", 1, "new_height: 9, new_width: 4")
    np.testing.assert_array_equal(
        batch["label"][0, 0], resize(decode_image(folder / "l0.png", False)[0], 9, 4)
    )
    assert batch["dim"].tolist() == [[[[9, 4]]]]


@pytest.mark.parametrize(
    ("param", "transform", "problem"),
    [
        ("", "scale_factors: [0.5, 2]", "scale_factors: images would have several sizes; give crop_size"),
        ("", "scale_factors: 0.1, crop_size: 3", "scale_factors: 0.1 leaves nothing"),
        ("", "mean_file: mean.npz", "mean_file: ImageSegData does not take one"),
        ("", "crop_width: 3", "crop_height: crop_height and crop_width must be given together"),
        (
            "",
            "crop_size: 3, crop_width: 3, crop_height: 3",
            "crop_size: crop_height and crop_width are given too",
        ),
        ("", "mean_value: [1, 2]", "mean_value: 2 values for 3 channels"),
        ("batch_size: 2", "", "give new_height and new_width in image_data_param"),
        ("ignore_label: 256", "", "ignore_label: 256 is out of range"),
    ],
)
def test_what_is_wrong_is_one_line(folder, param, transform, problem):
    with pytest.raises(mc.MinicaffeError, match=problem) as told:
        read(folder, "PIXEL", 1, param, transform)
    assert "\n" not in str(told.value)


def test_a_label_that_is_no_byte_is_told_with_its_line(folder):
    (folder / "IMAGE.txt").write_text("i0.png 1\ni1.png 300\n")
    with pytest.raises(
        mc.DataError, match=r"layer 'data': .*list.txt:2: label '300'; expected a number from 0"
    ):
        read(folder, "IMAGE", 1)
