"""The scenes of digits that the tiny detector and segmenter learn from."""

import runpy
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.zoo.test_zoo import PROTOTXT

pytestmark = pytest.mark.cpu_only("of texts and files: no device computes here")
SCENES = runpy.run_path(str(PROTOTXT / "make_digit_scenes.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("scenes")
    SCENES["write_scenes"](made, "test", 20)
    return made


def pixels(path):
    return np.asarray(Image.open(path))


def boxes(path):
    """Classes and boxes (x0, y0, x1, y1) of VOC's XML, in pixels from 0, the last two outside."""
    for item in ElementTree.parse(path).getroot().findall("object"):
        box = [int(item.find(f"bndbox/{side}").text) for side in ("xmin", "ymin", "xmax", "ymax")]
        yield int(item.find("name").text), (box[0] - 1, box[1] - 1, box[2], box[3])


def test_each_box_holds_its_digit_and_no_other(folder):
    for line in (folder / "test_boxes.txt").read_text().splitlines():
        image, annotation = line.split()
        mask = pixels(folder / image.replace("images", "masks"))
        outside = mask.copy()
        found = list(boxes(folder / annotation))
        assert 1 <= len(found) <= 4
        for digit, (x0, y0, x1, y1) in found:
            inside = mask[y0:y1, x0:x1]
            assert set(np.unique(inside)) - {0} == {1 + digit}
            outside[y0:y1, x0:x1] = 0
        assert not outside.any()


def test_masks_cover_the_ink(folder):
    for line in (folder / "test_masks.txt").read_text().splitlines():
        image, mask = (pixels(folder / name) for name in line.split())
        assert image.shape == mask.shape == (64, 64)
        assert ((mask > 0) == (image >= SCENES["INK"])).all()


def test_the_same_pixels_are_drawn_again(folder, tmp_path):
    SCENES["write_scenes"](tmp_path, "test", 3)
    assert (pixels(tmp_path / "images/test_00002.png") == pixels(folder / "images/test_00002.png")).all()


def test_a_folder_that_is_there_is_refused_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(SCENES["main"].__globals__, "write_scenes", lambda *_: pytest.fail("drawn"))
    monkeypatch.setattr("sys.argv", ["make_digit_scenes.py", "-o", str(tmp_path)])
    with pytest.raises(SystemExit, match="is there already; use it, or remove it first"):
        SCENES["main"]()
