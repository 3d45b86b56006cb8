"""SSD's label map: which label a name in an annotation has, as a .prototxt.

item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "aeroplane" label: 1 display_name: "aeroplane" }
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from minicaffe.caffe.formats.prototxt import parse_prototxt
from minicaffe.data.decode import plain_file
from minicaffe.data.sources.source import find_path, lookup_folders
from minicaffe.errors import DataError, MinicaffeError, SpecError, counted, named
from minicaffe.files.atomic import unreadable, write_text
from minicaffe.spec.reader import nearest

logger = logging.getLogger("minicaffe")
BACKGROUND = "none_of_the_above"


@dataclass(frozen=True)
class Item:
    """One class: its name in annotations, its label in nets, and its name for people.

    ``label_id`` is the class in a mask, in maps of MobileNet-YOLO's Caffe; 0 for none.
    """

    name: str
    label: int
    display_name: str = ""
    label_id: int = 0


@dataclass(frozen=True)
class LabelMap:
    """The items of a label map, in their order."""

    items: tuple[Item, ...]

    def labels(self) -> dict[str, int]:
        """The label of each name; of a name that is there twice, the last."""
        return {item.name: item.label for item in self.items}

    def names(self) -> dict[int, str]:
        """The name for people of each label."""
        return {item.label: item.display_name or item.name for item in self.items}


class LabelFinder:
    """Which label an object in an annotation has, by a label map."""

    def __init__(self, label_map: LabelMap, shown: Mapping[str, str] | None = None) -> None:
        """``shown``: words for names in annotations, which the map may have in place of those (COCO's numbers)."""
        self._own, self._shown = label_map.labels(), shown or {}
        words = {name: self._own[word] for name, word in self._shown.items() if word in self._own}
        self._labels = {**words, **self._own}
        self._numbers = set(self._own.values())
        self._displayed = {item.display_name: item.name for item in label_map.items if item.label}

    def of(self, name: str | int, where: str) -> int:
        """The label of a name; an int is the label itself.

        ``where`` begins errors. Raises DataError for what is not in the map, and for the background.
        """
        if isinstance(name, int):
            if name not in self._numbers:
                most = max(self._numbers)
                raise DataError(f"{where}: label {name} is not in the label map, whose last is {most}")
            label = name
        elif name in self._labels:
            label = self._labels[name]
        elif name in self._displayed:
            display = f"it is the display_name of '{named(self._displayed[name])}'"
            raise DataError(
                f"{where}: '{named(name)}' is not a name in the label map; {display}, which is the name to use"
            )
        else:
            word = f" ({named(self._shown[name])})" if name in self._shown else ""
            hint = nearest(self._shown.get(name, name), self._own)
            hint = hint or f"; it has {counted(len(self._own), 'name')}"
            raise DataError(f"{where}: '{named(name)}'{word} is not in the label map{hint}")
        if label == 0 or name == BACKGROUND:
            called = f"label {name}" if isinstance(name, int) else f"'{named(name)}'"
            raise DataError(
                f"{where}: {called} is the background (label 0), of which there are no objects; remove it"
            )
        return label


def label_map_of(classes: Iterable[tuple[str | int, str]]) -> LabelMap:
    """A label map of names, each with one for people: labels 1, 2, … in this order, and 0 for the background.

    A name that is an int is the label itself.
    """
    items = [Item(BACKGROUND, 0, "background")]
    for number, (name, shown) in enumerate(classes, 1):
        items.append(Item(str(name), name if isinstance(name, int) else number, shown))
    return LabelMap(tuple(items))


def read_label_map(path: str | Path, check: bool = False) -> LabelMap:
    """The label map in a file. Raises DataError, with the line, if it is not one.

    ``check``: a name or a label that is there twice is an error, not a warning.
    """
    try:
        text = Path(plain_file(path)).read_text(encoding="utf-8-sig")
        tree = parse_prototxt(text, str(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such label map; check the path") from None
    except OSError as error:
        raise DataError(unreadable(path, error)) from None
    except (ValueError, SpecError) as error:
        raise DataError(
            f"{error}" if isinstance(error, SpecError) else f"{path}: not a text ({error})"
        ) from None
    if not tree.trees("item"):
        raise DataError(f"{path}: not a label map, which has 'item {{ name: … label: … }}' for each class")
    items, first = [], dict[object, int]()
    for item in tree.trees("item"):
        name, label = item.text("name"), item.text("label") or "0"
        if not label.isdecimal() or int(label) >= 2**31:
            raise DataError(f"{path}:{item.line}: label {named(label)}; it must be a whole number from 0 on")
        for what in (name, int(label)):
            if what in first:
                problem = f"{path}:{item.line}: '{named(str(what))}' is at line {first[what]} too; keep one"
                if check:
                    raise DataError(problem)
                logger.warning("%s", problem)
            first[what] = item.line
        label_id = item.text("label_id") or "0"
        if not label_id.isdecimal() or int(label_id) >= 2**31:
            problem = f"label_id {named(label_id)}; it must be a whole number from 0 on"
            raise DataError(f"{path}:{item.line}: {problem}")
        items.append(Item(name, int(label), item.text("display_name"), int(label_id)))
    return LabelMap(tuple(items))


def write_label_map(label_map: LabelMap, path: str | Path) -> None:
    """Write a label map, atomically. Raises WriteError."""
    write_text(path, "".join(_text(item) for item in label_map.items))


def _text(item: Item) -> str:
    name, shown = (text.replace("\\", r"\\").replace('"', r"\"") for text in (item.name, item.display_name))
    name, shown = (text.replace("\n", r"\n").replace("\r", r"\r") for text in (name, shown))
    display = f'  display_name: "{shown}"\n' if shown else ""
    return f'item {{\n  name: "{name}"\n  label: {item.label}\n{display}}}\n'


def names_in_file(path: str, folder: str) -> dict[int, str]:
    """The name of each label in the label map of a spec in ``folder``; {} without one.

    Of a file that is missing, or is no label map, a warning is given: no number depends on it.
    """
    if not path:
        return {}
    try:
        return read_label_map(find_path(path, lookup_folders(folder), "label map")).names()
    except MinicaffeError as error:
        logger.warning("label_map_file %s: labels are shown as numbers", error)
        return {}
