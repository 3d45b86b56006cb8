"""benchmarks/own_pictures.py: the folders that it makes of a zip of pictures, and of the bundled digits."""

import io
import runpy
import zipfile

from PIL import Image

from tests import ROOT

PROGRAM = runpy.run_path(str(ROOT / "benchmarks" / "own_pictures.py"))


def names(folder):
    return {path.name: len(list(path.iterdir())) for path in sorted(folder.iterdir())}


def test_folders_have_the_pictures_of_their_classes(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "jpeg")
    classes = {label for labels, _ in PROGRAM["FOLDERS"].values() for label in labels}
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for name in (
            f"{part}/{label}/{i}.jpg" for part in ("train", "test") for label in classes for i in range(4)
        ):
            archive.writestr(f"cifar10/{name}", buffer.getvalue())
    found = dict(PROGRAM["_folders"](tmp_path, str(tmp_path / "c.zip"), 3))
    photos, pets, digits = found.values()
    assert names(photos / "train") == dict.fromkeys(["airplane", "automobile", "frog", "horse"], 4)
    assert names(pets / "test") == {"cat": 3, "dog": 3}
    assert names(digits / "train") == {str(digit): 20 for digit in range(10)}


def test_without_a_zip_there_are_the_digits(tmp_path, capsys):
    assert [name for name, _ in PROGRAM["_folders"](tmp_path, None, 1)] == ["digits, 20 each"]
    assert "there is no CIFAR-10 as a zip of image files" in capsys.readouterr().out
