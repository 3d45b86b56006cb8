"""Annotations as COCO has them: one JSON file for a data set, or as SSD cuts it up, one for each image.

    {"images": [{"id": 9, "file_name": "9.jpg", "height": 480, "width": 640}],
     "annotations": [{"image_id": 9, "category_id": 51, "bbox": [1.08, 187.69, 611.59, 285.84], "iscrowd": 0}],
     "categories": [{"id": 51, "name": "bowl"}]}

    {"image": {"height": 480, "width": 640}, "annotation": [{"category_id": 51, "bbox": [1.08, …]}]}

A ``bbox`` is x, y, width, height in pixels. An object's name is its ``category_id``, as in SSD's label map for
COCO, whose ``display_name`` is the category's name; where there are ``categories``, it must be one of them, and of
several of one name only one may have objects. A crowd of objects counts as difficult, as in SSD's Caffe.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minicaffe.data.annotated.annotation import Annotation, Thing, box_of
from minicaffe.data.decode import plain_file
from minicaffe.errors import DataError, named, one_line
from minicaffe.files.atomic import unreadable

SIDES = ("x", "y", "width", "height")
UNUSED = ("segmentation", "keypoints", "caption")  # which take most of a file


class CocoSet:
    """A data set: ``images``, by their ids, with file names; their annotations; and the names of categories."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        """Raises DataError where the content is not as above."""
        self.path = path
        self.files: dict[object, str] = {}
        self.annotations: dict[object, Annotation] = {}
        self.categories: dict[str, str] = {}
        for n, image in enumerate(_list(path, content, "images")):
            where = f"{path}: images[{n}]"
            key, name = _get(where, image, "id"), _get(where, image, "file_name")
            if _hashable(where, key) in self.files:
                raise DataError(f"{where}: id {named(str(key))} is that of an image above; give each its own")
            self.files[key] = str(name)
            self.annotations[key] = Annotation([], _size(where, image))
        for n, category in enumerate(_list(path, content, "categories")):
            where = f"{path}: categories[{n}]"
            self._add_category(where, str(_get(where, category, "id")), str(_get(where, category, "name")))
        for n, annotation in enumerate(_list(path, content, "annotations")):
            where = f"{path}: annotations[{n}]"
            key = _hashable(where, _get(where, annotation, "image_id"))
            if key not in self.annotations:
                raise DataError(f"{where}: image_id {named(str(key))}: no image has this id")
            thing = _thing(where, annotation)
            if "categories" in content and thing.name not in self.categories:
                raise DataError(f"{where}: category_id {named(str(thing.name))}: no category has this id")
            self.annotations[key].things.append(thing)
        self._drop_namesakes()

    def _add_category(self, where: str, key: str, name: str) -> None:
        if key in self.categories:
            raise DataError(
                f"{where}: id {named(key)} is that of '{named(self.categories[key])}' too; keep one"
            )
        self.categories[key] = name

    def _drop_namesakes(self) -> None:
        """Of categories of one name keep the one with objects: some tools write a parent by the name of its child.

        Two with objects would be two labels, without a way to tell which an object should have.
        """
        used = {thing.name for annotation in self.annotations.values() for thing in annotation.things}
        for name in set(self.categories.values()):
            namesakes = [key for key, known in self.categories.items() if known == name]
            with_objects = [key for key in namesakes if key in used]
            if len(with_objects) > 1:
                both = " and ".join(map(named, with_objects[:2]))
                raise DataError(
                    f"{self.path}: categories {both} are both named '{named(name)}', and have objects; rename one"
                )
            for key in namesakes:
                if key != (with_objects or namesakes)[0]:
                    del self.categories[key]


def read_coco(path: str | Path) -> CocoSet:
    """The data set in a file. Raises DataError naming the entry that is wrong."""
    content = _load(path)
    if "images" not in content:
        raise DataError(f"{path}: has no 'images'; expected COCO's instances (JSON)")
    return CocoSet(Path(path), content)


def read_coco_of_image(path: str | Path) -> Annotation:
    """The annotation of one image. Raises DataError naming the entry that is wrong."""
    content = _load(path)
    size = _size(f"{path}: image", content["image"]) if "image" in content else None
    found = enumerate(_list(path, content, "annotation"))
    return Annotation([_thing(f"{path}: annotation[{n}]", one) for n, one in found], size)


def _load(path: str | Path) -> dict[str, Any]:
    try:
        with open(plain_file(path), "rb") as file:
            content = json.load(file, object_hook=_without_unused)
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({one_line(error)}); write it again") from None
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "a single value"
        raise DataError(f'{path}: holds {kind}; expected COCO\'s JSON, {{"images": …, "annotations": …}}')
    return content


def _without_unused(found: dict[str, Any]) -> dict[str, Any]:
    for name in UNUSED:
        found.pop(name, None)
    return found


def _list(path: str | Path, content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    values = content.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError(f"{path}: {name}: expected a list of objects")
    return values


def _get(where: str, found: dict[str, Any], name: str) -> object:
    if name not in found:
        raise DataError(f"{where}: has no '{name}'; add it")
    return found[name]


def _hashable(where: str, key: object) -> object:
    if not isinstance(key, (int, str)):
        raise DataError(f"{where}: an id must be a number or a text, got {one_line(key)[:50]}")
    return key


def _thing(where: str, found: dict[str, Any]) -> Thing:
    box = _get(where, found, "bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise DataError(f"{where}: bbox: expected [x, y, width, height], got {one_line(box)[:50]}")
    x, y, width, height = box_of(f"{where}: bbox", dict(zip(SIDES, box, strict=True)))
    name = str(_get(where, found, "category_id"))
    crowd = found.get("iscrowd", 0)
    if crowd is not None and crowd not in (0, 1):
        raise DataError(f"{where}: iscrowd: expected 0 or 1, got {one_line(crowd)[:50]}")
    return Thing(name, (x, y, x + width, y + height), bool(crowd), where)


def _size(where: str, found: object) -> tuple[int, int] | None:
    """Height and width, None if they are missing."""
    if not isinstance(found, dict):
        raise DataError(f"{where}: expected its height and width, got {one_line(found)[:50]}")
    sides = [found.get(name, 0) for name in ("height", "width")]
    if not all(isinstance(side, int) and 0 <= side < 10**9 for side in sides):
        raise DataError(f"{where}: height and width {sides}; expected numbers of pixels")
    return (sides[0], sides[1]) if all(sides) else None
