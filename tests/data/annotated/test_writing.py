"""``minicaffe data annotated``: what annotation files say of images reaches the label of AnnotatedData."""

import json

import lmdb
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

import minicaffe as mc
from minicaffe.cli.program import main
from minicaffe.data.annotated.label_map import read_label_map
from minicaffe.data.annotated.source import AnnotatedSource
from minicaffe.errors import SpecError
from minicaffe.pycaffe.proto import caffe_pb2
from tests.data.annotated.test_annotated_data import net_of

pytestmark = pytest.mark.cpu_only("of files and arrays on the host")

LABEL_MAP = """
item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "cat" label: 3 display_name: "a cat" }
item { name: "dog" label: 7 }
"""
OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"
SIDES = ("xmin", "ymin", "xmax", "ymax")


def xml(objects, size=(20, 40), more=""):
    """Pascal VOC's annotation; ``objects``: (name, difficult, corners); ``size``: height and width, or None."""
    sides = "" if size is None else f"<size><height>{size[0]}</height><width>{size[1]}</width></size>"
    boxes = [
        (name, hard, "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(SIDES, corners, strict=True)))
        for name, hard, corners in objects
    ]
    return f"<annotation>{more}{sides}{''.join(OBJECT.format(*box) for box in boxes)}</annotation>"


@pytest.fixture
def pictures(tmp_path, rng, monkeypatch):
    """Three images of 20 × 40 in ``images``, as PNG; the working directory is beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "labelmap.prototxt").write_text(LABEL_MAP)
    pixels = rng.integers(0, 256, (3, 20, 40, 3)).astype(np.uint8)
    for n, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"images/{n}.png")
    return pixels[..., ::-1].transpose(0, 3, 1, 2)  # blue, green, red


def write(capsys, flags):
    """``minicaffe data annotated`` with these flags: its status, what it prints, and its error."""
    status = main(["data", "annotated", *flags.replace("MAP", "--label-map labelmap.prototxt").split()])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def labels_of(folder, batch=3):
    with net_of(folder, batch=batch) as net:
        out = net.forward()
        return out["data"].copy(), out["label"][0, 0].copy()


CAT, DOGS = ("cat", 0, (4, 2, 20, 10)), [("dog", 1, (0, 0, 40, 20)), ("dog", 0, (8, 5, 12, 15))]
EXPECTED = [
    [0, 7, 0, 0, 0, 1, 1, 1],
    [0, 7, 1, 0.2, 0.25, 0.3, 0.75, 0],
    [0, 3, 0, 0.1, 0.1, 0.5, 0.5, 0],
    [2, 3, 0, 0.1, 0.1, 0.5, 0.5, 0],
]  # objects of a label are one group, which begins where its first object is


def write_list(folder, annotations):
    (folder / "notes").mkdir()
    lines = []
    for n, text in annotations.items():
        (folder / f"notes/{n}.xml").write_text(text)
    lines = [f"images/{n}.png notes/{n}.xml\n" for n in range(3)]
    (folder / "list.txt").write_text("".join(lines))


def test_a_list_of_images_and_xml_becomes_the_label_of_the_layer(pictures, tmp_path, capsys):
    write_list(tmp_path, {0: xml([DOGS[0], CAT, DOGS[1]]), 2: xml([CAT], size=None)})
    status, out, _ = write(capsys, "list.txt MAP -o base")
    assert status == 0 and "Wrote 3 images to base" in out
    assert "no annotation, and so no boxes: images/1.png" in out
    data, label = labels_of("base")
    np.testing.assert_array_equal(data, pictures)
    np.testing.assert_allclose(label, EXPECTED, atol=1e-6)
    source = AnnotatedSource(tmp_path / "base")
    assert [source._file.read(n)[0] for n in range(3)] == [b"%08d_images/%d.png" % (n, n) for n in range(3)]
    source.close()


def test_boxes_are_divided_by_the_size_that_the_annotation_tells(pictures, tmp_path, capsys):
    write_list(tmp_path, {0: xml([CAT], size=(40, 100)), 1: xml([CAT]), 2: xml([CAT], size=None)})
    assert write(capsys, "list.txt MAP -o base")[0] == 0
    own = [0.1, 0.1, 0.5, 0.5]
    expected = [[4 / 100, 2 / 40, 20 / 100, 10 / 40], own, own]
    np.testing.assert_allclose(labels_of("base")[1][:, 3:7], expected, atol=1e-6)


def test_folders_of_voc_and_xml_beside_images_are_the_same(pictures, tmp_path, capsys):
    for images, notes, flags in (
        ("voc/JPEGImages", "voc/Annotations", "voc"),
        ("both", "both", "both"),
        ("one", "other", "one --annotations other"),
    ):
        (tmp_path / images).mkdir(parents=True)
        (tmp_path / notes).mkdir(parents=True, exist_ok=True)
        for n in range(3):
            (tmp_path / images / f"{n}.png").write_bytes((tmp_path / f"images/{n}.png").read_bytes())
        for n, text in ((0, xml([DOGS[0], CAT, DOGS[1]])), (2, xml([CAT]))):
            (tmp_path / notes / f"{n}.xml").write_text(text)
        base = f"{images.replace('/', '_')}_base"
        assert write(capsys, f"{flags} MAP -o {base}")[0] == 0
        np.testing.assert_allclose(labels_of(base)[1], EXPECTED, atol=1e-6)


def coco(tmp_path, **changed):
    content = {
        "images": [{"id": 10 + n, "file_name": f"{n}.png", "height": 20, "width": 40} for n in range(3)],
        "annotations": [
            {
                "image_id": 10,
                "category_id": 12,
                "bbox": [0, 0, 40, 20],
                "iscrowd": 1,
                "segmentation": [[1] * 9],
            },
            {"image_id": 10, "category_id": 9, "bbox": [4, 2, 16, 8]},
            {"image_id": 10, "category_id": 12, "bbox": [8, 5, 4, 10], "iscrowd": 0},
            {"image_id": 12, "category_id": 9, "bbox": [4, 2, 16.0, 8]},
        ],
        "categories": [{"id": 12, "name": "dog"}, {"id": 9, "name": "cat"}, {"id": 100, "name": "cow"}],
        **changed,
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))


def test_a_parent_category_without_objects_may_have_the_name_of_its_child(pictures, tmp_path, capsys):
    names = {0: "cat", 12: "dog", 9: "cat"}
    coco(tmp_path, categories=[{"id": key, "name": name} for key, name in names.items()])
    status, _, _ = write(capsys, "coco.json --root images --new-label-map made.prototxt -o base")
    made = (tmp_path / "made.prototxt").read_text()
    assert status == 0 and made.count('display_name: "cat"') == 1 and 'name: "0"' not in made


def test_coco_is_read_with_a_map_of_words_or_one_that_is_made(pictures, tmp_path, capsys):
    coco(tmp_path)
    assert write(capsys, "coco.json --root images MAP -o base")[0] == 0
    np.testing.assert_allclose(labels_of("base")[1], EXPECTED, atol=1e-6)
    _, out, _ = write(capsys, "coco.json --root images --new-label-map new.prototxt -o new_base")
    assert "  0  background\n  1  cat  (named 9 in annotations)\n  2  dog" in out
    made = read_label_map("new.prototxt")
    assert made.labels() == {"none_of_the_above": 0, "9": 1, "12": 2, "100": 3}
    assert made.names() == {0: "background", 1: "cat", 2: "dog", 3: "cow"}
    assert [row[1] for row in labels_of("new_base")[1]] == [2, 2, 1, 1]


def test_annotations_of_single_images_may_be_json_or_text(pictures, tmp_path, capsys):
    (tmp_path / "0.json").write_text(
        json.dumps(
            {
                "image": {"height": 20, "width": 40},
                "annotation": [{"category_id": "cat", "bbox": [4, 2, 16, 8]}],
            }
        )
    )
    (tmp_path / "1.txt").write_text("dog 8 5 12 15\n\n")
    (tmp_path / "list.txt").write_text("images/0.png 0.json\nimages/1.png 1.txt\n")
    assert write(capsys, "list.txt MAP -o base")[0] == 0
    expected = [[0, 3, 0, 0.1, 0.1, 0.5, 0.5, 0], [1, 7, 0, 0.2, 0.25, 0.3, 0.75, 0]]
    np.testing.assert_allclose(labels_of("base", batch=2)[1], expected, atol=1e-6)


SSD_MAP = """
item { name: "none_of_the_above" label: 0 }
item { name: "0" label: 1 }
item { name: "1" label: 2 }
item { name: "2" label: 3 }
"""


def test_a_number_in_a_text_is_the_label_and_not_a_name(pictures, tmp_path, capsys):
    (tmp_path / "digits.prototxt").write_text(SSD_MAP)
    (tmp_path / "0.txt").write_text("2 8 5 12 15\n2 0 0 4 4\n")
    (tmp_path / "list.txt").write_text("images/0.png 0.txt\n")
    assert write(capsys, "list.txt --label-map digits.prototxt -o base")[0] == 0
    assert labels_of("base", batch=1)[1][:, 1].tolist() == [2, 2], "SSD's Caffe reads an int, the label"
    for label, problem in (
        ("4", "0.txt:1: label 4 is not in the label map, whose last is 3"),
        ("-1", "0.txt:1: label -1; it must be a whole number from 0 on"),
    ):
        (tmp_path / "0.txt").write_text(f"{label} 8 5 12 15\n")
        assert problem in write(capsys, "list.txt --label-map digits.prototxt -o other")[2]


def test_a_map_made_of_labels_keeps_them(pictures, tmp_path, capsys):
    (tmp_path / "0.txt").write_text("15 8 5 12 15\n2 0 0 4 4\n")
    (tmp_path / "list.txt").write_text("images/0.png 0.txt\n")
    assert write(capsys, "list.txt --new-label-map new.prototxt -o base")[0] == 0
    assert labels_of("base", batch=1)[1][:, 1].tolist() == [15, 2]
    assert read_label_map("new.prototxt").labels() == {"none_of_the_above": 0, "2": 2, "15": 15}
    (tmp_path / "0.txt").write_text("15 8 5 12 15\ncat 0 0 4 4\n")
    error = write(capsys, "list.txt --new-label-map other.prototxt -o other")[2]
    assert "0.txt:1: a label, but objects elsewhere have names" in error and "give --label-map" in error


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        (
            "0.xml",
            xml([CAT, ("none_of_the_above", 0, (1, 1, 2, 2))]),
            "0.xml:1: <object> none_of_the_above: ",
        ),
        ("0.txt", "3 1 1 2 2\n0 1 1 2 2\n", "0.txt:2: label 0 is"),
        ("0.txt", "none_of_the_above 1 1 2 2\n", "0.txt:1: 'none_of_the_above' is"),
    ],
)
@pytest.mark.parametrize("flags", ["MAP", "--new-label-map new.prototxt"])
def test_objects_of_the_background_are_refused(flags, name, content, where, pictures, tmp_path, capsys):
    (tmp_path / name).write_text(content)
    (tmp_path / "list.txt").write_text(f"images/0.png {name}\n")
    status, _, error = write(capsys, f"list.txt {flags} -o base")
    assert (
        status == 2 and where in error and "the background (label 0), of which there are no objects" in error
    )
    assert not (tmp_path / "base").exists() and not (tmp_path / "new.prototxt").exists()


def test_a_name_for_people_is_told_from_a_name_in_annotations(pictures, tmp_path, capsys):
    write_list(tmp_path, {0: xml([("a cat", 0, (4, 2, 20, 10))])})
    error = write(capsys, "list.txt MAP -o base")[2]
    assert "'a cat' is not a name in the label map; it is the display_name of 'cat'" in error


def test_images_are_resized_made_grey_shuffled_and_encoded(pictures, tmp_path, capsys):
    write_list(
        tmp_path, {n: xml([(name, 0, (4, 2, 20, 10))]) for n, name in enumerate(["cat", "dog", "cat"])}
    )
    flags = "--resize-height 10 --resize-width 16 --gray --encoded --encode-type png --shuffle --seed 4"
    assert write(capsys, f"list.txt MAP -o base {flags}")[0] == 0
    data, label = labels_of("base")
    assert data.shape == (3, 1, 10, 16)
    order = np.arange(3)
    np.random.default_rng(4).shuffle(order)
    assert label[:, 1].tolist() == [[3, 7, 3][n] for n in order]
    np.testing.assert_allclose(label[:, 3:7], [[0.1, 0.1, 0.5, 0.5]] * 3, atol=1e-6)


def test_boxes_without_an_area_are_left_out_and_odd_ones_are_counted(pictures, tmp_path, capsys):
    boxes = [("cat", 0, (4, 2, 4, 10)), ("cat", 0, (-4, 2, 44, 10)), ("cat", 0, (4.5, 2, 20, 10))]
    write_list(tmp_path, {0: xml(boxes), 2: xml([("dog", 0, (41, 2, 50, 10))]), 1: xml([CAT], size=(40, 20))})
    lines = "boxes without an area, which are left out: 1", "cut off: 1", "nothing will be left: 1"
    _, out, _ = write(capsys, "list.txt MAP -o base")
    for line in (*lines, "images whose size is not"):
        assert line in out
    label = labels_of("base")[1]
    np.testing.assert_allclose(label[0], [0, 3, 0, 0, 0.1, 1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(label[1], [0, 3, 1, 4.5 / 40, 0.1, 0.5, 0.5, 0], atol=1e-6)


def test_an_image_that_cannot_be_read_is_named_and_left_out(pictures, tmp_path, capsys):
    write_list(tmp_path, {0: xml([CAT]), 1: xml([CAT])})
    (tmp_path / "images/1.png").write_bytes(b"no image")
    _, out, _ = write(capsys, "list.txt MAP -o base")
    assert "Wrote 2 images to base; 1 could not be read" in out
    assert "images/1.png: cannot be read (cannot identify it" in out


BAD_XML = {
    "<annotation><object><name>cat</name></object></annotation>": "notes/0.xml:1: <object> cat: has no <bndbox>",
    "<annotation>\n<object></object></annotation>": "notes/0.xml:2: <object>: has no <name>",
    xml([("cat", 0, ("a", 1, 2, 3))]): "<object> cat: <bndbox>: <xmin>: expected a number of pixels, got 'a'",
    xml([("cat", 0, ("nan", 1, 2, 3))]): "<xmin>: expected a number of pixels, got 'nan'",
    xml([CAT], size=("a", 3)): "<size>: <height>: expected a number of pixels, got 'a'",
    xml([("cats", 0, (1, 1, 2, 2))]): "<object> cats: 'cats' is not in the label map; did you mean 'cat'?",
    "<annotation><object>": "notes/0.xml:1: not XML (no element found); write it again",
    "": "not XML",
    "<boxes/>": "<boxes>; an annotation begins with <annotation>",
    '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>': "a document type (DOCTYPE), which an annotation does not need",
    "<annotation>" + "<a>" * 60: "elements, or 50 in each other",
}


@pytest.mark.parametrize("text", BAD_XML)
def test_a_bad_annotation_is_one_line_that_names_file_and_element(text, pictures, tmp_path, capsys):
    write_list(tmp_path, {0: text, 1: xml([CAT])})
    status, _, error = write(capsys, "list.txt MAP -o base")
    assert status == 2 and error.count("\n") == 1
    assert BAD_XML[text] in error
    assert not (tmp_path / "base").exists()


BAD_COCO = {
    "images[1]: has no 'file_name'": {"images": [{"id": 10, "file_name": "0.png"}, {"id": 11}]},
    "images[0]: no image 7.png in": {"images": [{"id": 10, "file_name": "7.png"}], "annotations": []},
    "images: expected a list of objects": {"images": 3},
    "annotations[0]: image_id 9: no image has this id": {"annotations": [{"image_id": 9}]},
    "annotations[0]: has no 'bbox'": {"annotations": [{"image_id": 10}]},
    "bbox: expected [x, y, width, height], got [1]": {"annotations": [{"image_id": 10, "bbox": [1]}]},
    "annotations[0]: bbox: width: expected a number of pixels, got 'w'": {
        "annotations": [{"image_id": 10, "bbox": [1, 2, "w", 3]}]
    },
    "annotations[0]: category_id 12: no category has this id": {"categories": [{"id": 9, "name": "cat"}]},
    "annotations[1]: category_id 9: no category has this id": {"categories": [{"id": 12, "name": "dog"}]},
    "annotations[0]: category_id 12: no category": {"categories": []},
    "categories 12 and 9 are both named 'cat', and have objects; rename one": {
        "categories": [{"id": 12, "name": "cat"}, {"id": 9, "name": "cat"}]
    },
    "categories[1]: id 12 is that of 'cat' too; keep one": {
        "categories": [{"id": 12, "name": "cat"}, {"id": 12, "name": "dog"}]
    },
    "images[1]: id 10 is that of an image above": {"images": [{"id": 10, "file_name": "0.png"}] * 2},
    "annotations[0]: '12' (ox) is not in the label map; it has 3 names": {
        "categories": [{"id": 12, "name": "ox"}, {"id": 9, "name": "cat"}]
    },
    "annotations[0]: iscrowd: expected 0 or 1, got perhaps": {
        "annotations": [{"image_id": 10, "category_id": 9, "bbox": [1, 2, 3, 4], "iscrowd": "perhaps"}]
    },
    "an id must be a number or a text": {"images": [{"id": [], "file_name": "0.png"}]},
}


@pytest.mark.parametrize("problem", BAD_COCO)
def test_bad_json_is_one_line_that_names_the_entry(problem, pictures, tmp_path, capsys):
    coco(tmp_path, **BAD_COCO[problem])
    status, _, error = write(capsys, "coco.json --root images MAP -o base")
    assert status == 2
    assert problem in error and "coco.json" in error


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("list.txt", "give --label-map FILE, or --new-label-map FILE"),
        ("list.txt --new-label-map labelmap.prototxt", "labelmap.prototxt: is there already"),
        ("list.txt --label-map no.prototxt", "no.prototxt: no such label map"),
        ("list.txt --label-map list.txt", "list.txt:1: cannot be read from"),
        ("list.txt MAP --encode-type png", "--encode-type: only with --encoded"),
        ("list.txt MAP --resize-width 3", "give both"),
        ("list.txt MAP --annotations notes", "leave --annotations out"),
        (
            "images MAP",
            "images: 3 images, but no object on any; no annotation file is there: the first would be",
        ),
        ("images MAP", "would be images/0.xml; check the path"),
        ("empty MAP", "empty: no images in this folder (.jpg, .png, …); check the path"),
        ("empty.txt MAP", "empty.txt: names no images; expected lines 'image annotation'"),
        (
            "classes.txt MAP",
            "classes.txt: 1 image, but no object on any; its lines end in numbers; for images",
        ),
        (
            "things.txt MAP",
            "1 image, but no object on any; things.xml and others are annotations, but none names",
        ),
        ("list.json MAP", "list.json: holds a list; expected COCO's JSON, {"),
        ("no_images.json MAP", "no_images.json: 'images' is empty"),
        (
            "no_boxes.json --root images MAP",
            "no_boxes.json: 1 image, but no object on any; 'annotations' is empty",
        ),
        ("maybe.txt MAP", "maybe.xml:1: <object> cat: <difficult>: expected 0 or 1, got 'maybe'"),
        ("list.txt MAP --new-label-map b.prototxt", "--label-map and --new-label-map: give one of them"),
        ("other.txt --label-map no.prototxt", "no.prototxt: no such label map"),
        ("other.txt --new-label-map labelmap.prototxt", "labelmap.prototxt: is there already"),
        ("images --annotations none MAP", "none: no such folder of annotations"),
        ("other.txt MAP", "other.txt:2: expected 'image annotation', got 'a'"),
        ("lost.txt MAP", "lost.txt:1: no image a in"),
        ("no.txt MAP", "no.txt: no such list, folder or JSON file"),
    ],
)
def test_flags_and_lists_that_do_not_fit_are_one_line(flags, error, pictures, tmp_path, capsys):
    write_list(tmp_path, {0: xml([CAT])})
    (tmp_path / "other.txt").write_text("images/0.png notes/0.xml\na\n")
    (tmp_path / "lost.txt").write_text("a b\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "classes.txt").write_text("images/0.png 5\n")
    (tmp_path / "things.xml").write_text(xml([CAT]).replace("object>", "thing>"))
    (tmp_path / "maybe.xml").write_text(xml([("cat", "maybe", (4, 2, 20, 10))]))
    for name in ("things", "maybe"):
        (tmp_path / f"{name}.txt").write_text(f"images/0.png {name}.xml\n")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "no_images.json").write_text('{"images": []}')
    (tmp_path / "no_boxes.json").write_text('{"images": [{"id": 1, "file_name": "0.png"}]}')
    status, _, err = write(capsys, f"{flags} -o base")
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1 and error in err


def test_a_name_or_label_that_is_there_twice_is_told_or_refused(pictures, tmp_path, capsys):
    write_list(tmp_path, {0: xml([CAT])})
    (tmp_path / "twice.prototxt").write_text(LABEL_MAP + 'item { name: "cat" label: 8 }\n')
    problem = "twice.prototxt:5: 'cat' is at line 3 too; keep one"
    status, out, _ = write(capsys, "list.txt --label-map twice.prototxt -o base")
    assert status == 0 and problem in out
    assert labels_of("base")[1][0, 1] == 8
    status, _, err = write(capsys, "list.txt --label-map twice.prototxt --check-label -o other")
    assert status == 2 and problem in err


def test_a_label_map_that_is_opened_as_a_net_is_said_to_be_one(pictures):
    with pytest.raises(
        SpecError, match=r"labelmap.prototxt: a label map of SSD, with the names of 3 labels, not a net"
    ):
        mc.Net("labelmap.prototxt")
    with pytest.raises(SpecError, match="a label map of SSD"):
        mc.Solver("labelmap.prototxt")


def test_scripts_for_ssds_pycaffe_read_label_maps_and_data_bases(pictures, tmp_path, capsys):
    label_map = caffe_pb2.LabelMap()
    text_format.Merge((tmp_path / "labelmap.prototxt").read_text(), label_map)
    assert [(item.name, item.label, item.display_name) for item in label_map.item][1] == ("cat", 3, "a cat")
    write_list(tmp_path, {0: xml([CAT])})
    write(capsys, "list.txt MAP --encoded -o base")
    with lmdb.open("base", readonly=True) as base, base.begin() as reading:
        found = [caffe_pb2.AnnotatedDatum.FromString(value) for _, value in reading.cursor()]
    group = found[0].annotation_group[0]
    assert found[0].type == caffe_pb2.AnnotatedDatum.BBOX and found[0].datum.encoded
    assert (group.group_label, group.annotation[0].instance_id) == (3, 0)
    assert (group.annotation[0].bbox.xmax, group.annotation[0].bbox.difficult) == (0.5, False)
    assert found[0].datum.label == -1 and not found[1].annotation_group
