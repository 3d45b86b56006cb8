"""Annotations as Pascal VOC and ImageNet have them, an XML file for each image.

    <annotation>
      <size><width>500</width><height>375</height></size>
      <object>
        <name>cat</name> <difficult>0</difficult>
        <bndbox><xmin>8</xmin><ymin>12</ymin><xmax>352</xmax><ymax>498</ymax></bndbox>
      </object>
    </annotation>

Pixels count from 1 there. As in SSD's Caffe, corners are divided by the size as they are.
"""

from __future__ import annotations

from pathlib import Path

from minicaffe.data.annotated.annotation import Annotation, Thing, box_of
from minicaffe.data.annotated.xml_elements import Element, read_xml
from minicaffe.errors import DataError, named

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: str | Path) -> Annotation:
    """The annotation in an XML file. Raises DataError naming the line and the element if something is missing."""
    root = read_xml(path)
    if root.tag != "annotation":
        raise DataError(f"{path}:{root.line}: <{named(root.tag)}>; an annotation begins with <annotation>")
    return Annotation([_thing(element, path) for element in root.all("object")], _size(root, path))


def _thing(element: Element, path: str | Path) -> Thing:
    name = element.text_of("name")
    where = f"{path}:{element.line}: <object> {named(name)}".rstrip()
    box = element.first("bndbox")
    if not name or box is None:
        raise DataError(f"{where}: has no <{'bndbox' if name else 'name'}>; add it")
    corners = box_of(f"{where}: <bndbox>", {f"<{tag}>": box.text_of(tag) for tag in CORNERS})
    difficult = element.text_of("difficult") or "0"
    if difficult not in ("0", "1"):
        raise DataError(f"{where}: <difficult>: expected 0 or 1, got '{named(difficult)}'")
    return Thing(name, corners, difficult == "1", where)


def _size(root: Element, path: str | Path) -> tuple[int, int] | None:
    """Height and width, None if they are missing or 0, which some tools write."""
    size = root.first("size")
    if size is None:
        return None
    sides = []
    for tag in ("height", "width"):
        text = size.text_of(tag, "0")
        if not text.isdecimal() or len(text) > 9:
            raise DataError(
                f"{path}:{size.line}: <size>: <{tag}>: expected a number of pixels, got '{named(text)}'"
            )
        sides.append(int(text))
    return (sides[0], sides[1]) if all(sides) else None
