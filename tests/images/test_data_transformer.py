"""The transformer against Caffe's loops, written out plainly."""

import numpy as np
import pytest

from minicaffe.data.transformer import DataTransformer, TransformParam
from minicaffe.errors import DataError, SpecError

pytestmark = pytest.mark.cpu_only("arrays of NumPy, whatever the device is")


def reference(image, param, mean, top, left, flip):
    """One image (C, H, W) by Caffe's data_transformer.cpp, pixel by pixel; zeros around it first."""
    pad, crop = param.pad, param.crop_size
    image = np.pad(image.astype(np.float32), ((0, 0), (pad, pad), (pad, pad)))
    mean = None if mean is None else np.pad(mean, ((0, 0), (pad, pad), (pad, pad)))
    channels, height, width = image.shape[0], crop or image.shape[1], crop or image.shape[2]
    out = np.empty((channels, height, width), np.float32)
    for c in range(channels):
        for h in range(height):
            for w in range(width):
                value = image[c, top + h, left + w]
                if mean is not None:
                    value = value - mean[c, top + h, left + w]
                elif param.mean_value:
                    value = value - np.float32(param.mean_value[c % len(param.mean_value)])
                out[c, h, width - 1 - w if flip else w] = value * np.float32(param.scale)
    return out


def run(transformer, images, seed=0):
    out = np.full((*transformer.output_shape(images[0].shape), len(images)), np.nan, np.float32)
    transformer(images, out, np.random.default_rng(seed))
    return np.moveaxis(out, -1, 0)


def is_one_of(result, image, param, mean):
    """Whether the result is the reference for some crop and mirroring; which one."""
    room_h = image.shape[1] + 2 * param.pad - result.shape[1]
    room_w = image.shape[2] + 2 * param.pad - result.shape[2]
    return [
        (top, left, flip)
        for top in range(room_h + 1)
        for left in range(room_w + 1)
        for flip in ((False, True) if param.mirror else (False,))
        if np.array_equal(reference(image, param, mean, top, left, flip), result)
    ]


SETTINGS = [
    {},
    {"scale": 0.00390625},
    {"mean_value": [100.0]},
    {"mean_value": [10.0, 20.5, 30.25], "scale": 0.1},
    {"crop_size": 5},
    {"crop_size": 7, "pad": 2, "mean_value": [33.3]},
    {"crop_size": 4, "mirror": True, "scale": 1 / 255},
    {"mirror": True},
    {"pad": 1, "scale": 2.0},
]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("with_mean", [False, True])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_image_is_one_of_caffes(tmp_path, setting, phase, with_mean, dtype, rng):
    images = rng.integers(0, 256, (6, 3, 7, 8)).astype(dtype)
    mean = None
    if with_mean:
        mean = rng.random((3, 7, 8)).astype(np.float32) * 255
        np.save(tmp_path / "mean.npy", mean)
        setting = {k: v for k, v in setting.items() if k != "mean_value"} | {"mean_file": "mean.npy"}
    param = TransformParam(**setting)
    for result, image in zip(run(DataTransformer(param, phase, tmp_path), images), images, strict=True):
        found = is_one_of(result, image, param, mean)
        assert found
        if phase == "TEST" and param.crop_size:
            centre = (7 + 2 * param.pad - param.crop_size) // 2, (8 + 2 * param.pad - param.crop_size) // 2
            assert any(place[:2] == centre for place in found)


def test_crops_and_mirrors_take_every_value_at_train(rng):
    image = rng.integers(0, 256, (1, 1, 6, 6), dtype=np.uint8)
    param = TransformParam(crop_size=5, mirror=True)
    results = run(DataTransformer(param, "TRAIN"), np.repeat(image, 200, axis=0))
    places = [is_one_of(result, image[0], param, None)[0] for result in results]
    assert len(set(places)) == 8
    assert min(places.count(place) for place in set(places)) > 10


def test_mirrors_at_test_too_as_caffe_does(rng):
    image = rng.integers(0, 256, (1, 1, 6, 6), dtype=np.uint8)
    results = run(DataTransformer(TransformParam(mirror=True), "TEST"), np.repeat(image, 50, axis=0))
    assert 10 < sum(np.array_equal(result, image[0]) for result in results) < 40


def test_pad_and_crop_shift_a_digit_by_two_pixels():
    image = np.zeros((1, 1, 28, 28), np.uint8)
    image[0, 0, 14, 14] = 255
    transformer = DataTransformer(TransformParam(pad=2, crop_size=28), "TRAIN")
    where = {tuple(np.argwhere(r[0])[0] - 14) for r in run(transformer, np.repeat(image, 500, axis=0))}
    assert where == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_images_of_differing_sizes_are_cropped_to_one(rng):
    images = [rng.integers(0, 256, (3, 6 + i, 9 - i), dtype=np.uint8) for i in range(4)]
    param = TransformParam(crop_size=5, mean_value=[1.0, 2.0, 3.0], mirror=True)
    for result, image in zip(run(DataTransformer(param, "TRAIN"), images), images, strict=True):
        assert is_one_of(result, image, param, None)


def test_equal_seeds_give_equal_batches(rng):
    images = rng.integers(0, 256, (8, 3, 9, 9), dtype=np.uint8)
    transformer = DataTransformer(TransformParam(crop_size=5, mirror=True), "TRAIN")
    np.testing.assert_array_equal(run(transformer, images, 3), run(transformer, images, 3))
    assert not np.array_equal(run(transformer, images, 3), run(transformer, images, 4))


def test_the_source_images_are_left_as_they_are(rng):
    images = rng.integers(0, 256, (4, 1, 6, 6)).astype(np.float32)
    before = images.copy()
    run(DataTransformer(TransformParam(mean_value=[5.0], scale=0.5, mirror=True), "TRAIN"), images)
    np.testing.assert_array_equal(images, before)


def test_what_does_not_fit_names_its_field(tmp_path):
    with pytest.raises(SpecError, match=r"crop_size: 9 is more than an image has \(7 × 8\)"):
        DataTransformer(TransformParam(crop_size=9), "TRAIN").output_shape((3, 7, 8))
    with pytest.raises(SpecError, match="mean_value: 2 values for 3 channels"):
        DataTransformer(TransformParam(mean_value=[1.0, 2.0]), "TRAIN").output_shape((3, 7, 8))
    np.save(tmp_path / "mean.npy", np.zeros((3, 5, 5)))
    with pytest.raises(SpecError, match=r"mean_file: its shape \(3, 5, 5\) is not the images', \(3, 7, 8\)"):
        DataTransformer(TransformParam(mean_file="mean.npy"), "TRAIN", tmp_path).output_shape((3, 7, 8))
    images = [np.zeros((3, 7, 8), np.uint8), np.zeros((3, 7, 9), np.uint8)]
    with pytest.raises(DataError, match="3 × 7 × 9, but 3 × 7 × 8 is expected"):
        run(DataTransformer(TransformParam(), "TRAIN"), images)
    with pytest.raises(DataError, match=r"gone\.npy: no such mean file"):
        DataTransformer(TransformParam(mean_file="gone.npy"), "TRAIN", tmp_path)
