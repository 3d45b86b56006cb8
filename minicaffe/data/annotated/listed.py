"""Which images there are and which annotation each has: from a list, folders, or COCO's JSON file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from minicaffe.data.annotated.annotation import Annotation, Thing, box_of
from minicaffe.data.annotated.coco import read_coco, read_coco_of_image
from minicaffe.data.annotated.voc import read_voc
from minicaffe.data.decode import plain_file
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.errors import DataError, counted, named, one_line
from minicaffe.files.atomic import unreadable

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
VOC_FOLDERS = ("JPEGImages", "Annotations")


@dataclass
class AnnotatedFiles:
    """Images, by their names in the list; the file of each; and its annotation.

    ``shown``: names for people, of the names in annotations, where there are others. ``without``: the images for
    which there is no annotation file. ``present`` and ``missing``: the first annotation file that is there, and the
    first that is not.
    """

    source: str
    names: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
    without: list[str] = field(default_factory=list)
    present: Path | None = None
    missing: Path | None = None

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, file: Path, annotation: Annotation) -> None:
        """One more image."""
        self.names.append(name)
        self.files.append(file)
        self.annotations.append(annotation)

    def things(self) -> list[tuple[str | int, str]]:
        """The names of all objects, each with its name for people; numbers in their order, then words.

        Labels in place of names stay as they are; the background's is left out. Raises DataError where some
        objects have names and others labels.
        """
        where = {thing.name: thing.where for annotation in self.annotations for thing in annotation.things}
        labels = sorted(name for name in where if isinstance(name, int))
        names = {name for name in where if isinstance(name, str)} | set(self.shown)
        if labels and names:
            problem = (
                "a label, but objects elsewhere have names, whose labels are not known; give --label-map"
            )
            raise DataError(f"{where[labels[0]]}: {problem}")
        ordered = sorted(
            names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
        )
        return [(label, str(label)) for label in labels if label] + [
            (name, self.shown.get(name, name)) for name in ordered
        ]


def find_annotated(source: str | Path, root: str = "", annotations: str | None = None) -> AnnotatedFiles:
    """The images of a list with lines "image annotation", of a folder, or of COCO's JSON file.

    ``root`` goes before the paths in a list, or the file names in the JSON. ``annotations`` is the folder of the
    XML files for a folder of images: each has the path of its image there, but for its ending; by default they are
    in ``Annotations`` beside ``JPEGImages``, or beside the images. Raises DataError naming what is wrong where.
    """
    path = find_path(source, lookup_folders("."), "list, folder or JSON file")
    if path.is_dir():
        found = _of_folder(path, annotations)
    elif annotations is not None:
        raise DataError(f"{path}: a file that says where annotations are; leave --annotations out")
    elif path.suffix.lower() == ".json":
        found = _of_coco(path, root)
    else:
        found = _of_list(path, root)
    if not any(annotation.things for annotation in found.annotations):
        raise DataError(f"{path}: {counted(len(found), 'image')}, but no object on any; {_lack(found)}")
    return found


def _lack(found: AnnotatedFiles) -> str:
    """Why there are no objects on images."""
    if found.present is not None:
        return f"{named(str(found.present))} and others are annotations, but none names an object; check them"
    if found.missing is None:
        return "'annotations' is empty; check the file"
    if found.missing.name.isdecimal():
        return "its lines end in numbers; for images with the number of a class use minicaffe data images"
    return f"no annotation file is there: the first would be {named(str(found.missing))}; check the path"


def _of_list(path: Path, root: str) -> AnnotatedFiles:
    try:
        lines = Path(plain_file(path)).read_text(encoding="utf-8-sig").splitlines()
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)}); it must be a list, as text") from None
    found, base = AnnotatedFiles(str(path)), None
    bases = list(dict.fromkeys(place / root for place in (Path("."), path.parent)))
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise DataError(f"{path}:{number}: expected 'image annotation', got '{named(line.strip())}'")
        if base is None:
            base = next((place for place in bases if os.path.exists(place / words[0])), None)
        if base is None:
            places = " and in ".join(dict.fromkeys(str(place.resolve()) for place in bases))
            raise DataError(f"{path}:{number}: no image {named(words[0])} in {places}; give --root")
        found.add(words[0], base / words[0], _annotation(base / words[1], words[0], found))
    if not found.names:
        raise DataError(f"{path}: names no images; expected lines 'image annotation'")
    return found


def _annotation(path: Path, image: str, found: AnnotatedFiles) -> Annotation:
    """What a file says of an image; no objects if there is no file, as in SSD's Caffe."""
    if not os.path.exists(path):  # False for a name that cannot be one
        found.without.append(image)
        found.missing = found.missing or path
        return Annotation()
    found.present = found.present or path
    kind = path.suffix.lower()
    if kind == ".json":
        return read_coco_of_image(path)
    return read_text(path) if kind == ".txt" else read_voc(path)


def read_text(path: Path) -> Annotation:
    """Lines "label x_min y_min x_max y_max", in pixels.

    A whole number is the label itself, as in SSD's Caffe; anything else, which that does not read, is a name.
    """
    try:
        lines = Path(plain_file(path)).read_text(encoding="utf-8-sig").splitlines()
    except (ValueError, OSError) as error:
        problem = unreadable(path, error) if isinstance(error, OSError) else f"{path}: {one_line(error)}"
        raise DataError(problem) from None
    things = []
    for number, words in enumerate((line.split() for line in lines), 1):
        where = f"{path}:{number}"
        if words and len(words) != 5:
            raise DataError(f"{where}: expected 'label x_min y_min x_max y_max', got {len(words)} words")
        if words:
            corners = box_of(where, dict(zip(("x_min", "y_min", "x_max", "y_max"), words[1:], strict=True)))
            things.append(Thing(_label_or_name(words[0], where), corners, False, where))
    return Annotation(things)


def _label_or_name(word: str, where: str) -> str | int:
    if not re.fullmatch(r"[-+]?[0-9]+", word):
        return word
    if len(word) > 10 or not 0 <= int(word) < 2**31:
        raise DataError(f"{where}: label {named(word)}; it must be a whole number from 0 on")
    return int(word)


def _of_folder(path: Path, annotations: str | None) -> AnnotatedFiles:
    images, xml = path, path if annotations is None else Path(annotations)
    if annotations is None and all((path / name).is_dir() for name in VOC_FOLDERS):
        images, xml = (path / name for name in VOC_FOLDERS)
    if not xml.is_dir():
        raise DataError(f"{xml}: no such folder of annotations; check the path")
    found = AnnotatedFiles(str(path))
    for file in sorted(images.rglob("*")):
        inside = file.relative_to(images)
        if file.suffix.lower() in IMAGES and not any(part.startswith(".") for part in inside.parts):
            name = file.relative_to(path).as_posix()
            found.add(name, file, _annotation(xml / inside.with_suffix(".xml"), name, found))
    if not found.names:
        raise DataError(f"{images}: no images in this folder (.jpg, .png, …); check the path")
    return found


def _of_coco(path: Path, root: str) -> AnnotatedFiles:
    coco = read_coco(path)
    found = AnnotatedFiles(str(path), shown=coco.categories)
    base = Path(root) if root else path.parent
    for key, name in coco.files.items():
        found.add(name, base / name, coco.annotations[key])
    if not found.names:
        raise DataError(f"{path}: 'images' is empty; check the file")
    if not os.path.exists(found.files[0]):
        raise DataError(
            f"{path}: images[0]: no image {named(found.names[0])} in {base.resolve()}; give --root"
        )
    return found
