"""The third top of AnnotatedData: a plane for each class, from the mask beside an image."""

import cv2
import numpy as np
import pytest

import minicaffe as mc
from minicaffe.data.decode import encode_image
from minicaffe.errors import MinicaffeError
from tests.data.annotated import bases
from tests.data.annotated.test_annotated_data import net_of

TOPS = "[data, label, mask]"
LABEL_MAP = "".join(
    f'item {{ name: "{name}" label: {label} label_id: {label_id} }}\n'
    for label, (name, label_id) in enumerate([("none", 0), ("road", 2), ("lane", 1), ("path", 2)])
)


def with_mask(image, mask, groups=None):
    """An AnnotatedDatum with a mask (H, W) as a PNG."""
    datum = bases.datum(image, encoded="png") + bases.field(8, encode_image(mask[None], "png"))
    rest = bases.annotated(image, groups or {}, encoded="png")
    start = len(bases.field(1, bases.datum(image, encoded="png")))
    return bases.field(1, datum) + rest[start:]


@pytest.fixture
def base(tmp_path, rng):
    images = bases.random_images(rng, 2, size=(32, 48))
    masks = rng.integers(0, 4, (2, 4, 6)).repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    bases.write(tmp_path / "base", map(with_mask, images, masks))
    (tmp_path / "map.prototxt").write_text(LABEL_MAP)
    return tmp_path / "base", masks


def test_a_plane_for_each_class_of_the_label_map(base):
    folder, masks = base
    annotated = f"single_class: false, label_map_file: {folder.parent / 'map.prototxt'}, seg_scales: 4"
    with net_of(folder, annotated=annotated, top=TOPS) as net:
        assert net.blobs["mask"].shape == (2, 2, 8, 12)
        out = net.forward()["mask"]
    for mask, planes in zip(masks, out, strict=True):
        for plane, members in zip(planes, ([2], [1, 3]), strict=True):
            expected = cv2.resize(np.isin(mask, members).astype(np.uint8) * 255, (12, 8))
            np.testing.assert_allclose(plane, expected / 255, atol=1e-6)


def test_a_single_class_is_of_light_pixels_and_mirrored_with_its_image(tmp_path, rng):
    image = np.zeros((3, 32, 32), np.uint8)
    image[:, 8:16, 0:8] = 255
    bases.write(tmp_path / "base", [with_mask(image, 100 + image[0] // 255)])  # above 100 is light
    transform = "mirror: true, resize_param: {height: 32, width: 32}"
    sides = set()
    with net_of(tmp_path / "base", transform, "seg_resize_width: 32, seg_resize_height: 32", 8, TOPS) as net:
        out = net.forward()
        np.testing.assert_array_equal(out["mask"][:, 0] * 255, out["data"][:, 0])
        sides = {bool(plane[0, 8, 0]) for plane in out["mask"]}
    assert sides == {True, False}


def test_the_part_that_is_trained_on_is_cut_out_of_both(tmp_path, rng):
    image = np.zeros((3, 64, 64), np.uint8)
    image[:, 16:48, 16:48] = 255
    bases.write(tmp_path / "base", [with_mask(image, image[0])])
    transform = "resize_param: {height: 64, width: 64}"
    with net_of(tmp_path / "base", transform, "yolo_data_jitter: 0.5, seg_scales: 1", 8, TOPS) as net:
        out = net.forward()
    assert len({tuple(np.argwhere(plane[0])[0]) for plane in out["mask"]}) > 3
    agreed = (out["mask"][:, 0] > 0.5) == (out["data"][:, 0] > 100)
    assert agreed.mean() > 0.99


@pytest.mark.parametrize(
    ("transform", "annotated", "message"),
    [
        ("crop_size: 8", "", "masks are not expanded, cropped or padded"),
        (
            "resize_param: {height: 9, width: 9, resize_mode: FIT_LARGE_SIZE_AND_PAD}",
            "",
            "masks are resized as WARP",
        ),
        ("", "single_class: false, label_map_file: nowhere", "nowhere: no such label map"),
        ("", "yolo_data_type: 1, difficult_label_warmup: true", "the data do not know how far training is"),
    ],
)
def test_what_masks_cannot_do_is_one_line(base, transform, annotated, message):
    with pytest.raises(MinicaffeError, match=message):
        net_of(base[0], transform, annotated, top=TOPS)


def test_an_image_without_a_mask_is_named(tmp_path, rng):
    bases.write(tmp_path / "base", [bases.annotated(bases.random_images(rng, 1)[0], {})])
    with (
        net_of(tmp_path / "base", top=TOPS) as net,
        pytest.raises(MinicaffeError, match="00000000': no mask beside"),
    ):
        net.forward()


def test_without_the_data_base_masks_of_one_class_have_the_size_that_they_would_have(tmp_path):
    spec = tmp_path / "train.prototxt"
    layer = 'layer { name: "data" type: "AnnotatedData" top: "data" top: "label" top: "mask" '
    data = 'data_param { source: "x" batch_size: 1 }'
    spec.write_text(layer + data + " annotated_data_param { yolo_data_type: 1 seg_scales: 4 } }\n")
    files = mc.convert(spec, out_dir=tmp_path / "out", input_shapes={"data": (2, 3, 32, 48)})
    with mc.Net(files.spec) as net:
        assert net.blobs["mask"].shape == (2, 1, 8, 12) and net.blobs["label"].shape == (2, 1, 300, 5)
    map_file = 'single_class: false label_map_file: "map.prototxt"'
    spec.write_text(spec.read_text().replace("seg_scales: 4", map_file))
    with pytest.raises(MinicaffeError, match="layer 'data': give an input shape for 'mask' too"):
        mc.convert(spec, out_dir=tmp_path / "out", input_shapes={"data": (2, 3, 32, 48)})
    (tmp_path / "map.prototxt").write_text(LABEL_MAP)
    files = mc.convert(spec, out_dir=tmp_path / "out", input_shapes={"data": (2, 3, 32, 48)})
    with mc.Net(files.spec) as net:
        assert net.blobs["mask"].shape == (2, 2, 4, 6)
