"""DenseImageData and ImageLabelmapData: an image and a label for each of its pixels, read and transformed alike."""

import numpy as np
import pytest
from PIL import Image

import minicaffe as mc
from minicaffe.data.decode import decode_image
from minicaffe.data.resize import resize, resize_nearest
from tests.golden_files import FOLDER

pytestmark = pytest.mark.cpu_only("of files: no device computes here")

DENSE = """
layer:
- name: data
  type: DenseImageData
  top: [data, label]
  transform_param: {TRANSFORM}
  dense_image_data_param: {source: pairs.txt, PARAM}
"""
EDGES = DENSE.replace("DenseImageData", "ImageLabelmapData").replace(
    "dense_image_data_param", "image_data_param"
)


@pytest.fixture
def pairs(tmp_path, rng):
    """Writes pairs of images: the label of a pixel is its red, a third of it, so that what is together shows."""

    def write(*sizes, between=" "):
        lines = []
        for i, (height, width) in enumerate(sizes):
            pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"image{i}.png")
            Image.fromarray(pixels[:, :, 0] // 3).save(tmp_path / f"labels{i}.png")
            lines.append(f"image{i}.png{between}labels{i}.png\n")
        (tmp_path / "pairs.txt").write_text("".join(lines))
        return tmp_path

    return write


def net_on(folder, text, param="", transform="", **options):
    text = text.replace("PARAM", param).replace("TRANSFORM", transform)
    (folder / "net.yaml").write_text(text)
    return mc.Net(folder / "net.yaml", **{"phase": "train", "seed": 1, **options})


def batches(net, count):
    found = [{name: np.array(array) for name, array in net.forward().items()} for _ in range(count)]
    net.close()
    return found


def belong_together(batch):
    """Whether each label is a third of its pixel's red."""
    return np.array_equal(batch["label"][:, 0], batch["data"][:, 2] // 3)


@pytest.mark.parametrize("between", [" ", "\t", "   "])
def test_each_batch_has_images_and_their_labels(pairs, between):
    folder = pairs(*[(6, 5)] * 5, between=between)
    found = batches(net_on(folder, DENSE, "batch_size: 2"), 3)
    names = [[0, 1], [2, 3], [4, 0]]
    for batch, numbers in zip(found, names, strict=True):
        assert batch["data"].shape == (2, 3, 6, 5) and batch["label"].shape == (2, 1, 6, 5)
        for i, number in enumerate(numbers):
            np.testing.assert_array_equal(batch["data"][i], decode_image(folder / f"image{number}.png"))
            np.testing.assert_array_equal(
                batch["label"][i], decode_image(folder / f"labels{number}.png", False)
            )


@pytest.mark.parametrize("param", ["mirror: true", "crop_height: 4, crop_width: 3", "shuffle: true",
                                   "mirror: true, crop_height: 4, crop_width: 3, shuffle: true"])  # fmt: skip
@pytest.mark.parametrize("transform", ["", "mirror: true", "crop_size: 2", "mirror: true, crop_size: 3"])
@pytest.mark.parametrize("phase", ["train", "test"])
def test_labels_are_mirrored_and_cropped_with_their_images(pairs, param, transform, phase):
    folder = pairs(*[(6, 5)] * 4)
    found = batches(net_on(folder, DENSE, f"batch_size: 4, {param}", transform, phase=phase), 6)
    assert all(belong_together(batch) for batch in found)
    if "mirror" in param + transform or "crop_h" in param or ("crop" in transform and phase == "train"):
        assert not np.array_equal(found[0]["label"], found[1]["label"])
    again = batches(net_on(folder, DENSE, f"batch_size: 4, {param}", transform, phase=phase), 6)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])


def test_a_mirror_turns_the_columns_and_a_crop_keeps_a_window(pairs):
    folder = pairs((6, 5))
    whole = decode_image(folder / "image0.png").astype(np.float32)
    seen = {batch["data"][0].tobytes() for batch in batches(net_on(folder, DENSE, "mirror: true"), 12)}
    assert seen == {whole.tobytes(), np.ascontiguousarray(whole[..., ::-1]).tobytes()}
    windows = {whole[:, y : y + 5, x : x + 4].tobytes() for y in range(2) for x in range(2)}
    cropped = batches(net_on(folder, DENSE, "crop_height: 5, crop_width: 4"), 40)
    assert {batch["data"][0].tobytes() for batch in cropped} == windows


def test_mean_and_scale_are_for_images_alone(pairs):
    folder = pairs((3, 4))
    transform = "mean_value: [1, 2, 3], scale: 0.5"
    (batch,) = batches(net_on(folder, DENSE, "", transform), 1)
    expected = (decode_image(folder / "image0.png") - np.array([1, 2, 3]).reshape(3, 1, 1)) / 2
    np.testing.assert_array_equal(batch["data"][0], expected)
    np.testing.assert_array_equal(batch["label"][0], decode_image(folder / "labels0.png", False))


def test_images_are_resized_bilinearly_and_labels_by_the_nearest_pixel(pairs):
    folder = pairs((6, 5), (4, 9))
    (batch,) = batches(net_on(folder, DENSE, "batch_size: 2, new_height: 8, new_width: 7"), 1)
    for i in range(2):
        image, labels = decode_image(folder / f"image{i}.png"), decode_image(folder / f"labels{i}.png", False)
        resized = resize(image.transpose(1, 2, 0), 8, 7).transpose(2, 0, 1)
        np.testing.assert_array_equal(batch["data"][i], resized)
        np.testing.assert_array_equal(batch["label"][i, 0], resize_nearest(labels[0], 8, 7))


def test_the_nearest_pixels_are_opencvs():
    """Recorded by tests/golden/make_nearest_golden.py."""
    with np.load(FOLDER / "nearest.npz") as golden:
        lengths, taken = golden["lengths"], golden["taken"]
    found = [resize_nearest(np.arange(old)[None], 1, new)[0] for old, new in lengths]
    np.testing.assert_array_equal(np.concatenate(found), taken)
    tall = np.arange(21).reshape(7, 3)
    np.testing.assert_array_equal(resize_nearest(tall, 3, 3), tall[[0, 2, 4]])


def test_labels_of_an_encoder_are_a_part_of_the_images_size(pairs):
    folder = pairs((9, 14))
    param = "new_height: 8, new_width: 12, label_divide_factor: 4, mirror: true"
    found = batches(net_on(folder, DENSE, param), 8)
    labels = resize_nearest(decode_image(folder / "labels0.png", False)[0], 2, 3)
    images = decode_image(folder / "image0.png", True, (8, 12)).astype(np.float32)
    for batch in found:
        assert batch["data"].shape == (1, 3, 8, 12) and batch["label"].shape == (1, 1, 2, 3)
        turned = -1 if np.array_equal(batch["data"][0], images[..., ::-1]) else 1
        np.testing.assert_array_equal(batch["data"][0], images[..., ::turned])
        np.testing.assert_array_equal(batch["label"][0, 0], labels[:, ::turned])


@pytest.mark.parametrize("text", [DENSE, EDGES])
def test_pairs_of_several_sizes_come_one_by_one(pairs, text):
    folder = pairs((6, 5), (3, 8))
    found = batches(net_on(folder, text), 3)
    assert [batch["label"].shape for batch in found] == [(1, 1, 6, 5), (1, 1, 3, 8), (1, 1, 6, 5)]
    assert [batch["data"].shape[2:] for batch in found] == [(6, 5), (3, 8), (6, 5)]


def test_a_run_goes_on_from_a_snapshot_where_it_was(pairs):
    folder = pairs(*[(6, 5)] * 7)
    param = "batch_size: 2, shuffle: true, mirror: true, crop_height: 3, crop_width: 3, rand_skip: 4"
    whole = batches(net_on(folder, DENSE, param), 9)
    resumed = net_on(folder, DENSE, param)
    resumed.layers[0].restore({"next_batch": 5})
    for one, other in zip(batches(resumed, 4), whole[5:], strict=True):
        np.testing.assert_array_equal(one["data"], other["data"])
        np.testing.assert_array_equal(one["label"], other["label"])


@pytest.mark.parametrize("phase", ["train", "test"])
def test_edges_are_1_from_128_on_and_cropped_with_their_images(pairs, phase):
    folder = pairs((6, 5))
    grey = np.arange(114, 144, dtype=np.uint8).reshape(6, 5)
    Image.fromarray(grey).save(folder / "labels0.png")
    Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2)).save(folder / "image0.png")
    (whole,) = batches(net_on(folder, EDGES, "", "mean_value: 100"), 1)
    np.testing.assert_array_equal(whole["label"][0, 0], grey >= 128)
    np.testing.assert_array_equal(whole["data"][0, 1], grey - 100.0)
    found = batches(net_on(folder, EDGES, "", "crop_size: 3", phase=phase), 9)
    assert len({batch["data"].tobytes() for batch in found}) > 1
    found += batches(net_on(folder, EDGES, "", "crop_size: 3, mirror: true", phase=phase), 9)
    for batch in found:
        np.testing.assert_array_equal(batch["label"][0, 0], batch["data"][0, 0] >= 128)


def test_edges_are_resized_before_they_are_1_or_0(pairs):
    folder = pairs((6, 5))
    labels = np.where(np.arange(30).reshape(6, 5) % 4 == 0, 255, 0).astype(np.uint8)
    Image.fromarray(labels).save(folder / "labels0.png")
    (batch,) = batches(net_on(folder, EDGES, "new_height: 4, new_width: 9"), 1)
    np.testing.assert_array_equal(batch["label"][0, 0], resize(labels, 4, 9) >= 128)


@pytest.mark.parametrize("root", ["data", "data/"])
def test_root_folder_goes_before_paths_even_if_they_begin_with_a_slash(pairs, root):
    folder = pairs((3, 4))
    (folder / "data").mkdir()
    for name in ("image0.png", "labels0.png"):
        (folder / name).rename(folder / "data" / name)
    (folder / "pairs.txt").write_text("/image0.png /labels0.png\n")
    (batch,) = batches(net_on(folder, DENSE, f"root_folder: {root}"), 1)
    assert belong_together(batch)


WRONG = [
    ("", "image0.png\n", r"pairs.txt:1: 'image0.png' has 1 word; write 'image label_image'"),
    ("", "\nimage0.png labels0.png 3\n", r"pairs.txt:2: .* has 3 words"),
    ("", "\n", "pairs.txt: lists no images"),
    ("", "image.png labels0.png\n", r"pairs.txt:1: no image image.png in .*; set root_folder"),
    ("", "image0.png labels.png\n", r"labels.png: no such image .named at .*pairs.txt:1"),
    ("", "image0.png labels1.png\n", "labels1.png .named at .*: 3 × 4, but its image has 6 × 5, which asks"),
    ("label_divide_factor: 2", "image0.png labels0.png\n", "labels0.png .*: 6 × 5, but .* asks for 3 × 2"),
    ("label_divide_factor: 2, crop_height: 2, crop_width: 2", "", "crop_height: label_divide_factor leaves labels"),
    ("new_height: 4", "", "new_width: new_height and new_width must be given together"),
    ("crop_width: 4", "", "crop_height: crop_height and crop_width must be given together"),
    ("crop_width: 6, crop_height: 2", "image0.png labels0.png\n", "a crop of 2 × 6 is more than an image has .6 ×"),
    ("batch_size: 0", "", "batch_size: 0 is out of range"),
]  # fmt: skip


@pytest.mark.parametrize(("param", "lines", "problem"), WRONG)
def test_what_is_wrong_is_one_line(pairs, param, lines, problem):
    folder = pairs((6, 5), (3, 4))
    if lines:
        (folder / "pairs.txt").write_text(lines)
    with pytest.raises(mc.MinicaffeError, match=f"layer 'data': .*{problem}") as told:
        net_on(folder, DENSE, param)
    assert "\n" not in str(told.value)


def test_a_pad_is_refused_since_no_label_is_known_there(pairs):
    with pytest.raises(mc.SpecError, match=r"layer 'data': transform_param.pad: no label is known"):
        net_on(pairs((3, 4)), DENSE, "", "pad: 1")


def test_images_of_several_sizes_in_a_batch_are_told(pairs):
    net = net_on(pairs((6, 5), (3, 8)), DENSE, "batch_size: 2")
    with pytest.raises(
        mc.DataError, match=r"image1.png .*give new_height and new_width in dense_image_data_param"
    ):
        net.forward()
    net.close()


def test_without_its_list_the_remedy_has_the_size_that_the_spec_says(tmp_path):
    param = "new_height: 36, new_width: 48, crop_height: 30, crop_width: 40"
    with pytest.raises(
        mc.DataError, match=r"no such list of image pairs.* --input-shape data:1,3,30,40 -o DIR"
    ):
        net_on(tmp_path, DENSE, param)


@pytest.mark.parametrize(("divisor", "label"), [(1, (2, 1, 8, 12)), (4, (2, 1, 2, 3))])
def test_an_input_in_the_place_of_pairs_has_a_label_for_each_pixel(tmp_path, divisor, label):
    param = f'dense_image_data_param {{ source: "pairs.txt" batch_size: 3 label_divide_factor: {divisor} }}'
    text = f'layer {{ name: "data" type: "DenseImageData" top: "data" top: "label" {param} }}\n'
    (tmp_path / "net.prototxt").write_text(text)
    mc.convert(tmp_path / "net.prototxt", out_dir=tmp_path, input_shapes={"data": (2, 3, 8, 12)})
    net = mc.Net(tmp_path / "net.yaml", phase="train")
    assert net.blobs["label"].shape == label


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("ImageLabelmapData", {"label": (2, 1, 8, 12)}),
        ("ImageSegData", {"label": (2, 1, 8, 12), "dim": (2, 1, 1, 2)}),
    ],
)
def test_an_input_in_the_place_of_maps_has_the_shapes_that_the_layer_would_have(tmp_path, kind, shapes):
    tops = " ".join(f'top: "{name}"' for name in ("data", *shapes))
    param = 'image_data_param { source: "pairs.txt" batch_size: 3 }'
    path = tmp_path / "net.prototxt"
    path.write_text(f'layer {{ name: "data" type: "{kind}" {tops} {param} }}\n')
    mc.convert(path, out_dir=tmp_path, input_shapes={"data": (2, 3, 8, 12)})
    net = mc.Net(tmp_path / "net.yaml", phase="train")
    assert {name: net.blobs[name].shape for name in shapes} == shapes


def test_a_shape_of_images_that_is_none_leaves_the_shape_of_labels_to_be_given(tmp_path):
    param = 'dense_image_data_param { source: "pairs.txt" }'
    text = f'layer {{ name: "data" type: "DenseImageData" top: "data" top: "label" {param} }}\n'
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(mc.SpecError, match="give an input shape for 'label' too"):
        mc.convert(tmp_path / "net.prototxt", out_dir=tmp_path, input_shapes={"data": (2, 3)})
