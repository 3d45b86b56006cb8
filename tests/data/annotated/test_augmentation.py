"""What is done to images at random: distortion as OpenCV computes it, expansion, and parts that show an object."""

import cv2
import numpy as np
import pytest

from minicaffe.data.annotated.augmenting import cut_out
from minicaffe.data.augmentation import distortion, sampling
from minicaffe.data.augmentation.boxes import EmitConstraint, mirrored, seen_from
from minicaffe.data.augmentation.color import from_hsv, to_hsv
from minicaffe.data.augmentation.distortion import DistortionParam
from minicaffe.data.augmentation.expansion import ExpansionParam, expand
from minicaffe.data.augmentation.sampling import (
    BatchSampler,
    SampleConstraint,
    Sampler,
    draw_jitter,
    draw_sample,
)
from minicaffe.errors import MinicaffeError
from tests.data.annotated import bases
from tests.data.annotated.test_annotated_data import net_of


def planar(pixels):
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def colours(rng, rows=9000):
    """An image of two columns: of a wider one OpenCV computes several at a time, and rounds them otherwise."""
    return rng.integers(0, 256, (rows, 2, 3)).astype(np.uint8)


def opencv(pixels, conversion):
    """``cvtColor``, a row at a time."""
    return np.concatenate([cv2.cvtColor(row[None], conversion) for row in pixels])


def test_hue_saturation_and_value_are_opencvs(rng):
    pixels = np.concatenate([colours(rng), np.full((1, 2, 3), 255, np.uint8), np.zeros((1, 2, 3), np.uint8)])
    np.testing.assert_array_equal(to_hsv(planar(pixels)), planar(cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)))
    back = np.abs(from_hsv(planar(pixels)).astype(int) - planar(opencv(pixels, cv2.COLOR_HSV2BGR)))
    assert back.max() <= 1 and back.sum() < 5  # a product that lies between two levels


def adjusted(pixels, channel, change):
    """One of hue, saturation and value changed, in OpenCV."""
    hsv = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
    hsv[..., channel] = change(hsv[..., channel].astype(np.float32)).round().clip(0, 255)
    return opencv(hsv, cv2.COLOR_HSV2BGR)


@pytest.mark.parametrize("amount", [-31.7, -0.4, 12.5, 300])
def test_brightness_and_hue_are_moved(amount, rng):
    pixels = colours(rng, 2000)
    bright = np.rint(pixels.astype(np.float32) + np.float32(amount)).clip(0, 255)
    np.testing.assert_array_equal(distortion.brightened(planar(pixels), amount), planar(bright))
    turned = distortion.with_hue(planar(pixels), amount)
    off = np.abs(turned.astype(int) - planar(adjusted(pixels, 0, lambda hue: hue + np.float32(amount))))
    assert off.max() <= 1 and off.sum() < 5
    assert distortion.with_hue(planar(pixels), 0) is not None


@pytest.mark.parametrize("factor", [0, 0.5, 1.3, 40])
def test_contrast_and_saturation_are_multiplied(factor, rng):
    pixels = colours(rng, 2000)
    expected = cv2.convertScaleAbs(pixels, alpha=factor)
    np.testing.assert_array_equal(distortion.contrasted(planar(pixels), factor), planar(expected))
    vivid = distortion.saturated(planar(pixels), factor)
    off = np.abs(vivid.astype(int) - planar(adjusted(pixels, 1, lambda share: share * np.float32(factor))))
    assert off.max() <= 1 and off.sum() < 5
    assert distortion.contrasted(planar(pixels), 1.0005) is not None


def test_each_change_happens_as_often_as_its_probability(monkeypatch):
    param = DistortionParam(
        brightness_prob=0.2,
        contrast_prob=0.4,
        saturation_prob=0.6,
        hue_prob=0.8,
        contrast_upper=2.0,
        saturation_upper=2.0,
    )
    told = []
    for name in ("brightened", "contrasted", "saturated", "with_hue"):
        monkeypatch.setattr(distortion, name, lambda image, amount, name=name: told.append(name) or image)
    image, rng, orders = np.zeros((3, 1, 1), np.uint8), np.random.default_rng(0), []
    for _ in range(1000):
        before = len(told)
        distortion.distort(param, image, rng)
        orders.append(told[before:])
    counts = [
        sum(name in order for order in orders)
        for name in ("brightened", "contrasted", "saturated", "with_hue")
    ]
    np.testing.assert_allclose(counts, [200, 400, 600, 800], atol=50)
    both = [order for order in orders if {"contrasted", "with_hue"} <= set(order)]
    last = sum(order[-1] == "contrasted" for order in both)
    assert abs(last - len(both) / 2) < 50  # contrast is last half of the time


def test_what_is_drawn_for_a_change_is_anywhere_in_its_range(monkeypatch):
    param = DistortionParam(
        **{f"{name}_prob": 1.0 for name in ("brightness", "contrast", "saturation", "hue")},
        brightness_delta=32.0,
        contrast_lower=0.5,
        contrast_upper=1.5,
        hue_delta=18.0,
        saturation_lower=0.25,
        saturation_upper=2.0,
    )
    drawn = {"brightened": [], "contrasted": [], "saturated": [], "with_hue": []}
    for name, amounts in drawn.items():
        change = lambda image, amount, amounts=amounts: amounts.append(amount) or image  # noqa: E731
        monkeypatch.setattr(distortion, name, change)
    rng = np.random.default_rng(0)
    for _ in range(500):
        distortion.distort(param, np.zeros((3, 1, 1), np.uint8), rng)
    for amounts, (low, high) in zip(
        drawn.values(), ((-32, 32), (0.5, 1.5), (0.25, 2), (-18, 18)), strict=True
    ):
        assert low <= min(amounts) and max(amounts) <= high
        assert (np.histogram(amounts, 5, (low, high))[0] > 60).all()


def test_channels_change_places_and_grey_images_are_refused():
    param = DistortionParam(random_order_prob=1.0)
    image = np.arange(3, dtype=np.uint8).reshape(3, 1, 1)
    rng = np.random.default_rng(0)
    orders = {tuple(distortion.distort(param, image, rng).ravel()) for _ in range(100)}
    assert len(orders) == 6
    with pytest.raises(MinicaffeError, match="which a grey image lacks; give force_color"):
        distortion.distort(param, image[:1], rng)
    assert distortion.distort(DistortionParam(brightness_prob=1.0), image[:1], rng).shape == (1, 1, 1)


def test_an_expanded_image_lies_somewhere_on_the_mean_colour(rng):
    image = rng.integers(0, 256, (3, 8, 12)).astype(np.uint8)
    places = set()
    for _ in range(50):
        canvas, view = expand(ExpansionParam(max_expand_ratio=3.0), image, [10.5, 20.7, 30.2], rng)
        height, width = canvas.shape[1:]
        x, y = -np.rint(view[:2] * [12, 8]).astype(int)
        assert 8 <= height < 24 and 12 <= width < 36 and abs(width / height - 1.5) < 0.2
        np.testing.assert_array_equal(canvas[:, y : y + 8, x : x + 12], image)
        np.testing.assert_allclose(view[2:] * [12, 8], [width - x, height - y], atol=1e-4)
        canvas[:, y : y + 8, x : x + 12] = np.array([10, 21, 30]).reshape(3, 1, 1)
        assert (canvas == np.array([10, 21, 30]).reshape(3, 1, 1)).all()
        places.add((x, y, width))
        box = np.array([[1, 0, 0, 0, 1, 1, 0]], np.float32)  # all of the image
        corners = seen_from(view, box, None)[0, 2:6] * [width, height, width, height]
        np.testing.assert_allclose(corners, [x, y, x + 12, y + 8], atol=1e-4)
    assert len(places) > 30
    kept = sum(
        expand(ExpansionParam(prob=0.3, max_expand_ratio=2.0), image, [], rng) is None for _ in range(500)
    )
    assert abs(kept - 350) < 50


def share(box, other, of):
    """Intersection over one of: the union, the box, the other."""
    sides = [max(0.0, min(box[2 + i], other[2 + i]) - max(box[i], other[i])) for i in (0, 1)]
    common = sides[0] * sides[1]
    area, others = ((one[2] - one[0]) * (one[3] - one[1]) for one in (box, other))
    return (
        common
        / {"jaccard_overlap": area + others - common, "sample_coverage": area, "object_coverage": others}[of]
    )


@pytest.mark.parametrize("kind", ["jaccard_overlap", "sample_coverage", "object_coverage"])
def test_a_constraint_is_met_if_one_object_meets_it(kind, rng):
    samples, objects = (
        np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4).astype(np.float32) for n in (200, 3)
    )
    param = SampleConstraint(**{f"min_{kind}": 0.1, f"max_{kind}": 0.4})
    expected = [any(0.1 <= share(box, other, kind) <= 0.4 for other in objects) for box in samples]
    assert param.met_by(samples, objects).tolist() == expected and 0 < sum(expected) < 200
    first = SampleConstraint(min_jaccard_overlap=0.2, min_object_coverage=2.0)  # the second cannot be met
    alone = SampleConstraint(min_jaccard_overlap=0.2)
    np.testing.assert_array_equal(first.met_by(samples, objects), alone.met_by(samples, objects))
    assert (
        not param.met_by(samples, objects[:0]).any() and SampleConstraint().met_by(samples, objects[:0]).all()
    )


def test_an_overlap_of_just_the_limit_meets_a_constraint():
    samples, objects = np.float32([[0, 0, 0.5, 1]]), np.float32([[0, 0, 1, 1]])
    for kind, value in (("jaccard_overlap", 0.5), ("sample_coverage", 1.0), ("object_coverage", 0.5)):
        for end, beyond in (("min", 1.01), ("max", 0.99)):
            assert SampleConstraint(**{f"{end}_{kind}": value}).met_by(samples, objects).all()
            assert not SampleConstraint(**{f"{end}_{kind}": value * beyond}).met_by(samples, objects).any()


def test_samples_have_the_scale_and_proportions_that_are_asked_for(rng):
    sampler = Sampler(min_scale=0.3, max_scale=0.9, min_aspect_ratio=0.5, max_aspect_ratio=2.0)
    boxes = sampler.boxes(2000, rng)
    assert (boxes >= 0).all() and (boxes <= 1 + 1e-6).all()
    width, height = (boxes[:, 2:] - boxes[:, :2]).T.astype(float)
    scale, aspect = np.sqrt(width * height), width / height
    np.testing.assert_allclose([scale.min(), scale.max(), scale.mean()], [0.3, 0.9, 0.6], atol=0.02)
    assert (aspect >= np.maximum(0.5, scale**2) - 1e-4).all() and (
        aspect <= np.minimum(2, scale**-2) + 1e-4
    ).all()
    np.testing.assert_array_equal(Sampler().boxes(3, rng), [[0, 0, 1, 1]] * 3)


def test_samplers_try_until_they_have_enough(rng, monkeypatch):
    objects = np.array([[0.2, 0.2, 0.6, 0.6]], np.float32)
    small = Sampler(min_scale=0.3, max_scale=0.5)
    assert len(BatchSampler(sampler=small).samples(objects, rng)) == 100
    assert len(BatchSampler(sampler=small, max_sample=3).samples(objects, rng)) == 3
    assert len(BatchSampler(max_sample=0).samples(objects, rng)) == 0
    assert len(BatchSampler(use_original_image=False).samples(objects, rng)) == 0
    picky = SampleConstraint(min_jaccard_overlap=0.5)
    found = BatchSampler(sampler=small, sample_constraint=picky, max_sample=1, max_trials=500).samples(
        objects, rng
    )
    assert len(found) == 1 and share(found[0], objects[0], "jaccard_overlap") >= 0.5
    never = BatchSampler(sample_constraint=SampleConstraint(min_jaccard_overlap=2.0))
    assert draw_sample([never], objects, rng) is None
    chosen = [
        draw_sample(
            [never, BatchSampler(max_trials=1), BatchSampler(sampler=small, max_trials=1)], objects, rng
        )
    ]
    assert chosen[0].shape == (4,)
    monkeypatch.setattr(sampling, "AT_ONCE", 7)
    assert len(BatchSampler(max_trials=20).samples(objects, rng)) == 20


@pytest.mark.parametrize("keeps_aspect", [True, False])
def test_jitter_cuts_off_up_to_its_part_of_each_side(keeps_aspect, rng):
    views = np.array([draw_jitter(0.4, keeps_aspect, rng) for _ in range(1000)])
    width, height = (views[:, 2:] - views[:, :2]).T
    assert (views >= 0).all() and (views <= 1).all() and width.min() >= 0.6 - 1e-6 and width.min() < 0.65
    assert abs((width == 1).sum() - 200) < 50
    assert abs((width < 0.8).sum() - 300) < 50  # half of those that are moved by all, none of those by half
    assert abs((width < 0.9).sum() - 550) < 50
    assert np.allclose(width, height, atol=1e-6) == keeps_aspect


def test_a_view_is_cut_out_in_whole_pixels():
    image = np.arange(80, dtype=np.uint8).reshape(1, 8, 10)
    np.testing.assert_array_equal(
        cut_out(image, np.array([0.25, 0.2, 0.75, 0.8], np.float32)), image[:, 1:5, 2:7]
    )
    assert cut_out(image, np.array([0.99, 0.99, 1, 1], np.float32)).shape == (1, 1, 1)


def test_boxes_are_cut_off_at_a_views_border_and_left_out_beyond_it():
    rows = np.array(
        [[1, 0, *box, 1] for box in ([0, 0, 0.5, 0.5], [0.3, 0.3, 0.4, 0.4], [0.5, 0.5, 1, 1])], np.float32
    )
    view = np.array([0.25, 0.25, 0.5, 0.5], np.float32)
    got = seen_from(view, rows, None)
    np.testing.assert_allclose(got, [[1, 0, 0, 0, 1, 1, 1], [1, 0, 0.2, 0.2, 0.6, 0.6, 1]], atol=1e-6)
    assert len(seen_from(view, rows, EmitConstraint())) == 2  # a centre on the border counts
    assert len(seen_from(view, rows, EmitConstraint(emit_type="MIN_OVERLAP", emit_overlap=0.5))) == 1
    for overlap, kept in ((0.25, 1), (0.249, 2)):  # a quarter of the first box is there: that is not more
        constraint = EmitConstraint(emit_type="MIN_OVERLAP", emit_overlap=overlap)
        assert len(seen_from(view, rows, constraint)) == kept
    flat = np.array([[1, 0, *box, 0] for box in ([0.3, 0.3, 0.3, 0.4], [0.4, 0.3, 0.3, 0.4])], np.float32)
    assert len(seen_from(view, flat, None)) == 0
    np.testing.assert_allclose(mirrored(rows)[0, 2:6], [0.5, 0, 1, 0.5])


AUGMENTED = """mirror: true, mean_value: [104, 117, 123],
  resize_param: {height: 24, width: 24, interp_mode: [LINEAR, AREA, NEAREST, CUBIC, LANCZOS4]},
  emit_constraint: {emit_type: CENTER}, expand_param: {prob: 0.5, max_expand_ratio: 4.0},
  distort_param: {brightness_prob: 0.5, brightness_delta: 32, contrast_prob: 0.5, contrast_lower: 0.5,
    contrast_upper: 1.5, hue_prob: 0.5, hue_delta: 18, saturation_prob: 0.5, saturation_lower: 0.5,
    saturation_upper: 1.5, random_order_prob: 0}"""
SAMPLED = """batch_sampler: [{max_sample: 1, max_trials: 1}, {sampler: {min_scale: 0.3, max_scale: 1,
  min_aspect_ratio: 0.5, max_aspect_ratio: 2}, sample_constraint: {min_jaccard_overlap: 0.5}, max_sample: 1,
  max_trials: 50}, {sampler: {min_scale: 0.3, max_scale: 1}, sample_constraint: {max_jaccard_overlap: 1.0}}]"""


def test_boxes_stay_where_their_objects_are(tmp_path):
    """A rectangle of one colour is where its box says, through expansion, sampling, resizing and mirroring."""
    image = np.full((3, 120, 180), 100, np.uint8)
    image[:, 30:90, 60:120] = 255
    boxes = {1: [(0, 60 / 180, 30 / 120, 120 / 180, 90 / 120, False)]}
    bases.write(tmp_path / "base", [bases.annotated(image, boxes)])
    transform = (
        "mirror: true, resize_param: {height: 90, width: 90}, expand_param: {prob: 0.5, max_expand_ratio: 3}, "
        "emit_constraint: {emit_type: CENTER}"
    )
    seen, sizes = 0, set()
    with net_of(tmp_path / "base", transform, SAMPLED, batch=8) as net:
        for _ in range(10):
            out = net.forward()
            for n, *_, x_min, y_min, x_max, y_max, _ in out["label"][0, 0]:
                rows, columns = np.nonzero(out["data"][int(n), 0] > 200)
                found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                np.testing.assert_allclose(np.array([x_min, y_min, x_max, y_max]) * 90, found, atol=4)
                sizes.add(tuple(found[2:] - found[:2]))
                seen += 1
    assert seen > 50 and len(sizes) > 25


def test_augmented_batches_are_the_same_again_and_differ_from_epoch_to_epoch(tmp_path, rng):
    groups = [bases.random_boxes(rng, 3) for _ in range(4)]
    images = bases.random_images(rng, 4, size=(30, 40))
    bases.write(
        tmp_path / "base",
        [bases.annotated(*both, encoded="jpg") for both in zip(images, groups, strict=True)],
    )
    runs = []
    for _ in range(2):
        with net_of(tmp_path / "base", AUGMENTED, SAMPLED, batch=4, seed=5) as net:
            runs.append([{name: value.copy() for name, value in net.forward().items()} for _ in range(3)])
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one["data"], other["data"])
        np.testing.assert_array_equal(one["label"], other["label"])
    assert not np.array_equal(runs[0][0]["data"], runs[0][1]["data"])  # the same images, changed anew
    with net_of(tmp_path / "base", AUGMENTED, SAMPLED, batch=4, seed=6) as net:
        assert not np.array_equal(net.forward()["data"], runs[0][0]["data"])


def test_a_label_of_yolo_means_jitter_unless_there_are_samplers(tmp_path, rng):
    image = bases.random_images(rng, 1, size=(50, 50))[0]
    bases.write(tmp_path / "base", [bases.annotated(image, bases.random_boxes(rng, 2))])
    resize = "resize_param: {height: 50, width: 50, interp_mode: NEAREST}"
    for annotated, differs in (
        ("", False),
        ("batch_sampler: {}", False),
        ("yolo_data_type: 1, batch_sampler: {}", False),
        ("yolo_data_type: 1", True),
        ("yolo_data_jitter: 0.2", True),
        ("yolo_data_type: 1, yolo_data_jitter: 0", False),
    ):
        with net_of(tmp_path / "base", resize, annotated, batch=10) as net:
            assert (net.forward()["data"] != image).any() == differs, annotated


@pytest.mark.parametrize(
    ("transform", "annotated", "message"),
    [
        ("expand_param: {max_expand_ratio: 1}", "", "max_expand_ratio: must be more than 1"),
        (
            "expand_param: {max_expand_ratio: 2}, mean_file: x",
            "",
            "expand_param: needs the colour around an image",
        ),
        ("distort_param: {contrast_lower: 2}", "", "contrast_upper: is less than contrast_lower"),
        ("distort_param: {hue_prob: 2}", "", "hue_prob: 2 is out of range"),
        ("", "batch_sampler: {sampler: {max_scale: 2}}", "max_scale: 2 is out of range"),
        (
            "",
            "batch_sampler: {sampler: {min_aspect_ratio: 2}}",
            "max_aspect_ratio: is less than min_aspect_ratio",
        ),
    ],
)
def test_settings_that_make_no_sense_are_one_line(tmp_path, rng, transform, annotated, message):
    bases.write(tmp_path / "base", [bases.annotated(bases.random_images(rng, 1)[0], {})])
    with pytest.raises(MinicaffeError, match=message):
        net_of(tmp_path / "base", transform, annotated)
