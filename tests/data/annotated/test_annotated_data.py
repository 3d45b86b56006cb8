"""AnnotatedData: images and boxes as they are in the data base, and on what the net sees of each image."""

import cv2
import numpy as np
import pytest

import minicaffe as mc
from minicaffe.errors import MinicaffeError
from minicaffe.spec.net import parse_net
from tests.data.annotated import bases


def net_of(folder, transform="", annotated="", batch=2, top="[data, label]", phase="TRAIN", **options):
    text = (
        f"layer: {{name: d, type: AnnotatedData, top: {top}, "
        f"data_param: {{source: {folder}, batch_size: {batch}, backend: LMDB}}, "
        f"transform_param: {{{transform}}}, annotated_data_param: {{{annotated}}}}}"
    )
    return mc.Net(parse_net(text), phase=phase, **options)


@pytest.fixture
def base(tmp_path, rng):
    """Five images with 3, 0, 1, 4 and 2 boxes: the folder, the images, and the groups of boxes."""
    images = bases.random_images(rng, 5)
    groups = [bases.random_boxes(rng, count) for count in (3, 0, 1, 4, 2)]
    bases.write(tmp_path / "base", map(bases.annotated, images, groups))
    return tmp_path / "base", images, groups


def numbered(groups):
    """The rows of the label of a batch."""
    rows = [np.insert(bases.rows_of(one), 0, n, axis=1) for n, one in enumerate(groups)]
    return np.concatenate(rows)


def test_the_label_has_a_row_for_each_box_in_the_order_of_groups(base):
    folder, images, groups = base
    with net_of(folder, "scale: 0.5, mean_value: [1, 2, 3]", batch=4) as net:
        assert net.blobs["data"].shape == (4, 3, 24, 32) and net.blobs["label"].shape == (1, 1, 3, 8)
        for first in (0, 4):  # batches run on from one epoch into the next
            out = net.forward()
            wanted = [(first + i) % 5 for i in range(4)]
            mean = np.array([1, 2, 3]).reshape(3, 1, 1)
            np.testing.assert_array_equal(out["data"], [(images[i] - mean) * 0.5 for i in wanted])
            np.testing.assert_allclose(
                out["label"][0, 0], numbered([groups[i] for i in wanted]), rtol=0, atol=1e-6
            )


def test_a_batch_without_boxes_has_one_row_of_minus_one(tmp_path, rng):
    images = bases.random_images(rng, 2)
    bases.write(tmp_path / "base", [bases.annotated(image, {}) for image in images])
    with net_of(tmp_path / "base") as net:
        label = net.forward()["label"]
    assert label.shape == (1, 1, 1, 8) and (label == -1).all()


def test_without_types_of_annotation_the_label_is_the_datums(tmp_path, rng):
    images = bases.random_images(rng, 3)
    bases.write(
        tmp_path / "base", [bases.annotated(x, {}, label=7 - i, kind=None) for i, x in enumerate(images)]
    )
    with net_of(tmp_path / "base", batch=3) as net:
        assert net.blobs["label"].shape == (3,)
        assert net.forward()["label"].tolist() == [7, 6, 5]
    with net_of(tmp_path / "base", top="data") as net:
        np.testing.assert_array_equal(net.forward()["data"], images[:2])


def test_anno_type_replaces_the_type_that_is_stored(tmp_path, rng):
    (image,), groups = bases.random_images(rng, 1), bases.random_boxes(rng, 2)
    bases.write(tmp_path / "base", [bases.annotated(image, groups, kind=2)])
    with pytest.raises(MinicaffeError, match="annotations of type 2; only boxes"):
        net_of(tmp_path / "base", batch=1)
    for kind in ("BBOX", "BBOXandSeg"):
        with net_of(tmp_path / "base", annotated=f"anno_type: {kind}", batch=1) as net:
            assert net.forward()["label"].shape == (1, 1, 2, 8)
    with pytest.raises(MinicaffeError, match="anno_type: expected one of BBOX, BBOXANDSEG, got 'LANE'"):
        net_of(tmp_path / "base", annotated="anno_type: LANE", batch=1)


def test_encoded_images_are_decoded(tmp_path, rng):
    images = bases.random_images(rng, 2)
    bases.write(tmp_path / "base", [bases.annotated(image, {}, encoded="png") for image in images])
    with net_of(tmp_path / "base") as net:
        np.testing.assert_array_equal(net.forward()["data"], images)


@pytest.mark.parametrize("size", [(30, 20), (24, 32), (7, 50)])
def test_warping_to_a_size_is_opencvs_and_leaves_the_boxes_where_they_are(base, size):
    folder, images, groups = base
    with net_of(folder, f"resize_param: {{height: {size[0]}, width: {size[1]}}}", batch=1) as net:
        assert net.blobs["data"].shape == (1, 3, *size)
        out = net.forward()
    expected = cv2.resize(images[0].transpose(1, 2, 0), size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(out["data"][0], expected.transpose(2, 0, 1))
    np.testing.assert_allclose(out["label"][0, 0], numbered(groups[:1]), atol=1e-6)


def test_padding_keeps_proportions_and_moves_the_boxes(tmp_path, rng):
    image = rng.integers(0, 256, (3, 20, 40)).astype(np.uint8)
    bases.write(tmp_path / "base", [bases.annotated(image, {1: [(0, 0.1, 0.2, 0.5, 0.6, False)]})])
    with net_of(
        tmp_path / "base",
        "resize_param: {resize_mode: FIT_LARGE_SIZE_AND_PAD, height: 30, width: 30, pad_value: [9.5, 300, 7]}",
        batch=1,
    ) as net:
        out = net.forward()
    inner = cv2.resize(image.transpose(1, 2, 0), (30, 15)).transpose(2, 0, 1)
    np.testing.assert_array_equal(out["data"][0, :, 7:22], inner)
    assert (out["data"][0, :, :7] == np.array([10, 255, 7]).reshape(3, 1, 1)).all()
    assert (out["data"][0, :, 22:] == np.array([10, 255, 7]).reshape(3, 1, 1)).all()
    y = [0.25 + 0.2 / 2, 0.25 + 0.6 / 2]  # 7.5 of 30 rows above, although the image has 7
    np.testing.assert_allclose(out["label"][0, 0, 0, 3:7], [0.1, y[0], 0.5, y[1]], atol=1e-6)


def test_a_tall_image_is_padded_at_its_sides_and_its_boxes_with_it(tmp_path, rng):
    image = rng.integers(0, 256, (3, 40, 20)).astype(np.uint8)
    bases.write(tmp_path / "base", [bases.annotated(image, {1: [(0, 0.2, 0.1, 0.6, 0.5, False)]})])
    resize = "resize_param: {resize_mode: FIT_LARGE_SIZE_AND_PAD, height: 30, width: 40}"
    with net_of(tmp_path / "base", resize, batch=1) as net:
        out = net.forward()
    inner = cv2.resize(image.transpose(1, 2, 0), (15, 30)).transpose(2, 0, 1)
    np.testing.assert_array_equal(out["data"][0, :, :, 12:27], inner)
    x = [(12.5 + 0.2 * 15) / 40, (12.5 + 0.6 * 15) / 40]
    np.testing.assert_allclose(out["label"][0, 0, 0, 3:7], [x[0], 0.1, x[1], 0.5], atol=1e-6)


def test_rows_and_columns_around_an_image_move_its_boxes(tmp_path, rng):
    image = rng.integers(0, 256, (3, 20, 40)).astype(np.uint8)
    bases.write(tmp_path / "base", [bases.annotated(image, {1: [(0, 0.1, 0.2, 0.5, 0.6, False)]})])
    with net_of(tmp_path / "base", "pad: 5", batch=1) as net:
        out = net.forward()
    np.testing.assert_array_equal(out["data"][0, :, 5:25, 5:45], image)
    np.testing.assert_allclose(out["label"][0, 0, 0, 3:7], [9 / 50, 9 / 30, 25 / 50, 17 / 30], atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "border"), [("MIRRORED", cv2.BORDER_REFLECT101), ("REPEAT_NEAREST", cv2.BORDER_REPLICATE)]
)
def test_padding_is_what_opencv_puts_around_an_image(tmp_path, rng, mode, border):
    image = rng.integers(0, 256, (3, 33, 20)).astype(np.uint8)
    bases.write(tmp_path / "base", [bases.annotated(image, {})])
    resize = f"resize_mode: FIT_LARGE_SIZE_AND_PAD, height: 40, width: 51, pad_mode: {mode}"
    with net_of(tmp_path / "base", f"resize_param: {{{resize}}}", batch=1) as net:
        data = net.forward()["data"][0]
    inner = cv2.resize(image.transpose(1, 2, 0), (24, 40))
    np.testing.assert_array_equal(data, cv2.copyMakeBorder(inner, 0, 0, 13, 14, border).transpose(2, 0, 1))


def test_the_smaller_side_fits_and_boxes_may_be_in_units_of_pixels(tmp_path, rng):
    image = rng.integers(0, 256, (3, 20, 40)).astype(np.uint8)
    bases.write(tmp_path / "base", [bases.annotated(image, {1: [(0, 0.1, 0.2, 0.5, 0.6, False)]})])
    resize = "resize_mode: FIT_SMALL_SIZE, height: 30, width: 30"
    with net_of(tmp_path / "base", f"resize_param: {{{resize}}}", batch=1) as net:
        out = net.forward()
    assert out["data"].shape == (1, 3, 30, 60)
    np.testing.assert_allclose(out["label"][0, 0, 0, 3:7], [0.1, 0.2, 0.5, 0.6], atol=1e-6)
    with net_of(
        tmp_path / "base", f"resize_param: {{{resize}, height_scale: 15, width_scale: 20}}", batch=1
    ) as net:
        label = net.forward()["label"]
    np.testing.assert_allclose(label[0, 0, 0, 3:7], [0.1 * 3, 0.2 * 2, 0.5 * 3, 0.6 * 2], atol=1e-6)
    with pytest.raises(MinicaffeError, match=r"batch_size: must be 1 with resize_mode FIT_SMALL_SIZE"):
        net_of(tmp_path / "base", f"resize_param: {{{resize}}}")


def test_a_crop_in_the_middle_keeps_boxes_whose_centre_it_has(tmp_path, rng):
    image = rng.integers(0, 256, (3, 20, 40)).astype(np.uint8)
    boxes = [(0, 0.25, 0.4, 0.75, 0.6, True), (1, 0.0, 0.4, 0.4, 0.6, False), (2, 0.0, 0.0, 0.2, 0.2, False)]
    bases.write(tmp_path / "base", [bases.annotated(image, {5: boxes})])
    crop = "crop_h: 10, crop_w: 20"  # x from 0.25 to 0.75, y too
    for constraint, kept in (
        ("", [[0, 5, 0, 0, 0.3, 1, 0.7, 1], [0, 5, 1, 0, 0.3, 0.3, 0.7, 0]]),
        ("emit_constraint: {}", [[0, 5, 0, 0, 0.3, 1, 0.7, 1]]),
        ("emit_constraint: {emit_type: MIN_OVERLAP, emit_overlap: 0.3}", "both"),
        ("emit_constraint: {emit_type: MIN_OVERLAP, emit_overlap: 0.4}", "first"),
    ):
        with net_of(tmp_path / "base", f"{crop}, {constraint}", batch=1, phase="TEST") as net:
            out = net.forward()
        np.testing.assert_array_equal(out["data"][0], image[:, 5:15, 10:30])
        if isinstance(kept, str):
            assert out["label"].shape[2] == {"both": 2, "first": 1}[kept]
        else:
            np.testing.assert_allclose(out["label"][0, 0], kept, atol=1e-6)


def test_what_is_drawn_at_random_moves_images_and_boxes_together(tmp_path, rng):
    """A white rectangle on black is where its box says, however it is mirrored and cropped."""
    image = np.zeros((1, 40, 40), np.uint8)
    image[:, 10:20, 4:24] = 255
    bases.write(tmp_path / "base", [bases.annotated(image, {1: [(0, 0.1, 0.25, 0.6, 0.5, False)]})] * 4)
    seen = set()
    with net_of(tmp_path / "base", "mirror: true, crop_size: 30", batch=4) as net:
        for _ in range(10):
            out = net.forward()
            for n, *_, x_min, y_min, x_max, y_max, _ in out["label"][0, 0]:
                rows, columns = np.nonzero(out["data"][int(n), 0])
                found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_allclose(np.array([x_min, y_min, x_max, y_max]) * 30, found, atol=1e-4)
                seen.add(tuple(found))
    assert len(seen) > 20


def test_the_label_of_yolo_has_centres_and_sizes(base):
    folder, _, groups = base
    with net_of(folder, annotated="yolo_data_type: 1, yolo_data_jitter: 0", batch=4) as net:
        assert net.blobs["label"].shape == (4, 1, 300, 5)
        label = net.forward()["label"]
    for n, one in enumerate(groups[:4]):
        rows = bases.rows_of(one)
        assert not label[n, 0, len(rows) :].any()
        x_min, y_min, x_max, y_max = rows[:, 2:6].T
        expected = np.stack(
            [rows[:, 0] - 1, (x_min + x_max) / 2, (y_min + y_max) / 2, x_max - x_min, y_max - y_min], axis=1
        )
        np.testing.assert_allclose(label[n, 0, : len(rows)], expected, atol=1e-6)
    with net_of(
        folder, annotated="yolo_data_type: 1, yolo_data_jitter: 0, train_diffcult: false", batch=4
    ) as net:
        label = net.forward()["label"]
    easy = [sum(row[6] == 0 for row in bases.rows_of(one)) for one in groups[:4]]
    assert [int((label[n, 0, :, 3] > 0).sum()) for n in range(4)] == easy


def test_of_several_sizes_each_is_drawn_for_ten_batches(tmp_path, rng):
    image = bases.random_images(rng, 1)[0]
    bases.write(tmp_path / "base", [bases.annotated(image, {1: [(0, 0.1, 0.2, 0.5, 0.6, False)]})])
    sizes = "resize_param: [{prob: 0.5, height: 8, width: 8}, {prob: 0.5, height: 16, width: 16}]"
    with net_of(tmp_path / "base", sizes, batch=1) as net:
        found = [net.forward()["data"].shape[2] for _ in range(100)]
    assert set(found) == {8, 16}
    assert all(len(set(found[i : i + 10])) == 1 for i in range(0, 100, 10))
    with pytest.raises(
        MinicaffeError, match="resize_param: the values of prob of all of them must add up to 1"
    ):
        net_of(tmp_path / "base", sizes.replace("0.5", "0.4"), batch=1)


def test_a_batch_is_the_same_however_it_is_reached(base):
    folder, _, _ = base
    transform = "mirror: true, crop_size: 20"
    with net_of(folder, transform, seed=3) as net:
        batches = [{name: value.copy() for name, value in net.forward().items()} for _ in range(4)]
        state = net.layers[0].state()
    assert state["next_batch"] == 4 and state["images"] == 5
    with net_of(folder, transform, seed=3) as net:
        net.layers[0].restore({**state, "next_batch": 2})
        again = net.forward()
        for name in ("data", "label"):
            np.testing.assert_array_equal(again[name], batches[2][name])


@pytest.mark.parametrize(
    ("transform", "annotated", "message"),
    [
        ("resize_param: {height: 30}", "", "width: required, but not given"),
        ("resize_param: {height: 0, width: 3}", "", "height: 0 is out of range; it must be at least 1"),
        ("crop_h: 3", "", "crop_w: crop_h and crop_w must be given together"),
        ("crop_size: 99", "", r"key b'00000000'.*|crop_size: 99 is more than an image has \(24 × 32\)"),
        ("mean_value: [1, 2]", "", "mean_value: 2 values for 3 channels"),
        ("", "yolo_data_type: 2", "yolo_data_type: 2 is out of range"),
    ],
)
def test_what_does_not_fit_is_one_line(base, transform, annotated, message):
    with pytest.raises(MinicaffeError, match=message) as caught:
        net_of(base[0], transform, annotated)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\xff\xff", "not an AnnotatedDatum message"),
        (bases.datum(np.zeros((3, 4, 4), np.uint8)), "has no image in it"),  # a plain Datum
        (b"", "has no image in it"),
        (
            bases.annotated(np.zeros((3, 4, 4), np.uint8), {1: [(0, 0, 0, float("nan"), 1, 0)]}),
            "a box has a corner",
        ),
    ],
)
def test_what_is_no_image_with_boxes_is_named_by_its_key(tmp_path, value, message):
    bases.write(tmp_path / "base", [value])
    with pytest.raises(MinicaffeError, match=rf"layer 'd': .*base: key b'00000000': .*{message}"):
        net_of(tmp_path / "base")


def test_images_of_different_sizes_in_a_batch_name_the_first_that_differs(tmp_path, rng):
    images = bases.random_images(rng, 2) + bases.random_images(rng, 1, size=(9, 9))
    bases.write(tmp_path / "base", [bases.annotated(image, {}) for image in images])
    with (
        net_of(tmp_path / "base", batch=3) as net,
        pytest.raises(MinicaffeError, match="resize_param") as caught,
    ):
        net.forward()
    assert "key b'00000002': 3 × 9 × 9, but others in its batch are 3 × 24 × 32" in str(caught.value)


def test_where_the_data_base_is_missing_the_net_can_be_looked_at_with_an_input(tmp_path):
    spec = tmp_path / "train.prototxt"
    spec.write_text(
        'layer { name: "data" type: "AnnotatedData" top: "data" top: "label"\n'
        "  transform_param { mean_value: 104 mean_value: 117 mean_value: 123\n"
        "    resize_param { resize_mode: WARP height: 30 width: 40 } emit_constraint { emit_type: CENTER } }\n"
        '  data_param { source: "nowhere_lmdb" batch_size: 8 backend: LMDB }\n'
        '  annotated_data_param { label_map_file: "labelmap.prototxt" } }\n'
    )
    with pytest.raises(MinicaffeError, match=r"--input-shape data:1,3,30,40 -o DIR' gives it an input"):
        mc.Net(spec)
    files = mc.convert(spec, out_dir=tmp_path / "out", input_shapes={"data": (1, 3, 30, 40)})
    with mc.Net(files.spec) as net:
        assert net.blobs["data"].shape == (1, 3, 30, 40) and net.blobs["label"].shape == (1, 1, 1, 8)


def test_layers_without_boxes_resize_too_and_refuse_what_is_for_boxes(tmp_path, rng):
    image = rng.integers(0, 256, (3, 20, 31)).astype(np.uint8)
    bases.write(tmp_path / "base", [bases.datum(image, label=4)])
    text = (
        "layer: {name: d, type: Data, top: [data, label], data_param: {source: %s, batch_size: 1}, "
        "transform_param: {%s}}"
    )
    spec = text % (tmp_path / "base", "resize_param: {height: 12, width: 14}, crop_h: 10, crop_w: 8")
    with mc.Net(parse_net(spec), phase="TEST") as net:
        out = net.forward()
    expected = cv2.resize(image.transpose(1, 2, 0), (14, 12))[1:11, 3:11].transpose(2, 0, 1)
    np.testing.assert_array_equal(out["data"][0], expected)
    for wrong in ("emit_constraint: {}", "resize_param: [{height: 2, width: 2}, {height: 3, width: 3}]"):
        with pytest.raises(MinicaffeError, match="only AnnotatedData layers"):
            mc.Net(parse_net(text % (tmp_path / "base", wrong)))


def test_a_net_is_exported_for_ssds_caffe_as_it_is_and_reads_the_same_again(base, tmp_path):
    folder, _, _ = base
    size = "{prob: 0.5, height: 8, width: 9}"
    transform = f"resize_param: [{size}, {size}], emit_constraint: {{}}"
    sampler = (
        "batch_sampler: [{max_sample: 1, max_trials: 1}, {sample_constraint: {min_jaccard_overlap: 0.5}}]"
    )
    with net_of(folder, transform, f"anno_type: BBOXandSeg, {sampler}") as net:
        label = net.forward()["label"].copy()
        mc.export(net, tmp_path / "net.prototxt", tmp_path / "net.caffemodel")
    text = (tmp_path / "net.prototxt").read_text()
    assert "backend: LMDB" in text and "anno_type: BBOXandSeg" in text and text.count("batch_sampler {") == 2
    for file in ("net.prototxt", "net.caffemodel"):  # which has the spec in binary
        with mc.Net(tmp_path / file, phase="TRAIN") as again:
            np.testing.assert_array_equal(again.forward()["label"], label)
            assert len(again.layers[0].spec.transform_param.resize_param) == 2


def test_a_layer_without_boxes_says_which_layer_reads_them(base):
    with pytest.raises(
        MinicaffeError, match="no Datum with an image; an LMDB with boxes is read by a layer of type Ann"
    ):
        mc.Net(parse_net(f"layer: {{name: d, type: Data, data_param: {{source: {base[0]}, batch_size: 1}}}}"))
